package providers

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

const (
	wikiKey    = "c04f1a2b3c4d5e6f708192a3b4c5d6e7"
	wikiSecret = "5ec2e7f0a1b2c3d4e5f60718293a4b5c6d7e8f90"
	// wikiAgent is what Wikimedia wants to see: a name, and where to ask about it.
	wikiAgent    = "login-server/1.2.3 (https://login.example.org/)"
	wikiCallback = "https://login.example.org/login/p/return"
)

// fakeWiki is a wiki with Extension:OAuth, after its source. It checks all that the real
// one checks, signatures by code of its own.
type fakeWiki struct {
	*httptest.Server
	t     *testing.T
	clock *clock.Fake

	// callback is what the consumer was registered with; prefix: it may be continued.
	callback string
	prefix   bool
	// instead answers in place of a page of Special:OAuth or rest.php/oauth2.
	instead map[string]http.HandlerFunc
	// claims changes what /identify says, and sign how it is signed.
	claims func(jwt.MapClaims)
	sign   func(jwt.MapClaims) string
	// profile is what /resource/profile answers.
	profile string

	mu       sync.Mutex
	nonces   map[string]bool
	requests map[string]*wikiRequest
	access   map[string]string // secrets by token
	codes    map[string]url.Values
	bearers  map[string]bool
	// confidential is what no error may repeat.
	confidential []string
}

type wikiRequest struct {
	secret, callback, verifier string
}

func newFakeWiki(t *testing.T) *fakeWiki {
	w := &fakeWiki{
		t: t, clock: clock.NewFake(time.Now().Truncate(time.Second)), callback: wikiCallback,
		instead: map[string]http.HandlerFunc{}, nonces: map[string]bool{}, requests: map[string]*wikiRequest{},
		access: map[string]string{}, codes: map[string]url.Values{}, bearers: map[string]bool{}, confidential: []string{wikiSecret},
		sign: func(claims jwt.MapClaims) string {
			return signed(t, jwt.SigningMethodHS256, []byte(wikiSecret), claims)
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/w/index.php", func(rw http.ResponseWriter, r *http.Request) {
		page, ok := strings.CutPrefix(r.URL.Query().Get("title"), "Special:OAuth/")
		if !ok {
			http.NotFound(rw, r)
			return
		}
		w.serve(page, rw, r)
	})
	mux.HandleFunc("/w/rest.php/oauth2/", func(rw http.ResponseWriter, r *http.Request) {
		w.serve(strings.TrimPrefix(r.URL.Path, "/w/rest.php/oauth2/"), rw, r)
	})
	w.Server = serve(t, mux.ServeHTTP)
	return w
}

func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// random makes a token as MediaWiki does, of 32 hexadecimal digits.
func (w *fakeWiki) random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	s := fmt.Sprintf("%x", b)
	w.confidential = append(w.confidential, s)
	return s
}

func (w *fakeWiki) serve(page string, rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	browser := page == "authorize" || page == "authenticate"
	if !browser && r.UserAgent() != wikiAgent {
		rw.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(rw, "Please set a user-agent and respect our robot policy https://w.wiki/4wJS. See also T400119.\n")
		return
	}
	if h := w.instead[page]; h != nil {
		h(rw, r)
		return
	}
	switch page {
	case "initiate":
		w.initiate(rw, r)
	case "authorize", "authenticate":
		if r.URL.Path == "/w/index.php" {
			w.authorize(rw, r)
		} else {
			w.authorize2(rw, r)
		}
	case "token":
		w.token(rw, r)
	case "identify":
		w.identify(rw, r)
	case "access_token":
		w.accessToken2(rw, r)
	case "resource/profile":
		if bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !w.bearers[bearer] {
			rw.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(rw, `{"error":"access_denied","error_description":"The resource owner or authorization server denied the request.","hint":"Missing \"Authorization\" header"}`)
			return
		}
		_, _ = io.WriteString(rw, w.profile)
	default:
		http.NotFound(rw, r)
	}
}

// protocolError is what Special:OAuth answers where the format is "raw", with status 200.
func protocolError(rw http.ResponseWriter, text string) {
	rw.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(rw, "Error: "+html.EscapeString("An error occurred in the OAuth protocol: "+text))
}

