package web_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const logoutApplications = `[
	{"url": "https://app.example.org/", "name": "App", "client_id": "app", "client_secret": "a-secret-that-is-long-enough",
		"redirect_uris": ["https://app.example.org/cb"], "post_logout_redirect_uris": ["https://app.example.org/bye"], "trusted": true},
	{"url": "https://front.example.org/", "name": "Front", "client_id": "front", "client_secret": "a-secret-that-is-long-enough",
		"redirect_uris": ["https://front.example.org/cb"], "frontchannel_logout_uri": "https://front.example.org/out", "trusted": true}]`

// idToken takes a browser through the code flow of a client.
func (b *browser) idToken(client string) string {
	t := b.server.t
	t.Helper()
	callback := "https://" + client + ".example.org/cb"
	to := b.open("oauth/authorize?" + url.Values{"client_id": {client}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}.Encode()).want(302).location()
	u, err := url.Parse(to)
	if err != nil || u.Query().Get("code") == "" {
		t.Fatalf("sent to %s", to)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")}, "redirect_uri": {callback},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(client+":a-secret-that-is-long-enough")))
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	a := b.server.browser().send("POST", "oauth/token", header, form.Encode()).want(200)
	if err := json.Unmarshal([]byte(a.body), &tokens); err != nil || tokens.IDToken == "" {
		t.Fatalf("%v in %s", err, a.body)
	}
	return tokens.IDToken
}

func (b *browser) signedIn() bool { return b.get("currentUser").status == 200 }

// Rule 37, as browsers see it.
func TestEndSession(t *testing.T) {
	s := newServer(t, applications(logoutApplications))
	b := s.browser()
	const app = "https://app.example.org/page"
	query := func(hint string) string {
		return "oauth/logout?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.org/bye"}, "state": {"s"}}.Encode()
	}
	const bye = "https://app.example.org/bye?state=s"

	b.login("alpha", "ada")
	b.follow(app, query(b.idToken("app"))).leadsTo(bye)
	if b.signedIn() {
		t.Fatal("still signed in")
	}

	// A form of the client comes without our cookie (SameSite=Lax); it signs out nevertheless.
	b.login("alpha", "ada")
	hint := b.idToken("app")
	a := s.browser().submitFrom(app, "oauth/logout", "id_token_hint", hint, "post_logout_redirect_uri", "https://app.example.org/bye", "state", "s").want(302)
	b.follow(app, a.location()).leadsTo(bye)
	if b.signedIn() {
		t.Fatal("still signed in after the POST")
	}
	// With the cookie it needs no detour.
	b.login("alpha", "ada")
	b.submitFrom(app, "oauth/logout", "id_token_hint", b.idToken("app"), "post_logout_redirect_uri", "https://app.example.org/bye", "state", "s").leadsTo(bye)
	if b.signedIn() {
		t.Fatal("still signed in after the POST with the cookie")
	}
	s.browser().submitFrom(app, "oauth/logout", "state", strings.Repeat("s", 20_000)).want(413)

	// With less a page asks, signs out, says so, and leads nowhere.
	b.login("alpha", "ada")
	hint = b.idToken("app")
	for _, path := range []string{"oauth/logout", "oauth/logout?post_logout_redirect_uri=https://app.example.org/bye&client_id=app", query(hint + "x"), "oauth/logout?id_token_hint=" + hint} {
		a := b.follow(app, path).want(200, `id="logout-confirm"`, `action="/oauth/logout/confirm"`)
		if a.header.Get("Refresh") != "" {
			t.Errorf("%s leads to %q", path, a.header.Get("Refresh"))
		}
	}
	b.submit("oauth/logout/confirm", "post_logout_redirect_uri", "https://evil.example.com/").want(200, `id="logout-done"`).wantNot("evil.example.com")
	if b.signedIn() {
		t.Fatal("still signed in after the confirmation")
	}
	b.open("oauth/logout").want(200, `id="logout-done"`).wantNot("logout-confirm")
}

