package web_test

import (
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"login-server/identity"
)

// The pages of contract section 6, in the order in which people meet them.

func TestRoot(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.open("").leadsTo("/login")
	b.open("?redirect_uri=" + url.QueryEscape(appOrigin+"/x")).leadsTo("/login?redirect_uri=" + url.QueryEscape(appOrigin+"/x"))
	b.login("alpha", "ada")
	b.open("").leadsTo("/account")
}

func TestLoginPage(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.open("login").want(200, "Sign in", "Continue with Alpha", "Continue with Local", `href="/login/alpha"`).wantNot("Continue with Off")
	b.open("login/").want(200, "Continue with Alpha") // as published clients write it
	b.open("login/off").want(404, "Page not found")
	b.open("login/nobody").want(404)
	b.open("login/alpha").want(200, "Sign in with Alpha", `action="/login/alpha"`, `name="username"`, `name="password"`, "Sign in another way", `href="/login"`)
	b.login("alpha", "ada")
	b.open("account").want(200, "You are signed in.")
	b.open("login").leadsTo("/account")
}

func TestWrongCredentials(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	target := url.Values{"redirect_uri": {appOrigin + "/a?b=c"}}.Encode()
	for _, tc := range []struct{ name, provider, username, password, message string }{
		{"wrong password", "alpha", "ada", "nope", "Could not verify credentials."},
		{"unknown user", "alpha", "nobody", "nope", "Could not verify credentials."},
		{"empty password", "alpha", "ada", "", "Please enter your password."},
		{"empty username", "alpha", "", "x", "Please enter your username."},
		{"local", "local", "lou", "nope", "Could not verify credentials."},
		{"local, unknown", "local", "nobody", "nope", "Could not verify credentials."},
		{"script, with a reason", "script", "sam", "nope", "Could not verify credentials: The script says no."},
		{"control character", "alpha", "a\x01da", "ada-pw", "Could not verify credentials."},
		{"very long name", "alpha", strings.Repeat("x", 50_000), "ada-pw", "Could not verify credentials."},
		{"very long password", "alpha", "ada", strings.Repeat("x", 50_000), "Could not verify credentials."},
		{"password of another account", "alpha", "ada", "ben-pw", "Could not verify credentials."},
	} {
		s.run(tc.name, func(t *testing.T) {
			form := "/login/" + tc.provider + "?" + target
			b.submit("login/"+tc.provider+"?"+target, "username", tc.username, "password", tc.password).leadsTo(form)
			page := b.follow(s.base+"login", form).want(200, tc.message, `action="`+html.EscapeString(form)+`"`)
			if len(tc.password) > 0 && strings.Contains(page.body, `value="`+tc.password) {
				t.Error("the password is on the page")
			}
			// The message is shown once.
			b.follow(s.base+"login", form).want(200).wantNot("Could not verify", "Please enter")
		})
	}
	b.get("currentUser").want(401)
	if n := s.documents("session") + s.documents("user"); n != 0 {
		t.Errorf("%d documents were stored", n)
	}
	// What was typed is filled in again, but for the password.
	b.submit("login/alpha", "username", `ada"><b>`, "password", "secret!")
	b.open("login/alpha").want(200, "ada&#34;&gt;&lt;b&gt;").wantNot("secret!", "<b>")
	if strings.Contains(s.log.String(), "secret!") || strings.Contains(s.log.String(), "nope") {
		t.Error("a password is in the log")
	}
}

func TestLocalAndScript(t *testing.T) {
	s := newServer(t)
	lou, sam := s.browser(), s.browser()
	lou.submit("login/local", "username", "lou", "password", "lovelace").leadsTo("/account")
	if got := lou.user(); got.Name != "Lou" || got.Identities["local"].ID != "lou" {
		t.Errorf("got %+v", got)
	}
	sam.submit("login/script", "username", "sam", "password", "opensesame").leadsTo("/account")
	if got := sam.user(); got.Name != "Sam Script" || got.Identities["script"].ID != "sam" {
		t.Errorf("got %+v", got)
	}
}

