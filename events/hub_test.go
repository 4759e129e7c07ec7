package events

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"login-server/identity"
)

func TestGreeting(t *testing.T) {
	t.Run("without a cookie", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.browser().connect().greeted("loggedOut")
		})
	})
	t.Run("anonymous", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.browser().comeBy().connect().greeted("authenticated, loggedOut")
		})
	})
	t.Run("signed in", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.browser().signIn(w.person("Ada", "github")).connect().greeted("authenticated, loggedIn Ada, token")
		})
	})
	t.Run("with a cookie that opens nothing any more", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().signIn(w.person("Ada", "github"))
			old := b.copy()
			b.signOut()
			old.connect().greeted("loggedOut")
		})
	})
	t.Run("with an anonymous cookie whose handle has a session", func(t *testing.T) {
		inWorld(t, func(w *world) {
			b := w.browser().comeBy()
			planted := b.copy()
			b.signIn(w.person("Ada", "github"))
			c := planted.connect().greeted("loggedOut")
			b.signOut()
			b.signIn(w.person("Bob", "orcid"))
			c.want("")
		})
	})
}

func TestSignInAndOutReachEverySocketOfTheSession(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().comeBy()
		one, two := b.connect().greeted("authenticated, loggedOut"), b.connect().greeted("authenticated, loggedOut")
		elsewhere := w.browser().comeBy().connect().greeted("authenticated, loggedOut")

		b.signIn(ada)
		first := one.want("loggedIn Ada, token")
		if second := two.want("loggedIn Ada, token"); second[1].Data.Token != first[1].Data.Token {
			t.Error("two tokens were signed for one session")
		}
		b.signOut()
		one.want("loggedOut")
		two.want("loggedOut")
		b.signIn(w.person("Bob", "orcid"))
		one.want("loggedIn Bob, token")
		two.want("loggedIn Bob, token")
		elsewhere.want("")
	})
}

func TestUpdatedReachesEverySessionOfTheUser(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		phone := w.browser().signIn(ada).connect().greeted("authenticated, loggedIn Ada, token")
		laptop := w.browser().signIn(ada).connect().greeted("authenticated, loggedIn Ada, token")
		bob := w.browser().signIn(w.person("Bob", "orcid")).connect().greeted("authenticated, loggedIn Bob, token")

		_, err := w.users.Rename(w.Context(), ada.ID, "Countess")
		w.must(err)
		phone.want("updated Countess")
		laptop.want("updated Countess")

		_, err = w.users.Link(w.Context(), ada.ID, identity.Profile{Provider: "ldap", ID: "ada"})
		w.must(err)
		if got := phone.want("updated Countess"); len(got[0].Data.User.Identities) != 2 {
			t.Errorf("identities after linking: %v", got[0].Data.User.Identities)
		}
		_, err = w.users.Disconnect(w.Context(), ada.ID, "github")
		w.must(err)
		if got := phone.want("updated Countess"); len(got[0].Data.User.Identities) != 1 {
			t.Errorf("identities after disconnecting: %v", got[0].Data.User.Identities)
		}

		_, err = w.users.Rename(w.Context(), ada.ID, "Countess") // changes nothing
		w.must(err)
		phone.want("")
		bob.want("")
	})
}

