package oidc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/session"
	"login-server/store"
	"login-server/token"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	issuer   = "https://login.example.org"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	secret   = "a-secret-that-is-long-enough-to-be-one"
)

var challenge = func() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}()

// house is a provider over a real store, with a clock to move.
type house struct {
	*testing.T
	*Provider
	clock    *clock.Fake
	engine   store.Engine
	users    *identity.Directory
	sessions *session.Manager
	tokens   *token.Manager
	ids      int
	handler  http.Handler
}

// codeSealer seals what codes carry in tests.
var codeSealer = sync.OnceValue(func() *token.Sealer {
	s, err := token.NewSealer([]string{strings.Repeat("s", 32)}, "authorization code")
	if err != nil {
		panic(err)
	}
	return s
})

var keyPair = sync.OnceValues(func() (private, public []byte) {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	paths := []string{filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key")}
	if _, err := token.EnsureKeys(paths[0], paths[1], "RS256"); err != nil {
		panic(err)
	}
	private, _ = os.ReadFile(paths[0])
	public, _ = os.ReadFile(paths[1])
	return private, public
})

// testKeys are the files of a key pair, made once: it takes its time.
func testKeys(t testing.TB) (private, public string) {
	dir := t.TempDir()
	private, public = filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key")
	first, second := keyPair()
	if err := errors.Join(os.WriteFile(private, first, 0o600), os.WriteFile(public, second, 0o644)); err != nil {
		t.Fatal(err)
	}
	return private, public
}

// newHouse opens a provider with clients, each an entry of applications.json.
func newHouse(t *testing.T, entries ...string) *house {
	t.Helper()
	h := &house{T: t, clock: clock.NewFake(start)}
	engine := teststore.Open(t, h.clock.Now)
	h.engine = engine
	private, public := testKeys(t)
	h.users = identity.NewDirectory(engine, identity.Options{
		BaseURL: issuer + "/", Now: h.clock.Now, CacheSize: 100, CacheAge: 5 * time.Second,
		NewID: func() string { h.ids++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", h.ids) },
	})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	logouts := NewLogouts(engine, h.clock, log)
	h.sessions = session.NewManager(engine, session.Options{
		Cookie:   session.CookieOptions{Installation: issuer, Secure: true, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, State: true},
		Lifetime: 30 * 24 * time.Hour, Now: h.clock.Now, CacheSize: 100, CacheAge: 5 * time.Second,
		Ended: logouts.Ended,
	})
	sealer, err := token.NewSealer([]string{secret}, token.KeysPurpose)
	if err != nil {
		t.Fatal(err)
	}
	if h.tokens, err = token.NewManager(t.Context(), engine, token.Options{
		PrivateKeyPath: private, PublicKeyPath: public, Algorithm: "RS256", ExpiresIn: 2 * time.Minute, Now: h.clock.Now,
		Sealer: sealer, Life: TokenLife(10 * time.Minute), PublishFor: time.Hour, RotateEvery: 90 * 24 * time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
	var apps []config.Application
	for i, entry := range entries {
		app := config.Application{File: "applications.json", Entry: i + 1}
		if err := json.Unmarshal([]byte(entry), &app); err != nil {
			t.Fatal(err)
		}
		apps = append(apps, app)
	}
	h.Provider, err = New(t.Context(), apps, Options{
		Issuer: issuer, Store: engine, Users: h.users, Sessions: h.sessions, Tokens: h.tokens, Clock: h.clock,
		RefreshKeys: [][]byte{bytes.Repeat([]byte{2}, 32)}, Codes: codeSealer(),
		Log:             log,
		Logouts:         logouts,
		AccessTokenLife: 10 * time.Minute, RefreshIdle: 14 * 24 * time.Hour, RefreshLife: 90 * 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range h.Endpoints() {
		mux.Handle(path, handler)
	}
	h.handler = mux
	return h
}

// person signs somebody in.
func (h *house) person(username string) *Person {
	h.Helper()
	a, _, err := h.users.SignIn(h.Context(), identity.Profile{Provider: "local", ID: username, Name: strings.ToUpper(username[:1]) + username[1:], Username: username})
	if err != nil {
		h.Fatal(err)
	}
	s, err := h.sessions.SignIn(h.Context(), httptest.NewRecorder(), session.Visit{}, session.Login{UserID: a.ID, Provider: "local", Methods: []string{"pwd"}})
	if err != nil {
		h.Fatal(err)
	}
	return &Person{Session: s, Account: a}
}

// form makes values of name, value, name, value …
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// ask is an authorization request of a client, with changes to what is usual.
func ask(client string, changes ...string) url.Values {
	v := form("client_id", client, "response_type", "code", "redirect_uri", "https://app.example.org/cb", "scope", "openid profile",
		"state", "the state", "nonce", "the nonce", "code_challenge", challenge, "code_challenge_method", "S256")
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			v.Del(changes[i])
		} else {
			v.Set(changes[i], changes[i+1])
		}
	}
	return v
}

// answered wants the request to be answered at once, and returns the parameters.
func (h *house) answered(request url.Values, who *Person) url.Values {
	h.Helper()
	step, err := h.Authorize(h.Context(), request, who)
	if err != nil {
		h.Fatal(err)
	}
	return h.parameters(step)
}

func (h *house) parameters(step Step) url.Values {
	h.Helper()
	if step.Answer == nil {
		h.Fatalf("got %+v, %v, want an answer", step.Ask, step.Refuse)
	}
	if step.Answer.Post {
		return step.Answer.Parameters
	}
	u, err := url.Parse(step.Answer.URL)
	if err != nil {
		h.Fatal(err)
	}
	if u.Fragment != "" {
		v, err := url.ParseQuery(u.EscapedFragment())
		if err != nil {
			h.Fatal(err)
		}
		return v
	}
	return u.Query()
}

// response is an answer of one of the endpoints.
type response struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any
}

// call posts a form to an endpoint; basic is "id:secret" or empty.
func (h *house) call(path, basic string, values url.Values) response {
	h.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id, secret, ok := strings.Cut(basic, ":"); ok {
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return h.do(r)
}

func (h *house) do(r *http.Request) response {
	h.Helper()
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	got := response{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
	_ = json.Unmarshal(got.Body, &got.JSON)
	return got
}

// redeem exchanges a code.
func (h *house) redeem(basic, code string, changes ...string) response {
	h.Helper()
	v := form("grant_type", "authorization_code", "code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier)
	for i := 0; i+1 < len(changes); i += 2 {
		v.Set(changes[i], changes[i+1])
	}
	return h.call(PathToken, basic, v)
}

func (r response) text(name string) string {
	s, _ := r.JSON[name].(string)
	return s
}

// want checks status and error of an answer.
func (r response) want(t *testing.T, status int, code string) response {
	t.Helper()
	if r.Status != status || r.text("error") != code {
		t.Errorf("got %d %s, want %d %q", r.Status, r.Body, status, code)
	}
	return r
}

// claims are those of a JWT, whose signature is not looked at.
func claims(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", jwt)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

const webClient = `{"client_id": "app", "name": "App", "url": "https://app.example.org/", "client_secret": "` + secret + `",
	"redirect_uris": ["https://app.example.org/cb"], "trusted": true}`
