package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Ways around a protection that holds on the straight one.

// A login must not end at a link that acts, whatever a proxy makes of the path.
func TestRedirectToLinkThatActs(t *testing.T) {
	for _, base := range []string{"/", "/login/", "/auth/", "/sso/login/"} {
		t.Run(base, func(t *testing.T) {
			s := newServer(t, env("BASE_URL", "http://localhost"+base), func(o *options) {
				o.outside = func(h http.Handler) http.Handler { return http.StripPrefix(strings.TrimSuffix(base, "/"), h) }
			})
			b := s.browser()
			b.login("alpha", "ada")
			b.submit("login/beta", "username", "ada", "password", "ada-pw")
			b.submit("logout")
			below := strings.TrimPrefix(base, "/")
			for _, target := range []string{
				"logout", "disconnect/beta", "/disconnect/beta", "//logout/", // slashes that a proxy merges
				below + "logout", below + "disconnect/beta", below + below + "disconnect/beta", // the base once more
			} {
				query := "?" + url.Values{"redirect_uri": {s.base + target}}.Encode()
				b.submit("login/alpha"+query, "username", "ada", "password", "ada-pw").want(400)
			}
			for _, target := range []string{"", "help", "login", "login/alpha", "account"} {
				query := "?" + url.Values{"redirect_uri": {s.base + target}}.Encode()
				b.open("login" + query).want(200)
			}
		})
	}
}

// Spellings of one name share its limit: a directory may ignore what makes them differ.
func TestRateLimitSpellings(t *testing.T) {
	s := newServer(t, env("RATE_LIMIT_MAX", "1"), env("TRUSTED_PROXIES", "127.0.0.1"))
	for i, spellings := range [][2]string{
		{"eve1", "e\u00adve1"},       // soft hyphen
		{"eve2", "\u200beve\u20602"}, // zero width space, word joiner
		{"eve3", "eve\ufe0f3"},       // variation selector
		{"josé4", "jose4"},
		{"jose5", "jose\u03015"},
		{"straße6", "STRASSE6"},
		{"odysseuς7", "ODYSSEUΣ7"},
		{"eve 8", "eve\u00a0\u3000 8"},
		{"eve9", "\u3164eve9\ufffc"},
	} {
		for j, name := range spellings {
			b := s.browser()
			b.header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", 10*i+j))
			b.submit("login/alpha", "username", name, "password", "x").want([]int{302, 429}[j])
		}
	}
}

// Who signed in with the other account's identity while the two were merged has no
// part in this one any more when they are separated.
func TestUndoMergeEndsSessions(t *testing.T) {
	s := newServer(t)
	b, former := s.merged()
	mine := b.user()
	phone, other := s.browser(), s.browser()
	phone.login("alpha", "ada")
	other.login("beta", "ada")
	if got := other.user().ID; got != mine.ID {
		t.Fatalf("merged, but the session belongs to %s", got)
	}
	c := other.socket("")
	c.greeting("loggedIn", "token")

	b.submit("account/undo-merge", "merge", former.ID).leadsTo("/account")
	other.get("currentUser").want(401)
	c.expectClosed()
	for _, stays := range []*browser{b, phone} {
		if got := stays.user().ID; got != mine.ID {
			t.Errorf("a session of the account belongs to %s", got)
		}
	}
	other.login("beta", "ada")
	if got := other.user().ID; got != former.ID {
		t.Errorf("the identity leads to %s, want %s", got, former.ID)
	}
}

// What goes wrong with a message of one client ends its socket, not the program.
func TestPanicOnSocket(t *testing.T) {
	s := newServer(t)
	b, other := s.browser(), s.browser()
	b.open("login")
	c := b.socket("")
	c.expect("open", "about", "providers", "authenticated", "loggedOut")
	other.open("login")
	var body struct{ Token string }
	other.get("token").json(&body)

	s.store.fail(func(kind string) error {
		if kind == "session" {
			panic("on purpose")
		}
		return nil
	})
	c.send(fmt.Sprintf(`{"type": "authenticate", "token": %q}`, body.Token))
	c.expectClosed()
	s.store.fail(func(string) error { return nil })
	if !strings.Contains(s.log.String(), "on purpose") {
		t.Error("the panic is not in the log")
	}
	b.get("about").want(200)
	// The client hears of the end before the server has put everything away.
	for deadline := time.Now().Add(10 * time.Second); s.running.Load().Hub().Stats().Sockets > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are left", s.running.Load().Hub().Stats().Sockets)
		}
	}
}
