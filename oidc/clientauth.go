package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// authenticate finds the client of a request to one of our endpoints and checks that it
// is who it says to be (RFC 6749, 2.3; RFC 7523, 2.2). Public clients only say who they are.
func (p *Provider) authenticate(ctx context.Context, r *http.Request, form url.Values) (*Client, error) {
	id, secret, basic := "", "", false
	if len(r.Header.Values("Authorization")) > 1 {
		return nil, invalidRequest("There is more than one Authorization header.")
	}
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, _, _ := strings.Cut(header, " ")
		if strings.EqualFold(scheme, "Basic") {
			user, password, ok := r.BasicAuth()
			var errUser, errPassword error
			// Both halves are form-encoded before they are joined (RFC 6749, 2.3.1).
			id, errUser = url.QueryUnescape(user)
			secret, errPassword = url.QueryUnescape(password)
			if !ok || errUser != nil || errPassword != nil {
				return nil, basicFailure(invalidClient("The Authorization header cannot be read."))
			}
			basic = true
		}
	}
	_, hasSecret := form["client_secret"]
	hasAssertion := form.Has("client_assertion") || form.Has("client_assertion_type")
	switch methods := count(basic, hasSecret, hasAssertion); {
	case methods > 1:
		return nil, invalidRequest("There is more than one way of client authentication in the request.")
	case basic && form.Get("client_id") != "" && form.Get("client_id") != id:
		return nil, invalidRequest("The client_id is not that of the Authorization header.")
	case !basic:
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	used := authNone
	switch {
	case basic:
		used = authBasic
	case hasSecret:
		used = authPost
	case hasAssertion:
		return p.asserted(ctx, form)
	}
	failed := func(text string) error {
		e := invalidClient("%s", text)
		if basic {
			return basicFailure(e)
		}
		return e
	}
	if id == "" {
		return nil, failed("The request does not say which client it comes from.")
	}
	// The same for all that could be wrong: who guesses learns nothing.
	refused := func() error {
		return failed("The client is unknown, or not authenticated in the way that it is registered for.")
	}
	proven := func(c *Client) bool {
		return c.TokenEndpointAuthMethod == used && (used == authNone || c.hasSecret(secret))
	}
	c, err := p.clients.get(ctx, id)
	if err == nil && c.Registered && !proven(c) {
		c, err = p.clients.getAnew(ctx, id) // its secret may have been replaced on another node, a moment ago
	}
	switch {
	case errors.Is(err, errUnknownClient):
		return nil, refused()
	case err != nil:
		return nil, err
	case !proven(c):
		return nil, ofClient(c, refused())
	}
	return c, nil
}

// limited refuses a request that leaves a document here when there are too many from where
// it comes. A client that has proved who it is may send any number.
func (p *Provider) limited(r *http.Request, c *Client) error {
	if p.o.Limit == nil || !c.public() {
		return nil
	}
	return p.o.Limit(r)
}

func count(flags ...bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

// basicError is a failure of a client that has tried with the Authorization header,
// which the answer has to speak of (RFC 6749, 5.2).
type basicError struct{ err *Error }

func (e basicError) Error() string { return e.err.Error() }
func (e basicError) Unwrap() error { return e.err }

func basicFailure(e *Error) error { return basicError{e} }
