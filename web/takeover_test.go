package web_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Ways to somebody's account that go around what they sign in with.

// The page of a reset says no more of an address than what was typed: its owner may have
// written it in another way.
func TestResetPageShowsWhatWasTyped(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.keepLocal("Ada.Lovelace@example.org", goodWords)
	b := s.browser()
	page := b.askReset("ada.lovelace@example.org").want(302).location()
	b.open(page).want(200, "ada.lovelace@example.org").wantNot("Ada.Lovelace@example.org")
	if m := s.mails("Ada.Lovelace@example.org"); len(m) != 1 {
		t.Errorf("the owner has %d mails at the address that they have verified", len(m))
	}
	s.clock.Advance(time.Minute)
	b.submit("reset/resend" + page[len("/reset/code"):]).want(302)
	if m := s.mails("Ada.Lovelace@example.org"); len(m) != 2 {
		t.Errorf("the owner has %d mails after one more was asked for", len(m))
	}
	b.open(page).want(200).wantNot("Ada.Lovelace@example.org")
	b.submit("reset/new", "key", keyOf(s.linkOf("Ada.Lovelace@example.org")), "password", newWords).leadsTo("/account")
}

// Who signs up gets an account of their own, whoever is signed in in the browser by then.
func TestSignUpWhereSomebodyElseIsSignedIn(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	page := b.signUpLocal(adaMail, goodWords).want(302).location()
	b.login("alpha", "ben")
	ben := b.user().ID
	b.submit(page, "code", s.codeOf(adaMail)).leadsTo("/account")
	if u := b.user(); u.ID == ben || len(u.Identities) != 1 {
		t.Errorf("who has signed up is %+v", u)
	}
	if a, err := s.users.Get(t.Context(), ben); err != nil || len(a.Identities) != 1 {
		t.Errorf("who was signed in has %v: %v", a.Identities, err)
	}
	link := s.invite("eve@example.org", "Eve")
	b = s.browser()
	b.login("alpha", "ben")
	b.submit("signup", "invitation", strings.TrimPrefix(link, s.base+"signup?invitation="), "password", newWords, "name", "Eve").leadsTo("/account")
	if u := b.user(); u.ID == ben || len(u.Identities) != 1 {
		t.Errorf("who has followed the invitation is %+v", u)
	}
}

// Who proves their first factor once more, while they are signed in, has not given the second
// one with it: what a client is told of the sign-in is of this one.
func TestFirstFactorAgainIsOne(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	s.clock.Advance(24 * time.Hour)
	b.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302)
	if got := b.methods(); slices.Contains(got, "mfa") {
		t.Errorf("with a password the session stands on %v, of this very moment", got)
	}
	at := b.open("security/app").want(302).location()
	b.submit(at, "code", app.code(s.clock.Now())).want(302)
	if got := b.methods(); !slices.Contains(got, "mfa") {
		t.Errorf("with both factors the session stands on %v", got)
	}
	// One more identity takes nothing away.
	b.submit("login/beta", "username", "ben", "password", "ben-pw").leadsTo("/account")
	if got := b.methods(); !slices.Contains(got, "mfa") {
		t.Errorf("after linking the session stands on %v", got)
	}
}

// Undoing a merge takes identities out of reach of the second factor.
func TestUndoOfMergeWantsTheSecondFactor(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	other := s.browser()
	other.login("beta", "ada")
	other.setUpApp()
	former := other.user()
	b := s.browser()
	b.login("alpha", "ada")
	if _, err := s.users.Merge(t.Context(), b.user().ID, former.ID); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(11 * time.Minute)
	at := b.submit("account/undo-merge", "merge", former.ID).want(302).location()
	if !strings.HasPrefix(at, "/factor?") {
		t.Errorf("without the second factor it leads to %s", at)
	}
	if got := b.user(); got.Identities["account"].ID == "" {
		t.Errorf("the second factor is gone: %v", got.Identities)
	}
}

// Who has an app for codes, and wants it for some applications only, keeps it from whoever has
// the password.
func TestFactorIsNotReplacedWithoutIt(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	app, _ := b.setUpApp()
	b.submit("security/two-step", "two_step", "off").leadsTo("/security")
	s.clock.Advance(time.Hour)
	thief := s.browser()
	thief.login("alpha", "ada")
	for _, page := range []string{"security/app", "security/phone", "security/passkeys/add", "security/recovery"} {
		if got := thief.open(page).location(); !strings.HasPrefix(got, "/factor?") {
			t.Errorf("with the password alone %s leads to %s", page, got)
		}
	}
	thief.submit("security/app/remove").want(302)
	if c := b.credential(); c.TOTP == nil {
		t.Error("the app was taken away with a password")
	}
	at := thief.open("security/app").location()
	thief.submit(at, "code", app.code(s.clock.Now())).leadsTo(strings.TrimSuffix(s.base, "/") + "/security/app")
	thief.open("security/app").want(200)
}

