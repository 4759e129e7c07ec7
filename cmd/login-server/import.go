package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"login-server/audit"
	"login-server/config"
	"login-server/identity"
	"login-server/legacy"
)

type importCmd struct {
	From      string `help:"MongoDB of the older server: mongodb://user@host:27017/login-server. A password that is not in it is asked for, or read from standard input." placeholder:"URI"`
	Database  string `help:"The database, if the URI names none or another one." placeholder:"NAME"`
	Providers string `help:"providers.json of the older server: people of its local providers are taken over with their passwords." placeholder:"FILE" type:"existingfile"`
	DryRun    bool   `help:"Say what would be done, and write nothing."`
	Strict    bool   `help:"Fail also when somebody was refused."`
}

// Help implements kong.HelpProvider.
func (importCmd) Help() string {
	return `Takes over the people of the older login server, a Node program, with their ids, URIs and identities. It only reads there, and may be repeated: who has been taken over and has not been here since is brought up to date, everybody else here stays as they are.

Everything that cannot be taken is listed with the reason. That alone is no failure, unless --strict is given.

There has to be a database of this server already; it may be running. Sessions are not taken over: people sign in again. Keys are: private.key and public.key are the same files here. docs/migration.md tells more.

Examples:

  login-server import --from mongodb://localhost/login-server --dry-run
  login-server import --from mongodb://reader@db.example.org/login-server --providers ../old/providers.json
  login-server import --from mongodb://localhost/login-server --strict --json > import.jsonl`
}

// Run implements the command.
func (c importCmd) Run(ctx context.Context, a *app) error {
	if c.From == "" && c.Providers == "" {
		return errors.New("nothing to import: give --from, --providers, or both")
	}
	var done imported
	var err error
	// People before passwords: who signed in first with one of these would be made another account.
	if c.From != "" {
		done.People = &importCount{}
		err = c.people(ctx, a, done.People)
	}
	if c.Providers != "" && err == nil {
		done.LocalUsers = &importCount{}
		err = c.localUsers(ctx, a, done.LocalUsers)
	}
	if err != nil && done.LocalUsers == nil && *done.People == (importCount{}) {
		return err // it has not begun
	}
	if !c.DryRun {
		a.recordApart(ctx, done.entry())
	}
	if err := errors.Join(err, c.summarize(a, done)); err != nil {
		return err
	}
	if n := done.refused(); c.Strict && n > 0 {
		return fmt.Errorf("not everything was taken over: %d refused", n)
	}
	return nil
}

// entry is what the audit log has of an import.
func (done imported) entry() audit.Entry {
	e := audit.Entry{Action: "import", Detail: map[string]string{}}
	for what, sum := range map[string]*importCount{"people": done.People, "local_users": done.LocalUsers} {
		if sum != nil {
			e.Detail[what] = fmt.Sprintf("%d taken, %d updated, %d refused", sum.Taken, sum.Updated, sum.Refused)
		}
	}
	return e
}

// importLine is what has become of one person, or of one user of a local provider.
type importLine struct {
	User     string           `json:"user,omitempty"`
	Provider string           `json:"provider,omitempty"`
	Username string           `json:"username,omitempty"`
	Outcome  identity.Outcome `json:"outcome"`
	Reason   string           `json:"reason,omitempty"`
	Demo     bool             `json:"demo,omitempty"` // their provider here does not start in production
	Left     []string         `json:"left,omitempty"`
}

// importCount counts lines by outcome; partly are those of whom something was left.
type importCount struct {
	Taken   int `json:"taken"`
	Updated int `json:"updated"`
	Present int `json:"present"`
	Refused int `json:"refused"`
	Partly  int `json:"partly"`
}

// imported is the last line.
type imported struct {
	DryRun     bool         `json:"dryRun"`
	People     *importCount `json:"people,omitempty"`
	LocalUsers *importCount `json:"localUsers,omitempty"`
}

