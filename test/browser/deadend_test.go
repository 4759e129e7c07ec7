package browser

import (
	"net/url"
	"testing"
)

// application is a listed application on another port, whose pages the browser
// may only reach if the Content-Security-Policy of our forms lets it.
func application(t *testing.T) (s *server, landing, query string) {
	t.Helper()
	app := newSite(t)
	app.page("/app/landing", "<h1>Welcome back</h1>")
	s = start(t, options{apps: map[string]string{app.at("localhost") + "/app/": "Cocoda", app.at("localhost") + "/other/": "BARTOC"}})
	landing = app.at("localhost") + "/app/landing?from=login"
	return s, landing, "?redirect_uri=" + url.QueryEscape(landing)
}

// TestRedirectURI is kept from page to page, and followed at the end.
func TestRedirectURI(t *testing.T) {
	t.Parallel()
	for name, who := range map[string]person{"with JavaScript": {script: true}, "without": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, landing, query := application(t)
			b := newTab(t, who)
			b.visit(s.to("login" + query))
			b.reads("h1", "Cocoda")
			b.reads("", "localhost:")
			b.follow(provider("local"))
			b.signIn(ada, "wrong")
			b.reads("#form-error", "Could not verify")
			b.follow(".after a") // another way, after all
			b.follow(provider("test"))
			b.reads("", "to continue to Cocoda")
			b.signIn(ada, "wrong")
			b.signIn(ada, adaPassword)
			b.At(landing)

			// Signed in already: straight on.
			b.visit(s.to("login" + query))
			b.At(landing)
			b.visit(s.to("login/test" + query))
			b.At(landing)
			// Another identity, on the way to the application.
			b.visit(s.to("login/script" + query))
			b.signIn(ada, adaPassword)
			b.At(landing)
			b.visit(s.to("sessions"))
			b.reads("#sessions .current", "Cocoda")
			b.visit(s.to("help"))
			b.reads(".applications", "Cocoda", "BARTOC")
		})
	}
}

// TestRedirectThroughMerge follows the redirect_uri when accounts merge on the way.
func TestRedirectThroughMerge(t *testing.T) {
	t.Parallel()
	s, landing, query := application(t)
	b := newTab(t, person{script: true})
	b.signInAt(s, "test", ada, adaPassword)
	b.Forget()
	b.signInAt(s, "local", ada, adaPassword)
	b.visit(s.to("login/test" + query))
	b.signIn(ada, adaPassword)
	b.At(s.to("merge"))
	b.follow("#merge-submit")
	b.At(landing)
}

func TestRedirectRefused(t *testing.T) {
	t.Parallel()
	s, _, _ := application(t)
	b := newTab(t, person{script: true})
	b.AllowStatus(400)
	for _, target := range []string{"https://evil.example/", "//evil.example", "javascript:alert(1)", "http://localhost:1/app/"} {
		b.visit(s.to("login/test?redirect_uri=" + url.QueryEscape(target)))
		b.reads("#error-code", "redirect_refused")
		b.follow("#error-link")
		b.At(s.to("login"))
	}
	b.follow(provider("test"))
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
}

// TestTwoTabs has two logins under way at once.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	s, landing, query := application(t)
	first := newTab(t, person{script: true})
	second := first.another()
	first.visit(s.to("login/test"))
	second.visit(s.to("login/test" + query))
	first.signIn(ada, adaPassword)
	first.At(s.to("account"))
	// The other form has been open all the time, and knows where it leads.
	second.signIn(ada, adaPassword)
	second.At(landing)

	// Two different providers at once end as one account.
	first.Forget()
	first.visit(s.to("login/local"))
	second.visit(s.to("login/script"))
	first.signIn(bob, bobPassword)
	second.signIn(bob, bobPassword)
	second.At(s.to("account"))
	second.reads("main .message", "Script is now connected")
	first.reload()
	if got, want := first.text("#uri"), second.text("#uri"); got != want {
		t.Errorf("two tabs show two accounts: %s and %s", got, want)
	}
	// Signed out in one tab, the other finds its way in again.
	second.follow(`.site-nav a[href$="logout"]`)
	first.fill("#name", "Too late")
	first.follow(`form[action$="account/name"] button`)
	first.At(s.to("login"))
}

