package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What people with bad intentions send, and what is only broken.

// Forms are taken from our own pages only; calls also from allowed origins.
func TestCrossSite(t *testing.T) {
	s := newServer(t)
	forms := []string{"login/beta", "logout", "account/name", "account/undo-merge", "merge", "sessions/remove", "sessions/remove-others", "disconnect/alpha", "delete"}
	b := s.browser()
	b.login("alpha", "ada")
	phone := s.browser()
	phone.login("alpha", "ada")

	for _, path := range forms {
		for _, from := range []string{evilOrigin + "/", appOrigin + "/", toolOrigin + "/", "null"} {
			b.submitFrom(from, path, "username", "ben", "password", "ben-pw", "name", "Ada").want(403, "Request from another website")
			// A script can post, too, without asking first.
			h := headers("Origin", originOf(from), "Content-Type", "text/plain", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "cross-site")
			b.send("POST", path, h, "name=Ada").want(403)
		}
		// Older browsers send no Fetch Metadata, but an Origin.
		b.send("POST", path, headers("Origin", evilOrigin, "Content-Type", "application/x-www-form-urlencoded"), "name=Ada").want(403)
		b.send("POST", path, headers("Origin", "null", "Content-Type", "application/x-www-form-urlencoded"), "name=Ada").want(403)
	}
	if u := b.user(); u.Name != "Ada" || len(u.Identities) != 1 {
		t.Errorf("something was changed: %+v", u)
	}
	phone.get("currentUser").want(200)

	for _, method := range []string{"DELETE", "PATCH"} {
		for _, path := range []string{"sessions", "sessions/x", "users/" + b.user().ID} {
			b.fetch(evilOrigin, method, path, `{"name": "Eve"}`).want(403, `"code":"cross_site"`)
			b.send(method, path, headers("Origin", evilOrigin), `{"name": "Eve"}`).want(403)
		}
	}
	phone.get("currentUser").want(200)

	s.run("what sends neither Fetch Metadata nor an Origin is no browser", func(t *testing.T) {
		c := s.browser()
		c.send("POST", "login/alpha", headers("Content-Type", "application/x-www-form-urlencoded"), "username=ada&password=ada-pw").leadsTo("/account")
		c.get("currentUser").want(200)
	})
	s.run("older browser, own page", func(t *testing.T) {
		c := s.browser()
		c.send("POST", "login/alpha", headers("Origin", s.cfg.Origin(), "Content-Type", "application/x-www-form-urlencoded"), "username=ada&password=ada-pw").leadsTo("/account")
	})
	s.run("a form that was restored with the address typed", func(t *testing.T) {
		c := s.browser()
		c.send("POST", "login/alpha", headers("Sec-Fetch-Site", "none", "Content-Type", "application/x-www-form-urlencoded"), "username=ada&password=ada-pw").leadsTo("/account")
	})
}

// A cookie that somebody has planted before a sign-in is worth nothing after it.
func TestSessionFixation(t *testing.T) {
	s := newServer(t)
	attacker := s.browser()
	attacker.open("login")
	victim := attacker.copyOf()
	victim.login("alpha", "ada")
	attacker.get("currentUser").want(401)
	attacker.open("account").leadsTo("/login")

	// The same with a session of the attacker's own: linking replaces its secret.
	attacker = s.browser()
	attacker.login("beta", "ben")
	victim = attacker.copyOf()
	victim.submit("login/gamma", "username", "ada", "password", "ada-pw").leadsTo("/account")
	attacker.get("currentUser").want(401)
	victim.get("currentUser").want(200)

	// And signing out ends it for every copy of the cookie.
	copied := victim.copyOf()
	victim.submit("logout")
	copied.get("currentUser").want(401)
	victim.login("alpha", "ada")
	copied.get("currentUser").want(401)
}

