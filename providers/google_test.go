package providers

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"login-server/clock"
	"login-server/identity"
)

// genuine opens a provider of a public service, with o in its place.
func genuine(t *testing.T, strategy, issuer, env string, options object) (*Provider, *openIDProvider, []string) {
	t.Helper()
	o := makeOpenIDProvider()
	o.issuer = issuer
	deps := Deps{Clock: clock.NewFake(testTime), Transport: inMemory{t, map[string]http.Handler{issuer[len("https://"):]: o}}}
	raw := oidcOptionsOf(o, options)
	delete(raw, "issuer")
	cfg := oidcConfig(t, raw)
	cfg.Env, cfg.Providers[0].Strategy = env, strategy
	set, warnings, err := Open(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := set.Get("p")
	return p, o, warnings
}

func TestGoogle(t *testing.T) {
	p, o, _ := genuine(t, "google", "https://accounts.google.com", "production", object{"hd": "Example.org", "prompt": "select_account"})
	o.claims = func(c object) { c["iss"], c["hd"] = "accounts.google.com", "example.org" }
	want := identity.Profile{Provider: "p", ID: "248289761001", Name: "Ada Lovelace"}
	if diff := cmp.Diff(want, entered(t, p, o)); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"hd": "example.org", "prompt": "select_account", "scope": "openid profile"} {
		if got := o.authURL.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, tc := range []struct {
		option string
		claim  any
		reason string
	}{
		{"example.org", "example.org", ""},
		{"example.org", nil, "Please sign in with a Google account of example.org."},
		{"example.org", "evil.example", "Please sign in with a Google account of example.org."},
		{"example.org", []string{"example.org"}, "Please sign in with a Google account of example.org."},
		{"*", "evil.example", ""},
		{"*", nil, "Please sign in with the Google account of an organization."},
		{"", nil, ""},
	} {
		o := newOpenIDProvider(t)
		o.claims = func(c object) { c["hd"] = tc.claim }
		p := openOIDC(t, "google", o, object{"hd": tc.option})
		_, err := goThrough(t, p, o)
		var refusal *RefusedError
		switch {
		case tc.reason == "" && err != nil, tc.reason != "" && (!errors.As(err, &refusal) || refusal.Reason != tc.reason):
			t.Errorf("hd %q, claim %v: %v", tc.option, tc.claim, err)
		}
	}
	t.Run("the iss without a scheme, of another", func(t *testing.T) {
		o := newOpenIDProvider(t)
		o.claims = func(c object) { c["iss"] = "accounts.google.com" }
		keptOut(t, openOIDC(t, "google", o, nil), o, "issued by a different provider")
	})
}
