package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"login-server/events"
	"login-server/store"
)

// access is an access token that is in force.
type access struct {
	accessClaims
	// verified is the JWT that it is; nil for an opaque token.
	verified *verified
	// grant is what it was made from; User is empty for a client's own.
	grant  grant
	Scopes []string
}

// verified is a JWT whose signature was checked, in memory.
type verified struct {
	claims accessClaims
	// describe returns the answer of the introspection endpoint, which is made once.
	describe func() ([]byte, error)
}

var errNoToken = errors.New("not an access token of this server, or not any more")

// maxToken is how long a token may be that is looked at, in bytes.
const maxToken = 16 << 10

// inspect finds out what an access token is good for. The error is errNoToken, or of the
// store. A JWT whose signature was checked a moment ago is not checked again; whether it
// has been revoked is, in memory.
func (p *Provider) inspect(ctx context.Context, token string) (*access, error) {
	if len(token) > maxToken || token == "" {
		return nil, errNoToken
	}
	if isOpaque(token) {
		return p.inspectOpaque(ctx, token)
	}
	jwt, err := p.verified.Get(ctx, hashSecret(token), func(context.Context, string) (*verified, error) {
		var c accessClaims
		payload, err := p.o.Tokens.VerifyJWT(token, "at+jwt")
		if err != nil {
			return nil, errNoToken
		}
		if err := json.Unmarshal(payload, &c); err != nil || c.Issuer != p.o.Issuer {
			return nil, errNoToken
		}
		return &verified{c, sync.OnceValues(func() ([]byte, error) { return json.Marshal(c.introspection()) })}, nil
	})
	if err != nil {
		return nil, err
	}
	claims := &jwt.claims
	if p.o.Clock.Now().Unix() >= claims.Expires {
		return nil, errNoToken
	}
	g, err := p.grantOfToken(ctx, claims.ID)
	if err != nil {
		return nil, err
	}
	if g.denies(claims.ID, claims.IssuedAt) {
		return nil, errNoToken
	}
	if claims.Client != g.Client { // of a token exchange
		if _, err := p.clients.get(ctx, claims.Client); errors.Is(err, errUnknownClient) {
			return nil, errNoToken
		} else if err != nil {
			return nil, err
		}
	}
	return &access{accessClaims: *claims, verified: jwt, grant: g, Scopes: strings.Fields(claims.Scope)}, nil
}

// grantOfToken is the grant in force that a token, or the jti of one, says to be of;
// errNoToken if there is none.
func (p *Provider) grantOfToken(ctx context.Context, token string) (grant, error) {
	id, ok := grantOf(token)
	if !ok {
		return grant{}, errNoToken
	}
	g, err := p.grantByID(ctx, id)
	if errors.Is(err, errGone) {
		return grant{}, errNoToken
	}
	return g, err
}

// access finds an opaque access token that is in force; nil if there is none.
func (g *grant) access(hash string, now time.Time) *opaque {
	for i, o := range g.Access {
		if subtle.ConstantTimeCompare([]byte(o.Hash), []byte(hash)) == 1 && now.Before(o.Expires) {
			return &g.Access[i]
		}
	}
	return nil
}

func (p *Provider) inspectOpaque(ctx context.Context, token string) (*access, error) {
	g, err := p.grantOfToken(ctx, token)
	if err != nil {
		return nil, err
	}
	now, hash := p.o.Clock.Now(), hashSecret(token)
	o := g.access(hash, now)
	if o == nil {
		if g, err = p.grantAnew(ctx, g.ID); errors.Is(err, errGone) {
			return nil, errNoToken
		} else if err != nil {
			return nil, err
		}
		o = g.access(hash, now)
	}
	if o != nil {
		a := &access{grant: g, Scopes: o.Scope, accessClaims: accessClaims{
			Issuer: p.o.Issuer, Subject: g.Subject, Client: g.Client, IssuedAt: o.Issued.Unix(), Expires: o.Expires.Unix(),
			ID: g.ID, Scope: strings.Join(o.Scope, " "), AuthTime: unix(g.AuthTime), ACR: g.ACR, AMR: g.AMR, SessionID: g.Session,
			Audience: p.audienceOf(o.Scope, o.Resources),
		}}
		if o.KeyThumbprint != "" {
			a.Confirm = &confirmation{Thumbprint: o.KeyThumbprint}
		}
		return a, nil
	}
	return nil, errNoToken
}

