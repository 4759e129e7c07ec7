package oidc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/config"
	"login-server/session"
)

const (
	otherClient = `{"client_id": "other", "name": "Other", "url": "https://other.example.org/", "client_secret": "` + secret + `",
		"redirect_uris": ["https://app.example.org/cb"], "trusted": true}`
	opaqueClient = `{"client_id": "app", "name": "App", "url": "https://app.example.org/", "client_secret": "` + secret + `",
		"redirect_uris": ["https://app.example.org/cb"], "trusted": true, "access_token_format": "opaque"}`
	spaClient = `{"client_id": "spa", "name": "Page", "url": "https://spa.example.org/", "token_endpoint_auth_method": "none",
		"redirect_uris": ["https://app.example.org/cb"], "trusted": true}`
	// The API is a client of its own, and a resource of the gateway.
	gatewayClient = `{"client_id": "gateway", "name": "Gateway", "url": "https://gateway.example.org/", "client_secret": "` + secret + `",
		"redirect_uris": ["https://app.example.org/cb"], "trusted": true, "scope": "openid profile email offline_access read write",
		"grant_types": ["authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
		"resources": ["https://api.example.org/v1", "https://files.example.org/", "https://ledger.example.org/books"]}`
	apiClient = `{"client_id": "api", "name": "API", "url": "https://api.example.org/", "client_secret": "` + secret + `",
		"grant_types": ["client_credentials"], "scope": "audit"}`
	ledgerClient = `{"client_id": "ledger", "name": "Ledger", "url": "https://ledger.example.org/", "client_secret": "` + secret + `",
		"grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"], "subject_type": "pairwise", "resources": ["https://files.example.org/"]}`
)

const (
	app     = "app:" + secret
	other   = "other:" + secret
	gateway = "gateway:" + secret
	api     = "api:" + secret
	ledger  = "ledger:" + secret
)

// code is a new one of a client.
func (h *house) code(client string, who *Person, changes ...string) string {
	h.Helper()
	return h.answered(ask(client, changes...), who).Get("code")
}

// tokens are those of a new code.
func (h *house) tokensOf(basic string, who *Person, changes ...string) response {
	h.Helper()
	client, _, _ := strings.Cut(basic, ":")
	return h.redeem(basic, h.code(client, who, changes...)).want(h.T, 200, "")
}

func (h *house) refreshing(basic, token string, more ...string) response {
	h.Helper()
	return h.call(PathToken, basic, form(append([]string{"grant_type", grantRefresh, "refresh_token", token}, more...)...))
}

func (h *house) introspected(basic, token string) map[string]any {
	h.Helper()
	return h.call(PathIntrospect, basic, form("token", token)).want(h.T, 200, "").JSON
}

func (h *house) active(basic, token string) bool {
	h.Helper()
	return h.introspected(basic, token)["active"] == true
}

// Rule 24: a code is bound to its client, redirect_uri and PKCE, and to its time. Who
// tries with less does not use it up.
func TestCodeIsBound(t *testing.T) {
	h := newHouse(t, webClient, otherClient, spaClient)
	ada := h.person("ada")
	for name, try := range map[string]func(code string) response{
		"another client":       func(code string) response { return h.redeem(other, code) },
		"a public client":      func(code string) response { return h.redeem("", code, "client_id", "spa") },
		"another redirect_uri": func(code string) response { return h.redeem(app, code, "redirect_uri", "https://app.example.org/cb2") },
		"longer redirect_uri": func(code string) response {
			return h.redeem(app, code, "redirect_uri", "https://app.example.org/cb?a=b")
		},
		"no redirect_uri":       func(code string) response { return h.redeem(app, code, "redirect_uri", "") },
		"another code_verifier": func(code string) response { return h.redeem(app, code, "code_verifier", strings.Repeat("a", 43)) },
		"no code_verifier":      func(code string) response { return h.redeem(app, code, "code_verifier", "") },
		"the code_challenge":    func(code string) response { return h.redeem(app, code, "code_verifier", challenge) },
		"another code":          func(code string) response { return h.redeem(app, code[:len(code)-1]+"_") },
		"a part of the code":    func(code string) response { return h.redeem(app, code[:grantIDLength]) },
		"no secret in it":       func(code string) response { return h.redeem(app, code[:grantIDLength+1]) },
	} {
		t.Run(name, func(t *testing.T) {
			code := h.code("app", ada)
			got := try(code).want(t, 400, "invalid_grant")
			if got.Header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") {
				t.Errorf("headers %v", got.Header)
			}
			h.redeem(app, code).want(t, 200, "")
		})
	}
	code := h.code("app", ada)
	h.clock.Advance(60 * time.Second)
	h.redeem(app, code).want(t, 400, "invalid_grant")
	h.redeem(app, "").want(t, 400, "invalid_request")
}

