package oidc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"login-server/config"
)

// TestComplaints compares every line that an operator would read about the clients of
// applications.json. They come in the same order each time.
func TestComplaints(t *testing.T) {
	files, err := filepath.Glob("testdata/complaints/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir, want := t.TempDir(), ""
			for _, f := range archive.Files {
				if f.Name == "problems" {
					want = string(f.Data)
				} else if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, _, err := config.Load(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := Check(cfg.Applications, cfg.LegacyFlows); err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "$DIR") + "\n"
			}
			if *updateGolden {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "problems" })
				archive.Files = append(archive.Files, txtar.File{Name: "problems", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("complaints (-want +got):\n%s", diff)
			}
			for _, secret := range []string{"long-enough-secret", "-of-two-secrets", "ada:secret"} {
				if strings.Contains(got, secret) {
					t.Errorf("%q is shown", secret)
				}
			}
		})
	}
}

// Rule 22: the lines of a file are secrets that are good at the same time, for each way
// to show one.
func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secrets"), []byte("\n  the-first-of-two-secrets-of-a-client \r\nthe-second-of-two-secrets-of-a-client"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{authBasic, authSecretJWT} {
		all, err := listed([]config.Application{{Name: "App", URL: "https://app.example.org/", Dir: dir, Client: config.Client{
			ClientID: "app", ClientSecretFile: "secrets", RedirectURIs: []string{"https://app.example.org/"}, TokenEndpointAuthMethod: method,
		}}}, false)
		if err != nil {
			t.Fatal(err)
		}
		c := all["app"]
		for secret, want := range map[string]bool{"the-first-of-two-secrets-of-a-client": true, "the-second-of-two-secrets-of-a-client": true, "": false, "the-third-of-two-secrets-of-a-client": false} {
			if c.hasSecret(secret) != want {
				t.Errorf("%s: %q: got %v", method, secret, !want)
			}
		}
		if len(c.plainSecrets()) != 2 {
			t.Errorf("%s: %d secrets in plain text", method, len(c.plainSecrets()))
		}
	}
}

// OpenID Connect Core, 8.1: the sector is a host, without a port.
func TestSector(t *testing.T) {
	for want, m := range map[string]config.Client{
		"app.example.org":    {RedirectURIs: []string{"https://App.example.org:8443/cb", "https://app.example.org/cb"}},
		"sector.example.org": {RedirectURIs: []string{"https://app.example.org/cb"}, SectorIdentifierURI: "https://sector.example.org/uris"},
		"native":             {ClientID: "native", RedirectURIs: []string{"org.example.app:/cb"}},
	} {
		if got := (&Client{Client: m}).sector(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := hosts([]string{"https://App.example.org:8443/cb", "https://app.example.org/cb"}); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestGrantsOf(t *testing.T) {
	for types, want := range map[string]string{
		"":              "authorization_code refresh_token",
		"code":          "authorization_code refresh_token",
		"code id_token": "authorization_code refresh_token implicit",
		"id_token":      "implicit",
	} {
		var list []string
		if types != "" {
			list = []string{types}
		}
		if got := strings.Join(grantsOf(list), " "); got != want {
			t.Errorf("%q: got %q, want %q", types, got, want)
		}
	}
}
