package web_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"html"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"login-server/accounts"
	"login-server/audit"
	"login-server/credential"
	"login-server/identity"
)

// Accounts that live here: signing up, signing in, the ways back, addresses.

const (
	adaMail   = "ada@example.org"
	goodWords = "kettle moss harbour 9"
	newWords  = "violet tractor pine 4"
)

// challengeFields is the answer to a challenge, as fields of a form.
func (b *browser) challengeFields(purpose string) []string {
	b.server.t.Helper()
	var c struct {
		ID   string
		Work struct {
			Salt        string
			Bits, Count int
		}
	}
	b.get("challenge?for=" + purpose).want(200).json(&c)
	var answer []string
	for i := range c.Work.Count {
		for n := 0; ; n++ {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s.%d.%d", c.Work.Salt, i, n))
			if bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:8])) >= c.Work.Bits {
				answer = append(answer, fmt.Sprint(n))
				break
			}
		}
	}
	return []string{"challenge_id", c.ID, "challenge_kind", "work", "challenge_answer", strings.Join(answer, ",")}
}

// signUpLocal fills in the form of who is new.
func (b *browser) signUpLocal(email, password string, more ...string) answer {
	b.server.t.Helper()
	fields := append(b.challengeFields("signup"), "email", email, "password", password)
	return b.submit("signup", append(fields, more...)...)
}

// askReset asks for a mail to choose another password with.
func (b *browser) askReset(email string) answer {
	b.server.t.Helper()
	return b.submit("reset", append(b.challengeFields("reset"), "email", email)...)
}

var (
	mailedCode = regexp.MustCompile(`(?m)^\s*(\d{3} ?\d{3})\s*$`)
	linkIn     = regexp.MustCompile(`https?://\S+`)
)

// codeOf and linkOf are what the latest mail to an address holds.
func (s *server) codeOf(to string) string {
	s.t.Helper()
	found := mailedCode.FindStringSubmatch(s.mail(to).Text)
	if found == nil {
		s.t.Fatalf("no code in %s", s.mail(to).Text)
	}
	return strings.ReplaceAll(found[1], " ", "")
}

func (s *server) linkOf(to string) string {
	s.t.Helper()
	for _, link := range linkIn.FindAllString(s.mail(to).Text, -1) {
		if strings.Contains(link, "key=") || strings.Contains(link, "invitation=") {
			return link
		}
	}
	s.t.Fatalf("no link in %s", s.mail(to).Text)
	return ""
}

// keyOf is the secret in a link.
func keyOf(link string) string {
	u, _ := url.Parse(link)
	return u.Query().Get("key")
}

// newLocal makes somebody with an account that lives here, signed in in the browser.
func (b *browser) newLocal(email, password string) {
	b.server.t.Helper()
	code := b.signUpLocal(email, password, "name", "Ada").want(302).location()
	b.open(code).want(200, email)
	b.submit(code, "code", b.server.codeOf(email)).leadsTo(b.server.cfg.BaseURL.Path + "account")
}

