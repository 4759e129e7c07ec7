package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/config"
)

// What is tried against logins at other servers (RFC 9700, RFC 6819).

// anonymous fails the test if somebody is signed in.
func (b *browser) anonymous() {
	b.server.t.Helper()
	b.get("currentUser").want(401)
}

// Login CSRF (RFC 6819, 4.4.1.8): the attacker's own answer, delivered to the victim's
// browser, must not sign the victim in to the attacker's account, nor join it to theirs.
func TestAttackLoginCSRF(t *testing.T) {
	s, github, _ := federated(t)
	s.posting("github")
	attacker, victim, signedIn := s.browser(), s.browser(), s.browser()
	signedIn.login("alpha", "ada")
	// With a login of their own under way, too.
	busy := s.browser()
	busy.setOut(s.base+"login", "login/github")
	for _, v := range []*browser{victim, signedIn, busy} {
		callback := github.approve(attacker.setOut(s.base+"login", "login/github"), "eve")
		v.follow(evilOrigin+"/", callback).wantError(400, "other_browser")
		v.follow(s.base+"account", callback).wantError(400, "other_browser")
		fields, _ := fieldsOf(t, callback)
		posted := v.submitFrom(evilOrigin+"/", "login/github/return", fields...).want(303)
		v.follow(evilOrigin+"/", posted.location()).wantError(400, "other_browser")
	}
	victim.anonymous()
	busy.anonymous()
	if got := signedIn.user().Identities; len(got) != 1 {
		t.Errorf("identities: %v", got)
	}
	if n := s.documents("user"); n != 1 {
		t.Errorf("%d accounts, want the victim's", n)
	}
}

// States that are no login of this browser.
func TestAttackState(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
	fields, state := fieldsOf(t, callback)
	code := fields[slices.Index(fields, "code")+1]
	for _, wrong := range []string{"", " ", "x", state[1:], state + "A", state + " ", strings.ToUpper(state), strings.Repeat("A", 43), strings.Repeat("x", 20_000), "\x00", "\xff", "\r\nSet-Cookie: a=b", "../" + state, "*", "%"} {
		a := b.back(github, query("login/github/return", "code", code, "state", wrong)).wantError(400, "expired")
		if a.header.Get("A") != "" || len(a.header["Set-Cookie"]) != 0 {
			t.Errorf("%.20q: header %v", wrong, a.header)
		}
	}
	b.back(github, query("login/github/return", "code", code)).wantError(400, "expired")
	b.back(github, query("login/github/return", "code", code, "State", state)).wantError(400, "expired")
	b.back(github, query("login/github/return", "code", code, "state", "x", "state", state)).wantError(400, "expired")
	b.anonymous()
	// Twice, and the first is right: which of the two would the provider have meant?
	b.back(github, query("login/github/return", "code", code, "state", state, "state", "x")).leadsTo("/login")
	b.open("login").want(200, "could not be used")
	b.anonymous()
	for _, double := range []string{"code", "error", "iss"} {
		fields, state := fieldsOf(t, github.approve(b.setOut(s.base+"login", "login/github"), "ada"))
		code := fields[slices.Index(fields, "code")+1]
		b.back(github, query("login/github/return", "code", code, "state", state, double, "x", double, "y")).leadsTo("/login")
		b.anonymous()
	}
	b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
}

// Mix-up (RFC 9700, 4.4): an answer that was meant for one provider must not be redeemed
// at another, whichever of the two is the attacker's.
func TestAttackMixUp(t *testing.T) {
	s, github, hub := federated(t)
	for _, tc := range []struct {
		began, came   *upstream
		first, second string
	}{{github, hub, "github", "hub"}, {hub, github, "hub", "github"}} {
		b := s.browser()
		fields, _ := fieldsOf(t, tc.began.approve(b.setOut(s.base+"login", "login/"+tc.first), "ada"))
		b.back(tc.came, query("login/"+tc.second+"/return", fields...)).wantError(400, "expired")
		b.anonymous()
		tc.came.mu.Lock()
		asked := len(tc.came.tokens)
		tc.came.mu.Unlock()
		if asked != 0 {
			t.Errorf("%s was asked for a token", tc.second)
		}
		// And its state is known elsewhere now.
		b.back(tc.began, query("login/"+tc.first+"/return", fields...)).wantError(400, "expired")
		b.anonymous()
	}
	if n := s.documents("user"); n != 0 {
		t.Errorf("%d accounts", n)
	}
}

