package token_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/token"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// house is a folder for key files, a store and a clock.
type house struct {
	testing.TB
	clock           *clock.Fake
	engine          store.Engine
	private, public string
	sealer          *token.Sealer
	life            time.Duration
	logged          bytes.Buffer
}

func newHouse(t testing.TB) *house {
	dir := t.TempDir()
	h := &house{TB: t, clock: clock.NewFake(start), private: filepath.Join(dir, "private.key"), public: filepath.Join(dir, "public.key")}
	h.engine = teststore.Open(t, h.clock.Now)
	h.secrets("the secret of the installation")
	return h
}

// secrets are those of SESSION_SECRET for managers that are loaded from now on.
func (h *house) secrets(secrets ...string) {
	h.Helper()
	var err error
	h.sealer, err = token.NewSealer(secrets, token.KeysPurpose)
	h.must(err)
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// manager makes the keys where there are none and loads them.
func (h *house) manager(algorithm string) *token.Manager {
	h.Helper()
	_, err := token.EnsureKeys(h.private, h.public, algorithm)
	h.must(err)
	m, err := h.load(algorithm)
	h.must(err)
	return m
}

func (h *house) load(algorithm string) (*token.Manager, error) {
	return token.NewManager(h.Context(), h.engine, token.Options{
		PrivateKeyPath: h.private, PublicKeyPath: h.public, Algorithm: algorithm, ExpiresIn: 2 * time.Minute, Now: h.clock.Now,
		Sealer: h.sealer, Life: h.life, PublishFor: time.Hour, RotateEvery: 90 * 24 * time.Hour, Log: h.log(),
	})
}

// log collects what operators would read.
func (h *house) log() *slog.Logger { return slog.New(slog.NewTextHandler(&h.logged, nil)) }

// verify checks a token as an application does that has nothing but the PEM.
func (h *house) verify(m *token.Manager, signed string) (map[string]any, error) {
	h.Helper()
	block, _ := pem.Decode([]byte(m.PublicPEM()))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	h.must(err)
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(signed, claims, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithTimeFunc(h.clock.Now), jwt.WithValidMethods([]string{m.Algorithm()}), jwt.WithIssuedAt(), jwt.WithExpirationRequired())
	return claims, err
}

func TestTokenIsVerifiedWithNothingButThePEM(t *testing.T) {
	for _, algorithm := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			m := h.manager(algorithm)
			signed, err := m.Sign(map[string]string{"name": "Ada"}, "opaque")
			h.must(err)
			claims, err := h.verify(m, signed.Token)
			h.must(err)
			want := map[string]any{
				"user": map[string]any{"name": "Ada"}, "sessionID": "opaque",
				"iat": float64(start.Unix()), "exp": float64(start.Unix() + 120),
			}
			if diff := cmp.Diff(want, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			if signed.ExpiresIn != 120 {
				t.Errorf("expiresIn is %d, want 120", signed.ExpiresIn)
			}
			if id, err := m.SessionID(signed.Token); id != "opaque" || err != nil {
				t.Errorf("SessionID: got %q, %v", id, err)
			}
			h.clock.Advance(2 * time.Minute)
			if _, err := h.verify(m, signed.Token); !errors.Is(err, jwt.ErrTokenExpired) {
				t.Errorf("after its life: got %v", err)
			}
		})
	}
}

func TestTokenOfNobody(t *testing.T) {
	h := newHouse(t)
	m := h.manager("ES256")
	signed, err := m.Sign(nil, "")
	h.must(err)
	claims, err := h.verify(m, signed.Token)
	h.must(err)
	if user, ok := claims["user"]; user != nil || !ok {
		t.Errorf("user is %v, there %v; want null", user, ok)
	}
	if _, ok := claims["sessionID"]; ok {
		t.Error("there is a sessionID without a session")
	}
	if id, err := m.SessionID(signed.Token); id != "" || err != nil {
		t.Errorf("SessionID: got %q, %v; want none", id, err)
	}
}

