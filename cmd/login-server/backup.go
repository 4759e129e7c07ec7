package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"login-server/config"
	"login-server/store/sqlite"
)

type backupCmd struct {
	File string `arg:"" help:"Where to write the copy; it must not exist." type:"path"`
}

// Help implements kong.HelpProvider.
func (backupCmd) Help() string {
	return `The copy holds what the server had answered when it began, and neither waits for the server nor makes it wait. To restore it, stop the server and put it in the place of login-server.db in DATA_DIR, with no files beside it that end in -wal or -shm.

It holds accounts, sessions and history. It does not hold the key pair, the session secret, and the settings (.env, providers.json, applications.json, templates, static): keep copies of those too, apart from this one.

Example:

  login-server backup /backup/login-$(date +%F).db`
}

// Run implements the command.
func (c backupCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		embedded, ok := p.store.(*sqlite.Engine)
		if !ok {
			return errors.New("this installation keeps everything in MongoDB: use mongodump (docs/scaling.md)")
		}
		if err := embedded.Backup(ctx, c.File); err != nil {
			return err
		}
		info, err := os.Stat(c.File)
		if err != nil {
			return err
		}
		users, err := p.users.Count(ctx, "")
		if err != nil {
			return err
		}
		path, err := filepath.Abs(c.File)
		if err != nil {
			return err
		}
		left := keptElsewhere(p.cfg)
		if a.json {
			return writeLine(a.stdout, map[string]any{"file": path, "bytes": info.Size(), "users": users, "notIncluded": left})
		}
		err = a.done(nil, "Wrote %s (%s, %s).\nNot in it, keep copies apart from it:", shown(path), size(info.Size()), count(users, "account"))
		for _, file := range left {
			if err == nil {
				err = a.done(nil, "  %s", shown(file))
			}
		}
		return err
	})
}

// keptElsewhere are the files that a restored server needs beside the database.
func keptElsewhere(cfg *config.Config) []string {
	there := []string{}
	for _, path := range []string{
		cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, secretPath(cfg), cfg.TLSCertPath, cfg.TLSKeyPath,
		filepath.Join(cfg.Dir, ".env"), cfg.ProvidersPath, cfg.ApplicationsPath,
		filepath.Join(cfg.Dir, "templates"), filepath.Join(cfg.Dir, "static"),
	} {
		if _, err := os.Stat(path); path != "" && err == nil {
			there = append(there, path)
		}
	}
	return there
}
