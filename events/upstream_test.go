package events

import (
	"strings"
	"testing"
	"time"

	"login-server/identity"
)

// What a provider gave to act there in a person's name stands in tokens and in no
// other message.

// fromEasydb signs in at easydb, which gives a token.
func (w *world) fromEasydb(name, upstream string) identity.Account {
	w.Helper()
	p := identity.Profile{Provider: "easydb", ID: name, Name: name}
	if upstream != "" {
		p.Upstream = `{"token":"` + upstream + `"}`
	}
	a, _, err := w.users.SignIn(w.Context(), p)
	w.must(err)
	w.settle()
	return a
}

// wantUpstream checks the token of the last message for what easydb gave, "" for
// nothing, and the messages before for not having it.
func (c *client) wantUpstream(got []message, want string) {
	c.Helper()
	last := got[len(got)-1]
	user := c.userIn(last.Data.Token)
	if want == "" && strings.Contains(user, `"token"`) || want != "" && !strings.Contains(user, `"token":"`+want+`"`) {
		c.Errorf("the token carries %s, want %q of easydb", user, want)
	}
	for _, m := range c.got {
		if strings.Contains(m.text, "upstream") {
			c.Errorf("%s shows it: %s", m.Type, m.text)
		}
	}
}

func TestUpstreamInTokens(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.fromEasydb("Ada", "upstream-1")
		b := w.browser().signIn(ada)
		c := b.connect()
		c.wantUpstream(c.want(greeting+"authenticated, loggedIn Ada, token"), "upstream-1")
		c.wantUpstream(c.ask(`{"type":"token"}`, "token"), "upstream-1")

		w.advance(tokenLife - renewBefore)
		c.wantUpstream(c.want("token"), "upstream-1")

		// A sign-in in another browser brings another one: nothing else is different.
		w.fromEasydb("Ada", "upstream-2")
		c.wantUpstream(c.want("token"), "upstream-2")
		c.wantUpstream(c.ask(`{"type":"token"}`, "token"), "upstream-2")
		two := b.connect()
		two.wantUpstream(two.want(greeting+"authenticated, loggedIn Ada, token"), "upstream-2")

		_, err := w.users.Rename(w.Context(), ada.ID, "Countess")
		w.must(err)
		c.wantUpstream(c.want("updated Countess, token"), "upstream-2")
		two.want("updated Countess, token")

		w.fromEasydb("Ada", "")
		c.wantUpstream(c.want("token"), "")
		c.wantUpstream(c.ask(`{"type":"token"}`, "token"), "")

		b.signOut()
		c.want("loggedOut")
	})
}

func TestUpstreamOfALinkedIdentity(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		c := w.browser().signIn(ada).connect().greeted("authenticated, loggedIn Ada, token")
		_, err := w.users.Link(w.Context(), ada.ID, identity.Profile{Provider: "easydb", ID: "1", Upstream: `{"token":"upstream-1"}`})
		w.must(err)
		c.wantUpstream(c.want("updated Ada, token"), "upstream-1")
		_, err = w.users.Disconnect(w.Context(), ada.ID, "easydb")
		w.must(err)
		c.wantUpstream(c.want("updated Ada, token"), "")
	})
}

func TestUpstreamIsSwitchedOff(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.browser().signIn(w.fromEasydb("Ada", "upstream-1")).connect().greeted("authenticated, loggedIn Ada, token")
		other := w.browser().signIn(w.person("Bob", "github")).connect().greeted("authenticated, loggedIn Bob, token")
		c.wantUpstream(c.ask(`{"type":"token"}`, "token"), "upstream-1")

		w.discreet.Store(true)
		w.hub.ClaimsChanged()
		c.wantUpstream(c.want("token"), "")
		c.wantUpstream(c.ask(`{"type":"token"}`, "token"), "")
		other.want("")

		w.discreet.Store(false)
		w.hub.ClaimsChanged()
		c.wantUpstream(c.want("token"), "upstream-1")

		// Nobody has told the hub: the next token goes by what is so then.
		w.discreet.Store(true)
		w.advance(tokenLife)
		c.wantUpstream(c.want("token"), "")
		w.advance(time.Second)
		c.want("")
	})
}
