package web_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/accounts"
	"login-server/credential"
	"login-server/session"
	"login-server/token"
)

// object is the fields of a call.
type object = map[string]any

const adasPassword = "engines weave algebra 7"

// call posts a call as a script on a page of an origin does.
func (b *browser) call(origin, path string, fields object) answer {
	b.server.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		b.server.t.Fatal(err)
	}
	return b.fetch(origin, "POST", "api/v1/"+path, string(body))
}

// solved does the work of a challenge.
func (b *browser) solved(purpose string) object {
	b.server.t.Helper()
	var c struct {
		ID   string
		Work struct {
			Salt        string
			Bits, Count int
		}
	}
	b.fetch(appOrigin, "GET", "challenge?for="+purpose, "").want(200).json(&c)
	numbers := make([]string, c.Work.Count)
	for i := range numbers {
		for n := 0; ; n++ {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s.%d.%d", c.Work.Salt, i, n))
			if bits.LeadingZeros32(uint32(sum[0])<<24|uint32(sum[1])<<16|uint32(sum[2])<<8|uint32(sum[3])) >= c.Work.Bits {
				numbers[i] = strconv.Itoa(n)
				break
			}
		}
	}
	return object{"id": c.ID, "answer": strings.Join(numbers, ",")}
}

// told is what calls answer.
type told struct {
	User            *struct{ Name string }
	Token           string
	Methods         []string
	MultiFactor     bool
	Code, Field     string
	Pending, Ticket string
	Step            string
	Factors         []string
	Link            string
	RetryAfter      int
}

func (a answer) told() (told told) {
	a.t.Helper()
	a.json(&told)
	return told
}

// refuses fails the test unless the answer is an error with a code.
func (a answer) refuses(status int, code string) answer {
	a.t.Helper()
	a.want(status)
	if got := a.told().Code; got != code {
		a.t.Fatalf("%s: code %q, want %q: %s", a.url, got, code, a.body)
	}
	return a
}

var sixDigits = regexp.MustCompile(`\b\d{6}\b`)

// code is that of the latest mail to an address.
func (s *server) code(to string) string {
	s.t.Helper()
	code := sixDigits.FindString(s.mail(to).Text)
	if code == "" {
		s.t.Fatalf("no code in: %s", s.mail(to).Text)
	}
	return code
}

// join signs somebody up by calls.
func (b *browser) join(email string) told {
	b.server.t.Helper()
	pending := b.call(appOrigin, "accounts", object{"email": email, "password": adasPassword, "name": "Ada", "challenge": b.solved("signup")}).want(202).told().Pending
	return b.call(appOrigin, "accounts/verify", object{"pending": pending, "code": b.server.code(email)}).want(200).told()
}

