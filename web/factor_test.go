package web_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/session"
)

// appSecret is an app for one-time codes.
type appSecret []byte

// code is what the app shows at a time: RFC 6238, written down a second time; the vectors of
// the RFC are in the tests of package credential.
func (a appSecret) code(at time.Time) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, a)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	offset := sum[19] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[offset:])&0x7fffffff%1_000_000)
}

var (
	keyOnPage    = regexp.MustCompile(`id="app-key">([A-Z2-7 ]+)<`)
	sealedOnPage = regexp.MustCompile(`name="sealed" value="([^"]+)"`)
	codeOnPage   = regexp.MustCompile(`<li><code>([0-9a-z-]+)</code>`)
	codeInSMS    = regexp.MustCompile(`^(\d{6}) `)
)

// scan reads what an app is given on the page that sets it up.
func (b *browser) scan(page answer) (appSecret, string) {
	b.server.t.Helper()
	key, sealed := keyOnPage.FindStringSubmatch(page.body), sealedOnPage.FindStringSubmatch(page.body)
	if key == nil || sealed == nil {
		b.server.t.Fatalf("no key on the page: %s", page.text())
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(key[1], " ", ""))
	if err != nil {
		b.server.t.Fatal(err)
	}
	return secret, sealed[1]
}

// setUpApp gives who is signed in an app, and returns it with the recovery codes. Its next
// code is another one than that of the set-up.
func (b *browser) setUpApp() (appSecret, []string) {
	b.server.t.Helper()
	app, sealed := b.scan(b.open("security/app").want(200, "Set up an app"))
	shown := b.submit("security/app", "sealed", sealed, "code", app.code(b.server.clock.Now())).want(200, "shown only this once")
	var codes []string
	for _, match := range codeOnPage.FindAllStringSubmatch(shown.body, -1) {
		codes = append(codes, match[1])
	}
	if len(codes) != 10 {
		b.server.t.Fatalf("%d recovery codes are shown", len(codes))
	}
	b.server.clock.Advance(2 * time.Minute)
	return app, codes
}

// toFactor signs in at a provider whose identity's owner has a second factor, and returns the
// page where that is asked for.
func (b *browser) toFactor(path, username string) string {
	b.server.t.Helper()
	at := b.submit(path, "username", username, "password", username+"-pw").want(302).location()
	if !strings.Contains(at, "/factor?") {
		b.server.t.Fatalf("the first factor leads to %s", at)
	}
	b.get("currentUser").want(401)
	return at
}

// wantFactorWrong fails the test unless a code was turned down on the page, and nobody is signed in.
func (b *browser) wantFactorWrong(a answer, text string) {
	b.server.t.Helper()
	b.open(a.want(302).location()).want(200, text)
	b.get("currentUser").want(401)
}

func TestFactorAfterAnyProvider(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	b.open("login/beta").want(200)
	b.submit("login/beta", "username", "ada", "password", "ada-pw").want(302)
	app, _ := b.setUpApp()
	b.submit("logout").want(302)

	for _, provider := range []string{"alpha", "beta"} {
		other := s.browser()
		at := other.toFactor("login/"+provider+"?redirect_uri="+url.QueryEscape(application), "ada")
		other.open(at).want(200, "Second step", "one-time codes", `inputmode="numeric"`, `autocomplete="one-time-code"`).wantNot("SMS")
		other.wantFactorWrong(other.submit(at, "code", "000000"), "not right")
		other.wantFactorWrong(other.submit(at, "code", ""), "Please enter")
		code := app.code(s.clock.Now())
		other.submit(at, "code", code[:3]+" "+code[3:]).leadsTo(application)
		u := other.user()
		if u.Name != "Ada" {
			t.Errorf("%s is signed in", u.Name)
		}
		other.submit(at, "code", app.code(s.clock.Now().Add(30*time.Second))).want(400, "expired")
		s.clock.Advance(2 * time.Minute)
	}
	history, err := s.sessions.History(t.Context(), session.HistoryQuery{UserIDs: []string{b.ownerID("alpha", "a1")}})
	if err != nil {
		t.Fatal(err)
	}
	var refused, complete int
	for _, entry := range history {
		if entry.Result == session.ResultFactor {
			refused++
			if !slices.Equal(entry.Methods, []string{"pwd", "otp"}) || entry.Reason != "totp" {
				t.Errorf("a refusal in the history: %+v", entry)
			}
		}
		if entry.Result == session.ResultOK && slices.Equal(entry.Methods, []string{"pwd", "otp", "mfa"}) {
			complete++
		}
	}
	if refused != 2 || complete != 2 {
		t.Errorf("%d refusals and %d sign-ins with two factors in the history, want 2 each", refused, complete)
	}
	other := s.browser()
	at := other.toFactor("login/alpha", "ada")
	other.submit(at, "code", app.code(s.clock.Now())).want(302)
	other.open("security").want(200, "Second step refused", "one-time code", "10 codes left")
}