// Where a login may lead to. Everything else is refused with an explanation, before
// anybody types a password.
func TestRedirectTargets(t *testing.T) {
	s := newServer(t)
	escape := func(target string) string { return url.Values{"redirect_uri": {target}}.Encode() }
	for _, target := range []string{
		appOrigin, appOrigin + "/", appOrigin + "/deep/page?a=b&c=d#part", toolOrigin + "/x", application, application + "page",
		s.base + "help", s.base + "sessions", "/help",
	} {
		s.run(target, func(t *testing.T) {
			b := s.browser()
			page := b.open("login?" + escape(target)).want(200)
			b.follow(s.base+"login", link(t, page, "login/alpha")).want(200)
			final := b.submit("login/alpha?"+escape(target), "username", "ada", "password", "ada-pw").want(302)
			want := target
			switch target {
			case appOrigin:
				want += "/"
			case "/help":
				want = s.base + "help"
			}
			final.leadsTo(want)
			b.open("login?" + escape(target)).leadsTo(want)
			b.open("login/alpha?" + escape(target)).leadsTo(want)
		})
	}
	for _, target := range []string{
		"javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"//evil.example.com", "///evil.example.com", `/\evil.example.com`, `\\evil.example.com`, "https:evil.example.com", "https:/evil.example.com", "http:///evil.example.com",
		evilOrigin, evilOrigin + "/" + appOrigin, appOrigin + ".evil.example.com", appOrigin + "@evil.example.com", "https://app.example.org:444/",
		"http://app.example.org/", "https://evil.example.com#" + appOrigin, "https://evil.example.com?" + appOrigin, "https://user:pw@app.example.org/",
		"https://cocoda.example.org/", "https://cocoda.example.org/apple", "https://cocoda.example.org/app/../x", "https://cocoda.example.org/app/%2e%2e/x",
		"/\t/evil.example.com", "https://app.example.org\t.evil.example.com", "https://app.example.org/\r\nSet-Cookie: a=b", "https://app.example.org/\x00",
		"account", "../login", "?x", "#x", "https://", "https://app.example.org\\@evil.example.com/", "https://аpp.example.org/", "ftp://app.example.org/",
		"https://app.example.org/" + strings.Repeat("x", 5000),
		// Pages of our own that act when they are opened.
		s.base + "logout", s.base + "logout/?x", s.base + "disconnect/alpha", "/disconnect/alpha", "/%64isconnect/alpha", "/logout",
	} {
		s.run(target[:min(len(target), 60)], func(t *testing.T) {
			b := s.browser()
			for _, path := range []string{"login?", "login/alpha?", "logout?"} {
				page := b.open(path + escape(target))
				if page.status != 400 {
					t.Fatalf("%s%s: got %d (Location %q), want 400", path, target, page.status, page.location())
				}
				page.want(400, "Unknown destination", "For your safety it does not take you there.", "Continue without it", `href="/login"`).wantNot("javascript:")
			}
			b.submit("login/alpha?"+escape(target), "username", "ada", "password", "ada-pw").want(400)
			b.get("currentUser").want(401)
			b.login("alpha", "ada")
			b.open("login?" + escape(target)).want(400)
			b.submit("logout?" + escape(target)).want(400)
			b.get("currentUser").want(200)
		})
	}
}

// link finds the first link of a page whose target begins with a path below base.
func link(t *testing.T, page answer, path string) string {
	t.Helper()
	found := regexp.MustCompile(`(?:href|action)="(/[^"]*` + regexp.QuoteMeta(path) + `[^"]*)"`).FindStringSubmatch(page.body)
	if found == nil {
		t.Fatalf("%s: no link to %s in %s", page.url, path, page.body)
	}
	return html.UnescapeString(found[1])
}