// Code injection (RFC 9700, 4.5): a code that was stolen from the victim is worth nothing
// in a login of the attacker's, because the verifier is another.
func TestAttackCodeInjection(t *testing.T) {
	s, github, _ := federated(t)
	victim, attacker := s.browser(), s.browser()
	stolen, _ := fieldsOf(t, github.approve(victim.setOut(s.base+"login", "login/github"), "ada"))
	code := stolen[slices.Index(stolen, "code")+1]
	_, state := fieldsOf(t, github.approve(attacker.setOut(s.base+"login", "login/github"), "eve"))
	attacker.back(github, query("login/github/return", "code", code, "state", state)).leadsTo("/login")
	attacker.open("login").want(200, "could not be used")
	attacker.anonymous()
	victim.anonymous()
	if n := s.documents("user"); n != 0 {
		t.Errorf("%d accounts", n)
	}
	// What comes with the answer changes nothing of what is sent to the token endpoint.
	fields, _ := fieldsOf(t, github.approve(victim.setOut(s.base+"login", "login/github"), "ada"))
	fields = append(fields, "code_verifier", strings.Repeat("A", 43), "redirect_uri", evilOrigin, "client_id", "x", "provider", "hub", "user", "eve")
	victim.back(github, query("login/github/return", fields...)).leadsTo("/account")
	if u := victim.user(); u.Identities["github"].ID != "583231" {
		t.Errorf("%+v", u)
	}
}

// A callback that somebody else has seen, in a log or over the shoulder.
func TestAttackReplay(t *testing.T) {
	s, github, _ := federated(t)
	b, thief := s.browser(), s.browser()
	callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", appOrigin+"/secret-place")), "ada")
	b.back(github, callback)
	thief.open("login")
	thief.back(github, callback).wantError(400, "other_browser").wantNot("secret-place")
	thief.anonymous()
	b.submit("logout")
	b.back(github, callback).wantError(400, "expired")
	b.anonymous()
	// With the cookies of the time before the sign-in: it was used, whoever comes.
	b = s.browser()
	callback = github.approve(b.setOut(s.base+"login", "login/github"), "ada")
	thief = b.copyOf()
	b.back(github, callback).leadsTo("/account")
	thief.back(github, callback).wantError(400, "expired")
	thief.anonymous()
}

