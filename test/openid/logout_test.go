package openid

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"login-server/internal/testprogram"
)

// promptly is how long it may take until everybody knows that somebody has signed out.
const promptly = time.Second

// letter is a logout token that a client was sent.
type letter struct {
	token string
	at    time.Time
}

// receiver is the backchannel_logout_uri of a client. What it is sent is passed on.
func receiver(letters chan<- letter) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.RawQuery != "" ||
			!slices.Equal(slices.Collect(maps.Keys(r.PostForm)), []string{"logout_token"}) {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		letters <- letter{r.PostForm.Get("logout_token"), at}
	}
}

// listener hears the events of a session.
type listener struct {
	t    testing.TB
	kind string
	// heard is each "loggedIn" and "loggedOut"; closed when the socket has ended.
	heard chan event
	conn  *websocket.Conn
}

type event struct {
	kind string
	at   time.Time
}

// listen opens a socket, as a page of the server with its cookie, or as a client with none.
func (p *person) listen(kind string, cookies bool) *listener {
	p.t.Helper()
	transport := newTransport()
	p.t.Cleanup(transport.CloseIdleConnections)
	header := http.Header{}
	if cookies {
		at, err := url.Parse(p.server.issuer + "/")
		if err != nil {
			p.t.Fatal(err)
		}
		r := http.Request{Header: header}
		for _, cookie := range p.client.Jar.Cookies(at) {
			r.AddCookie(cookie)
		}
		header.Set("Origin", p.server.issuer)
	}
	conn, _, err := websocket.Dial(p.t.Context(), "wss"+strings.TrimPrefix(p.server.issuer, "https")+"/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header,
	})
	if err != nil {
		p.t.Fatalf("%s: %v", kind, err)
	}
	l := &listener{t: p.t, kind: kind, conn: conn, heard: make(chan event, 64)}
	p.t.Cleanup(func() { _ = conn.CloseNow() })
	go func() {
		defer close(l.heard)
		for {
			_, text, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			var message struct{ Type string }
			if json.Unmarshal(text, &message) == nil && (message.Type == "loggedIn" || message.Type == "loggedOut") {
				l.heard <- event{message.Type, time.Now()}
			}
		}
	}()
	return l
}