// introspection is the answer about a token that is in force (RFC 7662, 2.2).
type introspection struct {
	Active bool `json:"active"`
	accessClaims
	TokenType string `json:"token_type,omitempty"`
}

// typeIntrospection is the type of an introspection answer that is signed (RFC 9701, 5).
const typeIntrospection = "token-introspection+jwt"

// Introspect serves the introspection endpoint (RFC 7662). The answer is a JWT for clients
// that have registered for one or ask for it (RFC 9701).
func (p *Provider) Introspect() http.HandlerFunc {
	return p.endpoint(http.StatusOK, func(ctx context.Context, c *Client, r *http.Request, form url.Values) (any, error) {
		answer, err := p.introspect(ctx, c, form)
		asked := strings.Contains(r.Header.Get("Accept"), "application/"+typeIntrospection)
		if err != nil || !asked && c.IntrospectionSignedResponseAlg == "" {
			return answer, err
		}
		signed, err := p.signIntrospection(c, answer)
		return signedAnswer{"application/" + typeIntrospection, signed}, err
	})
}

func (p *Provider) signIntrospection(c *Client, answer any) (string, error) {
	payload, err := json.Marshal(map[string]any{"iss": p.o.Issuer, "aud": c.ClientID, "iat": p.o.Clock.Now().Unix(), "token_introspection": answer})
	if err != nil {
		return "", err
	}
	alg := c.IntrospectionSignedResponseAlg
	if alg == "" && c.FAPI {
		alg = c.IDTokenSignedResponseAlg
	}
	return p.o.Tokens.SignJWT(alg, typeIntrospection, payload)
}

// inactive is the answer about what is no token, or none that the client is to know of.
var inactive = map[string]bool{"active": false}

// introspect is the answer about a token for a client.
func (p *Provider) introspect(ctx context.Context, c *Client, form url.Values) (any, error) {
	if c.public() {
		return nil, invalidClient("Introspection needs a client that can prove who it is.")
	}
	token := form.Get("token")
	if token == "" {
		return nil, invalidRequest("The token is missing.")
	}
	a, err := p.inspect(ctx, token)
	if errors.Is(err, errNoToken) {
		return p.introspectOther(ctx, c, token)
	}
	if err != nil {
		return nil, err
	}
	// Who is neither the client nor an audience of the token has no business with it.
	if a.Client != c.ClientID && !slices.ContainsFunc(a.Audience, c.is) {
		return inactive, nil
	}
	if a.verified != nil {
		described, err := a.verified.describe()
		return json.RawMessage(described), err
	}
	return a.introspection(), nil
}

// introspection is the answer about a token with these claims that is in force.
func (c *accessClaims) introspection() introspection {
	answer := introspection{Active: true, accessClaims: *c, TokenType: "Bearer"}
	if c.Confirm != nil {
		answer.TokenType = "DPoP"
	}
	return answer
}

// is tells whether the client is an audience of access tokens: by its client_id, or by
// the address that the operator has written in its entry.
func (c *Client) is(aud string) bool {
	base := strings.TrimSuffix(c.URL, "/")
	return aud == c.ClientID || !c.Registered && base != "" && (aud == base || strings.HasPrefix(aud, base+"/"))
}

