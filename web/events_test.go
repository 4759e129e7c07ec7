package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"login-server/identity"
	"login-server/token"
)

// The WebSocket of contract section 7, over real connections.

// socket is the connection of an application in some browser.
type socket struct {
	server *server
	conn   *websocket.Conn
}

// event is a message as the client sees it.
type event struct {
	Type string
	Date time.Time
	Data struct {
		User      *identity.User
		Token     string
		ExpiresIn int
		Message   string
		Providers []json.RawMessage
		OK        int
	}
	raw string
}

const patience = 10 * time.Second

// dial opens a WebSocket from a page of an origin; "" is a program that is no browser.
func (b *browser) dial(origin string) (*socket, *http.Response, error) {
	b.server.t.Helper()
	h := b.header.Clone()
	if origin != "" {
		h.Set("Origin", origin)
	}
	ctx, cancel := context.WithTimeout(b.server.t.Context(), patience)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, strings.Replace(b.server.base, "http", "ws", 1), &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: b.client.Transport, Jar: b.jar}, HTTPHeader: h,
	})
	if err != nil {
		return nil, response, err
	}
	conn.SetReadLimit(1 << 20)
	b.server.t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{server: b.server, conn: conn}, response, nil
}

func (b *browser) socket(origin string) *socket {
	b.server.t.Helper()
	s, _, err := b.dial(origin)
	if err != nil {
		b.server.t.Fatalf("open WebSocket from %q: %v", origin, err)
	}
	return s
}

func (s *socket) read() (event, error) {
	ctx, cancel := context.WithTimeout(s.server.t.Context(), patience)
	defer cancel()
	kind, text, err := s.conn.Read(ctx)
	if err != nil {
		return event{}, err
	}
	e := event{raw: string(text)}
	if err := json.Unmarshal(text, &e); err != nil || kind != websocket.MessageText {
		s.server.t.Fatalf("event %q: %v", text, err)
	}
	return e, nil
}

// expect reads events and fails the test unless they are of these types. It returns the last.
func (s *socket) expect(types ...string) event {
	s.server.t.Helper()
	var e event
	for _, want := range types {
		var err error
		if e, err = s.read(); err != nil {
			s.server.t.Fatalf("waiting for %s: %v", want, err)
		}
		if e.Type != want {
			s.server.t.Fatalf("got %s, want %s: %s", e.Type, want, e.raw)
		}
	}
	return e
}

// greeting reads what every socket is sent first, and then what is expected beside it.
func (s *socket) greeting(more ...string) event {
	s.server.t.Helper()
	s.expect("open", "about", "providers")
	if !slices.Equal(more, []string{"loggedOut"}) {
		s.expect("authenticated")
	}
	return s.expect(more...)
}

func (s *socket) send(message string) {
	s.server.t.Helper()
	if err := s.conn.Write(s.server.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		s.server.t.Fatalf("send: %v", err)
	}
}

// expectNothing makes sure that nothing more has come: the answer to a ping is next.
func (s *socket) expectNothing() {
	s.server.t.Helper()
	s.send(`{"type": "ping"}`)
	s.expect("pong")
}

// expectClosed reads until the connection ends, and returns its close code.
func (s *socket) expectClosed() websocket.StatusCode {
	s.server.t.Helper()
	for {
		if _, err := s.read(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				s.server.t.Fatal("the socket stays open")
			}
			return websocket.CloseStatus(err)
		}
	}
}

