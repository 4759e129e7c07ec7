package token_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/store"
	"login-server/token"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

var someClaims = []byte(`{"iss":"https://login.example.org","sub":"ada"}`)

func (h *house) sign(m *token.Manager, algorithm, typ string) string {
	h.Helper()
	signed, err := m.SignJWT(algorithm, typ, someClaims)
	h.must(err)
	return signed
}

// header is that of a token.
func (h *house) header(signed string) map[string]string {
	h.Helper()
	part, _, _ := strings.Cut(signed, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	h.must(err)
	header := map[string]string{}
	h.must(json.Unmarshal(text, &header))
	return header
}

// relying verifies a token as a relying party does: golang-jwt, with the key of the
// JWKS that its header names.
func (h *house) relying(m *token.Manager, signed string) error {
	h.Helper()
	set, err := jwk.Parse(m.JWKS())
	h.must(err)
	_, err = jwt.Parse(signed, func(t *jwt.Token) (any, error) {
		key, ok := set.LookupKeyID(t.Header["kid"].(string))
		if !ok {
			return nil, errors.New("the kid is not in the JWKS")
		}
		if key.Algorithm().String() != t.Method.Alg() {
			return nil, errors.New("the key is for another algorithm")
		}
		var public crypto.PublicKey
		err := key.Raw(&public)
		return public, err
	}, jwt.WithTimeFunc(h.clock.Now))
	return err
}

// states are the states of the keys of an algorithm that are in the store.
func states(m *token.Manager, algorithm string) []string {
	var all []string
	for _, k := range m.Keys() {
		if k.Algorithm == algorithm && !k.Files {
			all = append(all, k.State)
		}
	}
	return all
}

func (h *house) tend(managers ...*token.Manager) {
	h.Helper()
	for _, m := range managers {
		h.must(m.Tend(h.Context()))
	}
	for _, m := range managers { // as when the store tells them that others have written
		h.must(m.Refresh(h.Context()))
	}
}

// Rules 2, 34: every algorithm, whatever the pair in the files is for, each with a key of
// its own.
func TestEveryAlgorithm(t *testing.T) {
	want := map[string][]string{
		"RS256": {"RS256", "PS256", "ES256", "EdDSA"},
		"RS512": {"RS256", "RS512", "PS256", "ES256", "EdDSA"},
		"PS256": {"PS256", "RS256", "ES256", "EdDSA"},
		"ES256": {"ES256", "RS256", "PS256", "EdDSA"},
		"ES384": {"ES384", "RS256", "PS256", "ES256", "EdDSA"},
		"EdDSA": {"EdDSA", "RS256", "PS256", "ES256"},
	}
	for files, algorithms := range want {
		t.Run(files, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			m := h.manager(files)
			if diff := cmp.Diff(algorithms, m.Algorithms()); diff != "" {
				t.Errorf("Algorithms (-want +got):\n%s", diff)
			}
			kids := map[string]bool{}
			for _, algorithm := range append([]string{""}, algorithms...) {
				signed := h.sign(m, algorithm, "at+jwt")
				header := h.header(signed)
				kids[header["kid"]] = true
				if algorithm == "" {
					algorithm = algorithms[0]
				}
				if header["alg"] != algorithm || header["typ"] != "at+jwt" || len(header) != 3 {
					t.Errorf("%s: header %v", algorithm, header)
				}
				if algorithm == files && header["kid"] != m.KeyID() {
					t.Errorf("%s: not signed with the pair in the files", algorithm)
				}
				if err := h.relying(m, signed); err != nil {
					t.Errorf("%s: %v", algorithm, err)
				}
				if got, err := m.VerifyJWT(signed, "at+jwt"); err != nil || !bytes.Equal(got, someClaims) {
					t.Errorf("%s: VerifyJWT: %s, %v", algorithm, got, err)
				}
			}
			if len(kids) != len(algorithms) {
				t.Errorf("%d keys for %d algorithms", len(kids), len(algorithms))
			}
			if got := h.jwksOf(m); len(got) != len(algorithms) {
				t.Errorf("JWKS: %v", got)
			}
			if _, err := m.SignJWT("HS256", "JWT", someClaims); err == nil {
				t.Error("signed with HS256")
			}
			if _, err := m.SignJWT("none", "JWT", someClaims); err == nil {
				t.Error("signed with none")
			}
		})
	}
}

