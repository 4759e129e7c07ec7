package providers

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"login-server/config"
	"login-server/identity"
)

func fakeGitHub(t *testing.T, user string) *upstream {
	u := newUpstream(t, "/login/oauth/access_token", "/api/v3/user")
	u.profile = func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got == "" {
			writeJSON(w, http.StatusUnauthorized, object{"message": "Requires authentication"})
			return
		} else if got != "Bearer "+oauthToken {
			t.Errorf("Authorization %q", got)
		}
		if r.Header.Get("Accept") != "application/vnd.github+json" || r.Header.Get("X-GitHub-Api-Version") != "2022-11-28" || r.UserAgent() != "login-server/1.2.3" || r.URL.RawQuery != "" {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		_, _ = io.WriteString(w, user)
	}
	return u
}

func githubOf(t *testing.T, u *upstream, more object) *Provider {
	options := object{"clientID": oauthClient, "clientSecret": oauthSecret, "baseURL": u.URL}
	for name, value := range more {
		options[name] = value
	}
	return open(t, "github", options)
}

const octocat = `{"login":"octocat","id":583231,"node_id":"MDQ6VXNlcjU4MzIzMQ==","type":"User","name":"The Octocat","email":null}`

func TestGitHub(t *testing.T) {
	for _, tc := range []struct {
		user string
		want identity.Profile
	}{
		{octocat, identity.Profile{ID: "583231", Name: "The Octocat", Username: "octocat"}},
		{`{"id": 9007199254740993, "login": "ada", "name": null}`, identity.Profile{ID: "9007199254740993", Username: "ada"}},
		{`{"id": 7}`, identity.Profile{ID: "7"}},
		{`{"id": 7, "login": "ada", "name": " Ada\u202e\n<b>Lovelace "}`, identity.Profile{ID: "7", Name: "Ada <b>Lovelace", Username: "ada"}},
	} {
		for _, form := range []bool{false, true} {
			u := fakeGitHub(t, tc.user)
			u.form = form
			p := githubOf(t, u, nil)
			tc.want.Provider = "p"
			got, err := u.login(t.Context(), p)
			if err != nil || got != tc.want {
				t.Errorf("%s: got %+v, %v", tc.user, got, err)
			}
			if h := p.Health(); !h.Known || !h.Up {
				t.Errorf("health %+v", h)
			}
			if err := p.Prober.Probe(t.Context()); err != nil {
				t.Errorf("Probe: %v", err)
			}
		}
	}
	for _, user := range []string{`{}`, `{"login":"octocat"}`, `{"id":null,"login":"octocat"}`, `{"id":0}`, `{"id":-1}`, `{"id":1.5}`, `{"id":5e5}`, `{"id":"octocat"}`, `{"id":""}`, `{"id":true}`, `{"id":[1]}`, `{"id":` + strings.Repeat("9", identity.MaxID+1) + `}`} {
		u := fakeGitHub(t, user)
		_, err := u.login(t.Context(), githubOf(t, u, nil))
		wantPlain(t, err, "")
	}
}

