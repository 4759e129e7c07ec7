package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
	"login-server/session"
	"login-server/store"
	"login-server/store/sqlite"
	"login-server/token"
)

// bench is a provider on the durable store, with somebody signed in.
type bench struct {
	*Provider
	b      *testing.B
	engine *counted
	key    *rsa.PrivateKey
	ada    *Person
}

// counted counts what is asked of the store.
type counted struct {
	store.Engine
	reads, writes int
}

func (c *counted) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	c.reads++
	return c.Engine.Get(ctx, kind, id)
}

func (c *counted) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	c.writes++
	return c.Engine.Insert(ctx, kind, doc)
}

func (c *counted) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	c.writes++
	return c.Engine.Replace(ctx, kind, doc)
}

func newBench(b *testing.B) *bench {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	fake := clock.NewFake(start)
	durable, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "bench.db"), sqlite.Options{Now: fake.Now})
	check(err)
	b.Cleanup(func() { _ = durable.Close() })
	engine := &counted{Engine: durable}
	private, public := testKeys(b)
	tokens, err := token.NewManager(b.Context(), engine, token.Options{
		PrivateKeyPath: private, PublicKeyPath: public, Algorithm: "RS256", ExpiresIn: time.Minute, Now: fake.Now,
	})
	check(err)
	users := identity.NewDirectory(engine, identity.Options{
		BaseURL: issuer + "/", Now: fake.Now, CacheSize: 100, CacheAge: 5 * time.Second, NewID: func() string { return "00000000-0000-4000-8000-000000000001" },
	})
	sessions := session.NewManager(engine, session.Options{
		Cookie:   session.CookieOptions{Installation: issuer, Secure: true, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}},
		Lifetime: time.Hour, Now: fake.Now, CacheSize: 100, CacheAge: 5 * time.Second,
	})
	var entry config.Application
	check(json.Unmarshal([]byte(webClient), &entry))
	p, err := New(b.Context(), []config.Application{entry}, Options{
		Issuer: issuer, Store: engine, Users: users, Sessions: sessions, Tokens: tokens, Clock: fake, Log: slog.New(slog.DiscardHandler),
		RefreshKeys: [][]byte{bytes.Repeat([]byte{2}, 32)}, Codes: codeSealer(), AccessTokenLife: 10 * time.Minute, RefreshIdle: time.Hour, RefreshLife: time.Hour,
	})
	check(err)
	account, _, err := users.SignIn(b.Context(), profileAt("local", "ada"))
	check(err)
	s, err := sessions.SignIn(b.Context(), httptest.NewRecorder(), session.Visit{}, session.Login{UserID: account.ID, Provider: "local"})
	check(err)
	text, _ := keyPair()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	check(err)
	return &bench{Provider: p, b: b, engine: engine, key: key.(*rsa.PrivateKey), ada: &Person{Session: s, Account: account}}
}

func (x *bench) post(handler http.Handler, path string, values url.Values) map[string]any {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", formType)
	r.SetBasicAuth("app", secret)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 {
		x.b.Fatalf("%d %s", w.Code, w.Body)
	}
	return answer
}

func (x *bench) code() string {
	step, err := x.Authorize(x.b.Context(), ask("app"), x.ada)
	if err != nil || step.Answer == nil {
		x.b.Fatalf("%+v, %v", step, err)
	}
	u, err := url.Parse(step.Answer.URL)
	if err != nil {
		x.b.Fatal(err)
	}
	return u.Query().Get("code")
}

func (x *bench) redeem(code string) map[string]any {
	return x.post(x.Token(), PathToken, form("grant_type", grantCode, "code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier))
}

// bare is what cannot be done without: two signatures, and a durable write of a document of
// the same size.
func (x *bench) bare(document *store.Doc, write func(context.Context, string, store.Doc) (int64, error)) {
	sum := sha256.Sum256(document.Data)
	for range 2 {
		if _, err := rsa.SignPKCS1v15(nil, x.key, crypto.SHA256, sum[:]); err != nil {
			x.b.Fatal(err)
		}
	}
	var err error
	if document.Version, err = write(x.b.Context(), "bench", *document); err != nil {
		x.b.Fatal(err)
	}
}

// against measures do and the bare operation one after the other, so that both meet the
// same machine; prepare is not counted. The write of the bare operation is an insertion, or a
// replacement. The ratio is of the medians.
func (x *bench) against(inserts bool, prepare func() string, do func(string)) {
	document := store.Doc{ID: "bare", Data: []byte(`"` + strings.Repeat("x", 900) + `"`), Keys: []string{"client:app", "user:ada", "session:s"}, Expires: start.Add(time.Hour)}
	var err error
	if document.Version, err = x.engine.Engine.Insert(x.b.Context(), "bench", document); err != nil {
		x.b.Fatal(err)
	}
	var bare, own []time.Duration
	writes := 0
	for x.b.Loop() {
		given := prepare()
		before := x.engine.writes
		t0 := time.Now()
		if inserts {
			document.ID = fmt.Sprintf("%022d", len(own))
			x.bare(&document, x.engine.Engine.Insert)
		} else {
			x.bare(&document, x.engine.Engine.Replace)
		}
		t1 := time.Now()
		do(given)
		bare, own = append(bare, t1.Sub(t0)), append(own, time.Since(t1))
		writes += x.engine.writes - before
	}
	if writes != len(own) {
		x.b.Errorf("%d writes for %d exchanges", writes, len(own))
	}
	slices.Sort(bare)
	slices.Sort(own)
	x.b.ReportMetric(float64(own[len(own)/2])/float64(bare[len(bare)/2]), "ratio")
	x.b.ReportMetric(float64(bare[len(bare)/2]), "bare-ns")
}

// BenchmarkCode is a code for an RS256 ID Token and a JWT access token.
func BenchmarkCode(b *testing.B) {
	x := newBench(b)
	x.against(true, x.code, func(code string) { x.redeem(code) })
}

// BenchmarkRefresh is the same with a refresh token.
func BenchmarkRefresh(b *testing.B) {
	x := newBench(b)
	next := fmt.Sprint(x.redeem(x.code())["refresh_token"])
	x.against(false, func() string { return next }, func(given string) {
		next = fmt.Sprint(x.post(x.Token(), PathToken, form("grant_type", grantRefresh, "refresh_token", given))["refresh_token"])
	})
}

// quiet measures what is answered from memory: with nothing read, nothing written.
func (x *bench) quiet(do func()) {
	do()
	reads, writes := x.engine.reads, x.engine.writes
	x.b.ReportAllocs()
	for x.b.Loop() {
		do()
	}
	if x.engine.reads != reads || x.engine.writes != writes {
		x.b.Errorf("%d reads and %d writes", x.engine.reads-reads, x.engine.writes-writes)
	}
}

func BenchmarkUserInfo(b *testing.B) {
	x := newBench(b)
	authorization := fmt.Sprint("Bearer ", x.redeem(x.code())["access_token"])
	handler := x.UserInfo()
	x.quiet(func() {
		r := httptest.NewRequest(http.MethodGet, PathUserInfo, nil)
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != 200 {
			b.Fatal(w.Code)
		}
	})
}

func BenchmarkIntrospect(b *testing.B) {
	x := newBench(b)
	values := form("token", fmt.Sprint(x.redeem(x.code())["access_token"]))
	handler := x.Introspect()
	x.quiet(func() { x.post(handler, PathIntrospect, values) })
}
