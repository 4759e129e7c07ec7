package accounts

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
)

// SignUp is what somebody fills in who is new.
type SignUp struct {
	Email, Password string
	// Name is how they are called; empty: what stands before the @.
	Name string
	// Language is that of the page, Continue the query of where they want to go.
	Language, Continue string
}

// newcomer is what waits for a verified address.
type newcomer struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// SignUp begins a sign-up with a password: a mail goes to the address, and nothing
// is created before that was answered. Whose address has an account gets another mail, and whoever
// asks notices nothing. *InvalidError, ErrClosed, ErrOff, ErrBusy, ErrNoMail.
func (d *Desk) SignUp(ctx context.Context, s SignUp) (credential.Issued, error) {
	p, a, err := d.withPassword()
	switch {
	case err != nil:
		return credential.Issued{}, err
	case a.Registration != providers.RegistrationOpen:
		return credential.Issued{}, ErrClosed
	case !d.o.Notify.CanMail():
		return credential.Issued{}, ErrNoMail
	}
	address, err := ParseAddress(s.Email)
	if err != nil {
		return credential.Issued{}, err
	}
	if !domainAllowed(address, a.Domains) {
		return credential.Issued{}, &InvalidError{FieldEmail, "email_domain"}
	}
	waiting, err := d.checkNewcomer(ctx, a, address, s)
	if err != nil {
		return credential.Issued{}, err
	}
	var mail post
	if mail.holder, mail.owner, err = d.holder(ctx, p.ID, address); err != nil {
		return credential.Issued{}, err
	}
	mail, err = d.begin(ctx, mail, credential.Pending{
		Kind: credential.PendingSignUp, Email: address, Language: s.Language, Continue: s.Continue,
	}, waiting)
	return mail.Issued, err
}

// checkNewcomer checks and hashes what somebody new has filled in.
func (d *Desk) checkNewcomer(ctx context.Context, a *providers.Account, address string, s SignUp) (newcomer, error) {
	local, _, _ := strings.Cut(address, "@")
	name, err := identity.CheckName(s.Name)
	switch {
	case errors.Is(err, identity.ErrNameEmpty):
		name = local
	case errors.Is(err, identity.ErrNameLong):
		return newcomer{}, &InvalidError{FieldName, "name_too_long"}
	case err != nil:
		return newcomer{}, &InvalidError{FieldName, "name_control"}
	}
	password, err := d.checkPassword(s.Password, address, s.Name)
	if err != nil {
		return newcomer{}, err
	}
	hash, err := d.hashes.hash(ctx, a.Hashing, password)
	return newcomer{Name: name, Hash: hash}, err
}

// Resend sends the mail of a sign-up or a reset again, with another code and link, to who is in
// the browser that it began in. ErrNotFound, ErrBrowser, ErrResent, *credential.TooSoonError,
// ErrNoMail, ErrOff.
func (d *Desk) Resend(ctx context.Context, kind, id, browser string) (credential.Pending, error) {
	if waits, err := d.Waits(ctx, kind, id, browser); err != nil {
		return waits, err
	}
	return d.again(ctx, kind, id, identity.Account{})
}

// ConfirmSignUp makes the credential of who types the code in the browser in which they
// have begun. ErrNotFound, ErrBrowser, ErrCode, ErrTries, or ErrTaken if the address has an account
// by now.
func (d *Desk) ConfirmSignUp(ctx context.Context, a Answer) (Proof, error) {
	p, err := d.answered(ctx, credential.PendingSignUp, a)
	if err != nil {
		return Proof{}, err
	}
	return d.create(ctx, p)
}

// ConfirmSignUpByLink makes the credential of who has followed the link and said yes on its
// page. In another browser than it began in the password of the sign-up is needed as well:
// otherwise whoever signs up with an address that is not theirs, and a password that they know,
// would get a verified account by the owner's click. ErrNotFound, ErrBrowser without a password,
// ErrRefused for a wrong one, ErrTries after too many of them, ErrTaken, ErrBusy.
func (d *Desk) ConfirmSignUpByLink(ctx context.Context, key, browser, password string) (Proof, error) {
	p, err := d.ByLink(ctx, credential.PendingSignUp, key)
	if err != nil {
		return Proof{}, err
	}
	if !p.Bound(browser) {
		if err := d.checkSignUp(ctx, p, password); err != nil {
			return Proof{}, err
		}
	}
	return d.create(ctx, p)
}

// checkSignUp compares a password with that of a sign-up.
func (d *Desk) checkSignUp(ctx context.Context, p credential.Pending, password string) error {
	_, a, err := d.withPassword()
	if err != nil {
		return err
	}
	if password == "" {
		return ErrBrowser
	}
	var waiting newcomer
	if err := d.o.Credentials.Payload(p, &waiting); err != nil {
		return err
	}
	if err := d.o.Credentials.CountTry(ctx, p); err != nil {
		return err
	}
	typed, err := enforced(password)
	if err != nil || len(password) > maxPassword {
		return ErrRefused
	}
	ok, err := d.hashes.verify(ctx, a.Hashing, waiting.Hash, typed)
	if err == nil && !ok {
		err = ErrRefused
	}
	return err
}

// create makes the credential of a sign-up that was confirmed. Of several for one address
// one wins.
func (d *Desk) create(ctx context.Context, p credential.Pending) (Proof, error) {
	_, a, err := d.local()
	if err != nil {
		return Proof{}, err
	}
	if a.Registration != providers.RegistrationOpen {
		return Proof{}, ErrClosed // since it began
	}
	var waiting newcomer
	if err := d.o.Credentials.Payload(p, &waiting); err != nil {
		return Proof{}, err
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return Proof{}, err
	}
	return d.register(ctx, p, waiting, "")
}

// register makes a credential with an address that was verified, of somebody who is to have a
// role if it is not empty.
func (d *Desk) register(ctx context.Context, p credential.Pending, n newcomer, role string) (Proof, error) {
	now := d.o.Clock.Now()
	c, err := d.o.Credentials.Create(ctx, func(c *credential.Credential) {
		c.Emails = []credential.Email{{Address: p.Email, Primary: true, Verified: now}}
		c.Role = role
		if n.Hash != "" {
			c.Password = &credential.Password{Hash: n.Hash, Set: now}
		}
	})
	if err != nil {
		return Proof{}, fmt.Errorf("create credential: %w", err)
	}
	proof, err := d.Shown(ctx, c, n.Name, "pwd")
	proof.Continue = p.Continue
	return proof, err
}