func TestWithoutSealerThereIsOnlyThePair(t *testing.T) {
	h := newHouse(t)
	h.sealer = nil
	m := h.manager("RS256")
	if diff := cmp.Diff([]string{"RS256"}, m.Algorithms()); diff != "" {
		t.Error(diff)
	}
	if _, err := m.SignJWT("ES256", "JWT", someClaims); err == nil {
		t.Error("signed with a key that could not have been kept")
	}
	h.tend(m)
	if got := h.jwksOf(m); len(got) != 1 {
		t.Errorf("JWKS: %v", got)
	}
}

// Rule 34: all phases of a key by schedule, as two servers on one store see them.
func TestScheduledRotation(t *testing.T) {
	h := newHouse(t)
	h.life = 10 * time.Minute
	a := h.manager("RS256")
	b, err := h.load("RS256")
	h.must(err)
	kid := func(m *token.Manager) string { h.Helper(); return h.header(h.sign(m, "ES256", "JWT"))["kid"] }
	want := func(phase string, states_ ...string) {
		h.Helper()
		for _, m := range []*token.Manager{a, b} {
			if diff := cmp.Diff(states_, states(m, "ES256")); diff != "" {
				h.Errorf("%s (-want +got):\n%s", phase, diff)
			}
		}
	}
	h.tend(a, b)
	want("made", "signing")
	first := kid(a)
	if kid(b) != first {
		t.Fatal("two servers, two keys")
	}

	h.clock.Advance(90*day - hour - time.Millisecond)
	h.tend(a, b)
	want("before it is time", "signing")
	h.clock.Advance(time.Millisecond)
	h.tend(b, a)
	want("published", "signing", "next")
	if kid(a) != first || kid(b) != first {
		t.Error("the next key signs before its time")
	}
	_, early := a.TaggedJWKS()
	last := h.sign(a, "ES256", "JWT")
	access := h.sign(a, "ES256", "at+jwt")

	// No server has to do anything for the next one to begin.
	h.clock.Advance(hour - time.Millisecond)
	if kid(a) != first {
		t.Error("a millisecond too early")
	}
	h.clock.Advance(time.Millisecond)
	second := kid(a)
	if second == first || kid(b) != second {
		t.Error("the next key does not sign, or not everywhere")
	}
	want("changed", "retired", "signing")
	h.tend(a, b)
	want("changed, tended", "retired", "signing")
	if err := h.relying(b, last); err != nil {
		t.Errorf("a token of the retired key: %v", err)
	}
	if _, tag := a.TaggedJWKS(); tag != early {
		t.Error("the JWKS has changed although the keys in it have not")
	}

	h.clock.Advance(15*time.Minute - time.Millisecond)
	if err := h.relying(b, last); err != nil {
		t.Errorf("before the last token has expired: %v", err)
	}
	if _, err := b.VerifyJWT(access, "at+jwt"); err != nil {
		t.Errorf("VerifyJWT before the last token has expired: %v", err)
	}
	h.clock.Advance(time.Millisecond)
	if err := h.relying(b, last); err == nil {
		t.Error("the retired key is still in the JWKS")
	}
	if _, tag := a.TaggedJWKS(); tag == early {
		t.Error("another JWKS with the same tag")
	}
	want("gone", "hints", "signing")
	if _, err := b.VerifyJWT(access, "at+jwt"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("an access token of a key that is gone: %v", err)
	}
	// Rule 37: an expired ID Token is still a good hint.
	if _, err := b.VerifyJWT(last, "JWT"); err != nil {
		t.Errorf("a hint: %v", err)
	}
	h.clock.Advance(30*day - time.Millisecond)
	h.tend(a, b)
	if _, err := b.VerifyJWT(last, "JWT"); err != nil {
		t.Errorf("a hint after almost 30 days: %v", err)
	}
	h.clock.Advance(time.Millisecond)
	h.tend(a, b)
	if _, err := b.VerifyJWT(last, "JWT"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("a hint after 30 days: %v", err)
	}
	want("forgotten", "signing")
}