// A session that is removed while a provider is being asked adds no identity to the
// account it had: whoever has proved that identity is signed in by it alone.
func TestSessionRemovedMeanwhile(t *testing.T) {
	s := newServer(t)
	owner, thief := s.browser(), s.browser()
	owner.login("alpha", "ada")
	thief.jar.SetCookies(s.cfg.BaseURL, owner.cookies()) // an open browser somewhere
	phone := s.browser()
	phone.login("alpha", "ada")

	answered := make(chan answer)
	go func() { answered <- thief.submit("login/script", "username", "slow", "password", "x") }()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // a script of the operating system's
		if _, err := os.Stat(filepath.Join(s.cfg.Dir, "started")); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the script was not started")
		}
	}
	phone.fetch(appOrigin, "DELETE", "sessions", "").want(204)
	s.write(s.cfg.Dir, "go", "", 0o600)
	(<-answered).leadsTo("/account")
	if got := thief.user(); got.ID == phone.user().ID || got.Name != "Slow" {
		t.Errorf("signed in as %+v", got)
	}
	if got := phone.user().Identities; len(got) != 1 {
		t.Errorf("identities of the owner: %v", got)
	}
}

func TestCookies(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	var value, name string
	for _, c := range b.cookies() {
		if strings.HasPrefix(c.Name, "login-") && !strings.HasSuffix(c.Name, "-note") {
			name, value = c.Name, c.Value
		}
	}
	for _, wrong := range []string{
		"", "x", value[:len(value)-1], value + "A", strings.Repeat("A", 5000), strings.ToUpper(value), "%00", value[:20] + "A" + value[21:],
	} {
		thief := s.browser()
		thief.header.Set("Cookie", name+"="+wrong)
		thief.get("currentUser").want(401)
		thief.open("account").leadsTo("/login")
		thief.open("login").want(200)
		var a tokenAnswer
		thief.get("token").want(200).json(&a)
		if s.verify(a.Token).User != nil {
			t.Errorf("the cookie %q is somebody", wrong)
		}
	}
	s.run("of another key", func(t *testing.T) {
		s.cfg.SessionSecrets = []string{"quite another secret than before"}
		s.start()
		b.get("currentUser").want(401)
		b.open("account").leadsTo("/login")
		b.login("alpha", "ada")
		b.get("currentUser").want(200)
	})
	s.run("of a secret that was rotated out of the first place", func(t *testing.T) {
		s.cfg.SessionSecrets = []string{"a third secret in the first place", "quite another secret than before"}
		s.start()
		b.get("currentUser").want(200)
	})
	s.run("attributes", func(t *testing.T) {
		plain := s.browser().open("login").header.Get("Set-Cookie")
		for _, want := range []string{"Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=2592000"} {
			if !strings.Contains(plain, want) {
				t.Errorf("%s is missing in %s", want, plain)
			}
		}
		secure := newServer(t, env("BASE_URL", "https://login.example.org/"))
		r := rawRequest(t, secure, "GET /login HTTP/1.1\r\nHost: login.example.org\r\nConnection: close\r\n\r\n")
		cookie := r.Header.Get("Set-Cookie")
		if !strings.HasPrefix(cookie, "__Host-login-") || !strings.Contains(cookie, "Secure") {
			t.Errorf("over https the cookie is %s", cookie)
		}
		if r.Header.Get("Strict-Transport-Security") == "" {
			t.Error("no Strict-Transport-Security")
		}
	})
}

// rawRequest sends bytes as they are.
func rawRequest(t *testing.T, s *server, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	return response
}

// Addresses that the server writes come from BASE_URL, whatever the request says.
func TestHostHeader(t *testing.T) {
	s := newServer(t)
	for _, extra := range []string{"", "X-Forwarded-Host: evil.example.com\r\n", "X-Forwarded-Proto: https\r\nForwarded: host=evil.example.com\r\n"} {
		for _, path := range []string{"/about", "/providers", "/login", "/", "/account", "/api", "/help", "/favicon.ico", "/users/x", "/nothing"} {
			r := rawRequest(t, s, "GET "+path+" HTTP/1.1\r\nHost: evil.example.com\r\n"+extra+"Connection: close\r\n\r\n")
			body, _ := io.ReadAll(r.Body)
			if all := fmt.Sprint(r.Header) + string(body); strings.Contains(all, "evil.example.com") {
				t.Errorf("%s repeats the host of the request: %s", path, all)
			}
		}
	}
}

