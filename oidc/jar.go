package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"login-server/internal/outbound"
)

const (
	// maxObject is how many bytes a request object may have.
	maxObject = 64 << 10
	// objectTimeout is how long its client's server may take to hand it out.
	objectTimeout = 5 * time.Second
	// objectAge is how old the request object of a FAPI client may be, and how long it may
	// be good for (FAPI 2.0 Message Signing, 5.3.1).
	objectAge = time.Hour
)

// unpack returns the parameters of a request: those in its request object, if it has one,
// and of what stands beside that nothing (RFC 9101, 6.3).
func (p *Provider) unpack(ctx context.Context, c *Client, values url.Values) (url.Values, error) {
	object, uri := values["request"], values["request_uri"]
	tell := func(e *Error) error { return p.errorTo(c, values, e) }
	switch {
	case len(object)+len(uri) == 0:
		if c.RequireSignedRequestObject {
			return nil, tell(invalidRequest("This client has to sign its requests (RFC 9101)."))
		}
		return values, nil
	case len(object)+len(uri) > 1:
		return nil, tell(invalidRequest("There is more than one of request and request_uri."))
	case c.keys == nil && c.JWKSURI == "":
		// What is not signed is not taken, and this client has no key.
		code := "request_not_supported"
		if len(uri) > 0 {
			code = "request_uri_not_supported"
		}
		return nil, tell(fail(code, "This client has no keys to sign request objects with."))
	case len(uri) > 0:
		fetched, e := p.fetchObject(ctx, c, uri[0])
		if e != nil {
			return nil, tell(e)
		}
		object = []string{fetched}
	}
	inner, err := p.readObject(ctx, c, object[0])
	if e, ok := errors.AsType[*Error](err); ok {
		return nil, tell(e)
	}
	if err != nil {
		return nil, err
	}
	// OpenID Connect Core, 6.1: what has to stand outside says the same.
	if outside := values.Get("response_type"); outside != "" && inner.Has("response_type") && sortedWords(outside) != sortedWords(inner.Get("response_type")) {
		return nil, tell(invalidRequest("The response_type is not that of the request object."))
	}
	return inner, nil
}

// fetchObject gets a request object from its client's server: only from an address that
// the client has registered, whatever its fragment is, which is the hash of what is there
// (OpenID Connect Core, 6.2). What comes is signed, so that the hash is not looked at, and
// nothing is kept.
func (p *Provider) fetchObject(ctx context.Context, c *Client, uri string) (string, *Error) {
	address, _, _ := strings.Cut(uri, "#")
	if len(c.RequestURIs) == 0 {
		return "", fail("request_uri_not_supported", "This client has no request_uris.")
	}
	if len(uri) > 2048 || !strings.HasPrefix(address, "https://") || !slices.ContainsFunc(c.RequestURIs, func(registered string) bool {
		registered, _, _ = strings.Cut(registered, "#")
		return registered == address
	}) {
		return "", fail("invalid_request_uri", "The request_uri is not one that this client has registered.")
	}
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	body, err := outbound.Get(ctx, p.o.HTTP, address, "application/oauth-authz-req+jwt, application/jwt", maxObject)
	if err != nil {
		p.o.Log.WarnContext(ctx, "request object cannot be fetched", "client", c.ClientID, "err", err)
		return "", fail("invalid_request_uri", "Nothing could be fetched from the request_uri.")
	}
	return string(bytes.TrimSpace(body)), nil
}

// objectClaims are what a JWT is about itself; all others are parameters.
type objectClaims struct {
	Issuer   string   `json:"iss"`
	Audience audience `json:"aud"`
	// Times are NumericDates, which may have fractions (RFC 7519, 2).
	Expires   *float64 `json:"exp"`
	NotBefore *float64 `json:"nbf"`
	IssuedAt  *float64 `json:"iat"`
}