// A redirect_uri that was left out in the request stays left out (RFC 6749, 4.1.3).
func TestCodeWithoutRedirectURI(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	h.redeem(app, h.code("app", ada, "redirect_uri", ""), "redirect_uri", "https://app.example.org/cb").want(t, 400, "invalid_grant")
	h.redeem(app, h.code("app", ada, "redirect_uri", ""), "redirect_uri", "").want(t, 200, "")
}

// Rule 24: the second use is refused and takes what the first has given, however late;
// another client's attempt takes nothing.
func TestCodeReplay(t *testing.T) {
	for _, later := range []time.Duration{0, time.Hour, 10 * 24 * time.Hour} {
		h := newHouse(t, strings.Replace(webClient, `"trusted"`, `"access_token_format": "opaque", "trusted"`, 1), otherClient)
		code := h.code("app", h.person("ada"), "scope", "openid offline_access")
		first := h.redeem(app, code).want(t, 200, "")
		h.clock.Advance(later)
		h.redeem(other, code).want(t, 400, "invalid_grant")
		second := h.refreshing(app, first.text("refresh_token")).want(t, 200, "")
		h.redeem(app, code, "code_verifier", "wrong").want(t, 400, "invalid_grant")
		if h.active(app, second.text("access_token")) {
			t.Errorf("%s later: the access token is still good", later)
		}
		h.refreshing(app, second.text("refresh_token")).want(t, 400, "invalid_grant")
	}
}

// Rules 22 and 25: errors are JSON with 400, and 401 for a client that is not who it says.
func TestTokenErrors(t *testing.T) {
	h := newHouse(t, webClient, spaClient)
	for _, tc := range []struct {
		name, basic string
		values      []string
		status      int
		code        string
	}{
		{"no grant_type", app, nil, 400, "invalid_request"},
		{"unknown grant_type", app, []string{"grant_type", "password"}, 400, "unsupported_grant_type"},
		{"implicit is none", app, []string{"grant_type", "implicit"}, 400, "unsupported_grant_type"},
		{"not registered", app, []string{"grant_type", grantCredentials}, 400, "unauthorized_client"},
		{"twice", app, []string{"grant_type", grantCode, "grant_type", grantCode}, 400, "invalid_request"},
		{"wrong secret", "app:" + secret + "x", []string{"grant_type", grantCode}, 401, "invalid_client"},
		{"unknown client", "nobody:" + secret, []string{"grant_type", grantCode}, 401, "invalid_client"},
		{"no client", "", []string{"grant_type", grantCode}, 401, "invalid_client"},
		{"two methods", app, []string{"grant_type", grantCode, "client_secret", secret}, 400, "invalid_request"},
		{"no refresh token", app, []string{"grant_type", grantRefresh}, 400, "invalid_request"},
		{"no device code", app, []string{"grant_type", grantDevice}, 400, "unauthorized_client"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := h.call(PathToken, tc.basic, form(tc.values...)).want(t, tc.status, tc.code)
			if has := got.Header.Get("WWW-Authenticate") != ""; has != (tc.status == 401 && tc.basic != "") {
				t.Errorf("WWW-Authenticate %q", got.Header.Get("WWW-Authenticate"))
			}
		})
	}
}

// Rule 1: what is secret in codes and tokens are 32 random bytes.
func TestSecretsAreLong(t *testing.T) {
	h := newHouse(t, opaqueClient)
	got := h.redeem(app, h.code("app", h.person("ada"))).want(t, 200, "")
	seen := map[string]bool{}
	for _, token := range []string{h.storedCode(h.person("ada")), got.text("access_token"), got.text("refresh_token")} {
		secret := token[strings.LastIndex(token, ".")+1:]
		if len(secret) != 43 || seen[secret] {
			t.Errorf("%q", token)
		}
		seen[secret] = true
	}
}