func (i imported) refused() (n int) {
	for _, c := range []*importCount{i.People, i.LocalUsers} {
		if c != nil {
			n += c.Refused
		}
	}
	return n
}

// report counts a line and writes it: with --json each, otherwise those that tell of something
// that was not taken.
func (c importCmd) report(a *app, sum *importCount, l importLine) error {
	switch l.Outcome {
	case identity.Taken:
		sum.Taken++
	case identity.Updated:
		sum.Updated++
	case identity.Present:
		sum.Present++
	case identity.Refused:
		sum.Refused++
	}
	if len(l.Left) > 0 {
		sum.Partly++
	}
	if a.json {
		return writeLine(a.stdout, l)
	}
	who, text := l.User, ""
	if l.Provider != "" {
		who = l.Provider + ":" + l.Username
	}
	switch {
	case l.Outcome == identity.Refused:
		text = "refused: " + l.Reason
	case len(l.Left) > 0:
		text = "not completely: " + strings.Join(l.Left, "; ")
	default:
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s\n", oneLine(who), oneLine(text))
	return err
}

// oneLine shows all of a text that others have chosen, and lets nothing in it move the cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// summarize writes the last line.
func (c importCmd) summarize(a *app, done imported) error {
	done.DryRun = c.DryRun
	if a.json {
		return writeLine(a.stdout, done)
	}
	for _, part := range []struct {
		what string
		sum  *importCount
	}{{"People", done.People}, {"Users of local providers", done.LocalUsers}} {
		if part.sum == nil {
			continue
		}
		text := fmt.Sprintf("%d taken over", part.sum.Taken)
		for _, more := range []struct {
			n    int
			what string
		}{{part.sum.Updated, "updated"}, {part.sum.Partly, "of these not completely"}, {part.sum.Present, "here already"}, {part.sum.Refused, "refused"}} {
			if more.n > 0 {
				text += fmt.Sprintf(", %d %s", more.n, more.what)
			}
		}
		if _, err := fmt.Fprintf(a.stdout, "%s: %s.\n", part.what, text); err != nil {
			return err
		}
	}
	text := "A running server sees it within seconds. Nobody is signed in by this: people sign in again, as they used to."
	if c.DryRun {
		text = "This is what would be done; nothing was written."
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}

// people takes over those in the database.
func (c importCmd) people(ctx context.Context, a *app, sum *importCount) error {
	uri, err := c.withPassword(ctx, a)
	if err != nil {
		return err
	}
	return a.with(ctx, func(p *program) error {
		source, err := legacy.Open(ctx, uri, c.Database)
		if err != nil {
			return err
		}
		_, err = source.Adopt(ctx, p.users, legacy.Options{DryRun: c.DryRun, Report: func(r legacy.Result) error {
			return c.report(a, sum, importLine{User: r.ID, Outcome: r.Outcome, Reason: r.Reason, Left: r.Left})
		}})
		return errors.Join(err, source.Close())
	})
}

// withPassword is the connection string, with the password that belongs to its user. Asking
// for it keeps it from those who can see the command lines of this machine.
func (c importCmd) withPassword(ctx context.Context, a *app) (string, error) {
	scheme, rest, _ := strings.Cut(c.From, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	user, hosts, ok := cutLast(rest[:end], "@")
	if !ok || user == "" || strings.Contains(user, ":") || strings.Contains(rest[end:], "authMechanism=") && !strings.Contains(rest[end:], "authMechanism=SCRAM") {
		return c.From, nil // it has one, or needs none
	}
	password, err := a.secret(ctx, "Password of "+config.Printable(user)+" at the older server's MongoDB: ")
	if errors.Is(err, errUnanswered) || err == nil && password == "" {
		return "", errors.New("the password is missing: type it, or write it to standard input")
	}
	// The user is escaped already; as a password UserPassword escapes what a URI needs escaped.
	_, escaped, _ := strings.Cut(url.UserPassword("", password).String(), ":")
	return scheme + "://" + user + ":" + escaped + "@" + hosts + rest[end:], err
}
