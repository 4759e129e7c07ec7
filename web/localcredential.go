package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"login-server/credential"
	"login-server/identity"
	"login-server/session"
)

// errNoLocal: the strategy account is not listed in providers.json.
var errNoLocal = &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There are no accounts of our own here."}

// ownCredential is what the person who is signed in proves themselves with here. Who came
// by another provider gets an empty one, as one more identity of their account. The caller
// has asked for a fresh sign-in (freshly).
func (s *Server) ownCredential(r *http.Request, v visitor) (credential.Credential, error) {
	return s.credentialAs(r, v, "")
}

// credentialAs is ownCredential with an id for one that has to be made; empty for any.
func (s *Server) credentialAs(r *http.Request, v visitor, id string) (credential.Credential, error) {
	p, ok := s.Providers.Local()
	if !ok {
		return credential.Credential{}, errNoLocal
	}
	ctx, account := r.Context(), *v.account
	for {
		_, c, ok, err := s.desk.Credential(ctx, account)
		if ok || err != nil {
			return c, err
		}
		own := account.Identities[p.ID].ID
		if own != "" {
			// The account may come from memory, and the identity be disconnected since.
			if owner, err := s.Users.Owner(ctx, p.ID, own); isNotFound(err) || err == nil && owner.ID != account.ID {
				own = ""
			} else if err != nil {
				return c, err
			}
		}
		c, err = s.Credentials.Create(ctx, func(c *credential.Credential) {
			// The identity may have outlived its credential.
			c.ID = cmp.Or(own, id, c.ID)
		})
		if own != "" && errors.Is(err, credential.ErrTaken) {
			continue // another request has made it
		}
		if err != nil || own != "" {
			return c, err
		}
		// A crash here leaves an empty document that opens nothing.
		_, err = s.Users.Link(ctx, account.ID, identity.Profile{Provider: p.ID, ID: c.ID, Name: account.Name})
		if err == nil {
			return c, nil
		}
		if gone := s.Credentials.Delete(ctx, c.ID); gone != nil {
			return c, gone
		}
		if shared := (*identity.SharedError)(nil); !errors.As(err, &shared) {
			return c, err
		}
		// Another request has linked one at the same time.
		s.Users.Forget(account.ID)
		if account, err = s.Users.Get(ctx, account.ID); err != nil {
			return c, err
		}
	}
}

// waysBeside is how many ways to sign in an account has that are not in its credential: its
// identities at other providers that are still offered.
func (s *Server) waysBeside(a identity.Account) int {
	n := 0
	for id := range a.Identities {
		if p, ok := s.Providers.Get(id); ok && p.Account == nil {
			n++
		}
	}
	return n
}

// lastWay tells whether nobody could sign in to an account any more without its identity at a
// provider: what is left is a local identity without password, passkey or phone.
func (s *Server) lastWay(ctx context.Context, a identity.Account, provider string) (bool, error) {
	local, c, ok, err := s.desk.Credential(ctx, a)
	if err != nil || !ok || local.ID == provider || c.SignsIn() {
		return false, err
	}
	if _, linked := a.Identities[provider]; !linked {
		return false, nil
	}
	left := s.waysBeside(a)
	if p, ok := s.Providers.Get(provider); ok && p.Account == nil {
		left--
	}
	return left == 0, nil
}

// isFresh tells whether somebody has proved who they are within freshLogin.
func (s *Server) isFresh(v *session.Session) bool {
	latest := v.AuthTime
	if v.Elevated.After(latest) {
		latest = v.Elevated
	}
	return s.Clock.Now().Sub(latest) <= freshLogin
}

// freshly is signedIn for what changes how people sign in: whoever finds an open browser
// should not be able to. Who has not signed in within freshLogin is asked to confirm who they
// are, and gives the second factor too where there is one, also in a browser that is trusted: a
// password and a stolen cookie must not be enough. They are led to page (a path below Base) then,
// or back to the page that they wanted to see.
func (s *Server) freshly(page string, h signedInHandler) handler {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, v visitor) error {
		back := page
		if r.Method == http.MethodGet {
			back = pathBelow(r) // with its query
		}
		if !s.isFresh(v.Session) {
			return redirect(w, s.confirmURL(back))
		}
		owes, err := s.owesFactor(r.Context(), v)
		switch {
		case err != nil:
			return err
		case owes:
			return s.stepUp(w, s.Config.Origin()+s.path(back))
		}
		return h(w, r, v)
	})
}

// owesFactor tells whether who is signed in has a second factor, and has not given it within
// freshLogin. An app or a phone is one also for who has turned off that sign-ins ask for it: it is what
// applications ask for, and whoever has the password could put one of their own in its place.
func (s *Server) owesFactor(ctx context.Context, v visitor) (bool, error) {
	_, c, _, err := s.desk.Credential(ctx, *v.account)
	if err != nil {
		return false, err
	}
	has := c.Due() || c.TOTP != nil || c.Phone != nil && c.Phone.Factor
	return has && s.Clock.Now().Sub(v.Session.Elevated) > freshLogin && len(otherFactors(c, v.Session.Methods)) > 0, nil
}

// confirmURL is where who is signed in proves again who they are, on the way to a page below
// Base. destinationOf takes it for the pages of confirmed.
func (s *Server) confirmURL(page string) string {
	return s.path("login?" + url.Values{"fresh": {"1"}, "redirect_uri": {s.Config.Origin() + s.path(page)}}.Encode())
}

// confirmed are the first segments of pages of ours that may ask for a fresh sign-in.
var confirmed = map[string]bool{"security": true, "account": true, "admin": true}

// confirms tells whether a login may be asked for afresh on the way to a page of ours. It
// signs people in and changes nothing, so a link of another site may lead there.
func (s *Server) confirms(target string) bool {
	u, err := url.Parse(target)
	return err == nil && originOf(target) == s.Config.Origin() && confirmed[s.pageOf(u.Path)]
}

// freshLogin is how long after a sign-in people may change what they sign in with, and delete
// the account without typing its name.
const freshLogin = 10 * time.Minute