// What pages of others can do: nothing, but show the page that asks.
func TestEndSessionAttacks(t *testing.T) {
	s := newServer(t, applications(logoutApplications))
	b := s.browser()
	b.login("alpha", "ada")
	hint := b.idToken("app")
	full := "oauth/logout?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.org/bye"}}.Encode()
	// A slash at the end is taken off by the router, and must not change who may post.
	for _, path := range []string{"oauth/logout/confirm", "oauth/logout/confirm/", "oauth/continue", "oauth/continue/", "oauth/logout/confirm//", "oauth//logout/confirm"} {
		if a := b.submitFrom(evilOrigin+"/", path); a.status != 403 && a.status != 404 {
			t.Errorf("POST %s from another site: %d", path, a.status)
		}
	}
	for name, header := range map[string]http.Header{
		"picture":  headers("Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image", "Sec-Fetch-Site", "cross-site"),
		"frame":    headers("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "cross-site"),
		"fetch":    headers("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "cross-site", "Origin", evilOrigin),
		"prefetch": headers("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "cross-site", "Sec-Purpose", "prefetch"),
	} {
		if a := b.send("GET", full, header, ""); a.location() != "" {
			t.Errorf("%s: sent to %s", name, a.location())
		}
	}
	for _, evil := range []string{`"><script>alert(1)</script>`, "javascript:alert(1)", "\r\nSet-Cookie: a=b"} {
		for _, name := range []string{"state", "post_logout_redirect_uri", "client_id", "id_token_hint", "ui_locales", "logout_hint"} {
			a := b.follow(evilOrigin+"/", "oauth/logout?"+url.Values{name: {evil}}.Encode()).want(200)
			if a.wantNot("alert(1)"); a.header.Get("Refresh") != "" || strings.Contains(a.header.Get("Set-Cookie"), "a=b") {
				t.Errorf("%s=%q: %v", name, evil, a.header)
			}
		}
	}
	if !b.signedIn() {
		t.Error("another site has signed somebody out")
	}
	// Somebody else's hint, in the browser of who is signed in.
	other := s.browser()
	other.login("alpha", "ben")
	other.follow(evilOrigin+"/", full).want(200, "logout-confirm")
	if !other.signedIn() {
		t.Error("a hint of another session signs out")
	}
}

// Rule 39: frames of the clients that took part, and of nobody else, then on.
func TestFrontChannelLogout(t *testing.T) {
	s := newServer(t, applications(logoutApplications))
	frame := func(a answer) string {
		t.Helper()
		_, rest, ok := strings.Cut(a.body, `<iframe src="`)
		src, _, _ := strings.Cut(rest, `"`)
		u, err := url.Parse(strings.ReplaceAll(src, "&amp;", "&"))
		if !ok || err != nil || u.Query().Get("iss") != strings.TrimSuffix(s.base, "/") || u.Query().Get("sid") == "" || u.Host != "front.example.org" || strings.Contains(rest, "<iframe") {
			t.Fatalf("frame %q in %s", src, a.body)
		}
		if policy := a.header.Get("Content-Security-Policy"); !strings.HasSuffix(policy, "; frame-src https://front.example.org") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("policy %q", policy)
		}
		return u.Query().Get("sid")
	}
	b := s.browser()
	b.login("alpha", "ada")
	b.idToken("front")
	handle := s.handleOf(b)
	hint := b.idToken("app")
	a := b.follow("https://app.example.org/", "oauth/logout?"+url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example.org/bye"}}.Encode()).
		want(200, `id="logout-done"`, `id="logout-continue" href="https://app.example.org/bye" data-continue`)
	if got := frame(a); got != handle {
		t.Errorf("sid is %s, want %s", got, handle)
	}
	if got := a.header.Get("Refresh"); got != "5; url=https://app.example.org/bye" {
		t.Errorf("without JavaScript: %q", got)
	}

	// After our own page that asks, and after our own way out.
	s.clock.Advance(time.Second)
	b.login("alpha", "ada")
	b.idToken("front")
	a = b.submit("oauth/logout/confirm").want(200, `id="logout-done"`).wantNot("logout-continue")
	frame(a)
	s.clock.Advance(time.Second)
	b.login("alpha", "ada")
	b.idToken("front")
	a = b.submit("logout").want(200, `id="logout-continue" href="`+s.base+`login"`)
	frame(a)
	if b.signedIn() {
		t.Error("still signed in")
	}
	// Without such clients nothing is different from before.
	s.clock.Advance(time.Second)
	b.login("alpha", "ada")
	b.submit("logout").leadsTo(s.cfg.BaseURL.Path + "login")
}

// Rule 40: the browser state changes with who is signed in, and only then. Its cookie is
// for scripts, and our own page may be framed.
func TestBrowserState(t *testing.T) {
	s := newServer(t, applications(logoutApplications))
	b := s.browser()
	state := func() string {
		for _, c := range b.cookies() {
			if c.Name == s.sessions.StateCookie() {
				return c.Value
			}
		}
		return ""
	}
	b.open("login")
	if state() != "" {
		t.Errorf("before anybody has signed in: %q", state())
	}
	b.login("alpha", "ada")
	first := state()
	if len(first) != 43 || strings.Contains(first, s.handleOf(b)) {
		t.Errorf("signed in: %q", first)
	}
	b.submit("login/beta", "username", "ada", "password", "ada-pw").want(302)
	if state() != first {
		t.Error("linking an identity looks like another sign-in")
	}
	b.submit("logout").want(302)
	out := state()
	if out == first || out == "" {
		t.Errorf("signed out: %q", out)
	}
	s.clock.Advance(time.Minute)
	b.login("alpha", "ada")
	second := state()
	if second == first || second == out {
		t.Errorf("signed in again: %q", second)
	}
	// Ended on another device: the next page view tells the browser.
	other := s.browser()
	other.login("alpha", "ada")
	other.submit("sessions/remove-others").want(302)
	b.open("login").want(200)
	if state() != out {
		t.Errorf("ended elsewhere: %q", state())
	}
	page := b.get("oauth/check_session").want(200, s.sessions.StateCookie())
	if page.header.Get("X-Frame-Options") != "" || !strings.Contains(page.header.Get("Content-Security-Policy"), "frame-ancestors *") {
		t.Errorf("clients cannot frame the page: %v", page.header)
	}
}

// What clients are given and refused is among the metrics, by names of which there are few.
func TestTokenMetrics(t *testing.T) {
	s := newServer(t, applications(logoutApplications), env("METRICS_TOKEN", "0123456789abcdef"))
	b := s.browser()
	b.login("alpha", "ada")
	b.idToken("app")
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	b.send("POST", "oauth/token", form, "grant_type=refresh_token&client_id=nobody-we-know").want(401)
	b.send("POST", "oauth/token/", form, "grant_type=refresh_token&client_id=nobody-we-know")
	b.open("oauth/authorize?client_id=app&redirect_uri=https://elsewhere.example/").want(400)
	s.browser().send("GET", "metrics", headers("Authorization", "Bearer 0123456789abcdef"), "").
		want(200, `login_server_tokens_total{client="app",grant_type="authorization_code"} 1`,
			`login_server_oauth_errors_total{endpoint="/oauth/token",error="invalid_client"} 2`,
			`login_server_oauth_errors_total{endpoint="/oauth/authorize",error="invalid_request"} 1`).
		wantNot("nobody-we-know", "elsewhere")
}

// The numbers of logout tokens are among the metrics.
func TestLogoutMetrics(t *testing.T) {
	s := newServer(t, env("METRICS_TOKEN", "0123456789abcdef"))
	s.browser().send("GET", "metrics", headers("Authorization", "Bearer 0123456789abcdef"), "").
		want(200, `login_server_logout_tokens_total{result="delivered"} 0`, "login_server_logout_tokens_waiting 0")
}
