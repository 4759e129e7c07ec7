package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/credential"
	"login-server/session"
)

// withAccounts adds accounts that live here, with options as JSON, and passwords hashed as
// cheaply as can be set.
func withAccounts(settings string) option {
	return func(o *options) {
		cheap := `{"hashing": {"memoryKiB": 8192}`
		if settings != `{}` {
			cheap += ", "
		}
		o.providers = strings.TrimSuffix(strings.TrimSpace(testProviders), "]") +
			`, {"id": "account", "strategy": "account", "name": "Account", "options": ` + cheap + strings.TrimPrefix(settings, "{") + `}]`
	}
}

// question is what the server asks an authenticator at an address, and the ceremony to come
// back with.
func (b *browser) question(path string) (asked, string) {
	b.server.t.Helper()
	var q struct {
		Options  asked
		Ceremony string
	}
	b.fetch(b.server.cfg.Origin(), "POST", path, "").want(200).json(&q)
	if q.Options.Challenge == "" || q.Ceremony == "" {
		b.server.t.Fatalf("%s: no question", path)
	}
	return q.Options, q.Ceremony
}

// signUp makes an account with nothing but a passkey.
func (b *browser) signUp(a *authenticator, name string) {
	b.server.t.Helper()
	b.open("signup/passkey").want(200, "Create an account with a passkey")
	sealed := b.named(name)
	b.open("signup/passkey"+sealed).want(200, name, "Create passkey")
	q, ceremony := b.question("signup/passkey/begin" + sealed)
	b.submit("signup/passkey/finish"+sealed, "ceremony", ceremony, "answer", a.create(q)).leadsTo("/security/passkeys")
}

// named says how somebody wants to be called who signs up, and returns the query that goes on.
func (b *browser) named(name string) string {
	b.server.t.Helper()
	c := b.solved("signup-passkey")
	step := b.submit("signup/passkey", "name", name, "challenge_id", c["id"].(string), "challenge_kind", "work", "challenge_answer", c["answer"].(string)).want(302).location()
	return strings.TrimPrefix(step, "/signup/passkey")
}

// passkeyLogin signs in with a passkey; query is where that leads to.
func (b *browser) passkeyLogin(a *authenticator, query string) answer {
	b.server.t.Helper()
	q, ceremony := b.question("login/account/passkey/begin")
	return b.submit("login/account/passkey"+query, "ceremony", ceremony, "answer", a.get(q))
}

// refused fails the test unless the answer is a message on the page of the provider, and
// nobody is signed in.
func (b *browser) refused(a answer, text string) {
	b.server.t.Helper()
	a.want(302)
	b.open(a.location()).want(200, text)
	b.get("currentUser").want(401)
}

func (s *server) authenticator() *authenticator { return &authenticator{t: s.t} }

// credential is the credential of who is signed in.
func (b *browser) credential() credential.Credential {
	b.server.t.Helper()
	c, err := b.server.credentials.Get(b.server.t.Context(), b.user().Identities["account"].ID)
	if err != nil {
		b.server.t.Fatal(err)
	}
	return c
}

// methods are those of the session of who is signed in.
func (b *browser) methods() []string {
	b.server.t.Helper()
	sessions, err := b.server.sessions.Of(b.server.t.Context(), b.user().ID)
	if err != nil || len(sessions) == 0 {
		b.server.t.Fatalf("sessions: %v, %v", sessions, err)
	}
	return sessions[0].Methods
}

