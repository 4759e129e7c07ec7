package web_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"login-server/credential"
)

// TestOpenAPICalls: calls are taken and answered as docs/openapi.yaml says, errors too.
func TestOpenAPICalls(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, withAccounts(`{"revealAccounts": true}`))
	// The answer to a call, and whether it and the call are as documented; good tells that the
	// call is.
	check := func(b *browser, good bool, method, path string, fields object, status int) answer {
		t.Helper()
		full, body := "/api/v1/"+path, ""
		if method == "POST" && path != "accounts/ticket" {
			text, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			body = string(text)
		}
		got := b.fetch(appOrigin, method, "api/v1/"+path, body).want(status)
		r, err := http.NewRequestWithContext(t.Context(), method, s.base+"api/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		item := doc.Paths.Value(full)
		if item == nil || item.GetOperation(method) == nil {
			t.Fatalf("%s %s is not documented", method, full)
		}
		input := &openapi3filter.RequestValidationInput{
			Request: r, Route: &routers.Route{Spec: doc, Path: full, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		}
		if good {
			if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
				t.Errorf("%s %s is not to be called like this: %v", method, full, err)
			}
		}
		if err := openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: got.status, Header: got.header, Body: io.NopCloser(bytes.NewReader([]byte(got.body))),
			Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
		}); err != nil {
			t.Errorf("%s %s does not answer as docs/openapi.yaml says: %v", method, full, err)
		}
		return got
	}
	b := s.browser()
	check(b, true, "GET", "session", nil, 200)
	check(b, true, "GET", "nonce", nil, 200)
	check(b, true, "GET", "accounts/policy", nil, 200)
	check(b, true, "DELETE", "session", nil, 204)
	check(b, true, "DELETE", "sessions", nil, 401)
	check(b, true, "POST", "accounts/ticket", nil, 401)
	check(b, false, "POST", "accounts", object{"email": "ada@example.org", "admin": true}, 400)
	check(b, false, "POST", "accounts", object{"email": "ada@example.org"}, 403)
	check(b, true, "POST", "accounts", object{"email": "ada", "password": adasPassword, "challenge": b.solved("signup")}, 422)
	pending := check(b, true, "POST", "accounts", object{"email": "ada@example.org", "password": adasPassword, "name": "Ada", "challenge": b.solved("signup")}, 202).told().Pending
	check(b, true, "POST", "accounts/resend", object{"pending": pending}, 429)
	check(b, true, "POST", "accounts/verify", object{"pending": pending, "code": "x"}, 403)
	check(b, true, "POST", "accounts/verify", object{"pending": "x", "code": "x"}, 404)
	signed := check(b, true, "POST", "accounts/verify", object{"pending": pending, "code": s.code("ada@example.org")}, 200).told().Token
	check(b, true, "GET", "session", nil, 200)
	check(b, true, "POST", "token/check", object{"token": signed}, 200)
	check(b, true, "POST", "token/check", object{"token": "x"}, 200)
	check(b, true, "POST", "token/check", object{"token": "x.y"}, 422)
	check(b, true, "POST", "accounts/ticket", nil, 200)
	check(b, true, "POST", "accounts/exists", object{"email": "ada@example.org", "challenge": b.solved("exists")}, 200)
	check(b, true, "POST", "accounts/password", object{"current": "x", "new": "looms of another century"}, 422)
	check(b, true, "POST", "accounts/password", object{"current": adasPassword, "new": "looms of another century"}, 204)
	check(b, true, "POST", "session", object{"email": "ada@example.org", "password": "x"}, 401)
	check(b, true, "POST", "session", object{"email": "ada@example.org", "password": "looms of another century", "link": false}, 200)
	pending = check(b, true, "POST", "accounts/reset", object{"email": "ada@example.org", "challenge": b.solved("reset")}, 202).told().Pending
	key := check(b, true, "POST", "accounts/reset/complete", object{"pending": pending, "code": s.code("ada@example.org"), "password": "x"}, 422).told().Link
	check(b, true, "POST", "accounts/reset/complete", object{"link": key, "password": adasPassword}, 200)

	c, err := s.credentials.ByEmail(t.Context(), "ada@example.org")
	if err != nil {
		t.Fatal(err)
	}
	codes, _, err := s.credentials.RenewRecovery(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.credentials.Update(t.Context(), c.ID, func(c *credential.Credential) error {
		c.TOTP, c.TwoStep = &credential.TOTP{Secret: "sealed", Added: s.clock.Now()}, true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	check(b, true, "DELETE", "sessions", nil, 204)
	step := check(b, true, "POST", "session", object{"email": "ada@example.org", "password": adasPassword}, 401).told().Step
	check(b, true, "POST", "session/factor", object{"step": step, "factor": "sms", "send": true}, 422)
	check(b, true, "POST", "session/factor", object{"step": step, "factor": "recovery", "code": "x"}, 403)
	check(b, true, "POST", "session/factor", object{"step": step, "factor": "recovery", "code": codes[0]}, 200)
	check(b, true, "POST", "session/factor", object{"step": step, "factor": "recovery", "code": codes[1]}, 400)
}
