package events

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/token"
)

// userIn is the user in a token, as JSON.
func (w *world) userIn(signed string) string {
	w.Helper()
	key, err := jwt.ParseECPublicKeyFromPEM([]byte(w.tokens.PublicPEM()))
	w.must(err)
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(signed, claims, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithTimeFunc(w.clock.Now))
	w.must(err)
	if _, ok := claims["sessionID"]; ok {
		w.Error("a token from a socket carries a sessionID")
	}
	user, err := json.Marshal(claims["user"])
	w.must(err)
	return string(user)
}

func TestMessages(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.browser().connect().greeted("loggedOut")
		for _, tc := range []struct{ message, want string }{
			{`{"type":"ping"}`, "pong"},
			{`{"type":"about"}`, "about"},
			{`{"type":"providers"}`, "providers"},
			{`{"type":"token"}`, "token"},
			{`{"type":"open"}`, "error: Unknown message type."},
			{`{}`, "error: Unknown message type."},
			{`null`, "error: Unknown message type."},
			{``, "error: Message could not be parsed."},
			{`hello`, "error: Message could not be parsed."},
			{`[]`, "error: Message could not be parsed."},
			{`{"type":1}`, "error: Message could not be parsed."},
			{`{"type":"authenticate"}`, "error: The token is invalid, has expired or carries no session."},
			{`{"type":"authenticate","token":{}}`, "error: Message could not be parsed."},
		} {
			c.ask(tc.message, tc.want)
		}
		c.wantClosed(0)
	})
}

func TestTokenOnRequest(t *testing.T) {
	inWorld(t, func(w *world) {
		nobody := w.browser().connect().greeted("loggedOut").ask(`{"type":"token"}`, "token")
		if user := w.userIn(nobody[0].Data.Token); user != "null" {
			t.Errorf("the token of nobody carries %s", user)
		}
		b := w.browser().signIn(w.person("Ada", "github"))
		c, d := b.connect(), b.connect()
		c.take()
		d.take()
		first := c.ask(`{"type":"token"}`, "token")
		if user := w.userIn(first[0].Data.Token); !strings.Contains(user, `"Ada"`) {
			t.Errorf("the token carries %s", user)
		}
		w.advance(tokenLife/10 - time.Second)
		second := d.ask(`{"type":"token"}`, "token")
		if second[0].Data.Token != first[0].Data.Token || second[0].Data.ExpiresIn != 109 {
			t.Errorf("a young token was not used again, or with %d seconds instead of 109", second[0].Data.ExpiresIn)
		}
		w.advance(time.Second)
		if third := d.ask(`{"type":"token"}`, "token"); third[0].Data.Token == first[0].Data.Token {
			t.Error("an old token was handed out")
		}
		b.signOut()
		c.want("loggedOut")
		if user := w.userIn(c.ask(`{"type":"token"}`, "token")[0].Data.Token); user != "null" {
			t.Errorf("after the sign-out the token carries %s", user)
		}
	})
}