// A whole life by calls, from a page of an allowed origin.
func TestAccountsByCalls(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b := s.browser()
	b.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `{"user":null}`)

	ada := b.join("ada@example.org")
	if ada.User == nil || ada.User.Name != "Ada" || ada.Token == "" || ada.MultiFactor {
		t.Fatalf("after the sign-up: %+v", ada)
	}
	if got := s.verify(ada.Token); got.User == nil {
		t.Errorf("the token is of nobody: %+v", got)
	}
	checked := b.call("", "token/check", object{"token": ada.Token}).want(200, `"active":true`, `"kind":"session"`, `"Ada"`)
	checked.wantNot("sessionID")

	// Its events, in a socket that was opened with nothing but a URL.
	ticket := b.call(appOrigin, "accounts/ticket", nil).want(200).told().Ticket
	stranger := s.browser()
	stranger.send("GET", "?ticket="+ticket, headers("Upgrade", "websocket", "Origin", evilOrigin), "").want(403)
	sock, err := s.clientSocket(appOrigin, "?ticket="+ticket)
	if err != nil {
		t.Fatal(err)
	}
	defer sock.CloseNow()
	if _, err := s.clientSocket(appOrigin, "?ticket="+ticket); err == nil {
		t.Error("the ticket was good twice")
	}
	late := b.call(appOrigin, "accounts/ticket", nil).want(200).told().Ticket

	b.fetch(appOrigin, "DELETE", "api/v1/session", "").want(204)
	if _, err := s.clientSocket(appOrigin, "?ticket="+late); err == nil {
		t.Error("a ticket has survived the sign-out")
	}
	b.call(appOrigin, "accounts/ticket", nil).refuses(401, "unauthorized")
	b.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `{"user":null}`)
	b.fetch(appOrigin, "DELETE", "api/v1/session", "").want(204)

	b.call(appOrigin, "session", object{"email": "ADA@example.org", "password": "wrong " + adasPassword}).refuses(401, "refused")
	b.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).want(200, `"Ada"`, `"methods":["pwd"]`)

	// Another password ends the other sessions, and not this one.
	other := s.browser()
	other.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).want(200)
	const next = "looms of another century"
	b.call(appOrigin, "accounts/password", object{"current": "wrong", "new": next}).refuses(422, "current_wrong")
	short := b.call(appOrigin, "accounts/password", object{"current": adasPassword, "new": "short"}).refuses(422, "password_short").told()
	if short.Field != "password" {
		t.Errorf("field %q", short.Field)
	}
	b.call(appOrigin, "accounts/password", object{"current": adasPassword, "new": next}).want(204)
	other.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `{"user":null}`)
	b.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `"Ada"`)
	s.browser().call(appOrigin, "accounts/password", object{"current": next, "new": adasPassword}).refuses(401, "unauthorized")

	// A reset, with a password at first that is not taken.
	lost := s.browser()
	pending := lost.call(appOrigin, "accounts/reset", object{"email": "ada@example.org", "challenge": lost.solved("reset")}).want(202).told().Pending
	lost.call(appOrigin, "accounts/resend", object{"pending": pending}).refuses(429, "too_soon")
	code := s.code("ada@example.org")
	key := lost.call(appOrigin, "accounts/reset/complete", object{"pending": pending, "code": code, "password": "short"}).refuses(422, "password_short").told().Link
	lost.call(appOrigin, "accounts/reset/complete", object{"pending": pending, "code": code, "password": adasPassword}).refuses(403, "code_wrong")
	lost.call(appOrigin, "accounts/reset/complete", object{"link": key, "password": adasPassword}).want(200, `"Ada"`)
	lost.call(appOrigin, "accounts/reset/complete", object{"link": key, "password": next}).refuses(404, "unknown")
	b.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `{"user":null}`)

	// Out everywhere.
	b.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).want(200)
	lost.fetch(appOrigin, "DELETE", "api/v1/sessions", "").want(204)
	for _, x := range []*browser{b, lost} {
		x.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `{"user":null}`)
	}
	lost.fetch(appOrigin, "DELETE", "api/v1/sessions", "").refuses(401, "unauthorized")
}

// Who is signed in as somebody else: the calls take their place, unless they are to be linked.
func TestSignInWhileSignedIn(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	b := s.browser()
	b.login("alpha", "ben")
	before := b.user()
	b.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).want(200, `"Ada"`)
	if now := b.user(); now.ID == before.ID || len(now.Identities) != 1 {
		t.Errorf("signed in is %s with %d identities", now.Name, len(now.Identities))
	}
	c := s.browser()
	c.login("alpha", "ben")
	c.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword, "link": true}).refuses(409, "other_account")
	if now := c.user(); now.ID != before.ID {
		t.Errorf("signed in is %s", now.Name)
	}
}

