package oidc

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/session"
	"login-server/token"
)

// step is the outcome of an authorization request.
func (h *house) step(request url.Values, who *Person) Step {
	h.Helper()
	step, err := h.Authorize(h.Context(), request, who)
	if err != nil {
		h.Fatal(err)
	}
	return step
}

func (h *house) resume(id string, who *Person) Step {
	h.Helper()
	step, err := h.Resume(h.Context(), id, who)
	if err != nil {
		h.Fatal(err)
	}
	return step
}

func (h *house) decide(id string, task Task, allow bool, who *Person) Step {
	h.Helper()
	step, err := h.Decide(h.Context(), id, task, allow, who)
	if err != nil {
		h.Fatal(err)
	}
	return step
}

// asked wants a question, and returns it.
func (h *house) asked(step Step, task Task) *Ask {
	h.Helper()
	if step.Ask == nil || step.Ask.Task != task {
		h.Fatalf("got %+v, want the question %d", step, task)
	}
	return step.Ask
}

// told wants an error that the client is told of, and returns the parameters.
func (h *house) told(step Step, code string) url.Values {
	h.Helper()
	v := h.parameters(step)
	if v.Get("error") != code {
		h.Errorf("got %v, want the error %s", v, code)
	}
	return v
}

// refused wants an error that the person is told of.
func (h *house) refused(step Step, code string) {
	h.Helper()
	if step.Refuse == nil || step.Refuse.Code != code || step.Answer != nil || step.Ask != nil {
		h.Errorf("got %+v, %v, want the page %s", step.Answer, step.Refuse, code)
	}
}

// again is the person after signing in once more, as somebody may do between two steps.
func (h *house) again(who *Person) *Person {
	next := *who
	next.Session.AuthTime, next.Session.SignIn = h.clock.Now(), random()
	return &next
}

const (
	secondClient = `{"client_id": "other", "name": "Other", "url": "https://other.example.org/", "client_secret": "` + secret + `",
		"redirect_uris": ["https://other.example.org/cb", "https://other.example.org/cb2?a=b"]}`
	nativeClient = `{"client_id": "native", "name": "Native", "url": "https://native.example.org/", "token_endpoint_auth_method": "none",
		"application_type": "native", "trusted": true, "redirect_uris": ["http://127.0.0.1/cb", "http://[::1]:9/cb?x=1", "org.example.native:/cb"]}`
	askingClient = `{"client_id": "asking", "name": "Asking", "url": "https://asking.example.org/", "client_secret": "` + secret + `",
		"redirect_uris": ["https://app.example.org/cb"]}`
)

// legacy switches the response types on that OIDC_LEGACY_FLOWS has, and registers a client
// for all of them.
func (h *house) legacy(client string) {
	h.o.LegacyFlows, h.clients.o.LegacyFlows = true, true
	c := h.clients.listed[client]
	c.ResponseTypes, c.GrantTypes = responseTypes(true), append(slices.Clone(c.GrantTypes), grantImplicit)
}

func TestRule03DescriptionCharacters(t *testing.T) {
	h := newHouse(t, webClient)
	for _, evil := range []string{"\"quoted\"", `back\slash`, "<script>alert(1)</script>", "line\r\nbreak", "ünïcode", "\x00", strings.Repeat("x", 5000)} {
		for _, name := range []string{"response_type", "prompt", "response_mode", "max_age", "claims", "code_challenge_method", evil} {
			request := ask("app", name, evil)
			if name == evil {
				request[name] = []string{"a", "b"}
			}
			step := h.step(request, nil)
			description := ""
			if step.Refuse != nil {
				description = step.Refuse.Description
			} else {
				description = h.parameters(step).Get("error_description")
			}
			if description == "" || len(description) > 300 || strings.ContainsFunc(description, func(r rune) bool {
				return r < 0x20 || r > 0x7e || r == '"' || r == '\\'
			}) {
				t.Errorf("%s=%.20q: error_description is %q", name, evil, description)
			}
		}
	}
}

func TestRule04ErrorsCarryNothingElse(t *testing.T) {
	h := newHouse(t, webClient)
	h.legacy("app")
	who := h.person("ada")
	states := []string{"x", strings.Repeat("s", 128), strings.Repeat("long ", 20_000), `a"b'c<d>&e=f;g+h %20 ü €/?#`}
	for _, state := range states {
		for _, mode := range responseModes {
			for name, request := range map[string]url.Values{
				"login_required": ask("app", "prompt", "none"), "invalid_request": ask("app", "prompt", "unknown"), "invalid_target": ask("app", "resource", "https://r"),
			} {
				request.Set("state", state)
				request.Set("response_mode", mode)
				v := h.told(h.step(request, nil), codeOf(mode, name))
				if strings.HasSuffix(mode, "jwt") {
					if len(v) != 1 {
						t.Errorf("%s: beside the JWT stands %v", mode, v)
					}
					v = inside(t, v.Get("response"))
					v.Del("aud")
					v.Del("exp")
				}
				if names := slices.Sorted(maps.Keys(v)); !slices.Equal(names, []string{"error", "error_description", "iss", "state"}) || v.Get("state") != state || v.Get("iss") != issuer || v.Get("error") != name {
					t.Errorf("%s, %s: got %.300v", mode, name, v)
				}
			}
		}
		if got := h.answered(ask("app", "state", state), who).Get("state"); got != state {
			t.Errorf("state %.40q came back as %.40q", state, got)
		}
	}
	if v := h.answered(ask("app", "state", ""), who); v.Has("state") {
		t.Error("a state that was not given is answered")
	}
	// What would not come back as it was does not come back at all.
	for _, state := range []string{"a\nb", "a\x00b", "\xff\xfe"} {
		if v := h.told(h.step(ask("app", "state", state), who), "invalid_request"); v.Has("state") {
			t.Errorf("state %q came back as %q", state, v.Get("state"))
		}
	}
}