var (
	noncePolicy = regexp.MustCompile(`script-src 'nonce-([A-Za-z0-9_-]{20,})'`)
	scriptTag   = regexp.MustCompile(`<(?:script|style)\b[^>]*>`)
	inline      = regexp.MustCompile(`(?i)\son[a-z]+\s*=|javascript:|<style[^>]*>|\sstyle\s*=`)
)

// allPages are those that can be opened, signed in or not.
var allPages = []string{"login", "login/beta", "account", "sessions", "logout", "delete", "disconnect/alpha", "help", "api", "nothing", "login?redirect_uri=x", "merge"}

// Every page has a policy with a nonce of its own, and nothing that needs more.
func TestContentPolicy(t *testing.T) {
	s := newServer(t)
	signedIn := s.browser()
	signedIn.login("alpha", "ada")
	nonces := map[string]bool{}
	for _, b := range []*browser{s.browser(), signedIn} {
		for _, path := range allPages {
			page := b.open(path)
			if page.status == http.StatusFound {
				continue
			}
			policy := page.header.Get("Content-Security-Policy")
			found := noncePolicy.FindStringSubmatch(policy)
			if found == nil || nonces[found[1]] {
				t.Fatalf("%s: the policy is %q, or its nonce was used before", path, policy)
			}
			nonces[found[1]] = true
			for _, want := range []string{
				"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "connect-src 'self' ws://localhost:3004;",
				"form-action 'self' http:", "img-src 'self' data: https://pictures.example;",
			} {
				if !strings.Contains(policy, want) {
					t.Errorf("%s: %s is missing in %s", path, want, policy)
				}
			}
			if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
				t.Errorf("%s: the policy is %s", path, policy)
			}
			for _, tag := range scriptTag.FindAllString(page.body, -1) {
				if !strings.Contains(tag, `nonce="`+found[1]+`"`) || !strings.Contains(tag, "src=") {
					t.Errorf("%s: %s has no nonce or is inline", path, tag)
				}
			}
			if got := inline.FindString(page.body); got != "" {
				t.Errorf("%s: inline %q", path, got)
			}
		}
	}
}