func TestRetiredKeysLoseTheirPrivateHalf(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	h.tend(m)
	done, err := m.RotateKey(t.Context(), "EdDSA")
	if h.must(err); !done {
		t.Fatal("not rotated")
	}
	private := func() (n int) {
		for _, entry := range h.ring("EdDSA") {
			var sealed struct{ Private []byte }
			h.must(h.sealer.Open(entry["sealed"].(string), &sealed))
			if len(sealed.Private) > 0 {
				n++
			}
		}
		return n
	}
	h.clock.Advance(hour + 5*time.Minute - time.Millisecond)
	h.tend(m)
	if got := private(); got != 2 {
		t.Errorf("%d private keys while a server may still sign with the old one, want 2", got)
	}
	h.clock.Advance(time.Millisecond)
	h.tend(m)
	if got := private(); got != 1 {
		t.Errorf("%d private keys, want 1", got)
	}
}

// ring is the document of an algorithm's keys.
func (h *house) ring(algorithm string) []map[string]any {
	h.Helper()
	doc, err := h.engine.Get(h.Context(), "signing key", algorithm)
	h.must(err)
	var ring struct{ Keys []map[string]any }
	h.must(json.Unmarshal(doc.Data, &ring))
	return ring.Keys
}

func (h *house) writeRing(algorithm string, keys []map[string]any) {
	h.Helper()
	doc, err := h.engine.Get(h.Context(), "signing key", algorithm)
	h.must(err)
	doc.Data, err = json.Marshal(map[string]any{"keys": keys})
	h.must(err)
	_, err = h.engine.Replace(h.Context(), "signing key", doc)
	h.must(err)
}

func TestRotateKeyByHand(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	h.tend(m)
	for i, want := range []bool{true, false} {
		if done, err := m.RotateKey(t.Context(), "ES256"); err != nil || done != want {
			t.Errorf("%d: got %v, %v", i, done, err)
		}
	}
	if diff := cmp.Diff([]string{"signing", "next"}, states(m, "ES256")); diff != "" {
		t.Error(diff)
	}
	h.clock.Advance(hour)
	if done, err := m.RotateKey(t.Context(), "ES256"); err != nil || !done {
		t.Errorf("after the next one has begun: %v, %v", done, err)
	}
	for _, algorithm := range []string{"RS256", "ES384", "HS256", ""} {
		if _, err := m.RotateKey(t.Context(), algorithm); err == nil {
			t.Errorf("%q: rotated", algorithm)
		}
	}
}

