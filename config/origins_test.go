package config

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func testConfig(t testing.TB, environ ...string) *Config {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "applications.json", `[
		{"url": "https://app.example.org/deep/er/", "name": "Deeper"},
		{"url": "https://app.example.org/deep", "name": "Deep"},
		{"url": "https://APP.example.org:443", "name": "App"},
		{"url": "http://[::1]:8080/", "name": "Six"},
		{"url": "https://other.example.org/cocoda/", "name": "Cocoda"}
	]`)
	write(t, dir, "providers.json", "[]")
	cfg, _ := load(t, dir, append([]string{"BASE_URL=https://example.org/login/", "ALLOWED_ORIGINS=https://api.example.org"}, environ...)...)
	return cfg
}

func TestApplicationFor(t *testing.T) {
	cfg := testConfig(t)
	for referrer, want := range map[string]string{
		"https://app.example.org":                              "App",
		"https://app.example.org/":                             "App",
		"https://app.example.org/?a=b#c":                       "App",
		"HTTPS://App.Example.Org:443/x":                        "App",
		"https://app.example.org/deep":                         "Deep",
		"https://app.example.org/deep/":                        "Deep",
		"https://app.example.org/deep?x":                       "Deep",
		"https://app.example.org/deeper":                       "App",
		"https://app.example.org/deep/er/":                     "Deeper",
		"https://app.example.org/deep/er/x":                    "Deeper",
		"https://app.example.org/deep/er":                      "Deep",
		"http://[0:0::1]:8080/x":                               "Six",
		"https://other.example.org/cocoda/x":                   "Cocoda",
		"https://other.example.org/cocoda":                     "",
		"https://other.example.org/":                           "",
		"https://app.example.org.evil.com/":                    "",
		"https://app.example.org:444/":                         "",
		"http://app.example.org/":                              "",
		"https://app.example.org@evil.com/":                    "",
		"https://evil.com/https://app.example.org/":            "",
		"https://other.example.org/cocoda/../x":                "",
		"https://other.example.org/cocoda/%2e%2E/x":            "",
		"https://other.example.org/cocoda/..%2fx":              "",
		"https://other.example.org/cocoda/..;a=b/x":            "",
		"https://other.example.org\\cocoda/":                   "",
		"":                                                     "",
		"app.example.org":                                      "",
		"/deep":                                                "",
		"https://app.example.org/\x00":                         "",
		"https://app.example.org/" + strings.Repeat("x", 5000): "",
	} {
		app, ok := cfg.ApplicationFor(referrer)
		if app.Name != want || ok != (want != "") {
			t.Errorf("%.60q: got %q, %v, want %q", referrer, app.Name, ok, want)
		}
	}
}

func TestAllowedRedirect(t *testing.T) {
	cfg := testConfig(t)
	for target, want := range map[string]string{
		"/login/account":             "https://example.org/login/account",
		"/":                          "https://example.org/",
		"/login/account?a=b%20c#d":   "https://example.org/login/account?a=b%20c#d",
		"https://example.org/login/": "https://example.org/login/",
		"https://EXAMPLE.org:443":    "https://example.org/",
		"https://api.example.org/x?redirect=//evil.com": "https://api.example.org/x?redirect=//evil.com",
		"https://app.example.org/ä b":                   "https://app.example.org/%C3%A4%20b",
		"https://other.example.org/cocoda/?x":           "https://other.example.org/cocoda/?x",
	} {
		got, err := cfg.AllowedRedirect(target)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", target, got, err, want)
		}
	}
	for _, target := range []string{
		"", " ", "account", "//evil.com", "///evil.com", "/\\evil.com", "\\\\evil.com", "/\tevil.com", "/\n/evil.com", "\t//evil.com", "/..//evil.com", "/.//evil.com", "/%2e%2e//evil.com",
		"javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "https:evil.com", "https:/evil.com", "https:///evil.com", "http:\\\\evil.com",
		"https://evil.com", "https://example.org.evil.com", "https://example.org@evil.com", "https://example.org:pw@evil.com/", "https://evil.com#https://example.org/", "https://evil.com\\@example.org/",
		"https://example.org\\.evil.com", "https://ｅxample.org/", "https://example。org/", "https://example.org／.evil.com", "https://example.org℀.evil.com", "https://exam\u00adple.org/", "https://EXAMPLE.ORG%2eevil.com/",
		"http://example.org/", "https://example.org:8443/", "ftp://example.org/", "https://example.org:/", "https://example.org:0/", "https://other.example.org/", "https://other.example.org/cocoda/../../x",
		"https://api.example.org./", "https://[::1]:8080/", "http://[::1%25eth0]:8080/", "https://example.org/\x7f", "https://example.org/\u0085", "https://example.org/\xff", "https://user@example.org/", "blob:https://example.org/x",
		" https://example.org/", "https://example.org/ ", "https://example.org/%5c..%5c", "https:// example.org/", "https://example.org /",
	} {
		if got, err := cfg.AllowedRedirect(target); !errors.Is(err, ErrRedirect) {
			t.Errorf("%q leads to %q (%v), want ErrRedirect", target, got, err)
		}
	}
}