func TestPasskeyAlone(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, a := s.browser(), s.authenticator()

	q, _ := b.question("login/account/passkey/begin")
	if q.RPID != "localhost" || q.UserVerification != "required" || len(q.Allow) != 0 {
		t.Errorf("the question of a sign-in: %+v", q)
	}
	sealed := b.named("Ada")
	before := len(s.store.everWritten())
	q, _ = b.question("signup/passkey/begin" + sealed)
	if q.RP.ID != "localhost" || q.Selection.ResidentKey != "required" || q.Selection.UserVerification != "required" || q.Attestation != "none" && q.Attestation != "" || q.User.Name != "Ada" {
		t.Errorf("the question of a sign-up: %+v", q)
	}
	if n := len(s.store.everWritten()); n != before || s.documents("user") != 0 {
		t.Errorf("%d writes before anybody has signed up", n-before)
	}

	b.signUp(a, "Ada")
	ada := b.user()
	if ada.Name != "Ada" || len(ada.Identities) != 1 {
		t.Errorf("signed up as %+v", ada)
	}
	if got := b.methods(); !slices.Equal(got, []string{"hwk", "user", "mfa"}) {
		t.Errorf("methods of the session: %v", got)
	}
	b.open("security/passkeys").want(200, "Chrome on Linux", "On one device only")

	other := s.browser()
	other.passkeyLogin(a, "?redirect_uri="+url.QueryEscape(application)).leadsTo(application)
	if got := other.user(); got.ID != ada.ID {
		t.Errorf("signed in as %s, want %s", got.ID, ada.ID)
	}
	if p := other.credential().Passkeys[0]; !p.Used.Equal(s.clock.Now()) {
		t.Errorf("last use: %v", p.Used)
	}

	// One that is on several devices is no hardware.
	c, d := s.browser(), s.authenticator()
	d.synced = true
	c.signUp(d, "Ben")
	if got := c.methods(); !slices.Equal(got, []string{"swk", "user", "mfa"}) {
		t.Errorf("methods with a passkey that is synced: %v", got)
	}
	c.open("security/passkeys").want(200, "On all devices that share it")
}

func TestPasskeySignUpRules(t *testing.T) {
	for settings, want := range map[string]int{
		`{}`:                             200,
		`{"passkeys": false}`:            404,
		`{"registration": "closed"}`:     403,
		`{"registration": "invitation"}`: 403,
		`{"domains": ["example.org"]}`:   403,
	} {
		t.Run(settings, func(t *testing.T) {
			s := newServer(t, withAccounts(settings))
			b := s.browser()
			b.open("signup/passkey").want(want)
			if want != 200 {
				b.submit("signup/passkey", "name", "Ada").want(want)
				b.fetch(testOrigin, "POST", "signup/passkey/begin", "").want(want)
				b.submit("signup/passkey/finish", "ceremony", "x", "answer", "{}").want(want)
			}
		})
	}
	s := newServer(t)
	s.browser().open("signup/passkey").want(404)
	s.browser().fetch(testOrigin, "POST", "login/alpha/passkey/begin", "").want(404)
	s.browser().submit("login/alpha/passkey", "ceremony", "x", "answer", "{}").want(404)
}

// Browsers offer no passkeys at addresses without a name, or that are not encrypted.
func TestNoPasskeysAtAddress(t *testing.T) {
	for _, base := range []string{"http://127.0.0.1:3004/", "http://login.example.org/"} {
		s := newServer(t, withAccounts(`{}`), env("BASE_URL", base))
		s.browser().fetch(s.cfg.Origin(), "POST", "login/account/passkey/begin", "").want(404)
		if !strings.Contains(s.log.String(), "no passkeys") {
			t.Errorf("%s: the log does not say why", base)
		}
	}
}

func TestPasskeySignUpIsGoodOnce(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	sealed := b.named("Ada")
	// One sign-up, several ceremonies and authenticators: there will be one account.
	var forms [][]string
	for range 4 {
		q, ceremony := b.question("signup/passkey/begin" + sealed)
		forms = append(forms, []string{"ceremony", ceremony, "answer", s.authenticator().create(q)})
	}
	s.browser().fetch(testOrigin, "POST", "signup/passkey/begin"+sealed, "").want(403)
	other := s.browser()
	other.open("login")
	other.submit("signup/passkey/finish"+sealed, forms[0]...).want(302)
	if s.documents("credential") != 0 {
		t.Error("somebody has finished the sign-up of another browser")
	}
	together(len(forms), func(i int) { b.copyOf().submit("signup/passkey/finish"+sealed, forms[i]...) })
	if users, credentials := s.documents("user"), s.documents("credential"); users != 1 || credentials != 1 {
		t.Errorf("%d accounts and %d credentials, want 1 each", users, credentials)
	}
	s.clock.Advance(16 * time.Minute)
	s.browser().open("signup/passkey"+sealed).want(200, "That took too long")
	for _, name := range []string{"", "  ", strings.Repeat("x", 201), "a\u0007b"} {
		s.browser().submit("signup/passkey", "name", name).want(422, `id="name-error"`)
	}
	s.browser().submit("signup/passkey", "name", "Ada").want(422, `value="Ada"`, "challenge_id")
}