// A session keeps the id of the account that signed in, and follows it through
// merges and back.
func TestSessionsFollowMerges(t *testing.T) {
	inWorld(t, func(w *world) {
		ada, bob, cid := w.person("Ada", "github"), w.person("Bob", "orcid"), w.person("Cid", "google")
		a := w.browser().signIn(ada).connect().greeted("authenticated, loggedIn Ada, token")
		b := w.browser().signIn(bob).connect().greeted("authenticated, loggedIn Bob, token")
		c := w.browser().signIn(cid).connect().greeted("authenticated, loggedIn Cid, token")

		_, err := w.users.Merge(w.Context(), bob.ID, cid.ID)
		w.must(err)
		b.want("updated Bob")
		c.want("updated Bob")
		_, err = w.users.Merge(w.Context(), ada.ID, bob.ID)
		w.must(err)
		for _, x := range []*client{a, b, c} {
			x.want("updated Ada")
		}
		_, err = w.users.Rename(w.Context(), ada.ID, "All")
		w.must(err)
		for _, x := range []*client{a, b, c} {
			x.want("updated All")
		}

		_, _, err = w.users.UndoMerge(w.Context(), ada.ID, bob.ID)
		w.must(err)
		a.want("updated All")
		b.wantAtLast("updated All", "updated Bob")
		c.wantAtLast("updated All", "updated Bob") // though neither Cid nor the session has changed
		w.must(w.users.Delete(w.Context(), bob.ID))
		a.want("")
		b.want("loggedOut")
		c.want("loggedOut")
	})
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().signIn(ada)
		var clients []*client
		for range 5 {
			clients = append(clients, b.connect())
		}
		period := tokenLife - renewBefore
		var all []message
		for round := range 4 {
			if round > 0 {
				w.advance(period - time.Millisecond)
				for _, c := range clients {
					c.want("")
				}
				w.advance(time.Millisecond)
			}
			var got []message
			for _, c := range clients {
				messages := c.take()
				if last := messages[len(messages)-1]; last.Type != TypeToken || last.Data.ExpiresIn != int(tokenLife/time.Second) {
					t.Fatalf("round %d: got %v", round, messages)
				}
				got = append(got, messages...)
			}
			if n := len(tokensOf(got)); n != 1 {
				t.Errorf("round %d: %d tokens were signed, want one", round, n)
			}
			all = append(all, got...)
		}
		if n := len(tokensOf(all)); n != 4 {
			t.Errorf("%d different tokens in 4 periods", n)
		}
	})
}

func TestSocketThatJoinsLaterGetsTheSameToken(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		first := b.connect().take()
		w.advance(50*time.Second + 500*time.Millisecond)
		c := b.connect()
		got := c.take()
		last := got[len(got)-1].Data
		if last.Token != first[len(first)-1].Data.Token || last.ExpiresIn != 70 {
			t.Errorf("got another token, or %d seconds for it; want 70", last.ExpiresIn)
		}
		w.advance(tokenLife - renewBefore - 50*time.Second)
		c.want("token")
	})
}

func TestTokenAfterAnUpdateCarriesTheNewUserAndComesInTime(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().signIn(ada)
		early := b.connect().greeted("authenticated, loggedIn Ada, token")
		w.advance(60 * time.Second)
		_, err := w.users.Rename(w.Context(), ada.ID, "Countess")
		w.must(err)
		early.want("updated Countess")
		// A newcomer gets a token of its own, but the others' expires when it did.
		late := b.connect().greeted("authenticated, loggedIn Countess, token")
		early.want("")
		w.advance(tokenLife - renewBefore - 60*time.Second)
		got := append(early.want("token"), late.want("token")...)
		if len(tokensOf(got)) != 1 {
			t.Error("the two have different tokens after the renewal")
		}
		w.advance(tokenLife - renewBefore)
		early.want("token")
		late.want("token")
	})
}

func TestNoTokenAfterSignOut(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		c := b.connect().greeted("authenticated, loggedIn Ada, token")
		b.signOut()
		c.want("loggedOut")
		w.advance(10 * tokenLife)
		c.want("")
		b.signIn(w.person("Bob", "orcid"))
		c.want("loggedIn Bob, token")
		w.advance(tokenLife - renewBefore)
		c.want("token")
	})
}

func TestExpiredSessionSignsOut(t *testing.T) {
	inWorldWith(t, func(o *Options) { o.CheckEvery = 7 * time.Minute }, func(w *world) { // no look at the moment of expiry
		b := w.browser().signIn(w.person("Ada", "github"))
		c := b.connect().greeted("authenticated, loggedIn Ada, token")
		w.clock.Advance(30*24*time.Hour - time.Second)
		w.settle()
		c.take()
		w.clock.Advance(time.Second)
		// Whoever asks before the hub has looked gets nothing of the user any more.
		got := c.ask(`{"type":"token"}`, "token, loggedOut")
		if user := w.userIn(got[0].Data.Token); user != "null" {
			t.Errorf("the token carries %s", user)
		}
		w.advance(time.Hour)
		c.want("")
	})
}

