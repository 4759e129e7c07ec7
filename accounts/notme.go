package accounts

import (
	"context"
	"errors"
	"time"

	"login-server/credential"
	"login-server/identity"
	"login-server/session"
)

// notMeLife is how long the link of a mail about a sign-in works.
const notMeLife = 7 * 24 * time.Hour

// SignedIn is a sign-in that the owner of an account is told of.
type SignedIn struct {
	// Handle is that of the session.
	Handle    string `json:"handle"`
	UserAgent string `json:"userAgent"`
	// Place is where it came from, in words.
	Place string    `json:"place"`
	At    time.Time `json:"at"`
}

// TellSignIn writes to the owner of an account that somebody has signed in from a browser or a
// country that is new, with a link for who it was not. browser is it in words, in language.
func (d *Desk) TellSignIn(ctx context.Context, a identity.Account, s SignedIn, browser, language string) error {
	_, c, _, err := d.Credential(ctx, a)
	if err != nil {
		return err
	}
	to := addressOf(a, c)
	if to == "" {
		return nil
	}
	i, err := d.o.Credentials.Begin(ctx, credential.Pending{
		Kind: credential.PendingNotMe, Credential: c.ID, Account: a.ID, Email: to, Language: language,
	}, s, notMeLife)
	if err != nil {
		return err
	}
	d.tell(ctx, letter{
		kind: "new_device", to: to, account: a, language: language, page: "security/not-me", key: i.Secret,
		args: map[string]any{"Time": s.At, "Browser": browser, "Place": s.Place},
	})
	return nil
}

// Told is the sign-in that a link is about; it changes nothing. ErrNotFound.
func (d *Desk) Told(ctx context.Context, key string) (SignedIn, error) {
	_, told, err := d.told(ctx, key)
	return told, err
}

func (d *Desk) told(ctx context.Context, key string) (credential.Pending, SignedIn, error) {
	var told SignedIn
	p, err := d.ByLink(ctx, credential.PendingNotMe, key)
	if err == nil {
		err = d.o.Credentials.Payload(p, &told)
	}
	return p, told, err
}

// NotMe is for who says that a sign-in was not theirs, once: its session ends, no browser is
// trusted any more, and they are given the key of a reset. Who has no password here is signed out
// everywhere and given none: how they sign in is for another provider to keep safe.
// ErrNotFound, also if the account is gone.
func (d *Desk) NotMe(ctx context.Context, key string) (resetKey string, err error) {
	p, told, err := d.told(ctx, key)
	if err != nil {
		return "", err
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return "", err
	}
	account, err := d.o.Users.Get(ctx, p.Account)
	if errors.Is(err, identity.ErrNotFound) {
		return "", credential.ErrNotFound // deleted meanwhile, sessions and all
	}
	if err != nil {
		return "", err
	}
	ids, err := d.o.Users.IDs(ctx, account)
	if err != nil {
		return "", err
	}
	if err := d.o.Sessions.Remove(ctx, told.Handle, ids...); err != nil && !errors.Is(err, session.ErrNotFound) {
		return "", err
	}
	local, c, _, err := d.Credential(ctx, account)
	if err != nil {
		return "", err
	}
	if c.ID != "" {
		if c, err = d.o.Credentials.Distrust(ctx, c.ID); err != nil {
			return "", err
		}
	}
	if local == nil || !local.Account.Password || !c.HasEmail(p.Email) {
		_, err = d.o.Sessions.RemoveAll(ctx, "", ids...)
		return "", err
	}
	return d.resetKey(ctx, p, account)
}
