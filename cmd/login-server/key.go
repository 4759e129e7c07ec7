package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"login-server/audit"
	"login-server/config"
	"login-server/token"
)

type keyCmd struct {
	Show   keyShowCmd   `cmd:"" help:"Show the public key and its kid, and the other keys that sign."`
	Rotate keyRotateCmd `cmd:"" help:"Have a new key take the place of the old one."`
}

type keyShowCmd struct{}

// Help implements kong.HelpProvider.
func (keyShowCmd) Help() string {
	return `Prints what applications verify tokens with; the same PEM is in GET /about. Below it are all keys that are known: a key that is "next" is published and will sign, the one that is "signing" does, one that is "retired" stays published until its last token has expired, and with "hints" only this server knows it, for ID Tokens that are brought back. One that is "encrypting" signs nothing: applications encrypt passwords with it. A private key is never shown.

Examples:

  login-server key show
  login-server key show --json | jq -r .publicKey`
}

// keyLine is the key pair as "key show" answers it. It has paths if it is in files.
type keyLine struct {
	KeyID      string `json:"kid"`
	Algorithm  string `json:"algorithm"`
	Kind       string `json:"kind"`
	PrivateKey string `json:"privateKeyPath,omitempty"`
	PublicPath string `json:"publicKeyPath,omitempty"`
	PublicKey  string `json:"publicKey"`
	// Keys are all that are known; none before the first start.
	Keys []token.KeyState `json:"keys,omitempty"`
}

// keyPair is the key that signs, in files or in the database; without any there is nothing
// to show or rotate.
func (a *app) keyPair(ctx context.Context) (*config.Config, keyLine, error) {
	cfg, _, err := config.Load(a.dir, a.env)
	if err != nil {
		return nil, keyLine{}, err
	}
	if cfg.JWTPrivateKeyPath == "" {
		line, err := a.keptPair(ctx)
		return cfg, line, err
	}
	info, err := token.CheckKeys(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, cfg.JWTAlgorithm)
	if err != nil {
		return nil, keyLine{}, config.Join(keyProblem(cfg, err))
	}
	if info.Missing {
		return nil, keyLine{}, fmt.Errorf("there is no key pair yet (%s, %s): the server makes it when it is started", shown(cfg.JWTPrivateKeyPath), shown(cfg.JWTPublicKeyPath))
	}
	return cfg, keyLine{
		KeyID: info.KeyID, Algorithm: cfg.JWTAlgorithm, Kind: info.Kind,
		PrivateKey: cfg.JWTPrivateKeyPath, PublicPath: cfg.JWTPublicKeyPath, PublicKey: info.PEM,
	}, nil
}

// keptPair is the key that signs, and all others, in the database.
func (a *app) keptPair(ctx context.Context) (line keyLine, err error) {
	err = a.withKeys(ctx, func(_ *program, keys *token.Manager) error {
		if keys.KeyID() == "" {
			return errors.New("there is no key that SESSION_SECRET opens: the server makes it when it is started")
		}
		line = keyLine{KeyID: keys.KeyID(), Algorithm: keys.Algorithm(), Kind: keys.Kind(), PublicKey: keys.PublicPEM(), Keys: keys.Keys()}
		return nil
	})
	return line, err
}

// withKeys opens the database and the keys in it, to look at them and to rotate.
func (a *app) withKeys(ctx context.Context, do func(*program, *token.Manager) error) error {
	return a.with(ctx, func(p *program) error {
		missing, err := readSecret(p.cfg)
		if err != nil {
			return err
		}
		if missing {
			return fmt.Errorf("there is no secret that opens the keys (%s, SESSION_SECRET): start the server once", shown(secretPath(p.cfg)))
		}
		o, err := p.tokenOptions()
		if err != nil {
			return err
		}
		o.Look = true
		keys, err := token.NewManager(ctx, p.guard, o)
		if err != nil {
			return config.Join(keyProblem(p.cfg, err))
		}
		return do(p, keys)
	})
}

// Run implements the command.
func (keyShowCmd) Run(ctx context.Context, a *app) error {
	cfg, line, err := a.keyPair(ctx)
	if err != nil {
		return err
	}
	_, missing := os.Stat(databasePath(cfg))
	if line.Keys == nil && (cfg.Shared() || missing == nil) { // else the files are all there is
		if err := a.withKeys(ctx, func(_ *program, keys *token.Manager) error {
			line.Keys = keys.Keys()
			return nil
		}); err != nil {
			return err
		}
	}
	if a.json {
		return writeLine(a.stdout, line)
	}
	rows := [][2]string{{"Kid", line.KeyID}, {"Algorithm", line.Algorithm + ", with " + line.Kind}}
	if line.PrivateKey == "" {
		rows = append(rows, [2]string{"Kept in", "database"})
	} else {
		rows = append(rows, [2]string{"Private key", shown(line.PrivateKey)}, [2]string{"Public key", shown(line.PublicPath)})
	}
	if err := details(a.stdout, rows...); err != nil {
		return err
	}
	if _, err = fmt.Fprint(a.stdout, line.PublicKey); err != nil || len(line.Keys) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	all := func(yield func(token.KeyState, error) bool) {
		for _, k := range line.Keys {
			if !yield(k, nil) {
				return
			}
		}
	}
	return list(a, all, "", []string{"KID", "ALGORITHM", "STATE", "KEPT IN", "SIGNS SINCE", "PUBLISHED UNTIL"}, func(k token.KeyState) []string {
		place := "database"
		if k.Files {
			place = "files"
		}
		return []string{k.KeyID, k.Algorithm, k.State, place, when(k.Signs), when(k.Gone)}
	})
}