func TestSessionAboutToExpire(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		c := b.connect()
		lifetime, threshold, interval := 30*24*time.Hour, time.Hour, 5*time.Minute
		w.clock.Advance(lifetime - threshold - interval)
		w.settle()
		warnings := func() (n int) {
			for _, m := range c.take() {
				if m.Type == TypeSessionAboutToExpire {
					n++
				}
			}
			return n
		}
		if n := warnings(); n != 0 {
			t.Errorf("%d warnings before the threshold", n)
		}
		for i := range 3 {
			w.advance(interval)
			if n := warnings(); n != 1 {
				t.Errorf("check %d within the threshold: %d warnings, want 1", i, n)
			}
		}
		b.comeBy() // what the client does: the session lives on
		w.advance(3 * interval)
		if n := warnings(); n != 0 {
			t.Errorf("%d warnings after the session was renewed", n)
		}
	})
}

func TestAnonymousSessionsAreNotWarnedNorRead(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().comeBy()
		c := b.connect().greeted("authenticated, loggedOut")
		signedOut := w.browser().signIn(w.person("Ada", "github"))
		d := signedOut.connect()
		signedOut.signOut()
		d.take()
		w.engine.KillAfter(0) // not even reads get through from the next write on
		w.advance(24 * time.Hour)
		c.want("")
		d.want("")
		if w.log.Len() != 0 {
			t.Errorf("the store was asked: %s", w.log)
		}
	})
}

func TestRemovedSessionClosesItsSockets(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		keep, gone := w.browser().signIn(ada), w.browser().signIn(ada)
		kept, one, two := keep.connect(), gone.connect(), gone.connect()
		for _, c := range []*client{kept, one, two} {
			c.take()
		}
		_, err := w.sessions.RemoveAll(w.Context(), keep.visit().Handle, ada.ID)
		w.must(err)
		for _, c := range []*client{one, two} {
			c.want("loggedOut")
			c.wantClosed(ClosePolicy)
			c.leave()
		}
		kept.want("")
		kept.wantClosed(0)
		kept.leave()
		w.wantEmpty()
	})
}

// An attacker plants an anonymous cookie in the victim's browser and waits with a
// socket on the same handle for the victim to sign in.
func TestPlantedHandle(t *testing.T) {
	inWorld(t, func(w *world) {
		attacker := w.browser().at("198.51.100.7").comeBy()
		victim := attacker.copy()
		spy := attacker.connect().greeted("authenticated, loggedOut")
		own := victim.connect().greeted("authenticated, loggedOut")

		victim.signIn(w.person("Ada", "github"))
		own.want("loggedIn Ada, token")
		spy.want("")
		spy.wantClosed(ClosePolicy)
		spy.leave()
		again := attacker.connect().greeted("loggedOut")
		w.advance(tokenLife)
		again.want("")
	})
}

func TestAddressesOfOneIPv6NetworkAreOnePlace(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().at("2001:db8::1").comeBy()
		c := b.connect().greeted("authenticated, loggedOut")
		b.at("2001:db8::2").signIn(w.person("Ada", "github"))
		c.want("loggedIn Ada, token")
	})
}

func TestLimits(t *testing.T) {
	adjust := func(o *Options) { o.PerSession, o.PerAddress = 3, 5 }
	inWorldWith(t, adjust, func(w *world) {
		b := w.browser().comeBy()
		var clients []*client
		for range 3 {
			clients = append(clients, b.connect())
		}
		if err := b.join(&client{world: w}); !errors.Is(err, ErrTooMany) {
			t.Errorf("a fourth socket of the session: got %v, want ErrTooMany", err)
		}
		for range 2 {
			clients = append(clients, w.browser().connect())
		}
		if err := w.browser().join(&client{world: w}); !errors.Is(err, ErrTooMany) {
			t.Errorf("a sixth socket of the address: got %v, want ErrTooMany", err)
		}
		clients = append(clients, w.browser().at("192.0.2.2").connect())
		clients[0].leave()
		clients = append(clients, b.connect())

		full := clients[3] // belongs to no session so far
		full.take()
		full.authenticate(b.sessionToken())
		full.want("error: This session has too many sockets.")

		for _, c := range clients {
			c.leave()
			c.leave() // whoever notices first that the connection has ended
		}
		w.wantEmpty()
	})
}

