package web_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

// Clients of the OpenID Provider hear events: by an access token or a ticket, without any
// cookie, as a WebSocket or as Server-Sent Events.

const (
	spaOrigin   = "https://spa.example.org"
	otherOrigin = "https://other.example.org"
)

const eventApplications = `[
	{"url": "https://spa.example.org/", "name": "Spa", "client_id": "spa", "token_endpoint_auth_method": "none",
		"redirect_uris": ["https://spa.example.org/cb"], "origins": ["https://spa.example.org"], "trusted": true},
	{"url": "https://other.example.org/", "name": "Other", "client_id": "other", "token_endpoint_auth_method": "none", "access_token_format": "opaque",
		"redirect_uris": ["https://other.example.org/cb"], "origins": ["https://other.example.org"], "trusted": true}]`

type oauthTokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// clientTokens takes a browser through the code flow of a public client.
func (b *browser) clientTokens(client, scope string, proof ...string) oauthTokens {
	t := b.server.t
	t.Helper()
	callback := "https://" + client + ".example.org/cb"
	to := b.open("oauth/authorize?" + url.Values{"client_id": {client}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {scope},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}.Encode()).want(302).location()
	u, err := url.Parse(to)
	if err != nil || u.Query().Get("code") == "" {
		t.Fatalf("sent to %s", to)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")}, "redirect_uri": {callback}, "client_id": {client},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}}
	h := headers("Content-Type", "application/x-www-form-urlencoded")
	if len(proof) > 0 {
		h.Set("DPoP", proof[0])
	}
	var tokens oauthTokens
	b.server.browser().send("POST", "oauth/token", h, form.Encode()).want(200).json(&tokens)
	return tokens
}

// clientEvent is an event as a client sees it.
type clientEvent struct {
	id, kind string
	Data     struct {
		User      map[string]any
		SID       string
		Token     string
		ExpiresIn int
	}
	raw string
}

func (e *clientEvent) parse(t *testing.T) {
	t.Helper()
	var m struct {
		Type string
		Data json.RawMessage
	}
	if err := json.Unmarshal([]byte(e.raw), &m); err != nil || e.kind != "" && m.Type != e.kind {
		t.Fatalf("event %q: %s", e.kind, e.raw)
	}
	e.kind = m.Type
	if err := json.Unmarshal(m.Data, &e.Data); err != nil {
		t.Fatalf("event %s: %v", e.raw, err)
	}
}

// clientSocket opens a WebSocket from a page of an origin, and reads the greeting.
func (s *server) clientSocket(origin, query string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	conn, _, err := websocket.Dial(ctx, strings.Replace(s.base, "http", "ws", 1)+query, &websocket.DialOptions{HTTPClient: &http.Client{Transport: s.transport}, HTTPHeader: h})
	if err == nil {
		conn.SetReadLimit(1 << 20)
		s.t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, err
}

// authenticated opens a WebSocket with an access token.
func (s *server) authenticated(origin, message string) *socket {
	s.t.Helper()
	conn, err := s.clientSocket(origin, "")
	if err != nil {
		s.t.Fatal(err)
	}
	c := &socket{server: s, conn: conn}
	c.expect("open", "about", "providers", "loggedOut")
	c.send(message)
	return c
}

func authenticate(token string) string {
	return fmt.Sprintf(`{"type": "authenticate", "token": %q}`, token)
}

func (e event) client(t *testing.T) clientEvent {
	t.Helper()
	c := clientEvent{raw: e.raw}
	c.parse(t)
	return c
}

// stream is a response of GET /events.
type stream struct {
	server *server
	body   *bufio.Reader
	end    context.CancelFunc
	last   string // id
}

// listen opens a stream.
func (s *server) listen(path string, h http.Header) (*stream, *http.Response) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", s.base+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header = h
	response, err := s.transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	if response.StatusCode != 200 {
		return nil, response
	}
	return &stream{server: s, body: bufio.NewReader(response.Body), end: cancel}, response
}

func (s *server) mustListen(path string, pairs ...string) *stream {
	s.t.Helper()
	c, response := s.listen(path, headers(pairs...))
	if c == nil {
		body, _ := io.ReadAll(response.Body)
		s.t.Fatalf("GET %s: %d %s", path, response.StatusCode, body)
	}
	return c
}

var errNoEvent = errors.New("no event in time")

// next reads an event; comments and retry are skipped, and counted in noise.
func (c *stream) next() (clientEvent, error) {
	c.server.t.Helper()
	timer := time.AfterFunc(patience, c.end)
	var e clientEvent
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			if !timer.Stop() {
				err = errNoEvent
			}
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.raw = value
		case "":
			if e.raw != "" {
				timer.Stop()
				c.last = e.id
				e.parse(c.server.t)
				return e, nil
			}
		}
	}
}

