package oidc

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"login-server/config"
)

const fapiClient = `{"client_id": "bank", "name": "Bank", "url": "https://app.example.org/", "fapi": true, "trusted": true,
	"redirect_uris": ["https://app.example.org/cb"], "jwks": `

func fapiEntry(t testing.TB) string {
	return fapiClient + jsonOf(object{"keys": []any{jwkOf(t, ecKeys()[0].Public(), nil), jwkOf(t, rsaKey().Public(), nil)}}) + `}`
}

// bank is a client that does everything as FAPI 2.0 has it.
type bank struct {
	*house
	key prover
}

// call posts a form with an assertion, and a proof unless there are others.
func (b bank) call(path string, values url.Values, proofs ...string) response {
	b.Helper()
	values.Set("client_assertion_type", assertionType)
	if values.Get("client_assertion") == "" {
		values.Set("client_assertion", signed(b, "ES256", ecKeys()[0], nil, b.claimsOf("bank", nil)))
	}
	return b.proving(path, "", values, proofs...)
}

// code pushes a request and has it answered.
func (b bank) code(who *Person, changes ...string) string {
	b.Helper()
	pushed := b.call(PathPush, ask("bank", changes...))
	if pushed.Status != 201 {
		b.Fatalf("%d %s", pushed.Status, pushed.Body)
	}
	return b.answered(form("client_id", "bank", "request_uri", pushed.text("request_uri")), who).Get("code")
}

