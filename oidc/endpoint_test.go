package oidc

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefusalsAreSeen: an operator finds in the log which client was refused what and why,
// and in the metrics how often, but nothing of what was secret in the request.
func TestRefusalsAreSeen(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	var log strings.Builder
	h.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	var counted []string
	h.o.Refused = func(endpoint, code string) { counted = append(counted, endpoint+" "+code) }
	h.o.Issued = func(client, grantType string) { counted = append(counted, client+" got "+grantType) }
	who := h.person("ada")

	code := h.answered(ask("app"), who).Get("code")
	h.redeem("app:not-the-secret-at-all", code).want(t, 401, "invalid_client")
	h.redeem("nobody:"+secret, code).want(t, 401, "invalid_client")
	h.redeem(app, code, "code_verifier", "not the verifier").want(t, 400, "invalid_grant")
	got := h.redeem(app, code).want(t, 200, "")
	h.refreshing(app, got.text("refresh_token")).want(t, 200, "")
	h.call(PathPush, app, ask("app", "code_challenge", "")).want(t, 400, "invalid_request")
	h.step(ask("app", "redirect_uri", "https://elsewhere.example/cb"), who)
	h.told(h.step(ask("app", "scope", "openid", "max_age", "soon"), who), "invalid_request")
	h.told(h.step(ask("asking", "prompt", "none"), who), "consent_required")
	r := httptest.NewRequest("GET", PathUserInfo, nil)
	r.Header.Set("Authorization", "Bearer none-of-ours")
	if got := h.do(r); got.Status != 401 {
		t.Errorf("userinfo: %d", got.Status)
	}

	if diff := cmp.Diff([]string{
		PathToken + " invalid_client", PathToken + " invalid_client", PathToken + " invalid_grant", "app got authorization_code", "app got refresh_token",
		PathPush + " invalid_request", PathAuthorize + " invalid_request", PathAuthorize + " invalid_request", PathAuthorize + " consent_required", PathUserInfo + " invalid_token",
	}, counted); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	for i, want := range []string{PathToken + " invalid_client", PathToken + " invalid_grant", PathPush + " invalid_request", PathAuthorize + " invalid_request", PathAuthorize + " invalid_request"} {
		endpoint, code, _ := strings.Cut(want, " ")
		if i >= len(lines) || !strings.Contains(lines[i], fmt.Sprintf("endpoint=%s client_id=app error=%s description=", endpoint, code)) {
			t.Errorf("line %d is not of %s", i, want)
		}
	}
	if len(lines) != 5 {
		t.Errorf("%d lines:\n%s", len(lines), log.String())
	}
	for _, value := range []string{secret, "not-the-secret-at-all", code, "not the verifier", verifier, "none-of-ours", "elsewhere.example", got.text("refresh_token")} {
		if strings.Contains(log.String(), value) {
			t.Errorf("%q is in the log", value)
		}
	}
}

// Clients that register themselves are one in the metrics.
func TestLabelOfSelfRegistered(t *testing.T) {
	h := registering(t, RegistrationOpen)
	got := h.register(minimal).want(t, 201, "")
	c, err := h.clients.get(t.Context(), got.text("client_id"))
	if err != nil || c.label() != selfRegistered {
		t.Errorf("%v, %v", c, err)
	}
}