// Rule 26: eight tabs refresh at once, and all get the same successor, which goes on.
func TestRefreshInEightTabs(t *testing.T) {
	h := newHouse(t, opaqueClient)
	first := h.tokensOf(app, h.person("ada")).text("refresh_token")
	var mu sync.Mutex
	successors, access := map[string]bool{}, []string{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got := h.refreshing(app, first).want(t, 200, "")
			mu.Lock()
			defer mu.Unlock()
			successors[got.text("refresh_token")] = true
			access = append(access, got.text("access_token"))
		})
	}
	wg.Wait()
	if len(successors) != 1 {
		t.Fatalf("%d successors", len(successors))
	}
	for _, token := range access {
		if !h.active(app, token) {
			t.Error("an access token is not good")
		}
	}
	for successor := range successors {
		h.refreshing(app, successor).want(t, 200, "")
	}
}

// Rule 26: within its grace each of a quick row of tokens gives its own successor, after
// it the family ends.
func TestRefreshGrace(t *testing.T) {
	h := newHouse(t, webClient, otherClient)
	row := []string{h.tokensOf(app, h.person("ada")).text("refresh_token")}
	for range 4 {
		h.clock.Advance(10 * time.Second)
		row = append(row, h.refreshing(app, row[len(row)-1]).want(t, 200, "").text("refresh_token"))
	}
	for i, token := range row[:4] {
		if got := h.refreshing(app, token).want(t, 200, "").text("refresh_token"); got != row[i+1] {
			t.Errorf("token %d gives another successor", i)
		}
	}
	// Another client learns nothing, and breaks nothing.
	h.refreshing(other, row[0]).want(t, 400, "invalid_grant")
	h.clock.Advance(29 * time.Second) // 59 s after the first was replaced
	h.refreshing(app, row[0]).want(t, 200, "")
	h.clock.Advance(time.Second)
	last := h.refreshing(app, row[4]).want(t, 200, "")
	h.refreshing(app, row[0]).want(t, 400, "invalid_grant")
	h.refreshing(app, last.text("refresh_token")).want(t, 400, "invalid_grant")
	if h.active(app, last.text("access_token")) {
		t.Error("the family has ended, and its access token is good")
	}
}

// What is not quite a refresh token is none.
func TestRefreshForgeries(t *testing.T) {
	h := newHouse(t, webClient)
	given := h.tokensOf(app, h.person("ada")).text("refresh_token")
	parts := strings.Split(given, ".")
	for _, forged := range []string{
		parts[0] + ".1." + parts[2], parts[0] + ".-0." + parts[2], parts[0] + ".00." + parts[2], parts[0] + ".+0." + parts[2],
		parts[0] + ".zzzzzzzzzz." + parts[2], parts[0] + ".0.", parts[0] + ".0." + parts[2] + "A", given + ".", " " + given,
		strings.ToUpper(given), parts[0], "." + given, strings.Repeat(given, 100),
	} {
		h.refreshing(app, forged).want(t, 400, "invalid_grant")
	}
	h.refreshing(app, given).want(t, 200, "")
}

// Rule 26: idle and absolute lifetimes, and the end of the session.
func TestRefreshLifetimes(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	token := h.tokensOf(app, ada, "scope", "openid offline_access").text("refresh_token")
	idle := h.tokensOf(app, ada, "scope", "openid offline_access").text("refresh_token")
	for range 6 { // 78 days of 90
		h.clock.Advance(13 * 24 * time.Hour)
		token = h.refreshing(app, token).want(t, 200, "").text("refresh_token")
	}
	h.refreshing(app, idle).want(t, 400, "invalid_grant")
	h.clock.Advance(12*24*time.Hour - time.Second)
	token = h.refreshing(app, token).want(t, 200, "").text("refresh_token")
	h.clock.Advance(time.Second)
	h.refreshing(app, token).want(t, 400, "invalid_grant")
}

