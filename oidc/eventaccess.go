package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"login-server/events"
	"login-server/store"
	"login-server/token"
)

// Clients hear of the session in which they were given an access token with the scope
// session_events, as long as the grant of that token stands. The token may expire
// meanwhile: the next one is sent to them.

// Paths of events below the issuer.
const (
	PathEvents      = "/events"
	PathEventTicket = "/events/ticket"
)

var _ events.Grants = (*Provider)(nil)

// EventAccess returns what the access token of a request to PathEvents or PathEventTicket
// opens. It has to be in the header (RFC 6750, 2.1; RFC 9449, 7.1). Errors are for
// RefuseAccess.
func (p *Provider) EventAccess(r *http.Request) (events.Access, error) {
	a, err := p.bearer(r, true)
	if err != nil {
		return events.Access{}, err
	}
	_, signed, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok {
		return events.Access{}, invalidRequest("The access token has to be in the Authorization header.")
	}
	return p.eventAccess(a, strings.TrimSpace(signed))
}

// RefuseAccess answers a request whose access token is missing or refused.
func (p *Provider) RefuseAccess(w http.ResponseWriter, r *http.Request, err error) {
	p.refuseBearer(w, r, err)
}

// Refused is the refusal of an access token that does not open what it opened before.
func Refused(reason events.Refusal) error { return refusedToken(describe(string(reason))) }

// Open implements events.Grants: it is EventAccess for the token in a message.
func (p *Provider) Open(ctx context.Context, signed, proof string) (events.Access, error) {
	a, err := p.inspect(ctx, signed)
	if errors.Is(err, errNoToken) {
		return events.Access{}, events.Refusal("The token is invalid, has expired or carries no session.")
	}
	if err != nil {
		return events.Access{}, err
	}
	// A proof is made for the request that has opened the socket: GET, and the address as
	// an http(s) URL.
	request := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}, Header: http.Header{}}).WithContext(ctx)
	if proof != "" {
		request.Header.Set(headerDPoP, proof)
	}
	err = p.provesPossession(request, a, signed, proof != "", true)
	var opened events.Access
	if err == nil {
		opened, err = p.eventAccess(a, signed)
	}
	if e := asError(err); err != nil && e.status() < 500 {
		err = events.Refusal(e.Description)
	}
	return opened, err
}

// eventAccess is what an access token opens that is in force, and was shown by who may.
func (p *Provider) eventAccess(a *access, signed string) (events.Access, error) {
	g := a.grant
	switch {
	case !slices.Contains(a.Scopes, scopeSessionEvents):
		return events.Access{}, &Error{Code: "insufficient_scope", Description: "The token has not the scope session_events.", Status: http.StatusForbidden}
	case !slices.Contains(a.Audience, p.o.Issuer):
		return events.Access{}, refusedToken("The access token is for another server.")
	case g.User == "" || g.Session == "" || a.Client != g.Client || a.Actor != nil:
		// Who acts for somebody else was given no session to hear of.
		return events.Access{}, refusedToken("The access token was not given to this client in a session.")
	}
	opened := events.Access{
		Client: a.Client, Grant: g.ID, Session: g.Session, Began: g.SessionBegan, Scope: a.Scopes, Audience: a.Audience,
		Token: a.ID, Issued: time.Unix(a.IssuedAt, 0).UTC(), Expires: time.Unix(a.Expires, 0).UTC(),
	}
	if isOpaque(signed) {
		opened.Token = hashSecret(signed)
	}
	if a.Confirm != nil {
		opened.Thumbprint = a.Confirm.Thumbprint
	}
	return opened, nil
}

func isOpaque(accessToken string) bool { return strings.Count(accessToken, ".") == 1 }

// grantOfAccess finds the grant and the client of an access; events.ErrEnded if one of them is gone.
func (p *Provider) grantOfAccess(ctx context.Context, a events.Access) (grant, *Client, error) {
	g, err := p.grantByID(ctx, a.Grant)
	if errors.Is(err, errGone) || err == nil && (g.Client != a.Client || g.Session != a.Session || !g.SessionBegan.Equal(a.Began)) {
		return grant{}, nil, events.ErrEnded
	}
	if err != nil {
		return grant{}, nil, err
	}
	c, err := p.clients.get(ctx, a.Client)
	if errors.Is(err, errUnknownClient) {
		return grant{}, nil, events.ErrEnded
	}
	return g, c, err
}

