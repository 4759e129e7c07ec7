package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"login-server/audit"
	"login-server/clock"
	"login-server/config"
	"login-server/credential"
	"login-server/events"
	"login-server/geo"
	"login-server/identity"
	"login-server/internal/testenv"
	"login-server/internal/teststore"
	"login-server/notify"
	"login-server/oidc"
	"login-server/providers"
	"login-server/session"
	"login-server/static"
	"login-server/store"
	"login-server/templates"
	"login-server/token"
	"login-server/web"
)

// These tests drive the real router over HTTP, on a real store. Only the
// clock is a fake one. Browsers of the tests reach the server under its BASE_URL and
// nothing else, so that no test can depend on the Internet.

var update = flag.Bool("update", false, "write the golden files anew")

const (
	appOrigin   = "https://app.example.org"  // an allowed origin and a listed application
	toolOrigin  = "http://tool.example.net"  // an allowed origin, no application
	evilOrigin  = "https://evil.example.com" // somebody else
	application = "https://cocoda.example.org/app/"
)

// testProviders are three of the strategy test, where everybody's password is the
// username and "-pw", and one each of local, script and a disabled one.
const testProviders = `[
	{"id": "alpha", "strategy": "test", "name": "Alpha", "template": "https://alpha.example/{username}", "image": "https://pictures.example/alpha.svg", "url": "https://alpha.example/",
		"options": {"users": [
			{"username": "ada", "password": "ada-pw", "displayName": "Ada", "id": "a1"},
			{"username": "ben", "password": "ben-pw", "displayName": "Ben", "id": "a2"}]}},
	{"id": "beta", "strategy": "test", "name": "Beta", "options": {"users": [
			{"username": "ada", "password": "ada-pw", "displayName": "Ada at Beta", "id": "b1"},
			{"username": "ben", "password": "ben-pw", "id": "b2"}]}},
	{"id": "gamma", "strategy": "test", "name": "Gamma", "options": {"users": [
			{"username": "ada", "password": "ada-pw", "id": "c1"},
			{"username": "ben", "password": "ben-pw", "displayName": "Ben", "id": "c2"}]}},
	{"id": "local", "strategy": "local", "name": "Local", "options": {"users": [
			{"username": "lou", "displayName": "Lou", "password": "$2a$04$Y6QnHBjHYoxV/vmB9T/9BewWMxrRDRIMKgYJLR3A8/loi7zu7Duxi"}]}},
	{"id": "script", "strategy": "script", "name": "Script", "options": {"script": "script.sh"}},
	{"id": "off", "strategy": "github", "name": "Off", "disabled": true}
]`

const testApplications = `[
	{"url": "https://cocoda.example.org/app/", "name": "Cocoda"},
	{"url": "https://app.example.org/", "name": "The App"}
]`

// server is a login server that is running, and everything to look behind it.
type server struct {
	t     *testing.T
	base  string // BASE_URL
	cfg   *config.Config
	clock *clock.Fake
	store *unreliable
	guard *store.Guard
	log   *logBuffer
	// installation is what tells this server from others: BASE_URL, and more where they
	// share anything.
	installation string

	credentials *credential.Book
	users       *identity.Directory
	sessions    *session.Manager
	providers   *providers.Set
	notify      *notify.Queue // what it catches: mail and sms
	delivers    *notify.Queue // the one whose deliveries go on, since somebody has asked

	options   options
	environ   []string
	running   atomic.Pointer[web.Server]
	http      *httptest.Server
	transport *http.Transport
	ids       atomic.Int64
}

type options struct {
	env          map[string]string
	providers    string
	applications string
	dev          bool
	// bus and heard make the server a node among others; see nodes_test.go.
	bus   events.Bus
	heard func() bool
	// patience with a database that hangs, which is asked once a second then; 0 is the usual.
	patience time.Duration
	// outside is a proxy in front of the server.
	outside func(http.Handler) http.Handler
}

// option changes what newServer starts.
type option func(*options)

// env sets a setting.
func env(name, value string) option { return func(o *options) { o.env[name] = value } }

// applications is applications.json.
func applications(text string) option { return func(o *options) { o.applications = text } }

