package oidc

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Rule 40.
func TestSessionState(t *testing.T) {
	h := newHouse(t, logoutClient)
	ada := h.person("ada")
	first, second := h.answered(ask("app"), ada).Get("session_state"), h.answered(ask("app"), ada).Get("session_state")
	if first == "" || first == second {
		t.Errorf("got %q and %q, want two different salts", first, second)
	}
	_, salt, ok := strings.Cut(first, ".")
	if want := stateHash("app", "https://app.example.org", h.sessions.BrowserState(ada.Session), salt); !ok || first != want {
		t.Errorf("got %q, want %q", first, want)
	}
	if got := h.answered(ask("app"), h.person("ada")).Get("session_state"); stateHash("app", "https://app.example.org", h.sessions.BrowserState(ada.Session), got[strings.Index(got, ".")+1:]) == got {
		t.Error("two sessions have the same browser state")
	}
	if strings.Contains(first, ada.Session.Handle) {
		t.Error("session_state shows the handle")
	}
	if got := h.answered(ask("app", "scope", "profile"), ada); got.Has("session_state") {
		t.Errorf("without openid: %v", got)
	}
}

func TestOriginOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://app.example.org/cb?x=1": "https://app.example.org",
		"https://APP.example.org:443/cb": "https://app.example.org",
		"https://app.example.org:8443/":  "https://app.example.org:8443",
		"http://127.0.0.1:80/cb":         "http://127.0.0.1",
		"http://[::1]:3000/cb":           "http://[::1]:3000",
		"com.example.app:/cb":            "",
		"app://host/cb":                  "",
		"":                               "",
		"%":                              "",
	} {
		if got := originOf(address); got != want {
			t.Errorf("%q: got %q, want %q", address, got, want)
		}
	}
}

func TestCheckSessionPage(t *testing.T) {
	h := newHouse(t, logoutClient)
	page := h.do(httptest.NewRequest(http.MethodGet, PathCheckSession, nil))
	policy := page.Header.Get("Content-Security-Policy")
	_, rest, _ := strings.Cut(policy, "'nonce-")
	nonce, _, _ := strings.Cut(rest, "'")
	if page.Status != 200 || len(nonce) < 16 || !strings.Contains(string(page.Body), `nonce="`+nonce+`"`) {
		t.Errorf("got %d, policy %q", page.Status, policy)
	}
	if !strings.Contains(policy, "frame-ancestors *") || page.Header.Get("X-Frame-Options") != "" || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
	if !strings.Contains(string(page.Body), `"`+h.sessions.StateCookie()+`"`) {
		t.Errorf("the page does not know its cookie: %s", page.Body)
	}
	if again := h.do(httptest.NewRequest(http.MethodGet, PathCheckSession, nil)); again.Header.Get("Content-Security-Policy") == policy {
		t.Error("the nonce is the same twice")
	}
	metadata := h.do(httptest.NewRequest(http.MethodGet, PathConfiguration, nil)).JSON
	for name, want := range map[string]any{
		"end_session_endpoint": issuer + "/oauth/logout", "check_session_iframe": issuer + "/oauth/check_session",
		"frontchannel_logout_supported": true, "frontchannel_logout_session_supported": true,
		"backchannel_logout_supported": true, "backchannel_logout_session_supported": true,
	} {
		if metadata[name] != want {
			t.Errorf("%s is %v, want %v", name, metadata[name], want)
		}
	}
}
