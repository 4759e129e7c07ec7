package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"login-server/identity"
)

// The HTTP API of contract section 5.

func TestAbout(t *testing.T) {
	s := newServer(t)
	s.browser().login("alpha", "ada")
	b := s.browser()
	golden(t, "about", b.get("about").want(200).body)

	s.run("database away", func(t *testing.T) {
		// On a slow machine the server counts in the background and answers what it has.
		becomes := func(want int) {
			t.Helper()
			s.clock.Advance(2 * time.Second)
			for deadline := time.Now().Add(patience); ; {
				var about struct{ OK int }
				b.get("about").want(200).json(&about)
				if about.OK == want {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("ok is %d, want %d", about.OK, want)
				}
			}
		}
		s.store.fail(away)
		becomes(0)
		s.store.fail(broken(""))
		becomes(1)
	})
}

func TestProviders(t *testing.T) {
	s := newServer(t)
	golden(t, "providers", s.browser().get("providers").want(200).wantNot("-pw", "$2a$", "script.sh", "template").body)
}

func TestCurrentUser(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	golden(t, "unauthorized", b.get("currentUser").want(401).body)
	b.login("alpha", "ada")
	a := b.get("currentUser").want(200)
	golden(t, "currentUser", a.body)
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
}

func TestUsers(t *testing.T) {
	s := newServer(t)
	ada, ben := s.browser(), s.browser()
	ada.login("alpha", "ada")
	ben.login("alpha", "ben")
	me, other := "users/"+ada.user().ID, "users/"+ben.user().ID

	for _, tc := range []struct {
		name    string
		browser *browser
		path    string
		status  int
	}{
		{"list", ada, "users", 403},
		{"list, signed out", s.browser(), "users", 403},
		{"own", ada, me, 200},
		{"other", ada, other, 403},
		{"other, signed out", s.browser(), other, 403},
		{"unknown", ada, "users/3b241101-e2bb-4255-8caf-4136c566a962", 404},
		{"unknown, signed out", s.browser(), "users/nobody", 404},
		{"very long", ada, "users/" + strings.Repeat("x", 10_000), 404},
		{"escaped slash", ada, "users/a%2Fb", 404},
		{"not UTF-8", ada, "users/%ff%fe", 404},
		{"null byte", ada, "users/%00", 404},
		{"escaped letter", ada, strings.Replace(me, "users/0", "users/%30", 1), 200},
		{"with a slash behind", ada, me + "/", 200},
	} {
		s.run(tc.name, func(t *testing.T) {
			a := tc.browser.get(tc.path).want(tc.status)
			if tc.status == 200 {
				return
			}
			var e struct {
				Status  int
				Message string
			}
			if a.json(&e); e.Status != tc.status || e.Message == "" {
				t.Errorf("got %s, want {status, message}", a.body)
			}
		})
	}
	golden(t, "forbidden", ada.get(other).body)
}

// The old URL of an account that was merged leads to the one that has absorbed it,
// for everybody who still has it.
func TestMergedUserRedirects(t *testing.T) {
	s := newServer(t)
	b, former := s.merged()
	b.get("users/" + former.ID).leadsTo("/users/" + b.user().ID)
	s.browser().get("users/" + former.ID).leadsTo("/users/" + b.user().ID)
	s.browser().get("users/" + b.user().ID).want(403)
}