// Rules 26 and 38: without offline_access a family ends with its session, also when
// somebody signs in under the same handle; so do access tokens.
func TestGrantEndsWithSession(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	bound, offline := h.tokensOf(app, ada), h.tokensOf(app, ada, "scope", "openid offline_access")
	if err := h.sessions.SignOut(t.Context(), httptest.NewRecorder(), session.Visit{Handle: ada.Session.Handle, Session: &ada.Session}); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		h.refreshing(app, bound.text("refresh_token")).want(t, 400, "invalid_grant")
		if h.active(app, bound.text("access_token")) || !h.active(app, offline.text("access_token")) {
			t.Errorf("%s: bound or offline is wrong", when)
		}
	}
	check("signed out")
	h.clock.Advance(time.Second)
	if _, err := h.sessions.SignIn(t.Context(), httptest.NewRecorder(), session.Visit{Handle: ada.Session.Handle}, session.Login{UserID: ada.Account.ID, Provider: "local"}); err != nil {
		t.Fatal(err)
	}
	check("signed in again")
	h.refreshing(app, offline.text("refresh_token")).want(t, 200, "")
}

// An account that is merged into another keeps its grants, with the sub that the client
// knows; one that is deleted takes them along.
func TestGrantOfMergedAndDeletedAccount(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	ben, _, err := h.users.SignIn(t.Context(), profileAt("github", "ben"))
	if err != nil {
		t.Fatal(err)
	}
	got := h.tokensOf(app, ada, "scope", "openid profile offline_access")
	if _, err := h.users.Merge(t.Context(), ben.ID, ada.Account.ID); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(10 * time.Second)
	got = h.refreshing(app, got.text("refresh_token")).want(t, 200, "")
	if sub := claims(t, got.text("id_token"))["sub"]; sub != ada.Account.ID {
		t.Errorf("sub is %v", sub)
	}
	if info := h.info("Bearer "+got.text("access_token")).want(t, 200, ""); info.JSON["sub"] != ada.Account.ID || info.JSON["name"] != "Ben" {
		t.Errorf("userinfo %s", info.Body)
	}
	if err := h.users.Delete(t.Context(), ben.ID); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(10 * time.Second)
	h.info("Bearer "+got.text("access_token")).want(t, 401, "invalid_token")
	h.refreshing(app, got.text("refresh_token")).want(t, 400, "invalid_grant")
}

// Rule 26: the ID Token of a refresh is of the same person and sign-in; a scope that was
// narrowed is that of one access token (RFC 6749, 6).
func TestRefreshedTokens(t *testing.T) {
	h := newHouse(t, webClient)
	first := h.tokensOf(app, h.person("ada"), "scope", "openid profile email")
	h.clock.Advance(time.Hour)
	narrow := h.refreshing(app, first.text("refresh_token"), "scope", "email openid email").want(t, 200, "")
	if narrow.text("scope") != "openid email" || claims(t, narrow.text("access_token"))["scope"] != "openid email" {
		t.Errorf("narrowed to %q", narrow.text("scope"))
	}
	before, after := claims(t, first.text("id_token")), claims(t, narrow.text("id_token"))
	for _, name := range []string{"iss", "sub", "aud", "azp", "auth_time", "sid", "acr"} {
		if before[name] != after[name] {
			t.Errorf("%s was %v and is %v", name, before[name], after[name])
		}
	}
	if after["iat"] != before["iat"].(float64)+3600 {
		t.Errorf("iat %v", after["iat"])
	}
	h.refreshing(app, narrow.text("refresh_token"), "scope", "openid phone").want(t, 400, "invalid_scope")
	if none := h.refreshing(app, narrow.text("refresh_token"), "scope", "email").want(t, 200, ""); none.JSON["id_token"] != nil {
		t.Error("an ID Token without the scope openid")
	}
	wide := h.refreshing(app, narrow.text("refresh_token")).want(t, 200, "")
	if wide.text("scope") != "openid profile email" {
		t.Errorf("after a narrow token the grant has %q", wide.text("scope"))
	}
}