func TestIdleSocketsOfNoSessionAreClosed(t *testing.T) {
	inWorld(t, func(w *world) {
		mute, talker := w.browser().connect(), w.browser().connect()
		anonymous := w.browser().comeBy().connect()
		for range 4 {
			w.advance(time.Minute)
			talker.send(`{"type":"ping"}`)
		}
		mute.wantClosed(ClosePolicy)
		talker.wantClosed(0)
		anonymous.wantClosed(0)
		w.advance(time.Hour)
		talker.wantClosed(ClosePolicy)
		anonymous.wantClosed(0)
	})
}

func TestSocketClosedDuringTheGreetingLeavesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		signedIn := w.browser().signIn(w.person("Ada", "github"))
		for _, b := range []*browser{w.browser(), w.browser().comeBy(), signedIn} {
			c := &client{world: w, err: errors.New("reset by peer")}
			w.must(b.join(c))
			c.leave() // before anything was written
			w.settle()
			d := &client{world: w, err: errors.New("reset by peer")}
			w.must(b.join(d))
			w.settle()
			d.wantClosed(-1)
			d.leave()
		}
		w.wantEmpty()
	})
}

func TestSlowSocketIsDroppedAndNeverWaitedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().signIn(ada)
		slow := &client{world: w, stuck: make(chan struct{})}
		w.must(b.join(slow))
		quick := b.connect().greeted("authenticated, loggedIn Ada, token")
		for i := range 2 * maxQueue {
			_, err := w.users.Rename(w.Context(), ada.ID, fmt.Sprint("Ada ", i))
			w.must(err)
			quick.want(fmt.Sprint("updated Ada ", i))
		}
		slow.wantClosed(-1)
		if n := w.hub.Stats().Dropped; n != 1 {
			t.Errorf("%d dropped sockets counted, want 1", n)
		}
		close(slow.stuck)
		slow.leave()
		quick.leave()
		w.wantEmpty()
	})
}

func TestWriteThatDoesNotEndDropsTheSocket(t *testing.T) {
	inWorld(t, func(w *world) {
		slow := &client{world: w, stuck: make(chan struct{})}
		w.must(w.browser().join(slow))
		w.settle()
		slow.wantClosed(0)
		time.Sleep(writeTimeout) // of the bubble: nobody waits
		slow.wantClosed(-1)
	})
}

func TestClose(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		clients := []*client{b.connect(), b.connect(), w.browser().comeBy().connect(), w.browser().connect()}
		greetingOnly := b.dial() // still being greeted
		w.hub.Close()
		w.hub.Close()
		for _, c := range append(clients, greetingOnly) {
			c.wantClosed(CloseGoingAway)
			if got := c.take(); len(got) < 4 {
				t.Errorf("got %v: what was queued is sent before the close frame", got)
			}
		}
		if err := b.join(&client{world: w}); err == nil {
			t.Error("a socket has joined a closed hub")
		}
		w.advance(10 * tokenLife)
		for _, c := range append(clients, greetingOnly) {
			c.want("")
			c.leave()
		}
		w.wantEmpty()
	})
}

func TestStoreDownAndUpAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().signIn(ada)
		c := b.connect().greeted("authenticated, loggedIn Ada, token")
		_, err := w.users.Rename(w.Context(), ada.ID, "Countess")
		w.must(err)
		c.want("updated Countess")

		w.engine.KillAfter(0)
		_, _ = w.users.Rename(w.Context(), ada.ID, "Lost") // notices that the store is down
		for range 50 {
			w.bus.Publish(Hint{Everything: true})
			w.settle()
		}
		c.want("")
		w.hub.mu.Lock()
		if g := w.hub.groups[b.visitHandle()]; g == nil || g.retry == nil {
			t.Error("nobody will look again")
		}
		w.hub.mu.Unlock()
		// The token expires while the store is away.
		w.advance(tokenLife)
		c.want("")
		if n := strings.Count(w.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines in the log, want one:\n%s", n, w.log)
		}

		w.engine.Revive()
		w.advance(retryAfter)
		c.want("token")
		w.advance(tokenLife - renewBefore)
		c.want("token")
	})
}