// encrypted makes a JWE of the fields of a call, by hand.
func (s *server) encrypted(path string, fields object, change ...func(header, claims object)) string {
	s.t.Helper()
	b := s.browser()
	var n struct {
		Nonce, Kid string
		Time       int64
	}
	b.fetch(appOrigin, "GET", "api/v1/nonce", "").want(200).json(&n)
	set, err := jwk.Parse([]byte(b.get(".well-known/jwks.json").want(200).body))
	if err != nil {
		s.t.Fatal(err)
	}
	key, ok := set.LookupKeyID(n.Kid)
	if !ok || key.KeyUsage() != "enc" || key.Algorithm().String() != token.Encryption {
		s.t.Fatalf("no key %s to encrypt with", n.Kid)
	}
	var public rsa.PublicKey
	if err := key.Raw(&public); err != nil {
		s.t.Fatal(err)
	}
	header := object{"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": n.Kid}
	claims := object{"aud": s.base + "api/v1/" + path, "nonce": n.Nonce, "iat": n.Time}
	for name, value := range fields {
		claims[name] = value
	}
	for _, f := range change {
		f(header, claims)
	}
	content, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	if text, ok := claims["raw"].(string); ok {
		content = []byte(strings.NewReplacer("AUD", claims["aud"].(string), "NONCE", n.Nonce, "IAT", strconv.FormatInt(n.Time, 10)).Replace(text))
	}
	protected, err := json.Marshal(header)
	if err != nil {
		s.t.Fatal(err)
	}
	secret, iv := make([]byte, 32), make([]byte, 12)
	_, _ = rand.Read(secret)
	_, _ = rand.Read(iv)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &public, secret, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		s.t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		s.t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	first := encode(protected)
	sealed := gcm.Seal(nil, iv, content, []byte(first))
	at := len(sealed) - gcm.Overhead()
	return strings.Join([]string{first, encode(wrapped), encode(iv), encode(sealed[:at]), encode(sealed[at:])}, ".")
}

func TestEncryptedCalls(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	right := object{"email": "ada@example.org", "password": adasPassword}
	send := func(path, jwe string) answer { return s.browser().call(appOrigin, path, object{"jwe": jwe}) }

	jwe := s.encrypted("session", right)
	if strings.Contains(jwe, base64.RawURLEncoding.EncodeToString([]byte(adasPassword))) {
		t.Fatal("the password can be read")
	}
	send("session", jwe).want(200, `"Ada"`)
	send("session", jwe).refuses(400, "jwe_nonce")

	// What is encrypted for one call is worth nothing for another, and does not spend the nonce there.
	jwe = s.encrypted("session", right)
	send("accounts/reset", jwe).refuses(400, "jwe_audience")
	send("session", jwe).want(200)

	for name, tc := range map[string]struct {
		code   string
		change func(header, claims object)
	}{
		"another server":      {"jwe_audience", func(_, c object) { c["aud"] = "https://elsewhere.example/api/v1/session" }},
		"no audience":         {"jwe_audience", func(_, c object) { delete(c, "aud") }},
		"old":                 {"jwe_time", func(_, c object) { c["iat"] = s.clock.Now().Add(-token.NonceLife - token.Leeway - time.Second).Unix() }},
		"of the future":       {"jwe_time", func(_, c object) { c["iat"] = s.clock.Now().Add(token.Leeway + 2*time.Second).Unix() }},
		"no time":             {"jwe_time", func(_, c object) { delete(c, "iat") }},
		"a time that is none": {"bad_request", func(_, c object) { c["iat"] = "now" }},
		"no nonce":            {"jwe_nonce", func(_, c object) { delete(c, "nonce") }},
		"a nonce made up":     {"jwe_nonce", func(_, c object) { c["nonce"] = strings.Repeat("A", 100) }},
		"RSA1_5":              {"jwe_refused", func(h, _ object) { h["alg"] = "RSA1_5" }},
		"dir":                 {"jwe_refused", func(h, _ object) { h["alg"] = "dir" }},
		"A128CBC":             {"jwe_refused", func(h, _ object) { h["enc"] = "A128CBC-HS256" }},
		"PBES2":               {"jwe_refused", func(h, _ object) { h["alg"], h["p2c"] = "PBES2-HS256+A128KW", 1<<31 }},
		"zip":                 {"jwe_refused", func(h, _ object) { h["zip"] = "DEF" }},
		"crit":                {"jwe_refused", func(h, _ object) { h["crit"] = []string{"b64"} }},
		"the signing key":     {"jwe_key", func(h, _ object) { h["kid"] = s.running.Load().Tokens.KeyID() }},
		"a path":              {"jwe_key", func(h, _ object) { h["kid"] = "../private.key" }},
		"a field more":        {"unknown_field", func(_, c object) { c["role"] = "admin" }},
		"a JWE in it":         {"unknown_field", func(_, c object) { c["jwe"] = "x" }},
		"twice a field": {"duplicate_field", func(_, c object) {
			c["raw"] = `{"aud":"AUD","nonce":"NONCE","iat":IAT,"email":"a@example.org","Email":"b@example.org"}`
		}},
		"twice the audience": {"duplicate_field", func(_, c object) { c["raw"] = `{"aud":"x","nonce":"NONCE","iat":IAT,"aud":"AUD"}` }},
		"no object":          {"bad_request", func(_, c object) { c["raw"] = `["AUD"]` }},
	} {
		if got := send("session", s.encrypted("session", right, tc.change)); got.status != 400 || got.told().Code != tc.code {
			t.Errorf("%s: %d %s, want 400 %s", name, got.status, got.body, tc.code)
		}
	}
	send("session", strings.Repeat("A", 9<<10)).refuses(400, "jwe_refused")

	// Fields beside a JWE could be meant to count more than those in it.
	s.browser().call(appOrigin, "session", object{"jwe": s.encrypted("session", right), "email": "eve@example.org"}).refuses(400, "unknown_field")

	// Too late, also for a nonce that was kept, and after a restart.
	jwe = s.encrypted("session", right)
	kept := s.encrypted("session", right)
	send("session", kept).want(200)
	s.start()
	send("session", kept).refuses(400, "jwe_nonce")
	s.clock.Advance(token.NonceLife + token.Leeway + time.Second)
	send("session", jwe).refuses(400, "jwe_time")
}

