package oidc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"

	"login-server/session"
)

const logoutClient = `{"client_id": "app", "name": "App", "url": "https://app.example.org/", "client_secret": "` + secret + `",
	"redirect_uris": ["https://app.example.org/cb"], "trusted": true,
	"post_logout_redirect_uris": ["https://app.example.org/bye", "https://app.example.org/bye?keep=1", "https://app.example.org/empty?"]}`

const pairwiseClient = `{"client_id": "other", "name": "Other", "url": "https://other.example.org/", "client_secret": "` + secret + `",
	"redirect_uris": ["https://other.example.org/cb"], "trusted": true, "subject_type": "pairwise",
	"post_logout_redirect_uris": ["https://other.example.org/bye"]}`

// idTokenOf is what a client has got in a session.
func (h *house) idTokenOf(client string, who *Person) string {
	h.Helper()
	callback := "https://" + client + ".example.org/cb"
	code := h.answered(ask(client, "redirect_uri", callback), who).Get("code")
	return h.redeem(client+":"+secret, code, "redirect_uri", callback).want(h.T, 200, "").text("id_token")
}

// endSession is where the client's browser is sent; empty: a page asks.
func (h *house) endSession(values url.Values, who *Person) string {
	h.Helper()
	l, err := h.EndSession(h.Context(), values, who)
	if err != nil {
		h.Fatal(err)
	}
	return l.To
}

