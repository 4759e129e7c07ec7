package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"login-server/accounts"
	"login-server/audit"
	"login-server/credential"
	"login-server/identity"
	"login-server/oidc"
	"login-server/session"
)

// maxQuery is how many bytes of a search are looked at: no id, name or address is longer.
const maxQuery = 1000

// usable tells whether a text can be an id, or part of a key.
func usable(text string) bool {
	return text != "" && len(text) <= maxQuery && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

// People returns a page of accounts and the id to go on behind; empty when that is all. A
// query is an id, the URI of an account, an address that was verified here, an identity ("github:583231", or
// its id alone), or words that parts of the name begin with. None of them goes through all accounts.
func (o *Office) People(ctx context.Context, query, after string, limit int) (found []identity.Account, next string, err error) {
	query = strings.TrimSpace(query)
	switch {
	case after != "" && !usable(after), query != "" && !usable(query):
		return nil, "", nil
	case query == "":
		found, err = o.o.Users.List(ctx, after, limit+1)
		if len(found) > limit {
			found = found[:limit]
			next = found[limit-1].ID
		}
		return found, next, err
	case after == "":
		if found, err = o.exactly(ctx, query); err != nil {
			return nil, "", err
		}
	}
	exact := len(found)
	named, next, err := o.o.Users.Named(ctx, query, after, limit)
	for _, a := range named {
		if !contains(found[:exact], a.ID) {
			found = append(found, a)
		}
	}
	return found, next, err
}

func contains(list []identity.Account, id string) bool {
	for _, a := range list {
		if a.ID == id {
			return true
		}
	}
	return false
}

// exactly finds accounts by a key of theirs.
func (o *Office) exactly(ctx context.Context, query string) (found []identity.Account, err error) {
	take := func(a identity.Account, err error) error {
		if err == nil && !contains(found, a.ID) {
			found = append(found, a)
		}
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	id := query
	if i := strings.LastIndex(query, "/users/"); i >= 0 {
		id = query[i+len("/users/"):]
	}
	if id != "" {
		a, _, err := o.o.Users.Locate(ctx, id)
		if err := take(a, err); err != nil {
			return nil, err
		}
	}
	if provider, id, ok := strings.Cut(query, ":"); ok && provider != "" && id != "" {
		if err := take(o.o.Users.Owner(ctx, provider, id)); err != nil {
			return nil, err
		}
	}
	for _, p := range o.o.Providers.All() {
		if err := take(o.o.Users.Owner(ctx, p.ID, query)); err != nil {
			return nil, err
		}
	}
	if local, ok := o.o.Providers.Local(); ok && strings.Contains(query, "@") {
		c, err := o.o.Credentials.ByEmail(ctx, query)
		if err == nil {
			err = take(o.o.Users.Owner(ctx, local.ID, c.ID))
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return found, nil
}

// Person is all that is shown of somebody.
type Person struct {
	Account identity.Account
	// IDs are those of the account and of the ones it has absorbed.
	IDs []string
	// Credential is what they prove themselves with here; Local is false if they have none.
	Credential  credential.Credential
	Local       bool
	Sessions    []session.Session
	Connections []oidc.Connection
}

// Person returns what is known of somebody. ErrNotFound.
func (o *Office) Person(ctx context.Context, id string) (p Person, err error) {
	if p.Account, err = o.account(ctx, id); err != nil {
		return p, err
	}
	if p.IDs, err = o.o.Users.IDs(ctx, p.Account); err != nil {
		return p, err
	}
	if p.Credential, p.Local, err = o.credential(ctx, p.Account); err != nil {
		return p, err
	}
	if p.Sessions, err = o.o.Sessions.Of(ctx, p.IDs...); err != nil {
		return p, err
	}
	p.Connections, err = o.o.Clients.Connected(ctx, p.IDs...)
	return p, err
}

func (o *Office) account(ctx context.Context, id string) (identity.Account, error) {
	if !usable(id) {
		return identity.Account{}, ErrNotFound
	}
	a, err := o.o.Users.Get(ctx, id)
	if err == nil && a.ID != id {
		return identity.Account{}, ErrNotFound // it was absorbed: actions are for who is meant
	}
	return a, err
}

func (o *Office) credential(ctx context.Context, a identity.Account) (credential.Credential, bool, error) {
	local, ok := o.o.Providers.Local()
	if !ok {
		return credential.Credential{}, false, nil
	}
	own, ok := a.Identities[local.ID]
	if !ok {
		return credential.Credential{}, false, nil
	}
	c, err := o.o.Credentials.Get(ctx, own.ID)
	if errors.Is(err, ErrNotFound) {
		return c, false, nil
	}
	return c, err == nil, err
}

// Disable shuts an account: nobody signs in to it, and its sessions end. ErrLast, ErrNotFound.
func (o *Office) Disable(ctx context.Context, by By, id string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	return o.act(ctx, by, person(ActionDisable, a), func() (map[string]string, error) {
		err := o.o.Users.StepDown(ctx, a.ID, identity.RoleAdmin, func() error {
			_, err := o.o.Users.SetDisabled(ctx, a.ID, true)
			return err
		})
		if err != nil {
			return nil, err
		}
		return o.endAll(ctx, a)
	})
}

// Enable opens an account again.
func (o *Office) Enable(ctx context.Context, by By, id string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	return o.act(ctx, by, person(ActionEnable, a), func() (map[string]string, error) {
		_, err := o.o.Users.SetDisabled(ctx, a.ID, false)
		return nil, err
	})
}

// endAll ends all sessions of somebody.
func (o *Office) endAll(ctx context.Context, a identity.Account) (map[string]string, error) {
	ids, err := o.o.Users.IDs(ctx, a)
	if err != nil {
		return nil, err
	}
	gone, err := o.o.Sessions.RemoveAll(ctx, "", ids...)
	return map[string]string{"sessions": fmt.Sprint(len(gone))}, err
}

// SignOut ends all sessions of somebody, who is told. Browsers that they trusted are not any more.
func (o *Office) SignOut(ctx context.Context, by By, id string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	return o.act(ctx, by, person(ActionSignOut, a), func() (map[string]string, error) {
		c, ok, err := o.credential(ctx, a)
		if err == nil && ok {
			_, err = o.o.Credentials.Distrust(ctx, c.ID)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		detail, err := o.endAll(ctx, a)
		if err == nil {
			o.o.Tell(ctx, a, "signed_out", nil)
		}
		return detail, err
	})
}

// EndSession ends one session of somebody.
func (o *Office) EndSession(ctx context.Context, by By, id, handle string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	if !usable(handle) {
		return ErrNotFound
	}
	e := audit.Entry{Action: ActionEndSession, Target: handle, TargetName: a.Name, Detail: map[string]string{"user": a.ID}}
	return o.act(ctx, by, e, func() (map[string]string, error) {
		ids, err := o.o.Users.IDs(ctx, a)
		if err != nil {
			return nil, err
		}
		return nil, o.o.Sessions.Remove(ctx, handle, ids...)
	})
}

// ResetFactors takes the second factors away from somebody who has lost them, and tells them.
// Whoever asks an administrator for it may not be who they say: nobody is signed in by it,
// and the first factor stays what it was. ErrNoFactors.
func (o *Office) ResetFactors(ctx context.Context, by By, id string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	return o.act(ctx, by, person(ActionResetFactors, a), func() (map[string]string, error) {
		c, ok, err := o.credential(ctx, a)
		if err != nil {
			return nil, err
		}
		if !ok || !Resettable(c) {
			return nil, ErrNoFactors
		}
		had := strings.Join(c.Factors(), " ")
		if _, err := o.o.Credentials.ResetFactors(ctx, c.ID); err != nil {
			return nil, err
		}
		o.o.Tell(ctx, a, "factors_reset", nil)
		return map[string]string{"factors": had}, nil
	})
}

// Resettable tells whether ResetFactors would take anything away.
func Resettable(c credential.Credential) bool {
	return c.TwoStep || c.TOTP != nil || len(c.Recovery) > 0 || c.Phone != nil && c.Phone.Factor
}

// SendReset sends somebody a mail with which they can choose another password. It goes to
// their own address and nowhere else. ErrNoAddress, accounts.ErrOff, accounts.ErrNoMail.
func (o *Office) SendReset(ctx context.Context, by By, id string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	return o.act(ctx, by, person(ActionSendReset, a), func() (map[string]string, error) {
		c, _, err := o.credential(ctx, a)
		if err != nil {
			return nil, err
		}
		to := c.Primary()
		if to == "" {
			return nil, ErrNoAddress
		}
		_, err = o.o.Desk.AskReset(ctx, accounts.Ask{Email: to, Language: a.Language()})
		return nil, err
	})
}

// RevokeAdmin makes an administrator somebody like all others. Nothing here makes one: that is
// for the command line, so that who has got hold of an administrator's browser cannot leave another behind. ErrLast.
func (o *Office) RevokeAdmin(ctx context.Context, by By, id string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	e := person(ActionRevoke, a)
	e.Detail = map[string]string{"role": identity.RoleAdmin}
	return o.act(ctx, by, e, func() (map[string]string, error) {
		return nil, o.o.Users.StepDown(ctx, a.ID, identity.RoleAdmin, func() error {
			_, err := o.o.Users.Revoke(ctx, a.ID, identity.RoleAdmin)
			return err
		})
	})
}

// Delete deletes an account and all that is kept about the person. typed is the name, so
// that it is the one who is meant: ErrName. ErrLast.
func (o *Office) Delete(ctx context.Context, by By, id, typed string) error {
	a, err := o.account(ctx, id)
	if err != nil {
		return err
	}
	if name, err := identity.CheckName(typed); err != nil || name != a.Name {
		return ErrName
	}
	e := person(ActionDelete, a)
	return o.act(ctx, by, e, func() (map[string]string, error) {
		return nil, o.o.Users.StepDown(ctx, a.ID, identity.RoleAdmin, func() error { return o.o.Delete(ctx, a.ID) })
	})
}

// Invite asks somebody to sign up, as accounts.Desk.Invite does. Who is invited from here gets
// no role, whatever the invitation says.
func (o *Office) Invite(ctx context.Context, by By, inv accounts.Invitation) (link string, err error) {
	inv.Role, inv.By = "", by.Account.Name
	address, err := accounts.ParseAddress(inv.Email)
	if err != nil {
		return "", err
	}
	e := audit.Entry{Action: ActionInvite, Target: address}
	err = o.act(ctx, by, e, func() (map[string]string, error) {
		var err error
		link, err = o.o.Desk.Invite(ctx, inv)
		if errors.Is(err, accounts.ErrNoMail) && link != "" {
			return map[string]string{"mail": "none"}, nil
		}
		if err == nil {
			link = "" // it has gone to who it is for, and is nobody else's
		}
		return nil, err
	})
	return link, err
}