func TestPatchUser(t *testing.T) {
	s := newServer(t)
	b, other := s.browser(), s.browser()
	b.login("alpha", "ada")
	other.login("alpha", "ben")
	me := "users/" + b.user().ID

	golden(t, "patched", b.fetch(appOrigin, "PATCH", me, `{"name": "Ada King"}`).want(200).body)

	for _, tc := range []struct {
		name, body string
		status     int
		want       string // the name afterwards
	}{
		{"trimmed", `{"name": "  Lady Lovelace "}`, 200, "Lady Lovelace"},
		{"200 characters", `{"name": "` + strings.Repeat("ä", 200) + `"}`, 200, strings.Repeat("ä", 200)},
		{"other fields are ignored", `{"name": "Ada", "_id": "x", "identities": {}, "merged": ["x"]}`, 200, "Ada"},
		{"201 characters", `{"name": "` + strings.Repeat("ä", 201) + `"}`, 422, ""},
		{"90 kB", `{"name": "` + strings.Repeat("x", 90_000) + `"}`, 422, ""},
		{"empty", `{"name": ""}`, 422, ""},
		{"spaces", `{"name": " \t "}`, 422, ""},
		{"null", `{"name": null}`, 422, ""},
		{"object", `{"name": {"a": 1}}`, 422, ""},
		{"list", `{"name": ["Ada"]}`, 422, ""},
		{"number", `{"name": 7}`, 422, ""},
		{"boolean", `{"name": true}`, 422, ""},
		{"control character", `{"name": "A\u0007da"}`, 422, ""},
		{"line break", `{"name": "Ada\nAdmin"}`, 422, ""},
		{"null byte", `{"name": "Ada\u0000"}`, 422, ""},
		{"direction mark", `{"name": "Ada\u202e"}`, 422, ""},
		{"no name", `{"title": "Lady"}`, 422, ""},
		{"nothing", ``, 422, ""},
		{"empty object", `{}`, 422, ""},
		{"JSON null", `null`, 422, ""},
		{"not JSON", `name=Ada`, 400, ""},
		{"not an object", `["name"]`, 400, ""},
		{"not UTF-8", "{\"name\": \"\xff\"}", 400, ""},
		{"10 MB", `{"name": "` + strings.Repeat("x", 10<<20) + `"}`, 413, ""},
	} {
		s.run(tc.name, func(t *testing.T) {
			before := b.user().Name
			if tc.want == "" {
				tc.want = before
			}
			b.fetch(appOrigin, "PATCH", me, tc.body).want(tc.status)
			if got := b.user().Name; got != tc.want {
				t.Errorf("the name is %q, want %q", got, tc.want)
			}
		})
	}
	s.run("half a request", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), "PATCH", s.base+me, iotest.ErrReader(io.ErrUnexpectedEOF))
		base, err := url.Parse(s.base)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b.client.Jar.Cookies(base) {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		s.running.Load().ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String(), "EOF") {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	})
	s.run("somebody else", func(t *testing.T) {
		other.fetch(appOrigin, "PATCH", me, `{"name": "Ben"}`).want(403)
	})
	s.run("signed out", func(t *testing.T) {
		s.browser().fetch(appOrigin, "PATCH", me, `{"name": "Ben"}`).want(401)
	})
	s.run("unknown", func(t *testing.T) {
		b.fetch(appOrigin, "PATCH", "users/nobody", `{"name": "Ben"}`).want(403)
	})
	golden(t, "invalid-name", b.fetch(appOrigin, "PATCH", me, `{"name": ""}`).body)
}

func TestDeleteSessions(t *testing.T) {
	s := newServer(t)
	browsers := make([]*browser, 3)
	for i := range browsers {
		browsers[i] = s.browser()
		browsers[i].login("alpha", "ada")
	}
	mine, second, third := browsers[0], browsers[1], browsers[2]
	ben := s.browser()
	ben.login("alpha", "ben")

	s.browser().fetch(appOrigin, "DELETE", "sessions", "").want(401)
	s.browser().fetch(appOrigin, "DELETE", "sessions/x", "").want(401)
	golden(t, "unknown-session", mine.fetch(appOrigin, "DELETE", "sessions/x", "").want(422).body)
	mine.fetch(appOrigin, "DELETE", "sessions/"+strings.Repeat("x", 10_000), "").want(422)
	mine.fetch(appOrigin, "DELETE", "sessions/"+s.handleOf(ben), "").want(422)
	ben.get("currentUser").want(200)

	socket := third.socket(appOrigin)
	socket.greeting("loggedIn", "token")
	mine.fetch(appOrigin, "DELETE", "sessions/"+s.handleOf(third), "").want(204)
	third.get("currentUser").want(401)
	second.get("currentUser").want(200)
	socket.expectClosed()
	mine.fetch(appOrigin, "DELETE", "sessions/"+s.handleOf(mine)+"x", "").want(422)

	socket = second.socket(appOrigin)
	socket.greeting("loggedIn", "token")
	mine.fetch(appOrigin, "DELETE", "sessions", "").want(204)
	second.get("currentUser").want(401)
	mine.get("currentUser").want(200)
	ben.get("currentUser").want(200)
	socket.expectClosed()

	// The own one too: it is removed, not only signed out.
	socket = mine.socket(appOrigin)
	socket.greeting("loggedIn", "token")
	mine.fetch(appOrigin, "DELETE", "sessions/"+s.handleOf(mine), "").want(204)
	mine.get("currentUser").want(401)
	socket.expectClosed()
	// Its cookie does not look blocked to the client.
	var a tokenAnswer
	mine.get("token").want(200).json(&a)
	if s.verify(a.Token).SessionID == "" {
		t.Error("the token carries no session")
	}
}

// handleOf is the handle of a browser's session.
func (s *server) handleOf(b *browser) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.base, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range b.cookies() {
		r.AddCookie(c)
	}
	visit, err := s.sessions.Visit(r)
	if err != nil || visit.Handle == "" {
		s.t.Fatalf("no session: %v", err)
	}
	return visit.Handle
}

