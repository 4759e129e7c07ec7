package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is an authorization request (RFC 6749, 4.1.1; OpenID Connect Core, 3.1.2.1)
// that has been checked as far as it can be without knowing who is there.
type request struct {
	client *Client

	ResponseType string   `json:"responseType"`
	ResponseMode string   `json:"responseMode,omitempty"` // as asked for
	RedirectURI  string   `json:"redirectUri"`
	GivenURI     string   `json:"givenUri,omitempty"` // redirect_uri as given: empty if it was left out
	Scope        []string `json:"scope"`
	Resources    []string `json:"resources,omitempty"`
	State        string   `json:"state,omitempty"`
	Nonce        string   `json:"nonce,omitempty"`
	Challenge    string   `json:"challenge,omitempty"`
	Prompt       []string `json:"prompt,omitempty"`
	// MaxAge is in seconds; nil if it was not asked for.
	MaxAge        *int            `json:"maxAge,omitempty"`
	ACRValues     []string        `json:"acrValues,omitempty"`
	LoginHint     string          `json:"loginHint,omitempty"`
	UILocales     string          `json:"uiLocales,omitempty"`
	Claims        json.RawMessage `json:"claims,omitempty"`
	IDTokenHint   string          `json:"idTokenHint,omitempty"`
	KeyThumbprint string          `json:"jkt,omitempty"`
}

// parameters of a request that may be given once each (RFC 6749, 3.1). resource may be
// repeated (RFC 8707, 2).
func single(values url.Values) error {
	for name, list := range values {
		if len(list) > 1 && name != "resource" && name != "audience" {
			return invalidRequest("The parameter %.40s is given more than once.", name)
		}
	}
	return nil
}

