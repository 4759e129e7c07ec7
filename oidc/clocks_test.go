package oidc

import (
	"testing"
	"time"

	"login-server/token"
)

// The clocks of two nodes are half a minute apart, and a request goes from one to the other.
// What the other one has done is not taken for something of before.
func TestNodesWithClocksApart(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": token.Leeway, "behind": -token.Leeway} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, logoutClient)
			h.clock.Advance(time.Hour)
			// there is how the other node, by its clock, has signed somebody in.
			there := func(who *Person) *Person {
				next := h.again(who)
				next.Session.AuthTime = h.clock.Now().Add(off)
				return next
			}
			code := func(step Step) {
				t.Helper()
				if v := h.parameters(step); v.Get("code") == "" {
					t.Errorf("got %v", v)
				}
			}
			ada := h.person("ada")
			for _, wants := range [][]string{{"prompt", "login"}, {"max_age", "0"}, {"prompt", "select_account"}} {
				q := h.asked(h.step(ask("app", wants...), nil), SignIn)
				code(h.resume(q.Interaction, there(ada)))
			}
			q := h.asked(h.step(ask("app", "prompt", "login"), ada), SignIn)
			code(h.resume(q.Interaction, there(ada)))

			for at := time.Duration(0); at < 2*noncePeriod; at += noncePeriod / 8 {
				if !h.isNonce(h.nonce(h.clock.Now().Add(off))) {
					t.Errorf("a nonce of the other node is not known, %s later", at)
				}
				h.clock.Advance(noncePeriod / 8)
			}

			// An ID Token that the other node has signed, of a session that began here.
			hint := h.idTokenOf("app", ada)
			began := *ada
			began.Session.Created = h.clock.Now().Add(-off)
			values := form("id_token_hint", hint, "post_logout_redirect_uri", "https://app.example.org/bye")
			if got := h.endSession(values, &began); got == "" {
				t.Error("the hint of the other node is not believed")
			}
		})
	}
}

// What the leeway is not for: an older sign-in in another browser, whatever the request is
// about.
func TestOlderSignInElsewhere(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	elsewhere := h.person("ada")
	h.clock.Advance(time.Second)
	q := h.asked(h.step(ask("app", "prompt", "login"), ada), SignIn)
	h.asked(h.resume(q.Interaction, elsewhere), SignIn)
}
