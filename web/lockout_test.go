package web_test

import (
	"fmt"
	"testing"
)

// Whoever guesses at an account elsewhere keeps its owner out of nothing: neither of a
// sign-in, nor of the way back.
func TestOwnerIsNotLockedOut(t *testing.T) {
	s := newServer(t, withForms(""), env("TRUSTED_PROXIES", "127.0.0.1"), env("RATE_LIMIT_MAX", "5"))
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