// verify checks a signed request (RFC 5849, 3.2) and returns its OAuth parameters.
func (w *fakeWiki) verify(r *http.Request, tokenSecret func(token string) (string, bool)) (map[string]string, error) {
	p, err := authorizationHeader(r.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	w.confidential = append(w.confidential, p["oauth_signature"])
	stamp, err := strconv.ParseInt(p["oauth_timestamp"], 10, 64)
	switch {
	case p["oauth_version"] != "1.0":
		return nil, fmt.Errorf("OAuth version '%s' not supported", p["oauth_version"])
	case p["oauth_consumer_key"] != wikiKey:
		return nil, errors.New("Invalid consumer")
	case err != nil || math.Abs(float64(time.Now().Unix()-stamp)) > 300:
		return nil, fmt.Errorf("Expired timestamp, yours %d, ours %d", stamp, time.Now().Unix())
	case p["oauth_nonce"] == "" || w.nonces[p["oauth_nonce"]]:
		return nil, errors.New("Nonce already used: " + p["oauth_nonce"])
	case p["oauth_signature_method"] != "HMAC-SHA1":
		return nil, fmt.Errorf("Signature method '%s' not supported", p["oauth_signature_method"])
	}
	w.nonces[p["oauth_nonce"]] = true
	secret := ""
	if tokenSecret != nil {
		var ok bool
		if secret, ok = tokenSecret(p["oauth_token"]); !ok {
			return nil, errors.New("Invalid token: " + p["oauth_token"])
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) > 0 {
		w.t.Errorf("%s: body %q, %v", r.URL, body, err)
	}
	want := hmacSHA1(r.Method, "http://"+r.Host+r.URL.EscapedPath(), r.URL.Query(), p, wikiSecret, secret)
	if !hmac.Equal([]byte(want), []byte(p["oauth_signature"])) {
		return nil, errors.New("Invalid signature")
	}
	return p, nil
}

func authorizationHeader(header string) (map[string]string, error) {
	rest, ok := strings.CutPrefix(header, "OAuth ")
	if !ok {
		return nil, errors.New("no OAuth header")
	}
	p := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, quoted, _ := strings.Cut(strings.TrimSpace(part), "=")
		value, err := url.PathUnescape(strings.Trim(quoted, `"`))
		if _, twice := p[name]; err != nil || twice {
			return nil, fmt.Errorf("bad parameter %s", name)
		}
		p[name] = value
	}
	return p, nil
}

// hmacSHA1 is the signature of RFC 5849, 3.4.
func hmacSHA1(method, address string, query url.Values, oauth map[string]string, consumerSecret, tokenSecret string) string {
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, percent(name)+"="+percent(value))
		}
	}
	for name, value := range oauth {
		if name != "realm" && name != "oauth_signature" {
			pairs = append(pairs, percent(name)+"="+percent(value))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha1.New, []byte(percent(consumerSecret)+"&"+percent(tokenSecret)))
	fmt.Fprint(mac, method+"&"+percent(address)+"&"+percent(strings.Join(pairs, "&")))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// percent is the encoding of RFC 5849, 3.6.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// TestHMACSHA1: the examples of RFC 5849, 1.2, so that the fake wiki's check is one.
func TestHMACSHA1(t *testing.T) {
	got := hmacSHA1("POST", "https://photos.example.net/token", nil, map[string]string{
		"realm": "Photos", "oauth_consumer_key": "dpf43f3p2l4k3l03", "oauth_token": "hh5s93j4hdidpola", "oauth_signature_method": "HMAC-SHA1",
		"oauth_timestamp": "137131201", "oauth_nonce": "walatlh", "oauth_verifier": "hfdp7dh39dks9884"}, "kd94hf93k423kf44", "hdhd0244k9j7ao03")
	if want := "gKgrFCywp7rO0OXSjdot/IHF7IU="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got = hmacSHA1("GET", "http://photos.example.net/photos", url.Values{"file": {"vacation.jpg"}, "size": {"original"}}, map[string]string{
		"oauth_consumer_key": "dpf43f3p2l4k3l03", "oauth_token": "nnch734d00sl2jdk", "oauth_signature_method": "HMAC-SHA1",
		"oauth_timestamp": "137131202", "oauth_nonce": "chapoH"}, "kd94hf93k423kf44", "pfkkdhi9sl3r4s00")
	if want := "MdpQcU8iPSUjWoN/UDMsK2sui9I="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func (w *fakeWiki) initiate(rw http.ResponseWriter, r *http.Request) {
	p, err := w.verify(r, nil)
	callback := p["oauth_callback"]
	switch {
	case err != nil:
		protocolError(rw, err.Error())
		return
	case !w.prefix && callback != "oob":
		_, _ = io.WriteString(rw, "Error: oauth_callback must be set, and must be set to &quot;oob&quot; (case-sensitive)")
		return
	case callback != "oob" && !strings.HasPrefix(callback, w.callback):
		_, _ = io.WriteString(rw, "Error: oauth_callback must be set, and must be set to &quot;oob&quot; (case-sensitive), or the configured callback must be a prefix of the supplied callback.")
		return
	}
	if callback == "oob" {
		callback = w.callback
	}
	token := w.random()
	w.requests[token] = &wikiRequest{secret: w.random(), callback: callback}
	_, _ = io.WriteString(rw, "oauth_token="+token+"&oauth_token_secret="+w.requests[token].secret+"&oauth_callback_confirmed=true")
}

// authorize is the dialog: the person agrees, unless the browser says cancel.
func (w *fakeWiki) authorize(rw http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("oauth_token")
	request := w.requests[token]
	if request == nil || r.URL.Query().Get("oauth_consumer_key") != wikiKey {
		_, _ = io.WriteString(rw, "<html><title>OAuth error</title>E004</html>")
		return
	}
	if r.URL.Query().Has("cancel") {
		_, _ = io.WriteString(rw, "<html>You have chosen not to allow …</html>") // and no way back
		return
	}
	request.verifier = w.random()
	w.confidential = append(w.confidential, request.verifier)
	rw.Header().Set("Location", request.callback+"?"+url.Values{"oauth_verifier": {request.verifier}, "oauth_token": {token}}.Encode())
	rw.WriteHeader(http.StatusFound)
}

func (w *fakeWiki) token(rw http.ResponseWriter, r *http.Request) {
	var request *wikiRequest
	p, err := w.verify(r, func(token string) (string, bool) {
		request = w.requests[token]
		if request == nil {
			return "", false
		}
		return request.secret, true
	})
	switch {
	case err != nil:
		protocolError(rw, err.Error())
		return
	case request.verifier == "" || p["oauth_verifier"] != request.verifier:
		_, _ = io.WriteString(rw, "Error: Sorry, something went wrong setting up the connected application. The verification code provided was not valid for "+p["oauth_token"]+".")
		return
	}
	delete(w.requests, p["oauth_token"])
	token := w.random()
	w.access[token] = w.random()
	_, _ = io.WriteString(rw, "oauth_token="+token+"&oauth_token_secret="+w.access[token]+"&oauth_callback_confirmed=true")
}

func (w *fakeWiki) identify(rw http.ResponseWriter, r *http.Request) {
	p, err := w.verify(r, func(token string) (string, bool) { s, ok := w.access[token]; return s, ok })
	if err != nil {
		_ = json.NewEncoder(rw).Encode(map[string]string{"error": "mwoauth-oauth-exception", "message": err.Error()})
		return
	}
	now := w.clock.Now().Unix()
	claims := jwt.MapClaims{"iss": strings.Replace(w.URL, "http:", "https:", 1), "aud": wikiKey, "exp": now + 100, "iat": now, "nonce": p["oauth_nonce"],
		"sub": "583231", "username": "Ada Lovelace", "editcount": 12, "confirmed_email": true, "email_verified": true, "blocked": false,
		"registered": "20100401000000", "groups": []string{"*", "user"}, "rights": []string{"read"}, "grants": []string{"mwoauth-authonly"}}
	if w.claims != nil {
		w.claims(claims)
	}
	_, _ = io.WriteString(rw, w.sign(claims))
}

func (w *fakeWiki) authorize2(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("client_id") != wikiKey || q.Get("redirect_uri") != wikiCallback ||
		q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("state") == "" {
		w.t.Errorf("authorization request %s", q.Encode())
	}
	answer := url.Values{"state": {q.Get("state")}}
	if q.Has("cancel") {
		answer.Set("error", "access_denied")
		answer.Set("error_description", "The resource owner or authorization server denied the request.")
	} else {
		code := w.random()
		w.codes[code] = q
		answer.Set("code", code)
	}
	rw.Header().Set("Location", q.Get("redirect_uri")+"?"+answer.Encode())
	rw.WriteHeader(http.StatusFound)
}

func (w *fakeWiki) accessToken2(rw http.ResponseWriter, r *http.Request) {
	code := r.PostFormValue("code")
	asked, ok := w.codes[code]
	delete(w.codes, code)
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	rw.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.RawQuery != "" || r.Method != http.MethodPost || r.PostFormValue("grant_type") != "authorization_code":
		rw.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(rw, `{"error":"unsupported_grant_type"}`)
	case r.PostFormValue("client_id") != wikiKey || r.PostFormValue("client_secret") != wikiSecret:
		rw.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(rw, `{"error":"invalid_client","error_description":"Client authentication failed"}`)
	case !ok || r.PostFormValue("redirect_uri") != wikiCallback || challenge != asked.Get("code_challenge"):
		rw.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(rw, `{"error":"invalid_grant","error_description":"The provided authorization grant is invalid","hint":"Authorization code has been revoked"}`)
	default:
		bearer := w.random()
		w.bearers[bearer] = true
		_ = json.NewEncoder(rw).Encode(object{"token_type": "Bearer", "expires_in": 14400, "access_token": bearer, "refresh_token": w.random()})
	}
}

// open opens a provider at the wiki; expose is exposeUpstreamToken.
func (w *fakeWiki) open(expose bool, options ...object) *Provider {
	w.t.Helper()
	all := object{"consumerKey": wikiKey, "consumerSecret": wikiSecret, "baseURL": w.URL + "/"}
	for _, o := range options {
		maps.Copy(all, o)
	}
	deps := testDeps()
	deps.Clock = w.clock
	p, warnings := openWith(w.t, deps, config.Provider{ID: "p", Strategy: "mediawiki", Name: "P",
		Template: "https://www.wikidata.org/wiki/User:{username}", ExposeUpstreamToken: expose}, all)
	if len(warnings) > 0 {
		w.t.Errorf("warnings: %q", warnings)
	}
	return p
}

func (w *fakeWiki) open2() *Provider {
	w.t.Helper()
	return w.open(false, object{"consumerKey": "", "consumerSecret": "", "clientID": wikiKey, "clientSecret": wikiSecret})
}

// begin begins a login as web does.
func (w *fakeWiki) begin(p *Provider) (Login, Departure) {
	w.t.Helper()
	l := Login{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(), Callback: p.Callback}
	d, err := p.Website.Begin(w.t.Context(), l)
	if err != nil {
		w.t.Fatalf("Begin: %v", err)
	}
	l.Kept = d.Keep
	return l, d
}

// agree is the browser: it opens the wiki's page, where the person agrees, and returns the
// answer that the wiki leads back with.
func (w *fakeWiki) agree(d Departure, more string) url.Values {
	w.t.Helper()
	back := w.browse(d.URL + more)
	if back == nil {
		w.t.Fatal("the wiki does not lead back")
	}
	if got := back.Scheme + "://" + back.Host + back.Path; got != wikiCallback {
		w.t.Errorf("the wiki leads to %s", got)
	}
	return back.Query()
}

func (w *fakeWiki) browse(address string) *url.URL {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := loopbackOnly{}.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		return nil
	}
	return back
}

