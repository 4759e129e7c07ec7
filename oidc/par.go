package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"login-server/store"
)

// pushedPrefix begins every request_uri that is given out here (RFC 9126, 2.2).
const pushedPrefix = "urn:ietf:params:oauth:request_uri:"

// pushedLife is how long a pushed request can be opened (FAPI 2.0 Security Profile,
// 5.3.2.2: less than 600 seconds).
const pushedLife = 90 * time.Second

// pushed is an authorization request that the client has sent itself, before it sends the
// person (RFC 9126). Its id is the hash of its request_uri: who reads the store opens none.
type pushed struct {
	id string

	Client string     `json:"client"`
	Values url.Values `json:"values"`
	// KeyThumbprint is that of the DPoP proof which came with it.
	KeyThumbprint string    `json:"jkt,omitempty"`
	Created       time.Time `json:"created"`
	// Opened: somebody may be on the way with it. It is kept for as long as that can
	// take, so that of several who have opened it one gets an answer.
	Opened bool `json:"opened,omitempty"`
}

func (q pushed) index() store.Index {
	end := q.Created.Add(pushedLife)
	if q.Opened {
		end = end.Add(interactionLife)
	}
	return store.Index{Expires: end, Keys: []string{keyClient(q.Client)}}
}

// Push serves the pushed authorization request endpoint (RFC 9126, 2).
func (p *Provider) Push() http.HandlerFunc {
	return p.endpoint(http.StatusCreated, func(ctx context.Context, c *Client, r *http.Request, form url.Values) (any, error) {
		uri, err := p.push(ctx, c, r, form)
		return struct {
			RequestURI string `json:"request_uri"`
			ExpiresIn  int64  `json:"expires_in"`
		}{uri, int64(pushedLife / time.Second)}, err
	})
}

// push keeps a request of a client and returns its request_uri.
func (p *Provider) push(ctx context.Context, c *Client, r *http.Request, form url.Values) (string, error) {
	if form.Get("client_id") == "" {
		form.Set("client_id", c.ClientID) // it was in the header, or is the iss of the assertion
	}
	if form.Get("client_id") != c.ClientID {
		return "", invalidRequest("The client_id is not that of the client that has authenticated.")
	}
	if form.Has("request_uri") {
		return "", invalidRequest("A request_uri cannot be pushed.") // RFC 9126, 2.1
	}
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		form.Del(name)
	}
	values, err := p.unpack(ctx, c, form)
	if err != nil {
		return "", forClient(err)
	}
	request, err := p.parse(ctx, values)
	if err != nil {
		return "", forClient(err)
	}
	// A proof binds the code to its key as dpop_jkt does (RFC 9449, 10.1).
	thumbprint, err := p.thumbprintAt(r, PathPush)
	if err != nil {
		return "", err
	}
	if thumbprint != "" && request.KeyThumbprint != "" && thumbprint != request.KeyThumbprint {
		return "", invalidRequest("The dpop_jkt is not that of the key of the DPoP proof.")
	}
	if thumbprint != "" && request.hasType("token") {
		return "", invalidRequest("A token that is bound to a key does not come from the authorization endpoint.")
	}
	if err := p.limited(r, c); err != nil {
		return "", err
	}
	uri := pushedPrefix + random()
	_, err = p.pushed.Insert(ctx, hashSecret(uri), pushed{
		Client: c.ClientID, Values: values, KeyThumbprint: thumbprint, Created: p.o.Clock.Now(),
	})
	return uri, err
}

// forClient is an error of a request as the endpoint answers it: there is no redirect,
// so it does not matter where to.
func forClient(err error) error {
	if e, ok := errors.AsType[*requestError](err); ok {
		return e.err
	}
	return err
}

// expand replaces what a request consists of by reference, or in a request object, by the
// parameters themselves. With those of a pushed request comes what is known of it.
func (p *Provider) expand(ctx context.Context, values url.Values) (url.Values, pushed, error) {
	c, err := p.clientOf(ctx, values)
	if err != nil {
		return nil, pushed{}, err
	}
	if uris := values["request_uri"]; len(uris) == 1 && strings.HasPrefix(uris[0], pushedPrefix) {
		q, err := p.openPushed(ctx, c, uris[0])
		return q.Values, q, err
	}
	if c.RequirePushedAuthorizationRequests {
		return nil, pushed{}, p.errorTo(c, values, invalidRequest("This client has to push its requests (RFC 9126)."))
	}
	values, err = p.unpack(ctx, c, values)
	return values, pushed{}, err
}

// errorTo addresses an error of a request that was not unpacked: to the client, if what
// stands outside says where to.
func (p *Provider) errorTo(c *Client, values url.Values, e *Error) error {
	r, err := p.addressed(c, values)
	if err != nil {
		return &requestError{client: c.ClientID, err: e}
	}
	return &requestError{err: e, to: r}
}

// openPushed finds a pushed request of a client.
func (p *Provider) openPushed(ctx context.Context, c *Client, uri string) (pushed, error) {
	// The same for all that could be wrong: a client that does not own it learns nothing.
	unknown := &requestError{err: fail("invalid_request_uri", "This request_uri is unknown, has expired, or was used before.")}
	id, now := hashSecret(uri), p.o.Clock.Now()
	item, err := p.pushed.Update(ctx, id, func(q *pushed) error {
		if q.Client != c.ClientID || !now.Before(q.Created.Add(pushedLife)) {
			return unknown
		}
		q.Opened = true
		return nil
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return pushed{}, unknown
	}
	item.Value.id = id
	return item.Value, err
}

// spendPushed ends a pushed request; of several answers to it one succeeds.
func (p *Provider) spendPushed(ctx context.Context, id string) error {
	err := p.pushed.Delete(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return &requestError{err: fail("invalid_request_uri", "This request has been answered already.")}
	}
	return err
}
