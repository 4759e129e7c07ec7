package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"login-server/audit"
	"login-server/identity"
)

// errRole is the answer to a role that there is not.
func errRole(role string) error {
	return fmt.Errorf("there is no role %q: write %s", role, strings.Join(identity.Roles, ", "))
}

type userGrantCmd struct {
	Role string   `arg:"" help:"The role: admin."`
	Refs []string `arg:"" help:"${ref}"`
}

// Help implements kong.HelpProvider.
func (userGrantCmd) Help() string {
	return `Administrators see and change the accounts of others at /admin. They have to sign in with a second factor; who has none is led to set one up, for which providers.json needs an entry with the strategy account. Nothing but this command makes an administrator.

Example:

  login-server user grant admin github:583231`
}

// Run implements the command.
func (c userGrantCmd) Run(ctx context.Context, a *app) error {
	return changeRoles(ctx, a, c.Role, c.Refs, "user.grant", "Granted", (*identity.Directory).Grant)
}

type userRevokeCmd struct {
	Role string   `arg:"" help:"The role: admin."`
	Refs []string `arg:"" help:"${ref}"`
}

// Help implements kong.HelpProvider.
func (userRevokeCmd) Help() string {
	return `It holds from their next request on. They stay signed in, and keep their accounts.

Example:

  login-server user revoke admin github:583231`
}

// Run implements the command.
func (c userRevokeCmd) Run(ctx context.Context, a *app) error {
	return changeRoles(ctx, a, c.Role, c.Refs, "user.revoke", "Revoked", (*identity.Directory).Revoke)
}

// changeRoles gives or takes a role. All people are looked up before the first is changed.
func changeRoles(ctx context.Context, a *app, role string, refs []string, action, done string, change func(*identity.Directory, context.Context, string, string) (identity.Account, error)) error {
	if !slices.Contains(identity.Roles, role) {
		return errRole(role)
	}
	return a.with(ctx, func(p *program) error {
		var accounts []identity.Account
		for _, ref := range refs {
			account, err := p.lookUp(ctx, ref)
			if err != nil {
				return err
			}
			accounts = append(accounts, account)
		}
		for _, account := range accounts {
			changed, err := change(p.users, ctx, account.ID, role)
			if err != nil {
				return err
			}
			roles := changed.Roles
			if roles == nil {
				roles = []string{}
			}
			if err := errors.Join(
				a.done(map[string]any{"user": changed.ID, "roles": roles}, "%s %s: %s.", done, role, summary(changed)),
				p.record(ctx, a, audit.Entry{Action: action, Target: changed.ID, TargetName: changed.Name, Detail: map[string]string{"role": role}}),
			); err != nil {
				return err
			}
		}
		return nil
	})
}