type keyRotateCmd struct {
	Alg string `help:"The key of another algorithm than JWT_ALGORITHM: RS256, PS256, ES256 or EdDSA; RSA-OAEP-256 for the one to encrypt with." placeholder:"ALG"`
	Yes bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (keyRotateCmd) Help() string {
	return `Makes a new pair for JWT_ALGORITHM and keeps the old files under names that end in the date. A running server signs with it within seconds. Tokens of the old key stay valid until they expire: the key set keeps its public half for that long.

Applications that keep the PEM from GET /about have to fetch it again, or they refuse new tokens.

Keys in the database are replaced by the server itself every KEY_ROTATION_DAYS. This command does it now: the new key is published at once and signs, on all nodes, after KEY_PUBLISH_MINUTES. In the database are the keys of other algorithms (--alg) and, when nodes share a MongoDB and there are no key files, that of JWT_ALGORITHM.

Examples:

  login-server key rotate
  login-server key rotate --alg ES256`
}

// Run implements the command.
func (c keyRotateCmd) Run(ctx context.Context, a *app) error {
	cfg, old, err := a.keyPair(ctx)
	if err != nil {
		return err
	}
	if c.Alg != "" && c.Alg != cfg.JWTAlgorithm {
		return c.rotateKept(ctx, a, cfg, c.Alg)
	}
	if err := a.confirm(ctx, c.Yes, "Applications that keep the public key have to fetch it again. Rotate?"); err != nil {
		return err
	}
	if old.PrivateKey == "" {
		return c.rotateKept(ctx, a, cfg, cfg.JWTAlgorithm)
	}
	suffix := "." + time.Now().UTC().Format("20060102T150405Z")
	files := map[string]fs.FileInfo{}
	for _, path := range []string{cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath} {
		if files[path], err = os.Stat(path); err != nil {
			return err
		}
	}
	if err := token.Rotate(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, suffix, cfg.JWTAlgorithm); err != nil {
		return config.Join(keyProblem(cfg, err))
	}
	for path, old := range files {
		for _, written := range []string{path, path + suffix} {
			if err := errors.Join(os.Chmod(written, old.Mode().Perm()), giveTo(written, old)); err != nil {
				return fmt.Errorf("%s may not be readable for the server: %w", shown(written), err)
			}
		}
	}
	_, line, err := a.keyPair(ctx)
	if err != nil {
		return err
	}
	a.recordApart(ctx, audit.Entry{Action: "key.rotate", Target: line.KeyID, Detail: map[string]string{"algorithm": line.Algorithm, "former": old.KeyID}})
	if a.json {
		return writeLine(a.stdout, line)
	}
	_, err = fmt.Fprintf(a.stdout, "Rotated: kid %s in the place of %s, which is kept as %s and %s.\nA running server signs with it within seconds.\n",
		line.KeyID, old.KeyID, shown(cfg.JWTPrivateKeyPath+suffix), shown(cfg.JWTPublicKeyPath+suffix))
	return err
}

// rotateKept publishes the next key of an algorithm whose keys are in the database.
func (c keyRotateCmd) rotateKept(ctx context.Context, a *app, cfg *config.Config, algorithm string) error {
	return a.withKeys(ctx, func(p *program, keys *token.Manager) error {
		algorithms := slices.DeleteFunc(keys.Algorithms(), func(s string) bool { return s == cfg.JWTAlgorithm && keys.InFiles() })
		if keys.Encrypts() {
			algorithms = append(algorithms, token.Encryption)
		}
		if !slices.Contains(algorithms, algorithm) {
			return fmt.Errorf("--alg %s: no such keys are kept in the database; write %s", config.Quote(algorithm), strings.Join(algorithms, ", "))
		}
		done, err := keys.RotateKey(ctx, algorithm)
		if err != nil {
			return err
		}
		var newest token.KeyState
		for _, k := range keys.Keys() {
			if k.Algorithm == algorithm && !k.Files && (k.State == token.KeyNext || k.State == token.KeySigning || k.State == token.KeyEncrypting) {
				newest = k
			}
		}
		if !done {
			return a.done(newest, "Nothing done: kid %s is published already and signs from %s.", newest.KeyID, when(newest.Signs))
		}
		text := fmt.Sprintf("Published: kid %s signs with %s from %s.", newest.KeyID, algorithm, when(newest.Signs))
		if algorithm == token.Encryption {
			text = fmt.Sprintf("Published: what is encrypted for this server is encrypted with kid %s from now on.", newest.KeyID)
		}
		return errors.Join(
			a.done(newest, "%s", text),
			p.record(ctx, a, audit.Entry{Action: "key.rotate", Target: newest.KeyID, Detail: map[string]string{"algorithm": algorithm}}))
	})
}