// codeOf is the error outside of a JWT.
func codeOf(mode, code string) string {
	if strings.HasSuffix(mode, "jwt") {
		return ""
	}
	return code
}

// inside are the parameters in the JWT of a response mode that ends in jwt.
func inside(t *testing.T, jwt string) url.Values {
	t.Helper()
	v := url.Values{}
	for name, value := range claims(t, jwt) {
		text, _ := value.(string)
		v.Set(name, text)
	}
	return v
}

func TestRule05Issuer(t *testing.T) {
	h := newHouse(t, webClient)
	if v := h.answered(ask("app"), h.person("ada")); v.Get("iss") != issuer || v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
}

func TestRule06ResponseModes(t *testing.T) {
	h := newHouse(t, webClient)
	h.legacy("app")
	who := h.person("ada")
	tests := []struct{ responseType, mode, where string }{
		{"code", "", "?"}, {"code", "query", "?"}, {"code", "fragment", "#"}, {"code", "form_post", "post"},
		{"code", "jwt", "?response="}, {"code", "query.jwt", "?response="}, {"code", "fragment.jwt", "#response="}, {"code", "form_post.jwt", "post"},
		{"id_token", "", "#"}, {"id_token", "form_post", "post"}, {"code id_token", "fragment", "#"}, {"id_token token", "jwt", "#response="},
		// What cannot be is told where it does no harm.
		{"id_token", "query", "#error="}, {"id_token", "query.jwt", "#error="}, {"code", "web_message", "?error="},
	}
	for _, tc := range tests {
		for _, prompt := range []string{"", "none"} {
			person := who
			if prompt == "none" {
				person = nil // errors go the same way
			}
			step := h.step(ask("app", "response_type", tc.responseType, "response_mode", tc.mode, "prompt", prompt), person)
			a := step.Answer
			if a == nil {
				t.Fatalf("%v: %+v", tc, step)
			}
			if a.Post != (tc.where == "post") || a.Post && a.URL != "https://app.example.org/cb" ||
				!a.Post && !strings.HasPrefix(a.URL, "https://app.example.org/cb"+tc.where) {
				t.Errorf("%v with prompt %q: %.120s, %v", tc, prompt, a.URL, a.Post)
			}
		}
	}
	signed := h.parameters(h.step(ask("app", "response_mode", "jwt"), who)).Get("response")
	c := claims(t, signed)
	if c["iss"] != issuer || c["aud"] != "app" || c["exp"] != float64(start.Add(jarmLife).Unix()) || c["code"] == nil || c["state"] != "the state" {
		t.Errorf("JARM: %v", c)
	}
	if _, err := h.tokens.VerifyJWT(signed, "JWT"); err != nil {
		t.Errorf("JARM: %v", err)
	}
	// A custom scheme has nobody to post to.
	native := newHouse(t, nativeClient)
	native.told(native.step(ask("native", "redirect_uri", "org.example.native:/cb", "response_mode", "form_post"), nil), "invalid_request")
}

func TestRule11Parameters(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	for name, value := range map[string]string{
		"foo": "bar", "display": "popup", "ui_locales": "xx-YY zz", "claims_locales": "de", "login_hint": "nobody@example.org",
		"acr_values": "urn:unknown 99", "scope": "profile unknown openid email", "nonce": "",
	} {
		if v := h.answered(ask("app", name, value), who); v.Get("code") == "" {
			t.Errorf("%s=%s: %v", name, value, v)
		}
	}
	for name := range ask("app", "foo", "bar", "prompt", "login") {
		request := ask("app", "foo", "bar", "prompt", "login")
		request.Add(name, request.Get(name))
		step := h.step(request, who)
		if name == "client_id" || name == "redirect_uri" {
			h.refused(step, "invalid_request")
			continue
		}
		if v := h.told(step, "invalid_request"); name == "state" && v.Has("state") {
			t.Error("one of two states came back")
		}
	}
	h.refused(h.step(ask("app", "client_id", "nobody"), who), "invalid_client")
	h.refused(h.step(ask("app", "client_id", ""), who), "invalid_client")
	for name, value := range map[string]string{
		"prompt": "none login", "max_age": "-1", "claims": "[]", "dpop_jkt": "short", "id_token_hint": "not.a.token",
	} {
		h.told(h.step(ask("app", name, value), who), "invalid_request")
	}
}

func TestRule12ACR(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	acr := func(changes ...string) any {
		got := h.redeem("app:"+secret, h.answered(ask("app", changes...), who).Get("code")).want(t, 200, "")
		return claims(t, got.text("id_token"))["acr"]
	}
	if got := acr("acr_values", "99 1"); got != "1" {
		t.Errorf("acr is %v", got)
	}
	if got := acr("claims", `{"id_token": {"acr": {"essential": true, "values": ["7", "1"]}}}`); got != "1" {
		t.Errorf("acr is %v", got)
	}
	if got := acr("claims", `{"id_token": {"acr": {"values": ["7"]}}}`); got != "1" {
		t.Errorf("a voluntary acr: %v", got)
	}
	for _, claim := range []string{`{"essential": true, "value": "7"}`, `{"essential": true, "values": ["7", "8"]}`, `{"essential": true, "values": []}`} {
		// Nobody is asked for what no sign-in can reach.
		h.told(h.step(ask("app", "claims", `{"id_token": {"acr": `+claim+`}}`), nil), "unmet_authentication_requirements")
	}
}

// able lets everybody give a second factor, but for those who are named.
func (h *house) able(others ...string) {
	h.o.HasFactor = func(_ context.Context, a identity.Account) (bool, error) { return !slices.Contains(others, a.ID), nil }
}

// elevated is the person after giving a second factor in the same session.
func elevated(who *Person, now time.Time) *Person {
	next := *who
	next.Session.Methods, next.Session.Elevated = append(slices.Clone(who.Session.Methods), "otp", session.MethodMFA), now
	return &next
}