// Of one JWE that is sent many times at once one is taken.
func TestEncryptedCallAtOnce(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	jwe := s.encrypted("session", object{"email": "ada@example.org", "password": adasPassword})
	var in, refused atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		b := s.browser()
		wg.Go(func() {
			switch got := b.call(appOrigin, "session", object{"jwe": jwe}); {
			case got.status == 200:
				in.Add(1)
			case strings.Contains(got.body, "jwe_nonce"):
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 || refused.Load() != 5 {
		t.Errorf("%d signed in, %d refused", in.Load(), refused.Load())
	}
}

// Nobody on another site calls, and no form does.
func TestCallsOfOthers(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	ada := s.browser()
	ada.join("ada@example.org")
	body := `{"email":"ada@example.org","password":"` + adasPassword + `"}`
	for _, path := range []string{"session", "session/factor", "accounts", "accounts/verify", "accounts/resend", "accounts/reset",
		"accounts/reset/complete", "accounts/password", "accounts/exists", "accounts/ticket", "token/check"} {
		got := ada.fetch(evilOrigin, "POST", "api/v1/"+path, body).refuses(403, "cross_site")
		if got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %s may read it", path, evilOrigin)
		}
		ada.fetch("null", "POST", "api/v1/"+path, body).refuses(403, "cross_site")
		ask := ada.send("OPTIONS", "api/v1/"+path, headers("Origin", evilOrigin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"), "")
		if ask.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %s may call", path, evilOrigin)
		}
		ask = ada.send("OPTIONS", "api/v1/"+path, headers("Origin", appOrigin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"), "")
		if ask.header.Get("Access-Control-Allow-Origin") != appOrigin || ask.header.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("%s: %s may not call: %v", path, appOrigin, ask.header)
		}
		if path == "accounts/ticket" {
			continue // it has no body
		}
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonx", "text/json"} {
			ada.send("POST", "api/v1/"+path, headers("Content-Type", kind, "Origin", appOrigin), body).refuses(415, "unsupported_media_type")
		}
	}
	for _, path := range []string{"session", "sessions"} {
		ada.fetch(evilOrigin, "DELETE", "api/v1/"+path, "").refuses(403, "cross_site")
	}
	ada.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `"Ada"`)
	// A program without cookies and origin may call.
	s.browser().send("POST", "api/v1/session", headers("Content-Type", "application/json; charset=utf-8"), body).want(200, `"Ada"`)
	// What is no call is answered as JSON too.
	s.browser().get("api/v1/nothing").refuses(404, "not_found")
	s.browser().get("api/v1/accounts").refuses(405, "method_not_allowed")
}

func TestCallsAreStrict(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	post := func(body string) answer { return s.browser().fetch(appOrigin, "POST", "api/v1/session", body) }
	for body, code := range map[string]string{
		`{"email":"a@b.example","password":"x","admin":true}`:         "unknown_field",
		`{"Email":"a@b.example","password":"x"}`:                      "unknown_field",
		`{"email":"a@b.example","email":"b@b.example"}`:               "duplicate_field",
		`{"email":"a@b.example","EMAIL":"b@b.example"}`:               "duplicate_field",
		`{"challenge":{"id":"x","id":"y","answer":"z"}}`:              "duplicate_field",
		`{"email":["a@b.example"]}`:                                   "bad_request",
		`{"email":"a@b.example"} {}`:                                  "bad_request",
		`{"email":"a@b.example"`:                                      "bad_request",
		`["a"]`:                                                       "bad_request",
		`null`:                                                        "bad_request",
		"{\"email\":\"\xff\"}":                                        "bad_request",
		strings.Repeat(`{"challenge":`, 50) + strings.Repeat("}", 50): "bad_request",
		`{"challenge":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`: "bad_request",
	} {
		got := post(body)
		if got.status != 400 || got.told().Code != code {
			t.Errorf("%.60s: %d %s, want 400 %s", body, got.status, got.body, code)
		}
	}
	for _, size := range []int{65 << 10, 10 << 20} {
		post(`{"email":"`+strings.Repeat("a", size)+`"}`).refuses(413, "too_large")
	}
	for path, want := range map[string]string{"session": "no-store", "nonce": "no-store", "accounts/policy": "no-store"} {
		if got := s.browser().get("api/v1/" + path).want(200).header.Get("Cache-Control"); got != want {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
	}
}

// Who asks with an address learns nothing of it.
func TestCallsKeepAddressesSecret(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	s.clock.Advance(accounts.SignUpLife) // the mail to her is not counted any more
	varies := regexp.MustCompile(`"pending":"[^"]*"`)
	// A wrong password is in the history of who is known, and something else of who is not.
	written := func() int {
		return s.documents("pending") + s.documents("pending count") + s.documents("signin")
	}
	same := func(path string, fields func(b *browser, email string) object) {
		t.Helper()
		var before int
		var answers, writes []string
		for _, email := range []string{"ada@example.org", "nobody@example.org"} {
			b := s.browser()
			made := fields(b, email)
			before = written()
			got := b.call(appOrigin, path, made)
			answers = append(answers, fmt.Sprint(got.status, varies.ReplaceAllString(got.body, "")))
			writes = append(writes, fmt.Sprint(written()-before))
		}
		if answers[0] != answers[1] || writes[0] != writes[1] {
			t.Errorf("%s: %q and %q, %v documents", path, answers[0], answers[1], writes)
		}
	}
	same("accounts", func(b *browser, email string) object {
		return object{"email": email, "password": adasPassword, "challenge": b.solved("signup")}
	})
	same("accounts/reset", func(b *browser, email string) object {
		return object{"email": email, "challenge": b.solved("reset")}
	})
	same("session", func(b *browser, email string) object {
		return object{"email": email, "password": "not " + adasPassword}
	})
	s.browser().call(appOrigin, "accounts/exists", object{"email": "ada@example.org"}).refuses(404, "not_found")
	// Nobody else's, and nothing without the mail.
	b := s.browser()
	b.call(appOrigin, "accounts", object{"email": "x@example.org", "password": adasPassword}).refuses(403, "challenge_needed")
	once := b.solved("signup")
	b.call(appOrigin, "accounts/reset", object{"email": "x@example.org", "challenge": once}).refuses(403, "challenge_expired")
	pending := b.call(appOrigin, "accounts", object{"email": "x@example.org", "password": adasPassword, "challenge": b.solved("signup")}).want(202).told().Pending
	for _, forged := range []string{"", "signup", "signup..", "reset" + strings.TrimPrefix(pending, "signup"), pending + "x", strings.Repeat("a", 10_000)} {
		b.call(appOrigin, "accounts/verify", object{"pending": forged, "code": s.code("x@example.org")})
		if got := b.call(appOrigin, "accounts/verify", object{"pending": forged, "code": s.code("x@example.org")}); got.status != 404 && got.status != 403 {
			t.Errorf("%.40q: %d %s", forged, got.status, got.body)
		}
	}
	b.call(appOrigin, "accounts/verify", object{"pending": pending, "code": s.code("x@example.org")}).want(200)
}

func TestExistsIsOffUnlessWanted(t *testing.T) {
	s := newServer(t, withAccounts(`{"revealAccounts": true}`), env("RATE_LIMIT_MAX", "3"))
	b := s.browser()
	b.join("ada@example.org")
	exists := func(email string) answer {
		return b.call(appOrigin, "accounts/exists", object{"email": email, "challenge": b.solved("exists")})
	}
	b.call(appOrigin, "accounts/exists", object{"email": "ada@example.org"}).refuses(403, "challenge_needed")
	got := exists("ada@example.org")
	if got.status != 429 {
		got.want(200, `{"exists":true}`)
		exists("ada@example.org").refuses(429, "rate_limited")
	}
}

// Many failures ask for a challenge, and then for patience, as on pages.
func TestCallsSlowDown(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	b := s.browser()
	wrong := func() answer {
		return b.call(appOrigin, "session", object{"email": "ada@example.org", "password": "not " + adasPassword})
	}
	for range 3 {
		wrong().refuses(401, "refused")
	}
	wrong().refuses(403, "challenge_needed")
	b.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword}).refuses(403, "challenge_needed")
	b.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword, "challenge": object{"id": "x", "answer": "y"}}).refuses(403, "challenge_expired")
	for range 3 {
		b.call(appOrigin, "session", object{"email": "ada@example.org", "password": "wrong", "challenge": b.solved("login")}).refuses(401, "refused")
	}
	if wait := b.call(appOrigin, "session", object{"email": "ada@example.org", "password": adasPassword, "challenge": b.solved("login")}).refuses(429, "wait").told().RetryAfter; wait < 1 {
		t.Errorf("retryAfter %d", wait)
	}
	// Of unknown people the same is asked.
	c := s.browser()
	for range 3 {
		c.call(appOrigin, "session", object{"email": "nobody@example.org", "password": "x"}).refuses(401, "refused")
	}
	c.call(appOrigin, "session", object{"email": "nobody@example.org", "password": "x"}).refuses(403, "challenge_needed")
}