func (c *stream) expect(types ...string) clientEvent {
	c.server.t.Helper()
	var e clientEvent
	for _, want := range types {
		var err error
		if e, err = c.next(); err != nil {
			c.server.t.Fatalf("waiting for %s: %v", want, err)
		}
		if e.kind != want || e.id == "" {
			c.server.t.Fatalf("got %s, want %s: %s", e.kind, want, e.raw)
		}
	}
	return e
}

func (c *stream) expectEnd() {
	c.server.t.Helper()
	for {
		if e, err := c.next(); errors.Is(err, errNoEvent) {
			c.server.t.Fatal("the stream goes on")
		} else if err != nil {
			return
		} else if e.kind != "loggedOut" {
			c.server.t.Fatalf("before the end: %s", e.raw)
		}
	}
}

func bearer(token string) string { return "Bearer " + token }

// payload is what a JWT says, whose signature is not looked at.
func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", token)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func (b *browser) rename(name string) {
	b.server.t.Helper()
	b.fetch(appOrigin, "PATCH", "users/"+b.user().ID, `{"name": "`+name+`"}`).want(200)
}

const eventScope = "openid profile session_events"

func TestClientSocket(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	older := b.socket(appOrigin)
	older.greeting("loggedIn", "token")
	granted := b.clientTokens("spa", eventScope)

	c := s.authenticated(spaOrigin, authenticate(granted.AccessToken))
	c.expect("authenticated")
	e := c.expect("loggedIn").client(t)
	claims := payload(t, granted.AccessToken)
	if e.Data.User["sub"] != claims["sub"] || e.Data.User["name"] != "Ada" || e.Data.User["identities"] != nil || e.Data.SID != claims["sid"] || e.Data.SID == "" {
		t.Errorf("loggedIn is %s", e.raw)
	}
	next := c.expect("token").client(t)
	renewed := payload(t, next.Data.Token)
	for _, name := range []string{"iss", "sub", "aud", "client_id", "scope", "sid", "auth_time"} {
		if fmt.Sprint(renewed[name]) != fmt.Sprint(claims[name]) {
			t.Errorf("%s of the token is %v, want %v", name, renewed[name], claims[name])
		}
	}
	if next.Data.Token == granted.AccessToken || renewed["jti"] == claims["jti"] || next.Data.ExpiresIn != int(s.cfg.AccessTokenLife/time.Second) {
		t.Errorf("token is %s", next.raw)
	}
	// It is good where the first one is.
	s.browser().send("GET", "oauth/userinfo", headers("Authorization", bearer(next.Data.Token)), "").want(200, "Ada")

	second := s.authenticated(spaOrigin, authenticate(next.Data.Token))
	second.expect("authenticated", "loggedIn")
	if again := second.expect("token").client(t); again.Data.Token != next.Data.Token {
		t.Error("two sockets of a client in a session have different tokens")
	}

	b.rename("Ada King")
	older.expect("updated")
	for _, x := range []*socket{c, second} {
		if e := x.expect("updated").client(t); e.Data.User["name"] != "Ada King" {
			t.Errorf("updated is %s", e.raw)
		}
	}
	c.send(`{"type": "token"}`)
	if asked := c.expect("token").client(t); payload(t, asked.Data.Token)["client_id"] != "spa" {
		t.Errorf("the token asked for is %s", asked.raw)
	}
	// The token that it came with expires; the socket goes on, with the next one.
	s.clock.Advance(s.cfg.AccessTokenLife - 3*time.Second)
	if e := c.expect("token").client(t); payload(t, e.Data.Token)["jti"] == renewed["jti"] {
		t.Error("the token was not renewed")
	}
	second.expect("token")
	s.clock.Advance(time.Minute)
	c.expectNothing()

	b.submit("logout").leadsTo("/login")
	for _, x := range []*socket{c, second} {
		x.expect("loggedOut")
		if code := x.expectClosed(); code != websocket.StatusPolicyViolation {
			t.Errorf("closed with %d", code)
		}
	}
	// Who signs in next in this browser has let the client in to nothing.
	b.login("alpha", "ben")
	refused := s.authenticated(spaOrigin, authenticate(next.Data.Token))
	refused.expect("error")
}

