package web_test

import (
	"strings"
	"testing"
	"time"
)

const freshApplications = `[{"url": "https://app.example.org/", "name": "App", "client_id": "app", "client_secret": "a-secret-that-is-long-enough",
	"redirect_uris": ["https://app.example.org/cb"], "trusted": true}]`

const freshRequest = "oauth/authorize?client_id=app&response_type=code&redirect_uri=https%3A%2F%2Fapp.example.org%2Fcb&scope=openid" +
	"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"

// A client that wants people to prove again who they are gets that, and nothing is linked
// by it; a link alone cannot bring it about.
func TestSignInAfresh(t *testing.T) {
	s := newServer(t, applications(freshApplications))
	b := s.browser()
	b.login("alpha", "ada")
	ada := b.user()

	b.open("login?fresh=1").want(400, "expired")
	b.submit("login/beta?fresh=1", "username", "ada", "password", "ada-pw").want(400, "expired")

	// ask goes the way of a request with prompt=login up to the login page.
	ask := func() string {
		next := b.open(freshRequest + "&prompt=login").want(302).location()
		login := b.open(next).want(302).location()
		b.open(login).want(200, "Sign in", "App")
		_, query, _ := strings.Cut(login, "?")
		return query
	}
	s.clock.Advance(time.Minute)
	next := b.submit("login/alpha?"+ask(), "username", "ada", "password", "ada-pw").want(302).location()
	if to := b.open(next).want(302).location(); !strings.HasPrefix(to, "https://app.example.org/cb?code=") {
		t.Errorf("the same person: sent to %s", to)
	}

	s.clock.Advance(time.Minute)
	next = b.submit("login/beta?"+ask(), "username", "ada", "password", "ada-pw").want(302).location()
	if to := b.open(next).want(302).location(); !strings.HasPrefix(to, "https://app.example.org/cb?code=") {
		t.Errorf("another identity: sent to %s", to)
	}
	if got := b.user(); got.ID == ada.ID || len(got.Identities) != 1 {
		t.Errorf("who proved another identity is %s with %v, want somebody else with one", got.ID, got.Identities)
	}
	other := s.browser()
	other.login("alpha", "ada")
	if got := other.user(); got.ID != ada.ID || len(got.Identities) != 1 {
		t.Errorf("ada is %s with %v", got.ID, got.Identities)
	}

	// The request ends while the form is open: what was to be proved is not linked instead.
	query := ask()
	s.clock.Advance(2 * time.Hour)
	b.submit("login/alpha?"+query, "username", "ada", "password", "ada-pw").want(400, "expired")
	if got := b.user(); len(got.Identities) != 1 {
		t.Errorf("identities: %v", got.Identities)
	}
}