// signIn is a whole login.
func (w *fakeWiki) signIn(p *Provider) (identity.Profile, error) {
	w.t.Helper()
	l, d := w.begin(p)
	return p.Website.Finish(w.t.Context(), l, w.agree(d, ""))
}

// failed wants an error with this text, without profile and without a secret in it.
func (w *fakeWiki) failed(t *testing.T, profile identity.Profile, err error, want string) {
	t.Helper()
	if err == nil || profile != (identity.Profile{}) {
		t.Fatalf("got %+v, %v, want an error", profile, err)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.confidential {
		if secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%q is in the error: %v", secret, err)
		}
	}
}

func TestMediaWikiOAuth1(t *testing.T) {
	ada := identity.Profile{Provider: "p", ID: "583231", Name: "Ada Lovelace", Username: "Ada Lovelace", URI: "https://www.wikidata.org/wiki/User:Ada%20Lovelace"}
	big, hidden := ada, identity.Profile{Provider: "p", ID: "583231"}
	big.ID = "9007199254740993"
	for _, tc := range []struct {
		name    string
		prefix  bool
		options object
		claims  func(jwt.MapClaims)
		want    identity.Profile
	}{
		{"registered callback", false, object{}, nil, ada},
		{"registered callback, said to be", false, object{"callback": "oob"}, nil, ada},
		{"callback as prefix, oob", true, object{}, nil, ada},
		{"callback as prefix, sent", true, object{"callback": "url"}, nil, ada},
		{"not asked again", false, object{"authenticate": true}, nil, ada},
		{"sub is a number", false, object{}, func(c jwt.MapClaims) { c["sub"] = 583231 }, ada},
		{"sub is a large number", false, object{}, func(c jwt.MapClaims) { c["sub"] = json.RawMessage("9007199254740993") }, big},
		{"sub is a large text", false, object{}, func(c jwt.MapClaims) { c["sub"] = "9007199254740993" }, big},
		{"blocked", false, object{}, func(c jwt.MapClaims) { c["blocked"] = true }, ada},
		{"hidden", false, object{}, func(c jwt.MapClaims) { delete(c, "username"); c["blocked"] = true }, hidden},
		{"clock a minute behind", false, object{}, func(c jwt.MapClaims) { c["iat"] = c["iat"].(int64) + 60 }, ada},
		{"clock a minute ahead", false, object{}, func(c jwt.MapClaims) { c["exp"] = c["iat"].(int64) - 59 }, ada},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newFakeWiki(t)
			w.prefix, w.claims = tc.prefix, tc.claims
			p := w.open(false, tc.options)
			if p.AnswerKey != "oauth_token" || p.Checker != nil || p.FormPost {
				t.Errorf("answers by %q", p.AnswerKey)
			}
			l, d := w.begin(p)
			page, _ := url.Parse(d.URL)
			name := "authorize"
			if tc.options["authenticate"] == true {
				name = "authenticate"
			}
			if q := page.Query(); q.Get("title") != "Special:OAuth/"+name || q.Get("oauth_token") != d.Key || len(q) != 3 {
				t.Errorf("led to %s", d.URL)
			}
			if strings.Contains(d.URL, w.requests[d.Key].secret) {
				t.Error("the secret of the request token goes to the browser")
			}
			got, err := p.Website.Finish(t.Context(), l, w.agree(d, ""))
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tc.want)
			}
			if h := p.Health(); !h.Known || !h.Up {
				t.Errorf("health %+v", h)
			}
			if err := p.Prober.Probe(t.Context()); err != nil {
				t.Errorf("Probe: %v", err)
			}
		})
	}
}

