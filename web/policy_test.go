package web

import (
	"strings"
	"testing"
)

// Clients name the address of their logo and where their answers go: neither may add
// anything else to the policy of a page.
func TestPolicyFor(t *testing.T) {
	const policy = "default-src 'none'; img-src 'self' data:; form-action 'self' https:; base-uri 'none'"
	for _, tc := range []struct{ answer, logo, images, forms string }{
		{"https://app.example.org/cb?a=b", "https://pictures.example.net:8443/a.svg", "'self' https://pictures.example.net:8443 data:", "'self' https://app.example.org https:"},
		{"com.example.app:/cb", "", "'self' data:", "'self' com.example.app: https:"},
		{"http://[::1]:7000/cb", "http://127.0.0.1/a.png", "'self' http://127.0.0.1 data:", "'self' http://[::1]:7000 https:"},
		{"", "https://a.example;script-src 'unsafe-inline'/x", "'self' data:", "'self' https:"},
		{"https://a.example;script-src/x", "https://a.example;script-src/x", "'self' data:", "'self' https:"},
		{"https://a.example,b/", "https://*/a.png", "'self' data:", "'self' https:"},
		{"not an address\n", "data:image/png;base64,AA", "'self' data:", "'self' https:"},
		{"https://ada@a.example/", "//a.example/x", "'self' data:", "'self' https://a.example https:"},
	} {
		want := "default-src 'none'; img-src " + tc.images + "; form-action " + tc.forms + "; base-uri 'none'"
		if got := policyFor(policy, tc.answer, []string{tc.logo}); got != want {
			t.Errorf("%q, %q:\n got %s\nwant %s", tc.answer, tc.logo, got, want)
		}
	}
	if strings.Contains(policyFor(policy, "", []string{"", "https://a.example/1", "https://b.example/2"}), "  ") {
		t.Error("spaces")
	}
}