// ownerID is the account that an identity belongs to.
func (b *browser) ownerID(provider, id string) string {
	b.server.t.Helper()
	a, err := b.server.users.Owner(b.server.t.Context(), provider, id)
	if err != nil {
		b.server.t.Fatal(err)
	}
	return a.ID
}

// TestFactorNotSkipped goes straight to every address there is, with a first factor only.
func TestFactorNotSkipped(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true}`))
	b := s.browser()
	b.login("alpha", "ada")
	b.setUpApp()
	half := s.browser()
	half.toFactor("login/alpha", "ada")
	seen := 0
	err := chi.Walk(s.running.Load().Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == "CONNECT" || method == "TRACE" || strings.HasPrefix(route, "/static") || route == "/events" || route == "/events/ticket" {
			return nil
		}
		path := strings.NewReplacer("{provider}", "alpha", "{id}", "x", "{name}", "x", "*", "x").Replace(strings.TrimPrefix(route, "/"))
		seen++
		a := half.send(method, path, headers("Accept", "text/html", "Origin", s.cfg.Origin(), "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document",
			"Content-Type", "application/x-www-form-urlencoded"), "")
		if strings.Contains(a.body, "Ada") || strings.Contains(a.body, `"amr":[`) {
			t.Errorf("%s %s shows who has not given the second factor: %s", method, route, a.text())
		}
		if got := half.get("currentUser").status; got != 401 {
			t.Fatalf("%s %s has signed somebody in", method, route)
		}
		return nil
	})
	if err != nil || seen < 60 {
		t.Errorf("%d routes: %v", seen, err)
	}
}

func TestStepBelongsToItsBrowser(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, codes := b.setUpApp()
	at := s.browser().toFactor("login/alpha", "ada")
	thief := s.browser()
	thief.open(at).want(400, "began elsewhere")
	thief.submit(at, "code", app.code(s.clock.Now())).want(400)
	thief.submit(at+"&way=recovery", "code", codes[0]).want(400)
	thief.get("currentUser").want(401)
	// The code is as good as before: nothing was tried.
	victim := s.browser()
	at = victim.toFactor("login/alpha", "ada")
	victim.submitFrom(evilOrigin, at, "code", app.code(s.clock.Now())).want(403)
	victim.submit(at, "code", app.code(s.clock.Now())).want(302)
}

func TestStepEnds(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, codes := b.setUpApp()

	late := s.browser()
	at := late.toFactor("login/alpha", "ada")
	s.clock.Advance(11 * time.Minute)
	late.submit(at, "code", app.code(s.clock.Now())).want(400, "expired")

	guesser := s.browser()
	at = guesser.toFactor("login/alpha", "ada")
	for n := range 5 {
		if n >= 3 {
			s.clock.Advance(time.Minute)
		}
		guesser.wantFactorWrong(guesser.submit(at, "code", "00000x"), "not right")
	}
	guesser.submit(at, "code", app.code(s.clock.Now())).want(400, "expired")
	guesser.get("currentUser").want(401)

	// What is changed meanwhile throws out who has got halfway.
	s.clock.Advance(20 * time.Minute)
	half := s.browser()
	at = half.toFactor("login/alpha", "ada")
	c, err := s.credentials.Get(t.Context(), b.user().Identities["account"].ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.credentials.Distrust(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	half.open(at).want(400, "expired")
	half.submit(at+"&way=recovery", "code", codes[3]).want(400, "expired")
	half.get("currentUser").want(401)
	s.browser().submit("factor?step="+strings.Repeat("A", 43), "code", "123456").want(400)
	s.browser().open("factor").leadsTo("/login")
	half.submit(at, "code", strings.Repeat("1", 10<<20)).want(413)
}

func TestFactorTwiceAtOnce(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	one := s.browser()
	at := one.toFactor("login/alpha", "ada")
	code := app.code(s.clock.Now())
	var mu sync.Mutex
	let := 0
	var wg sync.WaitGroup
	for range 4 {
		twin := one.copyOf()
		wg.Go(func() {
			if a := twin.submit(at, "code", code); a.status == 302 && a.location() == "/account" {
				mu.Lock()
				let++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if let != 1 {
		t.Errorf("one code of one step has let in %d", let)
	}
}

func TestRecoveryCode(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	_, codes := b.setUpApp()
	for n := range 8 {
		s.clock.Advance(time.Minute)
		other := s.browser()
		at := other.toFactor("login/alpha", "ada")
		other.open(at+"&way=recovery").want(200, "Recovery code")
		other.submit(at+"&way=recovery", "code", strings.ToUpper(codes[n])).leadsTo("/account")
		other.open("account").want(200)
	}
	other := s.browser()
	at := other.toFactor("login/alpha", "ada")
	other.wantFactorWrong(other.submit(at+"&way=recovery", "code", codes[0]), "not one of your codes")
	other.submit(at+"&way=recovery", "code", codes[8]).leadsTo("/account")
	other.open("security").want(200, "Only 1 recovery code is left")
}

func TestTrustedBrowser(t *testing.T) {
	s := newServer(t, withAccounts(`{"trustDays": 10}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	b.submit("logout").want(302)
	at := b.toFactor("login/alpha", "ada")
	b.open(at).want(200, "Trust this browser for 10 days")
	b.submit(at, "code", app.code(s.clock.Now()), "trust", "yes").leadsTo("/account")
	b.submit("logout").want(302)
	b.login("alpha", "ada") // nothing is asked
	b.submit("login/beta", "username", "ben", "password", "ben-pw").want(302)
	b.submit("logout").want(302)

	// Another browser's cookie is worth as much as the browser, and no more than the second factor.
	thief := b.copyOf()
	thief.get("currentUser").want(401)
	thief.submit("login/alpha", "username", "ada", "password", "wrong").want(302)
	thief.get("currentUser").want(401)
	// A forged one is worth nothing.
	forged := s.browser()
	for _, c := range b.cookies() {
		if strings.HasSuffix(c.Name, "-bw") {
			c.Value = c.Value[:len(c.Value)-4] + "AAAA"
			forged.jar.SetCookies(s.cfg.BaseURL, []*http.Cookie{c})
		}
	}
	forged.toFactor("login/alpha", "ada")

	// Trust is not enough to change what it spares.
	b.login("alpha", "ada")
	a := b.open("security/app").want(302)
	if !strings.HasPrefix(a.location(), "/factor?") {
		t.Errorf("setting up another app leads to %s", a.location())
	}
	s.clock.Advance(2 * time.Minute)
	b.submit(a.location(), "code", app.code(s.clock.Now())).leadsTo(s.base + "security/app")
	b.submit("security/distrust").leadsTo("/security")
	b.submit("logout").want(302)
	s.clock.Advance(time.Minute)
	at = b.toFactor("login/alpha", "ada")
	b.submit(at, "code", app.code(s.clock.Now()), "trust", "yes").leadsTo("/account")
	b.submit("logout").want(302)
	s.clock.Advance(11 * 24 * time.Hour)
	b.toFactor("login/alpha", "ada")
}