// An empty redirect_uri is the page that somebody came from.
func TestEmptyRedirectURI(t *testing.T) {
	s := newServer(t)
	want := url.Values{"redirect_uri": {appOrigin + "/"}}.Encode()

	b := s.browser()
	page := b.follow(appOrigin+"/page", "login?redirect_uri=").want(200, "Sign in to continue to The App", "You will then return to", "app.example.org")
	if got := link(t, page, "login/alpha"); got != "/login/alpha?"+want {
		t.Errorf("the form is at %s", got)
	}
	if got := link(t, page, "lang=de"); got != "/login?"+want+"&lang=de" {
		t.Errorf("the switch of language leads to %s", got)
	}
	form := b.follow(s.base+"login?redirect_uri=", "login/alpha?"+want).want(200)
	if got := link(t, form, "lang=de"); got != "/login/alpha?"+want+"&lang=de" {
		t.Errorf("the switch of language leads to %s", got)
	}
	b.submit("login/alpha?"+want, "username", "ada", "password", "ada-pw").leadsTo(appOrigin + "/")

	for name, from := range map[string]string{"nowhere": "", "elsewhere": evilOrigin + "/", "our own page": s.base + "help"} {
		s.run(name, func(t *testing.T) {
			b := s.browser()
			page := b.follow(from, "login?redirect_uri=").want(200)
			if got := link(t, page, "login/alpha"); got != "/login/alpha" {
				t.Errorf("the form is at %s", got)
			}
		})
	}
}

// The application that sent somebody is named, and the session is its own.
func TestApplicationOfSession(t *testing.T) {
	s := newServer(t)
	for _, tc := range []struct{ name, from, redirect, want string }{
		{"by redirect_uri", "", application + "x", "Cocoda"},
		{"by referrer", appOrigin + "/page", "", "The App"},
		{"redirect_uri before referrer", appOrigin + "/page", application, "Cocoda"},
		{"referrer when redirect_uri says nothing", appOrigin + "/page", toolOrigin + "/", "The App"},
		{"none", evilOrigin + "/", "", ""},
	} {
		s.run(tc.name, func(t *testing.T) {
			b := s.browser()
			path := "login"
			if tc.redirect != "" {
				path += "?" + url.Values{"redirect_uri": {tc.redirect}}.Encode()
			}
			page := b.follow(tc.from, path).want(200)
			if tc.want == "" {
				page.wantNot("to continue to")
			} else {
				page.want(200, "Sign in to continue to "+tc.want)
			}
			form := link(t, page, "login/alpha")
			b.follow(s.base+path, form).want(200)
			b.submit(form, "username", "ada", "password", "wrong").leadsTo(form)
			b.submit(form, "username", "ada", "password", "ada-pw").want(302)
			if tc.want != "" {
				b.open("sessions").want(200, tc.want+" This session")
			} else {
				b.open("sessions").want(200, "This server This session")
			}
		})
	}
}

// Logins do not come to a dead end: each of these ends signed in, where the person
// wanted to go.
func TestLoginsNeverDeadEnd(t *testing.T) {
	target := appOrigin + "/work"
	query := "?" + url.Values{"redirect_uri": {target}}.Encode()
	credentials := []string{"username", "ada", "password", "ada-pw"}
	start := func(t *testing.T) (*server, *browser) {
		s := newServer(t)
		b := s.browser()
		b.follow(appOrigin, "login"+query).want(200)
		b.follow(s.base+"login"+query, "login/alpha"+query).want(200)
		return s, b
	}
	t.Run("wrong password, back, another provider", func(t *testing.T) {
		s, b := start(t)
		again := b.submit("login/alpha"+query, "username", "ada", "password", "x").want(302)
		page := b.follow(s.base+"login/alpha", again.location()).want(200)
		list := b.follow(s.base+"login/alpha", link(t, page, "login?")).want(200)
		b.submit(link(t, list, "login/beta"), credentials...).leadsTo(target)
	})
	t.Run("restart in between", func(t *testing.T) {
		s, b := start(t)
		s.start()
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
	})
	t.Run("another key in between", func(t *testing.T) {
		s, b := start(t)
		s.cfg.SessionSecrets = []string{"quite another secret than before"}
		s.start()
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
		b.get("currentUser").want(200)
	})
	t.Run("cookies cleared half-way", func(t *testing.T) {
		s, _ := start(t)
		forgetful := s.browser()
		forgetful.submit("login/alpha"+query, credentials...).leadsTo(target)
		forgetful.get("currentUser").want(200)
	})
	t.Run("left open overnight", func(t *testing.T) {
		s, b := start(t)
		s.clock.Advance(12 * time.Hour)
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
	})
	t.Run("left open for a year", func(t *testing.T) {
		s, b := start(t)
		s.clock.Skip(365 * 24 * time.Hour)
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
		b.get("currentUser").want(200)
	})
	t.Run("two tabs", func(t *testing.T) {
		s, b := start(t)
		other := "?" + url.Values{"redirect_uri": {toolOrigin + "/other"}}.Encode()
		b.follow(toolOrigin, "login/beta"+other).want(200)
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
		// The second tab links, and leads where it was to lead.
		b.submit("login/beta"+other, credentials...).leadsTo(toolOrigin + "/other")
		// The back button, and the same form once more.
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
		b.follow(s.base+"login", "login/alpha"+query).leadsTo(target)
		if u := b.user(); len(u.Identities) != 2 {
			t.Errorf("got %+v", u)
		}
	})
	t.Run("the account was deleted in another tab", func(t *testing.T) {
		_, b := start(t)
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
		tab := b.copyOf()
		b.submit("delete").leadsTo("/login")
		tab.submit("login/alpha"+query, credentials...).leadsTo(target)
		tab.get("currentUser").want(200)
	})
	t.Run("double click", func(t *testing.T) {
		_, b := start(t)
		again := b.copyOf()
		b.submit("login/alpha"+query, credentials...).leadsTo(target)
		again.submit("login/alpha"+query, credentials...).leadsTo(target)
		again.get("currentUser").want(200)
		b.get("currentUser").want(200)
	})
}

