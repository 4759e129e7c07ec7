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

	"login-server/config"
	"login-server/token"
)

type keyCmd struct {
	Show   keyShowCmd   `cmd:"" help:"Show the public key and its kid, and the other keys that sign."`
	Rotate keyRotateCmd `cmd:"" help:"Put a new key in the place of the old one."`
}

type keyShowCmd struct{}

// Help implements kong.HelpProvider.
func (keyShowCmd) Help() string {
	return `Prints what applications verify tokens with; the same PEM is in GET /about. Below it are all keys that are known: a key that is "next" is published and will sign, the one that is "signing" does, one that is "retired" stays published until its last token has expired, and with "hints" only this server knows it, for ID Tokens that are brought back. A private key is never shown.

Examples:

  login-server key show
  login-server key show --json | jq -r .publicKey`
}

// keyLine is the key pair as "key show" answers it.
type keyLine struct {
	KeyID      string `json:"kid"`
	Algorithm  string `json:"algorithm"`
	Kind       string `json:"kind"`
	PrivateKey string `json:"privateKeyPath"`
	PublicPath string `json:"publicKeyPath"`
	PublicKey  string `json:"publicKey"`
	// Keys are all that are known; none before the first start.
	Keys []token.KeyState `json:"keys,omitempty"`
}

// keyPair checks the key files; without any there is nothing to show or rotate.
func (a *app) keyPair() (*config.Config, keyLine, error) {
	cfg, _, err := config.Load(a.dir, a.env)
	if err != nil {
		return nil, keyLine{}, err
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

// withKeys opens the database and the keys in it.
func (a *app) withKeys(ctx context.Context, do func(*token.Manager) error) error {
	return a.with(ctx, func(p *program) error {
		missing, err := readSecret(p.cfg)
		if err != nil {
			return err
		}
		if missing {
			return fmt.Errorf("there is no secret that opens the keys (%s, SESSION_SECRET): start the server once", shown(secretPath(p.cfg)))
		}
		keys, err := p.openTokens(ctx)
		if err != nil {
			return config.Join(keyProblem(p.cfg, err))
		}
		return do(keys)
	})
}

// Run implements the command.
func (keyShowCmd) Run(ctx context.Context, a *app) error {
	cfg, line, err := a.keyPair()
	if err != nil {
		return err
	}
	if _, err := os.Stat(databasePath(cfg)); err == nil { // else the files are all there is
		if err := a.withKeys(ctx, func(keys *token.Manager) error {
			line.Keys = keys.Keys()
			return nil
		}); err != nil {
			return err
		}
	}
	if a.json {
		return writeLine(a.stdout, line)
	}
	if err := details(a.stdout,
		[2]string{"Kid", line.KeyID}, [2]string{"Algorithm", line.Algorithm + ", with " + line.Kind},
		[2]string{"Private key", shown(line.PrivateKey)}, [2]string{"Public key", shown(line.PublicPath)},
	); err != nil {
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
	Alg string `help:"The key of another algorithm than JWT_ALGORITHM, which is in the database: RS256, PS256, ES256 or EdDSA." placeholder:"ALG"`
	Yes bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (keyRotateCmd) Help() string {
	return `Makes a new pair for JWT_ALGORITHM and keeps the old files under names that end in the date. A running server signs with it within seconds. Tokens of the old key stay valid until they expire: the key set keeps its public half for that long.

Applications that keep the PEM from GET /about have to fetch it again, or they refuse new tokens.

With --alg the key of that algorithm in the database is replaced, which the server also does by itself every KEY_ROTATION_DAYS: the new key is published at once and signs after KEY_PUBLISH_MINUTES. Nobody has to do anything.

Examples:

  login-server key rotate
  login-server key rotate --alg ES256`
}

// Run implements the command.
func (c keyRotateCmd) Run(ctx context.Context, a *app) error {
	cfg, old, err := a.keyPair()
	if err != nil {
		return err
	}
	if c.Alg != "" && c.Alg != cfg.JWTAlgorithm {
		return c.rotateKept(ctx, a, cfg)
	}
	if err := a.confirm(ctx, c.Yes, "Applications that keep the public key have to fetch it again. Rotate?"); err != nil {
		return err
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
	_, line, err := a.keyPair()
	if err != nil {
		return err
	}
	if a.json {
		return writeLine(a.stdout, line)
	}
	_, err = fmt.Fprintf(a.stdout, "Rotated: kid %s in the place of %s, which is kept as %s and %s.\nA running server signs with it within seconds.\n",
		line.KeyID, old.KeyID, shown(cfg.JWTPrivateKeyPath+suffix), shown(cfg.JWTPublicKeyPath+suffix))
	return err
}

// rotateKept publishes the next key of an algorithm whose keys are in the database.
func (c keyRotateCmd) rotateKept(ctx context.Context, a *app, cfg *config.Config) error {
	algorithms := slices.DeleteFunc([]string{"RS256", "PS256", "ES256", "EdDSA"}, func(s string) bool { return s == cfg.JWTAlgorithm })
	if !slices.Contains(algorithms, c.Alg) {
		return fmt.Errorf("--alg %s: no such keys are kept in the database; write %s", config.Quote(c.Alg), strings.Join(algorithms, ", "))
	}
	return a.withKeys(ctx, func(keys *token.Manager) error {
		done, err := keys.RotateKey(ctx, c.Alg)
		if err != nil {
			return err
		}
		var newest token.KeyState
		for _, k := range keys.Keys() {
			if k.Algorithm == c.Alg && !k.Files && (k.State == token.KeyNext || k.State == token.KeySigning) {
				newest = k
			}
		}
		if !done {
			return a.done(newest, "Nothing done: kid %s is published already and signs from %s.", newest.KeyID, when(newest.Signs))
		}
		return a.done(newest, "Published: kid %s signs with %s from %s.", newest.KeyID, c.Alg, when(newest.Signs))
	})
}