// claims are those of a token, verified by another library with nothing but the PEM.
type claims struct {
	User      *identity.User `json:"user"`
	SessionID string         `json:"sessionID"`
	jwt.RegisteredClaims
}

func (s *server) verify(signed string) claims {
	s.t.Helper()
	var about struct{ PublicKey, Algorithm string }
	s.browser().get("about").want(200).json(&about)
	key, err := jwt.ParseRSAPublicKeyFromPEM([]byte(about.PublicKey))
	if err != nil {
		s.t.Fatal(err)
	}
	var c claims
	_, err = jwt.ParseWithClaims(signed, &c, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{about.Algorithm}), jwt.WithTimeFunc(s.clock.Now), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		s.t.Fatalf("verify: %v", err)
	}
	return c
}

type tokenAnswer struct {
	Token     string
	ExpiresIn int
}

func TestToken(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	fetch := func() (tokenAnswer, claims) {
		t.Helper()
		var a tokenAnswer
		b.fetch(appOrigin, "GET", "token", "").want(200).json(&a)
		return a, s.verify(a.Token)
	}

	_, c := fetch()
	if c.User != nil || c.SessionID != "" {
		t.Errorf("without a cookie the token carries %v and session %q", c.User, c.SessionID)
	}
	// The client finds out in this way that its cookies are not blocked.
	b.fetch(appOrigin, "GET", "login", "").want(200)
	if _, c = fetch(); c.User != nil || c.SessionID == "" {
		t.Errorf("after GET /login the token carries %v and session %q, want nobody and one", c.User, c.SessionID)
	}
	if s.documents("session") != 0 {
		t.Error("an anonymous visitor has been stored")
	}
	b.login("alpha", "ada")
	a, c := fetch()
	if c.User == nil || c.User.Name != "Ada" || c.SessionID == "" {
		t.Errorf("signed in the token carries %v and session %q", c.User, c.SessionID)
	}
	if a.ExpiresIn != 120 || c.ExpiresAt.Sub(c.IssuedAt.Time) != 120*time.Second {
		t.Errorf("expiresIn is %d, and exp-iat %s, want 120 s", a.ExpiresIn, c.ExpiresAt.Sub(c.IssuedAt.Time))
	}
	if strings.Contains(c.SessionID, s.handleOf(b)) {
		t.Error("sessionID can be read")
	}
	var payload map[string]json.RawMessage
	part, err := jwt.NewParser().DecodeSegment(strings.Split(a.Token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(part, &payload); err != nil {
		t.Fatal(err)
	}
	payload["sessionID"] = json.RawMessage(`"(sealed)"`)
	shown, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "claims", string(shown))

	s.run("not older than a tenth of its life", func(t *testing.T) {
		s.clock.Advance(5 * time.Second)
		if again, _ := fetch(); again.Token != a.Token || again.ExpiresIn != 115 {
			t.Errorf("after 5 s: another token (%v), which lives %d s, want the same and 115 s", again.Token != a.Token, again.ExpiresIn)
		}
		s.clock.Advance(8 * time.Second)
		if again, _ := fetch(); again.Token == a.Token || again.ExpiresIn != 120 {
			t.Errorf("after 13 s: the same token (%v), which lives %d s, want a new one and 120 s", again.Token == a.Token, again.ExpiresIn)
		}
	})
	s.run("shows a change at once", func(t *testing.T) {
		fetch()
		b.fetch(appOrigin, "PATCH", "users/"+b.user().ID, `{"name": "Ada King"}`).want(200)
		if _, c := fetch(); c.User.Name != "Ada King" {
			t.Errorf("the token says %q", c.User.Name)
		}
		b.submit("logout").leadsTo("/login")
		if _, c := fetch(); c.User != nil {
			t.Errorf("signed out the token carries %v", c.User)
		}
	})
	s.run("JWKS", func(t *testing.T) {
		b.get(".well-known/jwks.json").want(200, `"kty":"RSA"`, `"alg":"RS256"`).wantNot(`"d":`)
	})
}

// Tokens of many sessions are signed at once; the race detector looks on.
func TestParallelTokens(t *testing.T) {
	s := newServer(t)
	var wg sync.WaitGroup
	for range 8 {
		b := s.browser()
		b.open("login")
		wg.Go(func() { b.get("token") })
	}
	wg.Wait()
}

// Every path answers every origin by the same rules (contract section 5), errors and
// redirects included.
func TestCORS(t *testing.T) {
	s := newServer(t)
	signedIn := s.browser()
	signedIn.login("alpha", "ada")
	paths := []string{
		"", "login", "login/", "login/alpha", "login/nobody", "account", "account/data", "sessions", "logout", "delete", "merge", "help", "api",
		"disconnect/alpha", "about", "providers", "currentUser", "users", "users/x", "token", ".well-known/jwks.json", "healthz", "readyz",
		"static/app.css", "static/none", "favicon.ico", "nothing/here", "login?redirect_uri=javascript:x",
	}
	cors := []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers"}
	wanted := map[string]string{
		"Access-Control-Allow-Credentials": "true",
		"Access-Control-Allow-Methods":     "GET,PUT,POST,PATCH,DELETE",
		"Access-Control-Allow-Headers":     "Origin,X-Requested-With,Content-Type,Accept,Authorization",
		"Access-Control-Expose-Headers":    "X-Total-Count, Link",
	}
	for _, path := range paths {
		s.run("/"+path, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "DELETE", "PATCH"} {
				for _, origin := range []string{appOrigin, toolOrigin, s.cfg.Origin()} {
					a := signedIn.copyOf().send(method, path, headers("Origin", origin, "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"), "")
					wanted["Access-Control-Allow-Origin"] = origin
					for name, want := range wanted {
						if got := a.header.Get(name); got != want {
							t.Errorf("%s from %s: %s is %q, want %q", method, origin, name, got, want)
						}
					}
					variesByOrigin(t, a)
				}
				for _, origin := range []string{evilOrigin, "null", "https://app.example.org.evil.com", "http://app.example.org", "https://APP.example.org", ""} {
					h := http.Header{}
					if origin != "" {
						h.Set("Origin", origin)
					}
					a := s.browser().send(method, path, h, "")
					for _, name := range cors {
						if got := a.header.Get(name); got != "" {
							t.Errorf("%s from %q: %s is %q", method, origin, name, got)
						}
					}
					variesByOrigin(t, a)
				}
			}
			preflight := headers("Origin", appOrigin, "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "content-type,authorization")
			a := s.browser().send("OPTIONS", path, preflight, "").want(204)
			for _, name := range []string{"Access-Control-Allow-Credentials", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
				if a.header.Get(name) != wanted[name] {
					t.Errorf("pre-flight: %s is %q", name, a.header.Get(name))
				}
			}
			variesByOrigin(t, a)
			preflight.Set("Origin", evilOrigin)
			a = s.browser().send("OPTIONS", path, preflight, "")
			for _, name := range cors {
				if got := a.header.Get(name); got != "" {
					t.Errorf("pre-flight from elsewhere: %s is %q", name, got)
				}
			}
			variesByOrigin(t, a)
		})
	}
}