// View implements events.Grants.
func (p *Provider) View(ctx context.Context, a events.Access) (events.View, error) {
	g, c, err := p.grantOfAccess(ctx, a)
	if err != nil {
		return events.View{}, err
	}
	claims := map[string]any{"sub": g.Subject}
	if slices.Contains(a.Scope, scopeOpenID) { // without it userinfo says nothing
		claims, err = p.userinfo(ctx, &g, a.Scope)
		if errors.Is(err, store.ErrNotFound) {
			return events.View{}, events.ErrEnded
		}
		if err != nil {
			return events.View{}, err
		}
	}
	encoded, err := json.Marshal(claims)
	return events.View{Claims: encoded, Origins: c.Origins, Revoked: func(a events.Access) bool {
		if strings.Contains(a.Token, ".") {
			return g.denies(a.Token, a.Issued.Unix())
		}
		return !slices.ContainsFunc(g.Access, func(o opaque) bool { return o.Hash == a.Token })
	}}, err
}

// Sign implements events.Grants: another access token like the one that was shown.
func (p *Provider) Sign(ctx context.Context, a events.Access) (token.Token, error) {
	g, c, err := p.grantOfAccess(ctx, a)
	if err != nil {
		return token.Token{}, err
	}
	resources := slices.DeleteFunc(slices.Clone(a.Audience), func(audience string) bool { return audience == p.o.Issuer })
	now := p.o.Clock.Now()
	var sign func() (string, error)
	next := func(g *grant) {
		bound := g.KeyThumbprint
		g.KeyThumbprint = a.Thumbprint // that of the socket; a refresh may have changed the grant's
		sign = p.accessToken(c, g, a.Scope, resources)
		g.KeyThumbprint = bound
	}
	if c.AccessTokenFormat != tokenOpaque && g.Expires.After(now.Add(p.o.AccessTokenLife)) {
		next(&g) // which is only read
	} else {
		_, err = p.change(ctx, g.ID, func(g *grant) error {
			if g.Revoked {
				return errGone
			}
			g.tidy(now)
			next(g)
			// The grant is in use: written once a day at the least.
			g.Used = now
			if end := now.Add(minRemembered); g.Expires.Before(end) {
				g.Expires = end
			}
			return nil
		})
	}
	if errors.Is(err, errGone) {
		return token.Token{}, events.ErrEnded
	}
	if err != nil {
		return token.Token{}, err
	}
	signed, err := sign()
	return token.Token{Token: signed, ExpiresIn: int(p.o.AccessTokenLife / time.Second)}, err
}

// Forget implements events.Grants.
func (p *Provider) Forget(h events.Hint) {
	if h.Grant != "" {
		p.cache.Forget(h.Grant)
	}
	if h.Client != "" {
		p.clients.cache.Forget(h.Client)
		p.origins.Clear() // those it had, and those it has
		p.marks.Forget(withdrawalID(everybody, h.Client))
	}
	if h.Everything {
		p.cache.Clear()
		p.clients.cache.Clear()
		p.origins.Clear()
		p.marks.Clear()
	}
}

// clientChanged makes a change of a client in the store known, after it was written.
func (p *Provider) clientChanged(id string) {
	h := events.Hint{Client: id}
	p.Forget(h)
	p.o.Changed(h)
}

// AllowsOrigin tells whether pages of an origin are those of some client.
func (p *Provider) AllowsOrigin(ctx context.Context, origin string) bool {
	if origin == "" || len(origin) > 300 {
		return false
	}
	if p.clients.origins[origin] {
		return true
	}
	known, err := p.origins.Get(ctx, origin, func(ctx context.Context, origin string) (bool, error) {
		n, err := p.o.Store.Count(ctx, "client", keyOrigin(origin))
		return n > 0, err
	})
	return known && err == nil
}

// keyOrigin is the look-up key of stored clients with pages of an origin.
func keyOrigin(origin string) string { return "origin:" + origin }
