package oidc

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A device that was let in and has not asked since gets nothing once the person has
// disconnected it: it may wait on purpose.
func TestDisconnectEndsDeviceThatWaits(t *testing.T) {
	h := newHouse(t, tvClient)
	ada := h.person("ada")
	d := h.device("openid offline_access")
	if !h.decideDevice(d, true, ada) {
		t.Fatal("nobody waits")
	}
	bobs := h.device("openid")
	if !h.decideDevice(bobs, true, h.person("bob")) {
		t.Fatal("nobody waits")
	}
	if err := h.Disconnect(t.Context(), "tv", ada.Account.ID); err != nil {
		t.Fatal(err)
	}
	h.poll(d).want(t, 400, "access_denied")
	h.poll(bobs).want(t, 200, "")

	// Another one that is let in later does not help it.
	h.clock.Advance(time.Minute)
	later := h.device("openid")
	if !h.decideDevice(later, true, ada) {
		t.Fatal("nobody waits")
	}
	h.poll(d).want(t, 400, "access_denied")
	h.poll(later).want(t, 200, "")
}

// RFC 6749, 10.2, and RFC 8252, 8.6: every program on a device can say that it is an app
// without a secret, and listen where that is answered. People are asked each time.
func TestAppsOnDevicesAreAllowedEachTime(t *testing.T) {
	const app = `{"client_id": "desk", "url": "https://desk.example.org/", "token_endpoint_auth_method": "none", "application_type": "native",
		"redirect_uris": ["http://127.0.0.1/cb", "org.example.desk:/cb", "https://desk.example.org/cb"]}`
	h := newHouse(t, app, strings.NewReplacer(`"desk"`, `"trusted"`, `"native"`, `"native", "trusted": true`).Replace(app))
	ada := h.person("ada")
	for _, uri := range []string{"http://127.0.0.1:4711/cb", "org.example.desk:/cb"} {
		for range 2 {
			step := h.step(ask("desk", "redirect_uri", uri), ada)
			if step.Ask == nil || step.Ask.Task != Consent {
				t.Fatalf("%s: %+v", uri, step)
			}
			step, err := h.Decide(t.Context(), step.Ask.Interaction, Consent, true, ada)
			if err != nil || h.parameters(step).Get("code") == "" {
				t.Fatalf("%s: %+v, %v", uri, step, err)
			}
		}
		if got := h.answered(ask("desk", "redirect_uri", uri, "prompt", "none"), ada); got.Get("error") != "consent_required" {
			t.Errorf("%s: %v", uri, got)
		}
	}
	// Nobody else is answered at an https address, and the operator may vouch for an app.
	if got := h.answered(ask("desk", "redirect_uri", "https://desk.example.org/cb"), ada); got.Get("code") == "" {
		t.Errorf("got %v", got)
	}
	if got := h.answered(ask("trusted", "redirect_uri", "http://127.0.0.1:4711/cb"), ada); got.Get("code") == "" {
		t.Errorf("got %v", got)
	}
}

// What stands where others have a host is a name that everybody may write: an app does
// not get the subjects of a site by it.
func TestSectorOfAppIsNotThatOfSite(t *testing.T) {
	const site = `{"client_id": "bank", "url": "https://bank.example.org/", "client_secret": "` + secret + `", "subject_type": "pairwise",
		"redirect_uris": ["https://bank.example.org/cb"]}`
	const app = `{"client_id": "nosy", "url": "https://nosy.example.org/", "token_endpoint_auth_method": "none", "application_type": "native", "subject_type": "pairwise",
		"redirect_uris": ["org.nosy.app://bank.example.org/cb"]}`
	h := newHouse(t, site, app)
	if h.subject(h.client(t, "bank"), "somebody") == h.subject(h.client(t, "nosy"), "somebody") {
		t.Error("the app knows people as the site does")
	}
}

// Whoever has proved nothing leaves no more documents than the limit allows.
func TestLimitOfPublicClients(t *testing.T) {
	h := newHouse(t, webClient, tvClient, spaClient)
	limited := 0
	h.o.Limit = func(*http.Request) error {
		limited++
		return &Error{Code: "temporarily_unavailable", Status: http.StatusTooManyRequests}
	}
	h.call(PathDevice, "", form("client_id", "tv", "scope", "openid")).want(t, 429, "temporarily_unavailable")
	h.call(PathPush, "", ask("spa")).want(t, 429, "temporarily_unavailable")
	if limited != 2 {
		t.Errorf("asked %d times", limited)
	}
	h.push("app:"+secret, ask("app"))
	if limited != 2 {
		t.Error("a client that has proved who it is was counted")
	}
}