// Rule 37.
func TestEndSessionFollows(t *testing.T) {
	h := newHouse(t, logoutClient, pairwiseClient)
	ada := h.person("ada")
	good, pairwise := h.idTokenOf("app", ada), h.idTokenOf("other", ada)
	tests := []struct {
		name, hint, client, to, state, want string
	}{
		{"plain", good, "", "https://app.example.org/bye", "-", "https://app.example.org/bye"},
		{"client_id", good, "app", "https://app.example.org/bye", "-", "https://app.example.org/bye"},
		{"state", good, "", "https://app.example.org/bye", "a b&c=d#é", "https://app.example.org/bye?state=a+b%26c%3Dd%23%C3%A9"},
		{"empty state", good, "", "https://app.example.org/bye", "", "https://app.example.org/bye?state="},
		{"query", good, "", "https://app.example.org/bye?keep=1", "x", "https://app.example.org/bye?keep=1&state=x"},
		{"query, no state", good, "", "https://app.example.org/bye?keep=1", "-", "https://app.example.org/bye?keep=1"},
		{"empty query", good, "", "https://app.example.org/empty?", "x", "https://app.example.org/empty?state=x"},
		{"long state", good, "", "https://app.example.org/bye", strings.Repeat("s", 2000), "https://app.example.org/bye?state=" + strings.Repeat("s", 2000)},
		{"pairwise", pairwise, "other", "https://other.example.org/bye", "-", "https://other.example.org/bye"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			values := form("id_token_hint", tc.hint, "post_logout_redirect_uri", tc.to)
			if tc.client != "" {
				values.Set("client_id", tc.client)
			}
			if tc.state != "-" {
				values.Set("state", tc.state)
			}
			if got := h.endSession(values, ada); got != tc.want {
				t.Errorf("signed in: got %q, want %q", got, tc.want)
			}
			if got := h.endSession(values, nil); got != tc.want {
				t.Errorf("nobody signed in: got %q, want %q", got, tc.want)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		h.clock.Advance(time.Hour)
		if got := h.endSession(form("id_token_hint", good, "post_logout_redirect_uri", "https://app.example.org/bye"), ada); got == "" {
			t.Error("an expired ID Token is no hint")
		}
	})
}

// resign makes a token with the claims of another one, signed as an attacker can.
func resign(t *testing.T, token string, change func(map[string]any), sign func([]byte) string) string {
	t.Helper()
	c := claims(t, token)
	change(c)
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return sign(payload)
}

// Rule 37: anything missing, unregistered, tampered, or somebody else's hint.
func TestEndSessionAsks(t *testing.T) {
	h := newHouse(t, logoutClient, pairwiseClient)
	ada := h.person("ada")
	good := h.idTokenOf("app", ada)
	others := h.idTokenOf("app", h.person("ben"))
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(good, ".")
	kid := func() string {
		m, err := jws.Parse([]byte(good))
		if err != nil {
			t.Fatal(err)
		}
		return m.Signatures()[0].ProtectedHeaders().KeyID()
	}()
	same := func(map[string]any) {}
	withForeignKey := func(payload []byte) string {
		headers := jws.NewHeaders()
		_ = headers.Set("typ", "JWT")
		_ = headers.Set("kid", kid)
		signed, err := jws.Sign(payload, jws.WithKey(jwa.RS256, foreign, jws.WithProtectedHeaders(headers)))
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	encode := base64.RawURLEncoding.EncodeToString
	unsigned := func(payload []byte) string {
		return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(payload) + "."
	}
	withPublicKey := func(payload []byte) string {
		text := encode([]byte(`{"alg":"HS256","typ":"JWT","kid":"`+kid+`"}`)) + "." + encode(payload)
		mac := hmac.New(sha256.New, []byte(h.tokens.PublicPEM()))
		mac.Write([]byte(text))
		return text + "." + encode(mac.Sum(nil))
	}
	oldSignature := func(payload []byte) string {
		return header + "." + encode(payload) + good[strings.LastIndexByte(good, '.'):]
	}
	ours := func(typ string) func([]byte) string {
		return func(payload []byte) string {
			signed, err := h.tokens.SignJWT("", typ, payload)
			if err != nil {
				t.Fatal(err)
			}
			return signed
		}
	}
	bye := "https://app.example.org/bye"
	tests := []struct {
		name   string
		values url.Values
	}{
		{"nothing", url.Values{}},
		{"no hint", form("post_logout_redirect_uri", bye)},
		{"no hint, but a client", form("post_logout_redirect_uri", bye, "client_id", "app")},
		{"no address", form("id_token_hint", good)},
		{"empty hint", form("id_token_hint", "", "post_logout_redirect_uri", bye)},
		{"unregistered", form("id_token_hint", good, "post_logout_redirect_uri", "https://evil.example/")},
		{"another client's address", form("id_token_hint", good, "post_logout_redirect_uri", "https://other.example.org/bye")},
		{"a redirect_uri", form("id_token_hint", good, "post_logout_redirect_uri", "https://app.example.org/cb")},
		{"query added", form("id_token_hint", good, "post_logout_redirect_uri", bye+"?x=1")},
		{"query taken away", form("id_token_hint", good, "post_logout_redirect_uri", bye+"?")},
		{"path added", form("id_token_hint", good, "post_logout_redirect_uri", bye+"/")},
		{"path up", form("id_token_hint", good, "post_logout_redirect_uri", "https://app.example.org/x/../bye")},
		{"case", form("id_token_hint", good, "post_logout_redirect_uri", "https://APP.example.org/bye")},
		{"port", form("id_token_hint", good, "post_logout_redirect_uri", "https://app.example.org:443/bye")},
		{"user", form("id_token_hint", good, "post_logout_redirect_uri", "https://app.example.org@evil.example/bye")},
		{"fragment", form("id_token_hint", good, "post_logout_redirect_uri", bye+"#x")},
		{"space", form("id_token_hint", good, "post_logout_redirect_uri", " "+bye)},
		{"script", form("id_token_hint", good, "post_logout_redirect_uri", "javascript:alert(1)")},
		{"two addresses", form("id_token_hint", good, "post_logout_redirect_uri", bye, "post_logout_redirect_uri", "https://evil.example/")},
		{"two hints", form("id_token_hint", good, "id_token_hint", others, "post_logout_redirect_uri", bye)},
		{"two states", form("id_token_hint", good, "post_logout_redirect_uri", bye, "state", "1", "state", "2")},
		{"another client", form("id_token_hint", good, "post_logout_redirect_uri", bye, "client_id", "other")},
		{"another client with its address", form("id_token_hint", good, "post_logout_redirect_uri", "https://other.example.org/bye", "client_id", "other")},
		{"unknown client", form("id_token_hint", good, "post_logout_redirect_uri", bye, "client_id", "nobody")},
		{"somebody else's hint", form("id_token_hint", others, "post_logout_redirect_uri", bye)},
		{"alg none", form("id_token_hint", resign(t, good, same, unsigned), "post_logout_redirect_uri", bye)},
		{"alg HS256 with the public key", form("id_token_hint", resign(t, good, same, withPublicKey), "post_logout_redirect_uri", bye)},
		{"foreign key", form("id_token_hint", resign(t, good, same, withForeignKey), "post_logout_redirect_uri", bye)},
		{"claims changed", form("id_token_hint", resign(t, others, func(c map[string]any) { c["sid"] = ada.Session.Handle; c["sub"] = ada.Account.ID }, oldSignature), "post_logout_redirect_uri", bye)},
		{"cut off", form("id_token_hint", good[:len(good)-4], "post_logout_redirect_uri", bye)},
		{"an access token", form("id_token_hint", resign(t, good, same, ours("at+jwt")), "post_logout_redirect_uri", bye)},
		{"a logout token", form("id_token_hint", resign(t, good, same, ours("logout+jwt")), "post_logout_redirect_uri", bye)},
		{"another issuer", form("id_token_hint", resign(t, good, func(c map[string]any) { c["iss"] = "https://login.example.org/" }, ours("JWT")), "post_logout_redirect_uri", bye)},
		{"a signed response", form("id_token_hint", resign(t, good, func(c map[string]any) { delete(c, "sub"); delete(c, "auth_time") }, ours("JWT")), "post_logout_redirect_uri", bye)},
		{"too long", form("id_token_hint", resign(t, good, func(c map[string]any) { c["x"] = strings.Repeat("x", maxHint) }, ours("JWT")), "post_logout_redirect_uri", bye)},
		{"an object", form("id_token_hint", `{"payload":"","signatures":[]}`, "post_logout_redirect_uri", bye)},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := h.endSession(tc.values, ada); got != "" {
				t.Errorf("leads to %q", got)
			}
		})
	}
	// What the table has of our own making would be taken if it were not for one thing.
	if h.endSession(form("id_token_hint", resign(t, good, same, ours("JWT")), "post_logout_redirect_uri", bye), ada) == "" {
		t.Error("the test's way to sign is not ours")
	}
}