func TestAccountPage(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.open("account").leadsTo("/login")
	b.login("alpha", "ada")
	u := b.user()
	b.open("account").want(200, "Account", u.URI, `value="Ada"`, "Alpha", "https://alpha.example/ada",
		"This is your only way to sign in.", "Connect Beta", `href="/login/beta"`, `href="/sessions"`, `href="/account/data"`, `href="/delete"`, `href="/logout"`).
		wantNot("Connect Alpha", "/disconnect/")
	b.submit("login/beta", "username", "ada", "password", "ada-pw")
	b.open("account").want(200, `action="/disconnect/alpha"`, `action="/disconnect/beta"`).wantNot("This is your only way to sign in. Connect another one before")

	for _, tc := range []struct{ name, typed, message string }{
		{"empty", "", "Please enter a name."},
		{"spaces", "  ", "Please enter a name."},
		{"too long", strings.Repeat("é", 201), "The name is too long. It can have up to 200 characters."},
		{"much too long", strings.Repeat("<", 20_000), "The name is too long. It can have up to 200 characters."},
		{"control", "Ada\x07", "The name contains characters that cannot be displayed."},
	} {
		s.run(tc.name, func(t *testing.T) {
			b.submit("account/name", "name", tc.typed).leadsTo("/account")
			b.follow(s.base, "account").want(200, `id="name-error"`, tc.message, `aria-invalid="true"`)
			b.follow(s.base, "account").want(200).wantNot(`id="name-error"`)
			if got := b.user().Name; got != "Ada" {
				t.Errorf("the name is %q", got)
			}
		})
	}
	b.submit("account/name", "name", " <script>alert(1)</script> ").leadsTo("/account")
	b.open("account").want(200, "Your name has been changed.").wantNot("<script>alert")
	if got := b.user().Name; got != "<script>alert(1)</script>" {
		t.Errorf("the name is %q", got)
	}
	s.browser().submit("account/name", "name", "x").leadsTo("/login")
}

func TestDisconnect(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.open("disconnect/alpha").leadsTo("/login")
	b.login("alpha", "ada")
	b.submit("login/beta", "username", "ada", "password", "ada-pw")

	b.submit("disconnect/gamma").leadsTo("/account")
	b.open("account").want(200, "This identity is not connected to your account.")
	b.follow(s.base+"account", "disconnect/beta").leadsTo("/account")
	b.open("account").want(200, "Beta is no longer connected to your account.")
	for _, act := range []func() answer{
		func() answer { return b.submit("disconnect/alpha") },
		func() answer { return b.follow(s.base+"account", "disconnect/alpha") },
	} {
		act().leadsTo("/account")
		b.open("account").want(200, "This is your only way to sign in, so it stays connected. Connect another one first.")
	}
	if got := b.user().Identities; len(got) != 1 {
		t.Errorf("identities: %v", got)
	}
	// The identity is free: whoever signs in with it next has a new account.
	other := s.browser()
	other.login("beta", "ada")
	if other.user().ID == b.user().ID {
		t.Error("a disconnected identity still leads to the account")
	}
}

