package oidc

import (
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
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/internal/outbound"
)

// Keys of clients. What they sign is made by another implementation than what checks it.
var (
	ecKeys = sync.OnceValue(func() (keys [3]*ecdsa.PrivateKey) {
		for i := range keys {
			keys[i], _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
		return keys
	})
	edKey   = ed25519.NewKeyFromSeed(make([]byte, 32))
	rsaKey  = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
	weakKey = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 1024); return k })
)

type object = map[string]any

// jwkOf is a key as a JWK, with changes; a nil takes a member away.
func jwkOf(t testing.TB, key any, changes object) object {
	t.Helper()
	k, err := jwk.FromRaw(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	m := object{}
	_ = json.Unmarshal(text, &m)
	return changed(m, changes)
}

func changed(m, changes object) object {
	m = maps.Clone(m)
	for name, value := range changes {
		if value == nil {
			delete(m, name)
		} else {
			m[name] = value
		}
	}
	return m
}

func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// signed is a JWT with an algorithm and a key.
func signed(t testing.TB, alg string, key any, header, payload object) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(payload))
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var jtis atomic.Int64

func jti() string { return fmt.Sprintf("jti-%d", jtis.Add(1)) }

// service is a client that asks for tokens of its own, with a key or a secret that signs.
func service(id, more string) string {
	return `{"client_id": "` + id + `", "name": "Service", "url": "https://service.example.org/", "grant_types": ["client_credentials"], ` + more + `}`
}

// byKey is metadata of private_key_jwt with the first EC key.
func byKey(t testing.TB, more string) string {
	return `"token_endpoint_auth_method": "private_key_jwt", "jwks": ` + jsonOf(object{"keys": []any{jwkOf(t, ecKeys()[0].Public(), nil)}}) + more
}

// asserting is a request for a token with an assertion.
func (h *house) asserting(raw string, more ...string) response {
	h.Helper()
	v := form("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", raw)
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return h.call(PathToken, "", v)
}

// claimsOf are the usual claims of an assertion, with changes.
func (h *house) claimsOf(client string, changes object) object {
	now := h.clock.Now().Unix()
	return changed(object{"iss": client, "sub": client, "aud": issuer, "jti": jti(), "iat": now, "exp": now + 60}, changes)
}

