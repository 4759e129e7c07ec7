package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"login-server/config"
	"login-server/events"
	"login-server/oidc"
)

// register sends a registration from a page of another site, as scripts of clients do.
func (s *server) register(body string) (*http.Response, map[string]any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, strings.TrimSuffix(s.base, "/")+oidc.PathRegister, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := s.transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(data, &answer); err != nil && resp.StatusCode != http.StatusNotFound {
		s.t.Fatalf("%d %s: %v", resp.StatusCode, data, err)
	}
	return resp, answer
}

const redirects = `{"redirect_uris": ["https://client.example.org/cb"]}`

// Registrations are counted by address, right or wrong.
func TestRegistrationRate(t *testing.T) {
	s := newServer(t, env("CLIENT_REGISTRATION", "open"), env("RATE_LIMIT_MAX", "3"))
	for i, body := range []string{redirects, `{}`, redirects} {
		if resp, _ := s.register(body); resp.StatusCode != []int{201, 400, 201}[i] {
			t.Errorf("%d: got %d", i, resp.StatusCode)
		}
	}
	resp, answer := s.register(redirects)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || answer["error"] != "temporarily_unavailable" {
		t.Errorf("got %d, %v", resp.StatusCode, answer)
	}
}

func TestRegistrationIsOff(t *testing.T) {
	if resp, _ := newServer(t).register(redirects); resp.StatusCode != 404 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// A client that a command removes is gone as soon as the server is told that somebody
// else has written.
func TestClientRemovedElsewhere(t *testing.T) {
	s := newServer(t)
	registry := oidc.NewRegistry(s.store, s.clock)
	_, secret, err := registry.Add(t.Context(), "Service", "", config.Client{ClientID: "service", GrantTypes: []string{"client_credentials"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, strings.TrimSuffix(s.base, "/")+oidc.PathToken, strings.NewReader("grant_type=client_credentials"))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("service", secret)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := s.transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(); got != 200 {
		t.Fatalf("got %d", got)
	}
	if _, err := registry.Remove(t.Context(), "service"); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != 200 {
		t.Fatalf("got %d: it was not in memory, and this test shows nothing", got)
	}
	s.running.Load().Bus.Publish(events.Hint{Everything: true})
	if got := ask(); got != 401 {
		t.Errorf("got %d, want 401", got)
	}
}