func TestGreeting(t *testing.T) {
	s := newServer(t)
	b := s.browser()

	c := b.socket(toolOrigin)
	if e := c.expect("open"); !strings.Contains(e.raw, `"data":null`) || !e.Date.Equal(s.clock.Now()) {
		t.Errorf("open is %s", e.raw)
	}
	if e := c.expect("about"); e.Data.OK != 1 {
		t.Errorf("about is %s", e.raw)
	}
	if e := c.expect("providers"); len(e.Data.Providers) != 5 {
		t.Errorf("providers is %s", e.raw)
	}
	c.expect("loggedOut")
	c.expectNothing()

	b.fetch(toolOrigin, "GET", "login", "").want(200)
	c = b.socket(toolOrigin)
	c.expect("open", "about", "providers", "authenticated", "loggedOut")
	c.expectNothing()

	b.login("alpha", "ada")
	c = b.socket(toolOrigin)
	e := c.expect("open", "about", "providers", "authenticated", "loggedIn")
	golden(t, "event-loggedIn", e.raw)
	if e := c.expect("token"); e.Data.ExpiresIn != 120 || s.verify(e.Data.Token).User.Name != "Ada" || s.verify(e.Data.Token).SessionID != "" {
		t.Errorf("token is %s", e.raw)
	}
	c.expectNothing()
}

// A browser names the origin of the page that opens a socket. Programs that are no
// browsers have nobody else's cookies, and no origin.
func TestSocketOrigins(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	for _, tc := range []struct {
		origin  string
		allowed bool
	}{
		{appOrigin, true}, {toolOrigin, true}, {s.cfg.Origin(), true}, {"", true},
		{evilOrigin, false}, {"null", false}, {"https://cocoda.example.org", false},
		{appOrigin + ".evil.com", false}, {"http://app.example.org", false}, {appOrigin + ":444", false}, {"file://", false},
	} {
		c, response, err := b.dial(tc.origin)
		switch {
		case tc.allowed && err != nil:
			t.Errorf("from %q: %v", tc.origin, err)
		case tc.allowed:
			c.greeting("loggedIn", "token")
		case err == nil:
			t.Errorf("a page of %q has opened a socket", tc.origin)
		case response.StatusCode != 403:
			t.Errorf("from %q: got %d, want 403", tc.origin, response.StatusCode)
		}
	}
	two := headers("Origin", appOrigin)
	two.Add("Origin", evilOrigin)
	b.header = two
	if _, _, err := b.dial(""); err == nil {
		t.Error("a request with two origins has opened a socket")
	}
}

// loggedIn and loggedOut reach every window of the browser, updated every session of
// the user, and nothing anybody else.
func TestEvents(t *testing.T) {
	s := newServer(t)
	b, phone, stranger := s.browser(), s.browser(), s.browser()
	b.open("login")
	phone.login("alpha", "ada")
	stranger.login("alpha", "ben")

	anonymous := func(c *socket) { t.Helper(); c.expect("open", "about", "providers", "authenticated", "loggedOut") }
	first, second := b.socket(appOrigin), b.socket(toolOrigin)
	anonymous(first)
	anonymous(second)
	elsewhere, foreign := phone.socket(appOrigin), stranger.socket(appOrigin)
	elsewhere.greeting("loggedIn", "token")
	foreign.greeting("loggedIn", "token")

	// Signing in: all windows of this browser.
	b.login("alpha", "ada")
	for _, c := range []*socket{first, second} {
		if e := c.expect("loggedIn"); e.Data.User.Name != "Ada" {
			t.Errorf("loggedIn is %s", e.raw)
		}
		c.expect("token")
	}
	// (The sign-in is noted in the account, but nothing that applications see has changed.)
	elsewhere.expectNothing()

	// What changes the user reaches all sessions of the user, and nobody else.
	all := []*socket{first, second, elsewhere}
	updated := func(what string, check func(identity.User) bool) {
		t.Helper()
		for _, c := range all {
			e := c.expect("updated")
			if !check(*e.Data.User) || strings.Contains(e.raw, "usage") {
				t.Errorf("%s: %s", what, e.raw)
			}
			c.expectNothing()
		}
		foreign.expectNothing()
	}
	b.fetch(appOrigin, "PATCH", "users/"+b.user().ID, `{"name": "Ada King"}`).want(200)
	updated("name", func(u identity.User) bool { return u.Name == "Ada King" })
	phone.submit("account/name", "name", "Ada").leadsTo("/account")
	updated("name on the page", func(u identity.User) bool { return u.Name == "Ada" })
	b.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
	updated("linked", func(u identity.User) bool { return u.Identities["beta"].ID == "b1" })
	phone.submit("disconnect/alpha").leadsTo("/account")
	updated("disconnected", func(u identity.User) bool { return len(u.Identities) == 1 })

	// Signing out: the sockets stay, and hear of the next one to sign in.
	b.submit("logout").leadsTo("/login")
	first.expect("loggedOut")
	second.expect("loggedOut")
	elsewhere.expectNothing()
	b.login("alpha", "ben")
	if e := first.expect("loggedIn"); e.Data.User.Name != "Ben" {
		t.Errorf("loggedIn is %s", e.raw)
	}
	first.expect("token")
	second.expect("loggedIn", "token")
	elsewhere.expectNothing()

	// Removed from elsewhere: closed.
	stranger.fetch(appOrigin, "DELETE", "sessions", "").want(204)
	first.expectClosed()
	second.expectClosed()
	foreign.expectNothing()

	// Deleted: whatever is open hears that nobody is signed in.
	phone.submit("delete").leadsTo("/login")
	elsewhere.expect("loggedOut")
}

