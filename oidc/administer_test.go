package oidc

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"login-server/config"
	"login-server/events"
)

// storedClient adds a confidential client to the store, and returns its name and secret.
func (h *house) storedClient(id string, change func(*config.Client)) string {
	h.Helper()
	m := config.Client{ClientID: id, RedirectURIs: []string{"https://" + id + ".example.org/cb"}, Trusted: true, Origins: []string{"https://" + id + ".example.org"}}
	if change != nil {
		change(&m)
	}
	_, given, err := NewRegistry(h.engine, h.clock).Add(h.Context(), id, "", m, true)
	if err != nil {
		h.Fatal(err)
	}
	return id + ":" + given
}

func (h *house) disable(id string, disabled bool) {
	h.Helper()
	if err := h.DisableClient(h.Context(), id, disabled); err != nil {
		h.Fatal(err)
	}
}

// A client that is disabled gets nothing, and nothing that it has is good; enabled again, all
// is as before.
func TestDisableClient(t *testing.T) {
	h := newHouse(t, webClient)
	var hints []events.Hint
	h.o.Changed = func(x events.Hint) { hints = append(hints, x) }
	ada := h.person("ada")
	basic := h.storedClient("stored", nil)
	request := func(changes ...string) map[string][]string {
		return ask("stored", append([]string{"redirect_uri", "https://stored.example.org/cb", "scope", "openid offline_access session_events"}, changes...)...)
	}
	exchanged := func(code string) response {
		return h.redeem(basic, code, "redirect_uri", "https://stored.example.org/cb")
	}
	first := exchanged(h.answered(request(), ada).Get("code")).want(t, 200, "")
	code := h.answered(request(), ada).Get("code")
	access := first.text("access_token")
	r := httptest.NewRequest(http.MethodGet, issuer+PathEvents, nil)
	r.Header.Set("Authorization", "Bearer "+access)
	opened, err := h.EventAccess(r)
	if err != nil {
		t.Fatal(err)
	}
	if !h.AllowsOrigin(t.Context(), "https://stored.example.org") {
		t.Error("its pages are unknown before")
	}

	h.disable("stored", true)
	if len(hints) == 0 || hints[len(hints)-1].Client != "stored" {
		t.Errorf("the other nodes hear %+v", hints)
	}
	h.info("Bearer "+access).want(t, 401, "invalid_token")
	if checked, err := h.Check(t.Context(), access); err != nil || checked.Active {
		t.Errorf("its access token: %+v, %v", checked, err)
	}
	h.call(PathIntrospect, basic, form("token", access)).want(t, 401, "invalid_client")
	h.refreshing(basic, first.text("refresh_token")).want(t, 401, "invalid_client")
	exchanged(code).want(t, 401, "invalid_client")
	h.call(PathRevoke, basic, form("token", first.text("refresh_token"))).want(t, 401, "invalid_client")
	h.call(PathPush, basic, form("response_type", "code", "redirect_uri", "https://stored.example.org/cb")).want(t, 401, "invalid_client")
	if step, err := h.Authorize(t.Context(), request(), ada); err != nil || step.Refuse == nil || step.Refuse.Code != "invalid_client" {
		t.Errorf("it is given %+v, %v", step, err)
	}
	if _, err := h.View(t.Context(), opened); !errors.Is(err, events.ErrEnded) {
		t.Errorf("its sockets see %v", err)
	}
	if _, err := h.Sign(t.Context(), opened); !errors.Is(err, events.ErrEnded) {
		t.Errorf("its sockets get a token: %v", err)
	}
	if h.AllowsOrigin(t.Context(), "https://stored.example.org") {
		t.Error("its pages may read answers")
	}
	if e, err := h.StoredClient(t.Context(), "stored"); err != nil || !e.Disabled {
		t.Errorf("administrators see %+v, %v", e, err)
	}

	h.disable("stored", false)
	h.info("Bearer "+access).want(t, 200, "")
	h.refreshing(basic, first.text("refresh_token")).want(t, 200, "")
	if _, err := h.View(t.Context(), opened); err != nil {
		t.Errorf("enabled again, its sockets see %v", err)
	}
	if err := h.DisableClient(t.Context(), "nobody", true); !errors.Is(err, ErrNoClient) {
		t.Errorf("nobody: %v", err)
	}
	if err := h.DisableClient(t.Context(), "app", true); !errors.Is(err, ErrNoClient) {
		t.Errorf("a client of applications.json: %v", err)
	}
}

// A client that is disabled is told of the ends of sessions all the same: people are signed out there, too.
func TestDisabledClientIsToldOfLogouts(t *testing.T) {
	r := newReceiver(t)
	h, attempts := telling(t)
	basic := h.storedClient("stored", func(m *config.Client) { m.BackchannelLogoutURI = r.URL + "/stored" })
	ada := h.person("ada")
	code := h.answered(ask("stored", "redirect_uri", "https://stored.example.org/cb"), ada).Get("code")
	h.redeem(basic, code, "redirect_uri", "https://stored.example.org/cb").want(t, 200, "")
	h.disable("stored", true)
	h.remove(ada)
	if n := r.wait(t, 5*time.Second); n.path != "POST /stored" {
		t.Errorf("told: %+v", n)
	}
	if err := <-attempts; err != nil {
		t.Error(err)
	}
}
