package accounts

import (
	"context"
	"errors"
	"slices"

	"login-server/credential"
	"login-server/identity"
)

// Ask is an address that somebody wants a mail for.
type Ask struct {
	Email string
	// Language is that of the page, Continue the query of where they want to go.
	Language, Continue string
}

// AskReset sends a mail with which its owner can choose another password, or a first one.
// For an address that is not known everything is the same but that nobody gets a mail.
// *InvalidError, ErrOff, ErrNoMail.
func (d *Desk) AskReset(ctx context.Context, ask Ask) (credential.Issued, error) {
	mail, address, err := d.wayBack(ctx, ask.Email)
	if err != nil {
		return credential.Issued{}, err
	}
	mail, err = d.begin(ctx, mail, credential.Pending{
		// As it was typed: the page for the code shows it.
		Kind: credential.PendingReset, Credential: mail.holder.ID, Account: mail.owner.ID, Email: address,
		Language: ask.Language, Continue: ask.Continue, Decoy: mail.holder.ID == "",
	}, nil)
	return mail.Issued, err
}

// wayBack is a mail to whoever has an address, or to nobody.
func (d *Desk) wayBack(ctx context.Context, email string) (mail post, address string, err error) {
	if _, _, err := d.withPassword(); err != nil {
		return mail, "", err
	}
	p, err := d.mailing()
	if err != nil {
		return mail, "", err
	}
	if address, err = ParseAddress(email); err != nil {
		return mail, "", err
	}
	mail.holder, mail.owner, err = d.holder(ctx, p.ID, address)
	return mail, address, err
}

// resetKey is the key of a reset for who has followed another link to the same address.
func (d *Desk) resetKey(ctx context.Context, shown credential.Pending, owner identity.Account) (string, error) {
	i, err := d.o.Credentials.Begin(ctx, credential.Pending{
		Kind: credential.PendingReset, Credential: shown.Credential, Account: owner.ID, Email: shown.Email, Language: shown.Language,
	}, nil, ResetLife)
	return i.Secret, err
}

// ResetByCode makes of a code the key of a link, which is what a new password is chosen
// with. The code, and the link in the mail, are spent. ErrNotFound, ErrBrowser, ErrCode, ErrTries.
func (d *Desk) ResetByCode(ctx context.Context, a Answer) (key string, err error) {
	p, err := d.answered(ctx, credential.PendingReset, a)
	if err != nil {
		return "", err
	}
	return d.o.Credentials.Exchange(ctx, p)
}

// Reset chooses a new password with the key of a link, once. All sessions of the person end, and
// browsers are not trusted any more. The proof is good for a sign-in, for which a second
// factor may be due. *InvalidError, which spends nothing; ErrNotFound, ErrBusy, ErrOff.
func (d *Desk) Reset(ctx context.Context, key, password string) (Proof, error) {
	local, options, err := d.withPassword()
	if err != nil {
		return Proof{}, err
	}
	p, err := d.ByLink(ctx, credential.PendingReset, key)
	if err != nil {
		return Proof{}, err
	}
	c, err := d.o.Credentials.Get(ctx, p.Credential)
	if err != nil {
		return Proof{}, err
	}
	owner, err := d.owner(ctx, local.ID, c.ID)
	if err != nil {
		return Proof{}, err
	}
	password, err = d.checkPassword(password, personal(c, owner)...)
	if err != nil {
		return Proof{}, err
	}
	hash, err := d.hashes.hash(ctx, options.Hashing, password)
	if err != nil {
		return Proof{}, err
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return Proof{}, err
	}
	c, err = d.o.Credentials.Update(ctx, c.ID, func(c *credential.Credential) error {
		if !c.HasEmail(p.Email) {
			return credential.ErrNotFound // removed since: it proves nothing any more
		}
		d.setPassword(c, hash)
		return nil
	})
	if err != nil {
		return Proof{}, err
	}
	if err := d.passwordChanged(ctx, c, owner, "", p.Language); err != nil {
		return Proof{}, err
	}
	proof, err := d.Shown(ctx, c, "", "pwd")
	proof.Continue = p.Continue
	return proof, err
}

func (d *Desk) setPassword(c *credential.Credential, hash string) {
	now := d.o.Clock.Now()
	c.Password = &credential.Password{Hash: hash, Set: now}
	c.Changed = now
}

// passwordChanged does what follows another password: other resets are void, sessions end
// but for the one to keep, the owner is told.
func (d *Desk) passwordChanged(ctx context.Context, c credential.Credential, owner identity.Account, keep, language string) error {
	if err := d.o.Credentials.Withdraw(ctx, credential.PendingReset, c.ID); err != nil {
		return err
	}
	if err := d.signedOut(ctx, owner, keep); err != nil {
		return err
	}
	d.tell(ctx, letter{kind: "password_changed", to: c.Primary(), language: language, account: owner, page: "reset"})
	return nil
}