func TestAuthenticate(t *testing.T) {
	const (
		used    = "error: The token's session has been used before. Please get a new token."
		changed = "error: The token's session has changed. Please get a new token."
		invalid = "error: The token is invalid, has expired or carries no session."
		late    = "error: The token's session can be used for one minute only. Please get a new token."
	)
	loose := func(w *world) *client {
		w.Helper()
		return w.browser().at("198.51.100.7").connect().greeted("loggedOut")
	}

	t.Run("makes the socket belong to the session, once", func(t *testing.T) {
		inWorld(t, func(w *world) {
			ada := w.person("Ada", "github")
			b := w.browser().signIn(ada)
			signed := b.sessionToken()
			c, d := loose(w), loose(w)
			c.authenticate(signed)
			c.want("authenticated, loggedIn Ada, token")
			d.authenticate(signed)
			d.want(used)
			_, err := w.users.Rename(w.Context(), ada.ID, "Countess")
			w.must(err)
			c.want("updated Countess")
			d.want("")
			c.leave()
			d.leave()
			w.wantEmpty()
		})
	})
	t.Run("of an anonymous session", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().comeBy()
			c := w.browser().connect().greeted("loggedOut")
			c.authenticate(b.sessionToken())
			c.want("authenticated")
			b.signIn(w.person("Ada", "github"))
			c.want("loggedIn Ada, token")
		})
	})
	t.Run("of an anonymous session in which somebody has signed in since", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().comeBy()
			signed := b.sessionToken()
			b.signIn(w.person("Ada", "github"))
			c := loose(w)
			c.authenticate(signed)
			c.want(changed)
		})
	})
	t.Run("bound to an earlier secret", func(t *testing.T) {
		inWorld(t, func(w *world) {
			ada := w.person("Ada", "github")
			b := w.browser().signIn(ada)
			signed := b.sessionToken()
			b.signIn(ada)
			c := loose(w)
			c.authenticate(signed)
			c.want(changed)
		})
	})
	t.Run("of a session that has ended", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().signIn(w.person("Ada", "github"))
			signed := b.sessionToken()
			b.signOut()
			c := loose(w)
			c.authenticate(signed)
			c.want(changed)
		})
	})
	t.Run("too late", func(t *testing.T) {
		inWorldWith(t, func(o *Options) { o.IdleTimeout = time.Hour }, func(w *world) {
			signed := w.browser().signIn(w.person("Ada", "github")).sessionToken()
			c := loose(w)
			w.advance(token.TicketLife + token.Leeway)
			c.authenticate(signed)
			c.want(late)
			w.advance(time.Minute)
			c.authenticate(signed)
			c.want(invalid)
		})
	})
	t.Run("with something else", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().signIn(w.person("Ada", "github"))
			c := loose(w)
			without, err := w.tokens.Sign(nil, "")
			w.must(err)
			foreign, err := w.tokens.Sign(nil, base64.RawURLEncoding.EncodeToString(make([]byte, 100)))
			w.must(err)
			good := b.sessionToken()
			for _, tc := range []struct{ signed, want string }{
				{"", invalid},
				{"garbage", invalid},
				{b.visit().Handle, invalid},
				{without.Token, invalid},
				{good[:len(good)-4] + "AAAA", invalid},
				{foreign.Token, late},
			} {
				c.authenticate(tc.signed)
				c.want(tc.want)
			}
			c.wantClosed(0)
			c.authenticate(good)
			c.want("authenticated, loggedIn Ada, token")
		})
	})
	t.Run("of the session it belongs to already", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().signIn(w.person("Ada", "github"))
			c := b.connect().greeted("authenticated, loggedIn Ada, token")
			signed := b.sessionToken()
			for range 2 { // it is not spent
				c.authenticate(signed)
				c.want("authenticated")
			}
		})
	})
	t.Run("of another session", func(t *testing.T) {
		inWorld(t, func(w *world) {
			one, two := w.browser().signIn(w.person("Ada", "github")), w.browser().signIn(w.person("Bob", "orcid"))
			three := w.browser().comeBy()
			c := one.connect().greeted("authenticated, loggedIn Ada, token")
			w.advance(time.Second)
			c.authenticate(two.sessionToken())
			c.want("authenticated, loggedIn Bob, token")
			one.signOut()
			c.want("")
			c.authenticate(three.sessionToken())
			c.want("authenticated, loggedOut")
			two.signOut()
			c.want("")
		})
	})
	t.Run("while the store is down", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().signIn(w.person("Ada", "github"))
			signed := b.sessionToken()
			c := loose(w)
			w.engine.KillAfter(0)
			c.authenticate(signed)
			c.want(used) // it cannot be made sure that it was not
			w.engine.Revive()
		})
	})
}

// A client may send as soon as it sees open, while the rest of the greeting is on
// its way.
func TestAuthenticateDuringTheGreetingIsNotLost(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		c := &client{world: w, stuck: make(chan struct{})}
		w.must(w.browser().join(c))
		w.settle()
		c.authenticate(b.sessionToken()) // nothing of the greeting has arrived
		w.settle()
		close(c.stuck)
		c.greeted("loggedOut, authenticated, loggedIn Ada, token")
	})
}

func TestTokenAskedForBeforeTheSessionWasReadIsOfItsUser(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		c := w.browser().connect().greeted("loggedOut")
		c.authenticate(b.sessionToken())
		c.send(`{"type":"token"}`)
		w.settle()
		got := c.want("authenticated, loggedIn Ada, token")
		if user := w.userIn(got[2].Data.Token); !strings.Contains(user, `"Ada"`) {
			t.Errorf("the token carries %s", user)
		}

		stranger := w.browser().comeBy()
		d := w.browser().connect().greeted("loggedOut")
		d.authenticate(stranger.sessionToken())
		d.send(`{"type":"token"}`)
		w.settle()
		d.want("authenticated, token")
	})
}