// TestTrustEndsEverywhere: who ends all other sessions may have lost a browser that is trusted.
func TestTrustEndsEverywhere(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	lost := s.browser()
	lost.login("alpha", "ada")
	app, _ := lost.setUpApp()
	lost.submit("logout").want(302)
	lost.submit(lost.toFactor("login/alpha", "ada"), "code", app.code(s.clock.Now()), "trust", "yes").leadsTo("/account")
	lost.submit("logout").want(302)
	lost.login("alpha", "ada") // nothing is asked

	s.clock.Advance(time.Minute)
	b := s.browser()
	b.submit(b.toFactor("login/alpha", "ada"), "code", app.code(s.clock.Now())).leadsTo("/account")
	s.clock.Advance(time.Second)
	b.submit("sessions/remove-others").want(302)
	b.get("currentUser").want(200)
	lost.get("currentUser").want(401)
	lost.toFactor("login/alpha", "ada")
}

// TestTrustIsNotEnough: where an application wants a second factor, trusted browsers give it
// as well.
func TestTrustIsNotEnough(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), applications(`[{"url": "https://vault.example.org/", "name": "Vault", "require_mfa": true}]`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	b.submit("logout").want(302)
	at := b.toFactor("login/alpha", "ada")
	b.submit(at, "code", app.code(s.clock.Now()), "trust", "yes").leadsTo("/account")
	b.submit("logout").want(302)
	const vault = "?redirect_uri=https://vault.example.org/"
	at = b.toFactor("login/alpha"+vault, "ada")
	s.clock.Advance(time.Minute)
	b.submit(at, "code", app.code(s.clock.Now())).leadsTo("https://vault.example.org/")
	b.submit("logout").want(302)
	// Who is signed in already gives it on the way.
	b.login("alpha", "ada")
	b.follow("https://vault.example.org/", "login"+vault).want(302)
	if a := b.open("login" + vault); !strings.HasPrefix(a.location(), "/factor?redirect_uri=") {
		t.Errorf("an application that wants two factors gets somebody with one: %s", a.location())
	}
}