func TestRule12StepUp(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	ada, ben := h.person("ada"), h.person("ben")
	h.able(ben.Account.ID)
	both := elevated(ada, h.clock.Now())
	acr := func(who *Person, changes ...string) (acr, amr any) {
		got := claims(t, h.redeem("app:"+secret, h.answered(ask("app", changes...), who).Get("code")).want(t, 200, "").text("id_token"))
		return got["acr"], got["amr"]
	}
	const essential = `{"id_token": {"acr": {"essential": true, "values": ["2"]}}}`
	// What the request insists on is asked of everybody, with the session they have.
	for _, who := range []*Person{ada, ben} {
		if q := h.asked(h.step(ask("app", "claims", essential), who), StepUp); q.Fresh || !q.MultiFactor {
			t.Errorf("%+v: a session need not begin anew for a second factor", q)
		}
		h.told(h.step(ask("app", "claims", essential, "prompt", "none"), who), "login_required")
	}
	// To sign in once more is no answer, a second factor is.
	q := h.asked(h.step(ask("app", "claims", essential), ada), StepUp)
	h.clock.Advance(time.Second)
	h.asked(h.resume(q.Interaction, h.again(ada)), StepUp)
	if v := h.parameters(h.resume(q.Interaction, both)); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
	// What is only preferred is asked of who can give it, where somebody may be asked.
	h.asked(h.step(ask("app", "acr_values", "99 2 1"), ada), StepUp)
	for _, changes := range [][]string{{"acr_values", "1 2"}, {"acr_values", "2", "prompt", "none"}} {
		if got, _ := acr(ada, changes...); got != "1" {
			t.Errorf("%v: acr is %v", changes, got)
		}
	}
	if got, _ := acr(ben, "acr_values", "2"); got != "1" {
		t.Errorf("acr is %v of who has no second factor", got)
	}
	// Two factors are one as well, for who insists on that.
	for want, claim := range map[string]string{"2": essential, "1": strings.Replace(essential, "2", "1", 1)} {
		got, amr := acr(both, "claims", claim)
		if got != want || !slices.Contains(amr.([]any), any(session.MethodMFA)) {
			t.Errorf("acr %v, amr %v, want acr %s", got, amr, want)
		}
	}
	// A factor is no sign-in: it does not do for prompt=login.
	q = h.asked(h.step(ask("app", "prompt", "login"), ada), SignIn)
	h.clock.Advance(time.Second)
	h.asked(h.resume(q.Interaction, elevated(ada, h.clock.Now())), SignIn)
	if got := h.metadata()["acr_values_supported"]; !slices.Equal(got.([]string), []string{"1", "2"}) {
		t.Errorf("acr_values_supported: %v", got)
	}
}

func TestRequireMFA(t *testing.T) {
	h := newHouse(t, strings.Replace(webClient, `"trusted": true`, `"trusted": true, "require_mfa": true`, 1))
	h.able()
	ada := h.person("ada")
	for _, changes := range [][]string{nil, {"acr_values", "1"}, {"claims", `{"id_token": {"acr": {"essential": true, "values": ["1"]}}}`}} {
		h.asked(h.step(ask("app", changes...), ada), StepUp)
		h.told(h.step(ask("app", append([]string{"prompt", "none"}, changes...)...), ada), "login_required")
	}
	if v := h.answered(ask("app"), elevated(ada, h.clock.Now())); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
	// Where nobody can have a second factor nobody is asked.
	h.o.HasFactor = nil
	h.told(h.step(ask("app"), ada), "unmet_authentication_requirements")
}

func TestRule13ResponseType(t *testing.T) {
	h := newHouse(t, webClient)
	for _, tc := range []struct{ responseType, mode, where, code string }{
		{"", "", "?", "invalid_request"}, {"", "fragment", "#", "invalid_request"}, {"none", "", "?", "unsupported_response_type"},
		{"magic", "", "?", "unsupported_response_type"}, {"token", "", "#", "unsupported_response_type"}, {"id_token", "", "#", "unsupported_response_type"},
		{"code id_token", "", "#", "unsupported_response_type"}, {"code code", "", "?", "unsupported_response_type"},
	} {
		step := h.step(ask("app", "response_type", tc.responseType, "response_mode", tc.mode), nil)
		h.told(step, tc.code)
		if !strings.HasPrefix(step.Answer.URL, "https://app.example.org/cb"+tc.where) {
			t.Errorf("%+v: %s", tc, step.Answer.URL)
		}
	}
}