// The cookie of a browser says nothing to a page of a client.
func TestClientSocketIgnoresTheCookie(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	c, _, err := b.dial(spaOrigin)
	if err != nil {
		t.Fatal(err)
	}
	c.greeting("loggedOut")
	c.expectNothing()
	if _, response := s.listen("events", http.Header{"Origin": {spaOrigin}, "Cookie": {cookieLine(b)}}); response.StatusCode != 401 {
		t.Errorf("a stream by cookie from a page of a client: %d", response.StatusCode)
	}
	for _, site := range []string{"cross-site", "same-site"} { // a picture
		if _, response := s.listen("events", http.Header{"Sec-Fetch-Site": {site}, "Cookie": {cookieLine(b)}}); response.StatusCode != 403 {
			t.Errorf("a stream by cookie as a picture: %d", response.StatusCode)
		}
	}
	if _, response := s.listen("events", http.Header{"Origin": {evilOrigin}, "Cookie": {cookieLine(b)}}); response.StatusCode != 403 {
		t.Errorf("a stream by cookie from elsewhere: %d", response.StatusCode)
	}
}

func cookieLine(b *browser) string {
	var parts []string
	for _, c := range b.cookies() {
		parts = append(parts, c.Name+"="+c.Value)
	}
	return strings.Join(parts, "; ")
}