func TestTrustTurnedOff(t *testing.T) {
	s := newServer(t, withAccounts(`{"trustDays": 0}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	b.submit("logout").want(302)
	at := b.toFactor("login/alpha", "ada")
	b.open(at).want(200).wantNot(`name="trust"`)
	b.submit(at, "code", app.code(s.clock.Now()), "trust", "yes").leadsTo("/account")
	b.submit("logout").want(302)
	b.toFactor("login/alpha", "ada")
}

// TestFactorBeforeMerge: who proves an identity of somebody else has to give their second
// factor before anything of theirs is shown or taken.
func TestFactorBeforeMerge(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	other := s.browser()
	other.login("beta", "ben")
	before := other.user().Name
	at := other.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302).location()
	if !strings.Contains(at, "/factor?") {
		t.Fatalf("linking leads to %s", at)
	}
	other.submit(at, "code", "000000").want(302)
	if got := other.user().Name; got != before {
		t.Errorf("%s is signed in", got)
	}
	merge := other.submit(at, "code", app.code(s.clock.Now())).want(302).location()
	other.open(merge).want(200, "Ada")
	if !strings.HasPrefix(merge, "/merge?") {
		t.Errorf("the second factor leads to %s", merge)
	}
}

func TestStepUp(t *testing.T) {
	const clients = `[{"url": "https://app.example.org/", "name": "The App", "client_id": "app", "client_secret": "a secret of forty characters, or even more", "redirect_uris": ["https://app.example.org/back"], "trusted": true},
		{"url": "https://vault.example.org/", "name": "Vault", "client_id": "vault", "client_secret": "a secret of forty characters, or even more", "redirect_uris": ["https://vault.example.org/back"], "trusted": true, "require_mfa": true}]`
	s := newServer(t, withAccounts(`{"phone": true}`), applications(clients), env("SMS_PREFIXES", "+49"))
	ask := func(client, rest string) string {
		return "oauth/authorize?response_type=code&scope=openid&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&state=x&client_id=" + client +
			"&redirect_uri=" + url.QueryEscape("https://"+client+".example.org/back") + rest
	}
	b := s.browser()
	b.login("alpha", "ada")
	essential := "&claims=" + url.QueryEscape(`{"id_token":{"acr":{"essential":true,"values":["2"]}}}`)

	// Somebody without a factor is led to set one up, and from there to the client.
	at := b.open(ask("vault", "")).want(302).location()
	if strings.Contains(at, "/oauth/continue") {
		at = b.open(at).want(302).location()
	}
	page := b.open(at).want(200, "Vault", "asks for a second step", "Set up")
	setup := regexp.MustCompile(`id="setup-totp" href="([^"]+)"`).FindStringSubmatch(page.body)
	if setup == nil {
		t.Fatalf("nothing to set up: %s", page.text())
	}
	there := strings.ReplaceAll(setup[1], "&amp;", "&")
	app, sealed := b.scan(b.open(there).want(200))
	shown := b.submit(there, "sealed", sealed, "code", app.code(s.clock.Now())).want(200, "shown only this once")
	next := regexp.MustCompile(`id="recovery-next" href="([^"]+)"`).FindStringSubmatch(shown.body)
	if next == nil || !strings.Contains(next[1], "/oauth/continue?") {
		t.Fatalf("after the set-up it goes on to %v", next)
	}
	if got := b.open(strings.ReplaceAll(next[1], "&amp;", "&")).want(302).location(); !strings.HasPrefix(got, "https://vault.example.org/back?") || !strings.Contains(got, "code=") {
		t.Errorf("the client is answered %s", got)
	}

	for name, request := range map[string]string{"acr_values": ask("app", "&acr_values=2"), "essential claim": ask("app", essential), "require_mfa": ask("vault", "")} {
		s.clock.Advance(2 * time.Minute)
		other := s.browser()
		at := other.toFactor("login/alpha", "ada")
		other.submit(at, "code", app.code(s.clock.Now()), "trust", "yes").want(302)
		other.submit("logout").want(302)
		other.login("alpha", "ada") // trusted: one factor
		silent := other.open(request + "&prompt=none")
		if got := silent.want(302).location(); name != "acr_values" && !strings.Contains(got, "error=login_required") && !strings.Contains(got, "error=interaction_required") {
			t.Errorf("%s with prompt=none: %s", name, got)
		}
		for at = other.open(request).want(302).location(); strings.Contains(at, "/oauth/continue"); {
			at = other.open(at).want(302).location()
		}
		if !strings.HasPrefix(at, "/factor?") {
			t.Fatalf("%s leads to %s", name, at)
		}
		form := other.open(at).want(200, "Second step").wantNot(`name="trust"`)
		request := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(form.body)
		person := regexp.MustCompile(`name="person" value="([^"]*)"`).FindStringSubmatch(form.body)
		if request == nil || person == nil {
			t.Fatalf("%s cannot be cancelled: %s", name, form.text())
		}
		s.clock.Advance(2 * time.Minute)
		if name == "require_mfa" {
			if got := other.submit("oauth/continue", "request", request[1], "person", person[1], "task", "login", "decision", "deny").want(302).location(); !strings.Contains(got, "error=access_denied") {
				t.Errorf("cancelling answers %s", got)
			}
			continue
		}
		at = other.submit(at, "code", app.code(s.clock.Now())).want(302).location()
		if got := other.open(at).want(302).location(); !strings.Contains(got, "code=") {
			t.Errorf("%s: the client is answered %s", name, got)
		}
	}
}

