package providers

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

const (
	rpID     = "login-server"
	rpSecret = "s3cret+of/the client" // has to be escaped everywhere
)

// testKeys are the key pairs of fake OpenID Providers, by algorithm, and two more RSA keys.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	for _, name := range []string{"RS256", "other", "third"} {
		keys[name], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	keys["small"], _ = rsa.GenerateKey(rand.Reader, 1024)
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		keys[name], _ = ecdsa.GenerateKey(curve, rand.Reader)
	}
	_, keys["EdDSA"], _ = ed25519.GenerateKey(rand.Reader)
	for _, name := range []string{"RS384", "RS512", "PS256", "PS384", "PS512"} {
		keys[name] = keys["RS256"]
	}
	return keys
})

// published is the JWK of a public key.
func published(key crypto.Signer, fields object) object {
	k, err := jwk.FromRaw(key.Public())
	if err != nil {
		panic(err)
	}
	data, _ := json.Marshal(k)
	var o object
	_ = json.Unmarshal(data, &o)
	maps.Copy(o, fields)
	return o
}

// signedJWT is a compact JWS.
func signedJWT(claims any, algorithm string, key any, header object) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	h := jws.NewHeaders()
	for name, value := range header {
		if err := h.Set(name, value); err != nil {
			panic(err)
		}
	}
	token, err := jws.Sign(payload, jws.WithKey(jwa.SignatureAlgorithm(algorithm), key, jws.WithProtectedHeaders(h)))
	if err != nil {
		panic(err)
	}
	return string(token)
}

// openIDProvider is an OpenID Provider as the specifications want it, which each test makes
// misbehave in one way.
type openIDProvider struct {
	issuer string
	now    func() time.Time
	// method is how the client has to authenticate.
	method    string
	algorithm string
	kid       string
	keys      []object // of the JWK Set
	// Each of these may change what is answered; nil changes nothing.
	metadata, claims, tokenAnswer, answer func(object)
	// idToken makes another ID Token than the claims would give.
	idToken  func(claims object) string
	userInfo object
	// instead handles requests for a path.
	instead map[string]http.HandlerFunc

	mu       sync.Mutex
	requests map[string]int // by path
	grants   map[string]opGrant
	secrets  []string // what must not be in any error
	authURL  url.Values
}

type opGrant struct{ redirectURI, challenge, nonce string }

// newOpenIDProvider starts one on this machine.
func newOpenIDProvider(t testing.TB) *openIDProvider {
	o := makeOpenIDProvider()
	s := httptest.NewServer(o)
	t.Cleanup(func() {
		_ = s.Listener.Close()
		s.CloseClientConnections() // whoever waits for nothing need not wait any longer
		s.Close()
	})
	o.issuer = s.URL
	return o
}

var testTime = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func makeOpenIDProvider() *openIDProvider {
	return &openIDProvider{
		now: func() time.Time { return testTime }, method: clientSecretBasic, algorithm: "RS256", kid: "a",
		keys:     []object{published(testKeys()["RS256"], object{"kid": "a", "use": "sig", "alg": "RS256"})},
		userInfo: object{"sub": "248289761001", "name": "From UserInfo", "preferred_username": "userinfo"},
		instead:  map[string]http.HandlerFunc{}, requests: map[string]int{}, grants: map[string]opGrant{},
		secrets: []string{rpSecret, url.QueryEscape(rpSecret)},
	}
}

func (o *openIDProvider) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[path]
}

// set changes the provider while requests may be running.
func (o *openIDProvider) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

func (o *openIDProvider) secret() string {
	s := rand.Text()
	o.secrets = append(o.secrets, s)
	return s
}

func changed(value object, change func(object)) object {
	if change != nil {
		change(value)
	}
	for name, v := range value {
		if v == nil {
			delete(value, name)
		}
	}
	return value
}

const (
	wellKnown = "/.well-known/openid-configuration"
	keysPath  = "/keys"
	tokenPath = "/token"
	userPath  = "/userinfo"
)

