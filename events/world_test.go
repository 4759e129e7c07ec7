package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/session"
	"login-server/store"
	"login-server/store/storetest"
	"login-server/token"
)

const (
	tokenLife = 120 * time.Second
	home      = "192.0.2.1" // where people are when nothing else is said
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a hub over the real rooms and a real store, with a clock to move and
// browsers to sign in with.
//
// Tests run in a synctest bubble: settle waits until every goroutine has nothing
// left to do, so what a client has not got by then it will not get.
type world struct {
	*testing.T
	clock    *clock.Fake
	engine   *storetest.FaultyEngine
	bus      *lossyBus
	users    *identity.Directory
	sessions *session.Manager
	tokens   *token.Manager
	private  string // file of the signing key
	public   string
	tickets  *token.Tickets
	hub      *Hub
	log      *bytes.Buffer
	// discreet: what easydb gives to act there in people's names is not handed on.
	discreet atomic.Bool
}

// lossyBus loses hints while it is broken.
type lossyBus struct {
	LocalBus
	broken bool
}

func (b *lossyBus) Publish(h Hint) {
	if !b.broken {
		b.LocalBus.Publish(h)
	}
}

// inWorld runs a test in a world of its own.
func inWorld(t *testing.T, test func(*world)) {
	t.Helper()
	t.Parallel()
	inWorldWith(t, func(*Options) {}, test)
}

func inWorldWith(t *testing.T, adjust func(*Options), test func(*world)) {
	t.Helper()
	fake := clock.NewFake(start)
	engine := teststore.Outside(t, teststore.Open(t, fake.Now))
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fake, engine, adjust)
		w.T = t
		test(w)
		w.hub.Close()
		synctest.Wait()
	})
}