// Nothing about a person stays in a cache, and no answer can be framed or sniffed.
func TestHeaders(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	for _, path := range append([]string{"", "currentUser", "token", "account/data", "about", "providers", "users/" + b.user().ID, "users/x"}, allPages...) {
		h := b.open(path).header
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
			// Applications open /login in a window and must be able to close it.
			"Cross-Origin-Opener-Policy": "",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("/%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	if got := b.get("static/app.css").want(200).header.Get("Cache-Control"); got == "no-store" {
		t.Error("the style sheet is not cached")
	}
}

func TestPathTricks(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{
		"/login/../account", "//evil.example.com", "//evil.example.com/..", "/\\evil.example.com", "/login//alpha", "/login/alpha/../../about",
		"/login/%2e%2e/about", "/login%2falpha", "/static/../web.go", "/static/..%2f..%2fgo.mod", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/....//etc/passwd",
		"/static/app.css%00.svg", "/static//etc/passwd", "/static/", "/static/testdata/private.key", "/disconnect/" + strings.Repeat("x", 10_000),
		"/login/" + strings.Repeat("%41", 3_000), "/users/..%2f..%2fabout", "/%2e%2e/about", "/.env", "/providers.json", "/data/login-server.db", "/;/about", "/about;x",
		"/%", "/%zz", "/about%0d%0aX-Injected:%20yes", "/login/alpha%0d%0a", "/users/%0d%0aX-Injected:yes",
	} {
		r := rawRequest(t, s, "GET "+path+" HTTP/1.1\r\nHost: localhost:3004\r\nConnection: close\r\n\r\n")
		if r.StatusCode < 300 || r.StatusCode >= 500 {
			t.Errorf("%.60s: got %d", path, r.StatusCode)
		}
		if location := r.Header.Get("Location"); location != "" && location != "/login" {
			t.Errorf("%.60s leads to %s", path, location)
		}
		if r.Header.Get("X-Injected") != "" {
			t.Errorf("%.60s adds a header", path)
		}
	}
}

// Redirects repeat what was asked for, escaped.
func TestHeaderInjection(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for _, value := range []string{"https://app.example.org/%0d%0aSet-Cookie:%20x=y", "https://app.example.org/a%0aX-Injected: y"} {
		query := url.Values{"redirect_uri": {value}}.Encode()
		a := b.submit("login/alpha?"+query, "username", "ada", "password", "wrong")
		if a.status == 302 && strings.ContainsAny(a.location(), "\r\n") || a.header.Get("X-Injected") != "" {
			t.Errorf("%q: Location is %q", value, a.location())
		}
	}
}

// Broken input to every route: a clean 4xx or a page, never a 500, and nothing of what
// goes on inside.
func TestBrokenInput(t *testing.T) {
	s := newServer(t)
	signedIn := s.browser()
	signedIn.login("alpha", "ada")
	long, binary := strings.Repeat("x", 10<<20), "name=\xff\xfe\x00&username=\xff&password=\x00&proof=\xff&id=\xff&merge=\xff"
	form, js := "application/x-www-form-urlencoded", "application/json"
	bodies := []struct{ kind, body string }{
		{form, ""}, {form, "%"}, {form, "%zz=%zz"}, {form, "=&=&&&"}, {form, binary}, {form, "name=%ff&username=%00&password=%00&id=%ff&merge=%ff&proof=%ff"},
		{form, "username=a;b&password=c"}, {form, "username=ada&username=ben&password=ada-pw&password=x"}, {form, "username[]=ada&password[]=x"},
		{"", "username=ada"}, {"nonsense/\xff", "x"}, {"multipart/form-data", "x"}, {"multipart/form-data; boundary=x", "--x\r\n\r\n"}, {js, `{"username": "ada"}`}, {js, "{"}, {js, binary},
		{form, "username=" + long}, {js, `{"name": "` + long + `"}`},
	}
	routes := []struct{ method, path string }{
		{"POST", "login/alpha"}, {"POST", "login/nobody"}, {"POST", "logout"}, {"POST", "account/name"}, {"POST", "account/undo-merge"}, {"POST", "merge"},
		{"POST", "sessions/remove"}, {"POST", "disconnect/alpha"}, {"POST", "disconnect/\x7f"}, {"POST", "nothing"}, {"POST", ""},
		{"PATCH", "users/x"}, {"PATCH", "users/" + signedIn.user().ID}, {"DELETE", "sessions/x"}, {"DELETE", "users/x"}, {"PUT", "login/alpha"},
		{"GET", "login?lang=%ff&redirect_uri=%ff&from=%ff"}, {"GET", "login?%zz"}, {"GET", "login?a;b"}, {"GET", "merge?proof=%ff%00"}, {"GET", "users/%ff"}, {"POST", "login/alpha?%zz"}, {"POST", "login/alpha?a;b"},
	}
	for _, name := range []string{"", "ben"} {
		for _, route := range routes {
			b := s.browser()
			if name != "" {
				b.login("alpha", name)
			}
			for _, body := range bodies {
				if route.method == "GET" && body.body != "" {
					continue
				}
				h := headers("Origin", s.cfg.Origin(), "Sec-Fetch-Site", "same-origin")
				if body.kind != "" {
					h.Set("Content-Type", strings.ReplaceAll(body.kind, "\xff", "?"))
				}
				path := strings.ReplaceAll(route.path, "\x7f", "%7f")
				a := b.copyOf().send(route.method, path, h, body.body)
				if a.status >= 500 || a.status < 200 {
					t.Errorf("%s %s with %.40q: got %d", route.method, path, body.body, a.status)
				}
				if len(body.body) > 1<<20 && a.status == 200 {
					t.Errorf("%s %s took 10 MB", route.method, path)
				}
				a.wantNot("goroutine", ".go:", "sqlite", "panic", "invalid character", "web.", "identity.")
			}
		}
	}
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Error("something was an error of the server")
	}
	signedIn.get("currentUser").want(200)
}

