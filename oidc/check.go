package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"login-server/store"
)

// Checked is what a token says that was checked.
type Checked struct {
	Active bool `json:"active"`
	// Kind is "session" for a token of GET /token, "access" for an access token. What is not
	// active has none, and nothing else.
	Kind string `json:"kind,omitempty"`
	// User of a session token, as it stands in there.
	User json.RawMessage `json:"user,omitempty"`
	// Subject, Client, Audience, Scope and Confirm of an access token. Confirm names the key
	// that has to be proved as well (RFC 9449, 6); nobody has done so here.
	Subject  string        `json:"sub,omitempty"`
	Client   string        `json:"client_id,omitempty"`
	Audience audience      `json:"aud,omitempty"`
	Scope    string        `json:"scope,omitempty"`
	Confirm  *confirmation `json:"cnf,omitempty"`
	// IssuedAt and Expires are Unix seconds.
	IssuedAt int64 `json:"iat,omitempty"`
	Expires  int64 `json:"exp,omitempty"`
}

// ErrOpaque: a token that says nothing itself; clients ask the introspection endpoint.
var ErrOpaque = errors.New("an opaque token")

// Check tells whether a token is in force and what it says itself, which whoever has it can
// read as well: so it needs no client. An access token that was revoked is not active, nor a
// token of somebody whose account is gone. The error is ErrOpaque, or of the store.
func (p *Provider) Check(ctx context.Context, token string) (Checked, error) {
	if isOpaque(token) {
		return Checked{}, ErrOpaque
	}
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return Checked{}, nil
	}
	a, err := p.inspect(ctx, token)
	if err == nil {
		return Checked{
			Active: true, Kind: "access", Subject: a.Subject, Client: a.Client, Audience: a.Audience, Scope: a.Scope,
			Confirm: a.Confirm, IssuedAt: a.IssuedAt, Expires: a.Expires,
		}, nil
	}
	if !errors.Is(err, errNoToken) {
		return Checked{}, err
	}
	claims, _, err := p.sessionToken(ctx, token)
	if claims == nil || err != nil {
		return Checked{}, err
	}
	return Checked{Active: true, Kind: "session", User: claims.User, IssuedAt: claims.IssuedAt, Expires: claims.Expires}, nil
}

// sessionClaims are those of a token of GET /token.
type sessionClaims struct {
	Issuer   json.RawMessage `json:"iss"` // ID Tokens and signed answers have one
	IssuedAt int64           `json:"iat"`
	Expires  int64           `json:"exp"`
	User     json.RawMessage `json:"user"`
}

// sessionToken returns what a token of GET /token says, and the name of its person; nil if it
// is none, has expired, is of nobody, or of somebody who is gone.
func (p *Provider) sessionToken(ctx context.Context, token string) (*sessionClaims, person, error) {
	payload, err := p.o.Tokens.VerifyJWT(token, "JWT")
	if err != nil {
		return nil, person{}, nil
	}
	var claims sessionClaims
	var user *struct {
		ID string `json:"_id"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Issuer != nil || json.Unmarshal(claims.User, &user) != nil || user == nil ||
		p.o.Clock.Now().Unix() >= claims.Expires {
		return nil, person{}, nil
	}
	a, err := p.o.Users.Get(ctx, user.ID)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) || err == nil && a.Disabled {
		return nil, person{}, nil
	}
	return &claims, person{user.ID, a.Name}, err
}

// person is who a token is of.
type person struct{ id, name string }