// Many processes begin at once on an empty store: one makes the key of each algorithm.
func TestManyServersMakeOneKey(t *testing.T) {
	h := newHouse(t)
	_, err := token.EnsureKeys(h.private, h.public, "RS256")
	h.must(err)
	var servers []*token.Manager
	for range 6 {
		m, err := h.load("RS256")
		h.must(err)
		servers = append(servers, m)
	}
	race := func(do func(m *token.Manager) error) {
		var wg sync.WaitGroup
		for _, m := range servers {
			wg.Go(func() {
				if err := do(m); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	var mu sync.Mutex
	kids := map[string]bool{}
	race(func(m *token.Manager) error {
		for range 3 {
			signed, err := m.SignJWT("ES256", "JWT", someClaims)
			if err != nil {
				return err
			}
			mu.Lock()
			kids[h.header(signed)["kid"]] = true
			mu.Unlock()
		}
		return nil
	})
	if len(kids) != 1 || len(h.ring("ES256")) != 1 {
		t.Errorf("%d keys have signed, %d are kept", len(kids), len(h.ring("ES256")))
	}
	h.clock.Advance(89*day + 23*hour)
	race(func(m *token.Manager) error { return m.Tend(t.Context()) })
	if got := len(h.ring("ES256")); got != 2 {
		t.Errorf("rotated by schedule at once: %d keys, want 2", got)
	}
	h.clock.Advance(2 * hour)
	race(func(m *token.Manager) error { _, err := m.RotateKey(t.Context(), "ES256"); return err })
	if got := len(h.ring("ES256")); got != 3 {
		t.Errorf("rotated by hand at once: %d keys, want 3", got)
	}
}

func TestSecretsRotate(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	h.tend(m)
	before := h.sign(m, "ES256", "JWT")
	kid := h.header(before)["kid"]

	h.secrets("a new secret", "the secret of the installation")
	m, err := h.load("RS256")
	h.must(err)
	if got := h.header(h.sign(m, "ES256", "JWT"))["kid"]; got != kid {
		t.Error("with both secrets another key was made")
	}
	h.tend(m) // seals with the first one

	h.secrets("a new secret")
	m, err = h.load("RS256")
	h.must(err)
	h.tend(m)
	if got := h.header(h.sign(m, "ES256", "JWT"))["kid"]; got != kid {
		t.Error("without the old secret another key was made")
	}
	if _, err := m.VerifyJWT(before, "JWT"); err != nil {
		t.Error(err)
	}
	if h.logged.Len() > 0 {
		t.Errorf("logged: %s", &h.logged)
	}
	ring := h.ring("ES256")
	h.tend(m)
	if diff := cmp.Diff(ring, h.ring("ES256")); diff != "" {
		t.Errorf("written although nothing was to be done:\n%s", diff)
	}
}

// A lost SESSION_SECRET must not keep the server from signing.
func TestSecretLost(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	h.tend(m)
	before := h.sign(m, "ES256", "JWT")

	h.secrets("the old one was lost")
	m, err := h.load("RS256")
	h.must(err)
	after := h.sign(m, "ES256", "JWT")
	if h.header(after)["kid"] == h.header(before)["kid"] {
		t.Fatal("the same key")
	}
	if err := h.relying(m, after); err != nil {
		t.Error(err)
	}
	if _, err := m.VerifyJWT(before, "JWT"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("a token of a key that nobody can vouch for: %v", err)
	}
	if got := h.logged.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "cannot be opened with SESSION_SECRET") {
		t.Errorf("logged: %s", got)
	}
	h.tend(m) // makes those of the other algorithms, too
	h.logged.Reset()
	h.tend(m)
	if h.logged.Len() > 0 {
		t.Errorf("warned again: %s", &h.logged)
	}

	t.Run("found again", func(t *testing.T) {
		h.secrets("the secret of the installation", "the old one was lost")
		m, err := h.load("RS256")
		h.must(err)
		h.tend(m)
		for _, signed := range []string{before, after} {
			if _, err := m.VerifyJWT(signed, "JWT"); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff([]string{"retired", "signing"}, states(m, "ES256")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("or forgotten", func(t *testing.T) {
		h.secrets("the old one was lost")
		m, err := h.load("RS256")
		h.must(err)
		h.tend(m)
		h.clock.Advance(31 * day)
		h.tend(m)
		if got := len(h.ring("EdDSA")); got != 1 {
			t.Errorf("%d keys, want the one that can be opened", got)
		}
	})
}

// Two servers with different secrets do not answer each other's writes with new keys.
func TestServersThatDisagreeOnTheSecret(t *testing.T) {
	h := newHouse(t)
	a := h.manager("RS256")
	h.tend(a)
	h.secrets("another secret")
	b, err := h.load("RS256")
	h.must(err)
	for range 20 {
		h.tend(a, b)
		h.sign(a, "ES256", "JWT")
		h.sign(b, "ES256", "JWT")
		h.clock.Advance(10 * time.Minute)
	}
	if got := len(h.ring("ES256")); got != 2 {
		t.Errorf("%d keys, want one each", got)
	}
}

// Who can write into the database gets no key of theirs published or believed.
func TestTamperedStore(t *testing.T) {
	stranger, err := token.NewSealer([]string{"the stranger's secret"}, token.KeysPurpose)
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.NewSealer([]string{"the secret of the installation"}, "upstream tokens")
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	seal := func(s *token.Sealer, value any) string {
		sealed, err := s.Seal(value)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	planted := map[string]any{"alg": "EdDSA", "public": spki, "private": pkcs8, "from": start}
	for what, change := range map[string]func(h *house) []map[string]any{
		"a flipped bit": func(h *house) []map[string]any {
			ring := h.ring("EdDSA")
			text := []byte(ring[0]["sealed"].(string))
			text[40] ^= 1
			ring[0]["sealed"] = string(text)
			return ring
		},
		"a key sealed with another secret": func(*house) []map[string]any {
			return []map[string]any{{"sealed": seal(stranger, planted)}}
		},
		"a key sealed for another purpose": func(*house) []map[string]any {
			return []map[string]any{{"sealed": seal(other, planted)}}
		},
		"a key in the clear": func(*house) []map[string]any {
			text, _ := json.Marshal(planted)
			return []map[string]any{{"sealed": string(text)}, maps.Clone(planted)}
		},
		"the key of another algorithm": func(h *house) []map[string]any { return h.ring("ES256") },
		"no keys":                      func(*house) []map[string]any { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t)
			m := h.manager("RS256")
			h.tend(m)
			old := h.header(h.sign(m, "EdDSA", "JWT"))["kid"]
			h.writeRing("EdDSA", change(h))
			m, err := h.load("RS256")
			h.must(err)
			signed := h.sign(m, "EdDSA", "JWT")
			if h.header(signed)["kid"] == old {
				t.Error("the old key was not lost after all")
			}
			if err := h.relying(m, signed); err != nil {
				t.Error(err)
			}
			if got := h.jwksOf(m); len(got) != 4 {
				t.Errorf("JWKS: %v", got)
			}
			if bytes.Contains(m.JWKS(), []byte(base64.RawURLEncoding.EncodeToString(public))) {
				t.Error("the stranger's key is published")
			}
		})
	}
	t.Run("a key for PS256 among those for RS256", func(t *testing.T) {
		h := newHouse(t)
		m := h.manager("ES256")
		h.tend(m)
		h.writeRing("RS256", h.ring("PS256"))
		m, err := h.load("ES256")
		h.must(err)
		if h.header(h.sign(m, "RS256", "JWT"))["kid"] == h.header(h.sign(m, "PS256", "JWT"))["kid"] {
			t.Error("one key signs with two algorithms")
		}
	})
	t.Run("a key planted as a retired one of the files", func(t *testing.T) {
		h := newHouse(t)
		m := h.manager("RS256")
		key, err := jwk.FromRaw(public)
		h.must(err)
		h.must(key.Set(jwk.AlgorithmKey, "EdDSA"))
		sum, err := key.Thumbprint(crypto.SHA256)
		h.must(err)
		kid := base64.RawURLEncoding.EncodeToString(sum)
		text, err := json.Marshal(key)
		h.must(err)
		clear := map[string]any{"key": json.RawMessage(text), "current": true, "expires": start.Add(hour)}
		for id, value := range map[string]any{
			kid:                         clear,
			"a kid that is not its own": map[string]any{"sealed": seal(h.sealer, clear)},
			"of a stranger":             map[string]any{"sealed": seal(stranger, clear)},
		} {
			data, err := json.Marshal(value)
			h.must(err)
			_, err = h.engine.Insert(t.Context(), "key", store.Doc{ID: id, Data: data})
			h.must(err)
		}
		h.must(m.Refresh(t.Context()))
		h.must(m.Refresh(t.Context()))
		if got := h.jwksOf(m); len(got) != 1 || got[0] != m.KeyID() {
			t.Errorf("JWKS: %v", got)
		}
		if n := strings.Count(h.logged.String(), "cannot be used"); n != 3 {
			t.Errorf("it was said %d times, want once of each: %s", n, &h.logged)
		}
	})
}

// The same RSA key under another JWT_ALGORITHM has the same kid: it is in the JWKS once.
func TestSameKeyAnotherAlgorithm(t *testing.T) {
	h := newHouse(t)
	kid := h.manager("RS256").KeyID()
	m, err := h.load("PS256")
	h.must(err)
	if m.KeyID() != kid {
		t.Fatal("the kid has changed")
	}
	h.sign(m, "RS256", "JWT")
	kids := h.jwksOf(m)
	if slices.Sort(kids); len(slices.Compact(kids)) != 2 || len(h.jwksOf(m)) != 2 {
		t.Errorf("JWKS: %v, want the pair once and a key for RS256", kids)
	}
	signed := h.sign(m, "", "JWT")
	if h.header(signed)["alg"] != "PS256" {
		t.Errorf("signed with %v", h.header(signed))
	}
	if err := h.relying(m, signed); err != nil {
		t.Error(err)
	}
}

// When the files give an algorithm, the keys in the store for it retire; and come back
// with new material when the files give it no longer.
func TestFilesTakeOver(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	h.tend(m)
	old := h.sign(m, "ES256", "JWT")
	private, public := h.private, h.public
	h.private, h.public = h.private+"-ec", h.public+"-ec"
	m = h.manager("ES256")
	h.tend(m)
	if got := h.header(h.sign(m, "ES256", "JWT"))["kid"]; got != m.KeyID() {
		t.Error("the pair in the files does not sign")
	}
	if err := h.relying(m, old); err != nil {
		t.Errorf("a token from before: %v", err)
	}
	h.clock.Advance(hour)
	if err := h.relying(m, old); err == nil {
		t.Error("the key from before stays published")
	}
	h.private, h.public = private, public
	m, err := h.load("RS256")
	h.must(err)
	if signed := h.sign(m, "ES256", "JWT"); h.header(signed)["kid"] == h.header(old)["kid"] || h.relying(m, signed) != nil {
		t.Error("an old key signs again")
	}
}

// Tokens of the OpenID Provider live longer than JWT_EXPIRES_IN; the pair in the files
// signs both.
func TestFilePairStaysForTheLongestLife(t *testing.T) {
	h := newHouse(t)
	h.life = hour
	m := h.manager("RS256")
	signed, older := h.sign(m, "RS256", "JWT"), ""
	if s, err := m.Sign(nil, "ticket"); err == nil {
		older = s.Token
	}
	h.must(token.Rotate(h.private, h.public, ".old", "RS256"))
	h.must(m.Reload(t.Context()))
	h.clock.Advance(hour + 5*time.Minute - time.Millisecond)
	if err := h.relying(m, signed); err != nil {
		t.Error(err)
	}
	h.clock.Advance(time.Millisecond)
	if err := h.relying(m, signed); err == nil {
		t.Error("it stays published")
	}
	h.clock.Advance(29 * day)
	for _, m := range []*token.Manager{m, h.manager("RS256")} { // also after a restart
		if _, err := m.VerifyJWT(signed, "JWT"); err != nil {
			t.Errorf("a hint: %v", err)
		}
		if id, err := m.SessionID(older); err == nil {
			t.Errorf("SessionID believes a key that has gone: %q", id)
		}
	}
}

// Rule 20 and RFC 8725: what can be done to a token without its key.
func TestVerifyJWTRefuses(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	h.tend(m)
	good := h.sign(m, "ES256", "at+jwt")
	kid, rs := h.header(good)["kid"], m.KeyID()
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	encode := base64.RawURLEncoding.EncodeToString
	claims := jwt.MapClaims{"sub": "eve"}
	forge := func(method jwt.SigningMethod, header map[string]any, key any) string {
		made := jwt.NewWithClaims(method, claims)
		made.Header = header
		signed, err := made.SignedString(key)
		h.must(err)
		return signed
	}
	own, err := token.NewKeyOf("ES256")
	h.must(err)
	embedded, err := jwk.FromRaw(own.Public())
	h.must(err)
	with := func(alg, kid string, more ...any) map[string]any {
		header := map[string]any{"alg": alg, "kid": kid, "typ": "at+jwt"}
		for i := 0; i+1 < len(more); i += 2 {
			header[more[i].(string)] = more[i+1]
		}
		return header
	}
	raw := func(header string) string { return encode([]byte(header)) + "." + rest }
	for what, signed := range map[string]string{
		"empty":                        "",
		"dots":                         "..",
		"two parts":                    header + "." + payload,
		"four parts":                   good + ".x",
		"five parts, as a JWE":         good + ".x.y",
		"alg none":                     forge(jwt.SigningMethodNone, with("none", kid), jwt.UnsafeAllowNoneSignatureType),
		"alg none, no signature":       raw(`{"alg":"none","kid":"` + kid + `","typ":"at+jwt"}`)[:strings.LastIndex(raw(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`), ".")+1],
		"HS256 with the public PEM":    forge(jwt.SigningMethodHS256, with("HS256", rs), []byte(m.PublicPEM())),
		"HS256 as RS256":               forge(jwt.SigningMethodHS256, with("RS256", rs), []byte(m.PublicPEM())),
		"a foreign key":                forge(jwt.SigningMethodES256, with("ES256", kid), own),
		"an embedded jwk":              forge(jwt.SigningMethodES256, with("ES256", kid, "jwk", embedded), own),
		"a jku":                        forge(jwt.SigningMethodES256, with("ES256", kid, "jku", "https://evil.example/jwks.json"), own),
		"no kid":                       raw(`{"alg":"ES256","typ":"at+jwt"}`),
		"kid with a path":              raw(`{"alg":"ES256","kid":"../../dev/null","typ":"at+jwt"}`),
		"kid with SQL":                 raw(`{"alg":"ES256","kid":"' OR 1=1 --","typ":"at+jwt"}`),
		"kid as a number":              raw(`{"alg":"ES256","kid":1,"typ":"at+jwt"}`),
		"the kid of another algorithm": raw(`{"alg":"ES256","kid":"` + rs + `","typ":"at+jwt"}`),
		"kid twice":                    raw(`{"alg":"ES256","kid":"x","kid":"` + kid + `","typ":"at+jwt"}`),
		"crit":                         raw(`{"alg":"ES256","crit":["b64"],"b64":false,"kid":"` + kid + `","typ":"at+jwt"}`),
		"another order":                raw(`{"typ":"at+jwt","alg":"ES256","kid":"` + kid + `"}`),
		"no typ":                       raw(`{"alg":"ES256","kid":"` + kid + `"}`),
		"a header of a megabyte":       raw(`{"alg":"ES256","kid":"` + kid + strings.Repeat(" ", 1<<20) + `"}`),
		"another payload":              header + "." + encode([]byte(`{"sub":"eve"}`)) + "." + signature,
		"no signature":                 header + "." + payload + ".",
		"half a signature":             good[:len(good)-20],
		"a signature of zeros":         header + "." + payload + "." + encode(make([]byte, 64)),
		"a signature in ASN.1":         header + "." + payload + "." + encode([]byte{0x30, 6, 2, 1, 1, 2, 1, 1}),
		"a line break":                 good[:len(good)-4] + "\n" + good[len(good)-4:],
		"a space":                      good + " ",
		"padding":                      good + "==",
		"bits beyond the end":          good[:len(good)-1] + string(good[len(good)-1]+1),
		"the JSON form":                `{"payload":"` + payload + `","protected":"` + header + `","signature":"` + signature + `"}`,
		"too long":                     header + "." + strings.Repeat("A", 40<<10) + "." + signature,
	} {
		if got, err := m.VerifyJWT(signed, "at+jwt"); !errors.Is(err, token.ErrInvalid) || got != nil {
			t.Errorf("%s: got %q, %v; want ErrInvalid", what, got, err)
		}
	}
	for _, typ := range []string{"JWT", "", "AT+JWT", "application/at+jwt", "logout+jwt"} {
		if _, err := m.VerifyJWT(good, typ); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("as %q: %v", typ, err)
		}
	}
	if _, err := m.VerifyJWT(good, "at+jwt"); err != nil {
		t.Errorf("the good one: %v", err)
	}
	long, err := m.SignJWT("ES256", "at+jwt", []byte(`{"x":"`+strings.Repeat("x", 32<<10)+`"}`))
	h.must(err)
	if _, err := m.VerifyJWT(long, "at+jwt"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("one of ours that is too long: %v", err)
	}
}

// Rule 2, and what relying parties parse.
func TestJWKSGolden(t *testing.T) {
	dir := filepath.Join("testdata", "golden")
	path := filepath.Join(dir, "jwks.json")
	h := newHouse(t)
	// The store with the keys is what the golden file was made from: a key pair in files,
	// and a key of each algorithm, all of them for this test only.
	h.private, h.public = filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key")
	rings := filepath.Join(dir, "rings.json")
	if *update {
		h.must(os.MkdirAll(dir, 0o755))
		m := h.manager("RS256")
		h.tend(m)
		kept := map[string][]map[string]any{}
		for _, algorithm := range m.Algorithms()[1:] {
			kept[algorithm] = h.ring(algorithm)
		}
		text, err := json.MarshalIndent(kept, "", "  ")
		h.must(err)
		h.must(os.WriteFile(rings, text, 0o644))
		var pretty bytes.Buffer
		h.must(json.Indent(&pretty, m.JWKS(), "", "  "))
		h.must(os.WriteFile(path, append(pretty.Bytes(), '\n'), 0o644))
		return
	}
	text, err := os.ReadFile(rings)
	h.must(err)
	var kept map[string][]map[string]any
	h.must(json.Unmarshal(text, &kept))
	for algorithm, keys := range kept {
		data, err := json.Marshal(map[string]any{"keys": keys})
		h.must(err)
		_, err = h.engine.Insert(t.Context(), "signing key", store.Doc{ID: algorithm, Data: data})
		h.must(err)
	}
	m, err := h.load("RS256")
	h.must(err)
	h.tend(m)
	want, err := os.ReadFile(path)
	h.must(err)
	var pretty bytes.Buffer
	h.must(json.Indent(&pretty, m.JWKS(), "", "  "))
	pretty.WriteByte('\n')
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("JWKS (-want +got):\n%s", diff)
	}
	h.jwksOf(m) // nothing private, use and alg
}

// A key is made when it is needed even if two requests need it at once, and while
// nothing else waits.
func TestFirstUseAtOnce(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			signed, err := m.SignJWT("EdDSA", "JWT", someClaims)
			if err != nil {
				t.Error(err)
			}
			if _, err := m.VerifyJWT(signed, "JWT"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(h.ring("EdDSA")); got != 1 {
		t.Errorf("%d keys", got)
	}
}

func TestStoreThatFails(t *testing.T) {
	h := newHouse(t)
	_, err := token.EnsureKeys(h.private, h.public, "RS256")
	h.must(err)
	m, err := h.load("RS256")
	h.must(err)
	h.tend(m)
	h.must(h.engine.Close())
	if err := m.Tend(t.Context()); err == nil {
		t.Error("Tend does not tell that the store has failed")
	}
	// What is in memory goes on.
	h.sign(m, "ES256", "JWT")
	h.sign(m, "", "JWT")
}
