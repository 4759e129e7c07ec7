package oidc

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/identity"
)

func profileAt(provider, username string) identity.Profile {
	return identity.Profile{Provider: provider, ID: username, Name: strings.ToUpper(username[:1]) + username[1:], Username: username}
}

// RFC 7662: who may look, and what is told.
func TestIntrospection(t *testing.T) {
	h := newHouse(t, gatewayClient, apiClient, otherClient, spaClient)
	ada := h.person("ada")
	request := ask("gateway", "scope", "openid email")
	request["resource"] = []string{"https://api.example.org/v1"}
	got := h.redeem(gateway, h.answered(request, ada).Get("code")).want(t, 200, "")
	token := got.text("access_token")

	answer := h.introspected(gateway, token)
	if answer["jti"] == nil {
		t.Error("no jti")
	}
	for _, name := range []string{"jti", "auth_time", "sid"} {
		delete(answer, name)
	}
	want := map[string]any{"active": true, "iss": issuer, "sub": ada.Account.ID, "client_id": "gateway", "token_type": "Bearer",
		"aud": []any{"https://api.example.org/v1", issuer}, "scope": "openid email", "acr": "1", "amr": []any{"pwd"},
		"iat": float64(start.Unix()), "exp": float64(start.Unix() + 600)}
	if diff := cmp.Diff(want, answer); diff != "" {
		t.Error(diff)
	}
	if !h.active(api, token) {
		t.Error("the resource may not look at its token")
	}
	for name, what := range map[string]struct{ basic, token string }{
		"a client that it is not for":         {other, token},
		"an ID Token":                         {gateway, got.text("id_token")},
		"a refresh token, of another client":  {other, got.text("refresh_token")},
		"a refresh token, for the resource":   {api, got.text("refresh_token")},
		"a code":                              {gateway, h.code("gateway", ada)},
		"a token with another signature":      {gateway, token[:strings.LastIndex(token, ".")+1] + "AAAA"},
		"a token without a signature":         {gateway, token[:strings.LastIndex(token, ".")+1]},
		"anything":                            {gateway, "anything"},
		"a long text":                         {gateway, strings.Repeat("a.", 20_000)},
		"JSON":                                {gateway, `{"payload":"e30","signatures":[]}`},
		"a token that was made unsigned":      {gateway, "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0" + token[strings.Index(token, "."):strings.LastIndex(token, ".")+1]},
		"a token with bytes behind it":        {gateway, token + "\n"},
		"the id of a grant with what is none": {gateway, token[:grantIDLength] + ".x"},
	} {
		got := h.call(PathIntrospect, what.basic, form("token", what.token)).want(t, 200, "")
		if string(got.Body) != `{"active":false}` {
			t.Errorf("%s: %s", name, got.Body)
		}
	}
	if got := h.introspected(gateway, got.text("refresh_token")); got["active"] != true || got["token_type"] != nil {
		t.Errorf("a refresh token: %v", got)
	}
	h.call(PathIntrospect, "", form("token", token, "client_id", "spa")).want(t, 401, "invalid_client")
	h.call(PathIntrospect, "", form("token", token)).want(t, 401, "invalid_client")
	h.call(PathIntrospect, gateway, nil).want(t, 400, "invalid_request")
	h.clock.Advance(10 * time.Minute)
	if h.active(gateway, token) {
		t.Error("active after its end")
	}
}

// Of the tokens of GET /token applications of the operator hear as well.
func TestIntrospectionOfOlderTokens(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	user, _, err := h.users.JSON(t.Context(), ada.Account.ID)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := h.tokens.Sign(json.RawMessage(user), "ticket")
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := h.tokens.Sign(nil, "ticket")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"active": true, "sub": ada.Account.ID, "username": "Ada", "iat": float64(start.Unix()), "exp": float64(start.Unix() + 120)}
	if diff := cmp.Diff(want, h.introspected(app, signed.Token)); diff != "" {
		t.Error(diff)
	}
	if h.active(app, nobody.Token) {
		t.Error("a token of nobody")
	}
	// It is no access token.
	h.info("Bearer "+signed.Token).want(t, 401, "invalid_token")
	h.client(t, "app").Registered = true
	if h.active(app, signed.Token) {
		t.Error("a client that has registered itself hears of it")
	}
	h.client(t, "app").Registered = false
	if _, err := h.users.SetDisabled(t.Context(), ada.Account.ID, true); err != nil {
		t.Fatal(err)
	}
	if h.active(app, signed.Token) {
		t.Error("a token of a disabled account")
	}
	if _, err := h.users.SetDisabled(t.Context(), ada.Account.ID, false); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(2 * time.Minute)
	if h.active(app, signed.Token) {
		t.Error("active after its end")
	}
	h.clock.Advance(-time.Minute)
	if err := h.users.Delete(t.Context(), ada.Account.ID); err != nil {
		t.Fatal(err)
	}
	if h.active(app, signed.Token) {
		t.Error("active without an account")
	}
}