// TestGitHubTemplate: the URI is made of what the profile says, not the id.
func TestGitHubTemplate(t *testing.T) {
	u := fakeGitHub(t, `{"id":1,"login":"../evil?#"}`)
	p, _ := openWith(t, testDeps(), config.Provider{ID: "p", Strategy: "github", Name: "P", Template: "https://github.com/{username}"},
		object{"clientID": oauthClient, "clientSecret": oauthSecret, "baseURL": u.URL})
	got, err := u.login(t.Context(), p)
	if err != nil || got.URI != "https://github.com/..%2Fevil%3F%23" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestGitHubRefusals: errors come with status 200. None of them is a success, and none
// is told as a wrong password.
func TestGitHubRefusals(t *testing.T) {
	u := fakeGitHub(t, octocat)
	p := githubOf(t, u, nil)
	begin := func(p *Provider) (Login, url.Values) {
		l := aLogin(p)
		d, err := p.Website.Begin(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		return l, u.approve(l, d.URL, nil)
	}
	for _, form := range []bool{false, true} {
		u.form = form

		l, answer := begin(p)
		if _, err := u.finish(t.Context(), p, l, answer); err != nil {
			t.Fatal(err)
		}
		_, err := u.finish(t.Context(), p, l, answer)
		wantPlain(t, err, "bad_verification_code") // used twice

		l, answer = begin(p)
		l.Verifier = aLogin(p).Verifier
		_, err = u.finish(t.Context(), p, l, answer)
		wantPlain(t, err, "bad_verification_code") // the code of another login

		l, answer = begin(p)
		answer.Set("code", "invented-hunter2")
		_, err = u.finish(t.Context(), p, l, answer)
		wantPlain(t, err, "bad_verification_code")

		stranger := githubOf(t, u, object{"clientSecret": "another-hunter2"})
		l, answer = begin(stranger)
		_, err = u.finish(t.Context(), stranger, l, answer)
		wantPlain(t, err, "incorrect_client_credentials")

		l, answer = begin(p)
		u.granted[answer.Get("code")] = grant{u.granted[answer.Get("code")].challenge, "https://login.example.org/other"}
		_, err = u.finish(t.Context(), p, l, answer)
		wantPlain(t, err, "redirect_uri_mismatch")
	}
	asked := false
	u.token = func(http.ResponseWriter, *http.Request) { asked = true }
	l, answer := begin(p)
	answer.Del("code")
	_, err := u.finish(t.Context(), p, l, answer)
	wantPlain(t, err, "no code")
	answer.Set("code", "")
	_, err = u.finish(t.Context(), p, l, answer)
	wantPlain(t, err, "no code")
	if asked {
		t.Error("the token endpoint was asked without a code")
	}
}

// TestGitHubLimits: too many requests may pass, a suspended account does not.
func TestGitHubLimits(t *testing.T) {
	u := fakeGitHub(t, "")
	p := githubOf(t, u, nil)
	for _, tc := range []struct {
		name   string
		status int
		header map[string]string
		body   string
		limit  bool
	}{
		{"primary", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000000"}, `{"message":"API"}`, true},
		{"secondary", 403, map[string]string{"Retry-After": "60", "X-RateLimit-Remaining": "14"}, `{}`, true},
		{"secondary without a header", 403, map[string]string{"X-RateLimit-Remaining": "14"}, `{"message":"You have exceeded a secondary rate limit."}`, true},
		{"429", 429, nil, ``, true},
		{"suspended", 403, map[string]string{"X-RateLimit-Remaining": "4999"}, `{"message":"Sorry. Your account was suspended."}`, false},
		{"token revoked", 401, map[string]string{"X-RateLimit-Remaining": "0"}, `{"message":"Bad credentials"}`, false},
		{"no such version", 400, nil, `{}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u.profile = func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range tc.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}
			_, err := u.login(t.Context(), p)
			if tc.limit {
				wantUnavailable(t, err, "too many requests")
			} else {
				wantPlain(t, err, "status")
			}
			if p.Health().Up == tc.limit {
				t.Errorf("health %+v", p.Health())
			}
		})
	}
	u.token = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }
	_, err := u.login(t.Context(), p)
	wantUnavailable(t, err, "status 429")
}

func TestGitHubOptions(t *testing.T) {
	u := fakeGitHub(t, octocat)
	p := githubOf(t, u, object{"prompt": "select_account", "scope": []string{"user:email", "read:user"}})
	l := aLogin(p)
	d, err := p.Website.Begin(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	u.approve(l, d.URL, url.Values{"prompt": {"select_account"}, "scope": {"user:email read:user"}})

	for _, tc := range []struct{ base, authorize, token, user string }{
		{"", "https://github.com/login/oauth/authorize", "https://github.com/login/oauth/access_token", "https://api.github.com/user"},
		{"https://GitHub.com/", "https://github.com/login/oauth/authorize", "https://github.com/login/oauth/access_token", "https://api.github.com/user"},
		{"https://octocorp.ghe.com", "https://octocorp.ghe.com/login/oauth/authorize", "https://octocorp.ghe.com/login/oauth/access_token", "https://api.octocorp.ghe.com/user"},
		{"https://github.example.org/", "https://github.example.org/login/oauth/authorize", "https://github.example.org/login/oauth/access_token", "https://github.example.org/api/v3/user"},
	} {
		g := open(t, "github", object{"clientID": "x", "clientSecret": "y", "baseURL": tc.base}).Website.(*site).website.(*github)
		if e := g.config.Endpoint; e.AuthURL != tc.authorize || e.TokenURL != tc.token || g.profileURL != tc.user {
			t.Errorf("%q: %+v, %s", tc.base, e, g.profileURL)
		}
	}
	g := open(t, "github", object{"clientID": "x", "clientSecret": "y", "authorizationURL": "http://localhost/a", "tokenURL": "http://localhost/t", "profileURL": "http://localhost/u"}).Website.(*site).website.(*github)
	if e := g.config.Endpoint; e.AuthURL != "http://localhost/a" || e.TokenURL != "http://localhost/t" || g.profileURL != "http://localhost/u" {
		t.Errorf("%+v, %s", e, g.profileURL)
	}
}

func TestGitHubBadServers(t *testing.T) {
	badUpstreams(t, func(t *testing.T) (*upstream, *Provider) {
		u := fakeGitHub(t, octocat)
		return u, githubOf(t, u, nil)
	})
}