// A handle lives on after signing out: a hint of before is none for who comes next, and
// none for the same person's next session either.
func TestEndSessionOfAnotherSignIn(t *testing.T) {
	h := newHouse(t, logoutClient)
	ada := h.person("ada")
	good := h.idTokenOf("app", ada)
	values := form("id_token_hint", good, "post_logout_redirect_uri", "https://app.example.org/bye")
	if _, err := h.sessions.RemoveAll(t.Context(), "", ada.Account.ID); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(time.Minute)
	again, err := h.sessions.SignIn(t.Context(), httptest.NewRecorder(), session.Visit{Handle: ada.Session.Handle}, session.Login{UserID: ada.Account.ID})
	if err != nil || again.Handle != ada.Session.Handle {
		t.Fatalf("got %q, %v; want the same handle", again.Handle, err)
	}
	if got := h.endSession(values, &Person{Session: again, Account: ada.Account}); got != "" {
		t.Errorf("the next session of the same browser is sent to %q", got)
	}
}

// Rule 18.
func TestIDTokenHint(t *testing.T) {
	h := newHouse(t, logoutClient, pairwiseClient)
	ada, ben := h.person("ada"), h.person("ben")
	good := h.idTokenOf("app", ada)
	if got := h.answered(ask("app", "prompt", "none", "id_token_hint", good), ada); got.Get("code") == "" {
		t.Errorf("with her own hint: %v", got)
	}
	h.clock.Advance(time.Hour)
	if got := h.answered(ask("app", "prompt", "none", "id_token_hint", good), ada); got.Get("code") == "" {
		t.Errorf("with her own hint, which has expired: %v", got)
	}
	if got := h.answered(ask("app", "prompt", "none", "id_token_hint", good), ben); got.Get("error") != "login_required" {
		t.Errorf("with a hint of somebody else: %v", got)
	}
	if _, err := h.hintedSubject(h.client(t, "other"), good); err == nil {
		t.Error("a hint that another client was given is taken")
	}
	pairwise := h.idTokenOf("other", ada)
	if got, err := h.hintedSubject(h.client(t, "other"), pairwise); err != nil || got == ada.Account.ID || got == "" {
		t.Errorf("pairwise: got %q, %v", got, err)
	}
}

func (h *house) client(t *testing.T, id string) *Client {
	t.Helper()
	c, err := h.clients.get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
