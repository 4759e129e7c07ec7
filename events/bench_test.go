package events

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/session"
	"login-server/token"
)

// replyCounter is a connection that takes everything and counts it.
type replyCounter struct{ replies chan struct{} }

func (c replyCounter) Write([]byte, time.Time) error {
	c.replies <- struct{}{}
	return nil
}

func (c replyCounter) Close(int, string) {}
func (c replyCounter) CloseNow()         {}

// idle is a connection that takes everything.
type idle struct{}

func (idle) Write([]byte, time.Time) error { return nil }
func (idle) Close(int, string)             {}
func (idle) CloseNow()                     {}

func BenchmarkEvent(b *testing.B) {
	for _, sockets := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("to 10 of %d sockets", sockets), func(b *testing.B) { benchmarkEvent(b, sockets, 0) })
	}
	b.Run("to 10 sockets beside 10 of clients", func(b *testing.B) { benchmarkEvent(b, 10, 10) })
}

// allowed are grants that all stand.
type allowed struct{ users func(string) string }

func (a allowed) Open(context.Context, string, string) (Access, error) { return Access{}, ErrEnded }
func (a allowed) View(_ context.Context, x Access) (View, error) {
	return View{Claims: json.RawMessage(a.users(x.Grant)), Revoked: func(Access) bool { return false }}, nil
}
func (a allowed) Sign(context.Context, Access) (token.Token, error) {
	return token.Token{Token: "signed", ExpiresIn: 600}, nil
}
func (a allowed) Forget(Hint) {}

// benchmarkEvent measures from the hint that a user has changed until the last of
// the ten sockets of their session has got the event, among so many open sockets. Sockets
// of clients, which hear it too, are two to a client.
func benchmarkEvent(b *testing.B, sockets, ofClients int) {
	var name atomic.Int64
	fake := clock.NewFake(start)
	w := newWorld(b, fake, teststore.Open(b, fake.Now), func(o *Options) {
		o.PerAddress, o.PerSession = sockets+ofClients+10, ofClients+20
		o.Grants = allowed{func(string) string { return fmt.Sprintf(`{"sub":"ada","name":"Ada %d"}`, name.Load()) }}
	})
	defer w.hub.Close()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	signIn := func(name string) (identity.Account, session.Visit) {
		a, _, err := w.users.SignIn(b.Context(), identity.Profile{Provider: "test", ID: name, Name: name})
		must(err)
		rec := httptest.NewRecorder()
		_, err = w.sessions.SignIn(b.Context(), rec, session.Visit{}, session.Login{UserID: a.ID, Provider: "test", Address: home})
		must(err)
		r := httptest.NewRequest("GET", "/", nil)
		for _, c := range rec.Result().Cookies() {
			r.AddCookie(c)
		}
		v, err := w.sessions.Visit(r)
		must(err)
		return a, v
	}
	ada, visit := signIn("Ada")
	replies := make(chan struct{}, 1000)
	const greetings = 6 // open, about, providers, authenticated, loggedIn, token
	for range 10 {
		_, err := w.hub.Join(b.Context(), replyCounter{replies}, home, visit)
		must(err)
	}
	for range 10 * greetings {
		<-replies
	}
	for i := range ofClients {
		access := &Access{Client: fmt.Sprint("client ", i/2), Grant: fmt.Sprint("grant ", i/2), Session: visit.Handle, Began: visit.Session.Created}
		_, err := w.hub.Enter(b.Context(), idle{}, Entry{Address: home, Access: access})
		must(err)
	}
	// The others are ten to a session as well; anonymous ones cost the store nothing.
	for i := range (sockets - 10) / 10 {
		v := session.Visit{Handle: fmt.Sprint("other-", i)}
		for range 10 {
			_, err := w.hub.Join(b.Context(), idle{}, home, v)
			must(err)
		}
	}
	runtime.GC()
	i := 0
	for b.Loop() {
		// Not the disk is measured, but the way from the hint to the sockets.
		b.StopTimer()
		i++
		name.Store(int64(i))
		w.bus.broken = true
		_, err := w.users.Rename(b.Context(), ada.ID, fmt.Sprint("Ada ", i))
		w.bus.broken = false
		must(err)
		b.StartTimer()
		w.bus.Publish(Hint{User: ada.ID})
		for range 10 {
			<-replies
		}
	}
}
