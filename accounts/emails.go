package accounts

import (
	"context"
	"errors"
	"slices"
	"time"

	"login-server/credential"
	"login-server/identity"
)

// mostEmails is how many addresses somebody can have.
const mostEmails = 10

// Person is who is signed in, and has proved lately who they are.
type Person struct {
	Account identity.Account
	// Credential is the id of theirs.
	Credential string
	// Language is that of the page.
	Language string
}

// AddEmail begins to add an address: a mail goes there, and the code or the link in it has
// to be used by who is signed in to the same account. The owner of an address that is
// another's already gets another mail. *InvalidError, ErrNoMail, ErrOff.
func (d *Desk) AddEmail(ctx context.Context, who Person, typed string) (credential.Pending, error) {
	p, err := d.mailing()
	if err != nil {
		return credential.Pending{}, err
	}
	address, err := ParseAddress(typed)
	if err != nil {
		return credential.Pending{}, err
	}
	c, err := d.o.Credentials.Get(ctx, who.Credential)
	if err != nil {
		return credential.Pending{}, err
	}
	if c.HasEmail(address) {
		return credential.Pending{}, &InvalidError{FieldEmail, "email_own"}
	}
	waiting, err := d.o.Credentials.Waiting(ctx, credential.PendingEmail, c.ID)
	if err != nil {
		return credential.Pending{}, err
	}
	if len(c.Emails)+len(waiting) >= mostEmails {
		return credential.Pending{}, &InvalidError{FieldEmail, "email_many"}
	}
	mail := post{asking: who.Account}
	if mail.holder, mail.owner, err = d.holder(ctx, p.ID, address); err != nil {
		return credential.Pending{}, err
	}
	mail, err = d.begin(ctx, mail, credential.Pending{
		Kind: credential.PendingEmail, Credential: c.ID, Account: who.Account.ID, Email: address, Language: who.Language,
	}, nil)
	return mail.Pending, err
}

// ResendEmail sends the mail of an address to add again. ErrNotFound, ErrOther, ErrResent,
// *credential.TooSoonError, ErrNoMail, ErrOff.
func (d *Desk) ResendEmail(ctx context.Context, who Person, id string) (credential.Pending, error) {
	if _, err := d.AddingEmail(ctx, who, id); err != nil {
		return credential.Pending{}, err
	}
	return d.again(ctx, credential.PendingEmail, id, who.Account)
}

// AddingEmail returns the address that waits under an id. ErrNotFound, or ErrOther if it
// waits for somebody else.
func (d *Desk) AddingEmail(ctx context.Context, who Person, id string) (credential.Pending, error) {
	p, err := d.o.Credentials.Pending(ctx, credential.PendingEmail, id)
	if err == nil && p.Credential != who.Credential {
		err = ErrOther
	}
	return p, err
}

// ConfirmEmail adds the address that a code was sent to. ErrNotFound, ErrOther, ErrCode,
// ErrTries, ErrTaken.
func (d *Desk) ConfirmEmail(ctx context.Context, who Person, id, code string) (credential.Credential, error) {
	if _, err := d.AddingEmail(ctx, who, id); err != nil {
		return credential.Credential{}, err
	}
	p, err := d.o.Credentials.TryCode(ctx, credential.PendingEmail, id, code)
	if err != nil {
		return credential.Credential{}, err
	}
	return d.addEmail(ctx, who, p)
}

// ConfirmEmailByLink adds the address that a link was sent to. Only who is signed in to the
// account that it was asked for can: the owner of an address must not be led to give it to
// somebody else's. ErrNotFound, ErrOther, ErrTaken.
func (d *Desk) ConfirmEmailByLink(ctx context.Context, who Person, key string) (credential.Credential, error) {
	p, err := d.ByLink(ctx, credential.PendingEmail, key)
	if err != nil {
		return credential.Credential{}, err
	}
	if p.Credential != who.Credential {
		return credential.Credential{}, ErrOther
	}
	return d.addEmail(ctx, who, p)
}