func TestRule14RedirectURI(t *testing.T) {
	h := newHouse(t, webClient, secondClient, nativeClient)
	for _, uri := range []string{
		"https://app.example.org/cb/", "https://app.example.org/cb?", "https://app.example.org/cb#", "https://app.example.org/cb?x=1", "https://app.example.org/cb#x",
		"https://app.example.org/CB", "HTTPS://app.example.org/cb", "https://APP.example.org/cb", "https://app.example.org:443/cb", "https://app.example.org./cb",
		"https://app.example.org/%63b", "https://app.example.org/x/../cb", "https://app.example.org/./cb", "https://app.example.org//cb", "https://app.example.org/cb%2f", "https://app.example.org%2fcb",
		"https://app.example.org@evil.example/cb", "https://user@app.example.org/cb", "https://app.example.org\\@evil.example/cb", "https://app.example.org/cb\\", "https:/app.example.org/cb", "//app.example.org/cb",
		"https://app.example.org/cb ", " https://app.example.org/cb", "https://app.example.org/cb\n", "https://app.example.org/cb\x00", "https://app.example.org/cb%00", "https://app.example.org/cb%0d%0aX:1",
		"http://app.example.org/cb", "https://evil.example/cb", "https://app.example.org.evil.example/cb", "https://аpp.example.org/cb", "https://app。example.org/cb", "https://app.example.org/cｂ",
		"javascript:alert(1)", "data:text/html,x", "https://other.example.org/cb", "http://127.0.0.1/cb", "app.example.org/cb", "/cb",
	} {
		if step := h.step(ask("app", "redirect_uri", uri), nil); step.Refuse == nil || step.Refuse.Code != "invalid_request" {
			t.Errorf("%q is taken for one that is registered", uri)
		}
	}
	who := h.person("ada")
	// Absent: the only one that is registered, and none of several.
	if step := h.step(ask("app", "redirect_uri", ""), who); !strings.HasPrefix(step.Answer.URL, "https://app.example.org/cb?code=") {
		t.Errorf("without redirect_uri: %+v", step)
	}
	h.refused(h.step(ask("other", "redirect_uri", ""), who), "invalid_request")
	// A registered query stays, and stays first; another one is another URI.
	if step := h.step(ask("other", "redirect_uri", "https://other.example.org/cb2?a=b", "prompt", "none"), nil); !strings.HasPrefix(step.Answer.URL, "https://other.example.org/cb2?a=b&error=login_required&") {
		t.Errorf("registered query: %s", step.Answer.URL)
	}
	for _, uri := range []string{"https://other.example.org/cb2", "https://other.example.org/cb2?a=b&c=d", "https://other.example.org/cb2?a=c", "https://other.example.org/cb2?A=b", "https://other.example.org/cb?a=b"} {
		h.refused(h.step(ask("other", "redirect_uri", uri), nil), "invalid_request")
	}
	// Loopback redirects of native clients may have any port, and nothing else (RFC 8252, 7.3).
	for _, uri := range []string{"http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", "http://[::1]:9/cb?x=1", "http://[::1]:50000/cb?x=1", "http://[::1]/cb?x=1", "org.example.native:/cb"} {
		if step := h.step(ask("native", "redirect_uri", uri), who); step.Answer == nil || !strings.HasPrefix(step.Answer.URL, uri) {
			t.Errorf("native, %s: %+v", uri, step)
		}
	}
	for _, uri := range []string{
		"https://127.0.0.1/cb", "http://127.0.0.2/cb", "http://localhost/cb", "http://localhost:5/cb", "http://127.0.0.1:x/cb", "http://127.0.0.1:80:90/cb", "http://127.0.0.1:99999/cb", "http://127.0.0.1:/cb", "http://127.0.0.1:-1/cb",
		"http://127.0.0.1:5/cb?", "http://127.0.0.1:5/cb#", "http://127.0.0.1:5/cb/", "http://127.0.0.1:5/%63b", "http://127.0.0.1:5@evil.example/cb", "http://user@127.0.0.1:5/cb", "http://127.0.0.1.evil.example/cb",
		"http://127.1:5/cb", "http://2130706433/cb", "http://[::ffff:127.0.0.1]:5/cb", "http://[::1]:5/cb", "http://[0:0:0:0:0:0:0:1]:5/cb?x=1", "http://[::1%25lo]:5/cb?x=1", "HTTP://127.0.0.1:5/cb", "http://127.0.0.1:5/cb\\",
		"org.example.native:/cb2", "org.example.native://cb", "ORG.example.native:/cb", "org.example.native:/cb?x",
	} {
		if step := h.step(ask("native", "redirect_uri", uri), nil); step.Refuse == nil {
			t.Errorf("%s is taken for one that is registered", uri)
		}
	}
	for _, uri := range []string{"https://a.example/cb#x", "https://a.example/cb#", "javascript:alert(1)", "data:text/html,x", "http://a.example/cb", "https://u:p@a.example/cb", "https:///cb", "https://a.example/\\cb", "vbscript:x", "file:///etc/passwd", "org.example:x"} {
		if checkRedirectURI(uri, "native") == "" {
			t.Errorf("%s can be registered", uri)
		}
	}
}

func TestRule15Nonce(t *testing.T) {
	h := newHouse(t, webClient)
	h.legacy("app")
	who := h.person("ada")
	if v := h.answered(ask("app", "nonce", ""), who); v.Get("code") == "" {
		t.Errorf("code without nonce: %v", v)
	}
	for _, kind := range responseTypes(true)[1:] {
		step := h.step(ask("app", "response_type", kind, "nonce", ""), who)
		if strings.Contains(kind, "id_token") {
			h.told(step, "invalid_request")
		} else if h.parameters(step).Has("error") {
			t.Errorf("%s without nonce: %s", kind, step.Answer.URL)
		}
	}
}

func TestRule16PKCE(t *testing.T) {
	h := newHouse(t, webClient, nativeClient)
	h.legacy("app")
	for _, changes := range [][]string{
		{"code_challenge", "", "code_challenge_method", ""}, {"code_challenge", ""}, {"code_challenge_method", ""}, {"code_challenge_method", "plain"},
		{"code_challenge_method", "s256"}, {"code_challenge", challenge + "="}, {"code_challenge", challenge[:42]}, {"code_challenge", strings.Repeat("*", 43)}, {"code_challenge", strings.Repeat("a", 128)},
	} {
		for _, kind := range []string{"code", "code id_token", "code token", "code id_token token"} {
			h.told(h.step(ask("app", append(changes, "response_type", kind)...), nil), "invalid_request")
		}
		h.told(h.step(ask("native", append(changes, "redirect_uri", "http://127.0.0.1/cb")...), nil), "invalid_request")
	}
	who := h.person("ada")
	for _, wrong := range []string{"", challenge, verifier + "x"} {
		code := h.answered(ask("app"), who).Get("code")
		h.redeem("app:"+secret, code, "code_verifier", wrong).want(t, 400, "invalid_grant")
	}
}