// An identity joins only the account that has asked for it.
func TestAttackLinkOfAnotherSession(t *testing.T) {
	s, github, _ := federated(t)
	alone := func(b *browser, account string) {
		t.Helper()
		if u := b.user(); u.ID != account || len(u.Identities) != 1 {
			t.Errorf("%+v", u)
		}
		if n := s.documents("user"); n != 2 {
			t.Errorf("%d accounts, want Ada's and Ben's", n)
		}
	}
	ben := s.browser()
	ben.login("alpha", "ben")
	account := ben.user().ID

	b := s.browser()
	b.login("alpha", "ada")
	callback := github.approve(b.setOut(s.base+"account", "login/github"), "ada")
	b.submit("logout")
	b.login("alpha", "ben")
	b.back(github, callback).leadsTo("/account")
	b.open("account").want(200, "somebody signed in here as Ben, so nothing was connected")
	alone(b, account)

	// Signed out in between: it does not sign in instead.
	b = s.browser()
	b.login("alpha", "ada")
	callback = github.approve(b.setOut(s.base+"account", query("login/github", "redirect_uri", appOrigin+"/")), "ada")
	b.submit("logout")
	b.back(github, callback).leadsTo(query("/login", "redirect_uri", appOrigin+"/"))
	b.open("login").want(200, "You were signed out in the meantime, so GitHub was not connected.")
	b.anonymous()

	// Begun signed out, and somebody has signed in meanwhile.
	b = s.browser()
	callback = github.approve(b.setOut(s.base+"login", "login/github"), "ada")
	b.login("alpha", "ben")
	b.back(github, callback).leadsTo("/account")
	b.open("account").want(200, "somebody signed in here as Ben, so nothing was connected")
	alone(b, account)

	// The account was deleted in between.
	b = s.browser()
	b.login("beta", "ben")
	callback = github.approve(b.setOut(s.base+"account", "login/github"), "ada")
	b.submit("delete").leadsTo("/login")
	b.back(github, callback).leadsTo("/login")
	b.anonymous()

	// It was merged into another, which is signed in: that is the same person.
	b = s.browser()
	b.login("beta", "ada")
	callback = github.approve(b.setOut(s.base+"account", "login/github"), "ada")
	keeper := s.browser()
	keeper.login("gamma", "ada")
	keeper.submit("merge", "proof", keeper.prove("beta", "ada")).leadsTo("/account")
	b.back(github, callback).leadsTo("/account")
	if u := keeper.user(); len(u.Identities) != 3 || u.ID != b.user().ID {
		t.Errorf("after the merge: %+v", u)
	}
}

// A session that signs in again while the provider is asked decides as it is then.
func TestAttackSignInWhileAsked(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
	var once sync.Once
	github.mu.Lock()
	github.fault["/user"] = func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { b.login("alpha", "ben") })
		github.user(w, r)
	}
	github.mu.Unlock()
	// The callback was sent with the anonymous cookie, so its session is another: what it
	// proves signs in, and joins no account.
	b.back(github, callback).want(302)
	ben := s.browser()
	ben.login("alpha", "ben")
	if u := ben.user(); len(u.Identities) != 1 {
		t.Errorf("linked: %+v", u)
	}
}