func (d *Desk) addEmail(ctx context.Context, who Person, p credential.Pending) (credential.Credential, error) {
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return credential.Credential{}, err
	}
	before := ""
	c, err := d.o.Credentials.Update(ctx, p.Credential, func(c *credential.Credential) error {
		before = c.Primary()
		switch {
		case c.HasEmail(p.Email):
			return nil
		case len(c.Emails) >= mostEmails:
			return &InvalidError{FieldEmail, "email_many"}
		}
		c.Emails = append(c.Emails, credential.Email{Address: p.Email, Primary: before == "", Verified: d.o.Clock.Now()})
		return nil
	})
	if err != nil {
		return c, err
	}
	d.tell(ctx, letter{kind: "email_added", to: before, language: who.Language, account: who.Account, args: map[string]any{"Address": p.Email}, page: "security/emails"})
	return c, d.claim(ctx, who.Account, c)
}

// claim makes the account say what addresses are verified now.
func (d *Desk) claim(ctx context.Context, a identity.Account, c credential.Credential) error {
	p, _, err := d.local()
	if err != nil {
		return err
	}
	profile, err := profile(p.ID, c, a, "")
	if err != nil {
		return err
	}
	_, err = d.o.Users.Link(ctx, a.ID, profile)
	return err
}

// replaced is what an undo of another primary address brings back.
type replaced struct {
	Before []credential.Email `json:"before"`
	// New is empty if the address was removed, and there is none in its place.
	New string `json:"new"`
	// Move is the Moves of the credential with it: which of two came first. Nodes' clocks do not tell.
	Move int `json:"move"`
}

// MakePrimary has mail go to another of the addresses. The one before is told, and can
// undo it for UndoLife. *InvalidError.
func (d *Desk) MakePrimary(ctx context.Context, who Person, address string) (credential.Credential, error) {
	var before []credential.Email
	old, chosen := "", ""
	c, err := d.o.Credentials.Update(ctx, who.Credential, func(c *credential.Credential) error {
		if !c.HasEmail(address) {
			return &InvalidError{FieldEmail, "email_unknown"}
		}
		before, old, chosen = slices.Clone(c.Emails), c.Primary(), spelling(*c, address)
		for i := range c.Emails {
			c.Emails[i].Primary = c.Emails[i].Address == chosen
		}
		if old != chosen {
			c.Moves++
		}
		return nil
	})
	if err != nil || old == chosen {
		return c, err
	}
	if err := d.claim(ctx, who.Account, c); err != nil {
		return c, err
	}
	return c, d.offerUndo(ctx, who, old, replaced{before, chosen, c.Moves})
}

// offerUndo writes to the former address, and to the present one if there is one.
func (d *Desk) offerUndo(ctx context.Context, who Person, old string, r replaced) error {
	d.tell(ctx, letter{kind: "email_changed", to: r.New, language: who.Language, account: who.Account, args: map[string]any{"Address": r.New}})
	if old == "" {
		return nil
	}
	i, err := d.o.Credentials.Begin(ctx, credential.Pending{
		Kind: credential.PendingUndoEmail, Credential: who.Credential, Account: who.Account.ID, Email: old, Language: who.Language,
	}, r, UndoLife)
	if err != nil {
		return err
	}
	l := letter{
		kind: "email_change_old", to: old, language: who.Language, account: who.Account,
		args: map[string]any{"Address": r.New, "Days": int(UndoLife / (24 * time.Hour))}, page: "security/emails/undo", key: i.Secret,
	}
	if r.New == "" {
		l.kind = "email_removed"
	}
	d.tell(ctx, l)
	return nil
}

// RemoveEmail takes an address away. Not the primary one, which the owner is reached by,
// as long as there are others; and not the last while it is needed to sign in. Taking away the
// last can be undone like making another the primary one. *InvalidError, ErrLast.
func (d *Desk) RemoveEmail(ctx context.Context, who Person, address string, otherWays bool) (credential.Credential, error) {
	removed := ""
	var before []credential.Email
	c, err := d.o.Credentials.Update(ctx, who.Credential, func(c *credential.Credential) error {
		if !c.HasEmail(address) {
			return &InvalidError{FieldEmail, "email_unknown"}
		}
		removed, before = spelling(*c, address), slices.Clone(c.Emails)
		if len(c.Emails) > 1 && c.Primary() == removed {
			return &InvalidError{FieldEmail, "email_primary"}
		}
		if len(c.Emails) == 1 {
			if c.Password != nil {
				return credential.ErrLast // it is what is typed beside the password
			}
			rest := *c
			rest.Emails = nil
			if !rest.SignsIn() && !otherWays {
				return credential.ErrLast
			}
		}
		c.Emails = slices.DeleteFunc(c.Emails, func(e credential.Email) bool { return e.Address == removed })
		if len(c.Emails) == 0 {
			c.Moves++
		}
		c.Changed = d.o.Clock.Now()
		return nil
	})
	if err != nil {
		return c, err
	}
	// What was sent there proves nothing any more.
	if err := d.o.Credentials.Withdraw(ctx, credential.PendingReset, c.ID); err != nil {
		return c, err
	}
	if err := d.claim(ctx, who.Account, c); err != nil || len(c.Emails) > 0 {
		return c, err
	}
	return c, d.offerUndo(ctx, who, removed, replaced{Before: before, Move: c.Moves})
}

