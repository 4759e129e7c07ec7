package web

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/oidc"
	"login-server/session"
	"login-server/token"
)

// The JSON API below /api/v1 is for applications with forms of their own. Calls take a JSON
// object, in plain or encrypted, and answer with one. They come from allowed origins, with the
// person's cookie, or from programs without any. What it does to accounts, pages do by the same
// rules: those are package accounts'.

const (
	// apiBase is where the paths of the API begin.
	apiBase = "/api/v1/"
	// maxCall is how many bytes the body of a call may have.
	maxCall = 64 << 10
)

func (s *Server) mountAPI(r chi.Router) {
	r.Get("/api/v1/nonce", s.api(s.nonce))
	r.Post("/api/v1/token/check", call(s, s.checkToken))
	r.Get("/api/v1/session", s.api(s.apiSession))
	r.Delete("/api/v1/session", s.api(s.apiSignOut))
	r.Delete("/api/v1/sessions", s.api(s.apiSignOutEverywhere))
	r.Post("/api/v1/session", call(s, s.apiSignIn))
	r.Post("/api/v1/session/factor", call(s, s.apiFactor))
	r.Post("/api/v1/accounts", call(s, s.apiSignUp))
	r.Post("/api/v1/accounts/verify", call(s, s.apiVerify))
	r.Post("/api/v1/accounts/resend", call(s, s.apiResend))
	r.Post("/api/v1/accounts/reset", call(s, s.apiReset))
	r.Post("/api/v1/accounts/reset/complete", call(s, s.apiCompleteReset))
	r.Post("/api/v1/accounts/password", call(s, s.apiPassword))
	r.Post("/api/v1/accounts/exists", call(s, s.apiExists))
	r.Get("/api/v1/accounts/policy", s.api(s.apiPolicy))
	r.Post("/api/v1/accounts/ticket", s.api(s.apiTicket))
}

// isCallPath tells whether a path is one of the API.
func isCallPath(path string) bool { return strings.HasPrefix(path, apiBase) }

// call makes an http.HandlerFunc of a call whose fields are a T.
func call[T any](s *Server, h func(w http.ResponseWriter, r *http.Request, fields T) error) http.HandlerFunc {
	return s.api(func(w http.ResponseWriter, r *http.Request) error {
		var fields T
		if err := s.readCall(w, r, &fields); err != nil {
			return err
		}
		return h(w, r, fields)
	})
}

// Errors of calls.
var (
	errMediaType = &Error{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "The body of a call is application/json."}
	errJWE       = &Error{Status: http.StatusBadRequest, Code: "jwe_refused", Message: "What was encrypted cannot be taken: it needs RSA-OAEP-256 and A256GCM, in the compact form, and nothing else in the header but kid, typ and cty."}
	errUnknown   = &Error{Status: http.StatusBadRequest, Code: "jwe_key", Message: "What was encrypted is for a key that this server does not have any more. Please get the key set again."}
	errAudience  = &Error{Status: http.StatusBadRequest, Code: "jwe_audience", Message: "What was encrypted is for another call: aud has to be its URL."}
	errNonce     = &Error{Status: http.StatusBadRequest, Code: "jwe_nonce", Message: "The nonce is unknown, too old, or was used before. Please get another one."}
	errTime      = &Error{Status: http.StatusBadRequest, Code: "jwe_time", Message: "What was encrypted is too old, or of the future: iat has to be the time that came with the nonce."}
)

// readCall reads the fields of a call, as they are or out of {"jwe": "…"}.
func (s *Server) readCall(w http.ResponseWriter, r *http.Request, into any) error {
	// A form of another site cannot have this type; a script there has to ask first.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return errMediaType
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	if err != nil {
		return badRequest("The request could not be read.", err)
	}
	members, err := membersOf(body)
	if err != nil {
		return err
	}
	if len(members) == 1 && members[0] == "jwe" {
		var encrypted struct {
			JWE string `json:"jwe"`
		}
		if err := readObject(body, &encrypted); err != nil {
			return err
		}
		if body, err = s.decryptCall(r, encrypted.JWE); err != nil {
			return err
		}
	}
	return readObject(body, into)
}