// Rule 16, the exception: a confidential client whose operator has set require_pkce to false.
func TestWithoutPKCE(t *testing.T) {
	h := newHouse(t, strings.Replace(webClient, "{", `{"require_pkce": false, `, 1), strings.Replace(askingClient, "{", `{"require_pkce": true, `, 1))
	h.legacy("app")
	who, without := h.person("ada"), []string{"code_challenge", "", "code_challenge_method", ""}
	v := h.answered(ask("app", without...), who)
	got := h.redeem(app, v.Get("code"), "code_verifier", "").want(t, 200, "")
	if v.Get("state") != "the state" || claims(t, got.text("id_token"))["nonce"] != "the nonce" {
		t.Errorf("state and nonce are not those of the request: %v", v)
	}
	if h.answered(ask("app", append(without, "response_type", "code id_token")...), who).Get("code") == "" {
		t.Error("no code in a hybrid answer")
	}
	// A verifier without a challenge: the challenge was taken out on the way (RFC 9700, 4.8.2).
	h.redeem(app, h.answered(ask("app", without...), who).Get("code")).want(t, 400, "invalid_grant")
	// Whoever sends a challenge is held to it, and to S256.
	code := h.answered(ask("app"), who).Get("code")
	h.redeem(app, code, "code_verifier", "").want(t, 400, "invalid_grant")
	h.redeem(app, code).want(t, 200, "")
	for _, changes := range [][]string{{"code_challenge", ""}, {"code_challenge_method", ""}, {"code_challenge_method", "plain"}} {
		h.told(h.step(ask("app", changes...), who), "invalid_request")
	}
	h.told(h.step(ask("asking", without...), who), "invalid_request")
}

func TestRule17PromptNone(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	h.told(h.step(ask("app", "prompt", "none"), nil), "login_required")
	who := h.person("ada")
	h.told(h.step(ask("asking", "prompt", "none"), who), "consent_required")
	id := h.asked(h.step(ask("asking"), who), Consent).Interaction
	first := h.redeem("asking:"+secret, h.parameters(h.decide(id, Consent, true, who)).Get("code")).want(t, 200, "")
	h.clock.Advance(time.Hour)
	second := h.redeem("asking:"+secret, h.answered(ask("asking", "prompt", "none"), who).Get("code")).want(t, 200, "")
	a, b := claims(t, first.text("id_token")), claims(t, second.text("id_token"))
	if a["sub"] != b["sub"] || a["auth_time"] != b["auth_time"] || a["iat"] == b["iat"] {
		t.Errorf("got %v, then %v", a, b)
	}
	h.told(h.step(ask("app", "prompt", "none", "max_age", "10"), who), "login_required")
	h.told(h.step(ask("app", "prompt", "none", "max_age", "0"), h.again(who)), "login_required")
	h.told(h.step(ask("app", "prompt", "none select_account"), who), "invalid_request")
	// Of scopes that are new only the person can say yes.
	h.told(h.step(ask("asking", "prompt", "none", "scope", "openid email"), who), "consent_required")
	if n, err := h.engine.Count(t.Context(), "authorization", ""); err != nil || n != 0 {
		t.Errorf("%d requests wait, %v", n, err)
	}
}

func TestRule17PromptLogin(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	h.clock.Advance(time.Hour)
	q := h.asked(h.step(ask("app", "prompt", "login"), who), SignIn)
	if !q.Fresh {
		t.Error("the session would do")
	}
	// Coming back without having signed in asks again.
	h.asked(h.resume(q.Interaction, who), SignIn)
	// So does a sign-in from before the request.
	earlier := *who
	earlier.Session.AuthTime = h.clock.Now().Add(-time.Second)
	h.asked(h.resume(q.Interaction, &earlier), SignIn)
	// The sign-in may be in the very moment of the request.
	got := h.redeem("app:"+secret, h.parameters(h.resume(q.Interaction, h.again(who))).Get("code"))
	if at := claims(t, got.want(t, 200, "").text("id_token"))["auth_time"]; at != float64(h.clock.Now().Unix()) {
		t.Errorf("auth_time is %v", at)
	}
	// A request that begins signed out is done with the sign-in that it asks for, also in
	// the same moment.
	q = h.asked(h.step(ask("app", "prompt", "login"), nil), SignIn)
	if v := h.parameters(h.resume(q.Interaction, h.again(who))); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
}

