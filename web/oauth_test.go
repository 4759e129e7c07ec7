package web_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

const oauthApplications = `[
	{"url": "https://app.example.org/", "name": "<b>App</b>\"'", "client_id": "app", "client_secret": "a-secret-that-is-long-enough",
		"redirect_uris": ["https://app.example.org/cb"]},
	{"url": "https://trusted.example.org/", "name": "Trusted", "client_id": "trusted", "client_secret": "a-secret-that-is-long-enough",
		"redirect_uris": ["https://trusted.example.org/cb"], "trusted": true}]`

// authorization is a request of a client, with changes to what is usual.
func authorization(client string, changes ...string) url.Values {
	v := url.Values{"client_id": {client}, "response_type": {"code"}, "redirect_uri": {"https://" + client + ".example.org/cb"}, "scope": {"openid profile"}, "state": {"s"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(changes); i += 2 {
		v.Set(changes[i], changes[i+1])
	}
	return v
}

func (b *browser) authorize(v url.Values) answer {
	b.server.t.Helper()
	return b.follow("https://app.example.org/page", "oauth/authorize?"+v.Encode())
}

// post is what a form on a page of a client does: the browser keeps our cookies to itself.
func (s *server) post(v url.Values) answer {
	s.t.Helper()
	return s.browser().send("POST", "oauth/authorize", headers("Accept", "text/html", "Content-Type", "application/x-www-form-urlencoded",
		"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.org"), v.Encode())
}

// guarded fails the test unless a page can be neither framed nor kept, and tells nobody
// its address.
func (a answer) guarded() answer {
	a.t.Helper()
	h := a.header
	if policy := h.Get("Content-Security-Policy"); h.Get("X-Frame-Options") != "DENY" || !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") ||
		strings.Contains(policy, "unsafe") || !strings.Contains(h.Get("Cache-Control"), "no-store") || h.Get("Referrer-Policy") != "same-origin" || h.Get("X-Content-Type-Options") != "nosniff" {
		a.t.Errorf("%s: %v", a.url, h)
	}
	return a
}

var shownCode = regexp.MustCompile(`id="error-code">([a-z_]+)<`)

func TestAuthorizeReflectsNoMarkup(t *testing.T) {
	s := newServer(t, applications(oauthApplications))
	signedIn := s.browser()
	signedIn.login("alpha", "ada")
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}javascript:alert(1)`
	for _, name := range []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "prompt", "max_age", "claims", "display", "ui_locales", "login_hint", "acr_values",
		"id_token_hint", "code_challenge", "code_challenge_method", "dpop_jkt", "resource", "request", "request_uri", "error", evil} {
		v := authorization("app", name, evil)
		twice := authorization("app")
		twice[name] = []string{evil, evil}
		for _, request := range []url.Values{v, twice} {
			for _, got := range []answer{s.browser().authorize(request), signedIn.authorize(request), s.post(request)} {
				for hops := 0; got.status == 302 && strings.HasPrefix(got.location(), "/") && hops < 5; hops++ {
					got = signedIn.follow(s.base, got.location())
				}
				switch {
				case got.status == 302:
					if u, err := url.Parse(got.location()); err != nil || u.Scheme+"://"+u.Host+u.Path != "https://app.example.org/cb" {
						t.Errorf("%.20s leads to %s", name, got.location())
					}
				case got.status == 400:
					if got.guarded(); shownCode.FindString(got.body) == "" {
						t.Errorf("%.20s: no error-code in %s", name, got.text())
					}
					got.wantNot("<script>alert", "<img src=x", "onerror=alert(1)>")
				default:
					got.want(200).guarded().wantNot("<script>alert", "<img src=x", "onerror=alert(1)>")
				}
			}
		}
	}
}

func TestAuthorizePages(t *testing.T) {
	s := newServer(t, applications(oauthApplications))
	b := s.browser()
	page := b.authorize(authorization("app", "login_hint", `ada"><script>alert(1)</script>`, "response_mode", "form_post", "state", `"><script>alert(1)</script>`)).want(302).location()
	login := b.open(page).want(302).location()
	b.open(login).want(200, "Sign in").guarded().wantNot("<b>App</b>")
	credentials := strings.Replace(login, "/login?", "/login/alpha?", 1)
	b.open(credentials).want(200, `id="username"`).guarded().wantNot("<script>alert", "<b>App</b>")
	b.submit(credentials, "username", "ada", "password", "ada-pw").leadsTo(s.base[:len(s.base)-1] + page)

	consent := b.open(page).want(200, `id="consent-allow"`, `id="consent-deny"`, "&lt;b&gt;App").guarded().wantNot("<b>App</b>")
	field := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(consent.body)
		if m == nil {
			t.Fatalf("no %s in %s", name, consent.body)
		}
		return m[1]
	}
	answer := []string{"request", field("request"), "person", field("person"), "decision", "allow"}
	// Another site cannot say yes, and who is shown the page of somebody else is asked.
	b.submitFrom("https://evil.example.com/", "oauth/continue", answer...).want(403)
	ben := s.browser()
	ben.login("alpha", "ben")
	ben.submit("oauth/continue", answer...).leadsTo(page)
	s.browser().submit("oauth/continue", answer...).leadsTo(page)

	posted := b.submit("oauth/continue", answer...).want(200, `action="https://app.example.org/cb"`, `name="code"`, `name="iss"`, "<button").wantNot("<script>alert")
	if policy := posted.header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "script-src 'nonce-") || posted.header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("got %v", posted.header)
	}
	if !strings.Contains(posted.body, `value="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"`) {
		t.Errorf("the state is not what it was: %s", posted.body)
	}
	if got := b.open(page).want(400); shownCode.FindStringSubmatch(got.body)[1] != "invalid_request" {
		t.Errorf("answered a second time: %s", got.text())
	}
}

// A form on a page of a client comes without our cookie, and is answered all the same.
func TestAuthorizeByPost(t *testing.T) {
	s := newServer(t, applications(oauthApplications))
	b := s.browser()
	b.login("alpha", "ada")
	for _, size := range []int{1, 9_000, 100_000} {
		for _, prompt := range []string{"", "none"} {
			state := strings.Repeat("s", size)
			page := s.post(authorization("trusted", "state", state, "prompt", prompt)).want(302).location()
			if !strings.HasPrefix(page, "/oauth/continue?request=") {
				t.Fatalf("leads to %.100s", page)
			}
			u, err := url.Parse(b.open(page).want(302).location())
			if err != nil || u.Query().Get("code") == "" || u.Query().Get("state") != state {
				t.Errorf("a state of %d: %v, %.100s", size, err, u)
			}
		}
	}
	// Errors need nobody.
	if to := s.post(authorization("trusted", "scope", "openid", "prompt", "x")).want(302).location(); !strings.HasPrefix(to, "https://trusted.example.org/cb?error=invalid_request&") {
		t.Errorf("leads to %s", to)
	}
	for _, query := range []string{"state=%zz", "state=%", "a;b=c"} {
		got := b.open("oauth/authorize?" + authorization("trusted").Encode() + "&" + query).want(400).guarded()
		if shownCode.FindStringSubmatch(got.body)[1] != "invalid_request" {
			t.Errorf("%s: %s", query, got.text())
		}
	}
	before := s.documents("authorization")
	s.post(authorization("trusted", "state", strings.Repeat("s", 1_000_000))).want(413).guarded()
	if after := s.documents("authorization"); after != before {
		t.Errorf("%d requests wait, %d did", after, before)
	}
}

// Rule 41, over HTTP.
func TestPush(t *testing.T) {
	s := newServer(t, applications(oauthApplications))
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("trusted:a-secret-that-is-long-enough")))
	var pushed struct {
		RequestURI string `json:"request_uri"`
	}
	s.browser().send("POST", "oauth/par", header, authorization("trusted", "state", "pushed").Encode()).want(201).json(&pushed)
	b := s.browser()
	b.login("alpha", "ada")
	request := "oauth/authorize?" + url.Values{"client_id": {"trusted"}, "request_uri": {pushed.RequestURI}, "state": {"outside"}}.Encode()
	if u, err := url.Parse(b.open(request).want(302).location()); err != nil || u.Query().Get("code") == "" || u.Query().Get("state") != "pushed" {
		t.Errorf("leads to %v, %v", u, err)
	}
	if got := b.open(request).want(400).guarded(); shownCode.FindStringSubmatch(got.body)[1] != "invalid_request_uri" {
		t.Errorf("a second time: %s", got.text())
	}
}

// Browsers hold a redirect that follows a form to the policy of the page; applications on
// somebody's own device are reached by a page instead.
func TestNativeApplication(t *testing.T) {
	s := newServer(t, applications(`[{"url": "https://app.example.org/", "name": "App", "client_id": "app",
		"token_endpoint_auth_method": "none", "application_type": "native", "redirect_uris": ["org.example.app:/cb"], "trusted": true}]`))
	b := s.browser()
	b.login("alpha", "ada")
	for _, uri := range []string{"org.example.app:/cb"} {
		request := "oauth/authorize?" + url.Values{"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {uri}, "scope": {"openid"},
			"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}.Encode()
		b.open(request).want(200, "signed in", `<meta http-equiv="refresh" content="0; url=`+uri+`?code=`, `href="`+uri+`?code=`)
	}
}