func TestRateLimit(t *testing.T) {
	attempt := func(b *browser, provider, username, password string) answer {
		return b.submit("login/"+provider, "username", username, "password", password)
	}
	t.Run("per account, from wherever", func(t *testing.T) {
		s := newServer(t, env("RATE_LIMIT_MAX", "3"), env("TRUSTED_PROXIES", "127.0.0.1"))
		b := s.browser()
		// Spellings that directories take for the same name.
		for i, username := range []string{"ada", "ADA", " ada "} {
			b.header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
			attempt(b, "alpha", username, "x").want(302)
		}
		b.header.Set("X-Forwarded-For", "192.0.2.99")
		attempt(b, "alpha", "ada", "ada-pw").want(429)
		attempt(b, "alpha", "ａｄａ", "ada-pw").want(429)
		b.header.Set("X-Forwarded-For", "192.0.2.100")
		attempt(b, "beta", "ada", "ada-pw").want(302)
		attempt(b, "alpha", "ben", "ben-pw").want(302)
	})
	t.Run("per address", func(t *testing.T) {
		s := newServer(t, env("RATE_LIMIT_MAX", "3"), env("TRUSTED_PROXIES", "127.0.0.1"))
		b := s.browser()
		b.header.Set("X-Forwarded-For", "192.0.2.1")
		for i := range 3 {
			attempt(b, "alpha", fmt.Sprint("guess", i), "x").want(302)
		}
		attempt(b, "alpha", "ada", "ada-pw").want(429)
		b.header.Set("X-Forwarded-For", "192.0.2.2")
		attempt(b, "alpha", "ada", "ada-pw").want(302)
		// An IPv6 customer has one /64 and not 2^64 addresses.
		b = s.browser()
		for i := range 3 {
			b.header.Set("X-Forwarded-For", fmt.Sprintf("2001:db8::%d", i))
			attempt(b, "alpha", fmt.Sprint("other", i), "x").want(302)
		}
		b.header.Set("X-Forwarded-For", "2001:db8::ffff")
		attempt(b, "alpha", "ben", "ben-pw").want(429)
	})
	t.Run("what is not complete does not count", func(t *testing.T) {
		s := newServer(t, env("RATE_LIMIT_MAX", "3"))
		b := s.browser()
		for range 10 {
			attempt(b, "alpha", "ada", "").want(302)
			b.open("login/alpha").want(200)
		}
		attempt(b, "alpha", "ada", "ada-pw").leadsTo("/account")
	})
}

// X-Forwarded-For counts from trusted proxies only, and is read from the right: what
// stands further left was written by whoever came.
func TestForwardedFor(t *testing.T) {
	for _, tc := range []struct{ name, trusted, forwarded, want string }{
		{"nobody is trusted", "", "192.0.2.1", "127.0.0.1"},
		{"the peer is not trusted", "10.0.0.0/8", "192.0.2.1", "127.0.0.1"},
		{"trusted", "127.0.0.1", "192.0.2.1", "192.0.2.1"},
		{"forged entries on the left", "127.0.0.1", "198.51.100.7, 192.0.2.1", "192.0.2.1"},
		{"two proxies", "127.0.0.1,10.0.0.0/8", "198.51.100.7, 192.0.2.1, 10.0.0.5", "192.0.2.1"},
		{"only proxies", "127.0.0.1,10.0.0.0/8", "10.0.0.5", "127.0.0.1"},
		{"garbage on the right", "127.0.0.1", "192.0.2.1, garbage", "127.0.0.1"},
		{"none", "127.0.0.1", "", "127.0.0.1"},
		{"IPv6", "127.0.0.1", "2001:db8::1", "2001:db8::1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, env("TRUSTED_PROXIES", tc.trusted))
			b := s.browser()
			if tc.forwarded != "" {
				b.header.Set("X-Forwarded-For", tc.forwarded)
			}
			b.login("alpha", "ada")
			b.open("sessions").want(200, tc.want)
		})
	}
}