func (o *openIDProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests[r.URL.Path]++
	instead := o.instead[r.URL.Path]
	if instead != nil {
		o.mu.Unlock()
		instead(w, r)
		return
	}
	defer o.mu.Unlock()
	switch r.URL.Path {
	case wellKnown:
		sayJSON(w, 200, changed(object{
			"issuer": o.issuer, "authorization_endpoint": o.issuer + "/authorize", "token_endpoint": o.issuer + tokenPath,
			"userinfo_endpoint": o.issuer + userPath, "jwks_uri": o.issuer + keysPath,
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"none", "HS256", o.algorithm},
			"token_endpoint_auth_methods_supported": []string{"private_key_jwt", o.method},
		}, o.metadata))
	case keysPath:
		sayJSON(w, 200, object{"keys": o.keys})
	case "/authorize":
		o.authorize(w, r)
	case tokenPath:
		o.token(w, r)
	case userPath:
		if !slices.Contains(o.secrets, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sayJSON(w, 200, o.userInfo)
	default:
		http.NotFound(w, r)
	}
}

func sayJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// authorize is the authorization endpoint (Core, 3.1.2), with somebody who is signed in
// there and agrees.
func (o *openIDProvider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o.authURL = q
	if q.Get("response_type") != "code" || q.Get("client_id") != rpID || !slices.Contains(strings.Fields(q.Get("scope")), "openid") || q.Get("redirect_uri") == "" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	if c := q.Get("code_challenge"); c != "" && (q.Get("code_challenge_method") != "S256" || len(c) != 43) {
		http.Error(w, "invalid code_challenge", http.StatusBadRequest)
		return
	}
	code := o.secret()
	o.grants[code] = opGrant{q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("nonce")}
	answer := changed(object{"code": code, "state": q.Get("state"), "iss": o.issuer}, o.answer)
	back := url.Values{}
	for name, value := range answer {
		back.Set(name, value.(string))
	}
	w.Header().Set("Location", q.Get("redirect_uri")+"?"+back.Encode())
	w.WriteHeader(http.StatusFound)
}

// token is the token endpoint (Core, 3.1.3; RFC 6749, 5.2; RFC 7636, 4.6).
func (o *openIDProvider) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	fail := func(status int, code string) {
		// As chatty as some are.
		sayJSON(w, status, object{"error": code, "error_description": "refused: " + r.PostForm.Encode() + " " + r.PostForm.Get("code")})
	}
	id, secret, basic := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	_, secretPosted := r.PostForm["client_secret"]
	authenticated := false
	switch o.method {
	case clientSecretBasic:
		authenticated = basic && id == rpID && secret == rpSecret && !secretPosted
	case clientSecretPost:
		authenticated = !basic && r.PostForm.Get("client_id") == rpID && r.PostForm.Get("client_secret") == rpSecret
	case noSecret:
		authenticated = !basic && !secretPosted && r.PostForm.Get("client_id") == rpID
	}
	if !authenticated {
		fail(http.StatusUnauthorized, "invalid_client")
		return
	}
	code := r.PostForm.Get("code")
	g, ok := o.grants[code]
	delete(o.grants, code) // good once, whatever comes of it
	verifier := r.PostForm.Get("code_verifier")
	if verifier != "" {
		o.secrets = append(o.secrets, verifier)
	}
	sum := sha256.Sum256([]byte(verifier))
	if !ok || r.PostForm.Get("grant_type") != "authorization_code" || r.PostForm.Get("redirect_uri") != g.redirectURI ||
		(g.challenge != "" || verifier != "") && base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		fail(http.StatusBadRequest, "invalid_grant")
		return
	}
	accessToken := o.secret()
	claims := changed(object{
		"iss": o.issuer, "sub": "248289761001", "aud": rpID, "nonce": g.nonce,
		"iat": o.now().Unix(), "exp": o.now().Add(5 * time.Minute).Unix(), "at_hash": atHash(o.algorithm, accessToken),
		"name": "Ada Lovelace", "preferred_username": "ada",
	}, o.claims)
	var idToken string
	if o.idToken != nil {
		idToken = o.idToken(claims)
	} else {
		idToken = signedJWT(claims, o.algorithm, testKeys()[o.algorithm], object{"kid": o.kid})
	}
	if idToken != "" {
		o.secrets = append(o.secrets, idToken)
		for part := range strings.SplitSeq(idToken, ".") {
			if len(part) > 20 {
				o.secrets = append(o.secrets, part)
			}
		}
	}
	sayJSON(w, 200, changed(object{"access_token": accessToken, "token_type": "Bearer", "expires_in": 3600, "id_token": idToken}, o.tokenAnswer))
}