func TestRule17PromptSelectAccount(t *testing.T) {
	h := newHouse(t, webClient)
	ada, ben := h.person("ada"), h.person("ben")
	h.clock.Advance(time.Second)
	q := h.asked(h.step(ask("app", "prompt", "select_account"), ada), Choose)
	h.asked(h.resume(q.Interaction, ada), Choose)
	// What one has chosen is not the choice of the other.
	item, err := h.pending.Update(t.Context(), q.Interaction, func(i *interaction) error { i.Chosen = ada.mark(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	h.asked(h.resume(item.ID, ben), Choose)
	if v := h.parameters(h.decide(q.Interaction, Choose, true, ben)); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
}

func TestRule17PromptConsent(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	who := h.person("ada")
	for _, client := range []string{"app", "asking"} { // also one that is trusted
		for range 2 { // each time
			q := h.asked(h.step(ask(client, "prompt", "consent"), who), Consent)
			if v := h.parameters(h.decide(q.Interaction, Consent, true, who)); v.Get("code") == "" {
				t.Errorf("got %v", v)
			}
		}
	}
}

func TestRule18MaxAge(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	for _, age := range []string{"10000", "99999999999", "9223372036854775807", "99999999999999999999999"} {
		got := h.redeem("app:"+secret, h.answered(ask("app", "max_age", age), who).Get("code")).want(t, 200, "")
		if claims(t, got.text("id_token"))["auth_time"] != float64(start.Unix()) {
			t.Errorf("max_age=%s: no auth_time", age)
		}
	}
	h.clock.Advance(2 * time.Second)
	for _, age := range []string{"1", "0"} {
		q := h.asked(h.step(ask("app", "max_age", age), who), SignIn)
		if !q.Fresh {
			t.Errorf("max_age=%s: the session would do", age)
		}
		h.asked(h.resume(q.Interaction, who), SignIn)
		// It ends with the sign-in, however long the page after it stays open.
		fresh := h.again(who)
		h.clock.Advance(10 * time.Second)
		if v := h.parameters(h.resume(q.Interaction, fresh)); v.Get("code") == "" {
			t.Errorf("max_age=%s: %v", age, v)
		}
	}
	// 0 is for nobody's session, also if it has begun in this very moment.
	h.asked(h.step(ask("app", "max_age", "0"), h.again(who)), SignIn)
	for _, age := range []string{"x", "-1", "1.5", "+1", "1 2", "0x10"} {
		h.told(h.step(ask("app", "max_age", age), who), "invalid_request")
	}
}

func TestRule18IDTokenHint(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	ada, ben := h.person("ada"), h.person("ben")
	hint := h.redeem("app:"+secret, h.answered(ask("app"), ada).Get("code")).text("id_token")
	h.clock.Advance(24 * time.Hour) // expired is good enough
	if v := h.answered(ask("app", "prompt", "none", "id_token_hint", hint), ada); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
	h.told(h.step(ask("app", "prompt", "none", "id_token_hint", hint), ben), "login_required")
	h.told(h.step(ask("app", "prompt", "none", "id_token_hint", hint), nil), "login_required")
	// Of another client, or tampered with.
	h.told(h.step(ask("asking", "id_token_hint", hint), ada), "invalid_request")
	h.told(h.step(ask("app", "id_token_hint", hint[:len(hint)-4]+"AAAA"), ada), "invalid_request")
	// Who is not the one signs in, once.
	q := h.asked(h.step(ask("app", "id_token_hint", hint), ben), SignIn)
	if !q.Fresh {
		t.Error("the session of somebody else would do")
	}
	h.clock.Advance(time.Second)
	h.told(h.resume(q.Interaction, h.again(ben)), "login_required")
	q = h.asked(h.step(ask("app", "id_token_hint", hint), ben), SignIn)
	h.clock.Advance(time.Second)
	if v := h.parameters(h.resume(q.Interaction, h.again(ada))); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
	wants := `{"id_token": {"sub": {"value": "` + ben.Account.ID + `"}}}`
	h.told(h.step(ask("app", "claims", wants, "id_token_hint", hint), ben), "invalid_request")
	h.told(h.step(ask("app", "claims", wants, "prompt", "none"), ada), "login_required")
	h.asked(h.step(ask("app", "claims", wants), ada), SignIn)
	if v := h.answered(ask("app", "claims", wants, "prompt", "none"), ben); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
}

func TestRule19Claims(t *testing.T) {
	h := newHouse(t, webClient, askingClient, `{"client_id": "narrow", "name": "Narrow", "url": "https://narrow.example.org/", "client_secret": "`+secret+`",
		"redirect_uris": ["https://app.example.org/cb"], "trusted": true, "scope": "openid"}`)
	who := h.person("ada")
	userinfo := func(client string, changes ...string) (id, info map[string]any) {
		t.Helper()
		got := h.redeem(client+":"+secret, h.answered(ask(client, changes...), who).Get("code")).want(t, 200, "")
		return claims(t, got.text("id_token")), h.call(PathUserInfo, "", form("access_token", got.text("access_token"))).want(t, 200, "").JSON
	}
	id, info := userinfo("app", "scope", "openid", "claims", ` {"userinfo": {"name": {"essential": true}, "unknown": null}} `)
	if info["name"] != "Ada" || id["name"] != nil {
		t.Errorf("at userinfo: %v, %v", info, id)
	}
	id, info = userinfo("app", "scope", "openid", "claims", `{"id_token": {"name": null}, "other": 1}`)
	if info["name"] != nil || id["name"] != "Ada" {
		t.Errorf("in the ID Token: %v, %v", info, id)
	}
	// It is no way around what the client may ask for.
	if id, info = userinfo("narrow", "scope", "openid profile", "claims", `{"userinfo": {"name": {"essential": true}}, "id_token": {"identities": null}}`); info["name"] != nil || id["identities"] != nil {
		t.Errorf("beyond its scope: %v, %v", info, id)
	}
	// Nor around the person.
	q := h.asked(h.step(ask("asking", "scope", "openid", "claims", `{"userinfo": {"email": null}, "id_token": {"name": null}}`), who), Consent)
	if !slices.Equal(q.Scopes, []string{"profile", "email"}) {
		t.Errorf("asked for %v", q.Scopes)
	}
	for _, bad := range []string{"x", "[]", "null", `"x"`, `{"userinfo": []}`, `{"userinfo": {"name": 1}}`, `{"id_token": {"acr": {"values": "1"}}}`, `{} {}`, "{", `{"userinfo":{}}` + strings.Repeat(" ", 20) + "x", `{"a":"` + strings.Repeat("x", 17<<10) + `"}`} {
		h.told(h.step(ask("app", "claims", bad), who), "invalid_request")
	}
}

func TestRule21Denied(t *testing.T) {
	h := newHouse(t, askingClient)
	who := h.person("ada")
	id := h.asked(h.step(ask("asking"), who), Consent).Interaction
	v := h.told(h.decide(id, Consent, false, who), "access_denied")
	if v.Get("state") != "the state" || v.Get("iss") != issuer || v.Has("code") {
		t.Errorf("got %v", v)
	}
	h.refused(h.decide(id, Consent, true, who), "invalid_request")
	h.refused(h.resume(id, who), "invalid_request")
}

func TestRule46Legacy(t *testing.T) {
	h := newHouse(t, webClient)
	for _, name := range []string{"response_types_supported", "grant_types_supported"} {
		if list := h.metadata()[name].([]string); slices.ContainsFunc(list, func(s string) bool {
			return strings.Contains(s, "token id") || strings.Contains(s, "id_token") || s == "implicit"
		}) {
			t.Errorf("off, %s is %v", name, list)
		}
	}
	h.legacy("app")
	who := h.person("ada")
	for _, kind := range responseTypes(true)[1:] {
		v := h.answered(ask("app", "response_type", kind), who)
		parts := strings.Fields(kind)
		for _, part := range []string{"code", "token", "id_token"} {
			name := strings.Replace(part, "token", "access_token", 1)
			if part == "id_token" {
				name = part
			}
			if v.Has(name) != slices.Contains(parts, part) {
				t.Errorf("%s: got %v", kind, v)
			}
		}
		if !v.Has("id_token") {
			continue
		}
		id := claims(t, v.Get("id_token"))
		want := func(name, of string) {
			if got, _ := id[name].(string); got != halfHash("RS256", of) {
				t.Errorf("%s: %s is %v", kind, name, id[name])
			}
		}
		want("c_hash", v.Get("code"))
		want("at_hash", v.Get("access_token"))
		want("s_hash", "the state")
		if id["nonce"] != "the nonce" || (id["name"] != nil) != (kind == "id_token") {
			t.Errorf("%s: %v", kind, id)
		}
		if code := v.Get("code"); code != "" {
			h.redeem("app:"+secret, code).want(t, 200, "")
		}
		h.told(h.step(ask("app", "response_type", kind, "scope", "profile"), who), "invalid_scope")
	}
	// A client that is held to bound tokens gets none without a proof.
	h.clients.listed["app"].DPoPBoundAccessTokens = true
	h.told(h.step(ask("app", "response_type", "code token"), who), "invalid_request")
}

func TestPlainOAuthHasNoIDToken(t *testing.T) {
	h := newHouse(t, webClient)
	got := h.redeem("app:"+secret, h.answered(ask("app", "scope", "profile"), h.person("ada")).Get("code")).want(t, 200, "")
	if got.JSON["id_token"] != nil || got.text("access_token") == "" {
		t.Errorf("got %s", got.Body)
	}
}

func TestOfflineAccess(t *testing.T) {
	h := newHouse(t, askingClient, `{"client_id": "codeonly", "name": "C", "url": "https://c.example.org/", "client_secret": "`+secret+`",
		"redirect_uris": ["https://app.example.org/cb"], "grant_types": ["authorization_code"]}`)
	who := h.person("ada")
	q := h.asked(h.step(ask("asking", "scope", "openid offline_access"), who), Consent)
	if !slices.Equal(q.Scopes, []string{scopeOffline}) {
		t.Errorf("asked for %v", q.Scopes)
	}
	got := h.redeem("asking:"+secret, h.parameters(h.decide(q.Interaction, Consent, true, who)).Get("code")).want(t, 200, "")
	if !strings.Contains(got.text("scope"), scopeOffline) {
		t.Errorf("scope is %q", got.text("scope"))
	}
	// Where no refresh token comes of it, nobody is asked (OpenID Connect Core, 11).
	if q := h.asked(h.step(ask("codeonly", "scope", "openid offline_access"), who), Consent); len(q.Scopes) != 0 {
		t.Errorf("asked for %v", q.Scopes)
	}
}

func TestConsentOfAnother(t *testing.T) {
	h := newHouse(t, askingClient)
	ada, ben := h.person("ada"), h.person("ben")
	id := h.asked(h.step(ask("asking"), ada), Consent).Interaction
	// Signed out in between: the yes is nobody's.
	h.asked(h.decide(id, Consent, true, nil), SignIn)
	h.asked(h.resume(id, ben), Consent)
	if v := h.parameters(h.decide(id, Consent, true, ada)); v.Get("code") == "" {
		t.Fatalf("got %v", v)
	}
	// Ada's yes is not Ben's, in the same session neither.
	after := *ben
	after.Session.Handle, after.Session.Created = ada.Session.Handle, ada.Session.Created
	id = h.asked(h.step(ask("asking", "prompt", "consent"), ada), Consent).Interaction
	if _, err := h.pending.Update(t.Context(), id, func(i *interaction) error { i.Allowed = ada.mark(); return nil }); err != nil {
		t.Fatal(err)
	}
	h.asked(h.resume(id, &after), Consent)
	// An answer to what was not asked is none.
	id = h.asked(h.step(ask("asking", "prompt", "login consent"), ben), SignIn).Interaction
	h.asked(h.decide(id, Consent, true, ben), SignIn)
	h.asked(h.decide(id, Consent, false, ben), SignIn)
	if _, err := h.consents.Get(t.Context(), consentID(ben.Account.ID, "asking")); err == nil {
		t.Error("Ben has consented to what he was not asked")
	}
}

func TestConsentOncePerScopes(t *testing.T) {
	h := newHouse(t, askingClient)
	who := h.person("ada")
	allow := func(scope string, want ...string) {
		t.Helper()
		q := h.asked(h.step(ask("asking", "scope", scope), who), Consent)
		if !slices.Equal(q.Scopes, want) {
			t.Errorf("%s: asked for %v", scope, q.Scopes)
		}
		h.parameters(h.decide(q.Interaction, Consent, true, who))
	}
	allow("openid")
	allow("openid profile", "profile")
	for _, scope := range []string{"openid", "openid profile", "profile"} {
		if v := h.answered(ask("asking", "scope", scope), who); v.Get("code") == "" {
			t.Errorf("%s: %v", scope, v)
		}
	}
	allow("openid email profile", "profile", "email")
}

func TestInteractionOfNobody(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	for _, id := range []string{"", "x", random(), "../x", strings.Repeat("x", 10_000), "a\x00b", "\xff"} {
		h.refused(h.resume(id, who), "invalid_request")
		h.refused(h.decide(id, Consent, true, who), "invalid_request")
		if _, found, err := h.Waiting(t.Context(), id); found || err != nil {
			t.Errorf("%q: %v, %v", id, found, err)
		}
	}
	id := h.asked(h.step(ask("app"), nil), SignIn).Interaction
	h.clock.Advance(interactionLife)
	h.refused(h.resume(id, who), "invalid_request")
	// The client has given up the address meanwhile.
	id = h.asked(h.step(ask("app"), nil), SignIn).Interaction
	h.clients.listed["app"].RedirectURIs = []string{"https://app.example.org/new"}
	h.refused(h.resume(id, who), "invalid_request")
}

// TestOneCode: a request that waits is answered once, whoever asks how often at once.
func TestOneCode(t *testing.T) {
	h := newHouse(t, askingClient)
	who := h.person("ada")
	id := h.asked(h.step(ask("asking"), who), Consent).Interaction
	var codes sync.Map
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			step, err := h.Decide(t.Context(), id, Consent, true, who)
			if err != nil {
				t.Error(err)
			} else if step.Answer != nil {
				codes.Store(n, step.Answer.URL)
			} else if step.Refuse == nil {
				t.Errorf("got %+v", step)
			}
		})
	}
	wg.Wait()
	n := 0
	codes.Range(func(_, _ any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d answers", n)
	}
}

func TestPostponed(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	postpone := func(changes ...string) string {
		t.Helper()
		step, err := h.Postpone(t.Context(), ask("app", changes...))
		if err != nil || step.Ask == nil {
			t.Fatalf("got %+v, %v", step, err)
		}
		return step.Ask.Interaction
	}
	if v := h.parameters(h.resume(postpone("prompt", "none"), who)); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
	h.told(h.resume(postpone("prompt", "none"), nil), "login_required")
	id := postpone("prompt", "login")
	there := h.again(who) // the session that was there
	h.asked(h.resume(id, there), SignIn)
	h.asked(h.resume(id, there), SignIn)
	if v := h.parameters(h.resume(id, h.again(who))); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
}

// fuzzProvider is a provider without people, for one client that has a key.
func fuzzProvider(f *testing.F) *Provider {
	fake := clock.NewFake(start)
	engine := teststore.Open(f, fake.Now)
	private, public := testKeys(f)
	tokens, err := token.NewManager(f.Context(), engine, token.Options{
		PrivateKeyPath: private, PublicKeyPath: public, Algorithm: "RS256", ExpiresIn: time.Minute, Now: fake.Now,
	})
	if err != nil {
		f.Fatal(err)
	}
	var app config.Application
	if err := json.Unmarshal([]byte(objectClient("")), &app); err != nil {
		f.Fatal(err)
	}
	p, err := New(f.Context(), []config.Application{app}, Options{
		Issuer: issuer, Store: engine, Tokens: tokens, Clock: fake, Log: slog.New(slog.DiscardHandler), RefreshKeys: [][]byte{{1}}, Codes: codeSealer(),
		AccessTokenLife: time.Minute, RefreshIdle: time.Hour, RefreshLife: time.Hour,
	})
	if err != nil {
		f.Fatal(err)
	}
	return p
}

func FuzzAuthorizationRequest(f *testing.F) {
	f.Add(ask("app").Encode())
	f.Add(ask("app", "prompt", "none", "claims", `{"id_token":{"sub":{"value":"x"}}}`, "max_age", "0").Encode())
	f.Add("client_id=app&request=a.b.c&redirect_uri=https://app.example.org/cb")
	f.Add("client_id=app&request_uri=urn:ietf:params:oauth:request_uri:x")
	f.Add("client_id=app&redirect_uri=https://app.example.org/cb%0d%0a&state=%00")
	p := fuzzProvider(f)
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		step, err := p.Authorize(t.Context(), values, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case step.Answer != nil:
			// Nobody is signed in: it can only be an error, to where the client is.
			if step.Answer.Post && step.Answer.URL == "https://app.example.org/cb" {
				return
			}
			if !strings.HasPrefix(step.Answer.URL, "https://app.example.org/cb?") && !strings.HasPrefix(step.Answer.URL, "https://app.example.org/cb#") ||
				strings.ContainsAny(step.Answer.URL, "\r\n \"<>\\") || strings.Contains(step.Answer.URL, "code=") {
				t.Errorf("%q leads to %q", query, step.Answer.URL)
			}
		case step.Refuse != nil && step.Refuse.Description != describe(step.Refuse.Description):
			t.Errorf("%q: %q", query, step.Refuse.Description)
		}
	})
}