func TestChangesOfFactors(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	// Whoever finds an open browser cannot set up an app of theirs.
	s.clock.Advance(11 * time.Minute)
	if got := b.open("security/app").want(302).location(); !strings.HasPrefix(got, "/login?fresh=1") {
		t.Errorf("setting up an app leads to %s", got)
	}
	b.submit("security/app", "sealed", "x", "code", "123456").want(302)
	again := b.open("security/app").location()
	b.open(again).want(200, "Confirm")
	b.submit("login/alpha"+again[strings.Index(again, "?"):], "username", "ada", "password", "ada-pw").want(302)
	app, sealed := b.scan(b.open("security/app").want(200))
	b.submitFrom(evilOrigin, "security/app", "sealed", sealed, "code", app.code(s.clock.Now())).want(403)
	wrong := b.submit("security/app", "sealed", sealed, "code", "123").want(400, "not right")
	if same, _ := b.scan(wrong); string(same) != string(app) {
		t.Error("a wrong code has changed the secret")
	}
	other := s.browser()
	other.login("beta", "ben")
	other.submit("security/app", "sealed", sealed, "code", app.code(s.clock.Now())).leadsTo("/security/app") // somebody else's
	b.submit("security/app", "sealed", sealed, "code", app.code(s.clock.Now())).want(200, "shown only this once")
	b.open("security").want(200, "10 codes left", "On")

	s.clock.Advance(11 * time.Minute)
	for _, path := range []string{"security/app/remove", "security/two-step", "security/distrust", "security/recovery"} {
		if got := b.submit(path, "two_step", "off").want(302).location(); !strings.HasPrefix(got, "/login?fresh=1") && !strings.HasPrefix(got, "/factor?") {
			t.Errorf("%s leads to %s", path, got)
		}
	}
	if c := b.credential(); c.TOTP == nil || !c.TwoStep || c.RecoveryLeft() != 10 {
		t.Errorf("something was changed without asking: %+v", c)
	}
	at := b.open("security/recovery").location()
	at = b.submit("login/alpha"+at[strings.Index(at, "?"):], "username", "ada", "password", "ada-pw").want(302).location()
	b.submit(at, "code", app.code(s.clock.Now())).want(302)
	b.submit("security/two-step", "two_step", "off").leadsTo("/security")
	b.open("security").want(200, "no longer asked for a second step", "Off")
	s.browser().login("alpha", "ada")
	b.submit("security/two-step", "two_step", "on").leadsTo("/security")
	b.submit("security/app/remove").leadsTo("/security")
	if c := b.credential(); c.TwoStep || len(c.Recovery) != 0 {
		t.Errorf("with the last factor gone: %+v", c)
	}
	s.browser().login("alpha", "ada")
	b.submit("logout").want(302)
	b.open("security").leadsTo("/login")
	b.submit("security/two-step", "two_step", "on").leadsTo("/login")
}