// A link on another site connects nothing unless somebody says so on our page: the browser
// may be signed in at the provider as somebody else.
func TestAttackForgedLink(t *testing.T) {
	s, github, hub := federated(t)
	b := s.browser()
	b.login("alpha", "ada")
	id := b.user().ID
	asks := func(page answer) {
		t.Helper()
		if moves(page.want(200, "Connect GitHub", "Continue to GitHub")) {
			t.Errorf("%s moves on without a click", page.url)
		}
	}
	attempts := s.documents("attempt")
	for _, from := range []string{evilOrigin + "/", appOrigin + "/", "", s.base, s.base + "login/alpha", s.base + "account?x", s.base + "accountant", evilOrigin + "/account"} {
		page := b.follow(from, "login/github")
		if from == s.base+"account?x" {
			continue // that is the account page
		}
		asks(page)
		for _, path := range []string{"login/github/auth", "login/github/auth/"} {
			if a := b.follow(from, path); a.status != 302 || !strings.HasPrefix(a.location(), "/login/github") {
				t.Errorf("from %q %s leads to %s", from, path, a.location())
			}
		}
		b.follow(from, "/login//github/auth").want(404)
	}
	// The page before may say that it is ours; the browser says which it was.
	b.header.Set("Referer", evilOrigin+"/?"+s.base+"account")
	asks(b.open("login/github"))
	b.header.Del("Referer")

	// As the last step of a login that began with a link from elsewhere.
	for _, target := range []string{"login/github", "login/github/", "login/github/auth", "login/github/auth?proof=x", "login//github/auth"} {
		c := s.browser()
		form := query("login/alpha", "redirect_uri", s.base+target)
		c.follow(evilOrigin+"/", form).want(200)
		c.submit(form, "username", "ada", "password", "ada-pw").leadsTo(s.base + target)
		page := c.follow(s.base+form, target)
		if page.status == http.StatusFound {
			page.leadsTo("/login/github")
			page = c.follow(s.base+form, "login/github")
		}
		if page.status != http.StatusNotFound {
			asks(page)
		}
		// The same at another provider.
		c = s.browser()
		c.signInAt(hub, evilOrigin+"/", query("login/hub", "redirect_uri", s.base+target), "eve").leadsTo(s.base + target)
		if page := c.follow(hub.http.URL+"/", target); page.status == http.StatusOK {
			asks(page)
		} else if page.status == http.StatusFound {
			page.leadsTo("/login/github")
		}
	}

	// A proof of another session, another provider, another time, or none.
	proofOf := func(b *browser, provider string) string {
		t.Helper()
		u, err := url.Parse(departing(t, b.follow(s.base+"account", "login/"+provider)))
		if err != nil || u.Query().Get("proof") == "" {
			t.Fatalf("no proof in %v", u)
		}
		return u.Query().Get("proof")
	}
	refused := func(why, proof string) {
		t.Helper()
		if a := b.follow(evilOrigin+"/", query("login/github/auth", "proof", proof)); a.status != 302 || a.location() != "/login/github" {
			t.Errorf("%s: %d to %s", why, a.status, a.location())
		}
	}
	eve := s.browser()
	eve.login("alpha", "ben")
	same := s.browser()
	same.login("alpha", "ada")
	refused("of another person", proofOf(eve, "github"))
	refused("of another session", proofOf(same, "github"))
	refused("of another provider", proofOf(b, "hub"))
	own := proofOf(b, "github")
	refused("tampered with", own[:len(own)-1])
	refused("empty", "")
	refused("long", strings.Repeat("A", 20_000))
	for _, c := range b.cookies() {
		refused("a cookie", c.Value)
	}
	s.clock.Advance(time.Hour + time.Second)
	refused("expired", own)
	own = proofOf(b, "github")
	b.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
	refused("of before another identity was linked", own)

	// A page of an allowed application can read our pages, but gets no proof there.
	if page := b.fetch(appOrigin, "GET", "login/github", "").want(200); strings.Contains(page.body, "proof") || moves(page) {
		t.Errorf("a script reads %s", page.body)
	}
	own = proofOf(b, "github")
	if a := b.fetch(appOrigin, "GET", query("login/github/auth", "proof", own), ""); a.location() != "/login/github" {
		t.Errorf("a script sets out to %s", a.location())
	}
	github.mu.Lock()
	asked := len(github.codes) + len(github.tokens)
	github.mu.Unlock()
	if u := b.user(); u.ID != id || len(u.Identities) != 2 || asked != 0 {
		t.Errorf("%+v, asked %d times", u, asked)
	}
	if n := s.documents("attempt") - attempts; n != 5 {
		t.Errorf("%d attempts, want the five at Hub", n)
	}
}

