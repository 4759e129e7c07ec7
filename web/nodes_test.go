package web_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"login-server/events"
	"login-server/oidc"
	"login-server/session"
)

// Two nodes on one store, without sticky sessions: each request may go to another one. The
// bus between them is as good as Redis, is cut, or loses what it is given. With it a node
// follows the other at once, without it within five seconds, and nobody is ever turned
// down because a node does not know yet what the other has done.

// network is the bus between nodes.
type network struct {
	mu      sync.Mutex
	members []*member
}

// member is the bus of one node, as events.RedisBus behaves.
type member struct {
	events.LocalBus
	net *network
	// cut: the node knows that it hears nobody, and nobody hears it. deaf: it does not know.
	cut, deaf atomic.Bool
	unsaid    atomic.Bool // it had something to say meanwhile
}

func (n *network) join() *member {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &member{net: n}
	n.members = append(n.members, m)
	return m
}

func (m *member) Publish(h events.Hint) {
	m.LocalBus.Publish(h)
	switch {
	case m.cut.Load():
		m.unsaid.Store(true)
	case !m.deaf.Load():
		m.tell(h)
	}
}

func (m *member) tell(h events.Hint) {
	m.net.mu.Lock()
	members := slices.Clone(m.net.members)
	m.net.mu.Unlock()
	for _, other := range members {
		if other != m && !other.cut.Load() && !other.deaf.Load() {
			other.LocalBus.Publish(h)
		}
	}
}

// heard is Heard of the node.
func (m *member) heard() bool { return !m.cut.Load() }

// rejoin ends a cut.
func (m *member) rejoin() {
	m.cut.Store(false)
	m.LocalBus.Publish(events.Hint{Everything: true})
	if m.unsaid.Swap(false) {
		m.tell(events.Hint{Everything: true})
	}
}

func (n *network) each(f func(*member)) {
	for _, m := range n.members {
		f(m)
	}
}

// on makes a server a node.
func (n *network) on() option {
	m := n.join()
	return func(o *options) { o.bus, o.heard = m, m.heard }
}

// nodes starts two of them.
func nodes(t *testing.T, opts ...option) (a, b *server, net *network) {
	t.Helper()
	net = &network{}
	a = newServer(t, append(opts, net.on())...)
	return a, a.node(net), net
}

// node starts another server on the store, and with the settings, of this one.
func (s *server) node(net *network) *server {
	s.t.Helper()
	b := &server{t: s.t, base: s.base, installation: s.installation, cfg: s.cfg, clock: s.clock, log: &logBuffer{out: s.t.Output()}, options: s.options, environ: s.environ}
	b.store = &unreliable{Engine: s.store.Engine}
	b.ids.Store(1_000_000)
	net.on()(&b.options)
	b.start()
	b.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.running.Load().ServeHTTP(w, r) }))
	b.transport = b.only(b.http.Listener.Addr().String())
	s.t.Cleanup(func() {
		b.transport.CloseIdleConnections()
		b.running.Load().Drain()
		b.http.Close()
		b.log.close()
	})
	return b
}

// at is the same browser, whose requests the balancer takes to another node.
func (b *browser) at(s *server) *browser {
	client := *b.client
	client.Transport = s.transport
	return &browser{server: s, jar: b.jar, header: b.header, client: &client}
}

// buses are the ways in which nodes may hear of each other, and how long it may take then.
var buses = []struct {
	name  string
	spoil func(*network)
	// look makes the time pass after which a node has looked at what its sockets show, and in
	// that after which it has to know all.
	look, in func(*server)
}{
	{"with the bus, at once", func(*network) {}, func(*server) {}, func(*server) {}},
	{"without it, within 5 seconds", func(n *network) { n.each(func(m *member) { m.cut.Store(true) }) },
		func(s *server) { s.clock.Advance(4 * time.Second) }, func(s *server) { s.clock.Advance(5 * time.Second) }},
}

