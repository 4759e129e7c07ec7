package oidc

import (
	"testing"

	"login-server/events"
)

// TestRevokeClient: an operator ends all that a client of applications.json has, and what
// another one has stays.
func TestRevokeClient(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	ada := h.person("ada")
	const asking = "asking:" + secret
	id := h.asked(h.step(ask("asking"), ada), Consent).Interaction
	got := h.redeem(asking, h.parameters(h.decide(id, Consent, true, ada)).Get("code")).want(t, 200, "")
	code := h.answered(ask("asking"), ada).Get("code")
	others := h.tokensOf(app, ada)

	grants, consents, err := NewRegistry(h.engine, h.clock).Revoke(t.Context(), "asking")
	if err != nil || grants != 1 || consents != 1 {
		t.Errorf("%d grants, %d consents, %v", grants, consents, err)
	}
	h.Forget(events.Hint{Everything: true}) // as the server does when another process has written
	if h.active(asking, got.text("access_token")) {
		t.Error("the access token is good")
	}
	h.refreshing(asking, got.text("refresh_token")).want(t, 400, "invalid_grant")
	h.redeem(asking, code).want(t, 400, "invalid_grant")
	id = h.asked(h.step(ask("asking"), ada), Consent).Interaction
	h.redeem(asking, code).want(t, 400, "invalid_grant")
	anew := h.redeem(asking, h.parameters(h.decide(id, Consent, true, ada)).Get("code")).want(t, 200, "")
	h.redeem(asking, code).want(t, 400, "invalid_grant")
	if !h.active(asking, anew.text("access_token")) {
		t.Error("what was allowed afterwards is void")
	}
	if !h.active(app, others.text("access_token")) {
		t.Error("the token of another client is void")
	}
	if grants, consents, err := h.clients.registry.Revoke(t.Context(), "asking"); grants != 1 || consents != 1 || err != nil {
		t.Errorf("once more: %d grants, %d consents, %v", grants, consents, err)
	}
}