// requestError is an error of an authorization request. It is told to the client if it is
// known where to, and to the person otherwise.
type requestError struct {
	err *Error
	// to is the request as far as it is known; nil: the person is told.
	to *request
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// hasType tells whether an answer has one of the parts of response_type.
func (r *request) hasType(part string) bool {
	return slices.Contains(strings.Fields(r.ResponseType), part)
}

// front tells whether tokens come from the authorization endpoint.
func (r *request) front() bool { return r.ResponseType != "code" }

func (r *request) has(scope string) bool { return slices.Contains(r.Scope, scope) }

func (r *request) prompts(prompt string) bool { return slices.Contains(r.Prompt, prompt) }

// parse checks an authorization request. Errors are *requestError, or of the store.
func (p *Provider) parse(ctx context.Context, values url.Values) (*request, error) {
	person := func(e *Error) error { return &requestError{err: e} }
	if err := single(values); err != nil {
		return nil, person(asError(err))
	}
	client, err := p.clients.get(ctx, values.Get("client_id"))
	if errors.Is(err, errUnknownClient) {
		return nil, person(fail("invalid_client", "There is no client with this client_id."))
	}
	if err != nil {
		return nil, err
	}
	if !client.allows(grantCode) && !client.allows(grantImplicit) {
		return nil, person(fail("unauthorized_client", "This client does not send people here to sign in."))
	}
	r := &request{client: client, GivenURI: values.Get("redirect_uri"), State: values.Get("state"), ResponseMode: values.Get("response_mode")}
	uri, ok := client.redirectURI(r.GivenURI)
	if !ok {
		return nil, person(invalidRequest("The redirect_uri is not one that this client has registered."))
	}
	r.RedirectURI = uri
	told := func(e *Error) error { return &requestError{err: e, to: r} }

	// From here on the client can be told, in the way that it has asked for.
	r.ResponseType = sortedWords(values.Get("response_type"))
	known := responseTypes(p.o.LegacyFlows)
	switch {
	case r.ResponseType == "":
		r.ResponseType, r.ResponseMode = "code", ""
		return nil, told(invalidRequest("The response_type is missing."))
	case !slices.Contains(known, r.ResponseType) || !slices.Contains(client.sortedResponseTypes(), r.ResponseType):
		unknown := r.ResponseType
		r.ResponseType, r.ResponseMode = "code", ""
		return nil, told(fail("unsupported_response_type", "The response_type %.60s is not available to this client.", unknown))
	}
	if !slices.Contains(responseModes, r.ResponseMode) && r.ResponseMode != "" {
		r.ResponseMode = ""
		return nil, told(invalidRequest("The response_mode is not supported."))
	}
	if r.front() && strings.TrimSuffix(r.ResponseMode, ".jwt") == "query" {
		r.ResponseMode = ""
		return nil, told(invalidRequest("Tokens are not sent in a query."))
	}
	if e := p.fill(r, values); e != nil {
		return nil, told(e)
	}
	return r, nil
}

func (c *Client) sortedResponseTypes() []string {
	types := make([]string, len(c.ResponseTypes))
	for i, t := range c.ResponseTypes {
		types[i] = sortedWords(t)
	}
	return types
}

// fill reads the parameters whose errors the client is told of.
func (p *Provider) fill(r *request, values url.Values) *Error {
	c := r.client
	for _, name := range strings.Fields(values.Get("scope")) {
		// Scopes that are not known are ignored (RFC 6749, 3.3).
		if slices.Contains(scopes, name) && !slices.Contains(r.Scope, name) && c.mayAsk(name) {
			r.Scope = append(r.Scope, name)
		}
	}
	r.Nonce, r.LoginHint, r.UILocales, r.IDTokenHint = values.Get("nonce"), values.Get("login_hint"), values.Get("ui_locales"), values.Get("id_token_hint")
	r.ACRValues = strings.Fields(values.Get("acr_values"))
	if r.ACRValues == nil {
		r.ACRValues = c.DefaultACRValues
	}
	r.KeyThumbprint = values.Get("dpop_jkt")

	switch method := values.Get("code_challenge_method"); {
	case values.Get("code_challenge") == "":
		if method != "" {
			return invalidRequest("There is a code_challenge_method, but no code_challenge.")
		}
		if r.hasType("code") {
			return invalidRequest("The code_challenge is missing: PKCE with S256 is required (RFC 7636).")
		}
	case method != "S256":
		return invalidRequest("The code_challenge_method is not S256.")
	case !isChallenge(values.Get("code_challenge")):
		return invalidRequest("The code_challenge is not the base64url encoding of a SHA-256.")
	}
	r.Challenge = values.Get("code_challenge")

	if r.hasType("id_token") && !r.has(scopeOpenID) {
		return fail("invalid_scope", "An ID Token needs the scope openid.")
	}
	if r.hasType("id_token") && r.Nonce == "" {
		return invalidRequest("The nonce is missing.")
	}
	r.Prompt = strings.Fields(values.Get("prompt"))
	for _, prompt := range r.Prompt {
		if !slices.Contains(prompts, prompt) {
			return invalidRequest("The prompt %.20s is not supported.", prompt)
		}
		if prompt == "none" && len(r.Prompt) > 1 {
			return invalidRequest("The prompt none stands beside others.")
		}
	}
	r.MaxAge = c.DefaultMaxAge
	if text := values.Get("max_age"); text != "" {
		age, err := strconv.Atoi(text)
		if err != nil || age < 0 {
			return invalidRequest("The max_age is not a number of seconds.")
		}
		r.MaxAge = &age
	}
	if text := values.Get("claims"); text != "" {
		if _, err := parseClaims([]byte(text)); err != nil {
			return invalidRequest("The claims parameter is not an object as OpenID Connect Core, 5.5, has it.")
		}
		r.Claims = json.RawMessage(text)
	}
	for _, resource := range values["resource"] {
		u, err := url.Parse(resource)
		if err != nil || !u.IsAbs() || strings.Contains(resource, "#") || !slices.Contains(c.Resources, resource) {
			return fail("invalid_target", "A resource is not one that this client may use.")
		}
		if !slices.Contains(r.Resources, resource) {
			r.Resources = append(r.Resources, resource)
		}
	}
	return nil
}

var prompts = []string{"none", "login", "consent", "select_account"}

// isChallenge tells whether s can be the base64url encoding of 32 bytes.
func isChallenge(s string) bool {
	return len(s) == 43 && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	})
}

// mayAsk tells whether the client may have a scope: all of them, unless its metadata
// names those that it may.
func (c *Client) mayAsk(scope string) bool {
	return c.Scope == "" || slices.Contains(strings.Fields(c.Scope), scope)
}

// tooOld tells whether a sign-in is older than the request allows.
func (r *request) tooOld(authTime, now time.Time) bool {
	return r.MaxAge != nil && now.Sub(authTime) > time.Duration(*r.MaxAge)*time.Second
}
