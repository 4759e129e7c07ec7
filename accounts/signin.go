package accounts

import (
	"context"
	"errors"

	"login-server/credential"
)

// Attempt is a password that somebody has typed.
type Attempt struct {
	Email, Password string
	// Network is where they are (session.Network).
	Network string
	// Known tells whether the browser has been signed in to an account before; nil: it has not.
	Known func(account string) bool
	// Challenged: a challenge was answered beside it.
	Challenged bool
}

// CheckPassword finds who has typed a password. ErrRefused for a wrong one and for an
// address that is not known, which costs the same; a *RefusedError of who is known.
// *NeedError if something is asked first, and ErrBusy.
func (d *Desk) CheckPassword(ctx context.Context, a Attempt) (Proof, error) {
	p, options, err := d.withPassword()
	if err != nil {
		return Proof{}, err
	}
	if len(a.Email) > 512 || len(a.Password) > maxPassword || a.Email == "" || a.Password == "" {
		return Proof{}, ErrRefused // the same for everybody
	}
	if err := d.hashes.knock(options.Hashing); err != nil {
		return Proof{}, err
	}
	name := GuessedBy(a.Email)
	c, owner, err := d.holder(ctx, p.ID, a.Email)
	if err != nil {
		return Proof{}, err
	}
	known := a.Known != nil && owner.ID != "" && a.Known(owner.ID)
	need, err := d.o.Backoff.Ask(ctx, name, a.Network, known)
	if err != nil {
		return Proof{}, err
	}
	if need.Wait > 0 || need.Challenge && !a.Challenged {
		return Proof{}, &NeedError{need}
	}
	hash := ""
	if c.Password != nil {
		hash = c.Password.Hash
	}
	ok, err := d.hashes.verify(ctx, options.Hashing, hash, typed(hash, a.Password))
	if err != nil {
		return Proof{}, err
	}
	if !ok {
		if _, err := d.o.Backoff.Failed(ctx, name, a.Network); err != nil {
			return Proof{}, err
		}
		if owner.ID == "" {
			// What the caller writes into the history of who is known.
			if err := d.o.Credentials.Sham(ctx); err != nil {
				return Proof{}, err
			}
			return Proof{}, ErrRefused
		}
		return Proof{}, &RefusedError{Account: owner.ID}
	}
	if err := d.o.Backoff.Passed(ctx, name, a.Network); err != nil {
		return Proof{}, err
	}
	// There may have been a queue for hashes: whoever has chosen another password since, and
	// with it ended all sessions, does not want one to begin with this.
	read := c.Password.Set
	c, err = d.o.Credentials.Get(ctx, c.ID)
	switch {
	case errors.Is(err, credential.ErrNotFound), err == nil && (c.Password == nil || !c.Password.Set.Equal(read)):
		return Proof{}, ErrRefused
	case err != nil:
		return Proof{}, err
	}
	if outdated(c.Password.Hash, options.Hashing) {
		c = d.rehashed(ctx, c, a.Password)
	}
	profile, err := profile(p.ID, c, owner, "")
	if err != nil {
		return Proof{}, err
	}
	return d.appointed(ctx, Proof{Profile: profile, Methods: []string{"pwd"}, Credential: c})
}

// GuessedBy is the name under which failures at an address are counted (package backoff), in
// whichever spelling; empty for none.
func GuessedBy(email string) string {
	if email == "" {
		return ""
	}
	return "local:" + credential.Fold(email)
}

// GuessedAt is the same for the present password of who is signed in: whoever guesses
// at sign-ins does not keep the owner from changing it.
func GuessedAt(credential string) string { return "change:" + credential }

// typed is a password in the form in which it is compared with a hash. Those of bcrypt come
// from other servers, which have hashed it as it was.
func typed(hash, password string) string {
	if len(hash) > 2 && hash[:2] == "$2" {
		return password
	}
	if text, err := enforced(password); err == nil {
		return text
	}
	return password
}

// rehashed replaces a hash that costs something else than what is set by now, or was made
// by bcrypt. That this fails is no reason to refuse anybody.
func (d *Desk) rehashed(ctx context.Context, c credential.Credential, password string) credential.Credential {
	_, options, err := d.withPassword()
	if err != nil {
		return c
	}
	text, err := enforced(password)
	if err != nil {
		return c // from elsewhere, with characters that are not taken here: it stays as it is
	}
	before := c.Password.Hash
	hash, err := d.hashes.hash(ctx, options.Hashing, text)
	if err != nil {
		return c
	}
	changed, err := d.o.Credentials.Update(ctx, c.ID, func(c *credential.Credential) error {
		if c.Password == nil || c.Password.Hash != before {
			return errChanged
		}
		c.Password.Hash = hash
		return nil
	})
	if err != nil {
		if !errors.Is(err, errChanged) {
			d.o.Log.WarnContext(ctx, "hash could not be renewed", "err", err)
		}
		return c
	}
	return changed
}

// errChanged ends a change of something that is not what it was.
var errChanged = errors.New("changed meanwhile")