func TestMergeEvents(t *testing.T) {
	s := newServer(t)
	b, phone := s.browser(), s.browser()
	b.login("alpha", "ada")
	phone.login("beta", "ada")
	c, d := b.socket(appOrigin), phone.socket(appOrigin)
	c.greeting("loggedIn", "token")
	d.greeting("loggedIn", "token")

	page := b.submit("login/beta", "username", "ada", "password", "ada-pw").want(302)
	b.submit("merge", "proof", b.proofOn(page.location())).leadsTo("/account")
	for _, x := range []*socket{c, d} {
		if e := x.expect("updated"); e.Data.User.ID != b.user().ID || len(e.Data.User.Merged) != 1 || len(e.Data.User.Identities) != 2 {
			t.Errorf("updated is %s", e.raw)
		}
	}
	if got := phone.user().ID; got != b.user().ID {
		t.Errorf("the other account's session belongs to %s", got)
	}
}

func TestTokenEvents(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	c, d := b.socket(appOrigin), b.socket(appOrigin)
	first := c.greeting("loggedIn", "token")
	if second := d.greeting("loggedIn", "token"); second.Data.Token != first.Data.Token {
		t.Error("two sockets of one session got different tokens")
	}
	s.clock.Advance(116 * time.Second)
	c.expectNothing()
	s.clock.Advance(time.Second) // 3 s before the first expires
	renewed := c.expect("token")
	if renewed.Data.Token == first.Data.Token || renewed.Data.ExpiresIn != 120 {
		t.Errorf("renewed: %s", renewed.raw)
	}
	s.verify(renewed.Data.Token)
	d.expect("token")
	for range 3 {
		s.clock.Advance(117 * time.Second)
		c.expect("token")
		d.expect("token")
	}
	c.send(`{"type": "token"}`)
	if e := c.expect("token"); s.verify(e.Data.Token).User.Name != "Ada" {
		t.Errorf("token on demand: %s", e.raw)
	}
	d.expectNothing()
}