// TestMediaWikiUpstream: applications sign edits with the access token of the person.
func TestMediaWikiUpstream(t *testing.T) {
	w := newFakeWiki(t)
	profile, err := w.signIn(w.open(true))
	if err != nil {
		t.Fatal(err)
	}
	for token, secret := range w.access {
		if want := `{"oauth":{"token":"` + token + `","token_secret":"` + secret + `"}}`; profile.Upstream != want {
			t.Errorf("got %s\nwant %s", profile.Upstream, want)
		}
	}
	if len(w.access) != 1 {
		t.Errorf("%d access tokens", len(w.access))
	}
}

func TestMediaWikiIdentity(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) {
			if value == nil {
				delete(c, name)
			} else {
				c[name] = value
			}
		}
	}
	move := func(name string, seconds int64) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c[name] = c[name].(int64) + seconds }
	}
	const notSigned = "not a JWT signed with the consumer secret"
	for _, tc := range []struct {
		name   string
		claims func(jwt.MapClaims)
		sign   func(jwt.MapClaims) string
		want   string
	}{
		{"alg none", nil, func(c jwt.MapClaims) string {
			return signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c)
		}, notSigned},
		{"alg RS256", nil, func(c jwt.MapClaims) string { return signed(t, jwt.SigningMethodRS256, rsaKey, c) }, notSigned},
		{"alg HS512", nil, func(c jwt.MapClaims) string { return signed(t, jwt.SigningMethodHS512, []byte(wikiSecret), c) }, notSigned},
		{"alg none over a good signature", nil, func(c jwt.MapClaims) string {
			return underHeader(t, `{"typ":"JWT","alg":"none"}`, c)
		}, "alg is not HS256"},
		{"alg RS256 over a good signature", nil, func(c jwt.MapClaims) string {
			return underHeader(t, `{"typ":"JWT","alg":"RS256"}`, c)
		}, "alg is not HS256"},
		{"another secret", nil, func(c jwt.MapClaims) string { return signed(t, jwt.SigningMethodHS256, []byte("guess"), c) }, notSigned},
		{"no secret", nil, func(c jwt.MapClaims) string { return signed(t, jwt.SigningMethodHS256, []byte{}, c) }, notSigned},
		{"changed claims", nil, func(c jwt.MapClaims) string {
			parts := strings.Split(signed(t, jwt.SigningMethodHS256, []byte(wikiSecret), c), ".")
			c["sub"] = "1"
			return parts[0] + "." + strings.Split(signed(t, jwt.SigningMethodHS256, []byte("guess"), c), ".")[1] + "." + parts[2]
		}, notSigned},
		{"no signature", nil, func(c jwt.MapClaims) string {
			s := signed(t, jwt.SigningMethodHS256, []byte(wikiSecret), c)
			return s[:strings.LastIndexByte(s, '.')+1]
		}, notSigned},
		{"JSON serialization", nil, func(c jwt.MapClaims) string {
			parts := strings.Split(signed(t, jwt.SigningMethodHS256, []byte(wikiSecret), c), ".")
			return `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`
		}, "the wiki answers 200"},
		{"nothing", nil, func(jwt.MapClaims) string { return "" }, notSigned},
		{"another consumer", set("aud", "ffffffffffffffffffffffffffffffff"), nil, "aud"},
		{"several consumers", set("aud", []string{wikiKey, "other"}), nil, "claims are not as documented"},
		{"no consumer", set("aud", nil), nil, "aud"},
		{"another wiki", set("iss", "https://wiki.example.org"), nil, "its iss is"},
		{"another wiki whose host begins so", func(c jwt.MapClaims) { c["iss"] = c["iss"].(string) + "0" }, nil, "its iss is"},
		{"another wiki, ours as its user", func(c jwt.MapClaims) {
			c["iss"] = c["iss"].(string) + "@wiki.example.org"
		}, nil, "its iss is"},
		{"no wiki", set("iss", nil), nil, "its iss is"},
		{"from the future", move("iat", 61), nil, "issued 61 s from now"},
		{"issued at no time", set("iat", nil), nil, "issued"},
		{"expired", move("exp", -160), nil, "expired 60 s ago"},
		{"expires never", set("exp", nil), nil, "expired"},
		{"times are texts", set("exp", "9999999999"), nil, "claims are not as documented"},
		{"for another request", set("nonce", "8f14e45fceea167a5a36dedd4bea2543"), nil, "nonce"},
		{"for no request", set("nonce", nil), nil, "nonce"},
		{"sub 0", set("sub", 0), nil, "number of a central account"},
		{"sub is the text 0", set("sub", "0"), nil, "number of a central account"},
		{"sub is false", set("sub", false), nil, "claims are not as documented"},
		{"sub is empty", set("sub", ""), nil, "number of a central account"},
		{"sub is missing", set("sub", nil), nil, "number of a central account"},
		{"sub is a fraction", set("sub", json.RawMessage("5832.31")), nil, "number of a central account"},
		{"sub is an exponent", set("sub", json.RawMessage("1e3")), nil, "number of a central account"},
		{"sub is a name", set("sub", "Ada"), nil, "number of a central account"},
		{"sub has a second line", set("sub", "583231\n"), nil, "number of a central account"},
		{"username is an object", set("username", object{}), nil, "claims are not as documented"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newFakeWiki(t)
			w.claims = tc.claims
			if tc.sign != nil {
				w.sign = tc.sign
			}
			profile, err := w.signIn(w.open(true))
			w.failed(t, profile, err, tc.want)
			if errors.As(err, new(*UnavailableError)) || errors.Is(err, ErrRefused) || errors.Is(err, ErrCancelled) {
				t.Errorf("taken for something harmless: %v", err)
			}
		})
	}
}

