package web_test

import "testing"

// A disabled account is signed out everywhere at once, and its person is told why at the
// next attempt, after they have proved who they are.
func TestDisabledAccount(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	c := b.socket("")
	c.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
	ada := b.user()

	if _, err := s.users.SetDisabled(t.Context(), ada.ID, true); err != nil {
		t.Fatal(err)
	}
	c.expect("loggedOut")
	b.get("currentUser").want(401)
	b.get("users/" + ada.ID).want(403)

	other := s.browser()
	other.open("login")
	to := other.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302).location()
	other.open(to).want(200, "This account has been disabled")
	other.submit("login/alpha", "username", "ada", "password", "wrong").want(302)
	other.open(to).want(200, "Could not verify credentials.")
	other.get("currentUser").want(401)

	// Nothing of it can be had by linking.
	other.login("beta", "ada")
	to = other.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302).location()
	other.open(to).want(200, "This account has been disabled")

	if _, err := s.users.SetDisabled(t.Context(), ada.ID, false); err != nil {
		t.Fatal(err)
	}
	third := s.browser()
	third.login("alpha", "ada")
	if got := third.user().ID; got != ada.ID {
		t.Errorf("enabled again: %s, want %s", got, ada.ID)
	}
}
