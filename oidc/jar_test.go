package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// objectKeys are those of clients that sign their requests, made once.
var objectKeys = sync.OnceValue(func() map[string]any {
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	x, err4 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		panic(err)
	}
	return map[string]any{"RS256": r, "PS256": r, "ES256": e, "EdDSA": d, "foreign": x}
})

// publicJWKS are the public halves of the client's keys.
func publicJWKS() string {
	set := jwk.NewSet()
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		key, err := jwk.PublicKeyOf(objectKeys()[alg])
		if err == nil {
			err = errors.Join(key.Set(jwk.KeyIDKey, alg), set.AddKey(key))
		}
		if err != nil {
			panic(err)
		}
	}
	body, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// objectClient is the entry of a client with keys, and more metadata.
func objectClient(more string) string {
	return `{"client_id": "app", "name": "App", "url": "https://app.example.org/", "client_secret": "` + secret + `", "trusted": true,
		"redirect_uris": ["https://app.example.org/cb", "https://app.example.org/two"], "jwks": ` + publicJWKS() + more + `}`
}

// objectOf is a request object: what ask has, about itself what is usual, and changes.
// A value of nil takes a claim away.
func objectOf(changes ...any) map[string]any {
	o := map[string]any{"iss": "app", "aud": issuer, "exp": start.Add(5 * time.Minute).Unix(), "nbf": start.Unix(), "iat": start.Unix()}
	for name, values := range ask("app") {
		o[name] = values[0]
	}
	for i := 0; i+1 < len(changes); i += 2 {
		name, _ := changes[i].(string)
		if o[name] = changes[i+1]; changes[i+1] == nil {
			delete(o, name)
		}
	}
	return o
}