// FuzzAllowedRedirect: whatever is let through lies, once more parsed from what is
// sent to the browser, at one of the allowed places.
func FuzzAllowedRedirect(f *testing.F) {
	cfg := testConfig(f)
	for _, s := range []string{"/account", "//evil.com", "https://example.org/x", "https://app.example.org/deep/x?y#z", "https:\\\\evil.com", "/\\evil.com", "https://example.org@evil.com/",
		"https://other.example.org/cocoda/%2e%2e/x", "https://xn--bcher-kva.example/", "http://[::1]:8080/a", "/%09/evil.com", "https://example.org:443/ä"} {
		f.Add(s)
	}
	allowed := []string{"https://example.org/", "https://api.example.org/", "https://app.example.org/", "http://[::1]:8080/", "https://other.example.org/cocoda/"}
	f.Fuzz(func(t *testing.T, target string) {
		got, err := cfg.AllowedRedirect(target)
		if err != nil {
			if got != "" || !errors.Is(err, ErrRedirect) {
				t.Fatalf("%q: %q, %v", target, got, err)
			}
			return
		}
		inside := false
		for _, prefix := range allowed {
			inside = inside || strings.HasPrefix(got, prefix)
		}
		if !inside {
			t.Fatalf("%q leads to %q", target, got)
		}
		for _, r := range got {
			if r <= ' ' || r >= 0x7f || r == '\\' || r == '"' || r == '<' || r == '>' {
				t.Fatalf("%q: %q has the character %q", target, got, r)
			}
		}
		u, err := url.Parse(got)
		if err != nil || u.User != nil {
			t.Fatalf("%q: %q is not a plain URL", target, got)
		}
		// Clients that resolve dots come out at the same place.
		if resolved := u.ResolveReference(&url.URL{}).EscapedPath(); strings.HasPrefix(got, "https://other.example.org/") && !strings.HasPrefix(resolved, "/cocoda/") {
			t.Fatalf("%q: %q is resolved to %q", target, got, resolved)
		}
		if again, err := cfg.AllowedRedirect(got); err != nil || again != got {
			t.Fatalf("%q: %q is refused or changed the second time: %q, %v", target, got, again, err)
		}
	})
}

func TestAllowedOrigin(t *testing.T) {
	cfg := testConfig(t)
	byHand := &Config{AllowedOrigins: cfg.AllowedOrigins}
	for origin, want := range map[string]bool{
		"https://example.org": true, "https://api.example.org": true, "https://app.example.org": false, "http://example.org": false,
		"https://example.org/": false, "https://EXAMPLE.org": false, "null": false, "": false, "*": false, "https://api.example.org.evil.com": false,
	} {
		if got := cfg.AllowedOrigin(origin); got != want {
			t.Errorf("AllowedOrigin(%q) = %v", origin, got)
		}
		if got := byHand.AllowedOrigin(origin); got != want {
			t.Errorf("AllowedOrigin(%q) = %v for a Config made by hand", origin, got)
		}
	}
}

func BenchmarkAllowedOrigin(b *testing.B) {
	cfg := testConfig(b)
	for b.Loop() {
		cfg.AllowedOrigin("https://api.example.org")
	}
}