// Rule 28: access tokens are revocable for events.
func TestClientAccessRefused(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	good := b.clientTokens("spa", eventScope).AccessToken
	revoked := b.clientTokens("spa", eventScope).AccessToken
	post := headers("Content-Type", "application/x-www-form-urlencoded")
	s.browser().send("POST", "oauth/revoke", post, url.Values{"client_id": {"spa"}, "token": {revoked}}.Encode()).want(200)
	expired := b.clientTokens("spa", eventScope).AccessToken
	phone := s.browser()
	phone.login("alpha", "ada")
	gone := phone.clientTokens("spa", eventScope).AccessToken
	phone.submit("logout")
	for name, tc := range map[string]struct {
		origin, token string
		status        int
	}{
		"without the scope":    {spaOrigin, b.clientTokens("spa", "openid profile").AccessToken, 403},
		"of another client":    {otherOrigin, good, 401},
		"opaque, of another":   {spaOrigin, b.clientTokens("other", eventScope).AccessToken, 401},
		"at an allowed origin": {appOrigin, good, 401},
		"revoked":              {spaOrigin, revoked, 401},
		"of an ended session":  {spaOrigin, gone, 401},
		"tampered with":        {spaOrigin, good[:len(good)-6] + "AAAAAA", 401},
		"without a signature":  {spaOrigin, "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + strings.Split(good, ".")[1] + ".", 401},
		"nothing":              {spaOrigin, "x", 401},
		"of 20 kB":             {"", strings.Repeat("x", 20_000), 401},
	} {
		s.run(name, func(*testing.T) { s.refuses(tc.origin, tc.token, tc.status) })
	}
	s.run("expired", func(*testing.T) {
		s.clock.Advance(s.cfg.AccessTokenLife)
		s.refuses(spaOrigin, expired, 401)
	})
	s.run("from an unregistered origin", func(t *testing.T) {
		if _, err := s.clientSocket(evilOrigin, ""); err == nil {
			t.Error("a page of nobody has opened a socket")
		}
		fresh := b.clientTokens("spa", eventScope).AccessToken
		for _, a := range []answer{
			s.browser().send("POST", "events/ticket", headers("Origin", evilOrigin, "Authorization", bearer(fresh)), ""),
			s.browser().send("GET", "events", headers("Origin", evilOrigin, "Authorization", bearer(fresh)), ""),
		} {
			a.want(403)
		}
	})
}

// refuses makes sure that a token opens nothing: no socket, no stream, no ticket.
func (s *server) refuses(origin, token string, status int) {
	s.t.Helper()
	if len(token) < 10_000 { // which the socket does not even read
		c := s.authenticated(origin, authenticate(token))
		c.expect("error")
		c.expectNothing()
	}
	h := headers("Authorization", bearer(token))
	if origin != "" {
		h.Set("Origin", origin)
	}
	for _, a := range []answer{s.browser().send("POST", "events/ticket", h, ""), s.browser().send("GET", "events", h, "")} {
		a.want(status)
		if a.header.Get("WWW-Authenticate") == "" {
			s.t.Error("no WWW-Authenticate")
		}
	}
}

func (s *server) ticket(origin, token string) string {
	s.t.Helper()
	var answer struct {
		Ticket    string
		ExpiresIn int `json:"expires_in"`
	}
	s.browser().send("POST", "events/ticket", headers("Origin", origin, "Authorization", bearer(token), "Sec-Fetch-Site", "cross-site"), "").want(200).json(&answer)
	if answer.ExpiresIn != 30 || answer.Ticket == "" {
		s.t.Fatalf("got %+v", answer)
	}
	return answer.Ticket
}

func TestEventTicket(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	token := b.clientTokens("spa", eventScope).AccessToken
	status := func(ticket, origin string) int {
		t.Helper()
		_, response := s.listen("events?ticket="+url.QueryEscape(ticket), headers("Origin", origin))
		return response.StatusCode
	}

	conn, err := s.clientSocket(spaOrigin, "?ticket="+s.ticket(spaOrigin, token))
	if err != nil {
		t.Fatal(err)
	}
	(&socket{server: s, conn: conn}).expect("open", "about", "providers", "authenticated", "loggedIn", "token")

	s.run("once", func(t *testing.T) {
		ticket := s.ticket(spaOrigin, token)
		s.mustListen("events?ticket="+ticket, "Origin", spaOrigin).expect("open", "about", "providers", "authenticated", "loggedIn", "token")
		if got := status(ticket, spaOrigin); got != 401 {
			t.Errorf("the second time: %d", got)
		}
		if _, err := s.clientSocket(spaOrigin, "?ticket="+ticket); err == nil {
			t.Error("a spent ticket has opened a socket")
		}
	})
	s.run("twice at once", func(t *testing.T) {
		ticket := s.ticket(spaOrigin, token)
		var mu sync.Mutex
		var wg sync.WaitGroup
		opened := 0
		for range 8 {
			wg.Go(func() {
				if got := status(ticket, spaOrigin); got == 200 {
					mu.Lock()
					defer mu.Unlock()
					opened++
				} else if got != 401 {
					t.Errorf("got %d", got)
				}
			})
		}
		wg.Wait()
		if opened != 1 {
			t.Errorf("%d streams were opened, want 1", opened)
		}
	})
	s.run("thirty seconds", func(t *testing.T) {
		ticket, late := s.ticket(spaOrigin, token), s.ticket(spaOrigin, token)
		// Thirty, and as much again for clocks of nodes that are apart.
		s.clock.Advance(59 * time.Second)
		if got := status(ticket, spaOrigin); got != 200 {
			t.Errorf("after 59 s: %d", got)
		}
		s.clock.Advance(time.Second)
		if got := status(late, spaOrigin); got != 401 {
			t.Errorf("after 60 s: %d", got)
		}
	})
	s.run("of another client", func(t *testing.T) {
		ticket := s.ticket(spaOrigin, token)
		if got := status(ticket, otherOrigin); got != 401 {
			t.Errorf("at a page of another client: %d", got)
		}
		if got := status(ticket, evilOrigin); got != 403 {
			t.Errorf("at a page of nobody: %d", got)
		}
		if got := status(ticket, spaOrigin); got != 200 {
			t.Errorf("who may not use it has used it up: %d", got)
		}
	})
	s.run("after the grant has ended", func(t *testing.T) {
		granted := b.clientTokens("spa", eventScope)
		ticket := s.ticket(spaOrigin, granted.AccessToken)
		s.revoke("spa", granted.RefreshToken)
		if got := status(ticket, spaOrigin); got != 401 {
			t.Errorf("got %d", got)
		}
	})
	s.run("no ticket of a session", func(t *testing.T) {
		var a tokenAnswer
		b.fetch(appOrigin, "GET", "token", "").want(200).json(&a)
		if got := status(payload(t, a.Token)["sessionID"].(string), spaOrigin); got != 401 {
			t.Errorf("got %d", got)
		}
	})
}

func (s *server) revoke(client, token string) {
	s.t.Helper()
	s.browser().send("POST", "oauth/revoke", headers("Content-Type", "application/x-www-form-urlencoded"),
		url.Values{"client_id": {client}, "token": {token}}.Encode()).want(200)
}

func TestEventStream(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	token := b.clientTokens("spa", eventScope).AccessToken
	greeting := []string{"open", "about", "providers", "authenticated", "loggedIn", "token"}

	c, response := s.listen("events", headers("Authorization", bearer(token), "Origin", spaOrigin))
	if c == nil {
		t.Fatalf("got %d", response.StatusCode)
	}
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
		"Access-Control-Allow-Origin": spaOrigin, "Access-Control-Allow-Credentials": ""} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if first := c.expect(greeting...); payload(t, first.Data.Token)["client_id"] != "spa" {
		t.Errorf("token is %s", first.raw)
	}
	// The cookie opens what it opens for sockets: the user and the older token.
	own := s.mustListen("events", "Origin", appOrigin, "Cookie", cookieLine(b))
	if e := own.expect(greeting...); payload(t, e.Data.Token)["user"] == nil {
		t.Errorf("token is %s", e.raw)
	}
	s.clock.Advance(26 * time.Second)
	line, err := c.body.ReadString('\n')
	if err != nil || line != ": ping\n" {
		t.Errorf("after 26 s comes %q, %v", line, err)
	}
	b.rename("Ada King")
	if e := c.expect("updated"); e.Data.User["name"] != "Ada King" {
		t.Errorf("updated is %s", e.raw)
	}
	own.expect("updated")
	b.submit("logout")
	c.expect("loggedOut")
	c.expectEnd()
	own.expect("loggedOut")
	b.login("alpha", "ben")
	if e := own.expect("loggedIn"); e.Data.User["name"] != "Ben" {
		t.Errorf("loggedIn is %s", e.raw)
	}
	own.expect("token")

	// When the server stops, streams end.
	s.running.Load().Drain()
	own.expectEnd()
}

