package providers

import (
	"context"
	"crypto/subtle"

	"login-server/identity"
)

// testOptions: users with plain passwords, for the tests of applications.
type testOptions struct {
	Users []LocalUser `json:"users"`
}

func (o *testOptions) open(e *entry, p *Provider) {
	if e.cfg.Env != "test" {
		e.problem("strategy", `"test" keeps plain passwords and runs only with NODE_ENV=test`, `write "disabled": true, or use the strategy local`)
	}
	e.checkUsers(o.Users, func(field, password string) { e.required(field, password, "write a password") })
	e.checker(p, plain(o.Users), false)
}

type plain []LocalUser

var _ Checker = plain(nil)

func (users plain) Check(_ context.Context, username, password string) (identity.Profile, error) {
	for _, u := range users {
		if u.Username == username && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1 {
			return u.profile(), nil
		}
	}
	return identity.Profile{}, ErrRefused
}