// underHeader signs with the consumer secret, whatever the header says.
func underHeader(t *testing.T, header string, claims jwt.MapClaims) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	s := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(wikiSecret))
	mac.Write([]byte(s))
	return s + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestMediaWikiIssuer: the option takes the place of the host of baseURL, to the letter.
func TestMediaWikiIssuer(t *testing.T) {
	w := newFakeWiki(t)
	w.claims = func(c jwt.MapClaims) { c["iss"] = "http://canonical.example.org" }
	if _, err := w.signIn(w.open(false, object{"issuer": "http://canonical.example.org"})); err != nil {
		t.Error(err)
	}
	for _, issuer := range []string{"https://canonical.example.org", "http://canonical.example.org/", w.URL} {
		profile, err := w.signIn(w.open(false, object{"issuer": issuer}))
		w.failed(t, profile, err, `its iss is "http://canonical.example.org", not `+issuer)
	}
	w.claims = nil // the host of baseURL is nothing any more
	profile, err := w.signIn(w.open(false, object{"issuer": "http://canonical.example.org"}))
	w.failed(t, profile, err, "its iss is")
}

// TestMediaWikiScriptPath: the scripts lie elsewhere on other wikis.
func TestMediaWikiScriptPath(t *testing.T) {
	for path, want := range map[string]string{"": "/index.php", "/": "/index.php", "mediawiki": "/mediawiki/index.php", "/a/b/": "/a/b/index.php"} {
		w := newFakeWiki(t)
		moved := serve(t, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != want {
				t.Errorf("%q: asked %s", path, r.URL.Path)
			}
			_, _ = io.WriteString(rw, "oauth_token=a&oauth_token_secret=b&oauth_callback_confirmed=true")
		})
		_, d := w.begin(w.open(false, object{"baseURL": moved.URL, "scriptPath": path}))
		if !strings.HasPrefix(d.URL, moved.URL+want+"?") {
			t.Errorf("%q leads to %s", path, d.URL)
		}
	}
}

func TestMediaWikiAnswers(t *testing.T) {
	finish := func(t *testing.T, p *Provider, l Login, answer url.Values) (identity.Profile, error) {
		t.Helper()
		return p.Website.Finish(t.Context(), l, answer)
	}
	t.Run("another request token", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		mine, _ := w.begin(p)
		_, theirs := w.begin(p)
		profile, err := finish(t, p, mine, w.agree(theirs, ""))
		w.failed(t, profile, err, "request token of another login")
		if len(w.access) != 0 {
			t.Error("it was redeemed")
		}
	})
	t.Run("no request token", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		l, d := w.begin(p)
		answer := w.agree(d, "")
		answer.Del("oauth_token")
		profile, err := finish(t, p, l, answer)
		w.failed(t, profile, err, "request token of another login")
	})
	t.Run("nothing kept", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		l, d := w.begin(p)
		answer := w.agree(d, "")
		for _, kept := range []string{"", "{}", "null", "x"} {
			l.Kept = kept
			profile, err := finish(t, p, l, answer)
			w.failed(t, profile, err, "no request token was kept")
			profile, err = finish(t, p, l, url.Values{"oauth_verifier": {"x"}})
			w.failed(t, profile, err, "no request token was kept")
		}
	})
	t.Run("no verifier", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		l, d := w.begin(p)
		if back := w.browse(d.URL + "&cancel=1"); back != nil {
			t.Errorf("the wiki leads back to %s", back)
		}
		profile, err := finish(t, p, l, url.Values{"oauth_token": {d.Key}})
		w.failed(t, profile, err, "no oauth_verifier")
		if !errors.Is(err, ErrCancelled) {
			t.Errorf("got %v, want ErrCancelled", err)
		}
	})
	t.Run("guessed verifier", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		l, d := w.begin(p)
		w.agree(d, "")
		profile, err := finish(t, p, l, url.Values{"oauth_token": {d.Key}, "oauth_verifier": {"guess"}})
		w.failed(t, profile, err, "verification code provided was not valid for ….")
	})
	t.Run("two verifiers", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		l, d := w.begin(p)
		answer := w.agree(d, "")
		answer.Add("oauth_verifier", "guess")
		profile, err := finish(t, p, l, answer)
		w.failed(t, profile, err, "2 times")
	})
	t.Run("again", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		l, d := w.begin(p)
		answer := w.agree(d, "")
		if _, err := finish(t, p, l, answer); err != nil {
			t.Fatal(err)
		}
		profile, err := finish(t, p, l, answer)
		w.failed(t, profile, err, "Invalid token: …")
	})
	t.Run("identity of an earlier login", func(t *testing.T) {
		w := newFakeWiki(t)
		var earlier string
		good := w.sign
		w.sign = func(c jwt.MapClaims) string { earlier = good(c); return earlier }
		p := w.open(false)
		if _, err := w.signIn(p); err != nil {
			t.Fatal(err)
		}
		w.sign = func(jwt.MapClaims) string { return earlier }
		profile, err := w.signIn(p)
		w.failed(t, profile, err, "nonce")
	})
	t.Run("many at once", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(true)
		var wg sync.WaitGroup
		seen := make([]string, 8)
		for i := range seen {
			l, d := w.begin(p)
			answer := w.agree(d, "")
			wg.Go(func() {
				profile, err := p.Website.Finish(t.Context(), l, answer)
				if err != nil {
					t.Error(err)
				}
				seen[i] = profile.Upstream
			})
		}
		wg.Wait()
		slices.Sort(seen)
		if len(slices.Compact(seen)) != 8 {
			t.Errorf("two logins have one token: %q", seen)
		}
	})
}

