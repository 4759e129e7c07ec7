package main

import (
	"errors"
	"log/slog"
	"net/url"
	"testing"

	"login-server/config"
	"login-server/credential"
	"login-server/identity"
)

// What an account that lives here is proved with goes with it, also if providers.json has had
// the entry for such accounts only since the start; and with nobody else's identity of that id.
func TestReleasedCredential(t *testing.T) {
	cfg := &config.Config{
		DataDir: t.TempDir(), BaseURL: &url.URL{Scheme: "http", Host: "localhost:3004", Path: "/"}, SessionSecrets: []string{"0123456789abcdef0123456789abcdef"},
		Providers: []config.Provider{{ID: "other", Strategy: "oidc"}},
	}
	p, err := openProgram(t.Context(), cfg, slog.New(slog.DiscardHandler), upstream{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	c, err := p.credentials.Create(ctx, func(*credential.Credential) {})
	if err != nil {
		t.Fatal(err)
	}
	gone := func(provider string) bool {
		t.Helper()
		a, _, err := p.users.SignIn(ctx, identity.Profile{Provider: provider, ID: c.ID, Name: "Ada"})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.users.Delete(ctx, a.ID); err != nil {
			t.Fatal(err)
		}
		_, err = p.credentials.Get(ctx, c.ID)
		if err != nil && !errors.Is(err, credential.ErrNotFound) {
			t.Fatal(err)
		}
		return err != nil
	}
	read := append(cfg.Providers, config.Provider{ID: "account", Strategy: "account"})
	p.listed.Store(&read)
	if gone("other") {
		t.Error("the end of another provider's identity has taken the credential")
	}
	if !gone("account") {
		t.Error("the credential outlives its account")
	}
}