func variesByOrigin(t *testing.T, a answer) {
	t.Helper()
	for _, value := range a.header.Values("Vary") {
		for name := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(name) == "Origin" {
				return
			}
		}
	}
	t.Errorf("%s: Vary is %q, without Origin", a.url, a.header.Values("Vary"))
}

func TestHealth(t *testing.T) {
	s := newServer(t, env("METRICS_TOKEN", "the-token-of-the-tests"))
	b := s.browser()
	b.get("healthz").want(200)
	b.get("readyz").want(200)
	b.get("metrics").want(401).wantNot("login_server")
	b.send("GET", "metrics", headers("Authorization", "Bearer wrong"), "").want(401)
	b.send("GET", "metrics", headers("Authorization", "Bearer the-token-of-the-tests"), "").want(200, "login_server_http_requests_total")

	s.store.fail(away)
	b.get("healthz").want(200)
	a := b.get("readyz").want(503).wantNot("sqlite", "secret-path")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.store.fail(broken(""))
	s.running.Load().Drain()
	b.get("readyz").want(503)
	b.get("healthz").want(200)
}

func TestMethods(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for _, tc := range []struct{ method, path, allow string }{
		{"POST", "about", "GET, HEAD"},
		{"DELETE", "currentUser", "GET, HEAD"},
		{"PUT", "users/x", "GET, PATCH, HEAD"},
		{"PATCH", "sessions", "GET, DELETE, HEAD"},
		{"GET", "account/name", "POST"},
		{"POST", "help", "GET, HEAD"},
		{"OPTIONS", "help", "GET, HEAD"},
		{"TRACE", "about", "GET, HEAD"},
	} {
		a := b.send(tc.method, tc.path, nil, "").want(405)
		if got := a.header.Get("Allow"); got != tc.allow {
			t.Errorf("%s %s: Allow is %q, want %q", tc.method, tc.path, got, tc.allow)
		}
	}
	// HEAD answers as GET does, without the body, and does nothing.
	b.login("alpha", "ada")
	for _, path := range []string{"login/beta", "account", "help", "about", "currentUser", "token", "static/app.css", "logout", "disconnect/alpha"} {
		if a := b.send("HEAD", path, headers("Referer", appOrigin+"/"), "").want(200); a.body != "" {
			t.Errorf("HEAD %s has a body", path)
		}
	}
	b.get("currentUser").want(200)
}