// authenticate makes the socket hear what a client with an access token may.
func (l *listener) authenticate(tokens *oauth2.Token) {
	l.t.Helper()
	message, err := json.Marshal(object{"type": "authenticate", "token": tokens.AccessToken})
	if err == nil {
		err = l.conn.Write(l.t.Context(), websocket.MessageText, message)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// await waits until the socket hears something, and returns when it did.
func (l *listener) await(kind string) time.Time {
	l.t.Helper()
	deadline := time.After(testprogram.Patience)
	for {
		select {
		case m, ok := <-l.heard:
			if !ok {
				l.t.Fatalf("%s has ended without %s", l.kind, kind)
			}
			if m.kind == kind {
				return m.at
			}
		case <-deadline:
			l.t.Fatalf("%s did not hear %s in %v", l.kind, kind, testprogram.Patience)
		}
	}
}

// checkLogoutToken verifies a logout token with a library, and against OpenID Connect
// Back-Channel Logout 1.0, 2.4.
func (c *goClient) checkLogoutToken(token string, of *oidc.IDToken, session string) {
	c.t.Helper()
	verified, err := c.provider.VerifierContext(c.ctx, &oidc.Config{ClientID: c.config.ClientID}).Verify(c.ctx, token)
	if err != nil {
		c.t.Fatalf("the logout token: %v", err)
	}
	head, err := base64.RawURLEncoding.DecodeString(token[:strings.Index(token, ".")])
	var header struct{ Typ string }
	if err != nil || json.Unmarshal(head, &header) != nil || header.Typ != "logout+jwt" {
		c.t.Errorf("the header of the logout token is %s", head)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		c.t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(claims)); !slices.Equal(names, []string{"aud", "events", "exp", "iat", "iss", "jti", "sid", "sub"}) {
		c.t.Errorf("the logout token has %v", names)
	}
	events, _ := claims["events"].(map[string]any)
	event, ok := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any)
	if !ok || len(events) != 1 || len(event) != 0 || claims["sid"] != session || verified.Subject != of.Subject {
		c.t.Errorf("the logout token says %v", claims)
	}
}

// TestLogoutReachesEverything (rules 26, 38 and 39): however somebody signs out, within a
// second the sockets of the session hear of it, clients are told, and what was given for as
// long as the session lives opens nothing.
func TestLogoutReachesEverything(t *testing.T) {
	letters := make(chan letter, 16)
	mux := http.NewServeMux()
	mux.HandleFunc("/logout", receiver(letters))
	client := startTLS(t, mux)
	s := startServer(t, []object{
		{"url": client.URL + "/", "name": "Client", "client_id": "client", "client_secret": secret, "redirect_uris": []string{callback}, "trusted": true,
			"post_logout_redirect_uris": []string{"https://client.example/bye"},
			"backchannel_logout_uri":    client.URL + "/logout", "backchannel_logout_session_required": true},
		{"url": "https://offline.example/", "name": "Offline", "client_id": "offline", "client_secret": secret, "redirect_uris": []string{callback}, "trusted": true},
	})
	ways := []struct {
		name string
		// prepare goes as far as to the last step, and returns that.
		prepare func(t testing.TB, p *person, idToken string) (end func())
		// offline: what was given with offline_access lives on.
		offline bool
	}{
		{"the page", func(t testing.TB, p *person, _ string) func() {
			_, on := p.visit(s.url("logout"))
			return func() { p.submit(on, "/logout", nil) }
		}, true},
		{"a client's request", func(t testing.TB, p *person, idToken string) func() {
			query := url.Values{"id_token_hint": {idToken}, "post_logout_redirect_uri": {"https://client.example/bye"}, "state": {"s"}}
			return func() {
				if to, on := p.visit(s.url("oauth/logout?" + query.Encode())); to == nil || to.String() != "https://client.example/bye?state=s" {
					t.Errorf("it leads to %v:\n%s", to, on.body)
				}
			}
		}, true},
		{"another device", func(t testing.TB, p *person, _ string) func() {
			elsewhere := newPerson(t, s, p.name)
			elsewhere.signIn()
			_, on := elsewhere.visit(s.url("sessions"))
			return func() { elsewhere.submit(on, "/sessions/remove", nil) }
		}, true},
		{"deleting the account", func(t testing.TB, p *person, _ string) func() {
			_, on := p.visit(s.url("delete"))
			return func() { p.submit(on, "/delete", nil) }
		}, false},
	}
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			p := newPerson(t, s, people[i])
			web := newGoClient(t, s, "client", oidc.ScopeOpenID, "session_events")
			tokens, id := web.signIn(p)
			var claims struct {
				Session string `json:"sid"`
			}
			if err := id.Claims(&claims); err != nil {
				t.Fatal(err)
			}
			long := newGoClient(t, s, "offline", oidc.ScopeOpenID, oidc.ScopeOfflineAccess)
			lasting, _ := long.signIn(p)

			page, socket := p.listen("the browser's socket", true), p.listen("the client's socket", false)
			page.await("loggedIn")
			socket.authenticate(tokens)
			socket.await("loggedIn")
			if err := web.userinfo(tokens); err != nil {
				t.Fatalf("userinfo before: %v", err)
			}
			idToken, _ := tokens.Extra("id_token").(string)
			end := way.prepare(t, p, idToken)

			began := time.Now()
			within := func(what string, at time.Time) {
				t.Helper()
				if took := at.Sub(began); took > promptly {
					t.Errorf("%s took %v", what, took)
				}
			}
			end()
			// Tokens are void when the request is answered, not only soon after.
			if err := web.userinfo(tokens); !strings.HasPrefix(errorText(err), "401 ") {
				t.Errorf("userinfo after: %v", err)
			}
			if code := web.refresh(tokens); code != "invalid_grant" {
				t.Errorf("refreshing after: %s", code)
			}
			within("ending the tokens", time.Now())
			within("telling the browser's socket", page.await("loggedOut"))
			within("telling the client's socket", socket.await("loggedOut"))
			select {
			case l := <-letters:
				within("telling the client", l.at)
				web.checkLogoutToken(l.token, id, claims.Session)
			case <-time.After(testprogram.Patience):
				t.Errorf("the client was not told in %v", testprogram.Patience)
			}

			want := map[bool]string{true: "", false: "invalid_grant"}[way.offline]
			if code := long.refresh(lasting); code != want {
				t.Errorf("refreshing with offline_access: %q, want %q", code, want)
			}
			if to, _ := p.visit(web.config.AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "none"), oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))); to == nil || to.Query().Get("error") != "login_required" {
				t.Errorf("prompt=none leads to %v", to)
			}
		})
	}
	select {
	case l := <-letters:
		t.Errorf("the client was told once more: %s", l.token)
	default:
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// userinfo asks as whom an access token is good.
func (c *goClient) userinfo(tokens *oauth2.Token) error {
	_, err := c.provider.UserInfo(c.ctx, oauth2.StaticTokenSource(tokens))
	return err
}

// refresh uses a refresh token, and returns the error code; "" if there is none.
func (c *goClient) refresh(tokens *oauth2.Token) string {
	c.t.Helper()
	_, err := c.config.TokenSource(c.ctx, &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token()
	if e := new(oauth2.RetrieveError); errors.As(err, &e) {
		return e.ErrorCode
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return ""
}

// TestDisconnectReachesTheApplication: who takes back on the account page what they have
// allowed an application stays signed in, and the application has nothing any more, whatever
// it was given. It has to ask again.
func TestDisconnectReachesTheApplication(t *testing.T) {
	s := startServer(t, []object{{"url": "https://client.example/", "name": "Client", "client_id": "client", "client_secret": secret, "redirect_uris": []string{callback}}})
	p := newPerson(t, s, "ada")
	client := newGoClient(t, s, "client", oidc.ScopeOpenID, "session_events", oidc.ScopeOfflineAccess)
	tokens, _ := client.signIn(p)
	page, socket := p.listen("the browser's socket", true), p.listen("the client's socket", false)
	page.await("loggedIn")
	socket.authenticate(tokens)
	socket.await("loggedIn")
	_, on := p.visit(s.url("account"))

	began := time.Now()
	_, on = p.submit(on, "/account/applications/disconnect", nil)
	if err := client.userinfo(tokens); !strings.HasPrefix(errorText(err), "401 ") {
		t.Errorf("userinfo after: %v", err)
	}
	if code := client.refresh(tokens); code != "invalid_grant" {
		t.Errorf("refreshing after: %q", code)
	}
	if took := socket.await("loggedOut").Sub(began); took > promptly {
		t.Errorf("telling the client's socket took %v", took)
	}
	select {
	case m := <-page.heard:
		t.Errorf("the browser's own socket has heard %s", m.kind)
	default:
	}
	if on.at.Path != "/account" || strings.Contains(on.body, "applications/disconnect") {
		t.Errorf("at %s, the application is still there, or the person is not:\n%s", on.at, on.body)
	}
	silent := client.config.AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "none"), oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
	if to, _ := p.visit(silent); to == nil || to.Query().Get("error") != "consent_required" {
		t.Errorf("prompt=none leads to %v", to)
	}
	if again, _ := client.signIn(p); client.userinfo(again) != nil {
		t.Error("the application was allowed once more, and has nothing")
	}
}