func TestPhoneFactor(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true}`))
	const number = "+4915112345678"
	code := func() string {
		t.Helper()
		text := s.sms(number).Text
		found := codeInSMS.FindStringSubmatch(text)
		if found == nil || !strings.HasSuffix(text, "@localhost #"+found[1]) {
			t.Fatalf("the SMS says %q", text)
		}
		return found[1]
	}
	b := s.browser()
	b.login("alpha", "ada")
	b.open("security/phone").want(200, "Set up a phone")
	wrong := b.submit("security/phone", "number", "12 34").want(302).location()
	b.open(wrong).want(200, "not a phone number", `value="12 34"`)
	at := b.submit("security/phone", "number", "+49 (0)151 12345678").want(302).location()
	b.open(at).want(200, "49 ••• 78").wantNot(number)
	// The code is for who has asked, in this sign-in.
	thief := s.browser()
	thief.login("beta", "ben")
	thief.submit(at, "code", code()).leadsTo("/security/phone")
	b.submit(at, "code", "00000x").want(302)
	b.submit(at, "code", code()).want(200, "shown only this once")
	if c := b.credential(); c.Phone == nil || c.Phone.Number != number || c.Phone.SignIn || !c.TwoStep {
		t.Fatalf("the phone is %+v", c.Phone)
	}
	// A number of somebody else.
	s.clock.Advance(11 * time.Minute)
	ben := s.browser()
	ben.login("beta", "ben")
	taken := ben.submit("security/phone", "number", number).want(302).location()
	ben.open(ben.submit(taken, "code", code()).want(302).location()).want(200, "belongs to another account")

	other := s.browser()
	step := other.toFactor("login/alpha", "ada")
	other.open(step).want(200, "49 ••• 78", "Send a code").wantNot(number)
	before := len(s.texts(number))
	other.open(step) // looking sends nothing
	if got := len(s.texts(number)); got != before {
		t.Errorf("%d SMS were sent by looking", got-before)
	}
	sent := other.submit(step, "do", "send").want(302).location()
	other.open(sent).want(200, "was sent to")
	other.open(other.submit(sent, "do", "send").want(302).location()).want(200, "a moment ago")
	other.wantFactorWrong(other.submit(sent, "code", "00000x"), "not right")
	// The code of one step is worth nothing in another.
	second := s.browser()
	foreign := second.toFactor("login/alpha", "ada")
	_, id, _ := strings.Cut(sent, "sent=")
	id, _, _ = strings.Cut(id, "&")
	second.wantFactorWrong(second.submit(foreign+"&way=sms&sent="+id, "code", code()), "has expired")
	right := code()
	other.submit(sent, "code", right).leadsTo("/account")
	s.clock.Advance(6 * time.Minute)
	third := s.browser()
	step = third.toFactor("login/alpha", "ada")
	old := third.submit(step, "do", "send").want(302).location()
	late := code()
	s.clock.Advance(6 * time.Minute)
	third.wantFactorWrong(third.submit(old, "code", late), "has expired")
}

func TestSMSPumping(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true}`))
	b := s.browser()
	b.login("alpha", "ada")
	sent := 0
	limited := false
	for n := range 12 {
		number := fmt.Sprintf("+49151123456%02d", n)
		at := b.submit("security/phone", "number", number).want(302).location()
		if strings.Contains(at, "sent=") {
			sent++
			continue
		}
		b.open(at).want(200, "Too many messages were sent", number[1:])
		limited = true
	}
	if !limited || sent > 6 {
		t.Errorf("%d SMS to numbers of one range", sent)
	}
}