// A client that comes back is told what differs from what it was shown.
func TestEventStreamResumes(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	greeting := []string{"open", "about", "providers", "authenticated", "loggedIn", "token"}
	var ticket string
	for _, name := range []string{"by token", "by ticket", "by cookie"} {
		s.run(name, func(t *testing.T) {
			token := b.clientTokens("spa", eventScope).AccessToken
			ticket = s.ticket(spaOrigin, token)
			open := map[string][]string{
				"by token":  {"events", "Authorization", bearer(token)},
				"by cookie": {"events", "Cookie", cookieLine(b)},
				"by ticket": {"events?ticket=" + ticket, "Origin", spaOrigin},
			}[name]
			back := func(id string) *stream {
				t.Helper()
				return s.mustListen(open[0], append(slices.Clone(open[1:]), "Last-Event-ID", id)...)
			}
			c := s.mustListen(open[0], open[1:]...)
			first := c.expect(greeting...)
			c.end()
			s.waitForStreams(0)

			// Nothing has changed: the next to hear is what changes next.
			c = back(first.id)
			b.rename("Ada King")
			updated := c.expect("updated")
			c.end()
			s.waitForStreams(0)

			// Changed meanwhile, and once more back to before.
			b.rename("Ada")
			c = back(updated.id)
			if e := c.expect("updated"); e.Data.User["name"] != "Ada" {
				t.Errorf("updated is %s", e.raw)
			}
			c.end()
			s.waitForStreams(0)
			c = back(first.id)
			b.rename("Ada L.")
			if e := c.expect("updated"); e.Data.User["name"] != "Ada L." {
				t.Errorf("updated is %s", e.raw)
			}
			b.rename("Ada")
			last := c.expect("updated")

			// The token that it holds is followed by the next in time, though none was sent
			// on this connection.
			left := time.Duration(first.Data.ExpiresIn)*time.Second - 4*time.Second
			c.end()
			s.waitForStreams(0)
			if name != "by token" {
				c = back(last.id)
				for _, name := range []string{"Ada C.", "Ada D."} { // at the second the first look is over
					b.rename(name)
					c.expect("updated")
				}
				s.clock.Advance(left)
				b.rename("Ada B.")
				c.expect("updated")
				s.clock.Advance(time.Second)
				c.expect("token")
				b.rename("Ada")
				c.expect("updated")
			}
			c.end()
			s.waitForStreams(0)
		})
	}
	s.run("an id that was forged, or of another session", func(t *testing.T) {
		granted := b.clientTokens("spa", eventScope).AccessToken
		c := s.mustListen("events", "Authorization", bearer(granted))
		id := c.expect(greeting...).id
		phone := s.browser()
		phone.login("alpha", "ben")
		foreign := phone.clientTokens("spa", eventScope).AccessToken
		s.mustListen("events", "Authorization", bearer(foreign), "Last-Event-ID", id).expect(greeting...)
		for _, forged := range []string{"x", id[:len(id)-4] + "AAAA", strings.Repeat("A", 9000), id + id, base64.RawURLEncoding.EncodeToString([]byte(`{"o":true}`))} {
			s.mustListen("events", "Authorization", bearer(granted), "Last-Event-ID", forged).expect(greeting...)
		}
		// It opens nothing by itself, nor together with another's ticket.
		for _, path := range []string{"events", "events?ticket=x", "events?ticket=" + ticket + "x"} {
			if _, response := s.listen(path, headers("Last-Event-ID", id)); response.StatusCode != 401 {
				t.Errorf("%s by an id alone: %d", path, response.StatusCode)
			}
		}
	})
	s.run("a spent ticket with its id, at another's page or after an hour", func(t *testing.T) {
		ticket := s.ticket(spaOrigin, b.clientTokens("spa", eventScope).AccessToken)
		c := s.mustListen("events?ticket="+ticket, "Origin", spaOrigin)
		id := c.expect(greeting...).id
		c.end()
		s.waitForStreams(0)
		if _, response := s.listen("events?ticket="+ticket, headers("Origin", otherOrigin, "Last-Event-ID", id)); response.StatusCode != 401 {
			t.Errorf("at another's page: %d", response.StatusCode)
		}
		s.clock.Advance(time.Hour)
		if _, response := s.listen("events?ticket="+ticket, headers("Origin", spaOrigin, "Last-Event-ID", id)); response.StatusCode != 401 {
			t.Errorf("after an hour: %d", response.StatusCode)
		}
	})
}