// The second factor cannot be skipped, nor given for somebody else.
func TestStepOfCalls(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.browser().join("ada@example.org")
	c, err := s.credentials.ByEmail(t.Context(), "ada@example.org")
	if err != nil {
		t.Fatal(err)
	}
	codes, _, err := s.credentials.RenewRecovery(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.credentials.Update(t.Context(), c.ID, func(c *credential.Credential) error {
		c.TOTP, c.TwoStep = &credential.TOTP{Secret: "sealed", Added: s.clock.Now()}, true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	right := object{"email": "ada@example.org", "password": adasPassword}
	b := s.browser()
	asked := b.call(appOrigin, "session", right).refuses(401, "factor_needed").told()
	if asked.User != nil || asked.Token != "" || len(asked.Factors) != 2 {
		t.Fatalf("asked for is %+v", asked)
	}
	b.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `{"user":null}`)
	b.get("currentUser").want(401)
	b.call(appOrigin, "session/factor", object{"factor": "recovery", "code": codes[0]}).refuses(401, "unauthorized")

	// In another browser, whoever is signed in there.
	eve := s.browser()
	eve.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "recovery", "code": codes[0]}).refuses(400, "other_browser")
	eve.join("eve@example.org")
	eve.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "recovery", "code": codes[0]}).refuses(400, "other_browser")
	b.call(appOrigin, "session/factor", object{"step": "x", "factor": "recovery", "code": codes[0]}).refuses(400, "expired")
	b.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "sms", "code": "123456"}).refuses(422, "factor_unknown")
	b.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "passkey"}).refuses(422, "factor_unknown")
	b.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "recovery", "code": "nonsense"}).refuses(403, "code_wrong")

	in := b.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "recovery", "code": codes[0]}).want(200, `"Ada"`).told()
	if !in.MultiFactor {
		t.Errorf("methods %v", in.Methods)
	}
	b.call(appOrigin, "session/factor", object{"step": asked.Step, "factor": "recovery", "code": codes[1]}).refuses(400, "expired")
	// Not the same code again.
	d := s.browser()
	step := d.call(appOrigin, "session", right).refuses(401, "factor_needed").told().Step
	d.call(appOrigin, "session/factor", object{"step": step, "factor": "recovery", "code": codes[0]}).refuses(403, "code_wrong")

	// A reset asks for it as well.
	s.clock.Advance(time.Second)
	r := s.browser()
	pending := r.call(appOrigin, "accounts/reset", object{"email": "ada@example.org", "challenge": r.solved("reset")}).want(202).told().Pending
	r.call(appOrigin, "accounts/reset/complete", object{"pending": pending, "code": s.code("ada@example.org"), "password": "looms of another century"}).refuses(401, "factor_needed")
	r.get("currentUser").want(401)
	// What was begun with the old password is void.
	d.call(appOrigin, "session/factor", object{"step": step, "factor": "recovery", "code": codes[1]}).refuses(400, "expired")
	history, err := s.sessions.History(t.Context(), session.HistoryQuery{UserIDs: []string{b.owner("ada@example.org")}, Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	refusals := 0
	for _, x := range history {
		if x.Result == session.ResultFactor {
			refusals++
		}
	}
	if refusals == 0 {
		t.Error("the history has no wrong code")
	}
}

// owner is the id of the account of an address.
func (b *browser) owner(email string) string {
	b.server.t.Helper()
	c, err := b.server.credentials.ByEmail(b.server.t.Context(), email)
	if err != nil {
		b.server.t.Fatal(err)
	}
	a, err := b.server.users.Owner(b.server.t.Context(), "account", c.ID)
	if err != nil {
		b.server.t.Fatal(err)
	}
	return a.ID
}

// Without accounts that live here there is nothing of all this, and no key.
func TestNoCallsWithoutAccounts(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for _, path := range []string{"nonce", "accounts/policy"} {
		b.get("api/v1/"+path).refuses(404, "not_found")
	}
	for _, path := range []string{"session", "accounts", "accounts/verify", "accounts/reset", "accounts/exists"} {
		b.call(appOrigin, path, object{}).refuses(404, "not_found")
	}
	b.get(".well-known/jwks.json").want(200).wantNot(`"enc"`)
	b.login("alpha", "ada")
	b.fetch(appOrigin, "GET", "api/v1/session", "").want(200, `"Ada"`)
}

func TestTokenCheck(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	var signed struct{ Token string }
	b.get("token").want(200).json(&signed)
	check := func(token string) answer { return s.browser().call("", "token/check", object{"token": token}) }
	check(signed.Token).want(200, `"active":true`, `"Ada"`).wantNot("sessionID")
	for name, text := range map[string]string{
		"nothing": "", "no token": "x", "cut": signed.Token[:len(signed.Token)-2], "another signature": signed.Token[:strings.LastIndex(signed.Token, ".")] + ".AAAA",
		"none": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(signed.Token, ".")[1] + ".", "long": strings.Repeat("a.", 20_000),
	} {
		got := check(text)
		if got.body != `{"active":false}` {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	check("opaque.token").refuses(422, "opaque_token")
	var anonymous struct{ Token string }
	s.browser().get("token").want(200).json(&anonymous)
	check(anonymous.Token).want(200, `{"active":false}`)
	s.clock.Advance(s.cfg.JWTExpiresIn)
	check(signed.Token).want(200, `{"active":false}`)
}