// newWorld returns a world over an engine that goes by a clock.
func newWorld(t testing.TB, fake *clock.Fake, engine store.Engine, adjust func(*Options)) *world {
	w := &world{clock: fake, engine: storetest.Faulty(engine), bus: &lossyBus{}, log: &bytes.Buffer{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	sealer, err := token.NewSealer([]string{"secret"}, "upstream tokens")
	must(err)
	w.users = identity.NewDirectory(w.engine, identity.Options{
		BaseURL: "https://example.org/", Now: w.clock.Now, NewID: uuid.NewString, CacheSize: 1000, CacheAge: time.Hour,
		Changed: func(ids ...string) {
			for _, id := range ids {
				w.bus.Publish(Hint{User: id})
			}
		},
		Sealer: sealer, Exposes: func(provider string) bool { return provider == "easydb" && !w.discreet.Load() },
	})
	w.sessions = session.NewManager(w.engine, session.Options{
		Cookie:   session.CookieOptions{Installation: "https://example.org/", Secure: true, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}},
		Lifetime: 30 * 24 * time.Hour, Now: w.clock.Now, CacheSize: 1000, CacheAge: time.Hour,
		Changed: func(handle string, removed bool) { w.bus.Publish(Hint{Session: handle, Removed: removed}) },
	})
	// ES256 signatures are randomised: two equal tokens are one signature.
	w.private, w.public = filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key")
	_, err = token.EnsureKeys(w.private, w.public, "ES256")
	must(err)
	w.tokens, err = token.NewManager(context.Background(), w.engine, token.Options{
		PrivateKeyPath: w.private, PublicKeyPath: w.public, Algorithm: "ES256", ExpiresIn: tokenLife, Now: w.clock.Now,
	})
	must(err)
	w.tickets, err = token.NewTickets(w.engine, []string{"secret"}, w.clock.Now)
	must(err)
	o := Options{
		Sessions: w.sessions, Users: w.users, Tokens: w.tokens, Tickets: w.tickets, Clock: w.clock,
		Log:        slog.New(slog.NewTextHandler(w.log, nil)),
		About:      func() json.RawMessage { return json.RawMessage(`{"title":"Test"}`) },
		Providers:  func() json.RawMessage { return json.RawMessage(`{"providers":[]}`) },
		WarnBefore: time.Hour, CheckEvery: 5 * time.Minute, IdleTimeout: 2 * time.Minute, PerSession: 20, PerAddress: 50,
	}
	adjust(&o)
	w.hub = NewHub(o, w.bus)
	return w
}

// settle waits until the hub has done all there is to do.
func (w *world) settle() { synctest.Wait() }

func (w *world) advance(d time.Duration) {
	w.clock.Advance(d)
	w.settle()
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// person returns a new account with an identity at each of the providers.
func (w *world) person(name string, providers ...string) identity.Account {
	w.Helper()
	var a identity.Account
	for i, provider := range providers {
		var err error
		p := identity.Profile{Provider: provider, ID: name, Name: name}
		if i == 0 {
			a, _, err = w.users.SignIn(w.Context(), p)
		} else {
			a, err = w.users.Link(w.Context(), a.ID, p)
		}
		w.must(err)
	}
	return a
}

// browser has cookies and is somewhere.
type browser struct {
	*world
	address string
	cookies map[string]*http.Cookie
}

func (w *world) browser() *browser {
	return &browser{world: w, address: home, cookies: map[string]*http.Cookie{}}
}

// copy is another browser with the same cookies.
func (b *browser) copy() *browser {
	c := b.world.browser()
	for name, cookie := range b.cookies {
		c.cookies[name] = cookie
	}
	return c
}

func (b *browser) at(address string) *browser {
	b.address = address
	return b
}

func (b *browser) visit() session.Visit {
	b.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	v, err := b.sessions.Visit(r)
	b.must(err)
	return v
}

// do is a request that may set cookies.
func (b *browser) do(f func(w http.ResponseWriter, v session.Visit) error) {
	b.Helper()
	rec := httptest.NewRecorder()
	b.must(f(rec, b.visit()))
	for _, c := range rec.Result().Cookies() {
		b.cookies[c.Name] = c
	}
	b.settle()
}

// comeBy is a page view: the browser has a cookie afterwards.
func (b *browser) comeBy() *browser {
	b.Helper()
	b.do(func(w http.ResponseWriter, v session.Visit) error {
		_, err := b.sessions.Welcome(b.Context(), w, v)
		return err
	})
	return b
}

func (b *browser) signIn(a identity.Account) *browser {
	b.Helper()
	b.do(func(w http.ResponseWriter, v session.Visit) error {
		_, err := b.sessions.SignIn(b.Context(), w, v, session.Login{UserID: a.ID, Provider: "test", Address: b.address})
		return err
	})
	return b
}

func (b *browser) signOut() {
	b.Helper()
	b.do(func(w http.ResponseWriter, v session.Visit) error { return b.sessions.SignOut(b.Context(), w, v) })
}

// sessionToken is what GET /token answers.
func (b *browser) sessionToken() string {
	b.Helper()
	v := b.visit()
	sealed, err := b.tickets.Mint(v.Handle, Binding(v.Session))
	b.must(err)
	t, err := b.tokens.Sign(nil, sealed)
	b.must(err)
	return t.Token
}

// client is the application's end of a socket.
type client struct {
	*world
	socket *Socket

	mu     sync.Mutex
	got    []message
	read   int // how many of them take has returned
	closed int // close code; -1 for a connection that was dropped
	stuck  chan struct{}
	err    error
}

type message struct {
	Type string
	Data struct {
		User      *identity.User
		Token     string
		ExpiresIn int
		Message   string
	}
	text string // as it was sent
}

// String is the type, and what tells messages of that type apart.
func (m message) String() string {
	switch {
	case m.Data.User != nil:
		return m.Type + " " + m.Data.User.Name
	case m.Type == TypeError:
		return m.Type + ": " + m.Data.Message
	}
	return m.Type
}

func (c *client) Write(text []byte, deadline time.Time) error {
	if c.stuck != nil {
		select {
		case <-c.stuck:
		case <-time.After(time.Until(deadline)):
			return os.ErrDeadlineExceeded
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.closed != 0 {
		return errors.New("the connection is gone")
	}
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	m.text = string(text)
	c.got = append(c.got, m)
	return nil
}

func (c *client) Close(code int, _ string) { c.end(code) }
func (c *client) CloseNow()                { c.end(-1) }

func (c *client) end(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == 0 {
		c.closed = code
	}
}

// connect opens a socket of the browser and returns it after the greeting.
func (b *browser) connect() *client {
	b.Helper()
	c := b.dial()
	b.settle()
	return c
}

// dial opens a socket and does not wait for the greeting.
func (b *browser) dial() *client {
	b.Helper()
	c := &client{world: b.world}
	b.must(b.join(c))
	return c
}

func (b *browser) join(c *client) (err error) {
	c.socket, err = b.hub.Join(b.Context(), c, b.address, b.visit())
	return err
}

// leave is what happens when the connection has ended.
func (c *client) leave() { c.hub.Leave(c.socket) }

// take returns what has come since it was last called.
func (c *client) take() []message {
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.got[c.read:]
	c.read = len(c.got)
	return fresh
}

// want checks what has come since it was last asked; want's parts are separated by commas.
func (c *client) want(want string) []message {
	c.Helper()
	got := c.take()
	var parts []string
	for _, m := range got {
		parts = append(parts, m.String())
	}
	if diff := cmp.Diff(want, strings.Join(parts, ", ")); diff != "" {
		c.Errorf("messages (-want +got):\n%s", diff)
	}
	return got
}

// wantAtLast checks that the last message is want, and that nothing came before but what a
// look in the middle of a change of several documents may have seen.
func (c *client) wantAtLast(between, want string) {
	c.Helper()
	got := c.take()
	for i, m := range got {
		if last := i == len(got)-1; m.String() != want && (last || m.String() != between) {
			c.Errorf("message %d of %d is %q, want %q in the end", i+1, len(got), m, want)
		}
	}
	if len(got) == 0 {
		c.Errorf("nothing has come, want %q", want)
	}
}

const greeting = "open, about, providers, "

// greeted checks the greeting, and returns what has come after about and providers.
func (c *client) greeted(rest string) *client {
	c.Helper()
	c.want(greeting + rest)
	return c
}

func (c *client) wantClosed(code int) {
	c.Helper()
	c.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != code {
		c.Errorf("close code %d, want %d", c.closed, code)
	}
}

// send is a message of the client.
func (c *client) send(text string) bool {
	return c.hub.Receive(c.Context(), c.socket, []byte(text))
}

func (c *client) authenticate(signed string) {
	c.send(`{"type":"authenticate","token":"` + signed + `"}`)
}

// ask sends a message and checks the answers.
func (c *client) ask(text, want string) []message {
	c.Helper()
	if !c.send(text) {
		c.Error("the connection was to be dropped")
	}
	return c.want(want)
}

// wantEmpty checks that the hub holds nothing any more.
func (w *world) wantEmpty() {
	w.Helper()
	w.settle()
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	h := w.hub
	if n := len(h.groups) + len(h.users) + len(h.loose) + len(h.network) + len(h.queue) + h.sockets + h.workers; n != 0 {
		w.Errorf("left behind: groups %v, users %v, loose %v, networks %v, sockets %d, workers %d", h.groups, h.users, h.loose, h.network, h.sockets, h.workers)
	}
}

// tokensOf returns the distinct tokens among messages.
func tokensOf(messages []message) []string {
	var tokens []string
	for _, m := range messages {
		if m.Type == TypeToken && !slices.Contains(tokens, m.Data.Token) {
			tokens = append(tokens, m.Data.Token)
		}
	}
	return tokens
}
