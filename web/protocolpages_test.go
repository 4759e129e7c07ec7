package web_test

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// plain fails the test unless a page is HTML that works without JavaScript: what can be
// done on it are forms with buttons and links, and scripts are ones that may be missing.
func (a answer) plain() answer {
	a.t.Helper()
	if regexp.MustCompile(`(?i)<[^>]+\son[a-z]+\s*=`).MatchString(a.body) || regexp.MustCompile(`(?i)(href|action)="javascript:`).MatchString(a.body) {
		a.t.Errorf("%s has inline handlers", a.url)
	}
	for _, script := range regexp.MustCompile(`<script[^>]*>`).FindAllString(a.body, -1) {
		if !strings.Contains(script, "nonce=") && !strings.Contains(script, "src=") {
			a.t.Errorf("%s: %s without a nonce", a.url, script)
		}
	}
	for _, form := range regexp.MustCompile(`(?s)<form.*?</form>`).FindAllString(a.body, -1) {
		// What only scripts can use is hidden until one shows it.
		usable := false
		for _, button := range regexp.MustCompile(`<button[^>]*>`).FindAllString(form, -1) {
			scripted, hidden := strings.Contains(button, `type="button"`), strings.Contains(button, " hidden")
			usable = usable || !scripted && !hidden && !strings.Contains(button, " disabled")
			if scripted && !hidden {
				a.t.Errorf("%s: %s is for scripts and shown without one", a.url, button)
			}
		}
		if !usable {
			a.t.Errorf("%s: a form without a button: %s", a.url, form)
		}
	}
	return a
}

// Rule 47: the ids that scripts of others look for, page by page, on pages that work without
// JavaScript. The whole way is gone by forms only.
func TestProtocolPages(t *testing.T) {
	const app = `[{"url": "https://app.example.org/", "name": "App", "client_id": "app", "client_secret": "a-secret-that-is-long-enough",
		"redirect_uris": ["https://app.example.org/cb"], "post_logout_redirect_uris": ["https://app.example.org/bye"],
		"logo_uri": "https://app.example.org/logo.png", "policy_uri": "https://app.example.org/policy", "tos_uri": "https://app.example.org/terms",
		"grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"]}]`
	s := newServer(t, applications(app))
	b := s.browser()
	client := []string{`id="client-logo"`, `https://app.example.org/logo.png`, `id="client-policy"`, `href="https://app.example.org/policy"`, `id="client-tos"`, `href="https://app.example.org/terms"`}

	request := b.authorize(authorization("app", "response_mode", "form_post", "prompt", "consent")).want(302).location()
	login := b.open(request).want(302).location()
	b.open(login).want(200, append(client, "Sign in")...).plain()
	credentials := strings.Replace(login, "/login?", "/login/alpha?", 1)
	b.open(credentials).want(200, append(client, "Sign in", `id="username"`, `id="password"`, `id="login-submit"`)...).plain()
	b.submit(credentials, "username", "ada", "password", "ada-pw").leadsTo(strings.TrimSuffix(s.base, "/") + request)

	page := b.open(request).want(200, append(client, `id="consent-allow"`, `id="consent-deny"`)...).plain()
	fields := []string{"decision", "allow"}
	for _, m := range regexp.MustCompile(`type="hidden" name="([a-z]+)" value="([^"]*)"`).FindAllStringSubmatch(page.body, -1) {
		fields = append(fields, m[1], m[2])
	}
	posted := b.submit("oauth/continue", fields...).want(200, `id="form-post"`, `method="post"`, `action="https://app.example.org/cb"`, `name="code"`, `name="state"`, `name="iss"`, "<button").plain()
	if scripts := regexp.MustCompile(`<script[^>]*>`).FindAllString(posted.body, -1); !slices.ContainsFunc(scripts, func(s string) bool { return strings.Contains(s, "nonce=") }) {
		t.Errorf("nothing posts the form by itself: %v", scripts)
	}

	// What nobody can be redirected for.
	wrong := b.authorize(authorization("app", "redirect_uri", "https://evil.example/")).want(400, `id="error-code"`).plain()
	if m := shownCode.FindStringSubmatch(wrong.body); m == nil || m[1] != "invalid_request" {
		t.Errorf("error-code in %s", wrong.text())
	}

	b.open("device").want(200, `id="device-code"`, `id="device-submit"`).plain()

	asks := b.follow("https://app.example.org/", "oauth/logout?"+url.Values{"post_logout_redirect_uri": {"https://evil.example/"}}.Encode()).want(200, `id="logout-confirm"`).plain()
	form := regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)".*?id="logout-confirm"`).FindStringSubmatch(asks.body)
	if form == nil {
		t.Fatalf("no form with logout-confirm in %s", asks.body)
	}
	fields = nil
	for _, m := range regexp.MustCompile(`type="hidden" name="([a-z_]+)" value="([^"]*)"`).FindAllStringSubmatch(asks.body, -1) {
		fields = append(fields, m[1], m[2])
	}
	done := b.submit(form[1], fields...)
	for hops := 0; done.status == 302 || done.status == 303; hops++ {
		if hops > 3 {
			t.Fatal("led round")
		}
		done = b.open(done.location())
	}
	done.want(200, `id="logout-done"`).plain()
	b.open("account").want(302)
}
