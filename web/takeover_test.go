package web_test

import (
	"strings"
	"testing"
	"time"
)

// Ways to somebody's account that go around what they sign in with.

// The page of a reset says no more of an address than what was typed: its owner may have
// written it in another way.
func TestResetPageShowsWhatWasTyped(t *testing.T) {
	s := newServer(t, localProviders(""))
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
	s := newServer(t, localProviders(""))
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