// Rule 28 and RFC 8707: access tokens are for the resources that were asked for; each
// endpoint narrows, none widens. Without a scope of ours they are for nobody else.
func TestResources(t *testing.T) {
	h := newHouse(t, gatewayClient, apiClient)
	ada := h.person("ada")
	request := ask("gateway", "scope", "openid offline_access")
	request["resource"] = []string{"https://api.example.org/v1", "https://files.example.org/", "https://api.example.org/v1"}
	request.Del("nothing")
	code := func() string { return h.answered(request, ada).Get("code") }
	aud := func(r response) any { return claims(t, r.want(t, 200, "").text("access_token"))["aud"] }
	both := []any{"https://api.example.org/v1", "https://files.example.org/", issuer}
	if got := aud(h.redeem(gateway, code())); !cmp.Equal(got, any(both)) {
		t.Errorf("aud %v", got)
	}
	one := h.redeem(gateway, code(), "resource", "https://files.example.org/")
	if got := aud(one); !cmp.Equal(got, any(both[1:])) {
		t.Errorf("narrowed with the code: %v", got)
	}
	again := code()
	h.redeem(gateway, again, "resource", "https://evil.example.com/").want(t, 400, "invalid_target")
	h.redeem(gateway, again, "resource", "https://ledger.example.org/books").want(t, 400, "invalid_target")
	h.redeem(gateway, again).want(t, 200, "")
	next := h.refreshing(gateway, one.text("refresh_token"), "resource", "https://api.example.org/v1", "scope", "offline_access")
	if got := aud(next); got != "https://api.example.org/v1" {
		t.Errorf("narrowed with the refresh token: %v", got)
	}
	h.info("Bearer "+next.text("access_token")).want(t, 401, "invalid_token")
	h.refreshing(gateway, next.text("refresh_token"), "resource", "https://ledger.example.org/books").want(t, 400, "invalid_target")
}

// Rule 27: a client's own token.
func TestClientCredentials(t *testing.T) {
	h := newHouse(t, gatewayClient, apiClient, spaClient)
	own := func(basic string, more ...string) response {
		return h.call(PathToken, basic, form(append([]string{"grant_type", grantCredentials}, more...)...))
	}
	got := own(gateway, "scope", "read", "resource", "https://api.example.org/v1").want(t, 200, "")
	if got.JSON["refresh_token"] != nil || got.JSON["id_token"] != nil || got.JSON["expires_in"] != 600.0 || got.text("scope") != "read" {
		t.Errorf("got %s", got.Body)
	}
	c := claims(t, got.text("access_token"))
	delete(c, "jti")
	want := map[string]any{"iss": issuer, "sub": "gateway", "client_id": "gateway", "aud": "https://api.example.org/v1", "scope": "read",
		"iat": float64(start.Unix()), "exp": float64(start.Unix() + 600)}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if !h.active(api, got.text("access_token")) {
		t.Error("not active for the resource")
	}
	plain := own(gateway).want(t, 200, "")
	if got := h.info("Bearer " + plain.text("access_token")); got.Status != 403 {
		t.Errorf("userinfo of a client: %d %s", got.Status, got.Body)
	}
	for _, scope := range []string{"openid", "profile", "session_events", "audit", "read openid"} {
		own(gateway, "scope", scope).want(t, 400, "invalid_scope")
	}
	own(gateway, "resource", "https://evil.example.com/").want(t, 400, "invalid_target")
	own("", "client_id", "spa").want(t, 400, "unauthorized_client")
	own("", "client_id", "gateway").want(t, 401, "invalid_client")
}