func redemption(code string) url.Values {
	return form("grant_type", "authorization_code", "code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier)
}

// TestFAPI: rules 41 to 44, the way that works.
func TestFAPI(t *testing.T) {
	h := newHouse(t, fapiEntry(t))
	b := bank{h, h.prover(1)}
	ada := h.person("ada")
	got := b.call(PathToken, redemption(b.code(ada)), b.key.token()).want(t, 200, "")
	if got.JSON["token_type"] != "DPoP" {
		t.Errorf("%s", got.Body)
	}
	// No JWT of ours is of RS256 (FAPI 2.0 Security Profile, 5.4.1).
	for _, name := range []string{"access_token", "id_token"} {
		head, _, _ := strings.Cut(got.text(name), ".")
		text, _ := base64.RawURLEncoding.DecodeString(head)
		if !strings.Contains(string(text), `"PS256"`) {
			t.Errorf("%s has the header %s", name, text)
		}
	}
	token := got.text("access_token")
	if info := h.info("DPoP "+token, b.key.proof("GET", PathUserInfo, object{"ath": hashSecret(token)})); info.Status != 200 {
		t.Errorf("%d %s", info.Status, info.Body)
	}
	// Rule 44: the refresh token stays the same, at each use and long after, and with another key.
	refresh := got.text("refresh_token")
	for i, key := range []prover{b.key, b.key, h.prover(2), b.key} {
		again := b.call(PathToken, form("grant_type", "refresh_token", "refresh_token", refresh), key.token()).want(t, 200, "")
		if again.text("refresh_token") != refresh {
			t.Errorf("after %d: another refresh token", i)
		}
		h.clock.Advance(10 * time.Minute)
	}
}

// TestFAPIRefused: what a FAPI 2.0 client is refused (rules 41 to 44).
func TestFAPIRefused(t *testing.T) {
	h := newHouse(t, fapiEntry(t), service("other", byKey(t, "")))
	b := bank{h, h.prover(1)}
	ada := h.person("ada")
	with := func(values url.Values, alg string, key any, changes object) url.Values {
		values.Set("client_assertion", signed(t, alg, key, nil, h.claimsOf("bank", changes)))
		return values
	}
	withoutPKCE := ask("bank", "code_challenge", "", "code_challenge_method", "")
	plain := ask("bank", "code_challenge_method", "plain")
	// The code is the same: whoever is refused has not used it.
	code := b.code(ada)
	rsaProof := func(alg string) string {
		return signed(t, alg, rsaKey(), object{"typ": "dpop+jwt", "jwk": jwkOf(t, rsaKey().Public(), nil)},
			object{"jti": jti(), "htm": "POST", "htu": issuer + PathToken, "iat": h.clock.Now().Unix()})
	}
	secretForm := redemption(code)
	secretForm.Set("client_id", "bank")
	for _, tc := range []struct {
		name   string
		got    response
		status int
		code   string
	}{
		{"no authentication", h.proving(PathToken, "", secretForm, b.key.token()), 401, "invalid_client"},
		{"a secret", h.proving(PathToken, "bank:"+secret, redemption(code), b.key.token()), 401, "invalid_client"},
		{"an assertion of RS256", b.call(PathToken, with(redemption(code), "RS256", rsaKey(), nil), b.key.token()), 401, "invalid_client"},
		{"an assertion for the token endpoint", b.call(PathToken, with(redemption(code), "ES256", ecKeys()[0], object{"aud": issuer + PathToken}), b.key.token()), 401, "invalid_client"},
		{"an assertion for the issuer in a list", b.call(PathToken, with(redemption(code), "ES256", ecKeys()[0], object{"aud": []any{issuer}}), b.key.token()), 401, "invalid_client"},
		{"an assertion for the PAR endpoint, there", b.call(PathPush, with(ask("bank"), "ES256", ecKeys()[0], object{"aud": issuer + PathPush})), 401, "invalid_client"},
		{"no proof", b.call(PathToken, redemption(code)), 400, "invalid_dpop_proof"},
		{"a proof of RS256", b.call(PathToken, redemption(code), rsaProof("RS256")), 400, "invalid_dpop_proof"},
		{"no code_verifier", b.call(PathToken, form("grant_type", "authorization_code", "code", code, "redirect_uri", "https://app.example.org/cb"), b.key.token()), 400, "invalid_grant"},
		{"a pushed request without PKCE", b.call(PathPush, withoutPKCE), 400, "invalid_request"},
		{"a pushed request with plain", b.call(PathPush, plain), 400, "invalid_request"},
		{"a response type with tokens", b.call(PathPush, ask("bank", "response_type", "code id_token")), 400, "unsupported_response_type"},
		{"client_credentials, not registered", b.call(PathToken, form("grant_type", "client_credentials"), b.key.token()), 400, "unauthorized_client"},
	} {
		if tc.got.Status != tc.status || tc.got.text("error") != tc.code {
			t.Errorf("%s: %d %s", tc.name, tc.got.Status, tc.got.Body)
		}
	}
	// A request that was not pushed.
	step, err := h.Authorize(t.Context(), ask("bank"), ada)
	if err != nil {
		t.Fatal(err)
	}
	if step.Refuse == nil && h.parameters(step).Get("code") != "" || step.Ask != nil {
		t.Errorf("a request that was not pushed: %+v", step)
	}
	// PS256 is fine, and the code was not used up by all that.
	b.call(PathToken, with(redemption(code), "PS256", rsaKey(), nil), rsaProof("PS256")).want(t, 200, "")

	// Bound by dpop_jkt, or by a proof at the PAR endpoint (rule 43).
	code = b.code(ada, "dpop_jkt", b.key.thumbprint())
	b.call(PathToken, redemption(code), h.prover(2).token()).want(t, 400, "invalid_grant")
	b.call(PathToken, redemption(code), b.key.token()).want(t, 200, "")
	pushed := b.call(PathPush, ask("bank"), b.key.proof("POST", PathPush, nil)).want(t, 201, "")
	code = h.answered(form("client_id", "bank", "request_uri", pushed.text("request_uri")), ada).Get("code")
	b.call(PathToken, redemption(code), h.prover(2).token()).want(t, 400, "invalid_grant")
	b.call(PathToken, redemption(code), b.key.token()).want(t, 200, "")
	b.call(PathPush, ask("bank", "dpop_jkt", h.prover(2).thumbprint()), b.key.proof("POST", PathPush, nil)).want(t, 400, "invalid_request")
	b.call(PathPush, ask("bank"), b.key.token()).want(t, 400, "invalid_dpop_proof") // for another endpoint

	// A code lives a minute (rule 42), and not longer.
	code = b.code(ada)
	h.clock.Advance(59 * time.Second)
	old := b.code(ada)
	h.clock.Advance(time.Second)
	b.call(PathToken, redemption(code), b.key.token()).want(t, 400, "invalid_grant")
	b.call(PathToken, redemption(old), b.key.token()).want(t, 200, "")
}

// TestFAPIMetadata: what the metadata of a FAPI 2.0 client cannot have.
func TestFAPIMetadata(t *testing.T) {
	for name, change := range map[string]object{
		"token_endpoint_auth_method":        {"token_endpoint_auth_method": "client_secret_basic", "client_secret": secret},
		"token_endpoint_auth_signing_alg":   {"token_endpoint_auth_signing_alg": "RS256"},
		"id_token_signed_response_alg":      {"id_token_signed_response_alg": "RS256"},
		"userinfo_signed_response_alg":      {"userinfo_signed_response_alg": "RS256"},
		"authorization_signed_response_alg": {"authorization_signed_response_alg": "RS256"},
		"introspection_signed_response_alg": {"introspection_signed_response_alg": "RS256"},
		"request_object_signing_alg":        {"request_object_signing_alg": "RS256"},
		"response_types":                    {"response_types": []string{"code id_token"}},
		"grant_types":                       {"grant_types": []string{"authorization_code", "implicit"}},
		"require_pkce":                      {"require_pkce": false},
		"redirect_uris":                     {"redirect_uris": []string{"http://localhost/cb"}, "application_type": "native"},
		"jwks":                              {"jwks": object{"keys": []any{jwkOf(t, weakKey().Public(), nil)}}},
	} {
		var entry object
		if err := json.Unmarshal([]byte(fapiEntry(t)), &entry); err != nil {
			t.Fatal(err)
		}
		if bad := complaints(t, entry); bad != nil {
			t.Fatalf("without a change: %v", bad)
		}
		found := false
		for _, c := range complaints(t, changed(entry, change)) {
			found = found || c.Field == name && c.Text != "" && c.Remedy != ""
		}
		if !found {
			t.Errorf("%s: %v has no complaint", name, change)
		}
	}
	// Not of FAPI only: tokens from the authorization endpoint are bound to no key.
	entry := object{"client_id": "spa", "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
		"redirect_uris": []string{"https://app.example.org/cb"}, "grant_types": []string{"authorization_code", "implicit"}, "response_types": []string{"code token"}}
	if bad := complaints(t, entry); len(bad) != 1 || bad[0].Field != "response_types" {
		t.Errorf("dpop_bound_access_tokens: %v", bad)
	}
	short := object{"client_id": "svc", "token_endpoint_auth_method": "client_secret_jwt", "client_secret": secret[:31], "grant_types": []string{"client_credentials"}}
	if bad := complaints(t, short); len(bad) != 1 || bad[0].Field != "client_secret" {
		t.Errorf("a short secret: %v", bad)
	}
}

func complaints(t *testing.T, entry object) []Complaint {
	t.Helper()
	var m config.Client
	if err := json.Unmarshal([]byte(jsonOf(entry)), &m); err != nil {
		t.Fatal(err)
	}
	_, bad := newClient("App", "https://app.example.org/", m, true)
	return bad
}
