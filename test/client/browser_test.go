package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"login-server/internal/testenv"
)

// startBrowser starts a browser with an empty profile. The context is its first tab.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.NeedChromium(t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(time.Minute), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) }) // waits for the browser to end
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	return ctx
}

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

// tab is one page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func newTab(t *testing.T, browser context.Context) tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return tab{t, ctx}
}

// do carries out steps; if one fails, it shows the page and ends the test.
func (p tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, 20*time.Second)
	defer stop()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.fail(what, err)
	}
}

func (p tab) fail(what string, err error) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, 5*time.Second)
	defer stop()
	page, _ := chromedp.Run(ctx, chromedp.Evaluate[string](
		`location.href + " " + (typeof seen === "undefined" ? document.body.innerText : JSON.stringify(seen.map(e => e.message ?? [e.type, e.error])))`))
	p.t.Fatalf("%s: %v\n%s", what, err, page)
}

// until waits for an expression to be true in the page.
func (p tab) until(expression string) {
	p.t.Helper()
	p.do("wait for "+expression, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(10*time.Millisecond), chromedp.WithPollingTimeout(15*time.Second)))
}

// get evaluates an expression, which may be a promise.
func get[T any](p tab, expression string) T {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, 20*time.Second)
	defer stop()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.fail(expression, err)
	}
	return value
}

func (p tab) open(app, server string) {
	p.t.Helper()
	p.do("open the application", chromedp.Navigate(app+"/?server="+url.QueryEscape(server)))
}

// signIn goes the way of a person: the login page, a provider, its form.
func (p tab) signIn(server, provider, username, password string) {
	p.t.Helper()
	p.do("sign in",
		chromedp.Navigate(server+"login"),
		chromedp.Click(chromedp.CSS(fmt.Sprintf(`a[href*="login/%s"]`, provider))),
		chromedp.WaitVisible(chromedp.CSS(`#password`)),
		chromedp.SendKeys(chromedp.CSS(`input[name=username]`), username),
		chromedp.SendKeys(chromedp.CSS(`input[name=password]`), password),
		chromedp.Click(chromedp.CSS(`#login-submit`)),
		chromedp.WaitVisible(chromedp.CSS(`form[action$="account/name"]`)),
	)
}

func (p tab) signOut() {
	p.t.Helper()
	p.do("sign out", chromedp.Click(chromedp.CSS(`header a[href$="logout"]`)), chromedp.WaitVisible(chromedp.CSS(`a[href*="login/test"]`)))
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
	server := program.url
	browser := startBrowser(t)
	page, person := tab{t, browser}, newTab(t, browser)

	t.Run("an allowed origin", func(t *testing.T) {
		page, person := tab{t, page.ctx}, tab{t, person.ctx}
		page.open(at("localhost", app), server)
		page.until(`client.connected && count("logout") > 0`)
		if ids := get[[]string](page, `client.providers.map(p => p.id)`); strings.Join(ids, " ") != "test local" {
			t.Errorf("providers are %v", ids)
		}
		if base := get[string](page, `client.about.baseUrl`); base != server {
			t.Errorf("about has baseUrl %s, want %s", base, server)
		}

		person.signIn(server, "test", "ada", "ada-pass")
		page.until(`count("login") === 1 && count("token") > 0`)
		type claims struct {
			User struct {
				URI  string `json:"uri"`
				Name string `json:"name"`
			} `json:"user"`
			Iat int64 `json:"iat"`
			Exp int64 `json:"exp"`
		}
		got := get[claims](page, `verified()`)
		if got.User.Name != "Ada" || !strings.HasPrefix(got.User.URI, server+"users/") || got.Exp-got.Iat != 120 {
			t.Errorf("the token says %+v", got)
		}
		if uri := get[string](page, `client.user.uri`); uri != got.User.URI {
			t.Errorf("the client's user is %s, the token's %s", uri, got.User.URI)
		}

		// PATCH from another origin takes a pre-flight request.
		if status := get[int](page, `client.setName("Ada Lovelace").then(r => r.status)`); status != http.StatusOK {
			t.Errorf("setName: %d", status)
		}
		page.until(`last("update")?.user.name === "Ada Lovelace" && client.user.name === "Ada Lovelace"`)

		person.do("change the name on the account page", chromedp.Navigate(server+"account"),
			chromedp.SetValue(chromedp.CSS(`input[name=name]`), "Countess"), chromedp.Submit(chromedp.CSS(`form[action$="account/name"]`)))
		page.until(`last("update").user.name === "Countess"`)

		person.signOut()
		page.until(`count("logout") === 2 && client.user === null && !client.loggedIn && client.connected`)
		person.signIn(server, "local", "erin", "demo")
		page.until(`count("login") === 2 && client.user.name === "Erin"`)

		// What an application does without the client; below, others try the same.
		for what, answer := range get[map[string]string](page, `attempt()`) {
			if answer == "TypeError" || answer == "closed" {
				t.Errorf("%s: the page got %q", what, answer)
			}
		}
		if unexpected := get[[]any](page, `seen.filter(e => ["error", "disconnect"].includes(e.type))`); len(unexpected) > 0 {
			t.Errorf("the client told of %v", unexpected)
		}

		page.do("reload", chromedp.Reload())
		page.until(`count("login") === 1 && client.connected && count("token") > 0 && count("logout") === 0`)
		if got := get[claims](page, `verified()`); got.User.Name != "Erin" {
			t.Errorf("after a reload, the token says %+v", got)
		}
		page.do("disconnect", chromedp.Evaluate[chromedp.Void](`client.disconnect()`))
		page.until(`count("disconnect") === 1`)
	})

	t.Run("another site, whose cookies the browser keeps back", func(t *testing.T) {
		page := tab{t, page.ctx}
		page.open(at("127.0.0.1", app), server)
		page.until(`last("error")?.error === "ThirdPartyCookiesBlockedError" && client.about.ok === 1 && client.user === null`)
	})

	t.Run("an origin that is not allowed", func(t *testing.T) {
		// Somebody is signed in, and the page is of the same site as the server, so that
		// the browser sends the cookie along.
		page := tab{t, page.ctx}
		page.open(at("localhost", elsewhere), server)
		found := get[map[string]string](page, `attempt()`)
		want := map[string]string{"currentUser": "TypeError", "token": "TypeError", "about": "TypeError", "login": "TypeError", "socket": "closed"}
		for what, answer := range want {
			if found[what] != answer {
				t.Errorf("%s: the page got %.80q, want %q", what, found[what], answer)
			}
		}
		page.until(`count("error") > 0`)
		if received := get[int](page, `count("_received") + count("connect")`); received != 0 {
			t.Error("the client received something")
		}
	})
}
