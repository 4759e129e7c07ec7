// Package openid runs clients that others have written against the program, over HTTPS with
// the program's own TLS: certified libraries in Node.js, an application in a browser, Go.
// Nothing in it reaches the Internet.
//
//	npm ci          the clients: see package.json
//	go test .       all of it
//
// Without Node.js, its packages or Chromium the tests that need them are skipped.
package openid

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/internal/testenv"
)

// The secret of clients has what an Authorization header must not have as it is (RFC 6749,
// 2.3.1).
const secret = "at least 32: 100%+/&=? characters"

// callback is where browsers are sent back to; nobody is there, who follows redirects stops
// before it.
const callback = "https://client.example/callback"

// ran is in the summary of node --test when there was something to run.
var ran = regexp.MustCompile(`(?m)^\S+ pass [1-9]`)

// newJWK makes a key for ES256: its private half as JSON, and the set to register.
func newJWK(t testing.TB) (private, public json.RawMessage) {
	t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{jwk.KeyIDKey: "client-1", jwk.AlgorithmKey: "ES256", jwk.KeyUsageKey: "sig"} {
		if err := key.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	half, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if private, err = json.Marshal(key); err != nil {
		t.Fatal(err)
	}
	if public, err = json.Marshal(object{"keys": []any{half}}); err != nil {
		t.Fatal(err)
	}
	return private, public
}

// nodeClients are the clients of the tests in Node.js; legacy adds one with response types
// beside code.
func nodeClients(t testing.TB, legacy bool) (applications []object, settings object) {
	private, public := newJWK(t)
	const api = "https://api.example/"
	client := func(id string, more object) object {
		o := object{"url": "https://client.example/" + id + "/", "name": "Client " + id, "client_id": id, "redirect_uris": []string{callback},
			"post_logout_redirect_uris": []string{"https://client.example/bye"}}
		for name, value := range more {
			o[name] = value
		}
		return o
	}
	applications = []object{
		client("basic", object{"client_secret": secret, "resources": []string{api},
			"grant_types": []string{"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:device_code"},
			"scope":       "openid profile email offline_access identities session_events reports:read"}),
		client("post", object{"client_secret": secret, "token_endpoint_auth_method": "client_secret_post", "userinfo_signed_response_alg": "ES256", "access_token_format": "opaque"}),
		client("keys", object{"token_endpoint_auth_method": "private_key_jwt", "jwks": public, "id_token_signed_response_alg": "ES256",
			"authorization_signed_response_alg": "PS256", "dpop_bound_access_tokens": true, "require_pushed_authorization_requests": true}),
		client("fapi", object{"token_endpoint_auth_method": "private_key_jwt", "jwks": public, "fapi": true, "trusted": true, "access_token_format": "jwt"}),
		client("public", object{"token_endpoint_auth_method": "none", "trusted": true, "resources": []string{api}}),
	}
	if legacy {
		applications = append(applications, client("hybrid", object{"client_secret": secret, "token_endpoint_auth_method": "client_secret_jwt", "trusted": true,
			"response_types": []string{"code", "id_token", "code id_token"}, "grant_types": []string{"authorization_code", "implicit"}}))
	}
	return applications, object{"secret": secret, "callback": callback, "api": api, "key": private}
}

// TestNode runs the tests of the clients for Node.js, each with a server of its own.
func TestNode(t *testing.T) {
	for client, more := range map[string][]string{
		"openid-client": {"OIDC_LEGACY_FLOWS=true", "CLIENT_REGISTRATION=open"},
		"oauth4webapi":  nil,
	} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			testenv.NeedNode(t, 20)
			testenv.NeedPackages(t, ".", client)
			applications, settings := nodeClients(t, len(more) > 0)
			settings["issuer"] = startServer(t, applications, more...).issuer
			runNodeTests(t, client+".test.mjs", settings)
		})
	}
}
