package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
	MaxAge      *int            `json:"maxAge,omitempty"`
	ACRValues   []string        `json:"acrValues,omitempty"`
	LoginHint   string          `json:"loginHint,omitempty"`
	UILocales   string          `json:"uiLocales,omitempty"`
	Claims      json.RawMessage `json:"claims,omitempty"`
	IDTokenHint string          `json:"idTokenHint,omitempty"`
	// Subjects is whom IDTokenHint is of.
	Subjects []string `json:"subjects,omitempty"`
	// KeyThumbprint is dpop_jkt, or that of the proof at the PAR endpoint.
	KeyThumbprint string `json:"jkt,omitempty"`
}

// single checks that no parameter is given twice (RFC 6749, 3.1). resource may be
// repeated (RFC 8707, 2), and so may audience (RFC 8693, 2.1).
func single(values url.Values) error {
	twice, found := "", false
	for name, given := range values {
		// Of several always the same one is named.
		if len(given) > 1 && name != "resource" && name != "audience" && (!found || name < twice) {
			twice, found = name, true
		}
	}
	if found {
		return invalidRequest("The parameter %.40s is given more than once.", twice)
	}
	return nil
}

// requestError is an error of an authorization request. It is told to the client if it is
// known where to, and to the person otherwise.
type requestError struct {
	err *Error
	// to is the request as far as it is known; nil: the person is told.
	to *request
	// client whose request it is, for the log; empty if that is not known.
	client string
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// hasType tells whether an answer has one of the parts of response_type.
func (r *request) hasType(part string) bool {
	return slices.Contains(strings.Fields(r.ResponseType), part)
}

// front tells whether tokens come from the authorization endpoint.
func (r *request) front() bool { return r.hasType("token") || r.hasType("id_token") }

// anybodys tells whether every program on a device could have sent the request and would
// get the answer: an app has no secret, and a port or a scheme of its own is none either.
// It is not answered before the person has agreed to it (RFC 6749, 10.2; RFC 8252, 8.6).
func (r *request) anybodys() bool {
	c := r.client
	return c.public() && c.ApplicationType == "native" && !c.Trusted && !strings.HasPrefix(r.RedirectURI, "https://")
}

func (r *request) has(scope string) bool { return slices.Contains(r.Scope, scope) }

func (r *request) prompts(prompt string) bool { return slices.Contains(r.Prompt, prompt) }

// clientOf finds the client of an authorization request. Whatever is wrong with it, only
// the person can be told.
func (p *Provider) clientOf(ctx context.Context, values url.Values) (*Client, error) {
	if len(values["client_id"]) > 1 {
		return nil, &requestError{err: invalidRequest("The parameter client_id is given more than once.")}
	}
	c, err := p.clients.get(ctx, values.Get("client_id"))
	if errors.Is(err, errUnknownClient) {
		return nil, &requestError{err: fail("invalid_client", "There is no client with this client_id.")}
	}
	if err != nil {
		return nil, err
	}
	if !c.allows(grantCode) && !c.allows(grantImplicit) {
		return nil, &requestError{client: c.ClientID, err: fail("unauthorized_client", "This client does not send people here to sign in.")}
	}
	return c, nil
}

// addressed reads as much of a request as an answer needs: where to, in which way, and
// the state. The person is told if it is not sure where to; all other errors can go to
// the client, in the way that it has asked for.
func (p *Provider) addressed(c *Client, values url.Values) (*request, error) {
	if len(values["redirect_uri"]) > 1 {
		return nil, &requestError{client: c.ClientID, err: invalidRequest("The parameter redirect_uri is given more than once.")}
	}
	uri, ok := c.redirectURI(values.Get("redirect_uri"))
	if !ok {
		return nil, &requestError{client: c.ClientID, err: invalidRequest("The redirect_uri is not one that this client has registered.")}
	}
	r := &request{client: c, GivenURI: values.Get("redirect_uri"), RedirectURI: uri}
	if state := values["state"]; len(state) == 1 && isText(state[0]) {
		r.State = state[0]
	}
	if types := values["response_type"]; len(types) == 1 && len(types[0]) <= 100 {
		r.ResponseType = sortedWords(types[0])
	}
	if modes := values["response_mode"]; len(modes) == 1 && r.modeProblem(modes[0]) == nil {
		r.ResponseMode = modes[0]
	}
	return r, nil
}

// modeProblem tells why the answer cannot be given in a response_mode; nil if it can.
func (r *request) modeProblem(mode string) *Error {
	way := strings.TrimSuffix(mode, ".jwt")
	switch {
	case mode == "":
	case !slices.Contains(responseModes, mode):
		return invalidRequest("The response_mode is not supported.")
	case r.front() && way == "query":
		// OAuth 2.0 Multiple Response Type Encoding Practices, 3 and 5.
		return invalidRequest("Tokens are not sent in a query.")
	case way == "form_post" && !strings.HasPrefix(r.RedirectURI, "https://") && !strings.HasPrefix(r.RedirectURI, "http://"):
		return invalidRequest("Nothing can be posted to this redirect_uri.")
	}
	return nil
}

// isText tells whether a value comes back as it was, also as a field of a form: UTF-8
// without control characters (RFC 6749, A.5 allows less).
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// parse checks an authorization request. Errors are *requestError, or of the store.
func (p *Provider) parse(ctx context.Context, values url.Values) (*request, error) {
	client, err := p.clientOf(ctx, values)
	if err != nil {
		return nil, err
	}
	r, err := p.addressed(client, values)
	if err != nil {
		return nil, err
	}
	if e := p.check(r, values); e != nil {
		return nil, &requestError{err: e, to: r}
	}
	return r, nil
}

// check looks at the parameters whose errors the client is told of.
func (p *Provider) check(r *request, values url.Values) *Error {
	c := r.client
	if err := single(values); err != nil {
		return asError(err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			if name == "claims" && utf8.ValidString(value) {
				continue // JSON may have line breaks
			}
			if !isText(value) {
				return invalidRequest("The parameter %.40s has characters that are not text.", name)
			}
		}
	}
	switch {
	case values.Get("response_type") == "":
		return invalidRequest("The response_type is missing.")
	case !slices.Contains(responseTypes(p.o.LegacyFlows), r.ResponseType) || !slices.Contains(c.sortedResponseTypes(), r.ResponseType),
		c.FAPI && r.ResponseType != "code":
		return fail("unsupported_response_type", "The response_type %.60s is not available to this client.", values.Get("response_type"))
	case r.hasType("code") && !c.allows(grantCode):
		return fail("unauthorized_client", "This client is not registered for authorization codes.")
	case c.FAPI && r.GivenURI == "":
		return invalidRequest("The redirect_uri is missing.") // FAPI 2.0 Security Profile, 5.3.2.2
	}
	if e := r.modeProblem(values.Get("response_mode")); e != nil {
		return e
	}
	return p.fill(r, values)
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
	// OpenID Connect Core, 11: ignored where no refresh token could come of it.
	if !r.hasType("code") || !c.allows(grantRefresh) {
		r.Scope = slices.DeleteFunc(r.Scope, func(s string) bool { return s == scopeOffline })
	}
	r.Nonce, r.LoginHint, r.UILocales, r.IDTokenHint = values.Get("nonce"), values.Get("login_hint"), values.Get("ui_locales"), values.Get("id_token_hint")
	r.ACRValues = strings.Fields(values.Get("acr_values"))
	if r.ACRValues == nil {
		r.ACRValues = c.DefaultACRValues
	}
	switch r.KeyThumbprint = values.Get("dpop_jkt"); {
	case r.KeyThumbprint != "" && !isSHA256(r.KeyThumbprint):
		return invalidRequest("The dpop_jkt is not the base64url encoding of a SHA-256.") // RFC 9449, 10
	case r.hasType("token") && (r.KeyThumbprint != "" || c.DPoPBoundAccessTokens):
		return invalidRequest("A token that is bound to a key does not come from this endpoint.")
	}

	switch method := values.Get("code_challenge_method"); {
	case values.Get("code_challenge") == "":
		if method != "" {
			return invalidRequest("There is a code_challenge_method, but no code_challenge.")
		}
		if r.hasType("code") && c.requiresPKCE() {
			return invalidRequest("The code_challenge is missing: PKCE with S256 is required (RFC 7636).")
		}
	case method != "S256":
		return invalidRequest("The code_challenge_method is not S256.")
	case !isSHA256(values.Get("code_challenge")):
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
		age, err := strconv.ParseUint(text, 10, 31)
		if errors.Is(err, strconv.ErrRange) {
			age, err = math.MaxInt32, nil // 68 years are as good as any longer time
		}
		if err != nil {
			return invalidRequest("The max_age is not a number of seconds.")
		}
		seconds := int(age)
		r.MaxAge = &seconds
	}
	if text := strings.TrimSpace(values.Get("claims")); text != "" {
		var e *Error
		if r.Claims, e = c.allowedClaims(text); e != nil {
			return e
		}
	}
	if essential := r.essentialACR(); essential != nil && len(intersect(essential, p.acrValues())) == 0 {
		return unmetACR()
	}
	if e := p.checkHints(r); e != nil {
		return e
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

// isSHA256 tells whether s is the base64url encoding of 32 bytes.
func isSHA256(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == sha256.Size && len(s) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// mayAsk tells whether the client may have a scope: all of them, unless its metadata
// names those that it may.
func (c *Client) mayAsk(scope string) bool {
	return c.Scope == "" || slices.Contains(strings.Fields(c.Scope), scope)
}

// tooOld tells whether a sign-in is older than the request allows. A max_age of 0 allows
// none, also if it was in this very moment (OpenID Connect Core, 3.1.2.1).
func (r *request) tooOld(authTime, now time.Time) bool {
	return r.MaxAge != nil && (*r.MaxAge == 0 || now.Sub(authTime) > time.Duration(*r.MaxAge)*time.Second)
}

// allowedClaims reads the claims parameter and leaves out what stands for a scope that
// the client may not ask for: it is no way around that.
func (c *Client) allowedClaims(text string) (json.RawMessage, *Error) {
	asked, err := parseClaims([]byte(text))
	if err != nil {
		return nil, invalidRequest("The claims parameter is not an object as OpenID Connect Core, 5.5, has it.")
	}
	for _, list := range []map[string]*claimRequest{asked.UserInfo, asked.IDToken} {
		maps.DeleteFunc(list, func(name string, _ *claimRequest) bool {
			scope := scopeOf(name)
			return scope != "" && !c.mayAsk(scope)
		})
	}
	var members struct {
		UserInfo map[string]*claimRequest `json:"userinfo,omitempty"`
		IDToken  map[string]*claimRequest `json:"id_token,omitempty"`
	}
	members.UserInfo, members.IDToken = asked.UserInfo, asked.IDToken
	raw, err := json.Marshal(members)
	if err != nil {
		return nil, asError(err)
	}
	return raw, nil
}

// scopeOf is the scope that a claim belongs to; empty if it comes with none.
func scopeOf(claim string) string {
	for _, scope := range scopes {
		if slices.Contains(scopeClaims[scope], claim) {
			return scope
		}
	}
	return ""
}

// checkHints looks at what the request says of the person whom it wants: whoever that is,
// one sub has to fit all of it.
func (p *Provider) checkHints(r *request) *Error {
	subjects := r.wantedSubjects()
	if r.IDTokenHint == "" {
		return nil
	}
	hinted, err := p.hintedSubject(r.client, r.IDTokenHint)
	if err != nil {
		return invalidRequest("The id_token_hint is not an ID Token that this client was given.")
	}
	if subjects != nil && !slices.Contains(subjects, hinted) {
		return invalidRequest("The id_token_hint is of somebody else than the claims parameter wants.")
	}
	r.Subjects = []string{hinted}
	return nil
}

// wants tells whether somebody may be signed in for the request: all may if it does not
// say whom it wants (OpenID Connect Core, 3.1.2.2, 3).
func (r *request) wants(subject string) bool {
	subjects := r.Subjects
	if subjects == nil {
		subjects = r.wantedSubjects()
	}
	return subjects == nil || slices.Contains(subjects, subject)
}

// wantedSubjects are the values of sub that the claims parameter asks the ID Token to
// have; nil if it does not.
func (r *request) wantedSubjects() []string {
	return r.wantedValues("sub", false)
}

// essentialACR are the classes of which the sign-in has to reach one; nil if any will do
// (OpenID Connect Core, 5.5.1.1).
func (r *request) essentialACR() []string {
	if r.client.RequireMFA {
		return []string{acrMulti} // whatever the request says
	}
	return r.wantedValues("acr", true)
}

// unmetACR: OpenID Connect Core Unmet Authentication Requirements 1.0.
func unmetACR() *Error {
	return fail("unmet_authentication_requirements", "None of the essential values of acr can be reached.")
}

// wantedValues are those of a claim in the ID Token, if there are any.
func (r *request) wantedValues(name string, essential bool) []string {
	asked, err := parseClaims(r.Claims)
	claim := asked.IDToken[name]
	if err != nil || claim == nil || essential && !claim.Essential || claim.Value == nil && claim.Values == nil {
		return nil
	}
	values := []string{}
	for _, v := range append([]any{claim.Value}, claim.Values...) {
		if text, ok := v.(string); ok {
			values = append(values, text)
		}
	}
	return values
}