// waitForStreams waits until the server has as many sockets and streams.
func (s *server) waitForStreams(n int) {
	s.t.Helper()
	for end := time.Now().Add(patience); s.running.Load().Hub().Stats().Sockets != n; {
		if time.Now().After(end) {
			s.t.Fatalf("%d sockets, want %d", s.running.Load().Hub().Stats().Sockets, n)
		}
		time.Sleep(time.Millisecond) // for the server's end of a connection
	}
}

// What ends the access of a client ends its sockets and streams at once.
func TestClientAccessEnds(t *testing.T) {
	for name, end := range map[string]func(s *server, b *browser, granted oauthTokens){
		"the refresh token is revoked": func(s *server, _ *browser, g oauthTokens) { s.revoke("spa", g.RefreshToken) },
		"the access token is revoked":  func(s *server, _ *browser, g oauthTokens) { s.revoke("spa", g.AccessToken) },
		"signing out":                  func(_ *server, b *browser, _ oauthTokens) { b.submit("logout") },
		"removed from elsewhere": func(s *server, b *browser, _ oauthTokens) {
			phone := s.browser()
			phone.login("alpha", "ada")
			phone.fetch(appOrigin, "DELETE", "sessions", "").want(204)
		},
		"the account is deleted": func(_ *server, b *browser, _ oauthTokens) { b.submit("delete") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, applications(eventApplications))
			b := s.browser()
			b.login("alpha", "ada")
			granted := b.clientTokens("spa", eventScope)
			other := s.authenticated(otherOrigin, authenticate(b.clientTokens("other", eventScope).AccessToken))
			other.expect("authenticated", "loggedIn")
			if e := other.expect("token").client(t); strings.Count(e.Data.Token, ".") != 1 {
				t.Errorf("the client of opaque tokens is sent %s", e.raw)
			}
			c := s.authenticated(spaOrigin, authenticate(granted.AccessToken))
			c.expect("authenticated", "loggedIn", "token")
			e := s.mustListen("events", "Authorization", bearer(granted.AccessToken))
			e.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
			end(s, b, granted)
			c.expect("loggedOut")
			c.expectClosed()
			e.expect("loggedOut")
			e.expectEnd()
			if strings.Contains(name, "revoked") {
				other.expectNothing()
			} else {
				other.expect("loggedOut")
				other.expectClosed()
			}
		})
	}
}

