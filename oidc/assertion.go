package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"

	"login-server/store"
	"login-server/token"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// maxAssertionLife is how far ahead the exp of an assertion may be: that long its jti is
	// remembered.
	maxAssertionLife = time.Hour
	// skew is by how much the clocks of clients may differ from ours.
	skew = time.Minute
)

// minSecret is how many bytes a secret has at least that signs (RFC 7518, 3.2).
var minSecret = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// assertion is a JWT by which a client proves who it is (RFC 7523, 3).
type assertion struct {
	header    joseHeader
	Issuer    string          `json:"iss"`
	Subject   string          `json:"sub"`
	Audience  json.RawMessage `json:"aud"`
	Expires   *float64        `json:"exp"` // seconds since 1970-01-01 UTC, as all times here
	IssuedAt  *float64        `json:"iat"`
	NotBefore *float64        `json:"nbf"`
	ID        string          `json:"jti"`
	// ResponseType is there in a request object, which anybody has seen whom it came through.
	ResponseType json.RawMessage `json:"response_type"`
}

// readAssertion reads an assertion. Nothing in it is proven by that.
func readAssertion(raw string) (*assertion, error) {
	header, payload, err := readJWS(raw, maxJWS)
	if err != nil {
		return nil, err
	}
	a := assertion{header: header}
	if json.Unmarshal(payload, &a) != nil || a.Issuer == "" || a.Issuer != a.Subject {
		return nil, errNotJWS
	}
	// A JWT that was made for something else is none (RFC 8725, 3.11).
	if header.Typ != "" && !isType(header.Typ, "jwt", "client-authentication+jwt") || a.ResponseType != nil {
		return nil, errNotJWS // RFC 9101, 10.8
	}
	return &a, nil
}

// asserted authenticates a client by its assertion: private_key_jwt or client_secret_jwt
// (OpenID Connect Core, 9).
func (p *Provider) asserted(ctx context.Context, form url.Values) (*Client, error) {
	raw := form.Get("client_assertion")
	switch form.Get("client_assertion_type") {
	case assertionType:
		if raw == "" {
			return nil, invalidRequest("The client_assertion is missing.")
		}
	case "":
		return nil, invalidRequest("The client_assertion_type is missing.")
	default:
		return nil, invalidClient("The client_assertion_type is not supported.")
	}
	refused := invalidClient("The client is unknown, or not authenticated in the way that it is registered for.")
	a, err := readAssertion(raw)
	if err != nil {
		return nil, invalidClient("The client_assertion is not a JWT whose iss and sub are the client_id.")
	}
	if id := form.Get("client_id"); id != "" && id != a.Subject {
		return nil, invalidRequest("The client_id is not that of the client_assertion.")
	}
	c, err := p.clients.get(ctx, a.Subject)
	switch {
	case errors.Is(err, errUnknownClient):
		return nil, refused
	case err != nil:
		return nil, err
	}
	if err := p.spendAssertion(ctx, c, a, raw, refused); err != nil {
		return nil, ofClient(c, err)
	}
	return c, nil
}

// spendAssertion checks that an assertion is of the client, for us, in time, and new.
func (p *Provider) spendAssertion(ctx context.Context, c *Client, a *assertion, raw string, refused *Error) error {
	switch err := p.verifyAssertion(ctx, c, a, raw); {
	case errors.Is(err, errKeysAway):
		return invalidClient("The keys of the client cannot be had from its jwks_uri.")
	case errors.Is(err, errNoKey), errors.Is(err, errNotJWS):
		return refused
	case err != nil:
		return err
	}
	// From here on it is the client that hears what is wrong.
	expires, err := p.checkAssertion(c, a)
	if err != nil {
		return err
	}
	fresh, err := p.remember(ctx, "assertion", c.ClientID, a.ID, expires)
	if err == nil && !fresh {
		return invalidClient("The client_assertion was used before.")
	}
	return err
}