// newServer starts a server. It ends with the test.
func newServer(t *testing.T, opts ...option) *server {
	t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		t:     t,
		clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)),
		log:   &logBuffer{out: t.Output()},
		options: options{
			providers:    testProviders,
			applications: testApplications,
			outside:      func(h http.Handler) http.Handler { return h },
			env: map[string]string{
				"NODE_ENV":             "test",
				"BASE_URL":             "http://localhost:3004/",
				"TITLE":                "Test Login",
				"ALLOWED_ORIGINS":      appOrigin + "," + toolOrigin,
				"IMPRINT_URL":          "https://example.org/imprint",
				"PRIVACY_URL":          "https://example.org/privacy",
				"SOURCES_URL":          "https://example.org/sources",
				"SESSION_SECRET":       "the first of the tests' secrets",
				"RATE_LIMIT_MAX":       "1000",
				"CHALLENGE_BITS":       "4",
				"JWT_PRIVATE_KEY_PATH": filepath.Join(dir, "private.key"),
				"JWT_PUBLIC_KEY_PATH":  filepath.Join(dir, "public.key"),
			},
		},
	}
	for _, o := range opts {
		o(&s.options)
	}
	home := t.TempDir()
	s.write(home, "providers.json", s.options.providers, 0o600)
	s.write(home, "applications.json", s.options.applications, 0o600)
	script, err := os.ReadFile("testdata/script.sh")
	if err != nil {
		t.Fatal(err)
	}
	s.write(home, "script.sh", string(script), 0o700)
	for name, value := range s.options.env {
		s.environ = append(s.environ, name+"="+value)
	}
	var warnings []string
	if s.cfg, warnings, err = config.Load(home, s.environ); err != nil {
		t.Fatalf("configuration: %v (%v)", err, warnings)
	}
	s.base = s.cfg.BaseURL.String()
	s.installation = s.base
	if teststore.Shared() {
		s.installation += uuid.NewString() // tests do not count each other's attempts
	}

	s.store = &unreliable{Engine: teststore.Open(t, s.clock.Now)}
	s.start()
	s.http = httptest.NewServer(s.options.outside(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Load().ServeHTTP(w, r)
	})))
	s.transport = s.only(s.http.Listener.Addr().String())
	t.Cleanup(func() {
		s.transport.CloseIdleConnections()
		s.running.Load().Drain()
		s.http.Close()
		s.log.close()
	})
	return s
}