// TestNodesTellSockets: what happens at A, sockets at B hear.
func TestNodesTellSockets(t *testing.T) {
	other := func(s *server) *browser { // somebody's other device
		b := s.browser()
		b.login("alpha", "ada")
		return b
	}
	for what, tc := range map[string]struct {
		// prepare returns what is done at A.
		prepare func(a *server, b *browser) func()
		expect  []string
		// gone: nobody is signed in any more.
		gone bool
	}{
		"signing out": {func(_ *server, b *browser) func() { return func() { b.submit("logout").leadsTo("/login") } }, []string{"loggedOut"}, true},
		"removed on a device": {func(a *server, b *browser) func() {
			phone, handle := other(a), a.handleOf(b)
			return func() { phone.fetch(appOrigin, "DELETE", "sessions/"+handle, "").want(204) }
		}, []string{"loggedOut"}, true},
		"all others removed": {func(a *server, b *browser) func() {
			phone := other(a)
			return func() { phone.fetch(appOrigin, "DELETE", "sessions", "").want(204) }
		}, []string{"loggedOut"}, true},
		"the account deleted": {func(_ *server, b *browser) func() { return func() { b.submit("delete").leadsTo("/login") } }, []string{"loggedOut"}, true},
		"deleted on a device": {func(a *server, b *browser) func() {
			phone := other(a)
			return func() { phone.submit("delete").leadsTo("/login") }
		}, []string{"loggedOut"}, true},
		"the account disabled": {func(a *server, b *browser) func() {
			id := b.user().ID
			return func() { _, err := a.users.SetDisabled(a.t.Context(), id, true); must(a.t, err) }
		}, []string{"loggedOut"}, true},
		"the name": {func(_ *server, b *browser) func() { return func() { b.rename("Ada King") } }, []string{"updated"}, false},
		"an identity linked": {func(_ *server, b *browser) func() {
			return func() { b.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account") }
		}, []string{"updated"}, false},
		"accounts merged": {func(a *server, b *browser) func() {
			a.browser().login("beta", "ada")
			return func() { b.submit("merge", "proof", b.prove("beta", "ada")).leadsTo("/account") }
		}, []string{"updated"}, false},
		"merged into a device's": {func(a *server, b *browser) func() {
			phone := a.browser()
			phone.login("beta", "ada")
			return func() { phone.submit("merge", "proof", phone.prove("alpha", "ada")).leadsTo("/account") }
		}, []string{"updated"}, false},
		"a merge undone": {func(a *server, b *browser) func() {
			former := a.browser()
			former.login("beta", "ada")
			id := former.user().ID
			b.submit("merge", "proof", b.prove("beta", "ada")).leadsTo("/account")
			return func() { b.submit("account/undo-merge", "merge", id).leadsTo("/account") }
		}, []string{"updated"}, false},
	} {
		for _, bus := range buses {
			t.Run(what+" "+bus.name, func(t *testing.T) {
				a, b, net := nodes(t)
				ada := a.browser()
				ada.login("alpha", "ada")
				do := tc.prepare(a, ada)
				copied := ada.copyOf() // what the browser had before
				before := copied.at(b).user()
				copied.at(b).get("token").want(200)
				here, there := ada.socket(appOrigin), ada.at(b).socket(appOrigin)
				here.greeting("loggedIn", "token")
				there.greeting("loggedIn", "token")
				bus.spoil(net)
				do()
				here.expect(tc.expect...)
				bus.look(b) // not from memory, which may be good for another second
				there.expect(tc.expect...)
				bus.in(b)
				if !tc.gone {
					if now, want := ada.at(b).user(), ada.user(); now.Name != want.Name || len(now.Identities) != len(want.Identities) || now.ID != want.ID ||
						now.Name == before.Name && len(now.Identities) == len(before.Identities) && now.ID == before.ID {
						t.Errorf("B answers %+v, A %+v; before %+v", now, want, before)
					}
					return
				}
				copied.at(b).get("currentUser").want(401)
				copied.at(b).open("account").want(302)
				var anonymous tokenAnswer
				copied.at(b).get("token").want(200).json(&anonymous)
				if b.verify(anonymous.Token).User != nil {
					t.Error("B gives out tokens of somebody who is gone")
				}
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNodesSignIn: a socket at each node waits, and somebody signs in at one of them.
func TestNodesSignIn(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			a, b, net := nodes(t)
			ada := a.browser()
			ada.open("login").want(200)
			here, there := ada.socket(appOrigin), ada.at(b).socket(appOrigin)
			here.expect("open", "about", "providers", "authenticated", "loggedOut")
			there.expect("open", "about", "providers", "authenticated", "loggedOut")
			bus.spoil(net)
			// The page with the form comes from A, the form goes to B.
			ada.follow(a.base+"login", "login/alpha").want(200, "Password")
			ada.at(b).submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
			ada.open("account").want(200, "Ada") // and A knows who comes
			there.expect("loggedIn", "token")
			bus.in(b)
			here.expect("loggedIn", "token")
		})
	}
}

// TestNodesCommandLine: a command writes to the store and says nothing. With or without a
// bus the store's Watch notices that, on each node by itself.
func TestNodesCommandLine(t *testing.T) {
	a, b, _ := nodes(t)
	ada := a.browser()
	ada.login("alpha", "ada")
	user := ada.at(b).user()
	here, there := ada.socket(appOrigin), ada.at(b).socket(appOrigin)
	here.greeting("loggedIn", "token")
	there.greeting("loggedIn", "token")
	command := session.NewManager(a.store.Engine, session.Options{Now: a.clock.Now, CacheSize: 1, CacheAge: time.Second})
	must(t, command.Remove(t.Context(), a.handleOf(ada), user.ID))
	for _, s := range []*server{a, b} {
		s.running.Load().LookAgain()
	}
	here.expect("loggedOut")
	there.expect("loggedOut")
	ada.get("currentUser").want(401)
	ada.at(b).get("currentUser").want(401)
}

// TestNodesAfterACut: while the bus is cut all is late, by seconds; when it is joined again
// nothing is left to hear of. What a bus loses without noticing comes within minutes.
func TestNodesAfterACut(t *testing.T) {
	a, b, net := nodes(t)
	ada := a.browser()
	ada.login("alpha", "ada")
	there := ada.at(b).socket(appOrigin)
	there.greeting("loggedIn", "token")

	net.each(func(m *member) { m.cut.Store(true) })
	ada.rename("Ada King")
	there.expectNothing()
	net.each((*member).rejoin)
	there.expect("updated")

	net.members[1].cut.Store(true) // B alone
	ada.rename("Ada Lovelace")
	a.clock.Advance(5 * time.Second)
	there.expect("updated")
	ada.at(b).rename("Ada Byron")
	net.members[1].rejoin()
	there.expect("updated")
	if got := ada.user().Name; got != "Ada Byron" {
		t.Errorf("A has not heard what B did while it was cut off: %s", got)
	}

	net.each(func(m *member) { m.deaf.Store(true) })
	waiting := b.browser()
	waiting.open("login")
	deaf := waiting.socket(appOrigin)
	deaf.expect("open", "about", "providers", "authenticated", "loggedOut")
	waiting.at(a).submit("login/beta", "username", "ben", "password", "ben-pw").leadsTo("/account")
	deaf.expectNothing()
	a.clock.Advance(4*time.Minute + 10*time.Second)
	deaf.expect("loggedIn", "token")
}

const nodeApplications = `[
	{"url": "https://spa.example.org/", "name": "Spa", "client_id": "spa", "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none",
		"redirect_uris": ["https://spa.example.org/cb"], "origins": ["https://spa.example.org"], "trusted": true},
	{"url": "https://other.example.org/", "name": "Other", "client_id": "other", "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none", "access_token_format": "opaque",
		"redirect_uris": ["https://other.example.org/cb"], "origins": ["https://other.example.org"], "trusted": true},
	{"url": "https://app.example.org/", "name": "App", "client_id": "app", "grant_types": ["authorization_code", "refresh_token"], "client_secret": "a-secret-that-is-long-enough", "token_endpoint_auth_method": "client_secret_post",
		"redirect_uris": ["https://app.example.org/cb"]},
	{"url": "https://tv.example.org/", "name": "The TV", "client_id": "tv", "token_endpoint_auth_method": "none",
		"grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]}
]`

// userinfo asks a node as a client does.
func (s *server) userinfo(token string) answer {
	s.t.Helper()
	return s.browser().send("GET", "oauth/userinfo", headers("Authorization", bearer(token)), "")
}

func (s *server) refreshed(client, refreshToken string) (answer, oauthTokens) {
	s.t.Helper()
	got := s.browser().submitProgram(oidc.PathToken, "grant_type", "refresh_token", "client_id", client, "refresh_token", refreshToken)
	var tokens oauthTokens
	if got.status == 200 {
		got.json(&tokens)
	}
	return got, tokens
}

// active asks the introspection endpoint, as the client that the token was given to.
func (s *server) active(token string) bool {
	s.t.Helper()
	var body struct{ Active bool }
	s.browser().submitProgram(oidc.PathIntrospect, "client_id", "app", "client_secret", "a-secret-that-is-long-enough", "token", token).want(200).json(&body)
	return body.Active
}

// codeOf takes a browser through the consent of the client app and returns the code.
func (b *browser) codeOf(s ...*server) string {
	t := b.server.t
	t.Helper()
	at := func(i int) *browser { return b.at(s[i%len(s)]) }
	page := at(0).authorize(authorization("app", "scope", "openid profile session_events")).want(302).location()
	if code := codeIn(page); code != "" {
		return code
	}
	consent := at(1).open(page).want(200, `id="consent-allow"`)
	field := func(name string) string {
		m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(consent.body)
		if m == nil {
			t.Fatalf("no %s in %s", name, consent.text())
		}
		return html.UnescapeString(m[1])
	}
	code := codeIn(at(2).submit("oauth/continue", "request", field("request"), "person", field("person"), "decision", "allow").want(302).location())
	if code == "" {
		t.Fatal("no code")
	}
	return code
}

func codeIn(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return ""
	}
	return u.Query().Get("code")
}

// redeem exchanges a code of the client app.
func (s *server) redeem(code string) answer {
	s.t.Helper()
	return s.browser().submitProgram(oidc.PathToken, "grant_type", "authorization_code", "client_id", "app", "client_secret", "a-secret-that-is-long-enough",
		"code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
}

// TestNodesRefuseARemovedSession: no hint ever arrives, and five seconds after a session
// was removed at A nothing that it has opened opens anything at B.
func TestNodesRefuseARemovedSession(t *testing.T) {
	a, b, net := nodes(t, applications(nodeApplications))
	ada, phone := a.browser(), a.browser()
	ada.login("alpha", "ada")
	phone.login("alpha", "ada")
	handle := a.handleOf(ada)
	spa, other := ada.clientTokens("spa", eventScope), ada.clientTokens("other", eventScope)
	var app oauthTokens
	a.redeem(ada.codeOf(a)).want(200).json(&app)
	ticket := b.ticket(spaOrigin, spa.AccessToken)
	var own tokenAnswer
	ada.at(b).get("token").want(200).json(&own)
	stream := b.mustListen("events", "Authorization", bearer(other.AccessToken))
	stream.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
	cookies := b.mustListen("events", "Cookie", cookieLine(ada), "Origin", appOrigin)
	cookies.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
	client := b.authenticated(spaOrigin, authenticate(spa.AccessToken))
	client.expect("authenticated", "loggedIn", "token")
	// B has all of it in memory.
	warm := func(want int) {
		t.Helper()
		ada.at(b).get("currentUser").want(want)
		for _, tokens := range []oauthTokens{spa, other} {
			b.userinfo(tokens.AccessToken).want(want)
		}
	}
	warm(200)
	if !b.active(app.AccessToken) || !b.active(app.RefreshToken) {
		t.Fatal("the tokens are not active")
	}

	net.each(func(m *member) { m.cut.Store(true) })
	phone.fetch(appOrigin, "DELETE", "sessions/"+handle, "").want(204)
	warm(200) // late, but no later than this:
	a.clock.Advance(5 * time.Second)
	warm(401)
	for _, path := range []string{"account", "sessions", "delete"} {
		ada.at(b).open(path).want(302)
	}
	ada.at(b).submit("account/name", "name", "Eve").leadsTo("/login")
	ada.at(b).fetch(appOrigin, "DELETE", "sessions", "").want(401)
	var token tokenAnswer
	ada.at(b).get("token").want(200).json(&token)
	if b.verify(token.Token).User != nil {
		t.Error("GET /token speaks of somebody")
	}
	if b.active(app.AccessToken) || b.active(app.RefreshToken) {
		t.Error("tokens are active")
	}
	for client, tokens := range map[string]oauthTokens{"spa": spa, "other": other} {
		got, _ := b.refreshed(client, tokens.RefreshToken)
		got.want(400, "invalid_grant")
		if _, response := b.listen("events", headers("Authorization", bearer(tokens.AccessToken))); response.StatusCode != 401 {
			t.Errorf("events by access token: %d", response.StatusCode)
		}
		b.browser().send("POST", "events/ticket", headers("Authorization", bearer(tokens.AccessToken)), "").want(401)
	}
	b.browser().submitProgram(oidc.PathToken, "grant_type", "refresh_token", "client_id", "app", "client_secret", "a-secret-that-is-long-enough", "refresh_token", app.RefreshToken).want(400)
	if _, response := b.listen("events?ticket="+ticket, headers("Origin", spaOrigin)); response.StatusCode != 401 {
		t.Errorf("events by ticket: %d", response.StatusCode)
	}
	stream.expectEnd()
	cookies.expect("loggedOut")
	client.expect("loggedOut")
	if code := client.expectClosed(); code != websocket.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	again := b.browser().socket("")
	again.greeting("loggedOut")
	again.send(`{"type": "authenticate", "token": "` + own.Token + `"}`)
	again.expect("error")
}

// TestNodesNeverTurnDown: there is no bus, no time passes, and B has in memory what was true
// before. Whoever comes from A with something new is let in all the same.
func TestNodesNeverTurnDown(t *testing.T) {
	cut := func(t *testing.T, opts ...option) (a, b *server, ada *browser) {
		a, b, net := nodes(t, append(opts, applications(nodeApplications))...)
		ada = a.browser()
		ada.login("alpha", "ada")
		ada.at(b).user() // in memory
		net.each(func(m *member) { m.cut.Store(true) })
		return a, b, ada
	}
	t.Run("with the cookie of a sign-in that renews the secret", func(t *testing.T) {
		_, b, ada := cut(t)
		ada.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
		ada.at(b).open("account").want(200)
		ada.at(b).open("login").want(302) // which would give a cookie to who has none
		ada.user()
	})
	t.Run("with the cookie that was replaced", func(t *testing.T) {
		_, b, ada := cut(t)
		stolen := ada.copyOf()
		ada.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
		ada.at(b).user()
		stolen.at(b).get("currentUser").want(401) // now that B knows
	})
	t.Run("with tokens of the next sign-in under a handle", func(t *testing.T) {
		a, b, ada := cut(t)
		b.userinfo(ada.clientTokens("spa", eventScope).AccessToken).want(200)
		a.clock.Advance(time.Second) // which tells the two sessions apart
		ada.submit("logout").leadsTo("/login")
		ada.submit("login/alpha", "username", "ben", "password", "ben-pw").leadsTo("/account")
		tokens := ada.clientTokens("spa", eventScope)
		b.userinfo(tokens.AccessToken).want(200, "Ben")
		b.ticket(spaOrigin, tokens.AccessToken)
		c := b.authenticated(spaOrigin, authenticate(tokens.AccessToken))
		c.expect("authenticated", "loggedIn", "token")
		_ = a
	})
	t.Run("with an opaque token of a refresh", func(t *testing.T) {
		a, b, ada := cut(t)
		tokens := ada.clientTokens("other", eventScope)
		b.userinfo(tokens.AccessToken).want(200)
		_, next := a.refreshed("other", tokens.RefreshToken)
		b.userinfo(next.AccessToken).want(200)
		b.ticket(otherOrigin, next.AccessToken)
	})
	t.Run("with a token for its socket", func(t *testing.T) {
		a, b, ada := cut(t)
		ada.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
		var own tokenAnswer
		ada.get("token").want(200).json(&own)
		c := b.browser().socket(appOrigin)
		c.greeting("loggedOut")
		c.send(`{"type": "authenticate", "token": "` + own.Token + `"}`)
		c.expect("authenticated", "loggedIn", "token")
		_ = a
	})
	t.Run("with the anonymous cookie of signing out", func(t *testing.T) {
		a, b, ada := cut(t)
		ada.submit("logout").leadsTo("/login")
		c := ada.at(b).socket(appOrigin)
		c.expect("open", "about", "providers", "authenticated", "loggedOut")
		ada.at(b).submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
		c.expect("loggedIn", "token")
		_ = a
	})
	t.Run("with a secret that was replaced", func(t *testing.T) {
		a, b, _ := cut(t, env("CLIENT_REGISTRATION", "open"))
		c := registered(t, a, `{"redirect_uris": ["https://client.example.org/cb"], "token_endpoint_auth_method": "client_secret_post"}`)
		introspect := func(s *server, secret string) answer {
			return s.browser().submitProgram(oidc.PathIntrospect, "client_id", c["client_id"].(string), "client_secret", secret, "token", "x")
		}
		secret := c["client_secret"].(string)
		introspect(b, secret).want(200)
		next, err := oidc.NewRegistry(a.guard, a.clock).NewSecret(t.Context(), c["client_id"].(string), 0)
		must(t, err)
		introspect(b, next).want(200)
		introspect(b, secret).want(401)
	})
}

// registered registers a client at a node.
func registered(t *testing.T, s *server, metadata string) map[string]any {
	t.Helper()
	response, answer := s.register(metadata)
	if response.StatusCode != 201 {
		t.Fatalf("got %d: %v", response.StatusCode, answer)
	}
	return answer
}

// TestNodesForgetGrants: what is taken back at A is dead at B.
func TestNodesForgetGrants(t *testing.T) {
	for what, do := range map[string]func(a *server, ada *browser, tokens oauthTokens){
		"the client revokes the refresh token": func(a *server, _ *browser, tokens oauthTokens) {
			a.revoke("spa", tokens.RefreshToken)
		},
		"the client revokes the access token": func(a *server, _ *browser, tokens oauthTokens) { a.revoke("spa", tokens.AccessToken) },
		"the person disconnects the client": func(_ *server, ada *browser, _ oauthTokens) {
			ada.submit("account/applications/disconnect", "client", "spa").leadsTo("/account")
		},
	} {
		for _, bus := range buses {
			t.Run(what+" "+bus.name, func(t *testing.T) {
				a, b, net := nodes(t, applications(nodeApplications))
				ada := a.browser()
				ada.login("alpha", "ada")
				tokens := ada.clientTokens("spa", eventScope)
				b.userinfo(tokens.AccessToken).want(200)
				c := b.authenticated(spaOrigin, authenticate(tokens.AccessToken))
				c.expect("authenticated", "loggedIn", "token")
				bus.spoil(net)
				do(a, ada, tokens)
				bus.in(b)
				b.userinfo(tokens.AccessToken).want(401)
				c.expect("loggedOut")
				c.expectClosed()
			})
		}
	}
}

// TestNodesForgetClients: a client that changes, or is removed, at A.
func TestNodesForgetClients(t *testing.T) {
	for _, bus := range buses {
		t.Run(bus.name, func(t *testing.T) {
			a, b, net := nodes(t, env("CLIENT_REGISTRATION", "open"))
			c := registered(t, a, `{"redirect_uris": ["https://client.example.org/cb"], "token_endpoint_auth_method": "none"}`)
			id := c["client_id"].(string)
			ask := func(redirect string) answer {
				return b.browser().follow("", "oauth/authorize?"+authorization("x", "client_id", id, "redirect_uri", redirect).Encode())
			}
			ask("https://client.example.org/cb").want(302)
			ask("https://client.example.org/next").want(400)
			bus.spoil(net)
			manage := func(method, body string) answer {
				return a.browser().send(method, strings.TrimPrefix(oidc.PathRegister, "/")+"/"+id,
					headers("Authorization", bearer(c["registration_access_token"].(string)), "Content-Type", "application/json"), body)
			}
			manage("PUT", `{"client_id": "`+id+`", "redirect_uris": ["https://client.example.org/next"], "token_endpoint_auth_method": "none"}`).want(200)
			bus.in(b)
			ask("https://client.example.org/next").want(302)
			ask("https://client.example.org/cb").want(400)
			manage("DELETE", "").want(204)
			bus.in(b)
			ask("https://client.example.org/next").want(400)
		})
	}
}

// TestNodesGiveUsableTickets: the ticket in the answer of GET /token at A was spent at B, and
// A answers the same for seconds. Who asks again has to get one that opens something.
func TestNodesGiveUsableTickets(t *testing.T) {
	for _, signedIn := range []bool{true, false} {
		for _, bus := range buses {
			t.Run(fmt.Sprintf("signed in %t %s", signedIn, bus.name), func(t *testing.T) {
				a, b, net := nodes(t)
				ada := a.browser()
				rest := []string{"authenticated", "loggedOut"}
				if ada.open("login"); signedIn {
					ada.login("alpha", "ada")
					rest = []string{"authenticated", "loggedIn", "token"}
				}
				bus.spoil(net)
				join := func(s *server) {
					t.Helper()
					var own tokenAnswer
					ada.get("token").want(200).json(&own)
					c := s.browser().socket(appOrigin)
					c.greeting("loggedOut")
					c.send(`{"type": "authenticate", "token": "` + own.Token + `"}`)
					c.expect(rest[:1]...)
					if signedIn {
						c.expect(rest[1:]...)
					}
				}
				join(b)
				join(b)
				join(a)
				join(b)
			})
		}
	}
}

// TestNodesSpendOnce: what is good once is good at one node.
func TestNodesSpendOnce(t *testing.T) {
	start := func(t *testing.T) (a, b *server, ada *browser) {
		a, b, net := nodes(t, applications(nodeApplications))
		net.each(func(m *member) { m.cut.Store(true) }) // no bus is needed for that
		ada = a.browser()
		ada.login("alpha", "ada")
		return a, b, ada
	}
	t.Run("a session ticket", func(t *testing.T) {
		a, b, ada := start(t)
		var own tokenAnswer
		ada.get("token").want(200).json(&own)
		for i, s := range []*server{a, b} {
			c := s.browser().socket(appOrigin)
			c.greeting("loggedOut")
			c.send(`{"type": "authenticate", "token": "` + own.Token + `"}`)
			c.expect([]string{"authenticated", "error"}[i])
		}
	})
	t.Run("an event ticket", func(t *testing.T) {
		a, b, ada := start(t)
		ticket := a.ticket(spaOrigin, ada.clientTokens("spa", eventScope).AccessToken)
		var opened atomic.Int32
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if c, _ := []*server{a, b}[i%2].listen("events?ticket="+ticket, headers("Origin", spaOrigin)); c != nil {
					opened.Add(1)
				}
			})
		}
		all.Wait()
		if n := opened.Load(); n != 1 {
			t.Errorf("it has opened %d streams", n)
		}
	})
	t.Run("a code, and then all that it has given is void", func(t *testing.T) {
		a, b, ada := start(t)
		var tokens oauthTokens
		code := ada.codeOf(a, b)
		a.redeem(code).want(200).json(&tokens)
		b.redeem(code).want(400, "invalid_grant")
		a.clock.Advance(5 * time.Second)
		a.userinfo(tokens.AccessToken).want(401)
	})
	t.Run("a code, at both nodes at once", func(t *testing.T) {
		a, b, ada := start(t)
		code := ada.codeOf(b, a)
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if []*server{a, b}[i%2].redeem(code).status == 200 {
					won.Add(1)
				}
			})
		}
		all.Wait()
		if n := won.Load(); n > 1 {
			t.Errorf("it was redeemed %d times", n)
		}
	})
	t.Run("a refresh token, but for a minute of grace", func(t *testing.T) {
		a, b, ada := start(t)
		var tokens, first, second oauthTokens
		a.redeem(ada.codeOf(a)).want(200).json(&tokens)
		refresh := func(s *server, token string) answer {
			return s.browser().submitProgram(oidc.PathToken, "grant_type", "refresh_token", "client_id", "app", "client_secret", "a-secret-that-is-long-enough", "refresh_token", token)
		}
		refresh(a, tokens.RefreshToken).want(200).json(&first)
		refresh(b, tokens.RefreshToken).want(200).json(&second)
		if first.RefreshToken != second.RefreshToken {
			t.Error("the nodes disagree about the successor")
		}
		a.clock.Advance(time.Minute)
		refresh(b, tokens.RefreshToken).want(400, "invalid_grant")
		refresh(a, first.RefreshToken).want(400, "invalid_grant")
	})
	t.Run("a proof, where tokens are given and where streams are opened", func(t *testing.T) {
		a, b, ada := start(t)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		p := prover{t, key, a}
		used := p.proof("POST", a.base+"oauth/token", "")
		token := ada.clientTokens("spa", eventScope, used).AccessToken
		b.browser().send("POST", "oauth/token", headers("Content-Type", "application/x-www-form-urlencoded", "DPoP", used),
			url.Values{"grant_type": {"authorization_code"}, "code": {ada.spaCode()}, "redirect_uri": {"https://spa.example.org/cb"}, "client_id": {"spa"},
				"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}}.Encode()).want(400, "invalid_dpop_proof")

		proof := p.proof("POST", a.base+"events/ticket", token)
		h := headers("Authorization", "DPoP "+token, "DPoP", proof)
		a.browser().send("POST", "events/ticket", h, "").want(200)
		b.browser().send("POST", "events/ticket", h, "").want(401, "used before")
		h = headers("Authorization", "DPoP "+token, "DPoP", p.proof("GET", a.base+"events", token))
		if c, response := b.listen("events", h); c == nil {
			t.Fatalf("got %d", response.StatusCode)
		}
		if _, response := a.listen("events", h); response.StatusCode != 401 {
			t.Errorf("the proof of a stream has opened another one: %d", response.StatusCode)
		}
		message := fmt.Sprintf(`{"type": "authenticate", "token": %q, "dpop": %q}`, token, p.proof("GET", a.base, token))
		a.authenticated(spaOrigin, message).expect("authenticated")
		b.authenticated(spaOrigin, message).expect("error")
	})
	t.Run("an answer to a merge", func(t *testing.T) {
		a, b, ada := start(t)
		a.browser().login("beta", "ada")
		proof := ada.prove("beta", "ada") // asked at A
		ada.at(b).submit("merge", "proof", proof).leadsTo("/account")
		ada.at(b).open("account").want(200, "The accounts have been merged.") // the message of B
		ada.at(b).submit("account/undo-merge", "merge", undone(t, ada.at(b))).leadsTo("/account")
		ada.submit("merge", "proof", proof).want(302)
		if got := ada.at(b).user().Identities; len(got) != 1 {
			t.Errorf("the proof has merged twice: %v", got)
		}
	})
}

var mergeField = regexp.MustCompile(`name="merge" value="([^"]+)"`)

// undone is the merge that the account page offers to undo.
func undone(t *testing.T, b *browser) string {
	t.Helper()
	found := mergeField.FindStringSubmatch(b.open("account").want(200).body)
	if found == nil {
		t.Fatal("there is no merge to undo")
	}
	return found[1]
}

// spaCode is a code for the client spa.
func (b *browser) spaCode() string {
	b.server.t.Helper()
	return codeIn(b.authorize(authorization("spa", "scope", eventScope)).want(302).location())
}

// TestNodesShareTheWay: what begins at A goes on at B.
func TestNodesShareTheWay(t *testing.T) {
	t.Run("a login at another server", func(t *testing.T) {
		net := &network{}
		a, github, _ := federated(t, net.on())
		b := a.node(net)
		ada := a.browser()
		callback := github.approve(ada.setOut(a.base+"login", "login/github"), "ada")
		ada.back(github, callback) // at A, once, which signs in
		ada.user()
		ada.submit("logout")
		callback = github.approve(ada.setOut(a.base+"login", "login/github"), "ada")
		ada.at(b).back(github, callback).leadsTo("/account")
		ada.at(b).user()
		ada.user()
		// Used up at B, it signs in nobody at A.
		thief := ada.copyOf()
		ada.submit("logout")
		_ = thief
		ada.back(github, callback)
		ada.get("currentUser").want(401)
		stranger := b.browser()
		stranger.back(github, github.approve(ada.setOut(a.base+"login", "login/github"), "ada")).want(400)
	})
	t.Run("messages, and forms with what was typed", func(t *testing.T) {
		a, b, _ := nodes(t)
		ada := a.browser()
		ada.open("login")
		ada.submit("login/alpha", "username", "ada", "password", "wrong").leadsTo("/login/alpha")
		ada.at(b).open("login/alpha").want(200, "Could not verify credentials.")
		ada.open("login/alpha").want(200).wantNot("Could not verify credentials.")
		// A form of A posted to B counts as one of our own, one of elsewhere does not.
		ada.at(b).submitFrom(evilOrigin+"/", "login/alpha", "username", "ada", "password", "ada-pw").want(403)
		ada.at(b).submit("login/alpha", "username", "ada", "password", "ada-pw").leadsTo("/account")
	})
	t.Run("consent", func(t *testing.T) {
		a, b, _ := nodes(t, applications(nodeApplications))
		ada := b.browser()
		ada.login("alpha", "ada")
		b.redeem(ada.codeOf(a, b, a)).want(200) // begun at A, asked at B, answered at A, redeemed at B
		a.redeem(ada.codeOf(a)).want(200)       // and not asked again
	})
	t.Run("a sign-in for a client", func(t *testing.T) {
		a, b, _ := nodes(t, applications(nodeApplications))
		ada := a.browser()
		page := ada.authorize(authorization("spa")).want(302).location()
		login := ada.at(b).open(page).want(302).location()
		ada.at(b).submit(strings.Replace(login, "/login?", "/login/alpha?", 1), "username", "ada", "password", "ada-pw").leadsTo(strings.TrimSuffix(a.base, "/") + page)
		if codeIn(ada.open(page).want(302).location()) == "" {
			t.Error("no code")
		}
		ada.at(b).open(page).want(400) // answered
	})
	t.Run("a pushed request", func(t *testing.T) {
		a, b, _ := nodes(t, applications(nodeApplications))
		ada := a.browser()
		ada.login("alpha", "ada")
		v := authorization("spa")
		var pushed struct {
			RequestURI string `json:"request_uri"`
		}
		a.browser().send("POST", strings.TrimPrefix(oidc.PathPush, "/"), headers("Content-Type", "application/x-www-form-urlencoded"), v.Encode()).want(201).json(&pushed)
		v = url.Values{"client_id": {"spa"}, "request_uri": {pushed.RequestURI}}
		if codeIn(ada.at(b).authorize(v).want(302).location()) == "" {
			t.Error("no code")
		}
		ada.authorize(v).want(400) // once
	})
	t.Run("a device", func(t *testing.T) {
		a, b, _ := nodes(t, applications(nodeApplications))
		ada := a.browser()
		ada.login("alpha", "ada")
		d := a.device()
		if _, body := b.poll(d); body["error"] != "authorization_pending" {
			t.Errorf("got %v", body)
		}
		if _, body := a.poll(d); body["error"] != "slow_down" {
			t.Errorf("A does not know that B was asked: %v", body)
		}
		page := ada.at(b).open("device?user_code="+d.UserCode).want(200, "The TV")
		ada.submit("device", "user_code", d.UserCode, "person", personOn(page), "decision", "allow").want(200, `id="device-done"`)
		if _, body := b.poll(d); body["access_token"] == nil {
			t.Errorf("got %v", body)
		}
		if got, body := a.poll(d); got.status != 400 || body["error"] != "invalid_grant" {
			t.Errorf("a second time: %v", body)
		}
	})
	t.Run("a stream", func(t *testing.T) {
		a, b, _ := nodes(t, applications(nodeApplications))
		ada := a.browser()
		ada.login("alpha", "ada")
		token := ada.clientTokens("spa", eventScope).AccessToken
		ticket := a.ticket(spaOrigin, token)
		first := a.mustListen("events?ticket="+ticket, "Origin", spaOrigin)
		first.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
		first.end()
		ada.rename("Ada King")
		second := b.mustListen("events?ticket="+ticket, "Origin", spaOrigin, "Last-Event-ID", first.last)
		if e := second.expect("updated"); e.Data.User["name"] != "Ada King" {
			t.Errorf("got %s", e.raw)
		}
		ada.submit("logout")
		second.expectEnd()
	})
	t.Run("the browser state", func(t *testing.T) {
		a, b, _ := nodes(t)
		ada := a.browser()
		ada.login("alpha", "ada")
		ada.open("account").want(200)
		before := cookieLine(ada)
		ada.at(b).open("account").want(200)
		ada.at(b).open("sessions").want(200)
		if after := cookieLine(ada); after != before {
			t.Errorf("another node has changed the cookies from %s to %s", before, after)
		}
	})
}

// TestNodesTellClientsOnce: both nodes look through the outbox of back-channel logout, and
// find sessions that have ended; a client is told once, and not of sessions that live.
func TestNodesTellClientsOnce(t *testing.T) {
	var told atomic.Int32
	client := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told.Add(1) }))
	defer client.Close()
	apps := strings.Replace(nodeApplications, `"client_id": "spa",`, `"client_id": "spa", "backchannel_logout_uri": "`+client.URL+`",`, 1)
	a, b, net := nodes(t, applications(apps))
	ada := a.browser()
	ada.login("alpha", "ada")
	ada.at(b).user()
	net.each(func(m *member) { m.cut.Store(true) })
	// The session that B has in memory ends; the next one has the same handle.
	a.clock.Advance(time.Second)
	ada.submit("logout")
	ada.login("alpha", "ada")
	ada.clientTokens("spa", eventScope)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, s := range []*server{b, a} {
		all.Go(func() { s.running.Load().TellLogouts(ctx) })
	}
	defer func() { stop(); all.Wait() }()
	told.Store(0)
	waitFor(t, "participants", func() bool { return a.documents("participant") == 1 })
	a.clock.Advance(time.Minute) // each looks at all participants
	ada.user()
	if n := told.Load(); n != 0 {
		t.Fatalf("told %d times of the end of a session that lives", n)
	}
	ada.submit("logout")
	for _, s := range []*server{a, b} {
		s.running.Load().LookAgain()
	}
	waitFor(t, "the letter to be delivered", func() bool { return a.documents("participant") == 0 })
	if n := told.Load(); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// waitFor waits for a condition.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s", what)
		}
	}
}