// visitHandle is the handle of the only session, while the store cannot be asked.
func (b *browser) visitHandle() string {
	for handle := range b.hub.groups {
		return handle
	}
	return ""
}

func TestLostHints(t *testing.T) {
	inWorld(t, func(w *world) {
		ada, bob := w.person("Ada", "github"), w.person("Bob", "orcid")
		renamed, leaves, comes := w.browser().signIn(ada), w.browser().signIn(bob), w.browser().comeBy()
		same := w.browser().signIn(w.person("Cid", "google"))
		clients := []*client{renamed.connect(), leaves.connect(), comes.connect(), same.connect()}
		for _, c := range clients {
			c.take()
		}
		w.bus.broken = true
		_, err := w.users.Rename(w.Context(), ada.ID, "Countess")
		w.must(err)
		leaves.signOut()
		comes.signIn(bob)
		for _, c := range clients {
			c.want("")
		}
		w.bus.broken = false
		w.bus.Publish(Hint{Everything: true})
		clients[0].want("updated Countess")
		clients[1].want("loggedOut")
		clients[2].want("loggedIn Bob, token")
		clients[3].want("")
	})
}

// A change that comes between the look at the store and the moment from which the
// group hears of the user's changes must not be missed.
func TestChangeDuringTheGreetingIsNotMissed(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().signIn(ada)
		for i := range 50 {
			name := fmt.Sprint("Ada ", i)
			c := b.dial()
			_, err := w.users.Rename(w.Context(), ada.ID, name)
			w.must(err)
			got := c.take()
			last := ""
			for _, m := range got {
				if m.Data.User != nil {
					last = m.Data.User.Name
				}
			}
			if last != name {
				t.Fatalf("the last the socket has heard of is %q, want %q", last, name)
			}
			c.leave()
		}
		w.wantEmpty()
	})
}

func TestEverybodyAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		ada := w.person("Ada", "github")
		b := w.browser().signIn(ada)
		other := w.browser().comeBy()
		done := make(chan []*client)
		for i := range 4 {
			go func() {
				var mine []*client
				for j := range 10 {
					if (i+j)%4 == 0 {
						_, err := w.users.Rename(w.Context(), ada.ID, fmt.Sprint("Ada ", i, j))
						w.must(err)
					}
					from := []*browser{b, other}[j%2]
					c := &client{world: w}
					w.must(from.join(c))
					c.send(`{"type":"token"}`)
					c.send(`{"type":"ping"}`)
					if j%3 == 0 {
						c.leave()
					} else {
						mine = append(mine, c)
					}
				}
				done <- mine
			}()
		}
		var all []*client
		for range 4 {
			all = append(all, <-done...)
		}
		w.settle()
		want := w.current(ada)
		for _, c := range all {
			var last string
			for _, m := range c.take() {
				if m.Data.User != nil {
					last = m.Data.User.Name
				}
			}
			if last != want && last != "" {
				t.Errorf("a socket shows %q, the user is called %q", last, want)
			}
			c.leave()
		}
		w.wantEmpty()
	})
}

func (w *world) current(a identity.Account) string {
	a, err := w.users.Get(w.Context(), a.ID)
	w.must(err)
	return a.Name
}

func TestSocketsAndStats(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		b.connect()
		b.connect()
		w.browser().connect()
		handle := b.visit().Handle
		if got := w.hub.Sockets(w.Context(), handle, "other"); got[handle] != 2 || len(got) != 1 {
			t.Errorf("sockets: got %v", got)
		}
		if got, want := w.hub.Stats(), (Stats{Sockets: 3, Sessions: 1}); got != want {
			t.Errorf("stats: got %+v, want %+v", got, want)
		}
	})
}

// Between two events a socket has no goroutine of the hub: those that there are
// end when they have nothing to do.
func TestIdleSocketsHaveNoGoroutine(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		for range 10 {
			b.connect()
		}
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if w.hub.workers != 0 {
			t.Errorf("%d workers", w.hub.workers)
		}
		for s := range w.hub.groups[b.visit().Handle].sockets {
			if s.mu.Lock(); s.writing || slices.Contains([]int{cap(s.queue)}, 1) {
				t.Error("an idle socket has a writer or a queue")
			}
			s.mu.Unlock()
		}
	})
}