func TestEventStreamLimits(t *testing.T) {
	t.Run("per session", func(t *testing.T) {
		s := newServer(t, applications(eventApplications), env("SOCKETS_PER_SESSION", "2"))
		b := s.browser()
		b.login("alpha", "ada")
		token := b.clientTokens("spa", eventScope).AccessToken
		c := s.authenticated(spaOrigin, authenticate(token))
		c.expect("authenticated", "loggedIn", "token")
		s.mustListen("events", "Authorization", bearer(token)).expect("open")
		for _, h := range []http.Header{headers("Authorization", bearer(token)), headers("Cookie", cookieLine(b))} {
			if _, response := s.listen("events", h); response.StatusCode != 429 || response.Header.Get("Retry-After") == "" {
				t.Errorf("the third: %d", response.StatusCode)
			}
		}
		d := s.authenticated(spaOrigin, authenticate(token))
		d.expect("error")
	})
	t.Run("per address", func(t *testing.T) {
		s := newServer(t, applications(eventApplications), env("SOCKETS_PER_ADDRESS", "3"), env("SOCKETS_PER_SESSION", "100"))
		b := s.browser()
		b.login("alpha", "ada")
		token := b.clientTokens("spa", eventScope).AccessToken
		for range 3 {
			s.mustListen("events", "Authorization", bearer(token)).expect("open")
		}
		for range 50 {
			if _, response := s.listen("events", headers("Authorization", bearer(token))); response.StatusCode != 429 {
				t.Fatalf("got %d", response.StatusCode)
			}
		}
		s.waitForStreams(3)
	})
}

// A stream outlives the deadlines of the server, also over HTTP/2.
func TestEventStreamOutlivesDeadlines(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	token := b.clientTokens("spa", eventScope).AccessToken
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			server := httptest.NewUnstartedServer(s.running.Load())
			// Gone before the first event is written.
			server.Config.ReadTimeout, server.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", bearer(token))
			response, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.Proto != protocol || response.StatusCode != 200 {
				t.Fatalf("%s %s", response.Proto, response.Status)
			}
			c := &stream{server: s, body: bufio.NewReader(response.Body), end: cancel}
			c.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
			timer := time.NewTimer(150 * time.Millisecond) // the deadlines are of the network, not of our clock
			<-timer.C
			b.rename("Ada over " + protocol)
			c.expect("updated")
		})
	}
}

// prover signs DPoP proofs (RFC 9449).
type prover struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	s   *server
}