// A login does not end where it must not lead to any more, nor where a trick in the path leads.
func TestAttackOpenRedirect(t *testing.T) {
	t.Run("the origin is not allowed any more", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		target := toolOrigin + "/work"
		used := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
		open := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
		b.back(github, used).leadsTo(target)
		var err error
		if s.cfg, _, err = config.Load(s.cfg.Dir, append(s.environ, "ALLOWED_ORIGINS="+appOrigin)); err != nil {
			t.Fatal(err)
		}
		s.start()
		b.back(github, open).leadsTo("/account")
		b.back(github, used).leadsTo("/account")
		b.submit("logout")
		b.back(github, used).wantError(400, "expired").wantNot("tool.example.net")
	})
	t.Run("addresses", func(t *testing.T) {
		s, github, _ := federated(t)
		for _, target := range []string{
			evilOrigin, "//evil.example.com", "///evil.example.com", `/\evil.example.com`, `\\evil.example.com`, "javascript:alert(1)", "data:text/html,x", "https:evil.example.com",
			appOrigin + ".evil.example.com/", appOrigin + "@evil.example.com/", "https://evil.example.com#" + appOrigin, "http://localhost:3004@evil.example.com/", "\thttps://evil.example.com",
			appOrigin + "/\r\nSet-Cookie: a=b", s.base + "logout", s.base + "disconnect/github", "/%2e%2e//logout\x00",
		} {
			for _, path := range []string{"login/github", "login/github/auth"} {
				if a := s.browser().open(query(path, "redirect_uri", target)).want(400); a.location() != "" || a.header.Get("Set-Cookie") != "" {
					t.Errorf("%q: %v", target, a.header)
				}
			}
		}
		// The callback has no destination of its own.
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
		b.back(github, callback+"&"+url.Values{"redirect_uri": {appOrigin + "/"}, "from": {application}}.Encode()).leadsTo("/account")
	})
	t.Run("paths", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		_, state := fieldsOf(t, github.approve(b.setOut(s.base+"login", "login/github"), "ada"))
		for _, path := range []string{
			"//evil.example.com/login/github/return?state=" + state, "/login/github/return//evil.example.com?state=" + state, "/login/..%2f..%2fevil.example.com/auth",
			"/login//evil.example.com/auth", "/login/%2f%2fevil.example.com/auth", "/login/github%00/auth", "/login/github%0d%0aX-Injected:y/auth", "/login/github%0d%0aX-Injected:y/return?state=" + state,
			"/login/github/return;x=y?state=" + state, "/login/github/auth%0d%0a",
		} {
			r := rawRequest(t, s, "GET "+path+" HTTP/1.1\r\nHost: localhost:3004\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
			if r.StatusCode < 400 || r.StatusCode >= 500 || r.Header.Get("X-Injected") != "" || r.Header.Get("Location") != "" {
				t.Errorf("%s: %s, %v", path, r.Status, r.Header)
			}
		}
		b.back(github, query("login/github/return", "state", state, "code", "x\r\nX-Injected: y")).leadsTo("/login")
	})
}

// A cookie that somebody has planted before a sign-in is worth nothing after it.
func TestAttackFederatedSessionFixation(t *testing.T) {
	s, github, _ := federated(t)
	attacker := s.browser()
	attacker.open("login/github")
	victim := attacker.copyOf()
	victim.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	attacker.anonymous()

	// A session of the attacker's own, and a link to have the victim's identity join it: that
	// needs the victim's click, and the attacker's copy is worth nothing then.
	attacker = s.browser()
	attacker.login("alpha", "ben")
	victim = attacker.copyOf()
	victim.signInAt(github, s.base+"account", "login/github", "eve").leadsTo("/account")
	attacker.anonymous()

	// The cookies of a login of the attacker's, planted where that can be done, lead to the
	// attacker's account at most, and never to that of who is signed in.
	attacker = s.browser()
	callback := github.approve(attacker.setOut(s.base+"login", "login/github"), "ben")
	victim = s.browser()
	victim.login("alpha", "ada")
	for _, c := range attacker.cookies() {
		if strings.Contains(c.Name, "-at-") {
			victim.jar.SetCookies(s.cfg.BaseURL, []*http.Cookie{c})
		}
	}
	victim.back(github, callback).leadsTo("/account")
	if u := victim.user(); u.Name != "Ada" || len(u.Identities) != 1 {
		t.Errorf("%+v", u)
	}
}

// A client that fills the browser, or the store, with logins that nobody finishes.
func TestAttackManyAttempts(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	for range 40 {
		b.open("login/github/auth").want(302)
		s.clock.Advance(time.Second)
	}
	if n := len(b.cookies()); n > 22 {
		t.Errorf("%d cookies", n)
	}
	b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	s.clock.Advance(25 * time.Hour)
	if n := s.documents("attempt"); n != 0 {
		t.Errorf("%d attempts are left after a day", n)
	}
}
