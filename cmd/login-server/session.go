package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"login-server/audit"
	"login-server/session"
)

type sessionCmd struct {
	List    sessionListCmd    `cmd:"" help:"List browsers in which somebody is signed in."`
	Remove  sessionRemoveCmd  `cmd:"" help:"End sessions."`
	Logouts sessionLogoutsCmd `cmd:"" help:"List clients that have not been told yet of the end of a session."`
}

type sessionListCmd struct {
	User string `help:"Only those of one account: id, URI, or provider:identity-id." placeholder:"REF"`
}

// Help implements kong.HelpProvider.
func (sessionListCmd) Help() string {
	return `A handle names a session and opens nothing; it may be shown and logged.

Examples:

  login-server session list
  login-server session list --user local:ada --json`
}

// sessionLine is a session as "session list" answers it: without what opens it.
type sessionLine struct {
	Handle      string    `json:"handle"`
	User        string    `json:"user"`
	Name        string    `json:"name"`
	Provider    string    `json:"provider"`
	Application string    `json:"application,omitempty"`
	Address     string    `json:"address,omitempty"`
	UserAgent   string    `json:"userAgent,omitempty"`
	Created     time.Time `json:"created"`
	AuthTime    time.Time `json:"authTime"`
	LastSeen    time.Time `json:"lastSeen"`
	Expires     time.Time `json:"expires"`
}

// sessionsOf goes through the sessions of the account that ref names, or through all.
func (p *program) sessionsOf(ctx context.Context, ref string) (iter.Seq2[session.Session, error], error) {
	if ref == "" {
		return p.sessions.All(ctx), nil
	}
	account, err := p.lookUp(ctx, ref)
	if err != nil {
		return nil, err
	}
	ids, err := p.users.IDs(ctx, account)
	if err != nil {
		return nil, err
	}
	sessions, err := p.sessions.Of(ctx, ids...)
	if err != nil {
		return nil, err
	}
	return func(yield func(session.Session, error) bool) {
		for _, s := range sessions {
			if !yield(s, nil) {
				return
			}
		}
	}, nil
}

// Run implements the command.
func (c sessionListCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		sessions, err := p.sessionsOf(ctx, c.User)
		if err != nil {
			return err
		}
		lines := func(yield func(sessionLine, error) bool) {
			for s, err := range sessions {
				line := sessionLine{
					Handle: s.Handle, User: s.UserID, Provider: s.Provider, Application: s.Application, Address: s.Address, UserAgent: s.UserAgent,
					Created: s.Created, AuthTime: s.AuthTime, LastSeen: s.LastSeen, Expires: s.Expires,
				}
				if err == nil {
					account, failed := p.users.Get(ctx, s.UserID)
					if failed == nil {
						line.User, line.Name = account.ID, account.Name
					} else if !errors.Is(failed, session.ErrNotFound) {
						err = failed
					}
				}
				if !yield(line, err) {
					return
				}
			}
		}
		titles := []string{"HANDLE", "NAME", "SIGNED IN WITH", "FROM", "BROWSER", "LAST USED", "EXPIRES"}
		return list(a, lines, "No sessions.", titles, func(l sessionLine) []string {
			return []string{l.Handle, l.Name, l.Provider, l.Address, browser(l.UserAgent), when(l.LastSeen), when(l.Expires)}
		})
	})
}

// browser says in words what a User-Agent header means.
func browser(header string) string {
	browser, system := session.Software(header)
	if browser == "" || system == "" {
		return browser
	}
	return browser + " on " + system
}

type sessionRemoveCmd struct {
	Handle string `arg:"" optional:"" help:"The session, as \"session list\" names it."`
	User   string `help:"All sessions of one account: id, URI, or provider:identity-id." placeholder:"REF"`
	All    bool   `help:"All sessions of everybody."`
	Yes    bool   `short:"y" help:"Do not ask before ending all sessions of everybody."`
}

// Help implements kong.HelpProvider.
func (sessionRemoveCmd) Help() string {
	return `Whoever uses a session that was ended has to sign in again. A running server tells the applications within about a second: they see the person signed out. Tokens that are on their way stay valid until they expire.

Examples:

  login-server session remove 3q2-7wAAAAAAAAAAAAAAAA
  login-server session remove --user local:ada
  login-server session remove --all --yes`
}

// Run implements the command.
func (c sessionRemoveCmd) Run(ctx context.Context, a *app) error {
	given := 0
	for _, is := range []bool{c.Handle != "", c.User != "", c.All} {
		if is {
			given++
		}
	}
	if given != 1 {
		return errors.New("say which sessions: a handle, --user REF, or --all")
	}
	return a.with(ctx, func(p *program) error {
		if c.Handle != "" {
			s, err := p.sessions.Get(ctx, c.Handle)
			if err == nil {
				err = p.sessions.Remove(ctx, c.Handle, s.UserID)
			}
			if errors.Is(err, session.ErrNotFound) {
				return fmt.Errorf("there is no session %q (see: login-server session list)", c.Handle)
			}
			if err != nil {
				return err
			}
			return errors.Join(
				a.done(map[string]any{"removed": 1}, "Ended 1 session."),
				p.record(ctx, a, audit.Entry{Action: "session.end", Target: c.Handle, Detail: map[string]string{"user": s.UserID}}))
		}
		if c.All {
			if err := a.confirm(ctx, c.Yes, "End all sessions of everybody?"); err != nil {
				return err
			}
		}
		sessions, err := p.sessionsOf(ctx, c.User)
		if err != nil {
			return err
		}
		removed := 0
		for s, err := range sessions {
			if err != nil {
				return err
			}
			err := p.sessions.Remove(ctx, s.Handle, s.UserID)
			if err != nil && !errors.Is(err, session.ErrNotFound) {
				return err
			}
			removed++
		}
		e := audit.Entry{Action: "session.end_all", Detail: map[string]string{"sessions": fmt.Sprint(removed)}}
		if c.User != "" {
			account, err := p.lookUp(ctx, c.User)
			if err != nil {
				return err
			}
			e.Target, e.TargetName = account.ID, account.Name
		}
		return errors.Join(a.done(map[string]any{"removed": removed}, "Ended %s.", count(removed, "session")), p.record(ctx, a, e))
	})
}