// keepLocal makes somebody with an account that lives here, without a mail.
func (s *server) keepLocal(email, password string) {
	s.t.Helper()
	hash, err := argon2id.CreateHash(password, &argon2id.Params{Memory: 8192, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
	if err != nil {
		s.t.Fatal(err)
	}
	now := s.clock.Now()
	c, err := s.credentials.Create(s.t.Context(), func(c *credential.Credential) {
		c.Emails = []credential.Email{{Address: email, Primary: true, Verified: now}}
		c.Password = &credential.Password{Hash: hash, Set: now}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, _, err := s.users.SignIn(s.t.Context(), identity.Profile{Provider: "account", ID: c.ID, Name: "Ada"}); err != nil {
		s.t.Fatal(err)
	}
}

// localLogin signs in with a password.
func (b *browser) localLogin(email, password string) answer {
	b.server.t.Helper()
	return b.submit("login/account", "username", email, "password", password)
}

// credentialOf is the one that an address belongs to.
func (s *server) credentialOf(email string) credential.Credential {
	s.t.Helper()
	c, err := s.credentials.ByEmail(s.t.Context(), email)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func TestSignUpByCode(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.open("login").want(200, "Continue with e-mail", "Continue with a passkey", `href="/login/account"`)
	b.follow(s.base, "login/account").want(200, `href="/signup"`, `href="/reset"`, `autocomplete="username webauthn"`)
	b.open("signup").want(200, `autocomplete="new-password"`, "At least 10 characters")
	page := b.signUpLocal(adaMail, goodWords, "name", "Ada Lovelace").want(302).location()
	if n := s.documents("credential") + s.documents("user"); n != 0 {
		t.Errorf("%d documents before the address was shown to be theirs", n)
	}
	b.open(page).want(200, adaMail, `autocomplete="one-time-code"`)
	b.submit(page, "code", "000000").want(422, "This code is not right.")
	code := s.codeOf(adaMail)
	b.submit(page, "code", code[:3]+" "+code[3:]).leadsTo("/account")
	u := b.user()
	if u.Name != "Ada Lovelace" || len(u.Identities) != 1 || u.Identities["account"].ID != s.credentialOf(adaMail).ID {
		t.Errorf("got %+v", u)
	}
	account, err := s.users.Get(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if email := account.Known()["email"].Value; email != adaMail {
		t.Errorf("the account says %v", email)
	}
	b.submit(page, "code", code).want(400, "This link no longer works")

	other := s.browser()
	other.localLogin("ADA@Example.org", goodWords).leadsTo("/account")
	if other.user().ID != u.ID || other.user().Name != "Ada Lovelace" {
		t.Errorf("got %+v", other.user())
	}
	// What is in the log, and in the store, opens nothing.
	for _, doc := range s.store.everWritten() {
		if text := string(doc.Data); strings.Contains(text, goodWords) || strings.Contains(text, `"`+code+`"`) {
			t.Errorf("a secret is in the store: %s", text)
		}
	}
	if log := s.log.String(); strings.Contains(log, goodWords) || strings.Contains(log, code) {
		t.Error("a secret is in the log")
	}
}

// A link works in the browser that it began in by a click, and in another one with the
// password. Whatever looks at it spends nothing.
func TestSignUpByLink(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	target := url.Values{"redirect_uri": {appOrigin + "/work"}}.Encode()
	b.submit("signup?"+target, append(b.challengeFields("signup"), "email", adaMail, "password", goodWords)...).want(302)
	link := s.linkOf(adaMail)
	scanner := s.browser()
	for range 5 {
		scanner.open(link).want(200, "Confirm the address", `name="password"`)
		scanner.send("HEAD", link, nil, "").want(200)
	}
	page := b.follow("https://mail.example.com/", link).want(200, adaMail).wantNot(`name="password"`)
	action := html.UnescapeString(regexp.MustCompile(`action="([^"]+)"`).FindStringSubmatch(page.body)[1])
	scanner.submit(action, "key", keyOf(link)).want(422, "Please enter your password")
	b.submit(action, "key", keyOf(link)).leadsTo(appOrigin + "/work")
	b.submit(action, "key", keyOf(link)).want(400, "This link no longer works")
	b.open(link).want(400)

	phone := s.browser()
	b.signUpLocal("eve@example.org", goodWords).want(302)
	link = s.linkOf("eve@example.org")
	phone.submit("signup/confirm", "key", keyOf(link), "password", "not that one").want(422, "This is not the password that was chosen")
	phone.submit("signup/confirm", "key", keyOf(link), "password", goodWords).leadsTo("/account")
	phone.user()
}

// Somebody signs up with the address of another and a password that they know. The owner
// follows the link and says yes: no account may come of that which the other can open.
func TestPreHijacking(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	attacker, victim := s.browser(), s.browser()
	attacker.signUpLocal(adaMail, goodWords).want(302)
	link := s.linkOf(adaMail)
	victim.open(link).want(200, `name="password"`)
	victim.submit("signup/confirm", "key", keyOf(link)).want(422)
	for range credential.CodeTries + 1 {
		victim.submit("signup/confirm", "key", keyOf(link), "password", newWords).want(422)
	}
	if n := s.documents("credential"); n != 0 {
		t.Fatal("an account was made that somebody else has the password of")
	}
	// Too many tries: not even the right password helps by now.
	victim.submit("signup/confirm", "key", keyOf(link), "password", goodWords).want(422)
	// The owner signs up by themselves, at the same time.
	victim.newLocal(adaMail, newWords)
	attacker.localLogin(adaMail, goodWords).leadsTo("/login/account")
	attacker.get("currentUser").want(401)
}

// Whether an address has an account is told by nothing: page, status, headers, work.
func TestNobodyLearnsWhoHasAnAccount(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.keepLocal(adaMail, goodWords) // no mail yet: what delivers them writes, too
	strip := regexp.MustCompile(`id=[A-Za-z0-9_-]{43}|nonce[-=]"?[A-Za-z0-9_-]{22}|"nonce" content="[^"]*"|(ada|bob)@example\.org|login-[^=;]*-pn-[A-Za-z0-9_-]+=[^;]+`)
	type trace struct {
		answer string
		writes int
		hashes uint64
		mails  int
	}
	observe := func(do func(b *browser) []answer) trace {
		b := s.browser()
		writes, hashes, mails := len(s.store.everWritten()), s.hashes(), s.documents("message")
		var text strings.Builder
		for _, a := range do(b) {
			fmt.Fprintf(&text, "%d %s\n%s\n%s\n", a.status, a.location(), headerText(a.header), a.body)
		}
		return trace{strip.ReplaceAllString(text.String(), "…"), len(s.store.everWritten()) - writes, s.hashes() - hashes, s.documents("message") - mails}
	}
	for _, tc := range []struct {
		name string
		do   func(b *browser, email string) []answer
	}{
		{"sign up", func(b *browser, email string) []answer {
			first := b.signUpLocal(email, goodWords)
			wrong := b.submit(first.location(), "code", "000000")
			return []answer{first, b.open(first.location()), wrong}
		}},
		{"sign in", func(b *browser, email string) []answer {
			first := b.localLogin(email, newWords)
			return []answer{first, b.follow(s.base+"login/account", first.location())}
		}},
		{"reset", func(b *browser, email string) []answer {
			first := b.askReset(email)
			wrong := b.submit(first.location(), "code", "000000")
			return []answer{first, b.open(first.location()), wrong}
		}},
		{"unlock", func(b *browser, email string) []answer {
			return []answer{b.submit("unlock", append(b.challengeFields("unlock"), "email", email)...)}
		}},
	} {
		s.run(tc.name, func(t *testing.T) {
			known := observe(func(b *browser) []answer { return tc.do(b, adaMail) })
			unknown := observe(func(b *browser) []answer { return tc.do(b, "bob@example.org") })
			if known.answer != unknown.answer {
				t.Errorf("the answers differ:\n%s\n--- unknown:\n%s", known.answer, unknown.answer)
			}
			if known.writes != unknown.writes || known.hashes != unknown.hashes || known.mails != unknown.mails {
				t.Errorf("known: %d writes, %d hashes, %d mails; unknown: %d, %d, %d", known.writes, known.hashes, known.mails, unknown.writes, unknown.hashes, unknown.mails)
			}
		})
	}
	if mails := s.mails("bob@example.org"); len(mails) != 1 || mails[0].Kind != "verify" {
		t.Errorf("who has no account has got %d mails", len(mails))
	}
	kinds := map[string]int{}
	for _, m := range s.mails(adaMail) {
		kinds[m.Kind]++
	}
	if kinds["exists"] != 1 || kinds["reset"] != 1 || kinds["unlock"] != 1 {
		t.Errorf("the owner has got %v", kinds)
	}
}

// headerText is a header without what differs by itself.
func headerText(h http.Header) string {
	var lines []string
	for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After", "Set-Cookie", "X-Frame-Options"} {
		lines = append(lines, fmt.Sprintf("%s: %d", name, len(h.Values(name))))
	}
	return strings.Join(lines, "\n")
}

// hashes is how many were made.
func (s *server) hashes() uint64 { return s.running.Load().Desk().Hashes() }

// Mail about somebody who is known goes to the spelling that they have verified: look-alikes
// belong to others.
func TestMailGoesToTheVerifiedSpelling(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().newLocal("Ada.Lovelace@example.org", goodWords)
	b := s.browser()
	b.askReset("ada.lovelace@EXAMPLE.org").want(302)
	if m := s.mails("Ada.Lovelace@example.org"); len(m) != 2 || m[0].Kind != "reset" {
		t.Errorf("the owner has %d mails", len(m))
	}
	// İ, ſ and fullwidth letters fold to others; nobody is written to under such a name.
	for _, typed := range []string{"ada.lovelace@exampſe.org", "ａda.lovelace@example.org", "ada.loveſace@example.org"} {
		b.askReset(typed)
		if m := s.mails(typed); len(m) != 0 {
			t.Errorf("%s has got a mail", typed)
		}
	}
}

func TestReset(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	owner, thief := s.browser(), s.browser()
	owner.newLocal(adaMail, goodWords)
	thief.localLogin(adaMail, goodWords).leadsTo("/account")
	b := s.browser()
	page := b.askReset(adaMail).want(302).location()
	link := s.linkOf(adaMail)
	if !strings.HasPrefix(link, s.base+"reset/new?key=") {
		t.Errorf("the link is %s", link)
	}
	for range 3 {
		s.browser().open(link).want(200, `autocomplete="new-password"`)
	}
	s.browser().open(page).want(400, "began elsewhere")
	s.browser().submit(page, "code", s.codeOf(adaMail)).want(400, "began elsewhere")
	b.submit("reset/new", "key", keyOf(link), "password", "short").want(422, "too short")
	b.submit("reset/new", "key", keyOf(link), "password", "ada.example.org").want(422, "easy to guess")

	// The code leads to the same page, and makes the link in the mail worthless.
	next := b.submit(page, "code", s.codeOf(adaMail)).want(302).location()
	b.open(link).want(400)
	b.open(next).want(200)
	before := s.credentialOf(adaMail).Changed
	s.clock.Advance(time.Minute)
	var wins, late int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		browser := b.copyOf()
		wg.Go(func() {
			a := browser.submit("reset/new", "key", keyOf("http://x/"+next), "password", newWords)
			mu.Lock()
			defer mu.Unlock()
			switch a.status {
			case 302:
				wins++
				browser.get("currentUser").want(200)
			case 400:
				late++
			}
		})
	}
	wg.Wait()
	if wins != 1 || late != 3 {
		t.Errorf("%d of 4 have used the link, %d came too late", wins, late)
	}
	owner.get("currentUser").want(401)
	thief.get("currentUser").want(401)
	if m := s.mail(adaMail); m.Kind != "password_changed" {
		t.Errorf("the owner has got %s", m.Kind)
	}
	if !s.credentialOf(adaMail).Changed.After(before) {
		t.Error("browsers are trusted as before")
	}
	thief.localLogin(adaMail, goodWords).leadsTo("/login/account")
	owner.localLogin(adaMail, newWords).leadsTo("/account")
}

// A reset ends with a sign-in like any other, also in a browser where somebody else is.
func TestResetInABrowserOfSomebodyElse(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().newLocal(adaMail, goodWords)
	b := s.browser()
	b.login("alpha", "ben")
	ben := b.user().ID
	b.askReset(adaMail).want(302)
	b.submit("reset/new", "key", keyOf(s.linkOf(adaMail)), "password", newWords).leadsTo("/account")
	if u := b.user(); u.ID == ben || len(u.Identities) != 1 {
		t.Errorf("got %+v", u)
	}
}

func TestLinksExpire(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.newLocal(adaMail, goodWords)
	b.askReset(adaMail).want(302)
	link := s.linkOf(adaMail)
	s.clock.Advance(29 * time.Minute)
	b.open(link).want(200)
	s.clock.Advance(time.Minute)
	b.open(link).want(400)
	b.submit("reset/new", "key", keyOf(link), "password", newWords).want(400)
	// What was made for one thing is worth nothing for another.
	b.askReset(adaMail).want(302)
	key := keyOf(s.linkOf(adaMail))
	for _, path := range []string{"signup/confirm", "unlock/confirm", "security/emails/undo"} {
		b.submit(path, "key", key).want(400)
	}
	b.submit("reset/new", "key", key, "password", newWords).leadsTo("/account")
}

// Guessing codes: five for each mail, and no more than some in a day, however often it is begun anew.
func TestCodesCannotBeGuessed(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), env("RATE_LIMIT_MAX", "100000"))
	s.browser().newLocal(adaMail, goodWords)
	b := s.browser()
	looked := 0
	for range 30 {
		page := b.askReset(adaMail).want(302).location()
		for range credential.CodeTries + 2 {
			a := b.submit(page, "code", "000000").want(422)
			if strings.Contains(a.body, "This code is not right.") {
				looked++
			}
		}
		s.clock.Advance(31 * time.Minute)
	}
	if looked > 60 {
		t.Errorf("%d codes were looked at in %v", looked, 30*31*time.Minute)
	}
	// The link works all the same.
	b.askReset(adaMail).want(302)
	b.open(s.linkOf(adaMail)).want(200)
}

// Nobody's inbox is filled by others.
func TestMailsToOneAddressAreLimited(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	for range 8 {
		b := s.browser()
		page := b.askReset(adaMail).want(302).location()
		b.submit(strings.Replace(page, "/code", "/resend", 1)).want(302)
		c := s.browser()
		c.signUpLocal(adaMail, goodWords).want(302)
	}
	if n := len(s.mails(adaMail)); n != 3 {
		t.Errorf("%d mails were sent, want 3", n)
	}
}

func TestResend(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	page := b.signUpLocal(adaMail, goodWords).want(302).location()
	again := strings.Replace(page, "/code", "/resend", 1)
	first := s.codeOf(adaMail)
	b.submit(again).leadsTo(page)
	b.follow(s.base+"signup", page).want(200, "sent a moment ago")
	s.browser().submit(again).want(400)
	s.clock.Advance(time.Minute)
	b.submit(again).leadsTo(page)
	b.follow(s.base+"signup", page).want(200, "sent again")
	if len(s.mails(adaMail)) != 2 {
		t.Fatal("there is no second mail")
	}
	if second := s.codeOf(adaMail); second != first {
		b.submit(page, "code", first).want(422)
	}
	for range 3 {
		s.clock.Advance(time.Minute)
		b.submit(again).leadsTo(page)
	}
	b.follow(s.base+"signup", page).want(200, "several times")
	if n := len(s.mails(adaMail)); n != 4 {
		t.Errorf("%d mails, want 4", n)
	}
	b.submit(page, "code", s.codeOf(adaMail)).leadsTo("/account")
}

func TestTwoSignUpsForOneAddress(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	var pages, codes []string
	var browsers []*browser
	for range 3 {
		b := s.browser()
		pages = append(pages, b.signUpLocal(adaMail, goodWords).want(302).location())
		codes = append(codes, s.codeOf(adaMail))
		browsers = append(browsers, b)
	}
	var mu sync.Mutex
	results := map[string]int{}
	var wg sync.WaitGroup
	for i, b := range browsers {
		wg.Go(func() {
			to := b.submit(pages[i], "code", codes[i]).location()
			mu.Lock()
			defer mu.Unlock()
			results[to]++
		})
	}
	wg.Wait()
	if results["/account"] != 1 || results["/login/account"] != 2 {
		t.Errorf("got %v", results)
	}
	if s.documents("credential") != 1 || s.documents("user") != 1 {
		t.Errorf("%d credentials, %d users", s.documents("credential"), s.documents("user"))
	}
}

func TestWhoMaySignUp(t *testing.T) {
	t.Run("domains", func(t *testing.T) {
		s := newServer(t, withAccounts(`{"domains": ["Example.org", "bücher.example"]}`))
		b := s.browser()
		b.open("signup").want(200, "@example.org", "@xn--bcher-kva.example").wantNot("signup/passkey")
		for _, email := range []string{
			"ada@other.org", "ada@sub.example.org", "ada@example.org.evil.com", "ada@evil.com@other.org", "ada@example.org.",
			"ada@example.org@evil.com", `"ada@example.org"@evil.com`, "ada@evil.com,ada@example.org", "ada@evil.com ada@example.org",
			"ada@evil.com\r\nBcc: ada@example.org", "ada@exämple.org", "ada@xexample.org", "@example.org", "ada@", "<ada@example.org>", "ada@[192.0.2.1]", "ada@example.org\x00.evil.com",
		} {
			if a := b.signUpLocal(email, goodWords); a.status != 422 && a.status != 400 {
				t.Errorf("%q may sign up: %d %s", email, a.status, a.location())
			}
		}
		for _, email := range []string{"ada@EXAMPLE.org", "ada@Bücher.example", "ada@ｅxample.org"} {
			b.signUpLocal(email, goodWords).want(302)
		}
		if n := s.documents("message"); n != 3 {
			t.Errorf("%d mails", n)
		}
		if len(s.mails("ada@xn--bcher-kva.example")) != 1 || len(s.mails(adaMail)) != 2 {
			t.Error("mail goes to other domains than were checked")
		}
	})
	for registration, text := range map[string]string{"closed": "No new accounts can be created", "invitation": "need an invitation"} {
		t.Run(registration, func(t *testing.T) {
			s := newServer(t, withAccounts(`{"registration": "`+registration+`"}`))
			b := s.browser()
			b.open("signup").want(403, text)
			b.open("login/account").want(200).wantNot("/signup")
			b.signUpLocal(adaMail, goodWords).want(403)
			if n := s.documents("message") + s.documents("pending"); n != 0 {
				t.Errorf("%d documents", n)
			}
		})
	}
	t.Run("not here", func(t *testing.T) {
		s := newServer(t)
		for _, path := range []string{"signup", "reset", "unlock"} {
			s.browser().open(path).want(404)
		}
	})
}

func TestPasswordsThatAreRefused(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	for password, message := range map[string]string{
		"short":                    "too short",
		"":                         "Please enter your password",
		"password123":              "common",
		"1234567890":               "common",
		"qwertyuiop":               "common",
		"aaaaaaaaaaaaaaaa":         "common",
		"Ada.Lovelace1":            "who knows your name",
		"testlogin2026":            "who knows your name", // the title of the installation
		strings.Repeat("x", 1025):  "too long",
		"kettle\u0000moss harbour": "",
		"kettle\u0007moss harbour": "cannot be typed everywhere",
	} {
		a := b.signUpLocal("ada.lovelace@example.org", password, "name", "Ada Lovelace")
		if a.status != 422 && a.status != 400 || message != "" && !strings.Contains(a.text(), message) {
			t.Errorf("%.30q: got %d, want %q in %s", password, a.status, message, a.text())
		}
		if message != "" {
			a.want(422, `value="ada.lovelace@example.org"`, `value="Ada Lovelace"`).wantNot(`value="` + password + `"`)
		}
	}
	for _, password := range []string{"ｋettle moss harbour 9", strings.Repeat("x7Gq2mPz9w", 100), "Übergröße am Teich"} {
		b.signUpLocal("eve@example.org", password).want(302)
	}
}

// invite writes an invitation and returns its link.
func (s *server) invite(email, name string) string {
	s.t.Helper()
	link, err := s.running.Load().Desk().Invite(s.t.Context(), accounts.Invitation{Email: email, Name: name, By: "Ada", Language: "en"})
	if err != nil {
		s.t.Fatal(err)
	}
	return link
}

func TestInvitation(t *testing.T) {
	s := newServer(t, withAccounts(`{"registration": "invitation", "domains": ["example.org"]}`))
	link := s.invite("bea@elsewhere.example", "Bea")
	if m := s.mail("bea@elsewhere.example"); m.Kind != "invitation" || s.linkOf("bea@elsewhere.example") != link {
		t.Errorf("got %s with another link than %s", m.Text, link)
	}
	b := s.browser()
	b.open(link).want(200, "You were invited", `value="bea@elsewhere.example"`, `value="Bea"`)
	u, _ := url.Parse(link)
	key := u.Query().Get("invitation")
	b.submit("signup", "invitation", key, "password", "short").want(422, `value="bea@elsewhere.example"`)
	// The address is that of the invitation, whatever is sent.
	b.submit("signup", "invitation", key, "password", goodWords, "email", adaMail, "name", "Bea").leadsTo("/account")
	if c := s.credentialOf("bea@elsewhere.example"); len(c.Emails) != 1 {
		t.Errorf("got %+v", c.Emails)
	}
	b.submit("signup", "invitation", key, "password", goodWords).want(400)
	s.browser().open(link).want(400, "no longer work")
	next := s.invite(adaMail, "")
	replaced := s.invite("ADA@example.org", "")
	s.browser().open(next).want(400)
	s.clock.Advance(7*24*time.Hour - time.Second)
	s.browser().open(replaced).want(200)
	s.clock.Advance(time.Second)
	s.browser().open(replaced).want(400)
}

// invitationQuery is the query of the link of an invitation.
func invitationQuery(link string) string {
	_, query, _ := strings.Cut(link, "?")
	return "?" + query
}

// An invitation that nobody could accept is not written.
func TestInvitationToNothing(t *testing.T) {
	s := newServer(t, withAccounts(`{"registration": "invitation", "password": false, "passkeys": false, "phone": true, "phoneSignIn": true}`), env("SMS_PREFIXES", "+49"))
	if _, err := s.running.Load().Desk().Invite(t.Context(), accounts.Invitation{Email: adaMail, Language: "en"}); !errors.Is(err, accounts.ErrOff) {
		t.Errorf("got %v, want ErrOff", err)
	}
}

// Who was invited needs no password: a passkey does, and the address and the role are theirs.
func TestInvitationWithPasskey(t *testing.T) {
	for name, settings := range map[string]string{
		"beside passwords": `{"registration": "invitation"}`, "no passwords": `{"registration": "invitation", "password": false}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, withAccounts(settings))
			link, err := s.running.Load().Desk().Invite(t.Context(), accounts.Invitation{Email: adaMail, Name: "Ada", Role: identity.RoleAdmin, Language: "en"})
			must(t, err)
			query := invitationQuery(link)
			b := s.browser()
			if page := b.open(link); strings.Contains(name, "beside") {
				page.want(200, "You were invited", "signup/passkey"+query)
			} else {
				page.leadsTo("/signup/passkey" + query)
			}
			b.open("signup/passkey"+query).want(200, adaMail, `value="Ada"`).wantNot("challenge_id")
			// Without an invitation, or with one that is made up, nobody gets there.
			s.browser().open("signup/passkey").want(403)
			s.browser().open("signup/passkey?invitation=made-up").want(400)
			s.browser().submit("signup/passkey?invitation=made-up", "name", "Eve").want(400)

			sealed := strings.TrimPrefix(b.submit("signup/passkey"+query, "name", "Ada L").want(302).location(), "/signup/passkey")
			b.open("signup/passkey"+sealed).want(200, "Create passkey")
			again := s.browser() // the same link, opened twice
			sealedAgain := strings.TrimPrefix(again.submit("signup/passkey"+query, "name", "Eve").want(302).location(), "/signup/passkey")
			asked, ceremonyAgain := again.question("signup/passkey/begin" + sealedAgain)
			a := s.authenticator()
			q, ceremony := b.question("signup/passkey/begin" + sealed)
			b.submit("signup/passkey/finish"+sealed, "ceremony", ceremony, "answer", a.create(q)).leadsTo("/security/passkeys")
			b.open("security/passkeys").want(200, "Welcome, Ada L. Add a second passkey")
			c := s.credentialOf(adaMail)
			if len(c.Passkeys) != 1 || c.Password != nil || c.Role != "" || !s.roles(adaMail, identity.RoleAdmin) {
				t.Errorf("got %+v", c)
			}
			other := s.authenticator()
			again.submit("signup/passkey/finish"+sealedAgain, "ceremony", ceremonyAgain, "answer", other.create(asked)).want(400)
			again.get("currentUser").want(401)
			if n, err := s.store.Engine.Count(t.Context(), "credential", ""); err != nil || n != 1 {
				t.Errorf("%d credentials, %v", n, err)
			}
			s.browser().open(link).want(400, "no longer work")
			b.submit("logout")
			b.passkeyLogin(a, "").leadsTo("/account")
		})
	}
}

// The address has an account by the time that an invitation is accepted.
func TestInvitationToWhoHasAnAccount(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	link, err := s.running.Load().Desk().Invite(t.Context(), accounts.Invitation{Email: adaMail, Role: identity.RoleAdmin, Language: "en"})
	must(t, err)
	query := invitationQuery(link)
	b := s.browser()
	sealed := strings.TrimPrefix(b.submit("signup/passkey"+query, "name", "Eve").want(302).location(), "/signup/passkey")
	_, err = s.credentials.Create(t.Context(), func(c *credential.Credential) {
		c.Emails = []credential.Email{{Address: adaMail, Primary: true, Verified: s.clock.Now()}}
	})
	must(t, err)
	a := s.authenticator()
	q, ceremony := b.question("signup/passkey/begin" + sealed)
	b.submit("signup/passkey/finish"+sealed, "ceremony", ceremony, "answer", a.create(q)).leadsTo("/login/account")
	b.get("currentUser").want(401)
	if c := s.credentialOf(adaMail); c.Role != "" || len(c.Passkeys) > 0 {
		t.Errorf("somebody who has signed up by themselves has got what the invitation is for: %+v", c)
	}
	// A sign-up without an invitation has cost a challenge, one with it that: nobody ends the one
	// with what was begun by the other.
	next, err := s.running.Load().Desk().Invite(t.Context(), accounts.Invitation{Email: "bea@example.org", Language: "en"})
	must(t, err)
	invited := invitationQuery(next)
	mallory := s.browser()
	plain := mallory.named("Mallory")
	sealed = strings.TrimPrefix(mallory.submit("signup/passkey"+invited, "name", "Mallory").want(302).location(), "/signup/passkey")
	for begun, ended := range map[string]string{sealed: plain, plain: sealed} {
		q, ceremony := mallory.question("signup/passkey/begin" + begun)
		mallory.submit("signup/passkey/finish"+ended, "ceremony", ceremony, "answer", s.authenticator().create(q)).want(302)
		mallory.get("currentUser").want(401)
	}
	// What is sealed has expired: the invitation has not.
	late := s.browser()
	sealed = strings.TrimPrefix(late.submit("signup/passkey"+invited, "name", "Bea").want(302).location(), "/signup/passkey")
	s.clock.Advance(16 * time.Minute)
	late.open("signup/passkey"+sealed).want(200, "took too long", "bea@example.org").wantNot("challenge_id")
	late.fetch(s.cfg.Origin(), "POST", "signup/passkey/begin"+sealed, "").want(403, `"code":"confirm"`) // and the page is asked for anew
}

// A role that could not be given at once is not lost: nobody is in without it.
func TestInvitationWithRole(t *testing.T) {
	s := newServer(t, withAccounts(`{"registration": "invitation"}`))
	link, err := s.running.Load().Desk().Invite(t.Context(), accounts.Invitation{Email: adaMail, Role: identity.RoleAdmin, Language: "en"})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	b := s.browser()
	made := make(chan struct{}) // closed once there is a credential
	s.store.fail(func(kind string) error {
		select {
		case <-made:
			if kind == "user" {
				return errInternal
			}
		default:
			if n, err := s.store.Engine.Count(t.Context(), "credential", ""); err == nil && n > 0 {
				close(made)
			}
		}
		return nil
	})
	b.submit("signup", "invitation", u.Query().Get("invitation"), "password", goodWords).want(500)
	s.store.fail(func(string) error { return nil })
	b.get("currentUser").want(401)
	if b.localLogin(adaMail, goodWords).leadsTo("/account"); !s.roles(adaMail, identity.RoleAdmin) {
		t.Error("the invitation's role is lost")
	}
	if c := s.credentialOf(adaMail); c.Role != "" {
		t.Errorf("the role %q would be given again after it was taken away", c.Role)
	}
	granted, err := audit.NewBook(s.guard, s.clock.Now).List(t.Context(), audit.Query{Action: "user.grant"})
	if err != nil || len(granted) != 1 || granted[0].Detail["by"] != "invitation" {
		t.Errorf("the audit log has %+v, %v", granted, err)
	}

	next, err := s.running.Load().Desk().Invite(t.Context(), accounts.Invitation{Email: "bea@example.org", Role: identity.RoleAdmin, Language: "en"})
	if err != nil {
		t.Fatal(err)
	}
	u, _ = url.Parse(next)
	s.browser().submit("signup", "invitation", u.Query().Get("invitation"), "password", goodWords).leadsTo("/account")
	if !s.roles("bea@example.org", identity.RoleAdmin) {
		t.Error("the role was not given")
	}
}

// roles tells whether the account that an address belongs to has a role.
func (s *server) roles(email, role string) bool {
	s.t.Helper()
	a, err := s.users.Owner(s.t.Context(), "account", s.credentialOf(email).ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return a.Has(role)
}

// bcrypt hashes come from other servers; they are compared as those did, and replaced.
func TestBcryptIsReplaced(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	now := s.clock.Now()
	if _, err := s.credentials.Create(t.Context(), func(c *credential.Credential) {
		c.Emails = []credential.Email{{Address: adaMail, Primary: true, Verified: now}}
		c.Password = &credential.Password{Hash: "$2a$04$Y6QnHBjHYoxV/vmB9T/9BewWMxrRDRIMKgYJLR3A8/loi7zu7Duxi", Set: now}
	}); err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	b.localLogin(adaMail, "lovelacf").leadsTo("/login/account")
	b.localLogin(adaMail, "lovelace").leadsTo("/account")
	hash := s.credentialOf(adaMail).Password.Hash
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=8192,t=1,p=1$") {
		t.Errorf("the hash is %s", hash)
	}
	s.browser().localLogin(adaMail, "lovelace").leadsTo("/account")
	if again := s.credentialOf(adaMail).Password.Hash; again != hash {
		t.Error("it was hashed again")
	}
}

func TestBackOff(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().newLocal(adaMail, goodWords)
	b := s.browser()
	for range 3 {
		b.localLogin(adaMail, newWords).leadsTo("/login/account")
	}
	b.follow(s.base, "login/account").want(200, "challenge_id", "The e-mail address or the password is wrong.")
	b.localLogin(adaMail, goodWords).want(302) // without the challenge
	b.get("currentUser").want(401)
	for range 4 {
		b.submit("login/account", append(b.challengeFields("login"), "username", adaMail, "password", newWords)...).want(302)
	}
	b.submit("login/account", append(b.challengeFields("login"), "username", adaMail, "password", goodWords)...).want(302)
	b.get("currentUser").want(401)
	b.follow(s.base, "login/account").want(200, "unlock-link")
	// Whoever has to wait is turned down; nothing is broken.
	w := httptest.NewRecorder()
	s.running.Load().Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := providerLines(w.Body.String()); strings.Contains(got, `logins_total{provider="account",result="failed"}`) {
		t.Errorf("the numbers have failures: %s", got)
	}

	b.submit("unlock", append(b.challengeFields("unlock"), "email", adaMail)...).want(200, "a mail is on its way")
	link := s.linkOf(adaMail)
	for range 2 {
		s.browser().open(link).want(200, "Go on to sign in")
	}
	b.submit("unlock/confirm", "key", keyOf(link)).leadsTo("/login/account")
	b.submit("unlock/confirm", "key", keyOf(link)).want(400)
	b.localLogin(adaMail, goodWords).leadsTo("/account")
}

func TestChangePassword(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, thief := s.browser(), s.browser()
	b.newLocal(adaMail, goodWords)
	thief.localLogin(adaMail, goodWords).leadsTo("/account")
	b.askReset(adaMail).want(302)
	reset := s.linkOf(adaMail)
	b.open("security/password").want(200, `name="current"`, adaMail)
	b.submit("security/password", "current", "wrong", "password", newWords).want(422, "not your current password")
	b.submit("security/password", "current", goodWords, "password", goodWords).want(422, "Please choose another one")
	b.submit("security/password", "current", goodWords, "password", "short").want(422, "too short")
	b.submit("security/password", "current", goodWords, "password", newWords).leadsTo("/security")
	b.get("currentUser").want(200)
	thief.get("currentUser").want(401)
	if m := s.mail(adaMail); m.Kind != "password_changed" {
		t.Errorf("got %s", m.Kind)
	}
	// A reset that was under way is void.
	b.open(reset).want(400)
	s.browser().localLogin(adaMail, goodWords).leadsTo("/login/account")
	// An open browser is not enough.
	s.clock.Advance(11 * time.Minute)
	to := b.open("security/password").want(302).location()
	if !strings.Contains(to, "fresh=1") {
		t.Errorf("leads to %s", to)
	}
	b.submit("security/password", "current", newWords, "password", goodWords).want(302)
	s.browser().localLogin(adaMail, newWords).leadsTo("/account")
}

// Who was let past the old password, and has not given the second factor yet, is thrown out.
func TestChangePasswordVoidsHalfASignIn(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, thief := s.browser(), s.browser()
	b.newLocal(adaMail, goodWords)
	app, _ := b.setUpApp()
	s.clock.Advance(time.Minute)
	at := thief.localLogin(adaMail, goodWords).want(302).location()
	thief.open(at).want(200)
	b.submit("security/password", "current", goodWords, "password", newWords).leadsTo("/security")
	thief.open(at).want(400, "expired")
	thief.submit(at, "code", app.code(s.clock.Now())).want(400, "expired")
	thief.get("currentUser").want(401)
}

// A password that was right when it was typed may be another one after the wait for its hash.
func TestPasswordChangedWhileItIsLookedAt(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.keepLocal(adaMail, goodWords)
	s.clock.Advance(time.Hour)
	id, once := s.credentialOf(adaMail).ID, sync.Once{}
	s.store.fail(func(kind string) error {
		if kind == "backoff pair" { // after the credential was read
			once.Do(func() {
				_, err := s.credentials.Update(t.Context(), id, func(c *credential.Credential) error {
					c.Password = &credential.Password{Hash: c.Password.Hash, Set: s.clock.Now()}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	b := s.browser()
	b.localLogin(adaMail, goodWords).leadsTo("/login/account")
	b.get("currentUser").want(401)
	b.localLogin(adaMail, goodWords).leadsTo("/account")
}

func TestAddresses(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.newLocal(adaMail, goodWords)
	eve := s.browser()
	eve.newLocal("eve@example.org", goodWords)

	page := b.submit("security/emails", "email", "ada@work.example").want(302).location()
	b.open(page).want(200, "ada@work.example")
	eve.open(page).want(403, "belongs to another account")
	eve.submit(page, "code", s.codeOf("ada@work.example")).want(403)
	link := s.linkOf("ada@work.example")
	eve.submit("security/emails/confirm", "key", keyOf(link)).want(403)
	s.browser().open(link).want(302) // sign in first
	b.open(link).want(200, "ada@work.example")
	b.submit("security/emails/confirm", "key", keyOf(link)).leadsTo("/security/emails")
	if m := s.mail(adaMail); m.Kind != "email_added" {
		t.Errorf("got %s", m.Kind)
	}
	s.browser().localLogin("ada@work.example", goodWords).leadsTo("/account")

	// An address of somebody else: they are told, and nobody else is.
	b.submit("security/emails", "email", "eve@example.org").want(302)
	if m := s.mail("eve@example.org"); m.Kind != "exists" {
		t.Errorf("got %s", m.Kind)
	}
	b.submit("security/emails", "email", adaMail).want(422, "already one of your addresses")

	b.submit("security/emails/remove", "email", adaMail).leadsTo("/security/emails")
	b.open("security/emails").want(200, "Make another address the primary one first")
	b.submit("security/emails/primary", "email", "ada@work.example").leadsTo("/security/emails")
	if m := s.mail("ada@work.example"); m.Kind != "email_changed" {
		t.Errorf("the new one has got %s", m.Kind)
	}
	if m := s.mail(adaMail); m.Kind != "email_change_old" {
		t.Errorf("the old one has got %s", m.Kind)
	}
	account, err := s.users.Get(t.Context(), b.user().ID)
	if err != nil || account.Known()["email"].Value != "ada@work.example" {
		t.Errorf("the account says %v, %v", account.Known()["email"], err)
	}
	b.submit("security/emails/remove", "email", adaMail).leadsTo("/security/emails")
	b.submit("security/emails/remove", "email", "ada@work.example").leadsTo("/security/emails")
	b.open("security/emails").want(200, "need this address to sign in", "ada@work.example")
	for _, path := range []string{"primary", "remove"} {
		b.submit("security/emails/"+path, "email", "eve@example.org").leadsTo("/security/emails")
	}
	if c := s.credentialOf("eve@example.org"); len(c.Emails) != 1 {
		t.Errorf("got %+v", c)
	}
}

// Somebody has got hold of an account, makes an address of theirs the primary one and throws the owner out.
func TestUndoOfAnAddress(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	owner, thief := s.browser(), s.browser()
	owner.newLocal(adaMail, goodWords)
	s.clock.Advance(30 * 24 * time.Hour)
	thief.localLogin(adaMail, goodWords).leadsTo("/account")
	add := func(email string) {
		t.Helper()
		page := thief.submit("security/emails", "email", email).want(302).location()
		thief.submit(page, "code", s.codeOf(email)).leadsTo("/security/emails")
	}
	add("thief@evil.example")
	add("spare@evil.example")
	thief.submit("security/emails/primary", "email", "thief@evil.example").leadsTo("/security/emails")
	s.clock.Advance(time.Minute)
	link := s.linkOf(adaMail)
	thief.submit("security/emails/remove", "email", adaMail).leadsTo("/security/emails")
	thief.submit("security/password", "current", goodWords, "password", newWords).leadsTo("/security")
	// One more change, to have an undo of their own.
	thief.submit("security/emails/primary", "email", "spare@evil.example").leadsTo("/security/emails")
	own := s.linkOf("thief@evil.example")
	thief.submit("security/emails/undo", "key", keyOf(own)).want(302)

	s.clock.Advance(6 * 24 * time.Hour)
	for range 3 {
		s.browser().open(link).want(200, "Undo the change", adaMail)
	}
	next := owner.submit("security/emails/undo", "key", keyOf(link)).want(302).location()
	thief.get("currentUser").want(401)
	owner.submit("security/emails/undo", "key", keyOf(link)).want(400)
	owner.submit("reset/new", "key", keyOf("http://x"+next), "password", goodWords+"!").leadsTo("/account")
	c := s.credentialOf(adaMail)
	if len(c.Emails) != 1 || c.Primary() != adaMail {
		t.Errorf("the addresses are %+v", c.Emails)
	}
	thief.localLogin("thief@evil.example", newWords).leadsTo("/login/account")
	thief.localLogin(adaMail, newWords).leadsTo("/login/account")
}

// Links in mails are built from BASE_URL alone, and nothing typed makes a header.
func TestMailsAreNotBentByRequests(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.header.Set("X-Forwarded-Host", "evil.example.com")
	b.header.Set("Forwarded", "host=evil.example.com")
	b.header.Set("X-Forwarded-Proto", "gopher")
	b.signUpLocal(adaMail, goodWords, "name", "Ada\r\nBcc: eve@example.org").want(422)
	b.signUpLocal(adaMail, goodWords, "name", "Ada <eve@example.org>").want(302)
	m := s.mail(adaMail)
	if strings.Contains(m.Text+m.HTML+m.Subject, "evil.example") || !strings.Contains(m.Text, s.base+"signup/confirm?key=") {
		t.Errorf("got %s", m.Text)
	}
	for _, email := range []string{"ada@example.org\nBcc: x@evil.example", "ada@example.org\r\n\r\nHello", "ada%0a@example.org,x@evil.example", "x@evil.example\x00ada@example.org"} {
		if a := b.signUpLocal(email, goodWords); a.status == 302 {
			t.Errorf("%q is taken", email)
		}
	}
	if n := len(s.notify.Catcher().Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// Forms are taken from our own pages only, and of a reasonable size.
func TestLocalFormsAreGuarded(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.newLocal(adaMail, goodWords)
	docs := func() int { return s.documents("pending") + s.documents("message") + s.documents("credential") }
	before := docs()
	for _, path := range []string{
		"signup", "signup/code?id=x", "signup/resend?id=x", "signup/confirm", "reset", "reset/code?id=x", "reset/resend?id=x", "reset/new", "unlock", "unlock/confirm",
		"login/account", "security/password", "security/emails", "security/emails/primary", "security/emails/remove", "security/emails/undo", "security/emails/confirm", "security/emails/code?id=x", "security/emails/resend?id=x",
	} {
		for _, from := range []string{evilOrigin + "/", appOrigin + "/", "null"} {
			b.submitFrom(from, path, "email", "new@example.org", "username", adaMail, "password", goodWords, "key", "x").want(403)
		}
		if a := b.submit(path, "email", strings.Repeat("x", 10<<20)); a.status != 413 && !strings.Contains(path, "resend") { // which reads no form
			t.Errorf("%s takes ten megabytes: %d", path, a.status)
		}
	}
	if after := docs(); after != before {
		t.Errorf("%d documents more", after-before)
	}
}

// Signed in, a sign-up or a sign-in at the account adds an identity.
func TestLocalIdentityIsLinked(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().newLocal(adaMail, goodWords)
	b := s.browser()
	b.login("alpha", "ben")
	b.open("login/account").want(200, "Connect Account")
	b.localLogin(adaMail, goodWords).want(302)
	if !strings.Contains(b.localLogin(adaMail, goodWords).location(), "merge") {
		t.Error("no question whether the accounts are to become one")
	}
}

// A store that is away is no wrong password.
func TestStoreAwayAtSignIn(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().newLocal(adaMail, goodWords)
	b := s.browser()
	s.store.fail(broken("credential"))
	b.localLogin(adaMail, goodWords).want(500)
	s.store.fail(func(string) error { return nil })
	b.localLogin(adaMail, goodWords).leadsTo("/account")
}
