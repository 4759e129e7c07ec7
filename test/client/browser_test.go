package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"login-server/internal/testbrowser"
	"login-server/internal/testenv"
)

// chromium is the browser of these tests.
var chromium testbrowser.Browser

// startApp serves the application in app/, with the published browser build, at an
// origin of its own.
func startApp(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("app")))
	mux.HandleFunc("GET /gbv-login-client.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "node_modules/gbv-login-client/dist/gbv-login-client.js")
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// at is the origin of a server under another name of this machine: the same site
// as the login server when that is localhost, another one when it is 127.0.0.1.
func at(host string, server *httptest.Server) string {
	u, err := url.Parse(server.URL)
	if err != nil {
		panic(err)
	}
	return "http://" + host + ":" + u.Port()
}

// tab is one page of the browser. What its console says is not looked at: applications try
// here what they may not.
type tab struct {
	*testbrowser.Tab
	t *testing.T
}

var options = testbrowser.Options{
	Minds:   func(testbrowser.Complaint) bool { return false },
	Explain: `typeof seen === "undefined" ? document.body.innerText : JSON.stringify(seen.map(e => e.message ?? [e.type, e.error]))`,
}

func (p tab) in(t *testing.T) tab { return tab{p.In(t), t} }

func (p tab) open(app, server string) {
	p.t.Helper()
	p.Visit(app + "/?server=" + url.QueryEscape(server))
}

// signIn goes the way of a person: the login page, a provider, its form.
func (p tab) signIn(server, provider, username, password string) {
	p.t.Helper()
	p.Visit(server + "login")
	p.Click(fmt.Sprintf(`a[href*="login/%s"]`, provider))
	p.Fill(`input[name=username]`, username)
	p.Fill(`input[name=password]`, password)
	p.Click(`#login-submit`)
	p.See(`form[action$="account/name"]`)
}

func (p tab) signOut() {
	p.t.Helper()
	p.Click(`header a[href$="logout"]`)
	p.See(`a[href*="login/test"]`)
}

// TestBrowser runs the published browser build in a real browser.
func TestBrowser(t *testing.T) {
	t.Parallel()
	testenv.NeedChromium(t)
	needPackages(t)
	app := startApp(t)
	elsewhere := startApp(t)
	program, err := startProgram(t, map[string]string{
		"ALLOWED_ORIGINS": at("localhost", app) + "," + at("127.0.0.1", app),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := program.Base
	page := tab{chromium.New(t, options), t}
	person := tab{page.Another(options), t}

	t.Run("an allowed origin", func(t *testing.T) {
		page, person := page.in(t), person.in(t)
		page.open(at("localhost", app), server)
		page.UntilTrue(`client.connected && count("logout") > 0`)
		if ids := testbrowser.Get[[]string](page, `client.providers.map(p => p.id)`); strings.Join(ids, " ") != "test local" {
			t.Errorf("providers are %v", ids)
		}
		if base := testbrowser.Get[string](page, `client.about.baseUrl`); base != server {
			t.Errorf("about has baseUrl %s, want %s", base, server)
		}

		person.signIn(server, "test", "ada", "ada-pass")
		page.UntilTrue(`count("login") === 1 && count("token") > 0`)
		type claims struct {
			User struct {
				URI  string `json:"uri"`
				Name string `json:"name"`
			} `json:"user"`
			Iat int64 `json:"iat"`
			Exp int64 `json:"exp"`
		}
		got := testbrowser.Get[claims](page, `verified()`)
		if got.User.Name != "Ada" || !strings.HasPrefix(got.User.URI, server+"users/") || got.Exp-got.Iat != 120 {
			t.Errorf("the token says %+v", got)
		}
		if uri := testbrowser.Get[string](page, `client.user.uri`); uri != got.User.URI {
			t.Errorf("the client's user is %s, the token's %s", uri, got.User.URI)
		}

		// PATCH from another origin takes a pre-flight request.
		if status := testbrowser.Get[int](page, `client.setName("Ada Lovelace").then(r => r.status)`); status != http.StatusOK {
			t.Errorf("setName: %d", status)
		}
		page.UntilTrue(`last("update")?.user.name === "Ada Lovelace" && client.user.name === "Ada Lovelace"`)

		person.Do("change the name on the account page", chromedp.Navigate(server+"account"),
			chromedp.SetValue(chromedp.CSS(`input[name=name]`), "Countess"), chromedp.Submit(chromedp.CSS(`form[action$="account/name"]`)))
		page.UntilTrue(`last("update").user.name === "Countess"`)

		person.signOut()
		page.UntilTrue(`count("logout") === 2 && client.user === null && !client.loggedIn && client.connected`)
		person.signIn(server, "local", "erin", "demo")
		page.UntilTrue(`count("login") === 2 && client.user.name === "Erin"`)

		// What an application does without the client; below, others try the same.
		for what, answer := range testbrowser.Get[map[string]string](page, `attempt()`) {
			if answer == "TypeError" || answer == "closed" {
				t.Errorf("%s: the page got %q", what, answer)
			}
		}
		if unexpected := testbrowser.Get[[]any](page, `seen.filter(e => ["error", "disconnect"].includes(e.type))`); len(unexpected) > 0 {
			t.Errorf("the client told of %v", unexpected)
		}

		page.Do("reload", chromedp.Reload())
		page.UntilTrue(`count("login") === 1 && client.connected && count("token") > 0 && count("logout") === 0`)
		if got := testbrowser.Get[claims](page, `verified()`); got.User.Name != "Erin" {
			t.Errorf("after a reload, the token says %+v", got)
		}
		testbrowser.Get[any](page, `void client.disconnect()`)
		page.UntilTrue(`count("disconnect") === 1`)
	})

	t.Run("another site, whose cookies the browser keeps back", func(t *testing.T) {
		page := page.in(t)
		page.open(at("127.0.0.1", app), server)
		page.UntilTrue(`last("error")?.error === "ThirdPartyCookiesBlockedError" && client.about.ok === 1 && client.user === null`)
	})

	t.Run("an origin that is not allowed", func(t *testing.T) {
		// Somebody is signed in, and the page is of the same site as the server, so that
		// the browser sends the cookie along.
		page := page.in(t)
		page.open(at("localhost", elsewhere), server)
		found := testbrowser.Get[map[string]string](page, `attempt()`)
		want := map[string]string{"currentUser": "TypeError", "token": "TypeError", "about": "TypeError", "login": "TypeError", "socket": "closed"}
		for what, answer := range want {
			if found[what] != answer {
				t.Errorf("%s: the page got %.80q, want %q", what, found[what], answer)
			}
		}
		page.UntilTrue(`count("error") > 0`)
		if received := testbrowser.Get[int](page, `count("_received") + count("connect")`); received != 0 {
			t.Error("the client received something")
		}
	})
}