func (p prover) proof(method, htu, token string) string {
	p.t.Helper()
	coordinate := func(n []byte) string { return base64.RawURLEncoding.EncodeToString(n) }
	point, err := p.key.PublicKey.Bytes()
	if err != nil {
		p.t.Fatal(err)
	}
	claims := jwt.MapClaims{"jti": rand.Text(), "htm": method, "htu": htu, "iat": p.s.clock.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	j := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	j.Header["typ"] = "dpop+jwt"
	j.Header["jwk"] = map[string]string{"kty": "EC", "crv": "P-256", "x": coordinate(point[1:33]), "y": coordinate(point[33:])}
	signed, err := j.SignedString(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return signed
}

// Rule 43: a bound token needs a proof here too, and is followed by bound ones.
func TestBoundTokensOfSockets(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	b := s.browser()
	b.login("alpha", "ada")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := prover{t, key, s}
	token := b.clientTokens("spa", eventScope, p.proof("POST", s.base+"oauth/token", "")).AccessToken
	message := func(proof string) string {
		return fmt.Sprintf(`{"type": "authenticate", "token": %q, "dpop": %q}`, token, proof)
	}
	used := p.proof("GET", s.base, token)
	c := s.authenticated(spaOrigin, message(used))
	c.expect("authenticated", "loggedIn")
	next := c.expect("token").client(t).Data.Token
	if fmt.Sprint(payload(t, next)["cnf"]) != fmt.Sprint(payload(t, token)["cnf"]) || payload(t, next)["cnf"] == nil {
		t.Errorf("the next token is bound to %v", payload(t, next)["cnf"])
	}
	thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, proof := range map[string]string{
		"none": "", "used before": used, "of another key": prover{t, thief, s}.proof("GET", s.base, token),
		"for another address": p.proof("GET", s.base+"events", token), "for another method": p.proof("POST", s.base, token),
		"for another token": p.proof("GET", s.base, next), "for no token": p.proof("GET", s.base, ""),
	} {
		s.run("proof: "+name, func(*testing.T) {
			c := s.authenticated(spaOrigin, message(proof))
			c.expect("error")
			c.expectNothing()
		})
	}
	// A ticket needs the proof, and then none.
	h := headers("Origin", spaOrigin, "Authorization", "DPoP "+token)
	s.browser().send("POST", "events/ticket", h, "").want(401)
	h.Set("DPoP", p.proof("POST", s.base+"events/ticket", token))
	s.browser().send("POST", "events/ticket", h, "").want(200, "ticket")
	s.browser().send("POST", "events/ticket", headers("Authorization", bearer(token)), "").want(401)
	s.mustListen("events", "Authorization", "DPoP "+token, "DPoP", p.proof("GET", s.base+"events", token)).expect("open")
}

// Who floods a socket of a client is dropped, however much is sent.
func TestClientSocketFlood(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	conn, err := s.clientSocket(spaOrigin, "")
	if err != nil {
		t.Fatal(err)
	}
	c := &socket{server: s, conn: conn}
	c.expect("open")
	message := []byte(authenticate(strings.Repeat("x", 10_000)))
	for range 1000 { // 10 MB
		if err := conn.Write(t.Context(), websocket.MessageText, message); err != nil {
			break
		}
	}
	for {
		e, err := c.read()
		if err != nil {
			break
		}
		if e.Type != "error" && e.Type != "about" && e.Type != "providers" && e.Type != "loggedOut" {
			t.Fatalf("got %s", e.raw)
		}
	}
	s.waitForStreams(0)
}

// CORS per endpoint.
func TestClientCORS(t *testing.T) {
	s := newServer(t, applications(eventApplications))
	const credentials = "with credentials"
	for _, tc := range []struct{ method, path, client, allowed string }{
		{"GET", ".well-known/openid-configuration", "yes", "yes"},
		{"GET", ".well-known/oauth-authorization-server", "yes", "yes"},
		{"GET", ".well-known/jwks.json", "yes", credentials},
		{"POST", "oauth/token", "yes", "yes"},
		{"POST", "oauth/token/", "yes", "yes"},
		{"GET", "oauth/userinfo", "yes", "yes"},
		{"POST", "oauth/userinfo", "yes", "yes"},
		{"POST", "oauth/revoke", "yes", "yes"},
		{"POST", "oauth/par", "yes", "yes"},
		{"POST", "oauth/device_authorization", "yes", "yes"},
		{"POST", "events/ticket", "yes", "yes"},
		{"GET", "events", "yes", credentials},
		{"POST", "oauth/introspect", "", ""},
		{"GET", "oauth/authorize", "", ""},
		{"POST", "oauth/authorize", "", ""},
		{"GET", "oauth/continue", "", ""},
		{"POST", "oauth/continue", "", ""},
		{"GET", "oauth/logout", "", ""},
		{"POST", "oauth/logout", "", ""},
		{"GET", "oauth/check_session", "", ""},
		{"POST", "oauth/register", "", ""},
		{"GET", "token", "", credentials},
		{"GET", "currentUser", "", credentials},
		{"GET", "login", "", credentials},
		{"GET", "about", "", credentials},
	} {
		s.run(tc.method+" "+tc.path, func(t *testing.T) {
			for origin, want := range map[string]string{spaOrigin: tc.client, appOrigin: tc.allowed, evilOrigin: "", "null": "", spaOrigin + ".evil.com": "", "https://SPA.example.org": ""} {
				a := s.browser().send(tc.method, tc.path, headers("Origin", origin, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"), "")
				asked := "authorization,content-type"
				if tc.client != "" && origin != appOrigin {
					asked += ",dpop"
				}
				pre := s.browser().send("OPTIONS", tc.path, headers("Origin", origin, "Access-Control-Request-Method", tc.method,
					"Access-Control-Request-Headers", asked), "")
				for kind, answer := range map[string]answer{"answer": a, "pre-flight": pre} {
					got := ""
					if answer.header.Get("Access-Control-Allow-Origin") == origin {
						got = "yes"
					}
					if answer.header.Get("Access-Control-Allow-Credentials") != "" {
						got = credentials
					}
					if got != want {
						t.Errorf("%s from %s: %q, want %q", kind, origin, got, want)
					}
					if answer.header.Get("Access-Control-Allow-Origin") == "*" {
						t.Errorf("%s from %s: *", kind, origin)
					}
				}
				if want == "yes" {
					variesByOrigin(t, a)
					pre.want(204)
					if h := pre.header.Get("Access-Control-Allow-Headers"); !strings.Contains(h, "Authorization") || !strings.Contains(h, "DPoP") || !strings.Contains(h, "Content-Type") {
						t.Errorf("headers are %q", h)
					}
					if m := pre.header.Get("Access-Control-Allow-Methods"); !strings.Contains(m, tc.method) {
						t.Errorf("methods are %q", m)
					}
					if h := a.header.Get("Access-Control-Expose-Headers"); h != "DPoP-Nonce, WWW-Authenticate" {
						t.Errorf("exposed are %q", h)
					}
				}
			}
		})
	}
}
