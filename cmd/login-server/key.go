package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"login-server/config"
	"login-server/token"
)

type keyCmd struct {
	Show   keyShowCmd   `cmd:"" help:"Show the public key and its kid."`
	Rotate keyRotateCmd `cmd:"" help:"Put a new key pair in the place of the old one."`
}

type keyShowCmd struct{}

// Help implements kong.HelpProvider.
func (keyShowCmd) Help() string {
	return `Prints what applications verify tokens with; the same PEM is in GET /about. The private key is never shown.

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

// Run implements the command.
func (keyShowCmd) Run(a *app) error {
	_, line, err := a.keyPair()
	if err != nil {
		return err
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
	_, err = fmt.Fprint(a.stdout, line.PublicKey)
	return err
}

type keyRotateCmd struct {
	Yes bool `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (keyRotateCmd) Help() string {
	return `Makes a new pair for JWT_ALGORITHM and keeps the old files under names that end in the date. A running server signs with it within seconds. Tokens of the old key stay valid until they expire: the key set keeps its public half for that long.

Applications that keep the PEM from GET /about have to fetch it again, or they refuse new tokens.

Example:

  login-server key rotate`
}

// Run implements the command.
func (c keyRotateCmd) Run(ctx context.Context, a *app) error {
	cfg, old, err := a.keyPair()
	if err != nil {
		return err
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