// TestNodesHealTogether: jobs that run on each node do no harm when they run twice at once.
func TestNodesHealTogether(t *testing.T) {
	a, b, _ := nodes(t)
	survivor, former := a.merged()
	want := survivor.user()
	var all sync.WaitGroup
	for range 4 {
		for _, s := range []*server{a, b} {
			all.Go(func() {
				if _, err := s.users.Heal(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := s.guard.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if got := survivor.at(b).user(); got.ID != want.ID || !maps.Equal(keysOf(got.Identities), keysOf(want.Identities)) || former.ID == got.ID {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func keysOf[T any](m map[string]T) map[string]bool {
	keys := map[string]bool{}
	for k := range m {
		keys[k] = true
	}
	return keys
}

// TestNodesChangeKeys: the keys are in the store. One node makes the next one, and when its
// time has come all nodes sign with it, and tell their sockets.
func TestNodesChangeKeys(t *testing.T) {
	net := &network{}
	a := newServer(t, net.on())
	a.cfg.JWTPrivateKeyPath, a.cfg.JWTPublicKeyPath = "", ""
	a.start()
	b := a.node(net)
	ada := a.browser()
	ada.login("alpha", "ada")
	sockets := []*socket{ada.socket(appOrigin), ada.at(b).socket(appOrigin)}
	for _, c := range sockets {
		c.greeting("loggedIn", "token")
	}
	signer := func(s *server) string { return s.running.Load().Tokens.KeyID() }
	before := signer(a)
	if before != signer(b) {
		t.Fatal("the nodes sign with different keys")
	}
	rotated, err := a.running.Load().Tokens.RotateKey(t.Context(), a.cfg.JWTAlgorithm)
	if err != nil || !rotated {
		t.Fatalf("got %t, %v", rotated, err)
	}
	must(t, b.running.Load().Tokens.Refresh(t.Context())) // by Tend, within ten minutes, or a hint
	var jwks [2]string
	for i, s := range []*server{a, b} {
		jwks[i] = s.browser().get(".well-known/jwks.json").want(200).body
	}
	if jwks[0] != jwks[1] || strings.Count(jwks[0], `"kid"`) < 2 {
		t.Errorf("published are %s and %s", jwks[0], jwks[1])
	}
	a.clock.Advance(a.cfg.KeyPublishFor + 2*time.Second)
	if signer(a) == before || signer(a) != signer(b) {
		t.Fatalf("A signs with %s, B with %s; before %s", signer(a), signer(b), before)
	}
	for _, c := range sockets {
		for { // a token may be due just before
			e, err := c.read()
			if must(t, err); e.Type == "about" {
				break
			}
		}
	}
	one, two := a.browser().get("about").want(200).body, b.browser().get("about").want(200).body
	if one != two {
		t.Errorf("A is about %s, B %s", one, two)
	}
}