func TestHeaderNamesTheKey(t *testing.T) {
	h := newHouse(t)
	m := h.manager("ES256")
	signed, err := m.Sign(nil, "")
	h.must(err)
	part, _, _ := strings.Cut(signed.Token, ".")
	text, err := base64.RawURLEncoding.DecodeString(part)
	h.must(err)
	var header map[string]string
	h.must(json.Unmarshal(text, &header))
	if diff := cmp.Diff(map[string]string{"alg": "ES256", "typ": "JWT", "kid": m.KeyID()}, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestSignAtOnce(t *testing.T) {
	h := newHouse(t)
	m := h.manager("ES256")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				signed, err := m.Sign(nil, "x")
				if err != nil {
					t.Error(err)
				}
				if _, err := m.SessionID(signed.Token); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := m.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

// SessionID must believe nothing that a token says of how it is to be verified
// (RFC 8725, 3.1).
func TestSessionIDRefuses(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	good, err := m.Sign(nil, "opaque")
	h.must(err)
	header, rest, _ := strings.Cut(good.Token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	claims := jwt.MapClaims{"sessionID": "opaque", "exp": start.Add(time.Hour).Unix()}
	forge := func(method jwt.SigningMethod, kid string, key any) string {
		made := jwt.NewWithClaims(method, claims)
		if kid != "" {
			made.Header["kid"] = kid
		}
		signed, err := made.SignedString(key)
		h.must(err)
		return signed
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	h.must(err)
	edKey := ed25519.NewKeyFromSeed(make([]byte, 32))
	block, _ := pem.Decode([]byte(m.PublicPEM()))

	for what, signed := range map[string]string{
		"empty":                      "",
		"garbage":                    "garbage",
		"dots":                       "..",
		"JSON":                       `{"sessionID":"opaque"}`,
		"alg none":                   forge(jwt.SigningMethodNone, m.KeyID(), jwt.UnsafeAllowNoneSignatureType),
		"alg none without signature": forge(jwt.SigningMethodNone, "", jwt.UnsafeAllowNoneSignatureType),
		"HMAC with the public PEM":   forge(jwt.SigningMethodHS256, m.KeyID(), []byte(m.PublicPEM())),
		"HMAC with the public DER":   forge(jwt.SigningMethodHS256, m.KeyID(), block.Bytes),
		"a foreign key":              forge(jwt.SigningMethodRS256, m.KeyID(), stranger),
		"a foreign key of its own":   forge(jwt.SigningMethodRS256, "other", stranger),
		"a key of another kind":      forge(jwt.SigningMethodEdDSA, m.KeyID(), edKey),
		"no kid":                     forge(jwt.SigningMethodRS256, "", stranger),
		"no signature":               header + "." + payload + ".",
		"another payload":            header + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sessionID":"other","exp":9999999999}`)) + "." + signature,
		"another header":             base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS512","kid":"`+m.KeyID()+`"}`)) + "." + rest,
		"the JSON form":              `{"payload":"` + payload + `","protected":"` + header + `","signature":"` + signature + `"}`,
		"the JSON form, indented":    "\n\t{\"payload\":\"" + payload + `","signatures":[{"protected":"` + header + `","signature":"` + signature + `"}]}`,
	} {
		if id, err := m.SessionID(signed); !errors.Is(err, token.ErrInvalid) || id != "" {
			t.Errorf("%s: got %q, %v; want ErrInvalid", what, id, err)
		}
	}

	if id, err := m.SessionID(good.Token); id != "opaque" || err != nil {
		t.Errorf("the good one: got %q, %v", id, err)
	}
	h.clock.Advance(2*time.Minute + token.Leeway)
	if _, err := m.SessionID(good.Token); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("expired: got %v, want ErrInvalid", err)
	}
}

// jwksOf returns the kids in the JWKS, and fails if anything private is in it.
func (h *house) jwksOf(m *token.Manager) []string {
	h.Helper()
	var set struct{ Keys []map[string]any }
	h.must(json.Unmarshal(m.JWKS(), &set))
	var kids []string
	for _, key := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := key[private]; ok {
				h.Errorf("the JWKS shows %q", private)
			}
		}
		if key["use"] != "sig" || key["alg"] == nil {
			h.Errorf("key without use or alg: %v", key)
		}
		kids = append(kids, key["kid"].(string))
	}
	return kids
}

func TestRotate(t *testing.T) {
	h := newHouse(t)
	m := h.manager("RS256")
	oldKid, oldPEM := m.KeyID(), m.PublicPEM()
	old, err := m.Sign(nil, "before")
	h.must(err)
	oldPrivate, err := os.ReadFile(h.private)
	h.must(err)

	h.must(token.Rotate(h.private, h.public, ".old", "RS256"))
	if kids := h.jwksOf(m); len(kids) != 1 || kids[0] != oldKid {
		t.Errorf("before the reload: %v", kids)
	}
	h.must(m.Reload(t.Context()))
	if m.KeyID() == oldKid || m.PublicPEM() == oldPEM {
		t.Fatal("the server still signs with the old key")
	}
	if diff := cmp.Diff([]string{m.KeyID(), oldKid}, h.jwksOf(m)); diff != "" {
		t.Errorf("JWKS (-want +got):\n%s", diff)
	}
	if id, err := m.SessionID(old.Token); id != "before" || err != nil {
		t.Errorf("a token from before: got %q, %v", id, err)
	}
	if kept, err := os.ReadFile(h.private + ".old"); err != nil || !bytes.Equal(kept, oldPrivate) {
		t.Errorf("the old private key was not kept: %v", err)
	}
	h.wantMode(h.private+".old", 0o600)
	h.wantMode(h.private, 0o600)
	h.wantMode(h.public, 0o644)

	t.Run("a second one keeps both", func(t *testing.T) {
		h := &house{TB: t, clock: h.clock, engine: h.engine, private: h.private, public: h.public, sealer: h.sealer}
		h.clock.Advance(time.Minute)
		second := m.KeyID()
		h.must(token.Rotate(h.private, h.public, ".older", "RS256"))
		h.must(m.Reload(t.Context()))
		if diff := cmp.Diff([]string{m.KeyID(), oldKid, second}, h.jwksOf(m)); diff != "" {
			t.Errorf("JWKS (-want +got):\n%s", diff)
		}
		restarted, err := h.load("RS256")
		h.must(err)
		if got := h.jwksOf(restarted); len(got) != 3 {
			t.Errorf("after a restart: %v", got)
		}
		// Each goes when the last token it has signed has expired, without a reload.
		h.clock.Advance(7*time.Minute - time.Minute - time.Millisecond)
		if got := h.jwksOf(m); len(got) != 3 {
			t.Errorf("before the first has expired: %v", got)
		}
		h.clock.Advance(time.Millisecond)
		if diff := cmp.Diff([]string{m.KeyID(), second}, h.jwksOf(m)); diff != "" {
			t.Errorf("after the first has expired (-want +got):\n%s", diff)
		}
		h.clock.Advance(time.Minute)
		if diff := cmp.Diff([]string{m.KeyID()}, h.jwksOf(m)); diff != "" {
			t.Errorf("after both have expired (-want +got):\n%s", diff)
		}
	})
	t.Run("nothing that was kept is overwritten", func(t *testing.T) {
		var e *token.KeyError
		if err := token.Rotate(h.private, h.public, ".old", "RS256"); !errors.As(err, &e) || !strings.Contains(e.Text, "is there already") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the old pair can be put back", func(t *testing.T) {
		h := &house{TB: t, clock: h.clock, engine: h.engine, private: h.private, public: h.public}
		replaced := m.KeyID()
		h.must(os.Rename(h.private+".old", h.private))
		h.must(os.Rename(h.public+".old", h.public))
		h.must(m.Reload(t.Context()))
		if diff := cmp.Diff([]string{oldKid, replaced}, h.jwksOf(m)); diff != "" {
			t.Errorf("JWKS (-want +got):\n%s", diff)
		}
		h.clock.Advance(time.Hour)
		restarted, err := h.load("RS256")
		h.must(err)
		if diff := cmp.Diff([]string{oldKid}, h.jwksOf(restarted)); diff != "" {
			t.Errorf("an hour later (-want +got):\n%s", diff)
		}
	})
	t.Run("a broken pair leaves the one in use", func(t *testing.T) {
		h, public := &house{TB: t}, h.public
		h.must(os.WriteFile(public, []byte("garbage"), 0o644))
		if err := m.Reload(t.Context()); err == nil {
			t.Error("Reload has taken garbage")
		}
		if m.KeyID() != oldKid {
			t.Error("the key in use has changed")
		}
	})
}

func (h *house) wantMode(path string, want os.FileMode) {
	h.Helper()
	info, err := os.Stat(path)
	h.must(err)
	if got := info.Mode().Perm(); got != want {
		h.Errorf("%s has mode %o, want %o", filepath.Base(path), got, want)
	}
}

func TestEnsureKeys(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES256", "ES384", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			h := newHouse(t)
			made, err := token.EnsureKeys(h.private, h.public, algorithm)
			if !made || err != nil {
				t.Fatalf("made %v, %v", made, err)
			}
			h.wantMode(h.private, 0o600)
			h.wantMode(h.public, 0o644)
			before, err := os.ReadFile(h.private)
			h.must(err)
			if made, err := token.EnsureKeys(h.private, h.public, algorithm); made || err != nil {
				t.Errorf("a second time: made %v, %v", made, err)
			}
			if after, _ := os.ReadFile(h.private); !bytes.Equal(before, after) {
				t.Error("the key was replaced")
			}
			left, err := filepath.Glob(filepath.Join(filepath.Dir(h.private), ".*"))
			if h.must(err); len(left) != 0 {
				t.Errorf("files left behind: %v", left)
			}
		})
	}
}

