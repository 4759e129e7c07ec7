package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"login-server/audit"
	"login-server/credential"
	"login-server/identity"
	"login-server/notify"
	"login-server/templates"
)

type userFactorsCmd struct {
	Ref   string `arg:"" help:"${ref}"`
	Reset bool   `help:"Take them away, for somebody who has lost them."`
	Yes   bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (userFactorsCmd) Help() string {
	return `Lists what somebody gives a second factor with: passkeys, an app for one-time codes, a phone, recovery codes.

With --reset the app, the recovery codes and the phone as a factor are taken away, and no second step is asked for any more; trust in browsers is void. Passkeys stay: they are a way to sign in. The person is told by mail. Before you do it, make sure in another way than by mail that it is them who ask: with it, a password is enough.

Examples:

  login-server user factors ada@example.org
  login-server user factors account:8c1f… --reset`
}

// factorsView is what the command shows.
type factorsView struct {
	TwoStep  bool     `json:"two_step"`
	Factors  []string `json:"factors"`
	Recovery int      `json:"recovery_codes"`
	Passkeys int      `json:"passkeys"`
}

func viewFactors(c credential.Credential) factorsView {
	v := factorsView{TwoStep: c.TwoStep, Factors: c.Factors(), Recovery: c.RecoveryLeft(), Passkeys: len(c.Passkeys)}
	if v.Factors == nil {
		v.Factors = []string{}
	}
	return v
}

// words is the same for people: "asked for: totp, recovery (9 codes left)".
func (v factorsView) words() string {
	if len(v.Factors) == 0 {
		return "none"
	}
	text := strings.Join(v.Factors, ", ")
	if v.Recovery > 0 {
		text += fmt.Sprintf(" (%s left)", count(v.Recovery, "recovery code"))
	}
	if !v.TwoStep {
		text += "; not asked for"
	}
	return text
}

// credentialOf is what somebody proves themselves with here; false if there is nothing.
func (p *program) credentialOf(ctx context.Context, a identity.Account) (credential.Credential, bool, error) {
	for _, entry := range p.cfg.Providers {
		own, ok := a.Identities[entry.ID]
		if entry.Strategy != "account" || entry.Disabled || !ok {
			continue
		}
		c, err := p.credentials.Get(ctx, own.ID)
		if errors.Is(err, credential.ErrNotFound) {
			return c, false, nil
		}
		return c, err == nil, err
	}
	return credential.Credential{}, false, nil
}

// Run implements the command.
func (c userFactorsCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		account, err := p.lookUp(ctx, c.Ref)
		if err != nil {
			return err
		}
		own, ok, err := p.credentialOf(ctx, account)
		if err != nil {
			return err
		}
		view := viewFactors(own)
		if !c.Reset {
			if a.json {
				return writeLine(a.stdout, view)
			}
			return a.done(view, "Second factors of %s: %s.", account.Name, view.words())
		}
		if !ok || len(view.Factors) == 0 && !view.TwoStep {
			return fmt.Errorf("%s has no second factor", account.Name)
		}
		if err := a.confirm(ctx, c.Yes, fmt.Sprintf("Take away the second factors of %s (%s)?", account.Name, view.words())); err != nil {
			return err
		}
		if own, err = p.credentials.ResetFactors(ctx, own.ID); err != nil {
			return err
		}
		return errors.Join(
			a.done(viewFactors(own), "The second factors of %s are gone: the first one is enough to sign in.", account.Name),
			p.record(ctx, a, audit.Entry{Action: "user.reset_factors", Target: account.ID, TargetName: account.Name, Detail: map[string]string{"factors": strings.Join(view.Factors, " ")}}),
			p.tellFactorsGone(ctx, own, account))
	})
}

// tellFactorsGone writes to somebody whose second factors were taken away. Who has no address
// here gets no mail.
func (p *program) tellFactorsGone(ctx context.Context, c credential.Credential, a identity.Account) error {
	to := c.Primary()
	if to == "" || p.notify == nil || !p.notify.CanMail() {
		return nil
	}
	pages, err := templates.New(templates.Options{Dir: filepath.Join(p.cfg.Dir, "templates")})
	if err != nil {
		return templateProblem(err)
	}
	base := p.cfg.BaseURL.String()
	m := templates.Mail{Lang: pages.Language(a.Language(), ""), Title: p.cfg.Title, URL: base, Kind: "factor_removed", Link: base + "security"}
	m.Args = map[string]any{"Factor": pages.Text(m.Lang, "security_second", nil)}
	mail := notify.Mail{To: to, Kind: m.Kind}
	if mail.Subject, mail.Text, mail.HTML, err = pages.Mail(m); err == nil {
		err = p.notify.Mail(ctx, mail)
	}
	if err != nil {
		return fmt.Errorf("this was done, but the person was not told: %w", err)
	}
	return nil
}