// A socket without the session's cookie joins the session by a token from GET /token,
// once and for 60 seconds.
func TestAuthenticate(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	fromToken := func(b *browser) string {
		t.Helper()
		var a tokenAnswer
		b.fetch(appOrigin, "GET", "token", "").want(200).json(&a)
		return a.Token
	}
	authenticate := func(c *socket, token string) {
		t.Helper()
		c.send(`{"type": "authenticate", "token": "` + token + `"}`)
	}
	loose := func() *socket {
		t.Helper()
		c := s.browser().socket(appOrigin)
		c.greeting("loggedOut")
		return c
	}

	signed := fromToken(b)
	c := loose()
	authenticate(c, signed)
	c.expect("authenticated", "loggedIn", "token")

	s.run("once", func(t *testing.T) {
		c := loose()
		authenticate(c, signed)
		c.expect("error")
		c.expectNothing()
	})
	s.run("sixty seconds", func(t *testing.T) {
		signed := fromToken(b)
		s.clock.Advance(61*time.Second + token.Leeway)
		c := loose()
		authenticate(c, signed)
		c.expect("error")
		c.expectNothing()
	})
	s.run("no token of a socket", func(t *testing.T) {
		w := b.socket(appOrigin)
		signed := w.greeting("loggedIn", "token").Data.Token
		c := loose()
		authenticate(c, signed)
		c.expect("error")
	})
	s.run("nor a tampered one", func(t *testing.T) {
		signed := fromToken(b)
		for _, wrong := range []string{"", "x", "a.b.c", signed[:len(signed)-4] + "AAAA", "eyJhbGciOiJub25lIn0." + strings.Split(signed, ".")[1] + "."} {
			c := loose()
			authenticate(c, wrong)
			c.expect("error")
			c.expectNothing()
		}
	})
	s.run("nor of a session that has ended", func(t *testing.T) {
		phone := s.browser()
		phone.login("alpha", "ada")
		signed := fromToken(phone)
		phone.submit("logout")
		c := loose()
		authenticate(c, signed)
		c.expect("error")
	})
	s.run("nor of an anonymous session in which somebody has signed in", func(t *testing.T) {
		phone := s.browser()
		phone.open("login")
		signed := fromToken(phone)
		phone.login("alpha", "ada")
		c := loose()
		authenticate(c, signed)
		c.expect("error")
	})
	s.run("the own session again", func(t *testing.T) {
		w := b.socket(appOrigin)
		w.greeting("loggedIn", "token")
		authenticate(w, fromToken(b))
		w.expect("authenticated")
		w.expectNothing()
	})
	s.run("anonymous", func(t *testing.T) {
		visitor := s.browser()
		visitor.open("login")
		c := loose()
		authenticate(c, fromToken(visitor))
		c.expect("authenticated")
		visitor.login("alpha", "ben")
		// The new state is shown, and nothing before it.
		for {
			e, err := c.read()
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == "loggedIn" {
				break
			}
			if e.Type != "loggedOut" {
				t.Fatalf("got %s", e.raw)
			}
		}
		c.expect("token")
	})
}

// What cannot be understood is answered by an error, and the socket stays open.
func TestMessages(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	c := b.socket(appOrigin)
	c.greeting("loggedIn", "token")
	for _, message := range []string{
		"", " ", "ping", "{", "[]", "7", `"ping"`, `{}`, `{"type": 7}`, `{"type": "nonsense"}`, `{"type": "PING"}`, `{"token": "x"}`,
		`{"type": "authenticate"}`, `{"type": "authenticate", "token": {}}`, `{"type": "ping"} {"type": "ping"}`, strings.Repeat("[", 10_000), "\x00",
	} {
		c.send(message)
		if e := c.expect("error"); e.Data.Message == "" {
			t.Errorf("%.20q: the error has no message: %s", message, e.raw)
		}
	}
	if err := c.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type": "ping"}`)); err != nil {
		t.Fatal(err)
	}
	c.expect("error")
	c.expectNothing()

	s.run("too big", func(t *testing.T) {
		c := b.socket(appOrigin)
		c.greeting("loggedIn", "token")
		c.send(`{"type": "` + strings.Repeat("x", 20_000) + `"}`)
		if got := c.expectClosed(); got != websocket.StatusMessageTooBig {
			t.Errorf("closed with %d, want %d", got, websocket.StatusMessageTooBig)
		}
	})
	s.run("too many", func(t *testing.T) {
		c := b.socket(appOrigin)
		c.greeting("loggedIn", "token")
		for range 200 {
			if err := c.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type": "ping"}`)); err != nil {
				break
			}
		}
		if got := c.expectClosed(); got != websocket.StatusPolicyViolation && got != -1 {
			t.Errorf("closed with %d, want %d", got, websocket.StatusPolicyViolation)
		}
	})
}

