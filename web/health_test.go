package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestProviderMetrics: a provider is in the numbers from the first time that it was
// asked, down when it cannot be asked, and up when it has answered, be it no.
func TestProviderMetrics(t *testing.T) {
	code := http.StatusUnauthorized
	cbs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, `{"errors": [{"title": "Not this one."}]}`)
	}))
	t.Cleanup(cbs.Close)
	list := fmt.Sprintf(`[
		{"id": "cbs", "strategy": "cbs", "name": "CBS", "options": {"url": %q, "apiKey": "key"}},
		{"id": "quiet", "strategy": "cbs", "name": "Quiet", "options": {"url": %q, "apiKey": "key"}}
	]`, cbs.URL, cbs.URL)
	s := newServer(t, func(o *options) { o.providers = list })
	metrics := func() string {
		w := httptest.NewRecorder()
		s.running.Load().Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	check := func(want ...string) {
		t.Helper()
		got := metrics()
		for _, line := range want {
			if !strings.Contains(got, line+"\n") {
				t.Errorf("the numbers lack %q:\n%s", line, providerLines(got))
			}
		}
		if strings.Contains(got, `provider="quiet"`) {
			t.Errorf("there are numbers of a provider that was never asked:\n%s", providerLines(got))
		}
	}
	if got := metrics(); strings.Contains(got, "login_server_provider_") {
		t.Errorf("before anybody has come:\n%s", providerLines(got))
	}

	try := func() {
		t.Helper()
		s.browser().submit("login/cbs", "username", "ada", "password", "x").leadsTo("/login/cbs")
	}
	try()
	check(`login_server_provider_up{provider="cbs"} 1`,
		fmt.Sprintf(`login_server_provider_asked_timestamp_seconds{provider="cbs"} %v`, float64(s.clock.Now().Unix())))
	code = http.StatusBadGateway
	s.clock.Advance(time.Minute)
	try()
	check(`login_server_provider_up{provider="cbs"} 0`,
		fmt.Sprintf(`login_server_provider_asked_timestamp_seconds{provider="cbs"} %v`, float64(s.clock.Now().Unix())))
	code = http.StatusUnauthorized
	try()
	check(`login_server_provider_up{provider="cbs"} 1`)
}

// TestLoginsThatCannotBegin: a provider that is down before anybody has left for it has a
// failed login, too.
func TestLoginsThatCannotBegin(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	s := newServer(t, func(o *options) {
		o.providers = fmt.Sprintf(`[{"id": "op", "strategy": "oidc", "name": "OP", "options": {"issuer": %q, "clientID": "me", "clientSecret": "s"}}]`, down.URL)
	})
	s.browser().open("login/op/auth").leadsTo("/login")
	w := httptest.NewRecorder()
	s.running.Load().Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if want := `login_server_logins_total{provider="op",result="failed"} 1` + "\n"; !strings.Contains(w.Body.String(), want) {
		t.Errorf("the numbers lack %q:\n%s", want, providerLines(w.Body.String()))
	}
}

// providerLines are those of the numbers that are about providers.
func providerLines(metrics string) string {
	var lines []string
	for line := range strings.Lines(metrics) {
		if strings.Contains(line, "provider") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
