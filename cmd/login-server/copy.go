package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"login-server/cluster"
	"login-server/store"
	"login-server/store/sqlite"
)

type copyCmd struct {
	From   string `required:"" help:"The database of an embedded store: login-server.db." type:"path" placeholder:"FILE"`
	DryRun bool   `help:"Only say what would be copied."`
}

// Help implements kong.HelpProvider.
func (copyCmd) Help() string {
	return `Moves an installation from the embedded store to the one that the settings name, a MongoDB: accounts, sessions, consents, tokens, keys, history. With the same SESSION_SECRET (data/session.secret) and the same BASE_URL nobody notices; without the secret everybody has to sign in again. Key files stay where they are: give them to all nodes, or remove them to have the pair in the database.

Stop the server before, and start it after. The database that is copied from stays as it is. Whatever the other store has already is left alone, so the command can be run again.

Examples:

  login-server copy --from data/login-server.db --dry-run
  login-server copy --from data/login-server.db`
}

// Run implements the command.
func (c copyCmd) Run(ctx context.Context, a *app) error {
	report, err := sqlite.Inspect(ctx, c.From)
	switch {
	case err != nil:
		return err
	case report.Missing:
		return fmt.Errorf("there is no database at %s", shown(c.From))
	}
	if holder, running := lockHolder(filepath.Dir(c.From)); running {
		return fmt.Errorf("a server uses %s (%s): stop it first, or what it writes now would be missing", shown(c.From), holder)
	}
	return a.with(ctx, func(p *program) error {
		if !p.cfg.Shared() {
			return errors.New("the settings name no other store: set MONGO_URI")
		}
		nodes, err := cluster.Nodes(ctx, p.store, p.clock.Now())
		if err != nil {
			return err
		}
		if len(nodes) > 0 {
			return fmt.Errorf("%s works on the other store (%s): stop it first, or people could sign in to accounts that are only half there", count(len(nodes), "node"), nodes[0])
		}
		from, err := sqlite.Open(ctx, c.From, sqlite.Options{})
		if err != nil {
			return err
		}
		defer from.Close()
		return c.copy(ctx, a, from, p.store)
	})
}

// copy copies kind after kind, and says how far it came.
func (c copyCmd) copy(ctx context.Context, a *app, from *sqlite.Engine, to store.Engine) error {
	kinds, err := from.Kinds(ctx)
	if err != nil {
		return err
	}
	var lines []store.Copied
	for _, kind := range kinds {
		line, err := store.Copy(ctx, from, to, kind, c.DryRun)
		lines = append(lines, line)
		if err != nil {
			err = fmt.Errorf("%s of kind %q were copied, then: %w (run it again when that is mended)", count(line.Copied, "document"), kind, err)
			return errors.Join(c.say(a, lines), err)
		}
	}
	return c.say(a, lines)
}

func (c copyCmd) say(a *app, lines []store.Copied) error {
	titles := []string{"KIND", "COPIED", "THERE ALREADY"}
	if c.DryRun {
		titles[1] = "TO COPY"
	}
	all := func(yield func(store.Copied, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	}
	return list(a, all, "Nothing to copy.", titles, func(l store.Copied) []string {
		return []string{l.Kind, fmt.Sprint(l.Copied), fmt.Sprint(l.There)}
	})
}