// atHash is Core, 3.1.3.6.
func atHash(algorithm, accessToken string) string {
	var sum []byte
	switch algorithm[2:] {
	case "256":
		s := sha256.Sum256([]byte(accessToken))
		sum = s[:]
	case "384":
		s := sha512.Sum384([]byte(accessToken))
		sum = s[:]
	default:
		s := sha512.Sum512([]byte(accessToken))
		sum = s[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// inMemory carries requests to handlers by host, without a network. A request to any
// other host fails the test.
type inMemory struct {
	t     testing.TB
	hosts map[string]http.Handler
}

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	h, ok := m.hosts[r.URL.Host]
	if !ok {
		m.t.Errorf("%s was reached", r.URL.Host)
		return nil, &url.Error{Op: "Get", URL: r.URL.Host, Err: context.Canceled}
	}
	w := httptest.NewRecorder()
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

func oidcOptionsOf(o *openIDProvider, more object) object {
	options := object{"issuer": o.issuer, "clientID": rpID, "clientSecret": rpSecret}
	maps.Copy(options, more)
	for name, value := range options {
		if value == nil {
			delete(options, name)
		}
	}
	return options
}

// openOIDC opens a provider with that strategy against o, at testTime.
func openOIDC(t testing.TB, strategy string, o *openIDProvider, more object) *Provider {
	t.Helper()
	deps := testDeps()
	deps.Clock = clock.NewFake(testTime)
	p, warnings := openWith(t, deps, config.Provider{ID: "p", Strategy: strategy, Name: "P", Template: "https://example.org/{id}"}, oidcOptionsOf(o, more))
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	return p
}

func newLogin(p *Provider) Login {
	return Login{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(), Callback: p.Callback, Locale: "de"}
}

// depart begins a login and returns what the provider answers the browser with.
func depart(t testing.TB, p *Provider, o *openIDProvider, l Login) (url.Values, error) {
	t.Helper()
	d, err := p.Website.Begin(t.Context(), l)
	if err != nil {
		return nil, err
	}
	r := httptest.NewRequest(http.MethodGet, d.URL, nil)
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	back, err := url.Parse(w.Header().Get("Location"))
	if err != nil || w.Code != http.StatusFound {
		t.Fatalf("authorization endpoint: %d %s", w.Code, w.Body)
	}
	if !strings.HasPrefix(back.String(), p.Callback+"?") {
		t.Fatalf("the answer goes to %s, not to %s", back, p.Callback)
	}
	return back.Query(), nil
}

// goThrough goes through a whole login. No error may hold a secret.
func goThrough(t testing.TB, p *Provider, o *openIDProvider) (identity.Profile, error) {
	t.Helper()
	l := newLogin(p)
	answer, err := depart(t, p, o, l)
	if err != nil {
		holdsNoSecret(t, o, err)
		return identity.Profile{}, err
	}
	profile, err := p.Website.Finish(t.Context(), l, answer)
	holdsNoSecret(t, o, err)
	return profile, err
}

func holdsNoSecret(t testing.TB, o *openIDProvider, err error) {
	t.Helper()
	if err == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, secret := range o.secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds the secret %q: %v", secret, err)
		}
	}
}

// entered is goThrough for those that have to succeed.
func entered(t testing.TB, p *Provider, o *openIDProvider) identity.Profile {
	t.Helper()
	profile, err := goThrough(t, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return profile
}

// keptOut is goThrough for those that have to fail, for the reason that is wanted.
func keptOut(t testing.TB, p *Provider, o *openIDProvider, want string) error {
	t.Helper()
	profile, err := goThrough(t, p, o)
	if err == nil || profile != (identity.Profile{}) {
		t.Fatalf("signed in: %+v, %v", profile, err)
	}
	if want == "" || !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q in it", err, want)
	}
	return err
}