// TestMediaWikiConsumer: what an operator reads about a consumer that does not fit.
func TestMediaWikiConsumer(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options object
		want    string
	}{
		{"callback sent, but fixed", object{"callback": "url"}, `oauth_callback must be set, and must be set to \"oob\"`},
		{"unknown", object{"consumerKey": "x"}, "Invalid consumer"},
		{"another secret", object{"consumerSecret": "guess"}, "Invalid signature"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newFakeWiki(t)
			p := w.open(false, tc.options)
			_, err := p.Website.Begin(t.Context(), Login{Callback: p.Callback})
			w.failed(t, identity.Profile{}, err, tc.want)
		})
	}
	t.Run("callback beside the prefix", func(t *testing.T) {
		w := newFakeWiki(t)
		w.prefix, w.callback = true, "https://elsewhere.example.org/"
		p := w.open(false, object{"callback": "url"})
		_, err := p.Website.Begin(t.Context(), Login{Callback: p.Callback})
		w.failed(t, identity.Profile{}, err, "must be a prefix of the supplied callback")
	})
	t.Run("without contact", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		m := p.Website.(*site).website.(*mediawiki1)
		client := *m.client
		client.Transport = client.Transport.(contact).next
		m.client = &client
		_, err := p.Website.Begin(t.Context(), Login{Callback: p.Callback})
		w.failed(t, identity.Profile{}, err, `the wiki answers 403 "Please set a user-agent`)
		if errors.As(err, new(*UnavailableError)) {
			t.Error("taken for a failure that passes")
		}
	})
}

