package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/identity"
	"login-server/oidc"
	"login-server/store"
)

// The database goes away, and comes back.

// outage is an engine whose database can refuse every call, or hang until the caller
// gives up.
type outage struct {
	store.Engine
	refuses, hangs atomic.Bool
}

func (o *outage) away(ctx context.Context) error {
	switch {
	case o.refuses.Load():
		return errInternal
	case o.hangs.Load():
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (o *outage) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := o.away(ctx); err != nil {
		return store.Doc{}, err
	}
	return o.Engine.Get(ctx, kind, id)
}

func (o *outage) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	if err := o.away(ctx); err != nil {
		return store.Doc{}, err
	}
	return o.Engine.GetUnique(ctx, kind, key)
}

func (o *outage) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	if err := o.away(ctx); err != nil {
		return nil, err
	}
	return o.Engine.Find(ctx, kind, q)
}

func (o *outage) Count(ctx context.Context, kind, key string) (int, error) {
	if err := o.away(ctx); err != nil {
		return 0, err
	}
	return o.Engine.Count(ctx, kind, key)
}

func (o *outage) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := o.away(ctx); err != nil {
		return 0, err
	}
	return o.Engine.Insert(ctx, kind, doc)
}

func (o *outage) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := o.away(ctx); err != nil {
		return 0, err
	}
	return o.Engine.Replace(ctx, kind, doc)
}

func (o *outage) Delete(ctx context.Context, kind, id string) error {
	if err := o.away(ctx); err != nil {
		return err
	}
	return o.Engine.Delete(ctx, kind, id)
}

func (o *outage) Take(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := o.away(ctx); err != nil {
		return store.Doc{}, err
	}
	return o.Engine.Take(ctx, kind, id)
}

func (o *outage) Ping(ctx context.Context) error {
	if err := o.away(ctx); err != nil {
		return err
	}
	return o.Engine.Ping(ctx)
}

