package oidc

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (h *house) exchanging(basic, token string, more ...string) response {
	h.Helper()
	return h.call(PathToken, basic, form(append([]string{"grant_type", grantExchange, "subject_token", token, "subject_token_type", typeAccessToken}, more...)...))
}

// RFC 8693: a token for another audience says for whom it is and who acts, lives no longer
// than the first, and ends with its grant.
func TestExchange(t *testing.T) {
	h := newHouse(t, gatewayClient, apiClient, ledgerClient, spaClient)
	ada := h.person("ada")
	first := h.tokensOf(gateway, ada, "scope", "openid email offline_access")
	h.clock.Advance(4 * time.Minute)
	got := h.exchanging(gateway, first.text("access_token"), "audience", "ledger", "scope", "email").want(t, 200, "")
	if got.text("issued_token_type") != typeAccessToken || got.text("token_type") != "Bearer" || got.JSON["expires_in"] != 360.0 ||
		got.JSON["refresh_token"] != nil || got.JSON["id_token"] != nil || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %s", got.Body)
	}
	pairwise := h.subject(h.client(t, "ledger"), ada.Account.ID)
	c := claims(t, got.text("access_token"))
	delete(c, "jti")
	want := map[string]any{"iss": issuer, "sub": pairwise, "aud": "ledger", "client_id": "gateway", "scope": "email", "acr": "1", "amr": []any{"pwd"},
		"act": map[string]any{"sub": "gateway"}, "auth_time": float64(start.Unix()), "iat": float64(start.Unix() + 240), "exp": float64(start.Unix() + 600)}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	// Whom it is for looks at it, and may go on with it, as one more who acts.
	if answer := h.introspected(ledger, got.text("access_token")); answer["active"] != true || answer["sub"] != pairwise {
		t.Errorf("introspection: %v", answer)
	}
	if h.active(api, got.text("access_token")) {
		t.Error("active for somebody whom it is not for")
	}
	further := h.exchanging(ledger, got.text("access_token"), "resource", "https://files.example.org/").want(t, 200, "")
	c = claims(t, further.text("access_token"))
	if diff := cmp.Diff(any(map[string]any{"sub": "ledger", "act": map[string]any{"sub": "gateway"}}), c["act"]); diff != "" || c["scope"] != "email" {
		t.Errorf("scope %v, act %s", c["scope"], diff)
	}
	// It is not for this server.
	for _, token := range []string{got.text("access_token"), further.text("access_token")} {
		h.info("Bearer "+token).want(t, 401, "invalid_token")
	}
	// By its address the ledger is the same, and knows the person by the same sub.
	byURL := h.exchanging(gateway, first.text("access_token"), "resource", "https://ledger.example.org/books").want(t, 200, "")
	if c := claims(t, byURL.text("access_token")); c["sub"] != pairwise || c["scope"] != "openid email" {
		t.Errorf("sub %v, scope %v", c["sub"], c["scope"])
	}
	// One of them can be revoked, and with the grant all are.
	h.call(PathRevoke, gateway, form("token", byURL.text("access_token"))).want(t, 200, "")
	if h.active(ledger, byURL.text("access_token")) || !h.active(ledger, got.text("access_token")) {
		t.Error("not this one alone")
	}
	h.call(PathRevoke, gateway, form("token", first.text("refresh_token"))).want(t, 200, "")
	if h.active(ledger, got.text("access_token")) || h.active(ledger, further.text("access_token")) {
		t.Error("active without the grant")
	}
}

