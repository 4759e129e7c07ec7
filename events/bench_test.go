package events

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"login-server/identity"
	"login-server/session"
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
		b.Run(fmt.Sprintf("to 10 of %d sockets", sockets), func(b *testing.B) { benchmarkEvent(b, sockets) })
	}
}

// benchmarkEvent measures from the hint that a user has changed until the last of
// the ten sockets of their session has got the event, among so many open sockets.
func benchmarkEvent(b *testing.B, sockets int) {
	w := newWorld(b, func(o *Options) { o.PerAddress = sockets + 10 })
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
