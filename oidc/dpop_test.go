package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// prover makes proofs with a key.
type prover struct {
	h   *house
	key *ecdsa.PrivateKey
}

func (h *house) prover(i int) prover { return prover{h, ecKeys()[i]} }

// proof is one for a request, with changes of its claims.
func (p prover) proof(method, path string, changes object) string {
	p.h.Helper()
	return p.with(nil, method, path, changes)
}

func (p prover) with(header object, method, path string, changes object) string {
	p.h.Helper()
	head := object{"typ": "dpop+jwt", "jwk": jwkOf(p.h, p.key.Public(), nil)}
	for name, value := range header {
		head[name] = value
	}
	return signed(p.h, "ES256", p.key, head, changed(object{
		"jti": jti(), "htm": method, "htu": issuer + path, "iat": p.h.clock.Now().Unix(),
	}, changes))
}

func (p prover) thumbprint() string {
	k, err := jwk.FromRaw(p.key.Public())
	if err != nil {
		p.h.Fatal(err)
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		p.h.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// token is a proof for the token endpoint.
func (p prover) token() string { p.h.Helper(); return p.proof("POST", PathToken, nil) }

// proving posts a form with proofs.
func (h *house) proving(path, basic string, values url.Values, proofs ...string) response {
	h.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id, secret, ok := strings.Cut(basic, ":"); ok {
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	r.Header["Dpop"] = proofs
	return h.do(r)
}

// info asks userinfo with an Authorization header and proofs.
func (h *house) info(authorization string, proofs ...string) response {
	h.Helper()
	r := httptest.NewRequest(http.MethodGet, PathUserInfo, nil)
	r.Header.Set("Authorization", authorization)
	r.Header["Dpop"] = proofs
	return h.do(r)
}

const (
	dpopService = `"client_secret": "` + secret + `", "dpop_bound_access_tokens": true`
	publicSPA   = `{"client_id": "spa", "name": "Page", "url": "https://app.example.org/", "token_endpoint_auth_method": "none",
		"redirect_uris": ["https://app.example.org/cb"], "trusted": true}`
)

// TestProof: rule 43, at the token endpoint.
func TestProof(t *testing.T) {
	h := newHouse(t, service("svc", dpopService), service("free", `"client_secret": "`+secret+`"`))
	me := h.prover(0)
	now := h.clock.Now().Unix()
	ask := func(proofs ...string) response {
		return h.proving(PathToken, "svc:"+secret, form("grant_type", "client_credentials"), proofs...)
	}
	with := func(changes object) string { return me.proof("POST", PathToken, changes) }
	head := func(header object) string { return me.with(header, "POST", PathToken, nil) }
	usual := func() object {
		return object{"jti": jti(), "htm": "POST", "htu": issuer + PathToken, "iat": now}
	}
	// jwk of one key, signature of another.
	by := func(alg string, key, shown any) string {
		return signed(t, alg, key, object{"typ": "dpop+jwt", "jwk": shown}, usual())
	}
	for name, proof := range map[string]string{
		"usual":                 with(nil),
		"host in upper case":    with(object{"htu": "HTTPS://LOGIN.example.ORG" + PathToken}),
		"default port":          with(object{"htu": "https://login.example.org:443" + PathToken}),
		"query and fragment":    with(object{"htu": issuer + PathToken + "?a=b#c"}),
		"escapes":               with(object{"htu": issuer + "/%6fauth/toke%6E"}),
		"a minute ago":          with(object{"iat": now - 60}),
		"in a minute":           with(object{"iat": now + 60}),
		"part of a second":      with(object{"iat": float64(now) + 0.5}),
		"typ as a media type":   head(object{"typ": "application/dpop+jwt"}),
		"RS256":                 by("RS256", rsaKey(), jwkOf(t, rsaKey().Public(), nil)),
		"PS256":                 by("PS256", rsaKey(), jwkOf(t, rsaKey().Public(), nil)),
		"EdDSA":                 by("EdDSA", edKey, jwkOf(t, edKey.Public(), nil)),
		"a claim that is extra": with(object{"x": "y"}),
	} {
		if got := ask(proof); got.Status != 200 || got.JSON["token_type"] != "DPoP" {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	private := jwkOf(t, ecKeys()[0], nil)
	for name, proof := range map[string]string{
		"another method":            me.proof("GET", PathToken, nil),
		"method in lower case":      me.proof("post", PathToken, nil),
		"another endpoint":          me.proof("POST", PathUserInfo, nil),
		"another host":              with(object{"htu": "https://evil.example" + PathToken}),
		"another port":              with(object{"htu": "https://login.example.org:8443" + PathToken}),
		"http":                      with(object{"htu": "http://login.example.org" + PathToken}),
		"a slash more":              with(object{"htu": issuer + PathToken + "/"}),
		"an encoded slash":          with(object{"htu": issuer + "/oauth%2Ftoken"}),
		"a user in it":              with(object{"htu": "https://login.example.org@evil.example" + PathToken}),
		"only a path":               with(object{"htu": PathToken}),
		"no htu":                    with(object{"htu": nil}),
		"no htm":                    with(object{"htm": nil}),
		"no iat":                    with(object{"iat": nil}),
		"no jti":                    with(object{"jti": nil}),
		"jti is empty":              with(object{"jti": ""}),
		"jti is a number":           with(object{"jti": 1}),
		"iat as text":               with(object{"iat": fmt.Sprint(now)}),
		"61 seconds ago":            with(object{"iat": now - 61}),
		"in 61 seconds":             with(object{"iat": now + 61}),
		"at no time":                with(object{"iat": -1e300}),
		"typ JWT":                   head(object{"typ": "JWT"}),
		"no typ":                    head(object{"typ": ""}),
		"something critical":        head(object{"crit": []string{"htu"}}),
		"no jwk":                    head(object{"jwk": nil}),
		"jwk is text":               head(object{"jwk": "key"}),
		"a private key":             head(object{"jwk": private}),
		"a private RSA key":         by("RS256", rsaKey(), jwkOf(t, rsaKey(), nil)),
		"a private OKP key":         by("EdDSA", edKey, jwkOf(t, edKey, nil)),
		"a key set":                 head(object{"jwk": object{"keys": []any{jwkOf(t, ecKeys()[0].Public(), nil)}}}),
		"another key":               by("ES256", ecKeys()[1], jwkOf(t, ecKeys()[0].Public(), nil)),
		"a key for another alg":     by("ES256", ecKeys()[0], jwkOf(t, ecKeys()[0].Public(), object{"alg": "ES512"})),
		"a key to encrypt with":     by("ES256", ecKeys()[0], jwkOf(t, ecKeys()[0].Public(), object{"use": "enc"})),
		"a weak key":                by("RS256", weakKey(), jwkOf(t, weakKey().Public(), nil)),
		"HS256 with a shown secret": by("HS256", []byte("0123456789abcdef0123456789abcdef"), object{"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}),
		"HS256 with a public key":   by("HS256", []byte(jsonOf(jwkOf(t, ecKeys()[0].Public(), nil))), jwkOf(t, ecKeys()[0].Public(), nil)),
		"an alg not listed":         by("RS512", rsaKey(), jwkOf(t, rsaKey().Public(), nil)),
		"alg none":                  base64.RawURLEncoding.EncodeToString([]byte(jsonOf(object{"typ": "dpop+jwt", "alg": "none", "jwk": jwkOf(t, ecKeys()[0].Public(), nil)}))) + "." + strings.Split(with(nil), ".")[1] + ".",
		"not a JWT":                 "proof",
		"empty":                     "",
		"two in one":                with(nil) + ", " + with(nil),
		"huge":                      with(object{"x": strings.Repeat("x", maxProof)}),
	} {
		got := ask(proof)
		if got.Status != 400 || got.text("error") != "invalid_dpop_proof" {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	ask().want(t, 400, "invalid_dpop_proof") // a client that has to bring one
	ask(with(nil), with(nil)).want(t, 400, "invalid_dpop_proof")
	// Who need not, may.
	if got := h.proving(PathToken, "free:"+secret, form("grant_type", "client_credentials")); got.JSON["token_type"] != "Bearer" {
		t.Errorf("%s", got.Body)
	}
	got := h.proving(PathToken, "free:"+secret, form("grant_type", "client_credentials"), with(nil))
	if cnf, _ := claims(t, got.text("access_token"))["cnf"].(map[string]any); cnf["jkt"] != me.thumbprint() || got.JSON["token_type"] != "DPoP" {
		t.Errorf("%s, cnf %v", got.Body, cnf)
	}
	seen := h.call(PathIntrospect, "free:"+secret, form("token", got.text("access_token")))
	if cnf, _ := seen.JSON["cnf"].(map[string]any); cnf["jkt"] != me.thumbprint() || seen.JSON["token_type"] != "DPoP" {
		t.Errorf("introspection: %s", seen.Body)
	}
	// A client that fails otherwise hears of that first.
	h.proving(PathToken, "svc:wrong", form("grant_type", "client_credentials"), "x").want(t, 401, "invalid_client")
}

// TestProofTwice: rule 43, jti once. Of any number at once one wins.
func TestProofTwice(t *testing.T) {
	h := newHouse(t, service("svc", dpopService))
	grant := form("grant_type", "client_credentials")
	proof := h.prover(0).proof("POST", PathToken, object{"jti": "one", "iat": h.clock.Now().Unix() + 60})
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if h.proving(PathToken, "svc:"+secret, grant, proof).Status == 200 {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have got a token", won.Load())
	}
	// As long as it could be used.
	h.clock.Advance(2 * proofAge)
	h.proving(PathToken, "svc:"+secret, grant, proof).want(t, 400, "invalid_dpop_proof")
	// Another key has its own.
	h.proving(PathToken, "svc:"+secret, grant, h.prover(1).proof("POST", PathToken, object{"jti": "one"})).want(t, 200, "")
}

// TestBoundCode: dpop_jkt binds the code (rule 43), and what a stolen code is worth.
func TestBoundCode(t *testing.T) {
	h := newHouse(t, publicSPA)
	me, thief := h.prover(0), h.prover(1)
	code := h.answered(ask("spa", "dpop_jkt", me.thumbprint()), h.person("ada")).Get("code")
	redeem := form("grant_type", "authorization_code", "client_id", "spa", "code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier)
	h.proving(PathToken, "", redeem).want(t, 400, "invalid_dpop_proof")
	h.proving(PathToken, "", redeem, thief.token()).want(t, 400, "invalid_grant")
	got := h.proving(PathToken, "", redeem, me.token()).want(t, 200, "")

	// The refresh token of a public client is bound as well; each proof is for one request.
	refresh := func(token string, proofs ...string) response {
		return h.proving(PathToken, "", form("grant_type", "refresh_token", "client_id", "spa", "refresh_token", token), proofs...)
	}
	first := got.text("refresh_token")
	refresh(first).want(t, 400, "invalid_dpop_proof")
	refresh(first, thief.token()).want(t, 400, "invalid_grant")
	proof := me.token()
	got = refresh(first, proof).want(t, 200, "")
	if got.JSON["token_type"] != "DPoP" {
		t.Errorf("%s", got.Body)
	}
	refresh(got.text("refresh_token"), proof).want(t, 400, "invalid_dpop_proof")
}

// TestRefreshAtOnce: several tabs with a proof each. Who has to look again, because
// another was faster, is not refused for a proof of their own.
func TestRefreshAtOnce(t *testing.T) {
	h := newHouse(t, publicSPA)
	me := h.prover(0)
	code := h.answered(ask("spa"), h.person("ada")).Get("code")
	token := h.proving(PathToken, "", form("grant_type", "authorization_code", "client_id", "spa", "code", code,
		"redirect_uri", "https://app.example.org/cb", "code_verifier", verifier), me.token()).text("refresh_token")
	var wg sync.WaitGroup
	for range 8 {
		proof := me.token()
		wg.Go(func() {
			got := h.proving(PathToken, "", form("grant_type", "refresh_token", "client_id", "spa", "refresh_token", token), proof)
			if got.Status != 200 {
				t.Errorf("%s", got.Body)
			}
		})
	}
	wg.Wait()
}

// TestNewKey: a confidential client may refresh with another key (rule 43), but not
// without one. What it has got before stays with the old key.
func TestNewKey(t *testing.T) {
	for _, format := range []string{tokenJWT, tokenOpaque} {
		h := newHouse(t, strings.TrimSuffix(strings.TrimSpace(webClient), "}")+`, "access_token_format": "`+format+`"}`)
		old, young := h.prover(0), h.prover(1)
		code := h.answered(ask("app"), h.person("ada")).Get("code")
		first := h.proving(PathToken, "app:"+secret, form("grant_type", "authorization_code", "code", code,
			"redirect_uri", "https://app.example.org/cb", "code_verifier", verifier), old.token()).want(t, 200, "")
		refresh := form("grant_type", "refresh_token", "refresh_token", first.text("refresh_token"))
		h.proving(PathToken, "app:"+secret, refresh).want(t, 400, "invalid_dpop_proof")
		second := h.proving(PathToken, "app:"+secret, refresh, young.token()).want(t, 200, "")
		for name, tc := range map[string]struct {
			by     prover
			token  string
			status int
		}{
			"old": {old, first.text("access_token"), 200}, "young": {young, second.text("access_token"), 200},
			"old by young": {young, first.text("access_token"), 401}, "young by old": {old, second.text("access_token"), 401},
		} {
			got := h.info("DPoP "+tc.token, tc.by.proof("GET", PathUserInfo, object{"ath": hashSecret(tc.token)}))
			if got.Status != tc.status {
				t.Errorf("%s token, %s: %d %s", format, name, got.Status, got.Body)
			}
		}
	}
}

// TestBoundToken: rule 43, at a resource.
func TestBoundToken(t *testing.T) {
	h := newHouse(t, webClient)
	me, thief := h.prover(0), h.prover(1)
	ada := h.person("ada")
	tokenFor := func(proofs ...string) string {
		code := h.answered(ask("app"), ada).Get("code")
		return h.proving(PathToken, "app:"+secret, form("grant_type", "authorization_code", "code", code,
			"redirect_uri", "https://app.example.org/cb", "code_verifier", verifier), proofs...).want(t, 200, "").text("access_token")
	}
	bound, other, free := tokenFor(me.token()), tokenFor(me.token()), tokenFor()
	proof := func(changes object) string {
		return me.proof("GET", PathUserInfo, changed(object{"ath": hashSecret(bound)}, changes))
	}
	usual := proof(nil)
	if got := h.info("DPoP "+bound, usual); got.Status != 200 || got.JSON["sub"] != ada.Account.ID {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	if got := h.info("dpop "+bound, proof(nil)); got.Status != 200 {
		t.Errorf("the scheme in lower case: %s", got.Body)
	}
	h.info("Bearer "+free).want(t, 200, "")
	h.info("Bearer "+free, "not a proof").want(t, 200, "")

	for _, tc := range []struct {
		name, authorization, code string
		proofs                    []string
	}{
		{"used before", "DPoP " + bound, "invalid_dpop_proof", []string{usual}},
		{"no proof", "DPoP " + bound, "invalid_dpop_proof", nil},
		{"two proofs", "DPoP " + bound, "invalid_dpop_proof", []string{proof(nil), proof(nil)}},
		{"no ath", "DPoP " + bound, "invalid_dpop_proof", []string{proof(object{"ath": nil})}},
		{"ath of another token", "DPoP " + bound, "invalid_dpop_proof", []string{proof(object{"ath": hashSecret(other)})}},
		{"for another method", "DPoP " + bound, "invalid_dpop_proof", []string{proof(object{"htm": "POST"})}},
		{"for another endpoint", "DPoP " + bound, "invalid_dpop_proof", []string{proof(object{"htu": issuer + PathToken})}},
		{"too old", "DPoP " + bound, "invalid_dpop_proof", []string{proof(object{"iat": h.clock.Now().Unix() - 61})}},
		{"stolen, with a key of the thief", "DPoP " + bound, "invalid_token", []string{thief.proof("GET", PathUserInfo, object{"ath": hashSecret(bound)})}},
		{"stolen, as Bearer", "Bearer " + bound, "invalid_token", nil},
		{"as Bearer, with a proof", "Bearer " + bound, "invalid_token", []string{proof(nil)}},
		{"unbound as DPoP", "DPoP " + free, "invalid_token", []string{me.proof("GET", PathUserInfo, object{"ath": hashSecret(free)})}},
		{"unknown", "DPoP x.y", "invalid_token", []string{proof(nil)}},
	} {
		got := h.info(tc.authorization, tc.proofs...)
		scheme, _, _ := strings.Cut(tc.authorization, " ")
		told := strings.Join(got.Header.Values("WWW-Authenticate"), "\n")
		if got.Status != 401 || got.text("error") != tc.code || !strings.HasPrefix(told, scheme+` realm="login-server", error="`+tc.code+`"`) || !strings.Contains(told, `algs="RS256 ES256 PS256 EdDSA"`) {
			t.Errorf("%s: %d %s, %s", tc.name, got.Status, got.Body, told)
		}
	}
	// In the body there is no scheme to be DPoP (RFC 9449, 7.1).
	h.proving(PathUserInfo, "", form("access_token", bound), me.proof("POST", PathUserInfo, object{"ath": hashSecret(bound)})).want(t, 401, "invalid_token")
	// Without a token both schemes are told, and no error (rule 32).
	none := h.do(httptest.NewRequest(http.MethodGet, PathUserInfo, nil))
	if told := none.Header.Values("WWW-Authenticate"); none.Status != 401 || len(told) != 2 || strings.Contains(strings.Join(told, ""), "error") {
		t.Errorf("%d %q", none.Status, told)
	}
	r := httptest.NewRequest(http.MethodGet, PathUserInfo, nil)
	r.Header["Authorization"] = []string{"Bearer " + free, "DPoP " + bound}
	h.do(r).want(t, 400, "invalid_request")
}

// TestNonce: rule 43. A nonce is not asked for; one that is not ours, or not any more, is
// answered with one that is.
func TestNonce(t *testing.T) {
	h := newHouse(t, service("svc", dpopService), webClient)
	me := h.prover(0)
	try := func(nonce any) response {
		return h.proving(PathToken, "svc:"+secret, form("grant_type", "client_credentials"), me.proof("POST", PathToken, object{"nonce": nonce}))
	}
	if got := try(nil).want(t, 200, ""); got.Header.Get(headerNonce) != "" {
		t.Error("a nonce that nobody has asked for")
	}
	try(1).want(t, 400, "invalid_dpop_proof")
	try("").want(t, 400, "use_dpop_nonce")
	nonce := try("made up").want(t, 400, "use_dpop_nonce").Header.Get(headerNonce)
	if len(nonce) != 43 {
		t.Fatalf("nonce %q", nonce)
	}
	try(nonce).want(t, 200, "")
	h.clock.Advance(noncePeriod)
	try(nonce).want(t, 200, "")
	h.clock.Advance(noncePeriod)
	next := try(nonce).want(t, 400, "use_dpop_nonce").Header.Get(headerNonce)
	if next == "" || next == nonce {
		t.Errorf("then %q", next)
	}
	try(next).want(t, 200, "")

	// A challenge costs the client nothing: the code is good for the second try.
	ada := h.person("ada")
	redeem := form("grant_type", "authorization_code", "code", h.answered(ask("app"), ada).Get("code"),
		"redirect_uri", "https://app.example.org/cb", "code_verifier", verifier)
	h.proving(PathToken, "app:"+secret, redeem, me.proof("POST", PathToken, object{"nonce": "old"})).want(t, 400, "use_dpop_nonce")
	token := h.proving(PathToken, "app:"+secret, redeem, me.proof("POST", PathToken, object{"nonce": next})).want(t, 200, "").text("access_token")
	got := h.info("DPoP "+token, me.proof("GET", PathUserInfo, object{"ath": hashSecret(token), "nonce": "old"})).want(t, 401, "use_dpop_nonce")
	if told := got.Header.Get("WWW-Authenticate"); !strings.Contains(told, `error="use_dpop_nonce"`) || got.Header.Get(headerNonce) != next {
		t.Errorf("%s, %s", told, got.Header.Get(headerNonce))
	}
	// Another installation has others.
	if other := newHouse(t, webClient); other.nonce(h.clock.Now()) == next {
		t.Error("the nonce can be known elsewhere")
	}
}

// TestUsedProofs: what memory has no room for is left to the store, for as long as it
// matters.
func TestUsedProofs(t *testing.T) {
	now := start
	const room = 1000
	u := usedProofs{now: func() time.Time { return now }, room: room}
	want := func(value string, first, spill bool) {
		t.Helper()
		if f, s := u.first(value); f != first || s != spill {
			t.Errorf("%s: %v, %v", value, f, s)
		}
	}
	want("a", true, false)
	want("a", false, false)
	now = now.Add(proofKept - time.Second)
	want("b", true, false)
	now = now.Add(proofKept - time.Second)
	want("b", false, false) // used two minutes ago, with the clock of the client a minute ahead
	want("c", true, false)
	now = now.Add(proofKept)
	want("b", true, false) // no proof is good that long
	for i := range room {
		u.first(fmt.Sprint(i))
	}
	want("d", false, true)
	want("1", false, false)
	now = now.Add(proofKept)
	want("e", true, false)
	for i := range room {
		u.first(fmt.Sprint("more ", i))
	}
	want("f", false, true)
	now = now.Add(proofKept - time.Second)
	want("f", false, true) // it is in the store, and could come again
}

// TestMetadataOfProofs: what discovery says of proofs (RFC 9449, 5.1).
func TestMetadataOfProofs(t *testing.T) {
	h := newHouse(t, webClient)
	got := h.do(httptest.NewRequest(http.MethodGet, PathConfiguration, nil))
	if algs := fmt.Sprint(got.JSON["dpop_signing_alg_values_supported"]); algs != "[RS256 ES256 PS256 EdDSA]" {
		t.Error(algs)
	}
}

func TestNormalizeURL(t *testing.T) {
	for given, want := range map[string]string{
		"https://h":                              "https://h/",
		"HTTPS://H:443/a%2fb%7ec?x#y":            "https://h/a%2Fb~c",
		"http://h:80/":                           "http://h/",
		"http://h:443/":                          "http://h:443/",
		"https://[2001:DB8::1]:443/a":            "https://[2001:db8::1]/a",
		"https://h:/a":                           "https://h/a",
		"https://u@h/":                           "",
		"https://h\\@e/":                         "",
		"ftp://h/":                               "",
		"//h/":                                   "",
		"https:h/a":                              "",
		"https:///a":                             "",
		"https://h/ä":                            "",
		"https://h/a b":                          "",
		"https://[fe80::1%25eth0]/":              "",
		"https://h/%zz":                          "",
		"":                                       "",
		"https://h/" + strings.Repeat("a", 2048): "",
	} {
		got, ok := normalizeURL(given)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", given, got, ok, want)
		}
	}
}

// FuzzNormalizeURL: what is written in the one way stays so, and is the same place.
func FuzzNormalizeURL(f *testing.F) {
	f.Add("https://LOGIN.example.org:443/%6fauth/token?x#y")
	f.Add("http://[::1]:80/%2e%2E/%25%32%35")
	f.Add("https://a@b:1/%")
	f.Fuzz(func(t *testing.T, raw string) {
		once, ok := normalizeURL(raw)
		if !ok {
			return
		}
		if twice, ok := normalizeURL(once); !ok && len(once) <= 2048 || ok && twice != once {
			t.Errorf("%q is %q, and that is %q", raw, once, twice)
		}
		given, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%q is no URL", raw)
		}
		got, err := url.Parse(once)
		if err != nil || !strings.EqualFold(got.Hostname(), given.Hostname()) || got.User != nil || strings.ContainsAny(once, "?# ") ||
			got.Path != given.Path && got.Path != given.Path+"/" {
			t.Errorf("%q became %q", raw, once)
		}
	})
}

// FuzzProof: what is taken is of the key in it, which is public.
func FuzzProof(f *testing.F) {
	claims := object{"jti": "1", "htm": "POST", "htu": issuer + PathToken, "iat": 1}
	for _, shown := range []any{jwkOf(f, ecKeys()[0].Public(), nil), jwkOf(f, ecKeys()[0], nil), object{"kty": "oct", "k": "AA"}, "x"} {
		f.Add(signed(f, "ES256", ecKeys()[0], object{"typ": "dpop+jwt", "jwk": shown}, claims))
	}
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := readProof(raw)
		if err != nil {
			return
		}
		if len(p.Thumbprint) != 43 || p.ID == "" || p.IssuedAt == nil || !strings.Contains(" RS256 ES256 PS256 EdDSA ", " "+p.Algorithm+" ") {
			t.Errorf("%q was taken for %+v", raw, p)
		}
		header, _, _ := readJWS(raw, maxProof)
		if key, err := jwk.ParseKey(header.JWK); err != nil || strings.Contains(fmt.Sprintf("%T", key), "Private") {
			t.Errorf("%q has the key %T", raw, key)
		}
	})
}