// TestOutage: what answers without the database answers, everything else says within
// seconds that it is away, and that one may come again; nobody learns more than that. What
// is open stays open, and when the database is back it is told what has happened meanwhile.
func TestOutage(t *testing.T) {
	for name, begin := range map[string]func(*outage) *atomic.Bool{
		"refuses": func(o *outage) *atomic.Bool { return &o.refuses },
		"hangs":   func(o *outage) *atomic.Bool { return &o.hangs },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, applications(nodeApplications), env("CLIENT_REGISTRATION", "open"), func(o *options) { o.patience = 200 * time.Millisecond })
			o := &outage{Engine: s.store.Engine}
			s.store.Engine = o
			ada := s.browser()
			ada.login("alpha", "ada")
			tokens := ada.clientTokens("spa", eventScope)
			code := ada.codeOf(s)
			older := ada.socket(appOrigin)
			older.greeting("loggedIn", "token")
			client := s.authenticated(spaOrigin, authenticate(tokens.AccessToken))
			client.expect("authenticated", "loggedIn", "token")
			stream := s.mustListen("events", "Cookie", cookieLine(ada), "Origin", appOrigin)
			stream.expect("open", "about", "providers", "authenticated", "loggedIn", "token")
			before := s.log.String()

			away := begin(o)
			away.Store(true)
			// Somebody changes the account on a node that reaches the database.
			elsewhere := identity.NewDirectory(o.Engine, identity.Options{BaseURL: s.base, Now: s.clock.Now, CacheSize: 1, CacheAge: time.Second})
			renamed, err := elsewhere.Get(t.Context(), idOf(t, ada))
			must(t, err)
			_, err = elsewhere.Rename(t.Context(), renamed.ID, "Ada King")
			must(t, err)
			s.running.Load().LookAgain() // and nothing is in memory

			quick := func(f func() answer) answer {
				t.Helper()
				begun := time.Now()
				got := f()
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("%s: %s", got.url, took)
				}
				if got.wantNot("sqlite", "secret-path", "deadline", "context"); got.status == 503 && got.header.Get("Retry-After") == "" {
					t.Errorf("%s: no Retry-After", got.url)
				}
				return got
			}
			var about struct{ OK *int }
			quick(func() answer { return s.browser().get("about") }).want(200).json(&about)
			if about.OK == nil || *about.OK != 0 {
				t.Errorf("ok is %v", about.OK)
			}
			quick(func() answer { return s.browser().get("healthz") }).want(200)
			quick(func() answer { return s.browser().get("readyz") }).want(503, "unavailable")
			quick(func() answer { return s.browser().get("providers") }).want(200)
			for _, path := range []string{"", "account", "sessions", "login", "delete", "help"} {
				quick(func() answer { return ada.open(path) }).want(503, "Temporarily unavailable")
			}
			quick(func() answer { return s.browser().submit("login/alpha", "username", "ada", "password", "ada-pw") }).want(503, "Temporarily unavailable")
			quick(func() answer { return ada.submit("logout") }).want(503, "Temporarily unavailable")
			quick(func() answer { return ada.authorize(authorization("spa")) }).want(503, "Temporarily unavailable")
			for _, path := range []string{"currentUser", "token", "users/x"} {
				quick(func() answer { return ada.get(path) }).want(503, `"code":"unavailable"`)
			}
			quick(func() answer { return ada.fetch(appOrigin, "DELETE", "sessions", "") }).want(503, `"code":"unavailable"`)
			quick(func() answer { return s.redeem(code) }).want(503, `"error":"temporarily_unavailable"`)
			quick(func() answer { got, _ := s.refreshed("spa", tokens.RefreshToken); return got }).want(503, `"error":"temporarily_unavailable"`)
			quick(func() answer { return s.userinfo(tokens.AccessToken) }).want(503, `"error":"temporarily_unavailable"`)
			for _, path := range []string{oidc.PathIntrospect, oidc.PathRevoke} {
				quick(func() answer {
					return s.browser().submitProgram(path, "client_id", "app", "client_secret", "a-secret-that-is-long-enough", "token", tokens.AccessToken)
				}).want(503, `"error":"temporarily_unavailable"`)
			}
			quick(func() answer { return s.browser().submitProgram(oidc.PathDevice, "client_id", "tv") }).want(503, `"error":"temporarily_unavailable"`)
			quick(func() answer {
				return s.browser().send("POST", strings.TrimPrefix(oidc.PathPush, "/"), headers("Content-Type", "application/x-www-form-urlencoded"), authorization("spa").Encode())
			}).want(503, `"error":"temporarily_unavailable"`)
			quick(func() answer {
				return s.browser().send("POST", "events/ticket", headers("Authorization", bearer(tokens.AccessToken)), "")
			}).want(503, `"error":"temporarily_unavailable"`)
			if resp, body := s.register(redirects); resp.StatusCode != 503 || body["error"] != "temporarily_unavailable" || resp.Header.Get("Retry-After") == "" {
				t.Errorf("registration: %d %v", resp.StatusCode, body)
			}
			// Many at once wait no longer than one.
			begun := time.Now()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() { ada.get("about").want(200); ada.get("currentUser").want(503) })
			}
			all.Wait()
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("twenty at once wait %s", took)
			}
			if _, response, err := ada.dial(appOrigin); err == nil || response == nil || response.StatusCode != 503 {
				t.Errorf("a socket is opened: %v", err)
			}
			older.expectNothing()
			client.expectNothing()
			if text := s.numbers(); !strings.Contains(text, "login_server_database_up 0\n") || strings.Contains(text, "login_server_database_failures_total 0\n") {
				t.Error("the numbers do not tell")
			}
			log := strings.TrimPrefix(s.log.String(), before)
			if n := strings.Count(log, "\n"); n != 1 || !strings.Contains(log, "the database does not answer") {
				t.Errorf("the log has %d lines:\n%s", n, log)
			}

			away.Store(false)
			// The last question of before may still hang; the next one is a second later.
			waitFor(t, "somebody to notice that it is back", func() bool {
				time.Sleep(s.options.patience / 4)
				s.clock.Advance(time.Second)
				return s.browser().get("readyz").status == 200
			})
			// Nothing that was to be used once was used up.
			s.redeem(code).want(200)
			again, _ := s.refreshed("spa", tokens.RefreshToken)
			again.want(200)
			// Groups ask again each second. One that asks while another is at it does so once more.
			ticking := make(chan struct{})
			go func() {
				tick := time.NewTicker(100 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-ticking:
						return
					case <-tick.C:
						s.clock.Advance(time.Second)
					}
				}
			}()
			defer close(ticking)
			older.expect("updated")
			client.expect("updated")
			if e := stream.expect("updated"); e.Data.User["name"] != "Ada King" {
				t.Errorf("got %s", e.raw)
			}
			s.browser().get("about").want(200).json(&about)
			if *about.OK != 1 {
				t.Error("about does not know that it is back")
			}
			ada.open("account").want(200, "Ada King")
			log = strings.TrimPrefix(s.log.String(), before)
			if strings.Count(log, "the database answers again") != 1 || strings.Contains(log, "level=WARN") || strings.Count(log, "level=ERROR") != 1 {
				t.Errorf("the log has\n%s", log)
			}
			if !strings.Contains(s.numbers(), "login_server_database_up 1\n") {
				t.Error("the numbers do not tell that it is back")
			}
		})
	}
}

// idOf is the id of who is signed in, which is in memory.
func idOf(t *testing.T, b *browser) string {
	t.Helper()
	var u identity.User
	must(t, json.Unmarshal([]byte(b.get("currentUser").want(200).body), &u))
	return u.ID
}

// numbers are those for Prometheus.
func (s *server) numbers() string {
	w := httptest.NewRecorder()
	s.running.Load().Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// A database that is slow, or broken in one place, is not away: that is logged, and nobody
// is told to come again.
func TestNoOutage(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	s.running.Load().LookAgain()
	s.store.fail(broken("user"))
	b.get("currentUser").want(500, "internal").wantNot("sqlite")
	if log := s.log.String(); !strings.Contains(log, "request failed") || strings.Contains(log, "does not answer") {
		t.Errorf("the log has\n%s", log)
	}
}

// A call that was lost on its way to a database that answers again is no error of ours:
// one may come again. What has happened is in the log.
func TestLostCall(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	s.running.Load().LookAgain()
	s.store.fail(func(kind string) error {
		if kind == "user" {
			return fmt.Errorf("read user: %w: secret-host:27017 has hung up", store.ErrAway)
		}
		return nil
	})
	a := b.get("currentUser").want(503, "unavailable").wantNot("secret-host")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if log := s.log.String(); !strings.Contains(log, "has hung up") {
		t.Errorf("the log has\n%s", log)
	}
}