// together calls f for 0 to n-1 at the same moment.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-begin; f(i) })
	}
	close(begin)
	wg.Wait()
}

func TestPasskeyForgeries(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	owner, a := s.browser(), s.authenticator()
	owner.signUp(a, "Ada")
	ben := s.authenticator()
	s.browser().signUp(ben, "Ben")
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const unknown = "This passkey is not known here"
	for name, forge := range map[string]func(*authenticator){
		"another origin":        func(a *authenticator) { a.origin = evilOrigin },
		"another port":          func(a *authenticator) { a.origin = "http://localhost:3005" },
		"another RP id":         func(a *authenticator) { a.rpID = "evil.example.com" },
		"another challenge":     func(a *authenticator) { a.challenge = encoded(make([]byte, 32)) },
		"a registration":        func(a *authenticator) { a.kind = "webauthn.create" },
		"nobody verified":       func(a *authenticator) { a.unverified = true },
		"another key":           func(a *authenticator) { a.signer = stranger },
		"another person":        func(a *authenticator) { a.handle = string(ben.passkeys[0].user) },
		"no person":             func(a *authenticator) { a.handle = "nobody" },
		"a key that is synced":  func(a *authenticator) { a.passkeys[0].synced = true },
		"an unknown passkey":    func(a *authenticator) { a.passkeys[0].id = []byte("nobody has this id") },
		"another's passkey id":  func(a *authenticator) { a.passkeys[0].id = ben.passkeys[0].id },
		"the id and person too": func(a *authenticator) { a.passkeys[0].id, a.handle = ben.passkeys[0].id, string(ben.passkeys[0].user) },
	} {
		t.Run(name, func(t *testing.T) {
			forged, key := *a, *a.passkeys[0]
			forged.passkeys = []*passkey{&key}
			forge(&forged)
			b := s.browser()
			b.refused(b.passkeyLogin(&forged, ""), unknown)
		})
	}
	for name, text := range map[string]string{"nothing": "", "no JSON": "x", "no credential": "{}", "null": "null", "a list": "[]"} {
		t.Run(name, func(t *testing.T) {
			b := s.browser()
			_, ceremony := b.question("login/account/passkey/begin")
			b.refused(b.submit("login/account/passkey", "ceremony", ceremony, "answer", text), unknown)
		})
	}
	s.browser().passkeyLogin(a, "").leadsTo("/account")

	// The owner sees who has tried, as far as it was their passkey.
	history, err := s.sessions.History(t.Context(), session.HistoryQuery{UserIDs: []string{owner.user().ID}})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, x := range history {
		if x.Result == session.ResultRefused && x.Reason == "passkey" {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d refusals in the history of the owner, want 10: %+v", refused, history)
	}
}

func TestPasskeyCeremonies(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	a := s.authenticator()
	s.browser().signUp(a, "Ada")
	const over = "That took too long"

	b := s.browser()
	q, ceremony := b.question("login/account/passkey/begin")
	answer := a.get(q)
	thief := s.browser()
	thief.open("login")
	thief.refused(thief.submit("login/account/passkey", "ceremony", ceremony, "answer", answer), over)
	naked := s.browser()
	naked.refused(naked.submit("login/account/passkey", "ceremony", ceremony, "answer", answer), over)

	b.submitFrom(evilOrigin+"/", "login/account/passkey", "ceremony", ceremony, "answer", answer).want(403)
	b.fetch(evilOrigin, "POST", "login/account/passkey/begin", "").want(403)
	b.fetch(appOrigin, "POST", "login/account/passkey/begin", "").want(403)
	b.submit("login/account/passkey", "ceremony", ceremony, "answer", strings.Repeat("x", 10<<20)).want(413)
	b.refused(b.submit("login/account/passkey", "ceremony", ceremony+"x", "answer", answer), over)
	b.refused(b.submit("login/account/passkey", "ceremony", "", "answer", answer), over)

	// What is right all the same is good once, and for five minutes.
	b.submit("login/account/passkey", "ceremony", ceremony, "answer", answer).leadsTo("/account")
	b.open("logout")
	b.follow(s.base+"account", "logout").want(302)
	b.refused(b.submit("login/account/passkey", "ceremony", ceremony, "answer", answer), over)

	q, ceremony = b.question("login/account/passkey/begin")
	answer = a.get(q)
	s.clock.Advance(5 * time.Minute)
	b.refused(b.submit("login/account/passkey", "ceremony", ceremony, "answer", answer), over)

	q, ceremony = b.question("login/account/passkey/begin")
	answer = a.get(q)
	signedIn := make([]bool, 6)
	together(len(signedIn), func(i int) {
		c := b.copyOf()
		c.submit("login/account/passkey", "ceremony", ceremony, "answer", answer)
		signedIn[i] = c.get("currentUser").status == 200
	})
	if n := count(signedIn, true); n != 1 {
		t.Errorf("one answer has signed in %d times", n)
	}

	// A question for something else is none for a sign-in.
	owner := s.browser()
	owner.passkeyLogin(a, "").leadsTo("/account")
	q, ceremony = owner.question("security/passkeys/add/begin")
	owner.follow(s.base+"account", "logout").want(302)
	owner.refused(owner.submit("login/account/passkey", "ceremony", ceremony, "answer", a.sign(q, a.passkeys[0])), over)
}

func count[T comparable](list []T, wanted T) int {
	n := 0
	for _, x := range list {
		if x == wanted {
			n++
		}
	}
	return n
}

func TestPasskeyCopied(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	a := s.authenticator()
	a.counting = true
	owner := s.browser()
	owner.signUp(a, "Ada")
	s.verifiedEmail(owner, "ada@example.org")
	for range 3 {
		s.browser().passkeyLogin(a, "").leadsTo("/account")
	}
	key := *a.passkeys[0]
	copied := &authenticator{t: t, counting: true, passkeys: []*passkey{&key}}
	key.counter = 1
	b := s.browser()
	b.refused(b.passkeyLogin(copied, ""), "There may be a copy")
	if mail := s.mail("ada@example.org"); mail.Kind != "passkey_copied" {
		t.Errorf("the owner was told: %+v", mail)
	}
	if c := owner.credential(); c.Passkeys[0].Cloned.IsZero() || c.SignsIn() {
		t.Errorf("the passkey is not marked: %+v", c.Passkeys[0])
	}
	// Neither the one nor the other is good any more, whatever they count, and nobody is told twice.
	key.counter = 1000
	b.refused(b.passkeyLogin(copied, ""), "not known here")
	c := s.browser()
	c.refused(c.passkeyLogin(a, ""), "not known here")
	if mails := s.mails("ada@example.org"); len(mails) != 1 {
		t.Errorf("%d mails, want 1", len(mails))
	}
	owner.open("security/passkeys").want(200, "No longer works")

	// Those that do not count are no copies.
	d := s.authenticator()
	s.browser().signUp(d, "Ben")
	for range 3 {
		s.browser().passkeyLogin(d, "").leadsTo("/account")
	}
}

// verifiedEmail gives who is signed in an address.
func (s *server) verifiedEmail(b *browser, address string) {
	s.t.Helper()
	_, err := s.credentials.Update(s.t.Context(), b.credential().ID, func(c *credential.Credential) error {
		c.Emails = []credential.Email{{Address: address, Primary: true, Verified: s.clock.Now()}}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// addPasskey adds one for who is signed in.
func (b *browser) addPasskey(a *authenticator, name string) answer {
	b.server.t.Helper()
	b.open("security/passkeys/add").want(200, "Add a passkey")
	q, ceremony := b.question("security/passkeys/add/begin")
	return b.submit("security/passkeys/add", "name", name, "ceremony", ceremony, "answer", a.create(q))
}

// Who came by another provider has a local identity with their first passkey, and not before.
func TestPasskeyOfSomebodyElsewhere(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, a := s.browser(), s.authenticator()
	b.login("alpha", "ada")
	ada := b.user()
	b.open("security/passkeys").want(200, "You have no passkeys yet")
	b.question("security/passkeys/add/begin")
	if s.documents("credential") != 0 {
		t.Error("a credential is there before there is a passkey")
	}
	b.addPasskey(a, "Key").leadsTo("/security/passkeys")
	b.open("security/passkeys").want(200, "Key", "was added", "never")
	if got := b.user(); got.ID != ada.ID || len(got.Identities) != 2 {
		t.Errorf("identities: %+v", got.Identities)
	}
	other := s.browser()
	other.passkeyLogin(a, "").leadsTo("/account")
	if got := other.user(); got.ID != ada.ID || got.Name != ada.Name {
		t.Errorf("signed in as %+v", got)
	}
	// Two at once are one identity, with the passkey of one of them at least.
	c := s.browser()
	c.login("alpha", "ben")
	forms := make([][]string, 4)
	for i := range forms {
		q, ceremony := c.question("security/passkeys/add/begin")
		forms[i] = []string{"ceremony", ceremony, "answer", s.authenticator().create(q)}
	}
	together(len(forms), func(i int) { c.copyOf().submit("security/passkeys/add", forms[i]...).want(302) })
	if n := s.documents("credential"); n != 2 {
		t.Errorf("%d credentials for two people", n)
	}
	if got := c.credential(); len(got.Passkeys) != 1 {
		t.Errorf("%d passkeys, want 1: the others were made for credentials that are none", len(got.Passkeys))
	}
}

func TestPasskeyList(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, first, second := s.browser(), s.authenticator(), s.authenticator()
	b.signUp(first, "Ada")
	s.verifiedEmail(b, "ada@example.org")
	b.addPasskey(second, "").leadsTo("/security/passkeys")
	b.open("security/passkeys").want(200, "Chrome on Linux 2")
	if mail := s.mail("ada@example.org"); mail.Kind != "factor_added" || !strings.Contains(strings.Join(strings.Fields(mail.Text), " "), "Chrome on Linux 2”") {
		t.Errorf("mail: %+v", mail)
	}
	q, ceremony := b.question("security/passkeys/add/begin")
	if len(q.Exclude) != 2 || q.User.Name != "ada@example.org" {
		t.Errorf("the question for a third: %+v", q)
	}
	// An authenticator, or an attacker in its place, that does not mind is refused here.
	again := b.submit("security/passkeys/add", "ceremony", ceremony, "answer", second.register(q, second.passkeys[0])).want(302)
	b.open(again.location()).want(200, "This passkey is already known here")
	c, thief := s.browser(), s.authenticator()
	c.signUp(thief, "Ben")
	q, ceremony = c.question("security/passkeys/add/begin")
	again = c.submit("security/passkeys/add", "ceremony", ceremony, "answer", thief.register(q, first.passkeys[0])).want(302)
	c.open(again.location()).want(200, "This passkey is already known here")

	id := encoded(second.passkeys[0].id)
	b.submit("security/passkeys/rename", "id", id, "name", "Key <ring>").leadsTo("/security/passkeys")
	b.open("security/passkeys").want(200, "Key &lt;ring&gt;")
	for _, name := range []string{"", strings.Repeat("x", 65), "a\u202eb"} {
		b.submit("security/passkeys/rename", "id", id, "name", name).leadsTo("/security/passkeys")
		b.open("security/passkeys").want(200, "name-"+id+"-error")
	}
	// Nobody else's.
	c.submit("security/passkeys/rename", "id", id, "name", "Mine").leadsTo("/security/passkeys")
	c.open("security/passkeys").want(200, "not one of your passkeys")
	c.submit("security/passkeys/remove", "id", id).leadsTo("/security/passkeys")
	c.open("security/passkeys").want(200, "not one of your passkeys")
	c.submit("security/passkeys/remove", "id", "///").leadsTo("/security/passkeys")

	b.submit("security/passkeys/remove", "id", id).leadsTo("/security/passkeys")
	b.open("security/passkeys").want(200, "was removed").wantNot(`value="` + id)
	if mail := s.mail("ada@example.org"); mail.Kind != "factor_removed" {
		t.Errorf("mail: %+v", mail)
	}
	d := s.browser()
	d.refused(d.passkeyLogin(second, ""), "not known here")
	b.submit("security/passkeys/remove", "id", encoded(first.passkeys[0].id)).leadsTo("/security/passkeys")
	b.open("security/passkeys").want(200, "your only way to sign in")
	d.passkeyLogin(first, "").leadsTo("/account")
	// With another provider it is not the last one any more, and then that is.
	b.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302)
	b.submit("security/passkeys/remove", "id", encoded(first.passkeys[0].id)).leadsTo("/security/passkeys")
	b.open("security/passkeys").want(200, "You have no passkeys yet")
	b.submit("disconnect/alpha").leadsTo("/account")
	if got := b.user(); len(got.Identities) != 2 {
		t.Errorf("identities: %v", got.Identities)
	}
	b.addPasskey(second, "Key").leadsTo("/security/passkeys")
	b.submit("disconnect/alpha").leadsTo("/account")
	if got := b.user(); len(got.Identities) != 1 {
		t.Errorf("identities: %v", got.Identities)
	}
}

func TestPasskeysAreLimited(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, a := s.browser(), s.authenticator()
	b.signUp(a, "Ada")
	for len(a.passkeys) < credential.MaxPasskeys {
		b.addPasskey(a, "").leadsTo("/security/passkeys")
	}
	b.open("security/passkeys").want(200, "You have 20 passkeys already").wantNot(`id="passkey-add"`)
	b.fetch(testOrigin, "POST", "security/passkeys/add/begin", "").want(409)
}

// What changes how somebody signs in needs a fresh sign-in, and the browser that it was in.
func TestPasskeyChangesNeedFreshSignIn(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, a := s.browser(), s.authenticator()
	b.signUp(a, "Ada")
	q, ceremony := b.question("security/passkeys/add/begin")
	added := []string{"ceremony", ceremony, "answer", s.authenticator().create(q)}
	b.passkeyLoginAgain(a)
	again := b.submit("security/passkeys/add", added...).want(302)
	b.open(again.location()).want(200, "That took too long") // the sign-in before has asked for it

	s.clock.Advance(11 * time.Minute)
	id := encoded(a.passkeys[0].id)
	for _, path := range []string{"security/passkeys/rename", "security/passkeys/remove", "security/passkeys/add", "disconnect/account"} {
		to := b.submit(path, "id", id, "name", "x").want(302).location()
		if !strings.HasPrefix(to, "/login?fresh=1") {
			t.Errorf("%s of somebody who has signed in long ago leads to %s", path, to)
		}
	}
	b.fetch(testOrigin, "POST", "security/passkeys/add/begin", "").want(403, "confirm")
	to := b.open("security/passkeys/add?redirect_uri=" + url.QueryEscape(application)).want(302).location()
	b.open(to).want(200, "Confirm that it is you")
	_, query, _ := strings.Cut(to, "?")
	b.passkeyLogin(a, "?"+query).leadsTo(testOrigin + "/security/passkeys/add?redirect_uri=" + url.QueryEscape(application))
	b.addPasskey(s.authenticator(), "Key").leadsTo("/security/passkeys")

	for _, path := range []string{"security/passkeys/rename", "security/passkeys/remove", "security/passkeys/add"} {
		s.browser().submit(path, "id", id, "name", "x").leadsTo("/login")
		b.submitFrom(evilOrigin+"/", path, "id", id, "name", "x").want(403)
	}
	s.browser().open("security/passkeys").leadsTo("/login")
	s.browser().fetch(testOrigin, "POST", "security/passkeys/add/begin", "").want(403)
	b.fetch(appOrigin, "POST", "security/passkeys/add/begin", "").want(403)
}

// passkeyLoginAgain signs in afresh.
func (b *browser) passkeyLoginAgain(a *authenticator) {
	b.server.t.Helper()
	query := "?" + url.Values{"fresh": {"1"}, "redirect_uri": {testOrigin + "/security/passkeys"}}.Encode()
	b.passkeyLogin(a, query).leadsTo(testOrigin + "/security/passkeys")
}

// twoSteps has every sign-in of who is signed in ask for a second factor.
func (b *browser) twoSteps() {
	b.server.t.Helper()
	if _, err := b.server.credentials.SetTwoStep(b.server.t.Context(), b.credential().ID, true); err != nil {
		b.server.t.Fatal(err)
	}
}

func TestPasskeyAsSecondFactor(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	owner, a := s.browser(), s.authenticator()
	owner.login("alpha", "ada")
	owner.addPasskey(a, "Key").leadsTo("/security/passkeys")
	owner.twoSteps()
	ada := owner.user().ID

	// The passkey alone is both factors.
	s.browser().passkeyLogin(a, "").leadsTo("/account")

	// half gets as far as the second factor, and returns the query of that page.
	half := func(b *browser, query string) string {
		t.Helper()
		s.clock.Advance(time.Second) // the session that comes of it is the latest
		to := b.submit("login/alpha"+query, "username", "ada", "password", "ada-pw").want(302).location()
		if !strings.HasPrefix(to, "/factor?") {
			t.Fatalf("led to %s", to)
		}
		b.get("currentUser").want(401)
		b.open(to).want(200, "Use a passkey")
		return strings.TrimPrefix(to, "/factor")
	}
	b := s.browser()
	step := half(b, "?redirect_uri="+url.QueryEscape(application))
	q, ceremony := b.question("factor/passkey/begin" + step)
	if len(q.Allow) != 1 || q.UserVerification != "discouraged" {
		t.Errorf("the question of a second factor: %+v", q)
	}
	a.unverified = true // a touch is enough: the password was the other factor
	form := []string{"ceremony", ceremony, "answer", a.get(q)}

	// Not in another browser, not in another step, not as a sign-in, not without the step.
	thief := s.browser()
	thief.submit("factor/passkey"+step, form...).want(400)
	thief.get("currentUser").want(401)
	second := half(thief, "")
	thief.submit("factor/passkey"+second, form...).want(302)
	thief.get("currentUser").want(401)
	b.refused(b.submit("login/account/passkey", form...), "That took too long")
	b.submit("factor/passkey", form...).want(302)
	b.get("currentUser").want(401)

	b.submit("factor/passkey"+step, form...).leadsTo(application)
	if got := b.user().ID; got != ada {
		t.Errorf("signed in as %s", got)
	}
	if got := b.methods(); !slices.Equal(got, []string{"pwd", "hwk", "user", "mfa"}) {
		t.Errorf("methods of the session: %v", got)
	}
	b.submit("factor/passkey"+step, form...).want(400) // once

	// Twice at once: one goes on.
	c := s.browser()
	step = half(c, "")
	q, ceremony = c.question("factor/passkey/begin" + step)
	form = []string{"ceremony", ceremony, "answer", a.get(q)}
	signedIn := make([]bool, 5)
	together(len(signedIn), func(i int) {
		copied := c.copyOf()
		copied.submit("factor/passkey"+step, form...)
		signedIn[i] = copied.get("currentUser").status == 200
	})
	if n := count(signedIn, true); n != 1 {
		t.Errorf("one answer has signed in %d times", n)
	}

	// Somebody else's passkey, and forged ones, five times at the most.
	stranger := s.authenticator()
	s.browser().signUp(stranger, "Ben")
	d := s.browser()
	step = half(d, "")
	for try := range 5 {
		q, ceremony = d.question("factor/passkey/begin" + step)
		key := *a.passkeys[0]
		key.key = stranger.passkeys[0].key
		if try == 0 {
			key = *stranger.passkeys[0]
		}
		if at := d.submit("factor/passkey"+step, "ceremony", ceremony, "answer", (&authenticator{t: t}).sign(q, &key)); at.status == http.StatusFound {
			d.open(at.location()).want(200)
		}
		d.get("currentUser").want(401)
	}
	right := s.browser()
	step = half(right, "")
	s.clock.Advance(11 * time.Minute)
	right.fetch(testOrigin, "POST", "factor/passkey/begin"+step, "").want(400, "expired")
	right.submit("factor/passkey"+step, "ceremony", "x", "answer", "{}").want(400)
	// Straight to where one wants to be: nobody is signed in.
	right.open("account").leadsTo("/login")
}

func TestPasskeyStepUp(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, a := s.browser(), s.authenticator()
	b.login("alpha", "ada")
	b.addPasskey(a, "Key").leadsTo("/security/passkeys")
	target := testOrigin + "/security"
	query := "?redirect_uri=" + url.QueryEscape(target)
	b.open("factor"+query).want(200, "Use a passkey")
	q, ceremony := b.question("factor/passkey/begin" + query)
	form := []string{"ceremony", ceremony, "answer", a.get(q)}
	other := s.browser()
	other.login("alpha", "ben")
	other.submit("factor/passkey"+query, form...)
	if slices.Contains(other.methods(), "mfa") {
		t.Error("somebody has stepped up with another's passkey")
	}
	b.submit("factor/passkey"+query, form...).leadsTo(target)
	if got := b.methods(); !slices.Equal(got, []string{"pwd", "hwk", "user", "mfa"}) {
		t.Errorf("methods of the session: %v", got)
	}
	b.follow(s.base+"account", "logout").want(302)
	b.submit("factor/passkey"+query, form...).want(302)
	b.get("currentUser").want(401)
	b.fetch(testOrigin, "POST", "factor/passkey/begin", "").want(403)
}

// A request for an application keeps what it is about, and is told of several factors.
func TestPasskeyForApplication(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), applications(freshApplications))
	a := s.authenticator()
	s.browser().signUp(a, "Ada")
	b := s.browser()
	next := b.open(freshRequest + "&acr_values=2").want(302).location()
	login := b.open(next).want(302).location()
	_, query, _ := strings.Cut(login, "?")
	to := b.passkeyLogin(a, "?"+query).want(302).location()
	if back := b.open(to).want(302).location(); !strings.HasPrefix(back, "https://app.example.org/cb?code=") {
		t.Errorf("sent to %s", back)
	}
}

// A passkey of an account that was deleted is nobody's.
func TestPasskeyOfDeletedAccount(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, a := s.browser(), s.authenticator()
	b.signUp(a, "Ada")
	b.submit("delete", "name", "Ada").leadsTo("/login")
	if n := s.documents("credential"); n != 0 {
		t.Errorf("%d credentials are left", n)
	}
	b.refused(b.passkeyLogin(a, ""), "not known here")
	if n := s.documents("user"); n != 0 {
		t.Errorf("%d accounts are left", n)
	}
}

// Nothing in the questions tells one person from another, or that there is anybody.
func TestPasskeyQuestionsTellNothing(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	shape := func() string {
		q, _ := s.browser().question("login/account/passkey/begin")
		q.Challenge = ""
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := shape()
	s.browser().signUp(s.authenticator(), "Ada")
	if after := shape(); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
}