// Whatever is not delegation between clients of this server is refused.
func TestExchangeRefusals(t *testing.T) {
	h := newHouse(t, gatewayClient, apiClient, ledgerClient, webClient, otherClient)
	ada := h.person("ada")
	h.client(t, "gateway").Scope += " session_events"
	first := h.tokensOf(gateway, ada, "scope", "openid email session_events")
	token, foreign := first.text("access_token"), h.tokensOf(app, ada).text("access_token")
	for name, tc := range map[string]struct {
		basic, token string
		more         []string
		code         string
	}{
		"another client's token":      {gateway, foreign, []string{"audience", "ledger"}, "invalid_request"},
		"not for this client":         {ledger, token, []string{"resource", "https://files.example.org/"}, "invalid_request"},
		"an ID Token":                 {gateway, first.text("id_token"), []string{"audience", "ledger"}, "invalid_request"},
		"a refresh token":             {gateway, first.text("refresh_token"), []string{"audience", "ledger"}, "invalid_request"},
		"no audience":                 {gateway, token, nil, "invalid_request"},
		"an audience not listed":      {gateway, token, []string{"audience", "other"}, "invalid_target"},
		"an unknown audience":         {gateway, token, []string{"audience", "nobody"}, "invalid_target"},
		"this server":                 {gateway, token, []string{"audience", issuer}, "invalid_target"},
		"a resource not listed":       {gateway, token, []string{"resource", "https://ledger.example.org/other"}, "invalid_target"},
		"two audiences":               {gateway, token, []string{"audience", "ledger", "resource", "https://files.example.org/"}, "invalid_target"},
		"a wider scope":               {gateway, token, []string{"audience", "ledger", "scope", "email profile"}, "invalid_scope"},
		"session_events":              {gateway, token, []string{"audience", "ledger", "scope", "session_events"}, "invalid_scope"},
		"offline_access":              {gateway, token, []string{"audience", "ledger", "scope", "offline_access"}, "invalid_scope"},
		"an actor":                    {gateway, token, []string{"audience", "ledger", "actor_token", token, "actor_token_type", typeAccessToken}, "invalid_request"},
		"another type wanted":         {gateway, token, []string{"audience", "ledger", "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"},
		"a client not registered":     {app, foreign, []string{"audience", "ledger"}, "unauthorized_client"},
		"no token":                    {gateway, "", []string{"audience", "ledger"}, "invalid_request"},
		"a type that is given double": {gateway, token, []string{"audience", "ledger", "subject_token_type", "x"}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) { h.exchanging(tc.basic, tc.token, tc.more...).want(t, 400, tc.code) })
	}
	got := h.call(PathToken, gateway, form("grant_type", grantExchange, "subject_token", token, "audience", "ledger",
		"subject_token_type", "urn:ietf:params:oauth:token-type:id_token"))
	got.want(t, 400, "invalid_request")
	// Not for ever in a circle.
	h.client(t, "ledger").Resources = []string{"https://ledger.example.org/"}
	token = h.exchanging(gateway, token, "audience", "ledger").want(t, 200, "").text("access_token")
	for range maxActors - 1 {
		token = h.exchanging(ledger, token, "audience", "ledger").want(t, 200, "").text("access_token")
	}
	h.exchanging(ledger, token, "audience", "ledger").want(t, 400, "invalid_request")
	// And not after its end.
	h.clock.Advance(10 * time.Minute)
	h.exchanging(gateway, first.text("access_token"), "audience", "ledger").want(t, 400, "invalid_request")
	// A public client never.
	h.client(t, "gateway").TokenEndpointAuthMethod = authNone
	h.exchanging("", first.text("access_token"), "audience", "ledger", "client_id", "gateway").want(t, 400, "unauthorized_client")
}

// A token that is bound to a key is exchanged by who has the key, for one bound to it.
func TestExchangeOfBoundToken(t *testing.T) {
	h := newHouse(t, gatewayClient, ledgerClient)
	key, thief := h.prover(0), h.prover(1)
	redeem := form("grant_type", grantCode, "code", h.code("gateway", h.person("ada")), "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier)
	token := h.proving(PathToken, gateway, redeem, key.token()).want(t, 200, "").text("access_token")
	values := form("grant_type", grantExchange, "subject_token", token, "subject_token_type", typeAccessToken, "audience", "ledger")
	h.call(PathToken, gateway, values).want(t, 400, "invalid_dpop_proof")
	h.proving(PathToken, gateway, values, thief.token()).want(t, 400, "invalid_grant")
	got := h.proving(PathToken, gateway, values, key.token()).want(t, 200, "")
	cnf, _ := claims(t, got.text("access_token"))["cnf"].(map[string]any)
	if got.text("token_type") != "DPoP" || cnf["jkt"] != key.thumbprint() {
		t.Errorf("token_type %q, cnf %v", got.text("token_type"), cnf)
	}
}