func TestExpiry(t *testing.T) {
	s := newServer(t, env("COOKIE_MAX_DAYS", "1"))
	b := s.browser()
	b.login("alpha", "ada")
	c := b.socket(appOrigin)
	c.greeting("loggedIn", "token")
	until := func(want string) {
		t.Helper()
		for {
			e, err := c.read()
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if e.Type == want {
				return
			}
			if e.Type != "token" {
				t.Fatalf("got %s, want %s", e.raw, want)
			}
		}
	}
	// In steps that the sockets' queues can take: each renews the token.
	advance := func(d time.Duration) {
		t.Helper()
		for ; d > 0; d -= time.Minute {
			s.clock.Advance(time.Minute)
			c.send(`{"type": "ping"}`)
			until("pong")
		}
	}
	advance(22*time.Hour + 55*time.Minute)
	s.clock.Advance(5 * time.Minute)
	until("sessionAboutToExpire")
	// The client renews the session, as the event asks it to.
	b.fetch(appOrigin, "GET", "login", "").leadsTo("/account")
	advance(2 * time.Hour)
	b.get("currentUser").want(200)
}

func TestSocketLimits(t *testing.T) {
	t.Run("per session", func(t *testing.T) {
		s := newServer(t, env("SOCKETS_PER_SESSION", "2"))
		b := s.browser()
		b.login("alpha", "ada")
		first := b.socket(appOrigin)
		first.greeting("loggedIn", "token")
		b.socket(appOrigin).greeting("loggedIn", "token")
		if got := b.socket(appOrigin).expectClosed(); got != websocket.StatusTryAgainLater {
			t.Errorf("the third is closed with %d, want %d", got, websocket.StatusTryAgainLater)
		}
		first.expectNothing()
	})
	t.Run("per address", func(t *testing.T) {
		s := newServer(t, env("SOCKETS_PER_ADDRESS", "1"))
		s.browser().socket("").greeting("loggedOut")
		if got := s.browser().socket("").expectClosed(); got != websocket.StatusTryAgainLater {
			t.Errorf("the second is closed with %d, want %d", got, websocket.StatusTryAgainLater)
		}
	})
	t.Run("idle", func(t *testing.T) {
		s := newServer(t, env("SOCKET_IDLE_SECONDS", "60"))
		c := s.browser().socket("")
		c.greeting("loggedOut")
		s.clock.Advance(2 * time.Minute)
		if got := c.expectClosed(); got != websocket.StatusPolicyViolation {
			t.Errorf("closed with %d, want %d", got, websocket.StatusPolicyViolation)
		}
	})
	t.Run("when the server stops", func(t *testing.T) {
		s := newServer(t)
		b := s.browser()
		b.login("alpha", "ada")
		c := b.socket(appOrigin)
		c.greeting("loggedIn", "token")
		s.start()
		if got := c.expectClosed(); got != websocket.StatusGoingAway {
			t.Errorf("closed with %d, want %d", got, websocket.StatusGoingAway)
		}
		b.socket(appOrigin).greeting("loggedIn", "token")
	})
}

// Over IPv6 a browser changes its address within a network; its sockets hear of the
// sign-in all the same. From another network the same anonymous cookie is a copy.
func TestSocketsOfOneNetwork(t *testing.T) {
	s := newServer(t, env("TRUSTED_PROXIES", "127.0.0.1"))
	b := s.browser()
	from := func(b *browser, address string) { b.header.Set("X-Forwarded-For", address) }
	from(b, "2001:db8:1:2::1")
	b.open("login")
	c := b.socket(appOrigin)
	c.expect("open", "about", "providers", "authenticated", "loggedOut")
	thief := b.copyOf()
	from(thief, "2001:db8:9:9::1")
	stolen := thief.socket(appOrigin)
	stolen.expect("open", "about", "providers", "authenticated", "loggedOut")

	from(b, "2001:db8:1:2:ffff::7")
	b.login("alpha", "ada")
	c.expect("loggedIn", "token")
	for {
		e, err := stolen.read()
		if err != nil {
			break
		}
		t.Errorf("a socket with a copy of the anonymous cookie is sent %s", e.raw)
	}
}
