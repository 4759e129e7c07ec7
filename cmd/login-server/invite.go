package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"login-server/accounts"
	"login-server/audit"
	"login-server/config"
	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
	"login-server/templates"
)

type userInviteCmd struct {
	Email string `arg:"" help:"E-mail address of the person."`
	Name  string `help:"Name of the person, to be filled in."`
	Role  string `help:"What the person becomes: admin."`
	By    string `help:"Who invites, as the mail says it; the name of the installation if left out."`
	Lang  string `help:"Language of the mail, such as de." default:"en"`
}

// Help implements kong.HelpProvider.
func (userInviteCmd) Help() string {
	return `Asks somebody by mail to create an account here (strategy account in providers.json). The invitation is for that address alone, good for 7 days and once; a second one replaces the first. It works where registration is by invitation or open, and is free of the list of domains.

The mail is queued, and the server sends it. Where no mail server is set the link is printed, to be handed on: whoever has it is taken for the owner of the address.

Examples:

  login-server user invite ada@example.org --name "Ada Lovelace"
  login-server user invite ada@example.org --role admin --lang de`
}

// Run implements the command.
func (c userInviteCmd) Run(ctx context.Context, a *app) error {
	if c.Role != "" && !slices.Contains(identity.Roles, c.Role) {
		return problem("", "--role", config.Quote(c.Role)+" is not a role", "write admin, or leave it out")
	}
	return a.with(ctx, func(p *program) error {
		desk, err := p.desk()
		if err != nil {
			return err
		}
		link, err := desk.Invite(ctx, accounts.Invitation{
			Email: c.Email, Name: c.Name, Role: c.Role, By: cmp.Or(c.By, p.cfg.Title), Language: c.Lang,
		})
		invalid, wrong := errors.AsType[*accounts.InvalidError](err)
		switch {
		case wrong && invalid.Field == accounts.FieldEmail:
			return problem("", "EMAIL", config.Quote(c.Email)+" is not an address that mail can be sent to", "write one such as ada@example.org")
		case errors.Is(err, accounts.ErrOff):
			return problem("providers.json", "", "has no entry with the strategy account and passwords", "add one, see docs/accounts.md")
		case errors.Is(err, accounts.ErrClosed):
			return problem("providers.json", "options.registration", "is \"closed\"", "write \"invitation\", so that who is invited can create an account")
		case errors.Is(err, credential.ErrTaken):
			return problem("", "EMAIL", config.Quote(c.Email)+" has an account already", "use login-server user show")
		case err != nil && !errors.Is(err, accounts.ErrNoMail):
			return err
		}
		said, unsent := "Invited %s. The mail is on its way.", ""
		if err != nil {
			said, unsent = "Invited %s. No mail server is set; hand this link on:\n%s", link
		}
		args := []any{c.Email}
		if unsent != "" {
			args = append(args, unsent)
		}
		return errors.Join(
			a.done(map[string]string{"invited": c.Email, "link": unsent}, said, args...),
			p.record(ctx, a, audit.Entry{Action: "user.invite", Target: c.Email, Detail: map[string]string{"role": c.Role}}))
	})
}

// desk is where accounts that live here are made, without a server: it invites, and can do
// nothing with passwords.
func (p *program) desk() (*accounts.Desk, error) {
	if p.notify == nil {
		return nil, problem("", "SESSION_SECRET", "is not there yet", "start the server once, which makes it")
	}
	set, _, err := providers.Open(p.cfg, providers.Deps{Version: version})
	if err != nil {
		return nil, err
	}
	// The secrets are known by now, which is more than when the program was opened.
	book, err := credential.NewBook(credential.Options{Store: p.guard, Clock: p.clock, NewID: uuid.NewString, Secrets: p.cfg.SessionSecrets})
	if err != nil {
		return nil, err
	}
	pages, err := templates.New(templates.Options{Dir: filepath.Join(p.cfg.Dir, "templates")})
	if err != nil {
		return nil, templateProblem(err)
	}
	return accounts.New(accounts.Options{
		Credentials: book, Users: p.users, Sessions: p.sessions, Local: set.Local, Notify: p.notify, Templates: pages, Audit: p.audit,
		BaseURL: p.cfg.BaseURL.String(), Title: p.cfg.Title, Clock: p.clock, Log: p.log,
	}), nil
}