// TestMediaWikiFailures: whatever the wiki answers, at each of the three calls.
func TestMediaWikiFailures(t *testing.T) {
	reply := func(status int, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, body)
		}
	}
	const token = "0123456789abcdef0123456789abcdef"
	for _, tc := range []struct {
		name    string
		handle  http.HandlerFunc
		down    bool
		refused bool // at /identify
		want    string
	}{
		{"500", reply(500, "<html>Wikimedia Error</html>"), true, false, "status 500"},
		{"503", reply(503, "oauth_token="+token), true, false, "status 503"},
		{"429", reply(429, "Too many requests"), true, false, "status 429"},
		{"403", reply(403, "<!DOCTYPE html><head><title>x</title></head><style>p{}</style><p>Scripts should use an informative User-Agent"), false, false, "403 \"Scripts should use an informative User-Agent"},
		{"404", reply(404, "not found"), false, false, `404 "not found"`},
		{"201", reply(201, "oauth_token=a&oauth_token_secret=b&oauth_callback_confirmed=true"), false, false, "201"},
		{"redirect", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://evil.example/", http.StatusFound)
		}, false, false, "a redirect, which is not followed"},
		{"redirect that keeps the method", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://evil.example/", http.StatusTemporaryRedirect)
		}, false, false, "a redirect, which is not followed"},
		{"error as text", reply(200, "Error: OAuth token not found, E004 and more"), false, false, `OAuth token not found, E004"`},
		{"long error as text", reply(200, "Error: "+strings.Repeat("Sorry. ", 60)+"No approved grant was found, E004 and more"), false, false, `No approved grant was found, E004"`},
		{"error as text with a token", reply(200, "Error: Invalid token: "+token), false, false, `Invalid token: …`},
		{"error as JSON", reply(200, `{"error":"mwoauth-oauth-exception","message":"Nonce already used: `+token+`"}`), false, false, "mwoauth-oauth-exception: Nonce already used: …"},
		{"locked account", reply(200, `{"error":"mwoauth-invalid-authorization-blocked-user","message":"The user is blocked"}`), false, true, "mwoauth-invalid-authorization-blocked-user"},
		{"error as a page", reply(200, `<!DOCTYPE html><html><head><title>OAuth error</title><script>var a = "`+token+`"</script></head><body><p>MWOAuthException: no such consumer, <a href="/wiki/Help:OAuth/Errors#E006">E006</a></p></body></html>`), false, false, "no such consumer, E006"},
		{"empty", reply(200, ""), false, false, ""},
		{"other JSON", reply(200, `{"oauth_token":"`+token+`"}`), false, false, "the wiki answers 200"},
		{"garbage", reply(200, "\x00\xff%zz;"+token), false, false, ""},
		{"no secret", reply(200, "oauth_token="+token+"&oauth_callback_confirmed=true"), false, false, ""},
		{"long token", reply(200, "oauth_token="+strings.Repeat(token, 40)+"&oauth_token_secret=b&oauth_callback_confirmed=true"), false, false, ""},
		{"huge", reply(200, "oauth_token="+token+"&x="+strings.Repeat("x", 2<<20)), false, false, "longer than 1048576 bytes"},
		{"endless", func(rw http.ResponseWriter, r *http.Request) {
			chunk := []byte(strings.Repeat(" ", 64<<10))
			for r.Context().Err() == nil {
				if _, err := rw.Write(chunk); err != nil {
					return
				}
			}
		}, false, false, "longer than 1048576 bytes"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, false, "EOF"},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true, false, "deadline exceeded"},
		{"never ends", func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(rw, "oauth_token=")
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, true, false, "deadline exceeded"},
	} {
		for _, page := range []string{"initiate", "token", "identify"} {
			t.Run(tc.name+" at "+page, func(t *testing.T) {
				w := newFakeWiki(t)
				w.confidential = append(w.confidential, token)
				p := w.open(true)
				l, d := w.begin(p)
				answer := w.agree(d, "")
				ctx, handle := t.Context(), tc.handle
				if tc.want == "deadline exceeded" {
					ctx, handle = runsOut(t, handle)
				}
				w.instead[page] = handle
				var profile identity.Profile
				var err error
				if page == "initiate" {
					_, err = p.Website.Begin(ctx, l)
				} else {
					profile, err = p.Website.Finish(ctx, l, answer)
				}
				w.failed(t, profile, err, tc.want)
				if down := errors.As(err, new(*UnavailableError)); down != tc.down {
					t.Errorf("down: %v, want %v: %v", down, tc.down, err)
				}
				if p.Health().Up == tc.down {
					t.Errorf("health %+v", p.Health())
				}
				if refused := errors.Is(err, ErrRefused); refused != tc.refused {
					t.Errorf("refused: %v, want %v: %v", refused, tc.refused, err)
				}
			})
		}
	}
	t.Run("callback not confirmed", func(t *testing.T) {
		w := newFakeWiki(t)
		w.instead["initiate"] = reply(200, "oauth_token="+token+"&oauth_token_secret="+token)
		_, err := w.open(false).Website.Begin(t.Context(), Login{})
		w.failed(t, identity.Profile{}, err, "not what OAuth 1.0a provides for")
	})
	t.Run("down", func(t *testing.T) {
		w := newFakeWiki(t)
		p, p2 := w.open(false), w.open2()
		l, d := w.begin(p)
		answer := w.agree(d, "")
		l2, d2 := w.begin(p2)
		answer2 := w.agree(d2, "")
		w.Close()
		_, err := p.Website.Begin(t.Context(), l)
		w.failed(t, identity.Profile{}, err, "connection refused")
		profile, err := p.Website.Finish(t.Context(), l, answer)
		w.failed(t, profile, err, "connection refused")
		profile, err = p2.Website.Finish(t.Context(), l2, answer2)
		w.failed(t, profile, err, "connection refused")
		if p.Prober.Probe(t.Context()) == nil || p2.Prober.Probe(t.Context()) == nil {
			t.Error("Probe has no complaint")
		}
	})
	t.Run("given up", func(t *testing.T) {
		w := newFakeWiki(t)
		p := w.open(false)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Website.Begin(ctx, Login{}); !errors.Is(err, context.Canceled) || p.Health().Known {
			t.Errorf("got %v, health %+v", err, p.Health())
		}
	})
}