// TestLinkingIsNoProof: whoever finds an open browser can link an identity of their own, but
// has not proved by it to be the owner, and has given no second factor.
func TestLinkingIsNoProof(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	b.setUpApp()
	s.clock.Advance(11 * time.Minute)
	b.submit("login/beta", "username", "ben", "password", "ben-pw").leadsTo("/account")
	if got := b.open("security/app").want(302).location(); !strings.HasPrefix(got, "/login?fresh=1") {
		t.Errorf("with an identity more, changing the app leads to %s", got)
	}
	b.open("delete").want(200, "type the name")
	// The owner's own first factor makes it fresh, and asks for the second.
	b.submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
	if got := b.open("security/app").want(302).location(); !strings.HasPrefix(got, "/factor?") {
		t.Errorf("with the first factor only, changing the app leads to %s", got)
	}
}

// TestFactorOutlivesTheProvidersID: with another id in providers.json a local identity is
// nobody's, which must not spare it the second factor.
func TestFactorOutlivesTheProvidersID(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	const email = "ada@example.org"
	page := b.signUpLocal(email, goodWords, "name", "Ada").want(302).location()
	b.submit(page, "code", s.codeOf(email)).leadsTo("/account")
	app, _ := b.setUpApp()
	b.submit("logout").want(302)

	file := filepath.Join(s.cfg.Dir, "providers.json")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(s.cfg.Dir, "providers.json", strings.Replace(string(before), `"id": "account"`, `"id": "people"`, 1), 0o600)
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	at := b.submit("login/people", "username", email, "password", goodWords).want(302).location()
	if !strings.HasPrefix(at, "/factor?") {
		t.Fatalf("the password alone leads to %s", at)
	}
	b.get("currentUser").want(401)
	b.submit(at, "code", "000000", "trust", "yes").want(302)
	b.get("currentUser").want(401)
	b.submit(at, "code", app.code(s.clock.Now()), "trust", "yes").want(302)
	b.get("currentUser").want(200)
}