// Whoever moves an account from address to address has undos of their own. Which came first is
// not told by the clocks of the nodes that they came to.
func TestUndoOfTheOwnerOutlivesThoseOfAThief(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().newLocal(adaMail, goodWords)
	s.clock.Advance(30 * 24 * time.Hour)
	thief := s.browser()
	thief.localLogin(adaMail, goodWords).leadsTo("/account")
	for _, email := range []string{"thief@evil.example", "spare@evil.example"} {
		page := thief.submit("security/emails", "email", email).want(302).location()
		thief.submit(page, "code", s.codeOf(email)).leadsTo("/security/emails")
	}
	s.clock.Advance(2 * time.Second)
	thief.submit("security/emails/primary", "email", "thief@evil.example").leadsTo("/security/emails")
	link := s.linkOf(adaMail)
	s.clock.Advance(-time.Second) // a node whose clock is behind
	thief.submit("security/emails/primary", "email", "spare@evil.example").leadsTo("/security/emails")
	var undo string // by the clock it is older than the mail before it
	for _, m := range s.mails("thief@evil.example") {
		if at := strings.Index(m.Text, s.base+"security/emails/undo?key="); at >= 0 {
			undo, _, _ = strings.Cut(m.Text[at:], "\n")
		}
	}
	thief.submit("security/emails/undo", "key", keyOf(undo)).want(302)
	s.clock.Advance(time.Minute)
	s.browser().submit("security/emails/undo", "key", keyOf(link)).want(302)
	if c := s.credentialOf(adaMail); len(c.Emails) != 1 || c.Primary() != adaMail {
		t.Errorf("the addresses are %+v", c.Emails)
	}
}

// The only address of an account is not taken away behind the back of whoever reads its mail.
func TestRemovingTheOnlyAddressIsTold(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.login("alpha", "ada")
	page := b.submit("security/emails", "email", adaMail).want(302).location()
	b.submit(page, "code", s.codeOf(adaMail)).leadsTo("/security/emails")
	s.clock.Advance(30 * 24 * time.Hour)
	thief := s.browser()
	thief.login("alpha", "ada")
	thief.submit("security/emails/remove", "email", adaMail).leadsTo("/security/emails")
	page = thief.submit("security/emails", "email", "thief@evil.example").want(302).location()
	thief.submit(page, "code", s.codeOf("thief@evil.example")).leadsTo("/security/emails")
	if m := s.mail(adaMail); m.Kind != "email_removed" {
		t.Fatalf("the latest mail to the owner is %s", m.Kind)
	}
	owner := s.browser()
	owner.submit("security/emails/undo", "key", keyOf(s.linkOf(adaMail))).want(302)
	thief.get("currentUser").want(401)
	if c := s.credentialOf(adaMail); len(c.Emails) != 1 || c.Primary() != adaMail {
		t.Errorf("the addresses are %+v", c.Emails)
	}
}

// Whoever finds an open browser of an administrator, who has no second factor yet, links
// nothing of their own there: with their passkey, or where they set up a second factor, they would act as one.
func TestNothingIsLinkedToAnAdministratorInAnOpenBrowser(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	key, thief := s.authenticator(), s.browser()
	thief.signUp(key, "Eve")
	b := s.browser()
	b.login("alpha", "ada")
	b.granted()
	s.clock.Advance(24 * time.Hour)
	for what, a := range map[string]answer{
		"a passkey":  b.passkeyLogin(key, ""),
		"a password": b.submit("login/beta", "username", "ben", "password", "ben-pw"),
	} {
		if at := a.want(302).location(); !strings.HasPrefix(at, "/login?fresh=1") {
			t.Errorf("%s leads to %s", what, at)
		}
	}
	if u := b.user(); len(u.Identities) != 1 {
		t.Errorf("linked: %v", u.Identities)
	}
	if at := b.open("admin").want(302).location(); !strings.HasPrefix(at, "/factor?") {
		t.Errorf("the page of administrators leads to %s", at)
	}
	// The owner proves who they are before, with both factors if there are two.
	b.submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
	app, _ := b.setUpApp()
	s.clock.Advance(24 * time.Hour)
	b.submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
	at := b.submit("login/beta", "username", "ben", "password", "ben-pw").want(302).location()
	if !strings.HasPrefix(at, "/factor?") {
		t.Errorf("without the second factor it leads to %s", at)
	}
	b.submit(at, "code", app.code(s.clock.Now())).want(302)
	b.submit("login/beta", "username", "ben", "password", "ben-pw").leadsTo("/account")
	if u := b.user(); u.Identities["beta"].ID == "" {
		t.Errorf("the owner has %v", u.Identities)
	}
}