// Rule 28 and RFC 7009: both kinds of access tokens can be revoked, alone, and with the
// refresh token all goes. What is somebody else's, or nobody's, stays, and says nothing.
func TestRevocation(t *testing.T) {
	for _, entry := range []string{webClient, opaqueClient} {
		h := newHouse(t, entry, otherClient)
		ada := h.person("ada")
		revoke := func(basic, token, hint string) {
			t.Helper()
			if got := h.call(PathRevoke, basic, form("token", token, "token_type_hint", hint)).want(t, 200, ""); len(got.Body) > 2 {
				t.Errorf("got %s", got.Body)
			}
		}
		one, two := h.tokensOf(app, ada), h.tokensOf(app, ada)
		access, renewing := one.text("access_token"), one.text("refresh_token")
		sibling := h.refreshing(app, renewing).want(t, 200, "")
		for _, token := range []string{access, renewing, "nothing", strings.Repeat("x", 30_000)} {
			revoke(other, token, "")
		}
		if !h.active(app, access) {
			t.Fatal("another client has revoked it")
		}
		revoke(app, access, "refresh_token") // a wrong hint is no hindrance
		revoke(app, access, "")
		if h.active(app, access) || !h.active(app, sibling.text("access_token")) || !h.active(app, two.text("access_token")) {
			t.Error("not this one alone")
		}
		h.info("Bearer "+access).want(t, 401, "invalid_token")
		revoke(app, sibling.text("refresh_token"), "unknown_hint")
		if h.active(app, sibling.text("access_token")) || !h.active(app, two.text("access_token")) {
			t.Error("with the refresh token goes its grant, and no other")
		}
		h.refreshing(app, sibling.text("refresh_token")).want(t, 400, "invalid_grant")
		h.call(PathRevoke, "app:wrong-secret-of-this-client", form("token", access)).want(t, 401, "invalid_client")
		h.call(PathRevoke, app, nil).want(t, 400, "invalid_request")
	}
}

// Rules 29, 30 and 32.
func TestUserInfo(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	got := h.tokensOf(app, ada, "scope", "openid email")
	token := got.text("access_token")
	send := func(method, target, authorization, kind, body string) response {
		t.Helper()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		return h.do(r)
	}
	for _, tc := range []struct {
		name, method, target, authorization, kind, body string
		status                                          int
		code                                            string
	}{
		{"GET, header", "GET", "", "Bearer " + token, "", "", 200, ""},
		{"GET, header in lower case", "GET", "", "bearer " + token, "", "", 200, ""},
		{"POST, header", "POST", "", "Bearer " + token, "", "", 200, ""},
		{"POST, header and an empty form", "POST", "", "Bearer " + token, formType, "", 200, ""},
		{"POST, header and something else", "POST", "", "Bearer " + token, "application/json", "{}", 200, ""},
		{"POST, body", "POST", "", "", formType + "; charset=UTF-8", "access_token=" + token, 200, ""},
		{"body that is no form", "POST", "", "", "text/plain", "access_token=" + token, 401, ""},
		{"GET with a body", "GET", "", "", formType, "access_token=" + token, 401, ""},
		{"query", "GET", "?access_token=" + token, "", "", "", 400, "invalid_request"},
		{"query and header", "GET", "?access_token=" + token, "Bearer " + token, "", "", 400, "invalid_request"},
		{"header and body", "POST", "", "Bearer " + token, formType, "access_token=" + token, 400, "invalid_request"},
		{"nothing", "GET", "", "", "", "", 401, ""},
		{"Basic", "GET", "", "Basic " + token, "", "", 401, ""},
		{"unknown", "GET", "", "Bearer x", "", "", 401, "invalid_token"},
		{"a refresh token", "GET", "", "Bearer " + got.text("refresh_token"), "", "", 401, "invalid_token"},
		{"an ID Token", "GET", "", "Bearer " + got.text("id_token"), "", "", 401, "invalid_token"},
	} {
		got := send(tc.method, PathUserInfo+tc.target, tc.authorization, tc.kind, tc.body).want(t, tc.status, tc.code)
		if got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q", tc.name, got.Header.Get("Cache-Control"))
		}
		told := strings.Join(got.Header.Values("WWW-Authenticate"), "; ")
		switch {
		case tc.status == 200 && (got.JSON["sub"] != ada.Account.ID || got.JSON["name"] != nil || told != ""):
			t.Errorf("%s: %s %s", tc.name, got.Body, told)
		case tc.status != 200 && !strings.Contains(told, "Bearer "), tc.code != "" && !strings.Contains(told, `error="`+tc.code+`"`), tc.code == "" && strings.Contains(told, "error"):
			t.Errorf("%s: WWW-Authenticate %q", tc.name, told)
		}
	}
	h.clock.Advance(10 * time.Minute)
	h.info("Bearer "+token).want(t, 401, "invalid_token")
	narrow := h.refreshing(app, got.text("refresh_token"), "scope", "email").want(t, 200, "")
	if got := h.info("Bearer "+narrow.text("access_token")).want(t, 403, "insufficient_scope"); !strings.Contains(got.Header.Get("WWW-Authenticate"), "insufficient_scope") {
		t.Errorf("%v", got.Header)
	}
}