// TestAssertion: rule 23.
func TestAssertion(t *testing.T) {
	ec := ecKeys()
	h := newHouse(t, service("svc", byKey(t, "")), service("other", byKey(t, "")),
		service("strict", byKey(t, `, "token_endpoint_auth_signing_alg": "RS256"`)),
		service("posts", `"client_secret": "`+secret+`", "token_endpoint_auth_method": "client_secret_post"`))
	now := h.clock.Now().Unix()
	publicPEM := func() []byte {
		der, _ := x509.MarshalPKIXPublicKey(ec[0].Public())
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	publicJWK := []byte(jsonOf(jwkOf(t, ec[0].Public(), nil)))
	none := func(claims object) string {
		part := func(v any) string { return base64.RawURLEncoding.EncodeToString([]byte(jsonOf(v))) }
		return part(object{"alg": "none"}) + "." + part(claims) + "."
	}
	with := func(changes object) string { return signed(t, "ES256", ec[0], nil, h.claimsOf("svc", changes)) }
	head := func(header object) string { return signed(t, "ES256", ec[0], header, h.claimsOf("svc", nil)) }
	by := func(alg string, key any, header object) string {
		return signed(t, alg, key, header, h.claimsOf("svc", nil))
	}
	good, refused := 200, 401
	for _, tc := range []struct {
		name, raw string
		status    int
	}{
		{"usual", with(nil), good},
		{"for the token endpoint", with(object{"aud": issuer + PathToken}), good},
		{"for the PAR endpoint", with(object{"aud": issuer + PathPush}), good},
		{"for the introspection endpoint", with(object{"aud": issuer + PathIntrospect}), good},
		{"for the revocation endpoint", with(object{"aud": issuer + PathRevoke}), good},
		{"for several names of ours", with(object{"aud": []any{issuer, issuer + PathToken}}), good},
		{"of an hour", with(object{"exp": now + 3600}), good},
		{"expired within the skew", with(object{"exp": now - 59}), good},
		{"of a clock that is ahead", with(object{"iat": now + 59, "nbf": now + 59}), good},
		{"without iat", with(object{"iat": nil}), good},
		{"typ of RFC 7523bis", head(object{"typ": "client-authentication+jwt"}), good},
		{"kid that the key does not have", head(object{"kid": "some"}), good},

		{"for somebody else", with(object{"aud": "https://evil.example"}), refused},
		{"for somebody else as well", with(object{"aud": []any{issuer, "https://evil.example"}}), refused},
		{"for the issuer with a slash", with(object{"aud": issuer + "/"}), refused},
		{"for userinfo", with(object{"aud": issuer + PathUserInfo}), refused},
		{"for nobody", with(object{"aud": nil}), refused},
		{"for nobody in a list", with(object{"aud": []any{}}), refused},
		{"for a number", with(object{"aud": 1}), refused},
		{"iss of another client", with(object{"iss": "other"}), refused},
		{"sub of another client", with(object{"sub": "other"}), refused},
		{"no iss", with(object{"iss": nil}), refused},
		{"unknown client", with(object{"iss": "nobody", "sub": "nobody"}), refused},
		{"client with SQL in it", with(object{"iss": "svc' OR '1'='1", "sub": "svc' OR '1'='1"}), refused},
		{"expired", with(object{"exp": now - 60}), refused},
		{"no exp", with(object{"exp": nil}), refused},
		{"exp as text", with(object{"exp": fmt.Sprint(now + 60)}), refused},
		{"exp far ahead", with(object{"exp": now + 3661}), refused},
		{"exp beyond all measure", with(object{"exp": 1e300}), refused},
		{"exp below zero", with(object{"exp": -1}), refused},
		{"iat ahead", with(object{"iat": now + 61}), refused},
		{"nbf ahead", with(object{"nbf": now + 61}), refused},
		{"no jti", with(object{"jti": nil}), refused},
		{"jti is a number", with(object{"jti": 7}), refused},
		{"an access token", head(object{"typ": "at+jwt"}), refused},
		{"a proof", head(object{"typ": "dpop+jwt"}), refused},
		{"a request object", with(object{"response_type": "code", "client_id": "svc"}), refused},
		{"something critical", head(object{"crit": []string{"exp"}}), refused},
		{"critical, but empty", head(object{"crit": nil, "b64": true}), refused},
		{"alg none", none(h.claimsOf("svc", nil)), refused},
		{"HS256 with the public key as PEM", by("HS256", publicPEM(), nil), refused},
		{"HS256 with the public key as JWK", by("HS256", publicJWK, nil), refused},
		{"HS256 with the client_id", by("HS256", []byte("svc"), nil), refused},
		{"another key", by("ES256", ec[1], nil), refused},
		{"another key, embedded", by("ES256", ec[1], object{"jwk": jwkOf(t, ec[1].Public(), nil)}), refused},
		{"another key at an address", by("ES256", ec[1], object{"jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"}), refused},
		{"another key, kid is a path", by("ES256", ec[1], object{"kid": "../../../../dev/null"}), refused},
		{"another key, kid is SQL", by("ES256", ec[1], object{"kid": "x' UNION SELECT 'AAAA"}), refused},
		{"another key, kid is NUL", by("ES256", ec[1], object{"kid": "\x00"}), refused},
		{"RS256 at an EC key", by("RS256", rsaKey(), nil), refused},
		{"alg that is not registered", signed(t, "ES256", ec[0], nil, h.claimsOf("strict", nil)), refused},
		{"client of another method", signed(t, "HS256", []byte(secret), nil, h.claimsOf("posts", nil)), refused},
		{"not a JWT", "a.b.c", refused},
		{"five parts", with(nil) + ".a.b", refused},
		{"no signature", with(nil)[:strings.LastIndexByte(with(nil), '.')+1], refused},
		{"signature in two ways", with(nil) + "==", refused},
		{"huge", with(object{"x": strings.Repeat("x", maxJWS)}), refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := map[int]string{200: "", 401: "invalid_client"}[tc.status]
			got := h.asserting(tc.raw).want(t, tc.status, want)
			if h := got.Header.Get("WWW-Authenticate"); h != "" {
				t.Errorf("WWW-Authenticate %q for who did not use the header", h)
			}
		})
	}
	// Rules 22 and 25: one method, and one client.
	h.asserting(with(nil), "client_id", "svc").want(t, 200, "")
	h.asserting(with(nil), "client_id", "other").want(t, 400, "invalid_request")
	h.asserting(with(nil), "client_secret", secret).want(t, 400, "invalid_request")
	h.asserting("").want(t, 400, "invalid_request")
	h.asserting(with(nil), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer").want(t, 401, "invalid_client")
	h.asserting(with(nil), "client_assertion_type", "").want(t, 400, "invalid_request")
	h.call(PathToken, "posts:"+secret, form("grant_type", "client_credentials", "client_assertion_type", assertionType, "client_assertion", with(nil))).want(t, 400, "invalid_request")
	h.call(PathToken, "", form("grant_type", "client_credentials", "client_id", "svc")).want(t, 401, "invalid_client")
	h.call(PathIntrospect, "", form("token", "x", "client_assertion_type", assertionType, "client_assertion", with(nil))).want(t, 200, "")
	h.call(PathRevoke, "", form("token", "x", "client_assertion_type", assertionType, "client_assertion", with(nil))).want(t, 200, "")
}

// TestAssertionTwice: rule 23. An assertion is good once, of any number at once one wins,
// and it stays spent for as long as it could be used.
func TestAssertionTwice(t *testing.T) {
	h := newHouse(t, service("svc", byKey(t, "")), service("other", byKey(t, "")))
	exp := h.clock.Now().Add(time.Hour).Unix()
	raw := signed(t, "ES256", ecKeys()[0], nil, h.claimsOf("svc", object{"jti": "one", "exp": exp}))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if h.asserting(raw).Status == 200 {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have got a token", won.Load())
	}
	// The jti counts, not the text; and another client has its own.
	h.asserting(signed(t, "ES256", ecKeys()[0], nil, h.claimsOf("svc", object{"jti": "one"}))).want(t, 401, "invalid_client")
	h.asserting(signed(t, "ES256", ecKeys()[0], nil, h.claimsOf("other", object{"jti": "one"}))).want(t, 200, "")
	h.clock.Advance(time.Hour + 59*time.Second)
	if got := h.asserting(raw).want(t, 401, "invalid_client"); !strings.Contains(got.text("error_description"), "used before") {
		t.Errorf("in the last second: %s", got.Body)
	}
	// An assertion whose signature is not that of the client spends nothing.
	foreign := h.claimsOf("svc", nil)
	h.asserting(signed(t, "ES256", ecKeys()[1], nil, foreign)).want(t, 401, "invalid_client")
	h.asserting(signed(t, "ES256", ecKeys()[0], nil, foreign)).want(t, 200, "")
}

// TestAlgorithms: each algorithm with a key of its own, several in one set without kid.
func TestAlgorithms(t *testing.T) {
	keys := []any{jwkOf(t, ecKeys()[1].Public(), nil), jwkOf(t, ecKeys()[0].Public(), nil), jwkOf(t, rsaKey().Public(), nil), jwkOf(t, edKey.Public(), nil)}
	enc := service("enc", `"token_endpoint_auth_method": "private_key_jwt", "jwks": `+jsonOf(object{"keys": []any{jwkOf(t, ecKeys()[0].Public(), object{"use": "enc"})}}))
	h := newHouse(t, service("svc", `"token_endpoint_auth_method": "private_key_jwt", "jwks": `+jsonOf(object{"keys": keys})), enc)
	for alg, key := range map[string]crypto.Signer{"ES256": ecKeys()[0], "RS256": rsaKey(), "PS256": rsaKey(), "EdDSA": edKey} {
		if got := h.asserting(signed(t, alg, key, nil, h.claimsOf("svc", nil))); got.Status != 200 {
			t.Errorf("%s: %s", alg, got.Body)
		}
	}
	for alg, key := range map[string]crypto.Signer{"RS512": rsaKey(), "PS384": rsaKey()} {
		h.asserting(signed(t, alg, key, nil, h.claimsOf("svc", nil))).want(t, 401, "invalid_client")
	}
	h.asserting(signed(t, "ES256", ecKeys()[0], nil, h.claimsOf("enc", nil))).want(t, 401, "invalid_client")
}

// TestSecretJWT: client_secret_jwt of rule 22.
func TestSecretJWT(t *testing.T) {
	h := newHouse(t, service("svc", `"token_endpoint_auth_method": "client_secret_jwt", "client_secret": "`+secret+`"`),
		service("long", `"token_endpoint_auth_method": "client_secret_jwt", "token_endpoint_auth_signing_alg": "HS512", "client_secret": "`+secret+secret+`"`))
	h.asserting(signed(t, "HS256", []byte(secret), nil, h.claimsOf("svc", nil))).want(t, 200, "")
	h.asserting(signed(t, "HS512", []byte(secret+secret), nil, h.claimsOf("long", nil))).want(t, 200, "")
	for name, raw := range map[string]string{
		"wrong secret":         signed(t, "HS256", []byte(secret+"x"), nil, h.claimsOf("svc", nil)),
		"a secret too short":   signed(t, "HS512", []byte(secret), nil, h.claimsOf("svc", nil)),
		"another alg":          signed(t, "HS256", []byte(secret+secret), nil, h.claimsOf("long", nil)),
		"a key":                signed(t, "ES256", ecKeys()[0], nil, h.claimsOf("svc", nil)),
		"a key, embedded":      signed(t, "ES256", ecKeys()[0], object{"jwk": jwkOf(t, ecKeys()[0].Public(), nil)}, h.claimsOf("svc", nil)),
		"the hash of a secret": signed(t, "HS256", []byte(hashClientSecret(secret)), nil, h.claimsOf("svc", nil)),
	} {
		if got := h.asserting(raw); got.Status != 401 {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	h.call(PathToken, "svc:"+secret, form("grant_type", "client_credentials")).want(t, 401, "invalid_client")
}

// keyServer publishes keys, which a test can change.
type keyServer struct {
	*httptest.Server
	mu    sync.Mutex
	body  string
	code  int
	asked atomic.Int32
}

func newKeyServer(t *testing.T) *keyServer {
	s := &keyServer{code: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.code == 302 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(s.code)
		_, _ = w.Write([]byte(s.body))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) publish(code int, keys ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.body = code, jsonOf(object{"keys": keys})
}

// TestRemoteKeys: keys by jwks_uri of rule 23.
func TestRemoteKeys(t *testing.T) {
	server := newKeyServer(t)
	ec := ecKeys()
	key := func(i int) object { return jwkOf(t, ec[i].Public(), object{"kid": fmt.Sprintf("k%d", i)}) }
	h := newHouse(t, service("svc", `"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "`+server.URL+`/jwks"`))
	ask := func(i int, kid string) response {
		return h.asserting(signed(t, "ES256", ec[i], object{"kid": kid}, h.claimsOf("svc", nil)))
	}
	asked := func(n int32) {
		t.Helper()
		if got := server.asked.Load(); got != n {
			t.Errorf("asked %d times, want %d", got, n)
		}
	}
	// Nobody has us ask this machine, unless it is allowed.
	server.publish(200, key(0))
	ask(0, "k0").want(t, 401, "invalid_client")
	asked(0)
	h.remote.o.HTTP = outbound.New(outbound.Options{Loopback: true})

	h.clock.Advance(jwksPause)
	ask(0, "k0").want(t, 200, "")
	ask(0, "k0").want(t, 200, "")
	asked(1)
	// A key that is not there: asked again, but not at once, however often it comes.
	h.clock.Advance(jwksPause - time.Millisecond)
	server.publish(200, key(0), key(1), jwkOf(t, ec[2], object{"kid": "k2"}), object{"kty": "oct", "k": "AAAA", "kid": "s"}, object{"kty": "new"})
	for range 3 {
		ask(1, "k1").want(t, 401, "invalid_client")
	}
	asked(1)
	h.clock.Advance(time.Millisecond)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := ask(1, "k1"); got.Status != 200 {
				t.Errorf("%s", got.Body)
			}
		})
	}
	wg.Wait()
	asked(2)
	// A private key that is published is nobody's, and a kid chooses.
	h.clock.Advance(jwksPause)
	ask(2, "k2").want(t, 401, "invalid_client")
	ask(1, "k0").want(t, 401, "invalid_client")
	h.asserting(signed(t, "HS256", []byte{0, 0, 0}, object{"kid": "s"}, h.claimsOf("svc", nil))).want(t, 401, "invalid_client")
	asked(3)

	// What cannot be had: the old keys for an hour, and then none.
	for _, failure := range []struct {
		code int
		body string
	}{{500, ""}, {302, ""}, {200, "<html>"}, {200, `{"keys": null}`}, {200, `{"keys": [` + strings.Repeat(" ", maxJWKS) + `]}`}} {
		server.mu.Lock()
		server.code, server.body = failure.code, failure.body
		server.mu.Unlock()
		before := server.asked.Load()
		h.clock.Advance(jwksAge)
		ask(1, "k1").want(t, 200, "")
		asked(before + 1)
	}
	h.clock.Advance(jwksAge)
	if got := ask(1, "k1").want(t, 401, "invalid_client"); strings.Contains(string(got.Body), server.URL) {
		t.Errorf("%s says too much", got.Body)
	}
	// A key that was withdrawn is worth nothing after ten minutes.
	server.publish(200, key(0))
	h.clock.Advance(jwksPause)
	ask(0, "k0").want(t, 200, "")
	ask(1, "k1").want(t, 401, "invalid_client")
}

// TestClientSecrets: rule 22, basic and post.
func TestClientSecrets(t *testing.T) {
	odd := `a:b%20+ä&=/"\\ and more`
	var plain string
	_ = json.Unmarshal([]byte(`"`+strings.ReplaceAll(odd, `"`, `\"`)+`"`), &plain)
	second := "another-secret-that-is-long-enough"
	h := newHouse(t, service("svc", `"client_secret": `+jsonOf(plain)),
		service("two", `"client_secret_hash": ["`+hashClientSecret(secret)+`", "`+hashClientSecret(second)+`"]`),
		service("post", `"token_endpoint_auth_method": "client_secret_post", "client_secret": "`+secret+`"`),
		`{"client_id": "app", "name": "App", "url": "https://app.example.org/", "token_endpoint_auth_method": "none", "redirect_uris": ["https://app.example.org/cb"]}`)
	grant := form("grant_type", "client_credentials")
	post := func(pairs ...string) response {
		return h.call(PathToken, "", form(append([]string{"grant_type", "client_credentials"}, pairs...)...))
	}
	basic := func(header ...string) response {
		r := httptest.NewRequest(http.MethodPost, PathToken, strings.NewReader(grant.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header["Authorization"] = header
		return h.do(r)
	}
	b64 := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

	h.call(PathToken, "svc:"+plain, grant).want(t, 200, "") // form-encoded before base64
	h.call(PathToken, "two:"+secret, grant).want(t, 200, "")
	h.call(PathToken, "two:"+second, grant).want(t, 200, "")
	post("client_id", "post", "client_secret", secret).want(t, 200, "")
	for name, got := range map[string]response{
		"wrong secret":     h.call(PathToken, "two:"+secret+"x", grant),
		"the hash":         h.call(PathToken, "two:"+hashClientSecret(secret), grant),
		"unknown":          h.call(PathToken, "nobody:"+secret, grant),
		"not encoded":      basic(b64("svc:" + plain)),
		"registered: post": h.call(PathToken, "post:"+secret, grant),
		"public":           basic(b64("app:")),
		"no client":        basic(b64(":" + secret)),
		"no colon":         basic(b64("svc")),
		"not base64":       basic("Basic %%%"),
		"bad escape":       basic(b64("two:%zz")),
	} {
		got.want(t, 401, "invalid_client")
		// Rule 25.
		if got.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
	}
	for name, got := range map[string]response{
		"registered: basic": post("client_id", "two", "client_secret", secret),
		"no secret":         post("client_id", "two"),
		"empty secret":      post("client_id", "post", "client_secret", ""),
		"no client_id":      post("client_secret", secret),
		"nothing":           post(),
		"public, secret":    post("client_id", "app", "client_secret", secret),
	} {
		got.want(t, 401, "invalid_client")
		if got.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: WWW-Authenticate for who did not use the header", name)
		}
	}
	h.call(PathToken, "two:"+secret, form("grant_type", "client_credentials", "client_secret", secret)).want(t, 400, "invalid_request")
	h.call(PathToken, "two:"+secret, form("grant_type", "client_credentials", "client_id", "svc")).want(t, 400, "invalid_request")
	basic(b64("two:"+secret), b64("two:"+second)).want(t, 400, "invalid_request")
	h.call(PathToken, "", form("grant_type", "client_credentials", "client_id", "post", "client_id", "two", "client_secret", secret)).want(t, 400, "invalid_request")
	basic("basic "+strings.TrimPrefix(b64("two:"+secret), "Basic ")).want(t, 200, "")
}

func FuzzAssertion(f *testing.F) {
	claims := object{"iss": "svc", "sub": "svc", "aud": issuer, "jti": "1", "iat": 1, "exp": 2}
	f.Add(signed(f, "ES256", ecKeys()[0], object{"kid": "k"}, claims))
	f.Add(signed(f, "HS256", []byte(secret), object{"typ": "client-authentication+jwt"}, claims))
	f.Add("e30.e30.e30")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := readAssertion(raw)
		if err != nil {
			return
		}
		if a.Issuer != a.Subject || a.Subject == "" || len(raw) > maxJWS || a.header.Crit != nil || strings.Count(raw, ".") != 2 {
			t.Errorf("%q was taken for %+v", raw, a)
		}
		if at, ok := moment(a.Expires); ok && at.Before(time.Unix(0, 0)) {
			t.Errorf("%v", at)
		}
	})
}
