package web_test

import (
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/config"
	"login-server/token"
)

// What the older program got wrong (contract section 8). Its clients do not depend on
// any of it; each of these fails on what it did.
func TestFaults(t *testing.T) {
	t.Run("an anonymous POST /delete ended the process", func(t *testing.T) {
		b := newServer(t).browser()
		b.submit("delete").leadsTo("/login")
		b.submit("delete", "name", "x").leadsTo("/login")
		b.get("about").want(200)
	})

	t.Run("a cross-site form signed the victim in to, and merged them with, the attacker's account", func(t *testing.T) {
		s := newServer(t)
		victim := s.browser()
		for _, from := range []string{evilOrigin + "/", appOrigin + "/", "null"} {
			victim.submitFrom(from, "login/alpha", "username", "ben", "password", "ben-pw").want(403, "Request from another website")
			victim.get("currentUser").want(401)
		}
		victim.login("alpha", "ada")
		for _, from := range []string{evilOrigin + "/", appOrigin + "/", "null"} {
			victim.submitFrom(from, "login/beta", "username", "ben", "password", "ben-pw").want(403)
		}
		if got := victim.user().Identities; len(got) != 1 {
			t.Errorf("identities: %v", got)
		}
	})

	t.Run("a page of any origin opened the WebSocket with the victim's cookie and read the JWT", func(t *testing.T) {
		s := newServer(t)
		victim := s.browser()
		victim.login("alpha", "ada")
		if _, _, err := victim.dial(evilOrigin); err == nil {
			t.Error("it still does")
		}
	})

	t.Run("a token handed to any backend opened a socket on the user's session for good", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		handed := b.socket(appOrigin).greeting("loggedIn", "token").Data.Token
		if s.verify(handed).SessionID != "" {
			t.Error("a token of the socket, which applications hand to their backends, carries a session")
		}
		var own tokenAnswer
		b.get("token").want(200).json(&own)
		s.clock.Advance(61*time.Second + token.Leeway)
		backend := s.browser().socket("")
		backend.greeting("loggedOut")
		backend.send(`{"type": "authenticate", "token": "` + own.Token + `"}`)
		backend.expect("error")
		backend.expectNothing()
	})

	t.Run("the last identity could be disconnected", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		b.submit("disconnect/alpha").leadsTo("/account")
		b.follow(s.base+"account", "disconnect/alpha").leadsTo("/account")
		if got := b.user().Identities; len(got) != 1 {
			t.Errorf("identities: %v", got)
		}
	})

	t.Run("eight parallel first sign-ins made four accounts", func(t *testing.T) {
		s := newServer(t)
		browsers := make([]*browser, 8)
		for i := range browsers {
			browsers[i] = s.browser()
			browsers[i].open("login")
		}
		var wg sync.WaitGroup
		for _, b := range browsers {
			wg.Go(func() { b.submit("login/alpha", "username", "ada", "password", "ada-pw") })
		}
		wg.Wait()
		for _, b := range browsers {
			if got, want := b.user().ID, browsers[0].user().ID; got != want {
				t.Errorf("accounts %s and %s", got, want)
			}
		}
		if n := s.documents("user"); n != 1 {
			t.Errorf("%d accounts", n)
		}
	})

	t.Run("sockets closed during the greeting stayed registered for ever", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		for range 50 {
			_ = b.socket(appOrigin).conn.CloseNow()
		}
		deadline := time.Now().Add(patience)
		for s.running.Load().Hub().Stats().Sockets > 0 {
			if time.Now().After(deadline) {
				t.Fatalf("%d sockets are still registered", s.running.Load().Hub().Stats().Sockets)
			}
			time.Sleep(time.Millisecond) // the kernel tells the server when it likes
		}
		if st := s.running.Load().Hub().Stats(); st.Sessions != 0 {
			t.Errorf("%d sessions are still registered", st.Sessions)
		}
	})

	t.Run("authenticate sent right after open was lost", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		var own tokenAnswer
		b.get("token").want(200).json(&own)
		c := s.browser().socket(appOrigin)
		c.send(`{"type": "authenticate", "token": "` + own.Token + `"}`) // before anything is read
		c.expect("open", "about", "providers", "loggedOut", "authenticated", "loggedIn", "token")
	})

	t.Run("the session was saved after the answer", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		for range 20 {
			b.submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
			b.get("currentUser").want(200)
			b.submit("logout").leadsTo("/login")
			b.get("currentUser").want(401)
		}
	})

	t.Run("PATCH took an empty name, null, 90 kB, and fell over an object", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		for _, name := range []string{`""`, `" "`, `null`, `"` + strings.Repeat("x", 90_000) + `"`, `{}`, `{"toString": 1}`, `[]`, `0`} {
			b.fetch(appOrigin, "PATCH", "users/"+b.user().ID, `{"name": `+name+`}`).want(422)
		}
		if got := b.user().Name; got != "Ada" {
			t.Errorf("the name is %q", got)
		}
	})

	t.Run("credentials were accepted in the query string", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		query := "?" + url.Values{"username": {"ada"}, "password": {"ada-pw"}}.Encode()
		b.open("login/alpha"+query).want(200, "Sign in with Alpha")
		again := b.submit("login/alpha" + query).want(302)
		if strings.Contains(again.location(), "ada") {
			t.Errorf("credentials go on to %s", again.location())
		}
		b.get("currentUser").want(401)
		if strings.Contains(s.log.String(), "ada-pw") {
			t.Error("and stand in the log")
		}
	})

	// How long both take is measured in providers; here, that they are answered alike.
	t.Run("an unknown user was answered otherwise than a wrong password", func(t *testing.T) {
		s := newServer(t)
		for _, provider := range []string{"alpha", "local"} {
			var pages []string
			for _, username := range []string{"ada", "lou", "nobody"} {
				b := s.browser()
				b.submit("login/"+provider, "username", username, "password", "wrong").leadsTo("/login/" + provider)
				page := b.open("login/" + provider).text()
				pages = append(pages, page)
			}
			if pages[0] != pages[1] || pages[1] != pages[2] {
				t.Errorf("%s answers differently: %q", provider, pages)
			}
		}
	})

	t.Run("redirect_uri could be javascript: and was written into the page", func(t *testing.T) {
		b := newServer(t).browser()
		for _, path := range []string{"login?", "login/alpha?", "logout?"} {
			b.open(path+url.Values{"redirect_uri": {"javascript:alert(document.domain)"}}.Encode()).want(400).wantNot("javascript:", "alert(")
		}
	})

	t.Run("every page view of an anonymous visitor stored a session", func(t *testing.T) {
		s := newServer(t)
		for _, path := range []string{"", "login", "login/alpha", "account", "sessions", "help", "api", "logout", "about", "token", "currentUser", "nothing"} {
			b := s.browser()
			b.open(path)
			b.open(path)
		}
		s.browser().socket(appOrigin).greeting("loggedOut")
		for _, kind := range []string{"session", "user", "signin", "ticket"} {
			if n := s.documents(kind); n != 0 {
				t.Errorf("%d documents of kind %s", n, kind)
			}
		}
	})

	t.Run("raw session ids were shown on the sessions page", func(t *testing.T) {
		s := newServer(t)
		b, phone := s.browser(), s.browser()
		b.login("alpha", "ada")
		phone.login("alpha", "ada")
		page := b.open("sessions").want(200)
		handle := s.handleOf(phone)
		if !strings.Contains(page.body, handle) {
			t.Fatal("the sessions are not named by their handles")
		}
		// The handle in place of the cookie opens nothing.
		thief := s.browser()
		for _, c := range phone.cookies() {
			c.Value = handle
			thief.header.Add("Cookie", c.Name+"="+c.Value)
		}
		thief.get("currentUser").want(401)
		for _, c := range append(b.cookies(), phone.cookies()...) {
			page.wantNot(c.Value)
		}
	})

	t.Run("signing key reused for encryption", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		var own tokenAnswer
		b.get("token").want(200).json(&own)
		sealed := s.verify(own.Token).SessionID
		// With the same key pair and another SESSION_SECRET it is not readable any more.
		s.cfg.SessionSecrets = []string{"quite another secret than before"}
		s.start()
		c := s.browser().socket("")
		c.greeting("loggedOut")
		c.send(`{"type": "authenticate", "token": "` + own.Token + `"}`)
		c.expect("error")
		if sealed == "" {
			t.Error("no sessionID")
		}
	})

	t.Run("the script saw all of the server's secrets", func(t *testing.T) {
		t.Setenv("MONGO_PASS_OF_THE_SERVER", "secret")
		s := newServer(t)
		b := s.browser()
		b.submit("login/script", "username", "env", "password", "x").leadsTo("/login/script")
		page := b.open("login/script").want(200, "PASSWORD", "USERNAME").text()
		for _, name := range []string{"MONGO", "SESSION_SECRET", "JWT_PRIVATE_KEY"} {
			if strings.Contains(page, name) {
				t.Errorf("the script sees %s: %s", name, page)
			}
		}
	})

	t.Run("no Vary: Origin", func(t *testing.T) {
		b := newServer(t).browser()
		for _, origin := range []string{"", appOrigin, evilOrigin} {
			h := headers()
			if origin != "" {
				h.Set("Origin", origin)
			}
			variesByOrigin(t, b.send("GET", "about", h, ""))
		}
	})

	t.Run("the default session secret was a constant", func(t *testing.T) {
		if _, _, err := config.Load(t.TempDir(), []string{"NODE_ENV=production", "BASE_URL=https://login.example.org/", "SESSION_SECRET=keyboard cat keyboard cat"}); err == nil ||
			!strings.Contains(err.Error(), "easy to guess") {
			t.Errorf("got %v", err)
		}
		cfg, _, _ := config.Load(t.TempDir(), nil)
		if len(cfg.SessionSecrets) != 0 {
			t.Errorf("without a setting the secrets are %q", cfg.SessionSecrets)
		}
	})

	t.Run("OAuth without state", func(t *testing.T) {
		s, github, _ := federated(t)
		attacker, victim := s.browser(), s.browser()
		fields, state := fieldsOf(t, github.approve(attacker.setOut(s.base+"login", "login/github"), "eve"))
		code := fields[slices.Index(fields, "code")+1]
		victim.open("login")
		for _, path := range []string{
			query("login/github/return", "code", code), query("login/github/return", "code", code, "state", ""), query("login/github/return", "code", code, "state", "x"),
			query("login/github/return", "code", code, "state", state),
		} {
			victim.follow(evilOrigin, path).want(400)
		}
		victim.get("currentUser").want(401)
		// What stands in the way is the state alone: where it belongs the code is good.
		attacker.back(github, query("login/github/return", fields...)).leadsTo("/account")
	})

	t.Run("a page about a dead database answered 200", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		s.users.ForgetAll()
		s.sessions.ForgetAll()
		s.store.fail(away)
		for _, path := range []string{"", "account", "sessions", "login", "login/beta", "delete", "account/data"} {
			b.open(path).want(503, "Temporarily unavailable").wantNot("sqlite")
		}
		b.submit("login/alpha", "username", "ada", "password", "ada-pw").want(503)
		s.browser().submit("login/alpha", "username", "ada", "password", "ada-pw").want(503)
	})
}
