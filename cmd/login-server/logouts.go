package main

import (
	"context"
	"strconv"

	"login-server/oidc"
)

type sessionLogoutsCmd struct{}

// Help implements kong.HelpProvider.
func (sessionLogoutsCmd) Help() string {
	return `A client with a backchannel_logout_uri is told when a session ends in which it took part (OpenID Connect Back-Channel Logout). One that does not answer is asked again for a day, with growing pauses; here are those that wait. An empty list means that everybody knows.

Examples:

  login-server session logouts
  login-server session logouts --json | jq .problem`
}

// Run implements the command.
func (sessionLogoutsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		titles := []string{"CLIENT", "SESSION", "ENDED", "ATTEMPTS", "NEXT", "PROBLEM"}
		return list(a, p.logouts.Pending(ctx), "Nobody waits to be told.", titles, func(l oidc.PendingLogout) []string {
			return []string{l.Client, l.Session, when(l.Ended), strconv.Itoa(l.Attempts), when(l.Next), l.Problem}
		})
	})
}
