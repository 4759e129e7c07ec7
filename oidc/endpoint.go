package oidc

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// maxForm is how many bytes a request to one of our endpoints may have.
const maxForm = 64 << 10

const formType = "application/x-www-form-urlencoded"

// endpoint makes a handler of what returns the value to answer, as JSON that is not kept
// anywhere, or an error of the protocol.
func (p *Provider) endpoint(handle func(r *http.Request, form url.Values) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		form, err := readForm(r)
		var value any
		if err == nil {
			value, err = handle(r, form)
		}
		if err != nil {
			p.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, value)
	}
}

// readForm reads the parameters of a POST: in the body, once each (RFC 6749, 3.2).
func readForm(r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != formType {
		return nil, invalidRequest("The body is not application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil || len(body) > maxForm {
		return nil, &Error{Code: "invalid_request", Description: "The request is too large.", Status: http.StatusRequestEntityTooLarge}
	}
	form, err := url.ParseQuery(string(body))
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

// fail answers with an error (RFC 6749, 5.2).
func (p *Provider) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	if e.status() >= 500 {
		p.o.Log.Log(r.Context(), slog.LevelError, "OAuth endpoint failed", "path", r.URL.Path, "err", err)
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

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
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