func TestKeysChangedTellsTheKeyBeforeATokenSignedWithIt(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.browser().signIn(w.person("Ada", "github")).connect()
		nobody := w.browser().connect().greeted("loggedOut")
		before := tokensOf(c.want(greeting + "authenticated, loggedIn Ada, token"))
		w.must(token.Rotate(w.private, w.public, ".old", "ES256"))
		w.must(w.tokens.Reload(w.Context()))
		w.hub.KeysChanged()
		w.settle()
		after := tokensOf(c.want("about, token"))
		if after[0] == before[0] {
			t.Error("the token of the old key was sent again")
		}
		nobody.want("about")

		w.hub.ProvidersChanged()
		w.settle()
		c.want("providers")
		nobody.want("providers")
	})
}

// What changes while a socket joins, or asks, it hears of as well.
func TestKeysChangedWhileTheFormerOneIsBeingTold(t *testing.T) {
	t.Parallel()
	key, meanwhile := "first", func() {}
	inWorldWith(t, func(o *Options) {
		o.About = func() json.RawMessage {
			told, then := key, meanwhile
			meanwhile = func() {}
			then()
			return json.RawMessage(`{"message":"` + told + `"}`)
		}
	}, func(w *world) {
		rotate := func(to string) {
			meanwhile = func() {
				key = to
				w.hub.KeysChanged()
			}
		}
		rotate("second")
		c := w.browser().connect()
		if got := c.want(greeting + "loggedOut"); got[1].Data.Message != "second" {
			t.Errorf("a socket that joins was told of the %s key", got[1].Data.Message)
		}
		rotate("third")
		c.send(`{"type":"about"}`)
		w.settle()
		if got := c.want("about, about"); got[1].Data.Message != "third" {
			t.Errorf("a socket that asks was told of the %s key last", got[1].Data.Message)
		}
	})
}

func TestTokenAskedForOnTheWayBackIsAnswered(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		b.connect() // keeps the session's group
		c := b.connect().greeted("authenticated, loggedIn Ada, token")
		w.hub.mu.Lock()
		w.hub.unbindLocked(c.socket)
		w.hub.bindLocked(c.socket, "another session")
		c.socket.asks()
		w.hub.unbindLocked(c.socket)
		w.hub.bindLocked(c.socket, b.visit().Handle)
		w.hub.mu.Unlock()
		w.settle()
		c.want("token")
	})
}

func TestFloodOfMessages(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.browser().connect().greeted("loggedOut")
		for range maxMessages {
			c.ask(`{"type":"ping"}`, "pong")
		}
		w.advance(messagePeriod + time.Millisecond)
		for range maxMessages {
			c.ask(`{"type":"ping"}`, "pong")
		}
		for i := range maxMessages {
			if !c.send(`{"type":"ping"}`) {
				t.Fatalf("dropped %d messages after the limit: the client cannot read why", i)
			}
		}
		c.want("")
		c.wantClosed(ClosePolicy)
		if c.send(`{"type":"ping"}`) {
			t.Error("a client that goes on is not dropped")
		}
	})
}

func FuzzReceive(f *testing.F) {
	for _, seed := range []string{`{"type":"ping"}`, `{"type":"authenticate","token":"a.b.c"}`, `{"type":null}`, `[`, "\xff", `{"TYPE":"token"}`} {
		f.Add([]byte(seed))
	}
	fake := clock.NewFake(start)
	w := newWorld(f, fake, teststore.Open(f, fake.Now), func(*Options) {})
	defer w.hub.Close()
	f.Fuzz(func(t *testing.T, text []byte) {
		replies := make(chan struct{}, maxQueue)
		s := &Socket{hub: w.hub, conn: replyCounter{replies}}
		if !w.hub.Receive(context.Background(), s, text) {
			t.Fatal("one message has the connection dropped")
		}
		select {
		case <-replies: // every message gets one answer
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.group != nil || s.closing {
			t.Errorf("%q has made the socket join a session, or closed it", text)
		}
	})
}