// UndoEmail takes back that another address was made the primary one, with the link that
// the former one has got: addresses are what they were, without those that had come in the
// last UndoLife; the password, and what has come since that opens the account (passkeys, an
// app for codes, a phone), is gone; all sessions end. Whoever did it has lost the account,
// and its owner, who has just proved to read that mail, is given the key of a reset. ErrNotFound, ErrTaken if the address is somebody else's by now.
func (d *Desk) UndoEmail(ctx context.Context, key string) (resetKey string, err error) {
	local, _, err := d.local()
	if err != nil {
		return "", err
	}
	p, err := d.ByLink(ctx, credential.PendingUndoEmail, key)
	if err != nil {
		return "", err
	}
	var r replaced
	if err := d.o.Credentials.Payload(p, &r); err != nil {
		return "", err
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return "", err
	}
	restore := func(all bool) (credential.Credential, error) {
		return d.o.Credentials.Update(ctx, p.Credential, func(c *credential.Credential) error {
			d.restore(c, p, r, all)
			return nil
		})
	}
	c, err := restore(true)
	if errors.Is(err, credential.ErrTaken) {
		c, err = restore(false) // another of the former addresses is somebody else's by now
	}
	if err != nil {
		return "", err
	}
	owner, err := d.owner(ctx, local.ID, c.ID)
	if err != nil {
		return "", err
	}
	if err := d.withdrawSince(ctx, p, r); err != nil {
		return "", err
	}
	if err := d.signedOut(ctx, owner, ""); err != nil {
		return "", err
	}
	if owner.ID != "" {
		if err := d.claim(ctx, owner, c); err != nil && !errors.Is(err, identity.ErrDisabled) {
			return "", err
		}
	}
	return d.resetKey(ctx, p, owner)
}

// withdrawSince ends what has begun since an undo was offered. Undos of before stay good:
// otherwise whoever has an account in their hands could make the owner's worthless by one of their own.
func (d *Desk) withdrawSince(ctx context.Context, undo credential.Pending, r replaced) error {
	for _, kind := range []string{credential.PendingReset, credential.PendingEmail} {
		if err := d.o.Credentials.Withdraw(ctx, kind, undo.Credential); err != nil {
			return err
		}
	}
	undos, err := d.o.Credentials.Waiting(ctx, credential.PendingUndoEmail, undo.Credential)
	if err != nil {
		return err
	}
	for _, p := range undos {
		var other replaced
		if err := d.o.Credentials.Payload(p, &other); err == nil && other.Move < r.Move {
			continue
		}
		if err := d.o.Credentials.End(ctx, p); err != nil && !errors.Is(err, credential.ErrNotFound) {
			return err
		}
	}
	return nil
}

// restore brings back what a credential was before another address became its primary one.
func (d *Desk) restore(c *credential.Credential, p credential.Pending, r replaced, all bool) {
	since := func(at time.Time) bool { return !at.Before(p.Created) }
	emails := []credential.Email{}
	for _, e := range r.Before {
		// Whoever has added one address may have added another before.
		old := e.Verified.Before(p.Created.Add(-UndoLife))
		if e.Address == p.Email || all && old && e.Address != r.New {
			e.Primary = e.Address == p.Email
			emails = append(emails, e)
		}
	}
	c.Emails = emails
	c.Password = nil
	c.Passkeys = slices.DeleteFunc(c.Passkeys, func(k credential.Passkey) bool { return since(k.Added) })
	if c.TOTP != nil && since(c.TOTP.Added) {
		c.TOTP, c.Recovery = nil, nil
	}
	if c.Phone != nil && since(c.Phone.Verified) {
		c.Phone = nil
	}
	c.Changed = d.o.Clock.Now()
}