func FuzzClaimsParameter(f *testing.F) {
	f.Add(`{"userinfo": {"name": {"essential": true}}, "id_token": {"acr": {"values": ["1"]}, "sub": {"value": "x"}}}`)
	f.Add(`{"userinfo": {"email": null}}`)
	c := &Client{}
	c.Scope = "openid profile"
	f.Fuzz(func(t *testing.T, text string) {
		raw, e := c.allowedClaims(text)
		if e != nil {
			return
		}
		asked, err := parseClaims(raw)
		if err != nil && len(raw) <= 16<<10 {
			t.Fatalf("%q was read, and written as %q: %v", text, raw, err)
		}
		for _, list := range []map[string]*claimRequest{asked.UserInfo, asked.IDToken} {
			for name := range list {
				if scope := scopeOf(name); scope != "" && scope != scopeProfile {
					t.Errorf("%q asks for %s", text, name)
				}
			}
		}
	})
}

func FuzzRedirectURI(f *testing.F) {
	f.Add("http://127.0.0.1:8/cb")
	f.Add("http://[::1]:8/cb?x=1")
	f.Add("http://127.0.0.1:8@evil.example/cb")
	c := &Client{}
	c.ApplicationType, c.RedirectURIs = "native", []string{"http://127.0.0.1/cb", "http://[::1]:9/cb?x=1", "https://app.example.org/cb"}
	f.Fuzz(func(t *testing.T, given string) {
		got, ok := c.redirectURI(given)
		if !ok || slices.Contains(c.RedirectURIs, given) {
			return
		}
		// What is taken is what is registered but for a number after the host.
		for registered, end := range map[string]string{"http://127.0.0.1": "/cb", "http://[::1]": "/cb?x=1"} {
			port, found := strings.CutPrefix(given, registered)
			port, cut := strings.CutSuffix(port, end)
			if found && cut && (port == "" || port[0] == ':' && len(port) > 1 && strings.Trim(port[1:], "0123456789") == "") && got == given {
				return
			}
		}
		t.Errorf("%q is taken for one that is registered", given)
	})
}