// Rule 8: the ID Token, claim by claim; the order of them means nothing.
func TestIDTokenGolden(t *testing.T) {
	h := newHouse(t, webClient)
	got := h.tokensOf(app, h.person("ada"))
	for name, token := range map[string]string{"id_token.json": got.text("id_token"), "access_token.json": got.text("access_token")} {
		c := claims(t, token)
		for _, random := range []string{"sid", "jti", "at_hash"} {
			if c[random] != nil {
				c[random] = "RANDOM"
			}
		}
		path := filepath.Join("testdata", name)
		if *updateGolden {
			text, _ := json.MarshalIndent(c, "", "  ")
			if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Rules 8 and 34: each client gets its algorithm, and at_hash with the hash of that.
func TestIDTokenAlgorithms(t *testing.T) {
	for alg, length := range map[string]int{"RS256": 22, "PS256": 22, "ES256": 22, "EdDSA": 43} {
		t.Run(alg, func(t *testing.T) {
			h := newHouse(t, strings.Replace(webClient, `"trusted"`, `"id_token_signed_response_alg": "`+alg+`", "trusted"`, 1))
			if err := h.tokens.Tend(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.clock.Advance(2 * time.Hour)
			got := h.tokensOf(app, h.person("ada"))
			header := decoded(t, strings.Split(got.text("id_token"), ".")[0])
			if header["alg"] != alg || header["kid"] == nil {
				t.Errorf("header %v", header)
			}
			if hash := claims(t, got.text("id_token"))["at_hash"]; hash != halfHash(alg, got.text("access_token")) || len(hash.(string)) != length {
				t.Errorf("at_hash %v", hash)
			}
			if header := decoded(t, strings.Split(got.text("access_token"), ".")[0]); header["typ"] != "at+jwt" {
				t.Errorf("header of the access token %v", header)
			}
			h.info("Bearer "+got.text("access_token")).want(t, 200, "")
		})
	}
	// OpenID Connect Core, 3.1.3.6, for the values of the example in A.3.
	if got := halfHash("RS256", "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"); got != "77QmUPtjPfzWtF2AnpK9RQ" {
		t.Errorf("at_hash of the example: %s", got)
	}
}

// Rule 7: numbers are numbers, and nothing is kept by caches.
func TestTokenAnswer(t *testing.T) {
	h := newHouse(t, webClient)
	got := h.tokensOf(app, h.person("ada"))
	names := map[string]bool{}
	for name := range maps.Keys(got.JSON) {
		names[name] = true
	}
	want := map[string]bool{"access_token": true, "token_type": true, "expires_in": true, "refresh_token": true, "id_token": true, "scope": true}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(got.Body, []byte(`"expires_in":600,`)) || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v %s", got.Header, got.Body)
	}
}

// Rule 3: whatever is sent, a description of an error has no other characters, and no
// answer is a failure of the server.
func FuzzTokenRequest(f *testing.F) {
	for _, body := range []string{
		"grant_type=authorization_code&code=x.y", "grant_type=refresh_token&refresh_token=%22%5C%0d%0a.1.2", "grant_type=client_credentials&scope=%22%5c%0a\u00e4\U0001F600",
		"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=e30.e30.e30&audience=ledger&subject_token_type=" + typeAccessToken,
		"grant_type=%00&grant_type=1", "a=%zz", "%22=1&%22=2", "grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=%ff",
	} {
		f.Add(body)
	}
	p := fuzzProvider(f)
	var entry config.Application
	if err := json.Unmarshal([]byte(gatewayClient), &entry); err != nil {
		f.Fatal(err)
	}
	p.clients.listed["gateway"], _ = newClient(entry.Name, entry.URL, entry.Client, false)
	handlers := map[string]http.Handler{PathToken: p.Token(), PathIntrospect: p.Introspect(), PathRevoke: p.Revoke(), PathDevice: p.Device()}
	f.Fuzz(func(t *testing.T, body string) {
		for path, handler := range handlers {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			r.Header.Set("Content-Type", formType)
			r.SetBasicAuth("gateway", secret)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			var answer struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatalf("%s: %s", path, w.Body)
			}
			for _, c := range []byte(answer.Error + answer.Description) {
				if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
					t.Fatalf("%s: %q", path, answer.Description)
				}
			}
		}
	})
}

// Thousands of tokens that a client has for one grant, and revokes, do not make the grant
// grow; none that was revoked is good again.
func TestGrantIsBounded(t *testing.T) {
	for _, entry := range []string{webClient, opaqueClient} {
		h := newHouse(t, entry)
		got := h.tokensOf(app, h.person("ada"))
		token := got.text("refresh_token")
		var revoked []string
		for i := range 3 * maxAccess {
			h.clock.Advance(time.Second)
			got := h.refreshing(app, token).want(t, 200, "")
			token = got.text("refresh_token")
			if i%4 < 3 {
				h.call(PathRevoke, app, form("token", got.text("access_token"))).want(t, 200, "")
				revoked = append(revoked, got.text("access_token"))
			}
		}
		id, _ := grantOf(token)
		item, err := h.grants.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if g := item.Value; len(g.Access) > maxAccess+1 || len(g.Denied) > maxAccess || len(g.Refresh.Since) > maxRotations {
			t.Errorf("%d opaque, %d denied, %d rotations", len(g.Access), len(g.Denied), len(g.Refresh.Since))
		}
		for i, token := range revoked {
			if h.active(app, token) {
				t.Errorf("revoked token %d is good", i)
			}
		}
		if last := h.refreshing(app, token).want(t, 200, ""); !h.active(app, last.text("access_token")) {
			t.Error("a new token is not good")
		}
	}
}

func decoded(t *testing.T, part string) map[string]any {
	t.Helper()
	return claims(t, fmt.Sprintf(".%s.", part))
}
