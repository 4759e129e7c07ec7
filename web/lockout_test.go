package web_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/accounts"
	"login-server/credential"
)

// Whoever guesses at an account elsewhere keeps its owner out of nothing: neither of a
// sign-in, nor of the way back.
func TestOwnerIsNotLockedOut(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), env("TRUSTED_PROXIES", "127.0.0.1"), env("RATE_LIMIT_MAX", "5"))
	owner := s.browser()
	owner.header.Set("X-Forwarded-For", "198.51.100.7")
	owner.join("ada@example.org")
	owner.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).want(200)
	for n := range 8 {
		b := s.browser()
		b.header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", n))
		b.call(appOrigin, "session", object{"email": "ada@example.org", "password": "guessed"}).refuses(401, "refused")
		b.submit("login/account", "username", "ada@example.org", "password", "guessed").want(302)
		b.call(appOrigin, "accounts/reset", object{"email": "ada@example.org"}).refuses(403, "challenge_needed")
	}
	owner.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).want(200)
	owner.submit("login/account", "username", "ada@example.org", "password", adasPassword).leadsTo("/account")
	owner.call(appOrigin, "accounts/reset", object{"email": "ada@example.org", "challenge": owner.solved("reset")}).want(202)
}

// However many ask at once, and again and again, an address gets three mails of a kind, and
// three again, in the time in which what they hold is good.
func TestMailsToOneAddress(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	count := func() (n int) {
		for _, m := range s.mails("ada@example.org") {
			if m.Kind == "reset" {
				n++
			}
		}
		return n
	}
	desk, ctx := s.running.Load().Desk(), t.Context()
	var wg sync.WaitGroup
	var began sync.Map
	for range 20 {
		wg.Go(func() {
			i, err := desk.AskReset(ctx, accounts.Ask{Email: "Ada@example.org", Language: "en"})
			if err != nil {
				t.Error(err)
				return
			}
			began.Store(i.ID, i.Browser)
		})
	}
	wg.Wait()
	for range 2 {
		s.clock.Advance(time.Minute)
		for id, browser := range began.Range {
			if _, err := desk.Resend(ctx, credential.PendingReset, id.(string), browser.(string)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := count(); n != 6 {
		t.Errorf("%d mails to one address, want 6", n)
	}
	// Somebody keeps asking, so that something always waits: the owner gets a mail all the same.
	s.clock.Advance(accounts.ResetLife)
	if _, err := desk.AskReset(ctx, accounts.Ask{Email: "ada@example.org", Language: "en"}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 7 {
		t.Errorf("%d mails when those before are not good any more, want 7", n)
	}
}

// Whoever keeps something waiting for an address does not keep its owner from the way back.
func TestWayBackStaysOpen(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	desk := s.running.Load().Desk()
	for range 60 {
		if _, err := desk.AskReset(t.Context(), accounts.Ask{Email: "ada@example.org", Language: "en"}); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(5 * time.Minute)
		_, key, _ := strings.Cut(linkIn.FindString(s.mail("ada@example.org").Text), "key=")
		if _, err := desk.ByLink(t.Context(), credential.PendingReset, key); err != nil {
			t.Fatalf("the latest mail has a link that is not good any more: %v", err)
		}
	}
}
