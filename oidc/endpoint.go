package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"login-server/store"
)

// maxForm is how many bytes a request to one of our endpoints may have.
const maxForm = 64 << 10

const formType = "application/x-www-form-urlencoded"

// endpoint makes a handler for clients, which are authenticated first, of what returns the
// value to answer, as JSON that is not kept anywhere, or an error of the protocol.
func (p *Provider) endpoint(status int, handle func(ctx context.Context, c *Client, r *http.Request, form url.Values) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		form, err := readForm(r)
		var c *Client
		if err == nil {
			c, err = p.authenticate(r.Context(), r, form)
		}
		var value any
		if err == nil {
			value, err = handle(r.Context(), c, r, form)
			err = ofClient(c, err)
		}
		if err != nil {
			p.fail(w, r, err)
			return
		}
		if signed, ok := value.(signedAnswer); ok {
			w.Header().Set("Content-Type", signed.mediaType)
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(signed.jwt))
			return
		}
		writeJSON(w, status, value)
	}
}

// signedAnswer is an answer that is a JWT.
type signedAnswer struct{ mediaType, jwt string }

// clientError is an error of which it is known whose it is: a client that has
// authenticated, or has failed to.
type clientError struct {
	client string
	err    error
}

func (e clientError) Error() string { return e.err.Error() }
func (e clientError) Unwrap() error { return e.err }

func ofClient(c *Client, err error) error {
	if err == nil {
		return nil
	}
	return clientError{c.ClientID, err}
}

// routine are errors that come of nothing being wrong.
var routine = []string{"authorization_pending", "slow_down", "use_dpop_nonce", "access_denied", "login_required", "consent_required", "account_selection_required"}

// refused counts an error that a client, or a person, is answered with, and says in the log
// what the developer of the client will ask about. Whatever names no client of ours is
// counted only: there is no end of it.
func (p *Provider) refused(endpoint, client string, e *Error) {
	if e.Code == "" {
		return // no token was brought
	}
	p.o.Refused(endpoint, e.Code)
	if client != "" && e.status() < 500 && !slices.Contains(routine, e.Code) {
		p.o.Log.Info("client refused", "endpoint", endpoint, "client_id", client, "error", e.Code, "description", e.Description)
	}
}

// readForm reads the parameters of a POST: in the body, once each (RFC 6749, 3.2).
func readForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != formType {
		return nil, invalidRequest("The body is not application/x-www-form-urlencoded.")
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), 4<<10)) + bytes.MinRead)
	if _, err := body.ReadFrom(io.LimitReader(r.Body, maxForm+1)); err != nil || body.Len() > maxForm {
		return nil, &Error{Code: "invalid_request", Description: "The request is too large.", Status: http.StatusRequestEntityTooLarge}
	}
	form, err := url.ParseQuery(body.String())
	if err != nil {
		return nil, invalidRequest("The body cannot be read.")
	}
	for name, values := range form {
		for _, value := range values {
			if !utf8.ValidString(name) || !utf8.ValidString(value) {
				return nil, invalidRequest("The body is not valid UTF-8.")
			}
		}
	}
	return form, single(form)
}

// endpointOf names an endpoint in metrics: that of registration without the client_id.
func endpointOf(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, PathRegister) {
		return PathRegister
	}
	return strings.TrimSuffix(r.URL.Path, "/")
}

// fail answers with an error (RFC 6749, 5.2).
func (p *Provider) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	known, _ := errors.AsType[clientError](err)
	p.refused(endpointOf(r), known.client, e)
	if e.status() == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	if e.status() >= 500 && !errors.Is(err, store.ErrAway) { // of that the store itself speaks
		p.o.Log.ErrorContext(r.Context(), "OAuth endpoint failed", "path", r.URL.Path, "client_id", known.client, "err", err)
	}
	if errors.As(err, new(basicError)) {
		w.Header().Set("WWW-Authenticate", `Basic realm="login-server"`)
	}
	announceNonce(w.Header(), err)
	writeJSON(w, e.status(), struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.Code, e.Description})
}

// Values of headers that nearly every answer has; nobody changes them.
var typeJSON, noStore = []string{"application/json"}, []string{"no-store"}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, made := value.(json.RawMessage)
	if !made {
		var err error
		if body, err = json.Marshal(value); err != nil {
			http.Error(w, "", http.StatusInternalServerError)
			return
		}
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = typeJSON, noStore
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Endpoints are the handlers of what programs ask for, by method and path below the
// issuer, as http.ServeMux and chi understand them.
func (p *Provider) Endpoints() map[string]http.Handler {
	endpoints := map[string]http.Handler{
		"POST " + PathPush:       p.Push(),
		"POST " + PathToken:      p.Token(),
		"POST " + PathDevice:     p.Device(),
		"POST " + PathIntrospect: p.Introspect(),
		"POST " + PathRevoke:     p.Revoke(),
		"GET " + PathUserInfo:    p.UserInfo(),
		"POST " + PathUserInfo:   p.UserInfo(),
	}
	if p.o.Sessions.StateCookie() != "" {
		endpoints["GET "+PathCheckSession] = p.CheckSession()
	}
	maps.Copy(endpoints, p.Registration())
	if configuration, err := p.Configuration(); err == nil {
		endpoints["GET "+PathConfiguration] = configuration
		endpoints["GET "+PathServer] = configuration
	}
	return endpoints
}