func pemOf(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func publicOf(key crypto.Signer) string {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return pemOf("PUBLIC KEY", der, err)
}

func TestKeyFiles(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	smallKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bigKey, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pemOf("PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	pkcs1, pkcs1Public := x509.MarshalPKCS1PrivateKey(rsaKey), x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)
	ecPEM := pemOf("EC PRIVATE KEY", sec1, err)

	tests := []struct {
		what, private, public, algorithm string
		want                             string // after the file's path; empty for good ones
	}{
		{"PKCS #8", pkcs8(rsaKey), publicOf(rsaKey), "RS256", ""},
		{"PKCS #1", pemOf("RSA PRIVATE KEY", pkcs1, nil), pemOf("RSA PUBLIC KEY", pkcs1Public, nil), "PS512", ""},
		{"EC in PKCS #8", pkcs8(ecKey), publicOf(ecKey), "ES256", ""},
		{"EC in SEC 1", ecPEM, publicOf(ecKey), "ES256", ""},
		{"EC as openssl ecparam writes it", pemOf("EC PARAMETERS", []byte{6, 0}, nil) + ecPEM, publicOf(ecKey), "ES256", ""},
		{"Ed25519", pkcs8(edKey), publicOf(edKey), "EdDSA", ""},

		{"no private key", "", publicOf(rsaKey), "RS256",
			"PRIVATE: the private key is missing, but the public key PUBLIC is there; put the private key back, or remove the public key too to have a new pair made"},
		{"no public key", pkcs8(rsaKey), "", "RS256",
			"PUBLIC: the public key is missing, but the private key PRIVATE is there; make it with: openssl pkey -in PRIVATE -pubout -out PUBLIC"},
		{"of different pairs", pkcs8(rsaKey), publicOf(ecKey), "RS256",
			"PUBLIC: is not the public key of PRIVATE; make it with: openssl pkey -in PRIVATE -pubout -out PUBLIC"},
		{"swapped", publicOf(rsaKey), pkcs8(rsaKey), "RS256",
			"PRIVATE: holds no key that can be used here (PUBLIC KEY); use an RSA, EC or Ed25519 key without a passphrase"},
		{"with a passphrase", pemOf("ENCRYPTED PRIVATE KEY", []byte("x"), nil), publicOf(rsaKey), "RS256",
			"PRIVATE: holds no key that can be used here (ENCRYPTED PRIVATE KEY); use an RSA, EC or Ed25519 key without a passphrase"},
		{"not PEM", "hello", publicOf(rsaKey), "RS256",
			"PRIVATE: is not a PEM file; write a key that begins with -----BEGIN"},
		{"RSA for ES256", pkcs8(rsaKey), publicOf(rsaKey), "ES256",
			"PRIVATE: holds an RSA key of 2048 bits, which does not fit JWT_ALGORITHM=ES256; set JWT_ALGORITHM to RS256"},
		{"P-256 for ES384", pkcs8(ecKey), publicOf(ecKey), "ES384",
			"PRIVATE: holds an EC key on P-256, which does not fit JWT_ALGORITHM=ES384; set JWT_ALGORITHM to ES256"},
		{"EC for RS256", pkcs8(ecKey), publicOf(ecKey), "RS256",
			"PRIVATE: holds an EC key on P-256, which does not fit JWT_ALGORITHM=RS256; set JWT_ALGORITHM to ES256"},
		{"Ed25519 for RS256", pkcs8(edKey), publicOf(edKey), "RS256",
			"PRIVATE: holds an Ed25519 key, which does not fit JWT_ALGORITHM=RS256; set JWT_ALGORITHM to EdDSA"},
		{"a curve without an algorithm", pkcs8(bigKey), publicOf(bigKey), "ES384",
			"PRIVATE: holds an EC key on P-521, which does not fit JWT_ALGORITHM=ES384; set JWT_ALGORITHM to RS256 and use an RSA key of at least 2048 bits"},
		{"too short", pkcs8(smallKey), publicOf(smallKey), "RS256",
			"PRIVATE: holds an RSA key of 1024 bits, which does not fit JWT_ALGORITHM=RS256; set JWT_ALGORITHM to RS256 and use an RSA key of at least 2048 bits"},
		{"an unknown algorithm", pkcs8(rsaKey), publicOf(rsaKey), "HS256", `unknown algorithm "HS256"`},
	}
	for _, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			h := newHouse(t)
			for path, text := range map[string]string{h.private: tc.private, h.public: tc.public} {
				if text != "" {
					h.must(os.WriteFile(path, []byte(text), 0o600))
				}
			}
			_, err := token.CheckKeys(h.private, h.public, tc.algorithm)
			got := ""
			if err != nil {
				got = strings.NewReplacer(h.private, "PRIVATE", h.public, "PUBLIC").Replace(err.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("complaint (-want +got):\n%s", diff)
			}
			if tc.want == "" {
				m, err := h.load(tc.algorithm)
				h.must(err)
				signed, err := m.Sign(nil, "")
				h.must(err)
				if _, err := h.verify(m, signed.Token); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestKeysThatCannotBeWritten(t *testing.T) {
	h := newHouse(t)
	missing := filepath.Join(filepath.Dir(h.private), "missing", "private.key")
	_, err := token.EnsureKeys(missing, h.public, "ES256")
	want := missing + ": cannot be written (no such file or directory); make the folder writable or choose another path"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if _, err := os.Stat(h.public); err == nil {
		t.Error("a public key was written without its private key")
	}
}