func TestMediaWikiOAuth2(t *testing.T) {
	w := newFakeWiki(t)
	p := w.open2()
	if p.AnswerKey != "state" {
		t.Errorf("answers by %q", p.AnswerKey)
	}
	for profile, want := range map[string]identity.Profile{
		`{"sub":"583231","username":"Ada","blocked":false,"email_verified":true}`: {Provider: "p", ID: "583231", Name: "Ada", Username: "Ada", URI: "https://www.wikidata.org/wiki/User:Ada"},
		`{"sub":9007199254740993,"username":"Ada"}`:                               {Provider: "p", ID: "9007199254740993", Name: "Ada", Username: "Ada", URI: "https://www.wikidata.org/wiki/User:Ada"},
		`{"sub":"583231","blocked":true}`:                                         {Provider: "p", ID: "583231"},
	} {
		w.profile = profile
		l, d := w.begin(p)
		if d.Key != "" || d.Keep != "" || !strings.HasPrefix(d.URL, w.URL+"/w/rest.php/oauth2/authorize?") || strings.Contains(d.URL, l.Verifier) {
			t.Errorf("departure %+v", d)
		}
		if got, err := p.Website.Finish(t.Context(), l, w.agree(d, "")); err != nil || got != want {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	if err := p.Prober.Probe(t.Context()); err != nil {
		t.Errorf("Probe: %v", err)
	}
	for _, profile := range []string{``, `null`, `[]`, `{}`, `{"sub":0}`, `{"sub":"0"}`, `{"sub":""}`, `{"sub":null,"username":"Ada"}`, `{"sub":-1}`, `{"sub":[1]}`, `{"sub":"Ada"}`, `{"sub":1e3}`} {
		w.profile = profile
		got, err := w.signIn(p)
		w.failed(t, got, err, "")
	}
	w.profile = `{"sub":"583231","username":"Ada"}`

	t.Run("another verifier", func(t *testing.T) {
		l, d := w.begin(p)
		l.Verifier = rand.Text() + rand.Text()
		profile, err := p.Website.Finish(t.Context(), l, w.agree(d, ""))
		w.failed(t, profile, err, "invalid_grant")
	})
	t.Run("again", func(t *testing.T) {
		l, d := w.begin(p)
		answer := w.agree(d, "")
		if _, err := p.Website.Finish(t.Context(), l, answer); err != nil {
			t.Fatal(err)
		}
		profile, err := p.Website.Finish(t.Context(), l, answer)
		w.failed(t, profile, err, "invalid_grant")
	})
	t.Run("cancelled", func(t *testing.T) {
		l, d := w.begin(p)
		profile, err := p.Website.Finish(t.Context(), l, w.agree(d, "&cancel=1"))
		w.failed(t, profile, err, "access_denied")
		if !errors.Is(err, ErrCancelled) {
			t.Errorf("got %v, want ErrCancelled", err)
		}
	})
	t.Run("no code", func(t *testing.T) {
		l, _ := w.begin(p)
		profile, err := p.Website.Finish(t.Context(), l, url.Values{"state": {l.State}})
		w.failed(t, profile, err, "no code")
	})
	for _, page := range []string{"access_token", "resource/profile"} {
		for status, want := range map[int]string{500: "status 500", 429: "status 429", 403: "status 403", 302: "a redirect, which is not followed"} {
			t.Run(fmt.Sprint(page, " ", status), func(t *testing.T) {
				w := newFakeWiki(t)
				w.instead[page] = func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Location", "http://evil.example/")
					rw.WriteHeader(status)
				}
				profile, err := w.signIn(w.open2())
				w.failed(t, profile, err, want)
				if down := errors.As(err, new(*UnavailableError)); down != (status == 500 || status == 429) {
					t.Errorf("down: %v: %v", down, err)
				}
			})
		}
	}
}

func TestMediaWikiOptions(t *testing.T) {
	oauth1, oauth2 := object{"consumerKey": "k", "consumerSecret": "hunter2"}, object{"clientID": "k", "clientSecret": "hunter2"}
	with := func(options ...object) object {
		all := object{}
		for _, o := range options {
			maps.Copy(all, o)
		}
		return all
	}
	for _, tc := range []struct {
		name    string
		options object
		expose  bool
		want    []string
	}{
		{"nothing", object{}, false, []string{
			"options.consumerKey: is missing; register this server at the wiki (Special:OAuthConsumerRegistration; those of Wikimedia share https://meta.wikimedia.org), with the callback URL https://login.example.org/login/p/return, and write the consumer key that you get; for OAuth 2 write clientID instead",
			"options.consumerSecret: is missing"}},
		{"both", with(oauth1, oauth2), false, []string{"options.consumerKey: stands beside clientID; keep consumerKey and consumerSecret if"}},
		{"half of both", object{"consumerKey": "k", "clientSecret": "hunter2"}, false, []string{"options.consumerKey: stands beside clientID"}},
		{"half of OAuth 1.0a", object{"consumerSecret": "hunter2"}, false, []string{"options.consumerKey: is missing"}},
		{"half of OAuth 2", object{"clientID": "k"}, false, []string{"options.clientSecret: is missing"}},
		{"options of OAuth 2", with(oauth1, object{"tokenURL": "https://example.org", "scope": "basic"}), false, []string{
			"options.scope: means nothing with OAuth 1.0a; remove it", "options.tokenURL: means nothing with OAuth 1.0a; remove it"}},
		{"options of OAuth 1.0a", with(oauth2, object{"callback": "oob", "authenticate": true, "issuer": "https://example.org"}), false, []string{
			"options.authenticate: means nothing with OAuth 2", "options.callback: means nothing with OAuth 2", "options.issuer: means nothing with OAuth 2"}},
		{"tokens of OAuth 2", oauth2, true, []string{"exposeUpstreamToken: is true, but a token of OAuth 2 is good for an hour only; remove it, or register the consumer for OAuth 1.0a"}},
		{"values", with(oauth1, object{"callback": "https://example.org/", "issuer": "www.wikidata.org", "scriptPath": "https://example.org/w", "baseURL": "www.wikidata.org"}), false, []string{
			"options.baseURL: \"www.wikidata.org\" has no scheme; write https://www.wikidata.org",
			"options.scriptPath: \"https://example.org/w\" is not a path; write the part between baseURL and /index.php, such as w",
			"options.callback: \"https://example.org/\" is neither oob nor url",
			"options.issuer: \"www.wikidata.org\" is not an http(s) URL; write the $wgCanonicalServer"}},
		{"types", with(oauth1, object{"scriptPath": 1}), false, []string{"options.scriptPath: is a number; write a text in quotes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raw, err := json.Marshal(tc.options)
			if err != nil {
				t.Fatal(err)
			}
			cp := config.Provider{ID: "p", Strategy: "mediawiki", Name: "P", Options: raw, File: "providers.json", Entry: 1, ExposeUpstreamToken: tc.expose}
			_, _, err = Open(&config.Config{Env: "test", BaseURL: testBase, Dir: t.TempDir(), Providers: []config.Provider{cp}}, testDeps())
			var problems *config.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			if len(problems.Problems) != len(tc.want) {
				t.Errorf("got %v, want %d problems", err, len(tc.want))
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
	for _, good := range []object{oauth1, oauth2} {
		open(t, "mediawiki", good)
	}
}

// FuzzExcerpt: whatever stands around a token in the wiki's error, it does not get into
// the log.
func FuzzExcerpt(f *testing.F) {
	f.Add("Error: Invalid token: ", ", E004")
	f.Add("<p title='", "'>E0")
	f.Add("&lt;script>&#x", ";\xff")
	f.Fuzz(func(t *testing.T, before, after string) {
		const token = "0123456789abcdef0123456789abcdef"
		got := excerpt(before + token + after)
		if strings.Contains(got, token[:20]) || strings.Contains(got, token[12:]) {
			t.Errorf("got %q", got)
		}
		if len([]rune(got)) > maxShown {
			t.Errorf("%d characters", len([]rune(got)))
		}
	})
}