func TestLogout(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	b.submit("logout").leadsTo("/login")
	b.open("login").want(200, "You are signed out.")
	b.get("currentUser").want(401)
	b.open("logout").want(200, "You are signed out", "Sign in again")
	b.submit("logout").leadsTo("/login")

	b.login("alpha", "ada")
	target := url.Values{"redirect_uri": {appOrigin + "/bye"}}.Encode()
	b.follow(appOrigin+"/page", "logout/?"+target).leadsTo(appOrigin + "/bye")
	b.get("currentUser").want(401)
	b.follow(appOrigin+"/page", "logout/?"+target).leadsTo(appOrigin + "/bye")

	// When it asks it keeps where to go.
	b.login("alpha", "ada")
	page := b.open("logout?"+target).want(200, "Sign out?", "Stay signed in")
	b.submit(link(t, page, "logout?"+"redirect_uri")).leadsTo(appOrigin + "/bye")
}

// GET /logout and GET /disconnect act on a link that was followed on our pages or
// those of an allowed application. They ask when it came from elsewhere, and do
// nothing at all as an image, a frame, a fetch or a prefetch.
func TestLinksThatAct(t *testing.T) {
	type request struct {
		name   string
		header []string
		acts   bool
	}
	nav := func(site, referer string, more ...string) []string {
		h := []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", site, "Accept", "text/html"}
		if referer != "" {
			h = append(h, "Referer", referer)
		}
		return append(h, more...)
	}
	const own = "http://localhost:3004/"
	requests := []request{
		{"own page", nav("same-origin", own+"account"), true},
		{"own page without a referrer", nav("same-origin", ""), true},
		{"allowed application", nav("cross-site", appOrigin+"/"), true},
		{"listed application", nav("cross-site", application), true},
		{"own page, older browser", []string{"Accept", "text/html,*/*", "Referer", own + "account"}, true},
		{"allowed application, older browser", []string{"Accept", "text/html,*/*", "Referer", appOrigin + "/x"}, true},
		{"another site", nav("cross-site", evilOrigin+"/"), false},
		{"another site without a referrer", nav("cross-site", ""), false},
		{"another site that looks like an application", nav("cross-site", appOrigin+".evil.com/"), false},
		{"same site, another host", nav("same-site", "http://other.localhost/"), false},
		{"typed", nav("none", ""), false},
		{"program", nil, false},
		{"image on our own page", []string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image", "Sec-Fetch-Site", "same-origin", "Referer", own}, false},
		{"image on an application", []string{"Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image", "Sec-Fetch-Site", "cross-site", "Referer", appOrigin + "/"}, false},
		{"image on an application, older browser", []string{"Accept", "image/avif,image/webp,*/*;q=0.8", "Referer", appOrigin + "/"}, false},
		{"frame", []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Sec-Fetch-Site", "cross-site", "Accept", "text/html", "Referer", appOrigin + "/"}, false},
		{"fetch", []string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "cross-site", "Origin", appOrigin, "Referer", appOrigin + "/"}, false},
		{"fetch, older browser", []string{"Origin", appOrigin, "Referer", appOrigin + "/", "Accept", "*/*"}, false},
		{"own fetch", []string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin", "Referer", own}, false},
		{"prefetch", nav("same-origin", own, "Sec-Purpose", "prefetch"), false},
		{"prerender", nav("same-origin", own, "Sec-Purpose", "prefetch;prerender"), false},
		{"prefetch, older browser", nav("same-origin", own, "Purpose", "prefetch"), false},
	}
	s := newServer(t)
	for _, r := range requests {
		s.run(r.name, func(t *testing.T) {
			b := s.browser()
			b.login("alpha", "ada")
			if len(b.user().Identities) == 1 {
				b.submit("login/beta", "username", "ada", "password", "ada-pw")
			}
			page := b.send("GET", "disconnect/beta", headers(r.header...), "")
			if r.acts {
				page.leadsTo("/account")
			} else {
				page.want(200, "Disconnect Beta?", "Keep it connected", `action="/disconnect/beta"`)
			}
			if got := len(b.user().Identities) == 1; got != r.acts {
				t.Errorf("disconnected: %v, want %v", got, r.acts)
			}
			page = b.send("GET", "logout", headers(r.header...), "")
			if r.acts {
				page.leadsTo("/login")
				b.get("currentUser").want(401)
			} else {
				page.want(200, "Sign out?", `action="/logout"`)
				b.get("currentUser").want(200)
			}
		})
	}
}

func TestSessionsPage(t *testing.T) {
	s := newServer(t)
	b, phone := s.browser(), s.browser()
	b.open("sessions").leadsTo("/login")
	phone.header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	phone.login("beta", "ada")
	b.login("alpha", "ada")
	b.submit("merge", "proof", b.prove("beta", "ada"))
	phone.socket(appOrigin).greeting("loggedIn", "token")

	page := b.open("sessions").want(200, "This session", "Chrome on Linux", "Firefox on Linux", "127.0.0.1", "Beta", "Open connections 1", "Recent sign-ins", "Remove all other sessions")
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(page.body)
	if id == nil || id[1] != s.handleOf(phone) {
		t.Fatalf("the other session is shown as %v", id)
	}
	// What is shown opens nothing: it is not what the cookie carries.
	for _, c := range append(b.cookies(), phone.cookies()...) {
		page.wantNot(c.Value)
	}
	stranger := s.browser()
	stranger.login("alpha", "ben")
	stranger.submit("sessions/remove", "id", id[1]).leadsTo("/sessions")
	stranger.open("sessions").want(200, "This session does not exist any more.")
	phone.get("currentUser").want(200)

	b.submit("sessions/remove", "id", id[1]).leadsTo("/sessions")
	b.open("sessions").want(200, "The session has been removed.").wantNot("Remove all other")
	phone.get("currentUser").want(401)
	phone.open("account").leadsTo("/login")
	for _, id := range []string{"", "x", strings.Repeat("x", 50_000)} {
		b.submit("sessions/remove", "id", id).leadsTo("/sessions")
	}

	// Who has pressed the button on another page is back there.
	phone.login("beta", "ada")
	b.open("security").want(200, `name="page" value="security"`)
	b.submit("sessions/remove", "id", s.handleOf(phone), "page", "security").leadsTo("/security")
	phone.login("beta", "ada")
	b.submit("sessions/remove-others", "page", "security").leadsTo("/security")
	b.open("security").want(200, "All other sessions have been removed.")
	b.submit("sessions/remove", "id", "x", "page", "//evil.example").leadsTo("/sessions")

	phone.login("beta", "ada")
	b.submit("sessions/remove-others").leadsTo("/sessions")
	b.open("sessions").want(200, "All other sessions have been removed.")
	phone.get("currentUser").want(401)
	b.submit("sessions/remove", "id", s.handleOf(b)).leadsTo("/sessions")
	b.open("sessions").leadsTo("/login")
	b.open("login").want(200, "The session has been removed.")
}

func TestDelete(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.open("delete").leadsTo("/login")
	b.login("alpha", "ada")
	id := b.user().ID

	// Right after signing in a click is enough; later the name has to be typed.
	b.open("delete").want(200, "Delete your account?", "Delete account for good").wantNot(`name="name"`)
	s.clock.Advance(11 * time.Minute)
	b.open("delete").want(200, `name="name"`, "To confirm, type the name of the account:")
	for _, typed := range []string{"", "ada", "Ada!", "Bob"} {
		b.submit("delete", "name", typed).leadsTo("/delete")
		b.open("delete").want(200, "This is not the name of the account.")
		b.get("currentUser").want(200)
	}
	b.submit("delete?name=Ada").leadsTo("/delete") // the query does not count
	b.submit("delete", "name", " Ada ").leadsTo("/login")
	b.open("login").want(200, "Your account has been deleted.")
	b.get("currentUser").want(401)
	b.get("users/" + id).want(404)
	for _, kind := range []string{"user", "session", "signin"} {
		if n := s.documents(kind); n != 0 {
			t.Errorf("%d documents of kind %s are left", n, kind)
		}
	}

	b.login("alpha", "ada")
	if b.user().ID == id {
		t.Error("the same account is back")
	}
	b.submit("delete").leadsTo("/login")

	// By another process, of which this one has not heard yet.
	b.login("alpha", "ada")
	id = b.user().ID
	elsewhere := identity.NewDirectory(s.store, identity.Options{BaseURL: s.base, Now: s.clock.Now})
	if err := elsewhere.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.fetch(appOrigin, "PATCH", "users/"+id, `{"name": "Ghost"}`).want(401)
	b.submit("account/name", "name", "Ghost").leadsTo("/login")
	b.submit("login/beta", "username", "ben", "password", "ben-pw").leadsTo("/account")
	if got := b.user(); got.ID == id || got.Identities["beta"].ID != "b2" {
		t.Errorf("signed in as %+v", got)
	}
	b.submit("delete").leadsTo("/login")

	// With it goes what was merged into it, on all devices.
	b, former := s.merged()
	phone := s.browser()
	phone.login("beta", "ada")
	b.submit("delete").leadsTo("/login")
	phone.get("currentUser").want(401)
	s.browser().get("users/" + former.ID).want(404)
	if n := s.documents("user"); n != 0 {
		t.Errorf("%d accounts are left", n)
	}
}

func TestDownload(t *testing.T) {
	s := newServer(t)
	s.browser().open("account/data").leadsTo("/login")
	b, former := s.merged()
	b.follow(appOrigin, "login?redirect_uri=")
	a := b.open("account/data").want(200)
	if got := a.header.Get("Content-Disposition"); got != `attachment; filename="account.json"` {
		t.Errorf("Content-Disposition is %q", got)
	}
	var data struct {
		Account struct {
			ID         string                     `json:"_id"`
			Identities map[string]json.RawMessage `json:"identities"`
		}
		Former   []struct{ URI string }
		Sessions []struct{ Handle, UserAgent, Address string }
		SignIns  []struct{ Provider, Address, UserAgent string }
	}
	a.json(&data)
	if data.Account.ID != b.user().ID || len(data.Account.Identities) != 2 || len(data.Former) != 1 || data.Former[0].URI != former.URI ||
		len(data.Sessions) != 2 || len(data.SignIns) != 3 || data.SignIns[0].Address != "127.0.0.1" || !strings.Contains(data.SignIns[0].UserAgent, "Chrome") {
		t.Errorf("got %s", a.body)
	}
	a.wantNot("secret", "password", "-pw")
	for _, c := range b.cookies() {
		a.wantNot(c.Value)
	}
}

func TestHelpAndAPI(t *testing.T) {
	s := newServer(t)
	for _, b := range []*browser{s.browser(), func() *browser { b := s.browser(); b.login("alpha", "ada"); return b }()} {
		b.open("help").want(200, "What is stored", "Cocoda", "https://cocoda.example.org/app/", "The App", "for 30 days after your last visit")
		b.open("api").want(200, `data-base="http://localhost:3004/"`, `data-socket="ws://localhost:3004/"`, "api.js")
		b.open("help").want(200, `href="https://example.org/imprint"`, `href="https://example.org/privacy"`, `href="https://example.org/sources"`)
	}
}

func TestErrorPages(t *testing.T) {
	s := newServer(t, env("RATE_LIMIT_MAX", "3"))
	b := s.browser()
	b.open("nothing/here").want(404, "Page not found", "Go to the start page", `href="/"`)
	b.open("help/").want(200)
	b.submit("help").want(405, "This does not work here")
	// Programs are answered in their own way.
	golden(t, "not-found", b.send("GET", "nothing/here", headers("Accept", "application/json"), "").want(404).body)
	golden(t, "method-not-allowed", b.send("PUT", "about", nil, "").want(405).body)
	b.submit("login/alpha", "username", strings.Repeat("x", 200_000), "password", "x").want(413, "Too much data")
	b.open("login?redirect_uri="+url.QueryEscape(evilOrigin)).want(400, "Unknown destination", "evil.example.com")

	s.run("429", func(t *testing.T) {
		query := "?" + url.Values{"redirect_uri": {appOrigin + "/x"}}.Encode()
		for range 3 {
			b.submit("login/alpha"+query, "username", "ada", "password", "x").want(302)
		}
		page := b.submit("login/alpha"+query, "username", "ada", "password", "ada-pw").want(429, "Too many attempts", "Try again")
		seconds, err := strconv.Atoi(page.header.Get("Retry-After"))
		if err != nil || seconds < 1 || seconds > 60 {
			t.Errorf("Retry-After is %q", page.header.Get("Retry-After"))
		}
		page.want(429, "Please wait "+strconv.Itoa(seconds)+" second", `href="/login/alpha`+html.EscapeString(query)+`"`)
		b.get("currentUser").want(401)
	})
	s.run("500", func(t *testing.T) {
		b := s.browser()
		b.header.Set("Accept", "text/html")
		signedIn := newServer(t)
		c := signedIn.browser()
		c.login("alpha", "ada")
		c.open("account").want(200)
		signedIn.users.ForgetAll()
		signedIn.store.fail(broken("user"))
		page := c.open("account").want(500, "Something went wrong", "Request").wantNot("sqlite", "secret-path")
		id := regexp.MustCompile(`id="request-id">([^<]+)<`).FindStringSubmatch(page.body)
		if id == nil || !strings.Contains(signedIn.log.String(), "request_id="+id[1]) || !strings.Contains(signedIn.log.String(), "secret-path") {
			t.Errorf("the request id %v does not lead to the cause in the log", id)
		}
		call := c.get("currentUser").want(500).wantNot("sqlite", "secret-path")
		golden(t, "internal", call.body)
		if call.header.Get("X-Request-Id") == "" {
			t.Error("no request id")
		}

		signedIn.store.fail(away)
		signedIn.users.ForgetAll()
		page = c.open("account").want(503, "Temporarily unavailable").wantNot("sqlite", "secret-path")
		if page.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		golden(t, "unavailable", c.get("currentUser").want(503).body)
		// What needs no store goes on.
		signedIn.browser().open("login").want(200, "Continue with Alpha")
		signedIn.browser().open("help").want(200)
	})
	s.run("panic", func(t *testing.T) {
		s := newServer(t)
		c := s.browser()
		c.login("alpha", "ada")
		s.users.ForgetAll()
		s.store.fail(func(kind string) error { panic("the panic says secret-path") })
		c.open("account").want(500, "Something went wrong").wantNot("secret-path")
		c.get("currentUser").want(500, `"code":"internal"`).wantNot("secret-path")
		s.store.fail(broken(""))
		c.open("account").want(200)
	})
}

// In development, and only then, there is a gallery of every page in every state.
func TestGallery(t *testing.T) {
	newServer(t).browser().open("dev/gallery").want(404)

	s := newServer(t, func(o *options) { o.dev = true })
	b := s.browser()
	index := b.open("dev/gallery").want(200, "Gallery")
	pages := regexp.MustCompile(`href="/(dev/gallery/[^"]+)"`).FindAllStringSubmatch(index.body, -1)
	if len(pages) < 20 {
		t.Fatalf("%d pages", len(pages))
	}
	for _, page := range pages {
		b.open(page[1]).want(200, "<main")
		b.open(page[1]+"?lang=de").want(200, `<html lang="de">`)
	}
	b.open("dev/gallery/nothing").want(404)
}

func TestLanguage(t *testing.T) {
	s := newServer(t)
	const german, english = "Weiter mit Alpha", "Continue with Alpha"
	b := s.browser()
	accept := func(languages string) answer {
		t.Helper()
		return b.send("GET", "login", headers("Accept-Language", languages), "")
	}
	accept("").want(200, english, `<html lang="en">`)
	accept("de-AT,de;q=0.9,en;q=0.5").want(200, german, `<html lang="de">`)
	accept("fr,de;q=0.5").want(200, german)
	accept("fr").want(200, english)
	accept(strings.Repeat("x", 5000)).want(200, english)
	accept(";;;,,,*/q=\xff").want(200, english)

	b.open("login?lang=de").want(200, german)
	accept("en").want(200, german) // chosen once, kept
	b.open("account").leadsTo("/login")
	b.open("nothing").want(404, "Seite nicht gefunden")
	b.open("login?lang=xx&redirect_uri="+url.QueryEscape(appOrigin+"/")).want(200, `redirect_uri`)
	b.open("login?lang=en").want(200, english)
	accept("de").want(200, english)
	b.open("login?lang=" + url.QueryEscape("\"><script>")).want(200).wantNot(`"><script>`)
}