// verifyAssertion checks the signature in the way that the client is registered for, and
// in no other: a public key is never taken for a secret.
func (p *Provider) verifyAssertion(ctx context.Context, c *Client, a *assertion, raw string) error {
	algs := c.assertionAlgs()
	switch c.TokenEndpointAuthMethod {
	case authPrivateJWT:
		_, _, err := p.verifyJWS(ctx, c, raw, algs)
		return err
	case authSecretJWT:
		alg := a.header.Alg
		if !slices.Contains(algs, alg) {
			return errNoKey
		}
		for _, secret := range c.plainSecrets() {
			if len(secret) < minSecret[alg] {
				continue
			}
			if _, err := jws.Verify([]byte(raw), jws.WithKey(jwa.SignatureAlgorithm(alg), []byte(secret)), jws.WithCompact()); err == nil {
				return nil
			}
		}
		return errNoKey
	}
	return errNoKey
}

// assertionAlgs are the algorithms that a client may sign assertions with.
func (c *Client) assertionAlgs() []string {
	all := signingAlgs
	switch {
	case c.TokenEndpointAuthMethod == authSecretJWT:
		all = secretAlgs
	case c.FAPI:
		all = fapiAlgs
	}
	if alg := c.TokenEndpointAuthSigningAlg; alg != "" {
		if !slices.Contains(all, alg) {
			return nil
		}
		return []string{alg}
	}
	return all
}

// checkAssertion checks the claims and returns until when the assertion is good.
func (p *Provider) checkAssertion(c *Client, a *assertion) (expires time.Time, err error) {
	now := p.o.Clock.Now()
	if !p.isAudience(c, a.Audience) {
		if c.FAPI {
			return expires, invalidClient("The aud of the client_assertion is not the issuer, as one string.")
		}
		return expires, invalidClient("The aud of the client_assertion is not this server.")
	}
	expires, ok := moment(a.Expires)
	switch {
	case a.Expires == nil:
		return expires, invalidClient("The client_assertion has no exp.")
	case !ok || expires.After(now.Add(maxAssertionLife+skew)):
		return expires, invalidClient("The exp of the client_assertion is too far ahead.")
	case !now.Before(expires.Add(skew)):
		return expires, invalidClient("The client_assertion has expired.")
	}
	for _, at := range []*float64{a.IssuedAt, a.NotBefore} {
		if at == nil {
			continue
		}
		if t, ok := moment(at); !ok || t.After(now.Add(skew)) {
			return expires, invalidClient("The client_assertion is not valid yet.")
		}
	}
	if a.ID == "" {
		return expires, invalidClient("The client_assertion has no jti.")
	}
	return expires.Add(skew), nil
}

// isAudience tells whether an assertion is for this server. FAPI 2.0 wants the issuer,
// as one string (5.3.2.1). Of others the addresses of the endpoints that authenticate
// clients are taken too, in a list as well; a list that names somebody else besides is
// not: who is named there could bring it here.
func (p *Provider) isAudience(c *Client, raw json.RawMessage) bool {
	if c.FAPI {
		var one string
		return json.Unmarshal(raw, &one) == nil && one == p.o.Issuer
	}
	var list audience
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return false
	}
	for _, aud := range list {
		switch aud {
		case p.o.Issuer, p.o.Issuer + PathToken, p.o.Issuer + PathPush, p.o.Issuer + PathIntrospect, p.o.Issuer + PathRevoke, p.o.Issuer + PathDevice:
		default:
			return false
		}
	}
	return true
}

// moment is the time of a NumericDate (RFC 7519, 2); false if there is none, or it is
// farther away than any that matters.
func moment(seconds *float64) (time.Time, bool) {
	if seconds == nil || !(*seconds >= 0 && *seconds < 1<<40) {
		return time.Time{}, false
	}
	return time.Unix(int64(*seconds), 0).UTC(), true
}

// spent is a value that is good once: it is there when it was used.
type spent struct {
	Expires time.Time `json:"expires"`
}

func (s spent) index() store.Index { return store.Index{Expires: s.Expires} }

// remember takes note of a value that may be used once until it expires, by whom and for
// what; false if it was used before. Of any number at once one is the first. It is kept a
// little longer, for a node whose clock is behind that of the database.
func (p *Provider) remember(ctx context.Context, purpose, who, value string, expires time.Time) (first bool, err error) {
	_, err = p.spent.Insert(ctx, hashSecret(purpose+"\x00"+who+"\x00"+value), spent{expires.Add(token.Leeway)})
	if errors.Is(err, store.ErrExists) {
		return false, nil
	}
	return err == nil, err
}
