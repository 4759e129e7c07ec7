package providers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/config"
	"login-server/identity"
)

// serve starts a server that the test may make do anything.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// badServers are the ways in which another server is no help. Each of them makes a
// failure, never a refusal: the person cannot do anything about it.
var badServers = []struct {
	name, want string
	handle     http.HandlerFunc
}{
	{"500", "status 500", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		_, _ = io.WriteString(w, `{"token":"x"}`)
	}},
	{"503 with HTML", "status 503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); _, _ = io.WriteString(w, "<html>") }},
	{"404", "status 404", http.NotFound},
	{"redirect", "status 307", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://evil.example/", http.StatusTemporaryRedirect)
	}},
	{"garbage", "", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x00\xff garbage") }},
	{"nothing", "", func(http.ResponseWriter, *http.Request) {}},
	{"another JSON", "", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[1,2,3]`) }},
	{"null", "", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `null`) }},
	{"without an end", "longer than 1048576 bytes", func(w http.ResponseWriter, r *http.Request) {
		chunk := []byte(strings.Repeat(" ", 64<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}},
	{"hangs up", "EOF", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }},
	{"never answers", "deadline exceeded", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	{"never ends its answer", "deadline exceeded", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"data":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}},
}

// runsOut returns a context for asking a server that does not answer, and its handler. The
// deadline passes a moment after the server was asked: not before, however busy the
// machine is, and long enough after for what it does say to arrive.
func runsOut(t *testing.T, handle http.HandlerFunc) (context.Context, http.HandlerFunc) {
	ctx := &limited{t.Context(), make(chan struct{})}
	end := sync.OnceFunc(func() { close(ctx.over) })
	return ctx, func(w http.ResponseWriter, r *http.Request) {
		time.AfterFunc(20*time.Millisecond, end)
		handle(w, r)
	}
}

// limited is a context with a deadline that passes when over is closed.
type limited struct {
	context.Context
	over chan struct{}
}

func (l *limited) Done() <-chan struct{} { return l.over }

func (l *limited) Err() error {
	select {
	case <-l.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestBadServers(t *testing.T) {
	for _, bad := range badServers {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			for strategy, options := range map[string]object{"cbs": {"apiKey": "key"}, "easydb": {}} {
				ctx, handle := t.Context(), bad.handle
				if bad.want == "deadline exceeded" {
					ctx, handle = runsOut(t, handle)
				}
				s := serve(t, func(w http.ResponseWriter, r *http.Request) {
					// The body is read first: only then does the server see the client go.
					_, _ = io.Copy(io.Discard, r.Body)
					handle(w, r)
				})
				options["url"] = s.URL
				failing(t, open(t, strategy, options), ctx, "ada", scriptPassword, bad.want)
			}
		})
		t.Run(bad.name+" after the session of easydb", func(t *testing.T) {
			t.Parallel()
			ctx, handle := t.Context(), bad.handle
			if bad.want == "deadline exceeded" {
				ctx, handle = runsOut(t, handle)
			}
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/session" {
					_, _ = io.WriteString(w, `{"token":"t"}`)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				handle(w, r)
			})
			failing(t, open(t, "easydb", object{"url": s.URL}), ctx, "ada", scriptPassword, bad.want)
		})
	}
	t.Run("down", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		cbs := open(t, "cbs", object{"url": s.URL, "apiKey": "key"})
		failing(t, cbs, t.Context(), "ada", scriptPassword, "connection refused")
		if err := cbs.Prober.Probe(t.Context()); err == nil {
			t.Error("cbs: no complaint")
		}
		easydb := open(t, "easydb", object{"url": s.URL})
		failing(t, easydb, t.Context(), "ada", scriptPassword, "connection refused")
		if err := easydb.Prober.Probe(t.Context()); err == nil {
			t.Error("easydb: no complaint")
		}
	})
}

// fakeEasydb behaves as easydb's documentation says. It refuses credentials in the
// URL, which the older program sent.
func fakeEasydb(t *testing.T, user string, refusal int) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/session", func(w http.ResponseWriter, r *http.Request) {
		if agent := r.UserAgent(); agent != "login-server/1.2.3" {
			t.Errorf("User-Agent %q", agent)
		}
		_, _ = io.WriteString(w, `{"token": "fresh", "pending_tasks": []}`)
	})
	mux.HandleFunc("POST /api/v1/session/authenticate", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			t.Errorf("query string %q", r.URL.RawQuery)
		}
		if r.PostFormValue("token") != "fresh" {
			w.WriteHeader(400)
			return
		}
		if r.PostFormValue("login") != "ada" || r.PostFormValue("password") != scriptPassword {
			w.WriteHeader(refusal)
			_, _ = io.WriteString(w, `{"code": "error.user.login_failed", "description": "no"}`)
			return
		}
		_, _ = io.WriteString(w, user)
	})
	return serve(t, mux.ServeHTTP)
}

func TestEasydb(t *testing.T) {
	for user, want := range map[string]identity.Profile{
		`{"user": {"_id": 9007199254740993, "_generated_displayname": "Ada Lovelace", "login": "ada"}}`:            {Provider: "p", ID: "9007199254740993", Name: "Ada Lovelace", Username: "ada"},
		`{"user": {"_generated_displayname": "Ada Lovelace", "user": {"_id": 7, "login": "ada"}}, "token": "new"}`: {Provider: "p", ID: "7", Name: "Ada Lovelace", Username: "ada"},
		`{"user": {"_id": "seven", "login": "ada"}}`:                                                               {Provider: "p", ID: "seven", Username: "ada"},
	} {
		for _, base := range []string{"/api/v1", "/api/v1/"} {
			s := fakeEasydb(t, user, 400)
			p := open(t, "easydb", object{"url": s.URL + base})
			if got := accepted(t, p, "ada", scriptPassword); got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			if err := p.Prober.Probe(t.Context()); err != nil {
				t.Errorf("Probe: %v", err)
			}
		}
	}
	for _, status := range []int{400, 401, 403} {
		s := fakeEasydb(t, "", status)
		p := open(t, "easydb", object{"url": s.URL + "/api/v1/"})
		refused(t, p, "ada", "wrong")
		refused(t, p, "nobody", "wrong")
		refused(t, p, "ada", "")
	}
	for _, user := range []string{`{}`, `{"user": {}}`, `{"user": null}`, `{"user": {"_id": true}}`, `{"user": {"_id": ""}}`} {
		s := fakeEasydb(t, user, 400)
		failing(t, open(t, "easydb", object{"url": s.URL + "/api/v1/"}), t.Context(), "ada", scriptPassword, "authenticate")
	}
}

// TestEasydbUpstream: the token of the session that was authenticated is handed on when
// an operator wants it, and only then.
func TestEasydbUpstream(t *testing.T) {
	s := fakeEasydb(t, `{"user": {"_id": 7, "login": "ada"}, "token": "of something else"}`, 400)
	for exposed, want := range map[bool]string{false: "", true: `{"token":"fresh"}`} {
		data, err := json.Marshal(object{"url": s.URL + "/api/v1/"})
		if err != nil {
			t.Fatal(err)
		}
		cfg := &config.Config{BaseURL: testBase, Providers: []config.Provider{{ID: "p", Strategy: "easydb", ExposeUpstreamToken: exposed, Options: data}}}
		set, _, err := Open(cfg, testDeps())
		if err != nil {
			t.Fatal(err)
		}
		p, _ := set.Get("p")
		if got := accepted(t, p, "ada", scriptPassword); got.Upstream != want {
			t.Errorf("exposeUpstreamToken %v: handed on %q, want %q", exposed, got.Upstream, want)
		}
		if set.Exposes("p") != exposed || set.Exposes("q") {
			t.Errorf("Exposes: %v for p, %v for nobody", set.Exposes("p"), set.Exposes("q"))
		}
	}
}

func fakeCBS(t *testing.T, status int, answer string) *httptest.Server {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		var question struct{ UserKey, Password string }
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if err := json.Unmarshal(body, &question); err != nil || question.UserKey != "1999" || question.Password != scriptPassword ||
			r.Header.Get("Authorization") != "apikey the-key" || r.Header.Get("Content-Type") != "application/json" || r.UserAgent() != "login-server/1.2.3" {
			t.Errorf("asked %s with %v", body, r.Header)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	})
}

func TestCBS(t *testing.T) {
	provider := func(status int, answer string) *Provider {
		return open(t, "cbs", object{"url": fakeCBS(t, status, answer).URL + "/ext/api/colirich/", "apiKey": "the-key"})
	}
	p := provider(200, `{"data": {"userKey": "1999", "name": "Ada Lovelace", "hasCataloguingPermissions": true}}`)
	want := identity.Profile{Provider: "p", ID: "1999", Name: "Ada Lovelace"}
	if got := accepted(t, p, "1999", scriptPassword); got != want {
		t.Errorf("got %+v", got)
	}
	if err := p.Prober.Probe(t.Context()); err != nil {
		t.Errorf("Probe: %v", err)
	}
	for _, tc := range []struct {
		status         int
		answer, reason string
	}{
		{401, `{"errors": [{"status": "401", "title": "Wrong\u0007 user or password"}]}`, "Wrong user or password"},
		{401, `{"errors": []}`, ""},
		{401, `<html>`, ""},
		{200, `{"data": {"userKey": 1999, "name": "Ada", "hasCataloguingPermissions": false}}`, noPermission},
		{200, `{"data": {"userKey": "1999", "name": "Ada"}}`, noPermission},
	} {
		err := refused(t, provider(tc.status, tc.answer), "1999", scriptPassword)
		var reason string
		if r, ok := errors.AsType[*RefusedError](err); ok {
			reason = r.Reason
		}
		if reason != tc.reason {
			t.Errorf("%s: reason %q, want %q", tc.answer, reason, tc.reason)
		}
	}
	for status, answer := range map[int]string{
		200: `{"data": {"name": "Ada", "hasCataloguingPermissions": true}}`,
		201: `{"data": {"userKey": "1999", "hasCataloguingPermissions": true}}`,
		403: `{"errors": [{"title": "The key is not valid"}]}`,
	} {
		failing(t, provider(status, answer), t.Context(), "1999", scriptPassword, "cbs")
	}
}