// only is a transport that takes what is meant for BASE_URL to the address of the
// server, and nothing to anywhere else.
func (s *server) only(address string) *http.Transport {
	host := s.cfg.BaseURL.Host
	if s.cfg.BaseURL.Port() == "" {
		host = net.JoinHostPort(host, map[string]string{"http": "80", "https": "443"}[s.cfg.BaseURL.Scheme])
	}
	return &http.Transport{MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != host {
			return nil, fmt.Errorf("a test has asked for %s, which is not the server", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

func (s *server) write(dir, name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

// start makes the rooms and the server, as cmd/login-server does. A second call is a
// restart: nothing but the store is left of before.
func (s *server) start() {
	s.t.Helper()
	if old := s.running.Load(); old != nil {
		old.Drain()
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	var err error
	if s.providers, _, err = providers.Open(s.cfg, providers.Deps{Log: log, Version: "test", RefusalStep: -1, Clock: s.clock}); err != nil {
		s.t.Fatal(err)
	}
	sealer, err := token.NewSealer(s.cfg.SessionSecrets, "upstream tokens")
	if err != nil {
		s.t.Fatal(err)
	}
	bus, shared := s.bus(log)
	now := s.clock.Now
	guard := store.GuardOptions{Now: now, Log: log, AskEvery: -1}
	if s.options.patience > 0 {
		guard.Timeout, guard.PingTimeout, guard.AskEvery = s.options.patience, s.options.patience, time.Second
	}
	s.guard = store.NewGuard(s.store, guard)
	newID := func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.ids.Add(1)) }
	if s.credentials, err = credential.NewBook(credential.Options{Store: s.guard, Clock: s.clock, NewID: newID, Secrets: s.cfg.SessionSecrets}); err != nil {
		s.t.Fatal(err)
	}
	s.users = identity.NewDirectory(s.guard, identity.Options{
		BaseURL: s.base, Now: now,
		NewID: newID,
		Released: func(ctx context.Context, provider, id string) {
			if p, ok := s.providers.Local(); ok && p.ID == provider {
				_ = s.credentials.Delete(ctx, id)
			}
		},
		Changed: func(ids ...string) {
			for _, id := range ids {
				bus.Publish(events.Hint{User: id})
			}
		},
		Sealer: sealer, Exposes: s.providers.Exposes,
		CacheSize: 1000, CacheAge: 5 * time.Second,
	})
	var keys [][]byte
	for _, secret := range s.cfg.SessionSecrets {
		keys = append(keys, token.DeriveKey(secret, "session cookie"))
	}
	logouts := oidc.NewLogouts(s.guard, s.clock, log)
	s.sessions = session.NewManager(s.guard, session.Options{
		Cookie:   session.CookieOptions{Installation: s.installation, Secure: s.cfg.BaseURL.Scheme == "https", Keys: keys, State: true},
		Ended:    logouts.Ended,
		Lifetime: time.Duration(s.cfg.CookieMaxDays) * 24 * time.Hour,
		Now:      now,
		Changed: func(handle string, removed bool) {
			bus.Publish(events.Hint{Session: handle, Removed: removed})
		},
		CacheSize: 1000, CacheAge: 5 * time.Second,
	})
	keySealer, err := token.NewSealer(s.cfg.SessionSecrets, token.KeysPurpose)
	if err != nil {
		s.t.Fatal(err)
	}
	tokens, err := token.NewManager(s.t.Context(), s.guard, token.Options{
		PrivateKeyPath: s.cfg.JWTPrivateKeyPath, PublicKeyPath: s.cfg.JWTPublicKeyPath,
		Algorithm: s.cfg.JWTAlgorithm, ExpiresIn: s.cfg.JWTExpiresIn, Now: now,
		Encrypts: func() bool { _, ok := s.providers.Local(); return ok },
		Sealer:   keySealer, Life: s.cfg.AccessTokenLife, PublishFor: s.cfg.KeyPublishFor, RotateEvery: s.cfg.KeyRotateEvery, Log: log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	tickets, err := token.NewTickets(s.guard, s.cfg.SessionSecrets, now)
	if err != nil {
		s.t.Fatal(err)
	}
	messages, err := token.NewSealer(s.cfg.SessionSecrets, notify.Purpose)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.notify, err = notify.New(notify.Options{Store: s.guard, Sealer: messages, Clock: s.clock, Log: log, Dev: true}); err != nil {
		s.t.Fatal(err)
	}
	var places *geo.Places
	if s.cfg.GeoIPPath != "" {
		if places, err = geo.Open(s.cfg.GeoIPPath); err != nil {
			s.t.Fatal(err)
		}
	}
	files := static.New(static.Options{})
	pages, err := templates.New(templates.Options{Asset: files.Asset})
	if err != nil {
		s.t.Fatal(err)
	}
	running, err := web.New(web.Deps{
		Config: s.cfg, Store: s.guard, Heard: s.options.heard, Users: s.users, Sessions: s.sessions, Credentials: s.credentials, Tokens: tokens, Tickets: tickets,
		Providers: s.providers, Bus: bus, Redis: shared, RedisName: s.installation, Logouts: logouts, Audit: audit.NewBook(s.guard, now), Places: places, Notify: s.notify, Templates: pages, Static: files, Clock: s.clock, Log: log, Version: "1.2.3", Dev: s.options.dev,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.running.Store(running)
}

// reload reads providers.json anew, as the program does when it is told to.
func (s *server) reload() error {
	cfg, _, err := config.Load(s.cfg.Dir, s.environ)
	if err == nil {
		_, err = s.running.Load().ReloadProviders(cfg)
	}
	return err
}

// run runs a subtest, which from then on is the one that fails.
func (s *server) run(name string, f func(t *testing.T)) {
	outer := s.t
	outer.Run(name, func(t *testing.T) {
		s.t = t
		defer func() { s.t = outer }()
		f(t)
	})
}

// documents counts what is stored of a kind.
func (s *server) documents(kind string) int {
	s.t.Helper()
	n, err := s.store.Engine.Count(s.t.Context(), kind, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// logBuffer is the log of a server: shown with the test, and searched by it.
type logBuffer struct {
	mu     sync.Mutex
	out    io.Writer
	text   bytes.Buffer
	closed bool
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.closed {
		return len(p), nil // the last goroutines of a test that is over
	}
	return l.out.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBuffer) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// bus returns what carries hints, and where rate limits are counted if not in the process:
// over a shared store a node uses Redis for both.
func (s *server) bus(log *slog.Logger) (events.Bus, redis.UniversalClient) {
	s.t.Helper()
	if s.options.bus != nil {
		return s.options.bus, nil
	}
	if !teststore.Shared() {
		return &events.LocalBus{}, nil
	}
	client, err := events.OpenRedis(testenv.Redis(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	bus := events.NewRedisBus(client, events.RedisOptions{Channel: s.installation, Log: log})
	s.t.Cleanup(func() {
		bus.Close()
		if err := client.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return bus, client
}

// unreliable is a store that fails when a test wants it to, and keeps what was written.
type unreliable struct {
	store.Engine
	// fault is asked before reads of a kind of documents, and by Ping with "ping".
	fault atomic.Pointer[func(kind string) error]

	mu      sync.Mutex
	written []store.Doc
}

// everWritten are the documents that were to be written, each as it was every time.
func (u *unreliable) everWritten() []store.Doc {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.written)
}

func (u *unreliable) note(doc store.Doc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.written = append(u.written, doc)
}

func (u *unreliable) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	u.note(doc)
	return u.Engine.Insert(ctx, kind, doc)
}

func (u *unreliable) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	u.note(doc)
	return u.Engine.Replace(ctx, kind, doc)
}

func (u *unreliable) fail(fault func(kind string) error) { u.fault.Store(&fault) }

func (u *unreliable) ask(kind string) error {
	if fault := u.fault.Load(); fault != nil {
		return (*fault)(kind)
	}
	return nil
}

func (u *unreliable) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := u.ask(kind); err != nil {
		return store.Doc{}, err
	}
	return u.Engine.Get(ctx, kind, id)
}

func (u *unreliable) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	if err := u.ask(kind); err != nil {
		return store.Doc{}, err
	}
	return u.Engine.GetUnique(ctx, kind, key)
}

func (u *unreliable) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	if err := u.ask(kind); err != nil {
		return nil, err
	}
	return u.Engine.Find(ctx, kind, q)
}

func (u *unreliable) Count(ctx context.Context, kind, key string) (int, error) {
	if err := u.ask(kind); err != nil {
		return 0, err
	}
	return u.Engine.Count(ctx, kind, key)
}

func (u *unreliable) Ping(ctx context.Context) error {
	if err := u.ask("ping"); err != nil {
		return err
	}
	return u.Engine.Ping(ctx)
}

// errInternal is what must never be seen outside of the log.
var errInternal = errors.New("sqlite: /srv/login/secret-path is broken")

// away is a fault of everything.
func away(string) error { return errInternal }

// broken is a fault of one kind of documents; the store answers otherwise.
func broken(kind string) func(string) error {
	return func(k string) error {
		if k == kind {
			return errInternal
		}
		return nil
	}
}

// browser sends requests as Chromium does, with a cookie jar of its own.
type browser struct {
	server *server
	client *http.Client
	jar    http.CookieJar
	header http.Header // added to every request
}

// browser returns one that has never been here before.
func (s *server) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{
		server: s, jar: jar, header: http.Header{},
		client: &http.Client{
			Transport: s.transport, Jar: jar, Timeout: 20 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// answer is what came back.
type answer struct {
	t      *testing.T
	url    string
	status int
	header http.Header
	body   string
}

// location is where a redirect leads to.
func (a answer) location() string { return a.header.Get("Location") }

// want fails the test unless the answer has a status and its body all of the texts.
func (a answer) want(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: got %d (Location %q), want %d: %s", a.url, a.status, a.location(), status, a.text())
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) && !strings.Contains(a.text(), text) {
			a.t.Fatalf("%s: %q is missing in: %s", a.url, text, a.text())
		}
	}
	return a
}

// wantNot fails the test if the body has one of the texts.
func (a answer) wantNot(texts ...string) answer {
	a.t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			a.t.Fatalf("%s: %q should not be in: %s", a.url, text, a.text())
		}
	}
	return a
}

// leadsTo fails the test unless the answer is a redirect to a place.
func (a answer) leadsTo(location string) answer {
	a.t.Helper()
	if a.status != http.StatusFound || a.location() != location {
		a.t.Fatalf("%s: got %d to %q, want 302 to %q: %s", a.url, a.status, a.location(), location, a.text())
	}
	return a
}

var (
	tags   = regexp.MustCompile(`<[^>]*>`)
	spaces = regexp.MustCompile(`\s+`)
)

// text is the body as people read it, on one line.
func (a answer) text() string {
	text := a.body
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		if _, main, ok := strings.Cut(text, "<main"); ok {
			text = "<main" + main
		}
		text = tags.ReplaceAllString(text, " ")
		text = strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&amp;", "&", "&lt;", "<", "&gt;", ">").Replace(text)
	}
	text = strings.TrimSpace(spaces.ReplaceAllString(text, " "))
	if len(text) > 1500 {
		text = text[:1500] + "…"
	}
	return text
}

// json decodes the body.
func (a answer) json(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%s: %v in %s", a.url, err, a.text())
	}
}

// send sends a request with the browser's cookies. path is below BASE_URL; a path
// that begins with a slash is taken from the root of the host.
func (b *browser) send(method, path string, header http.Header, body string) answer {
	b.server.t.Helper()
	target := b.server.base + path
	if strings.HasPrefix(path, "/") {
		target = b.server.cfg.Origin() + path
	} else if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		target = path
	}
	r, err := http.NewRequestWithContext(b.server.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		b.server.t.Fatal(err)
	}
	for _, h := range []http.Header{b.header, header} {
		for name, values := range h {
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36")
	}
	response, err := b.client.Do(r)
	if err != nil {
		b.server.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.server.t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer{t: b.server.t, url: method + " " + target, status: response.StatusCode, header: response.Header, body: string(text)}
}

// headers makes a header of names and values.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// site is Sec-Fetch-Site for a request that a page of an origin makes; "" is nobody's
// page: an address that was typed.
func (b *browser) site(origin string) string {
	switch origin {
	case "":
		return "none"
	case b.server.cfg.Origin():
		return "same-origin"
	}
	return "cross-site"
}

// open goes to a page by typing its address.
func (b *browser) open(path string) answer { b.server.t.Helper(); return b.follow("", path) }

// follow goes to a page by a link on the page from, a full address.
func (b *browser) follow(from, path string) answer {
	b.server.t.Helper()
	h := headers("Accept", "text/html,application/xhtml+xml,*/*;q=0.8",
		"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-User", "?1", "Sec-Fetch-Site", b.site(originOf(from)))
	if origin := originOf(from); origin == b.server.cfg.Origin() {
		h.Set("Referer", from)
	} else if origin != "" {
		h.Set("Referer", origin+"/") // strict-origin-when-cross-origin
	}
	return b.send("GET", path, h, "")
}

// submit posts a form of a page of our own.
func (b *browser) submit(path string, fields ...string) answer {
	b.server.t.Helper()
	return b.submitFrom(b.server.base, path, fields...)
}

// submitFrom posts a form of the page from.
func (b *browser) submitFrom(from, path string, fields ...string) answer {
	b.server.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	origin := originOf(from)
	if origin == "" {
		origin = "null" // a sandboxed page
	}
	return b.send("POST", path, headers("Accept", "text/html", "Content-Type", "application/x-www-form-urlencoded",
		"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", b.site(origin),
		"Origin", origin, "Referer", from), form.Encode())
}

// fetch is what a script of a page of an origin does, with credentials.
func (b *browser) fetch(origin, method, path, body string) answer {
	b.server.t.Helper()
	h := headers("Accept", "*/*", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", b.site(origin))
	if origin != b.server.cfg.Origin() || method != "GET" {
		h.Set("Origin", origin)
	}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	return b.send(method, path, h, body)
}

// get is a request of a program that says nothing about itself.
func (b *browser) get(path string) answer { b.server.t.Helper(); return b.send("GET", path, nil, "") }

// login signs in at a provider of the strategy test, form and all.
func (b *browser) login(provider, username string) {
	b.server.t.Helper()
	b.open("login").want(200)
	b.follow(b.server.base+"login", "login/"+provider).want(200, "Password")
	b.submit("login/"+provider, "username", username, "password", username+"-pw").leadsTo(b.server.cfg.BaseURL.Path + "account")
}

// user is who is signed in.
func (b *browser) user() identity.UserWithUsage {
	b.server.t.Helper()
	var u identity.UserWithUsage
	b.get("currentUser").want(200).json(&u)
	return u
}

// cookies are those that the browser sends.
func (b *browser) cookies() []*http.Cookie { return b.jar.Cookies(b.server.cfg.BaseURL) }

// copyOf is another browser with the same cookies.
func (b *browser) copyOf() *browser {
	other := b.server.browser()
	other.jar.SetCookies(b.server.cfg.BaseURL, b.cookies())
	return other
}

func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// golden compares JSON with a file that shows it in full.
func golden(t *testing.T, name, got string) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(got), "", "  "); err != nil {
		t.Fatalf("%s: %v in %s", name, err, got)
	}
	pretty.WriteByte('\n')
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s (-want +got; run with -update to accept):\n%s", path, diff)
	}
}