// Rule 29: a client that registered for it has a JWT, which is for nobody else.
func TestSignedUserInfo(t *testing.T) {
	h := newHouse(t, strings.Replace(webClient, `"trusted"`, `"userinfo_signed_response_alg": "RS256", "trusted"`, 1))
	ada := h.person("ada")
	got := h.info("Bearer "+h.tokensOf(app, ada).text("access_token")).want(t, 200, "")
	if got.Header.Get("Content-Type") != "application/jwt" || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", got.Header)
	}
	c := claims(t, string(got.Body))
	if diff := cmp.Diff(map[string]any{"iss": issuer, "aud": "app", "sub": ada.Account.ID, "name": "Ada"}, map[string]any{"iss": c["iss"], "aud": c["aud"], "sub": c["sub"], "name": c["name"]}); diff != "" {
		t.Error(diff)
	}
	if c["nonce"] != nil {
		t.Error("there is a nonce")
	}
	if _, err := h.tokens.VerifyJWT(string(got.Body), "JWT"); err != nil {
		t.Error(err)
	}
	// It looks like a token, and is none.
	h.info("Bearer "+string(got.Body)).want(t, 401, "invalid_token")
	if h.active(app, string(got.Body)) {
		t.Error("signed userinfo is active")
	}
}

// What a client had ends when the client is removed.
func TestGrantOfRemovedClient(t *testing.T) {
	h := newHouse(t, webClient, gatewayClient, apiClient)
	got := h.tokensOf(app, h.person("ada"))
	delete(h.clients.listed, "app")
	h.info("Bearer "+got.text("access_token")).want(t, 401, "invalid_token")
	r := httptest.NewRequest(http.MethodGet, PathUserInfo, nil)
	r.Header.Add("Authorization", "Bearer x")
	r.Header.Add("Authorization", "Bearer y")
	h.do(r).want(t, 400, "invalid_request")
}

// RFC 9701: who has registered for it, or asks for it, has the answer signed, which is no
// access token.
func TestSignedIntrospection(t *testing.T) {
	h := newHouse(t, webClient, strings.Replace(otherClient, `"trusted"`, `"introspection_signed_response_alg": "RS256", "trusted"`, 1))
	token := h.tokensOf(app, h.person("ada")).text("access_token")
	ask := func(client, accept string) response {
		r := httptest.NewRequest(http.MethodPost, PathIntrospect, strings.NewReader(form("token", token).Encode()))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Accept", accept)
		r.SetBasicAuth(client, secret)
		return h.do(r)
	}
	for client, active := range map[string]bool{"app": true, "other": false} {
		got := ask(client, map[bool]string{true: "application/token-introspection+jwt", false: "*/*"}[active])
		if got.Status != 200 || got.Header.Get("Content-Type") != "application/token-introspection+jwt" || got.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v", got.Status, got.Header)
		}
		signed := string(got.Body)
		if _, err := h.tokens.VerifyJWT(signed, "token-introspection+jwt"); err != nil {
			t.Error(err)
		}
		c := claims(t, signed)
		inner, _ := c["token_introspection"].(map[string]any)
		if c["iss"] != issuer || c["aud"] != client || c["iat"] != float64(start.Unix()) || c["sub"] != nil || c["exp"] != nil || inner["active"] != active {
			t.Errorf("claims %v", c)
		}
		h.info("Bearer "+signed).want(t, 401, "invalid_token")
		if h.active(app, signed) {
			t.Error("the answer is a token")
		}
	}
	if got := ask("app", "application/json"); got.JSON["active"] != true {
		t.Errorf("got %s", got.Body)
	}
}