// introspectOther answers for refresh tokens of the client itself, and for the tokens of
// GET /token; all else is inactive.
func (p *Provider) introspectOther(ctx context.Context, c *Client, token string) (any, error) {
	if len(token) > maxToken {
		return inactive, nil
	}
	if !c.Registered && strings.HasPrefix(token, "ey") {
		if known, err := p.older(ctx, token); known != nil || err != nil {
			return known, err
		}
	}
	g, err := p.grantOfToken(ctx, token)
	if errors.Is(err, errNoToken) {
		return inactive, nil
	}
	if err != nil {
		return nil, err
	}
	inForce := func() bool {
		number, ok := p.refreshNumber(&g, token)
		return ok && number == g.Refresh.Number && p.o.Clock.Now().Before(g.Refresh.Idle)
	}
	if g.Client != c.ClientID {
		return inactive, nil
	}
	if !inForce() {
		if g, err = p.grantAnew(ctx, g.ID); errors.Is(err, errGone) {
			return inactive, nil
		} else if err != nil {
			return nil, err
		}
		if !inForce() {
			return inactive, nil
		}
	}
	return introspection{Active: true, accessClaims: accessClaims{
		Issuer: p.o.Issuer, Subject: g.Subject, Client: g.Client, Scope: strings.Join(g.Scope, " "),
		IssuedAt: g.Refresh.Since[len(g.Refresh.Since)-1].Unix(), Expires: g.Refresh.Idle.Unix(), ID: g.ID, Audience: audience{p.o.Issuer},
	}}, nil
}

// older answers for a token of GET /token, which every application may verify with the
// public key: it has no issuer, no audience and no client. The answer is nil if it is
// none, has expired, is of nobody, or of somebody who is gone.
func (p *Provider) older(ctx context.Context, token string) (any, error) {
	claims, who, err := p.sessionToken(ctx, token)
	if claims == nil || err != nil {
		return nil, err
	}
	return map[string]any{"active": true, "sub": who.id, "username": who.name, "iat": claims.IssuedAt, "exp": claims.Expires}, nil
}

// Revoke serves the revocation endpoint (RFC 7009). What is unknown counts as revoked.
func (p *Provider) Revoke() http.HandlerFunc {
	return p.endpoint(http.StatusOK, func(ctx context.Context, c *Client, _ *http.Request, form url.Values) (any, error) {
		token := form.Get("token")
		if token == "" {
			return nil, invalidRequest("The token is missing.")
		}
		done := struct{}{}
		a, err := p.inspect(ctx, token)
		switch {
		case err == nil && a.Client == c.ClientID:
			return done, p.revokeAccess(ctx, a, token)
		case err == nil:
			return done, nil // somebody else's
		case !errors.Is(err, errNoToken):
			return nil, err
		}
		id, ok := grantOf(token)
		if !ok {
			return done, nil
		}
		item, err := p.grants.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
			return done, nil
		}
		if err != nil {
			return nil, err
		}
		if _, ok := p.refreshNumber(&item.Value, token); !ok || item.Value.Client != c.ClientID {
			return done, nil
		}
		// With its refresh token the whole grant goes (RFC 7009, 2.1).
		return done, p.revoke(ctx, id)
	})
}

// revokeAccess makes one access token void; the grant stays.
func (p *Provider) revokeAccess(ctx context.Context, a *access, token string) error {
	_, err := p.change(ctx, a.grant.ID, func(g *grant) error {
		g.tidy(p.o.Clock.Now())
		g.Access = slices.DeleteFunc(g.Access, func(o opaque) bool { return sameHash(o.Hash, token) })
		if !isOpaque(token) {
			g.deny(denied{ID: a.ID, Issued: time.Unix(a.IssuedAt, 0).UTC(), Expires: time.Unix(a.Expires, 0).UTC()})
		}
		return nil
	})
	if errors.Is(err, errGone) {
		return nil
	}
	if err == nil {
		p.o.Changed(events.Hint{Grant: a.grant.ID, Session: a.grant.Session})
	}
	return err
}