// signJWS makes a JWS; headers beside alg are names and values.
func signJWS(t testing.TB, alg string, key any, claims any, header ...any) string {
	t.Helper()
	payload, ok := claims.([]byte)
	if !ok {
		var err error
		if payload, err = json.Marshal(claims); err != nil {
			t.Fatal(err)
		}
	}
	h := jws.NewHeaders()
	for i := 0; i+1 < len(header); i += 2 {
		if err := h.Set(header[i].(string), header[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.SignatureAlgorithm(alg), key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func signObject(t testing.TB, o any, header ...any) string {
	t.Helper()
	return signJWS(t, "ES256", objectKeys()["ES256"], o, header...)
}

func TestRule20RequestObject(t *testing.T) {
	h := newHouse(t, objectClient(""))
	who := h.person("ada")
	for _, alg := range signingAlgs {
		for _, typ := range []string{"", "JWT", "jwt", "oauth-authz-req+jwt", "application/oauth-authz-req+jwt"} {
			header := []any{}
			if typ != "" {
				header = append(header, "typ", typ)
			}
			v := h.answered(form("client_id", "app", "request", signJWS(t, alg, objectKeys()[alg], objectOf("state", "inner"), header...)), who)
			if v.Get("code") == "" || v.Get("state") != "inner" {
				t.Errorf("%s, typ %q: got %v", alg, typ, v)
			}
		}
	}
	// What is inside is all there is (RFC 9101, 6.3).
	signed := signObject(t, objectOf("state", nil, "max_age", 3600, "nonce", "inner", "claims", map[string]any{"id_token": map[string]any{"name": nil}}, "aud", []string{"https://else.example", issuer}))
	request := ask("app", "state", "outer", "scope", "openid email", "redirect_uri", "https://app.example.org/two", "response_mode", "fragment", "prompt", "none")
	request.Set("request", signed)
	step := h.step(request, who)
	if !strings.HasPrefix(step.Answer.URL, "https://app.example.org/cb?code=") || strings.Contains(step.Answer.URL, "outer") {
		t.Fatalf("got %s", step.Answer.URL)
	}
	got := h.redeem("app:"+secret, h.parameters(step).Get("code")).want(t, 200, "")
	if id := claims(t, got.text("id_token")); id["nonce"] != "inner" || id["name"] != "Ada" || got.text("scope") != "openid profile" {
		t.Errorf("got %v, %s", id, got.Body)
	}
	// A bad redirect_uri inside is an error page, whatever stands outside.
	for _, uri := range []any{"https://evil.example/cb", nil, ""} {
		request.Set("request", signObject(t, objectOf("redirect_uri", uri)))
		h.refused(h.step(request, who), "invalid_request")
	}
	request.Set("request", signObject(t, objectOf("response_type", "id_token")))
	h.told(h.step(request, who), "invalid_request")
}

func TestRule20RequestObjectRefused(t *testing.T) {
	h := newHouse(t, objectClient(""), webClientNamed("plain"))
	who := h.person("ada")
	keys := objectKeys()
	encode := base64.RawURLEncoding.EncodeToString
	payload, _ := json.Marshal(objectOf())
	public, err := json.Marshal(map[string]string{"x": publicJWKS()})
	if err != nil {
		t.Fatal(err)
	}
	foreignPublic, err := jwk.PublicKeyOf(keys["foreign"])
	if err != nil {
		t.Fatal(err)
	}
	good := signObject(t, objectOf())
	for name, signed := range map[string]string{
		"nothing":              ".",
		"not a JWT":            "x",
		"alg none":             encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + ".",
		"alg None, signed":     encode([]byte(`{"alg":"None"}`)) + "." + encode(payload) + ".AAAA",
		"no alg":               encode([]byte(`{}`)) + "." + encode(payload) + ".AAAA",
		"HS256, secret":        signJWS(t, "HS256", []byte(secret), objectOf()),
		"HS256, public key":    signJWS(t, "HS256", public, objectOf()),
		"foreign key":          signJWS(t, "ES256", keys["foreign"], objectOf()),
		"foreign key, our kid": signJWS(t, "ES256", keys["foreign"], objectOf(), "kid", "ES256"),
		"embedded key":         signJWS(t, "ES256", keys["foreign"], objectOf(), "jwk", foreignPublic),
		"jku":                  signJWS(t, "ES256", keys["foreign"], objectOf(), "jku", "https://evil.example/jwks"),
		"unknown kid":          signObject(t, objectOf(), "kid", "../../etc/passwd"),
		"SQL kid":              signObject(t, objectOf(), "kid", "' OR 1=1 --"),
		"RS384":                signJWS(t, "RS384", keys["RS256"], objectOf()),
		"crit":                 signObject(t, objectOf(), "crit", []string{"b64"}),
		"changed":              good[:len(good)-4] + "AAAA",
		"two signatures":       good + "." + good,
		"an access token":      signObject(t, objectOf(), "typ", "at+jwt"),
		"a DPoP proof":         signObject(t, objectOf(), "typ", "dpop+jwt"),
		"a logout token":       signObject(t, objectOf(), "typ", "logout+jwt"),
		"other iss":            signObject(t, objectOf("iss", "plain")),
		"no iss":               signObject(t, objectOf("iss", nil)),
		"other aud":            signObject(t, objectOf("aud", "https://else.example")),
		"aud with slash":       signObject(t, objectOf("aud", issuer+"/")),
		"no aud":               signObject(t, objectOf("aud", nil)),
		"aud is a number":      signObject(t, objectOf("aud", 1)),
		"expired":              signObject(t, objectOf("exp", start.Add(-2*time.Minute).Unix())),
		"not yet":              signObject(t, objectOf("nbf", start.Add(2*time.Minute).Unix())),
		"from the future":      signObject(t, objectOf("iat", start.Add(2*time.Minute).Unix())),
		"exp is text":          signObject(t, objectOf("exp", "soon")),
		"other client":         signObject(t, objectOf("client_id", "plain")),
		"request inside":       signObject(t, objectOf("request", good)),
		"request_uri inside":   signObject(t, objectOf("request_uri", "urn:ietf:params:oauth:request_uri:x")),
		"list":                 signObject(t, objectOf("scope", []string{"openid"})),
		"object":               signObject(t, objectOf("state", map[string]any{})),
		"boolean":              signObject(t, objectOf("prompt", true)),
		"an array":             signObject(t, []byte(`["iss"]`)),
		"null":                 signObject(t, []byte(`null`)),
		"text":                 signObject(t, []byte(`hello`)),
		"too long":             signObject(t, objectOf("state", strings.Repeat("x", maxObject))),
	} {
		request := ask("app", "request", signed, "state", "outer")
		step := h.step(request, who)
		if v := h.told(step, "invalid_request_object"); v.Get("state") != "outer" || v.Has("code") {
			t.Errorf("%s: got %v", name, v)
		}
		// Where it is not known where to, the person is told.
		h.refused(h.step(form("client_id", "app", "request", signed), who), "invalid_request_object")
	}
	// An assertion that authenticates the client is no request.
	assertion := signObject(t, map[string]any{"iss": "app", "sub": "app", "aud": issuer, "exp": start.Add(time.Minute).Unix(), "jti": "x"})
	h.refused(h.step(ask("app", "request", assertion), who), "invalid_request")
	// Who has no keys cannot sign.
	h.told(h.step(ask("plain", "request", good), who), "request_not_supported")
	h.told(h.step(ask("plain", "request_uri", "https://app.example.org/r"), who), "request_uri_not_supported")
	h.told(h.step(ask("app", "request_uri", "https://app.example.org/r"), who), "request_uri_not_supported")
	h.told(h.step(ask("app", "request_uri", "https://app.example.org/r", "request", good), who), "invalid_request")
}

func webClientNamed(id string) string {
	return strings.Replace(webClient, `"client_id": "app"`, `"client_id": "`+id+`"`, 1)
}

func TestRule20MetadataOfTheClient(t *testing.T) {
	h := newHouse(t, objectClient(`, "request_object_signing_alg": "PS256", "require_signed_request_object": true`))
	who := h.person("ada")
	h.told(h.step(ask("app"), who), "invalid_request")
	h.told(h.step(ask("app", "request", signObject(t, objectOf())), who), "invalid_request_object")
	if v := h.answered(form("client_id", "app", "request", signJWS(t, "PS256", objectKeys()["PS256"], objectOf())), who); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
	m := h.metadata()
	if m["request_parameter_supported"] != true || m["request_uri_parameter_supported"] != true || m["require_request_uri_registration"] != true || m["require_pushed_authorization_requests"] != false ||
		m["pushed_authorization_request_endpoint"] != issuer+PathPush || strings.Contains(strings.Join(m["request_object_signing_alg_values_supported"].([]string), " "), "none") {
		t.Errorf("got %v", m)
	}
}

// transport answers what is asked for, without a network.
type transport func(r *http.Request) (*http.Response, error)

func (s transport) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func TestRule20RequestURI(t *testing.T) {
	h := newHouse(t, objectClient(`, "request_uris": ["https://app.example.org/request.jwt", "https://app.example.org/hashed#abc"]`))
	who := h.person("ada")
	var asked []string
	status, body := 200, signObject(t, objectOf("state", "fetched"))
	h.o.HTTP = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.String())
			if deadline, ok := r.Context().Deadline(); !ok || time.Until(deadline) > objectTimeout {
				t.Error("it may take as long as it likes")
			}
			return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r,
				Header: http.Header{"Location": {"https://app.example.org/request.jwt"}}}, nil
		}),
	}
	for _, uri := range []string{"https://app.example.org/request.jwt", "https://app.example.org/request.jwt#hash", "https://app.example.org/hashed#abc", "https://app.example.org/hashed#def"} {
		if v := h.answered(form("client_id", "app", "request_uri", uri), who); v.Get("code") == "" || v.Get("state") != "fetched" {
			t.Errorf("%s: got %v", uri, v)
		}
	}
	if len(asked) != 4 || strings.Contains(strings.Join(asked, ""), "#") {
		t.Errorf("asked for %q", asked)
	}
	asked = nil
	for _, uri := range []string{
		"https://app.example.org/request.jwt?", "https://app.example.org/request.jwt?x", "https://app.example.org/Request.jwt", "http://app.example.org/request.jwt", "https://app.example.org:443/request.jwt",
		"https://app.example.org/request.jwt\n", "https://169.254.169.254/latest/meta-data", "http://localhost/", "file:///etc/passwd", "data:,x", "https://app.example.org/", "urn:ietf:params:oauth:x", "x", "#",
	} {
		h.told(h.step(ask("app", "request_uri", uri), who), "invalid_request_uri")
	}
	if asked != nil {
		t.Errorf("asked for %q", asked)
	}
	for _, status = range []int{302, 404, 500} {
		h.told(h.step(ask("app", "request_uri", "https://app.example.org/request.jwt"), who), "invalid_request_uri")
	}
	if len(asked) != 3 {
		t.Errorf("a redirect was followed: %q", asked)
	}
	status, body = 200, strings.Repeat("x", maxObject+1)
	h.told(h.step(ask("app", "request_uri", "https://app.example.org/request.jwt"), who), "invalid_request_uri")
	body = "hello"
	h.told(h.step(ask("app", "request_uri", "https://app.example.org/request.jwt"), who), "invalid_request_object")
}

func FuzzRequestObject(f *testing.F) {
	f.Add(signObject(f, objectOf()))
	f.Add("a.b.c")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30.")
	p := fuzzProvider(f)
	c := p.clients.listed["app"]
	f.Fuzz(func(t *testing.T, text string) {
		// Whoever has no key gets nothing through; with one, only parameters come out.
		if _, err := p.readObject(t.Context(), c, text); err != nil && !errors.As(err, new(*Error)) {
			t.Errorf("%q: %v", text, err)
		}
		values, err := objectParameters([]byte(text))
		if err != nil {
			return
		}
		for name, list := range values {
			if name == "iss" || name == "aud" || name == "exp" || name != "resource" && len(list) != 1 {
				t.Errorf("%q gives %s=%q", text, name, list)
			}
		}
		if _, err := url.ParseQuery(values.Encode()); err != nil {
			t.Error(err)
		}
	})
}