// personal is what others know of somebody, and a password should not be.
func personal(c credential.Credential, a identity.Account) []string {
	texts := []string{a.Name}
	for _, e := range c.Emails {
		texts = append(texts, e.Address)
	}
	for _, i := range a.Identities {
		texts = append(texts, i.Name, i.Username)
	}
	return texts
}

// Change is another password for who is signed in.
type Change struct {
	// Credential is theirs, Account their account, and Session the one that goes on.
	Credential string
	Account    identity.Account
	Session    string
	// Current is the password that they have; it is not asked if they have none.
	Current, Password string
	// Network is where they are; guessing at Current is slowed down like any other.
	Network    string
	Challenged bool
	Language   string
}

// ChangePassword replaces the password of who is signed in, who has proved lately who they
// are, or sets a first one. All other sessions end. *InvalidError (current_wrong among its
// reasons), *NeedError, ErrBusy, ErrOff.
func (d *Desk) ChangePassword(ctx context.Context, ch Change) error {
	_, options, err := d.withPassword()
	if err != nil {
		return err
	}
	c, err := d.o.Credentials.Get(ctx, ch.Credential)
	if err != nil {
		return err
	}
	if len(c.Emails) == 0 {
		return &InvalidError{FieldEmail, "email_first"} // nothing to type beside it
	}
	before := ""
	if c.Password != nil {
		before = c.Password.Hash
		if err := d.checkCurrent(ctx, c, ch); err != nil {
			return err
		}
	}
	password, err := d.checkPassword(ch.Password, personal(c, ch.Account)...)
	if err != nil {
		return err
	}
	if before != "" && ch.Password == ch.Current {
		return &InvalidError{FieldPassword, "password_same"}
	}
	hash, err := d.hashes.hash(ctx, options.Hashing, password)
	if err != nil {
		return err
	}
	c, err = d.o.Credentials.Update(ctx, c.ID, func(c *credential.Credential) error {
		now := ""
		if c.Password != nil {
			now = c.Password.Hash
		}
		if now != before {
			return errChanged // by another request, with a password that this one does not know
		}
		d.setPassword(c, hash)
		return nil
	})
	if errors.Is(err, errChanged) {
		return &InvalidError{FieldCurrent, "current_wrong"}
	}
	if err != nil {
		return err
	}
	return d.passwordChanged(ctx, c, ch.Account, ch.Session, ch.Language)
}

// checkCurrent compares the password that somebody has at the moment.
func (d *Desk) checkCurrent(ctx context.Context, c credential.Credential, ch Change) error {
	_, options, err := d.withPassword()
	if err != nil {
		return err
	}
	if ch.Current == "" || len(ch.Current) > maxPassword {
		return &InvalidError{FieldCurrent, "current_wrong"}
	}
	name := GuessedAt(c.ID)
	need, err := d.o.Backoff.Ask(ctx, name, ch.Network, true)
	if err != nil {
		return err
	}
	if need.Wait > 0 || need.Challenge && !ch.Challenged {
		return &NeedError{need}
	}
	ok, err := d.hashes.verify(ctx, options.Hashing, c.Password.Hash, typed(c.Password.Hash, ch.Current))
	switch {
	case err != nil:
		return err
	case ok:
		return d.o.Backoff.Passed(ctx, name, ch.Network)
	}
	if _, err := d.o.Backoff.Failed(ctx, name, ch.Network); err != nil {
		return err
	}
	return &InvalidError{FieldCurrent, "current_wrong"}
}

// unlocking is what waits in the mail with which somebody unlocks their own network.
type unlocking struct {
	Network string `json:"network"`
}

// AskUnlock sends a mail with which the owner of an address need not wait any more in the
// network that it was asked from. Errors and silence are those of AskReset.
func (d *Desk) AskUnlock(ctx context.Context, ask Ask, network string) error {
	mail, address, err := d.wayBack(ctx, ask.Email)
	if err != nil {
		return err
	}
	_, err = d.begin(ctx, mail, credential.Pending{
		Kind: credential.PendingUnlock, Credential: mail.holder.ID, Account: mail.owner.ID, Email: spelling(mail.holder, address),
		Language: ask.Language, Continue: ask.Continue, Decoy: mail.holder.ID == "",
	}, unlocking{network})
	return err
}

// Unlock ends the waiting in the network that an unlock was asked from, once. It signs
// nobody in. ErrNotFound.
func (d *Desk) Unlock(ctx context.Context, key string) (credential.Pending, error) {
	p, err := d.ByLink(ctx, credential.PendingUnlock, key)
	if err != nil {
		return p, err
	}
	var u unlocking
	if err := d.o.Credentials.Payload(p, &u); err != nil {
		return p, err
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return p, err
	}
	c, err := d.o.Credentials.Get(ctx, p.Credential)
	if err != nil {
		return p, err
	}
	// Any address of the account may be what is typed at the next sign-in.
	for _, e := range slices.Clone(c.Emails) {
		if err := d.o.Backoff.Unlock(ctx, GuessedBy(e.Address), u.Network); err != nil {
			return p, err
		}
	}
	return p, nil
}