// readObject returns the parameters in a request object (RFC 9101, 4) whose signature,
// issuer, audience and times are in order. Errors are *Error, or of the store.
func (p *Provider) readObject(ctx context.Context, c *Client, signed string) (url.Values, error) {
	payload, err := p.verifyObject(ctx, c, signed)
	if err != nil {
		return nil, err
	}
	var about objectClaims
	if err := json.Unmarshal(payload, &about); err != nil {
		return nil, invalidObject("has claims that are none")
	}
	now := float64(p.o.Clock.Now().UnixMilli()) / 1000
	late, age := skew.Seconds(), objectAge.Seconds()
	switch {
	case about.Issuer != c.ClientID:
		return nil, invalidObject("has another iss than its client")
	case !slices.Contains(about.Audience, p.o.Issuer):
		return nil, invalidObject("has an aud that is not this server")
	case about.Expires != nil && now >= *about.Expires+late:
		return nil, invalidObject("has expired")
	case about.NotBefore != nil && now < *about.NotBefore-late, about.IssuedAt != nil && now < *about.IssuedAt-late:
		return nil, invalidObject("is not good yet")
	case c.FAPI && (about.Expires == nil || about.NotBefore == nil):
		return nil, invalidObject("has no exp or no nbf")
	case c.FAPI && (now-*about.NotBefore > age || *about.Expires-*about.NotBefore > age):
		return nil, invalidObject("is good for more than an hour, or older than that")
	}
	values, err := objectParameters(payload)
	if err != nil {
		return nil, invalidObject(err.Error())
	}
	switch id, given := values["client_id"]; {
	case given && id[0] != c.ClientID:
		return nil, invalidObject("is of another client")
	case values.Has("request") || values.Has("request_uri"):
		return nil, invalidObject("has another one inside") // RFC 9101, 4
	}
	values.Set("client_id", c.ClientID)
	return values, nil
}

// verifyObject returns the payload of a request object that a key of the client has
// signed, with an algorithm that it may sign them with.
func (p *Provider) verifyObject(ctx context.Context, c *Client, signed string) ([]byte, error) {
	allowed := signingAlgs
	if c.FAPI {
		allowed = fapiAlgs
	}
	if c.RequestObjectSigningAlg != "" {
		allowed = intersect(allowed, []string{c.RequestObjectSigningAlg})
	}
	header, payload, err := p.verifyJWS(ctx, c, signed, allowed)
	switch {
	case errors.Is(err, errKeysAway):
		return nil, invalidObject("cannot be verified: the keys of the client cannot be had")
	case errors.Is(err, errNotJWS), errors.Is(err, errNoKey):
		return nil, invalidObject("is not signed with a key of the client, as it is registered")
	case err != nil:
		return nil, err
	case header.Typ != "" && !isType(header.Typ, "jwt", "oauth-authz-req+jwt"):
		// A JWT that was made for something else (RFC 8725, 3.11).
		return nil, invalidObject("has the typ of another kind of JWT")
	}
	return payload, nil
}

func invalidObject(why string) *Error {
	return fail("invalid_request_object", "The request object %s.", why)
}

// objectParameters makes parameters of the claims of a request object: strings and
// numbers as they are, objects as JSON, and lists where a parameter may be repeated. The
// error completes "The request object …".
func objectParameters(payload []byte) (url.Values, error) {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil || claims == nil {
		return nil, errors.New("is not an object")
	}
	values := url.Values{}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if slices.Contains([]string{"iss", "aud", "sub", "exp", "nbf", "iat", "jti"}, name) {
			continue
		}
		switch v := claims[name].(type) {
		case nil:
		case string:
			values.Set(name, v)
		case json.Number:
			values.Set(name, v.String())
		case []any:
			if name != "resource" {
				return nil, errors.New("has a list for a parameter that is none")
			}
			for _, one := range v {
				text, ok := one.(string)
				if !ok {
					return nil, errors.New("has a resource that is no text")
				}
				values.Add(name, text)
			}
		case map[string]any:
			text, err := json.Marshal(v)
			if err != nil || name != "claims" {
				return nil, errors.New("has an object for a parameter that is none")
			}
			values.Set(name, string(text))
		default:
			return nil, errors.New("has a parameter that is neither text nor a number")
		}
	}
	return values, nil
}