// envelope is what an encrypted call has beside its fields.
type envelope struct {
	// Audience is the URL of the call, so that what was meant for one is worth nothing for
	// another, nor at another server.
	Audience string `json:"aud"`
	// Nonce is that of GET /api/v1/nonce, and IssuedAt a time in Unix seconds, such as came with
	// it.
	Nonce    string `json:"nonce"`
	IssuedAt int64  `json:"iat"`
}

// decryptCall returns the fields that a JWE holds, once. It is counted by address: each costs
// a computation with the private key, and a write.
func (s *Server) decryptCall(r *http.Request, jwe string) ([]byte, error) {
	if err := count(r.Context(), s.limits.departures, "jwe "+session.Network(clientAddress(r))); err != nil {
		return nil, err
	}
	plain, err := s.Tokens.Decrypt(jwe)
	switch {
	case errors.Is(err, token.ErrUnknownKey):
		return nil, errUnknown
	case errors.Is(err, token.ErrInvalid):
		return nil, errJWE
	case err != nil:
		return nil, err
	}
	if _, err := membersOf(plain); err != nil {
		return nil, err
	}
	members, own := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(plain, &members); err != nil {
		return nil, badRequest("What was encrypted is not a JSON object.", nil)
	}
	for _, name := range fieldNames(&envelope{}) {
		if value, ok := members[name]; ok {
			own[name] = value
		}
	}
	maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool { return own[name] != nil })
	outer, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	var e envelope
	if err := readObject(outer, &e); err != nil {
		return nil, err
	}
	now := s.Clock.Now()
	age := now.Sub(time.Unix(e.IssuedAt, 0))
	switch {
	case e.Audience != s.callURL(r):
		return nil, errAudience
	case age > token.NonceLife+token.Leeway || age < -token.Leeway:
		return nil, errTime
	}
	if err := s.nonces.Spend(r.Context(), e.Nonce); errors.Is(err, token.ErrInvalid) {
		return nil, errNonce
	} else if err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// callURL is the URL of a call, as applications know it.
func (s *Server) callURL(r *http.Request) string {
	return s.Config.Origin() + s.path(strings.Trim(r.URL.Path, "/"))
}

// nonce serves GET /api/v1/nonce. It writes nothing.
func (s *Server) nonce(w http.ResponseWriter, r *http.Request) error {
	if _, ok := s.Providers.Local(); !ok {
		return errNoLocal
	}
	key, err := s.Tokens.EncryptionKeyID(r.Context())
	if err != nil {
		return err
	}
	nonce, err := s.nonces.Issue()
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{
		"nonce": nonce, "time": s.Clock.Now().Unix(), "expiresIn": int(token.NonceLife / time.Second),
		"kid": key, "jwksUri": s.Config.Origin() + s.path(strings.TrimPrefix(oidc.PathJWKS, "/")),
	})
}

// tokenToCheck are the fields of POST /api/v1/token/check.
type tokenToCheck struct {
	Token string `json:"token"`
}

// checkToken serves POST /api/v1/token/check. Whoever has the token may ask: they learn
// whether it is in force, and nothing that does not stand in it.
func (s *Server) checkToken(w http.ResponseWriter, r *http.Request, fields tokenToCheck) error {
	checked, err := s.openid.Check(r.Context(), fields.Token)
	if errors.Is(err, oidc.ErrOpaque) {
		return &Error{Status: http.StatusUnprocessableEntity, Code: "opaque_token", Message: "This token says nothing itself. Clients ask the introspection endpoint.", Field: "token"}
	}
	if err != nil {
		return err
	}
	return writeJSON(w, checked)
}