func TestBackButton(t *testing.T) {
	t.Parallel()
	s, landing, query := application(t)
	b := newTab(t, person{script: true})
	b.visit(s.to("login"))
	b.follow(provider("test"))
	b.signIn(ada, "wrong")
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
	b.back()
	b.At(s.to("account"))
	b.reads("main .message", "already connected")

	// Signed out, the account page of before is not shown again.
	b.follow(`.site-nav a[href$="logout"]`)
	b.back()
	b.At(s.to("login"))

	// A form found by going back works, and leads where it led.
	b.visit(s.to("login/test" + query))
	b.visit(s.to("help"))
	b.back()
	b.signIn(ada, adaPassword)
	b.At(landing)

	// A button that says that it is busy does not stay so.
	b.Forget()
	b.visit(s.to("login/test"))
	b.signIn(ada, adaPassword)
	b.Forget()
	b.back()
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s, landing, query := application(t)
	b := newTab(t, person{script: true})
	b.visit(s.to("login/test" + query))
	signedIn := newTab(t, person{script: true})
	signedIn.signInAt(s, "test", bob, bobPassword)
	signedIn.visit(s.to("login/local"))
	s.Restart(t)

	b.signIn(ada, adaPassword)
	b.At(landing)
	signedIn.signIn(bob, bobPassword)
	signedIn.reads("main .message", "Library is now connected")

	// The demonstration is cut off, and connects again when asked to.
	signedIn.visit(s.to("api"))
	signedIn.hears(0, "loggedIn")
	signedIn.Allow("WebSocket connection", "net::ERR_CONNECTION_REFUSED")
	s.Restart(t)
	signedIn.UntilTrue(`document.querySelector("#socket-status").dataset.state === "bad"`)
	heard := len(signedIn.events())
	signedIn.click(`[data-action="reconnect"]`)
	signedIn.hears(heard, "loggedIn")
}

func TestCookiesCleared(t *testing.T) {
	t.Parallel()
	s, landing, query := application(t)
	b := newTab(t, person{script: true})

	// On the way to an application.
	b.visit(s.to("login/test" + query))
	b.Forget()
	b.signIn(ada, "wrong") // its message cannot be kept either
	b.Forget()
	b.signIn(ada, adaPassword)
	b.At(landing)

	// While connecting another identity: nobody is signed in any more, so that the
	// identity signs in by itself.
	b.visit(s.to("login/local"))
	b.Forget()
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
	b.reads("main .message", "You are signed in")

	// While asked about a merge.
	b.Forget()
	b.signInAt(s, "script", ada, adaPassword)
	b.visit(s.to("login/local"))
	b.signIn(ada, adaPassword)
	b.At(s.to("merge"))
	b.Forget()
	b.follow("#merge-submit")
	b.At(s.to("login"))
	b.follow(provider("script"))
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
}

// TestTooManyAttempts shows the waiting time, and the way back keeps the destination.
func TestTooManyAttempts(t *testing.T) {
	t.Parallel()
	app := newSite(t)
	landing := app.at("localhost") + "/"
	s := start(t, options{apps: map[string]string{landing: "Cocoda"}, env: []string{"RATE_LIMIT_MAX=2", "RATE_LIMIT_WINDOW=3000"}})
	b := newTab(t, person{script: true})
	b.AllowStatus(429)
	b.visit(s.to("login/test?redirect_uri=" + url.QueryEscape(landing)))
	for range 3 {
		b.signIn(ada, "wrong")
	}
	b.reads("#error-code", "rate_limited")
	b.reads("", "Please wait")
	b.Until("a next attempt", func() bool {
		if b.has("#error-link") {
			b.follow("#error-link")
		}
		b.signIn(ada, adaPassword)
		return b.Location() == landing
	})
}

// TestApplicationThatMovesOn redirects to yet another site once somebody is back.
// Browsers apply the form-action of our pages to all of that.
func TestApplicationThatMovesOn(t *testing.T) {
	t.Parallel()
	app := newSite(t)
	app.page("/callback", app.at("elsewhere.test")+"/done")
	app.page("/done", "<h1>Done</h1>")
	s := start(t, options{apps: map[string]string{app.at("localhost") + "/": "Cocoda"}})
	b := newTab(t, person{script: true})
	b.visit(s.to("login/test?redirect_uri=" + url.QueryEscape(app.at("localhost")+"/callback")))
	b.signIn(ada, adaPassword)
	b.At(app.at("elsewhere.test") + "/done")
}
