package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"login-server/audit"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" default:"withargs" help:"List what administrators have changed, the latest first (the default)."`
	Verify auditVerifyCmd `cmd:"" help:"Check that no entry was altered or removed."`
}

// Help implements kong.HelpProvider.
func (auditCmd) Help() string {
	return `Commands that change people, clients, sessions, keys or providers leave an entry, and so does what administrators do on pages. Nothing can be taken out; AUDIT_DAYS says for how long entries are kept.

Examples:

  login-server audit
  login-server audit verify`
}

type auditListCmd struct {
	Since  string `help:"Only entries from then on: a date (2026-03-01), a time (RFC 3339), or as long ago as 90m, 24h or 7d." placeholder:"TIME"`
	Action string `help:"Only this action, such as user.disable; all of a kind end in a dot: \"user.\"." placeholder:"CODE"`
	Actor  string `help:"Only what this account did, by its id; \"cli\" is the command line, \"system\" the server." placeholder:"ID"`
	Target string `help:"Only what was done to this account, client, session or key, by its id." placeholder:"ID"`
	Limit  int    `help:"At most so many entries; 0 for all." default:"100" placeholder:"N"`
}

// Help implements kong.HelpProvider.
func (auditListCmd) Help() string {
	return `Examples:

  login-server audit --since 7d
  login-server audit --action user. --target c0c1914a-29b5-4c3e-a0a9-3a1b6d5a1b9e
  login-server audit --limit 0 --json | jq 'select(.actor != "cli")'`
}

// Run implements the command.
func (c auditListCmd) Run(ctx context.Context, a *app) error {
	q := audit.Query{Action: c.Action, Actor: c.Actor, Target: c.Target}
	if c.Limit < 0 {
		return fmt.Errorf("--limit %d is less than 0", c.Limit)
	}
	return a.with(ctx, func(p *program) error {
		if c.Since != "" {
			var err error
			if q.Since, err = sinceOf(c.Since, p.clock.Now()); err != nil {
				return err
			}
		}
		entries := func(yield func(audit.Entry, error) bool) {
			n := 0
			for e, err := range p.audit.All(ctx, q) {
				if !yield(e, err) {
					return
				}
				if n++; n == c.Limit {
					return
				}
			}
		}
		titles := []string{"NUMBER", "TIME", "WHO", "ACTION", "WHOSE", "DETAILS", "FROM"}
		return list(a, entries, "No entries.", titles, func(e audit.Entry) []string {
			var details []string
			for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
				details = append(details, name+"="+e.Detail[name])
			}
			who := e.Actor
			if e.ActorName != "" {
				who = e.ActorName + " (" + e.Actor + ")"
			}
			return []string{fmt.Sprint(e.Number), when(e.At), who, e.Action, cmp.Or(e.TargetName, e.Target), strings.Join(details, " "), e.Address}
		})
	})
}

// sinceOf reads a date, a time, or how long ago.
func sinceOf(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("--since %q is no time: write 2026-03-01, 2026-03-01T12:00:00Z, 24h or 7d", text)
}

type auditVerifyCmd struct{}

// Help implements kong.HelpProvider.
func (auditVerifyCmd) Help() string {
	return `Each entry holds the SHA-256 of the one before. Whoever can write to the database could make all of them anew, or take off the latest: who needs to know notes the number and the hash that this prints in another place, and compares later. The exit status is 1 if something does not fit.

Example:

  login-server audit verify --json`
}

// auditReport is what "audit verify" answers.
type auditReport struct {
	Entries int64        `json:"entries"`
	First   int64        `json:"first,omitempty"`
	Last    int64        `json:"last,omitempty"`
	Hash    string       `json:"hash,omitempty"`
	Faults  []auditFault `json:"faults"`
}

type auditFault struct {
	Number int64  `json:"number"`
	Text   string `json:"text"`
}

// Run implements the command.
func (auditVerifyCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		r, err := p.audit.Verify(ctx)
		if err != nil {
			return err
		}
		report := auditReport{Entries: r.Entries, First: r.First, Last: r.Last, Hash: r.Hash, Faults: []auditFault{}}
		for _, f := range r.Faults {
			report.Faults = append(report.Faults, auditFault(f))
			if !a.json {
				fmt.Fprintf(a.stdout, "Entry %d %s.\n", f.Number, f.Text)
			}
		}
		switch {
		case a.json:
			err = writeLine(a.stdout, report)
		case r.Entries == 0:
			fmt.Fprintln(a.stdout, "No entries.")
		case len(r.Faults) == 0:
			fmt.Fprintf(a.stdout, "All is in order: entries %d to %d, the last of which has the hash %s.\n", r.First, r.Last, r.Hash)
		}
		if err == nil && len(r.Faults) > 0 {
			return errSilent
		}
		return err
	})
}

// record adds what a command has done to the audit log. It comes after that, and after
// the answer: a secret that is shown once is not to be lost.
func (p *program) record(ctx context.Context, a *app, e audit.Entry) error {
	e.Actor, e.ActorName = audit.ActorCommand, a.operator()
	if err := p.audit.Record(ctx, e); err != nil {
		return fmt.Errorf("this was done, but it is not in the audit log: %w", err)
	}
	return nil
}

// recordApart is record for commands that work on files. They do so without a database,
// too, and then there is no audit log yet.
func (a *app) recordApart(ctx context.Context, e audit.Entry) {
	err := a.with(ctx, func(p *program) error { return p.record(ctx, a, e) })
	if err != nil && !errors.Is(err, errNoDatabase) {
		fmt.Fprintf(a.stderr, "login-server: not in the audit log: %v\n", err)
	}
}

// operator is who gives the command, as the system knows them.
func (a *app) operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = cmp.Or(u.Username, u.Uid)
	}
	for _, pair := range a.env {
		if behind, ok := strings.CutPrefix(pair, "SUDO_USER="); ok && behind != "" {
			return behind + " as " + name
		}
	}
	return name
}
