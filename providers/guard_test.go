package providers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"login-server/config"
	"login-server/identity"
)

func accepted(t *testing.T, p *Provider, username, password string) identity.Profile {
	t.Helper()
	profile, err := p.Checker.Check(t.Context(), username, password)
	if err != nil {
		t.Fatalf("%q is not accepted: %v", username, err)
	}
	return profile
}

// refused wants a refusal without a profile, and returns it.
func refused(t *testing.T, p *Provider, username, password string) error {
	t.Helper()
	profile, err := p.Checker.Check(t.Context(), username, password)
	if !errors.Is(err, ErrRefused) || profile != (identity.Profile{}) {
		t.Errorf("%q, %q: got %+v, %v, want ErrRefused", username, password, profile, err)
	}
	return err
}

// failing wants an error that is no refusal and whose text holds neither credentials.
func failing(t *testing.T, p *Provider, ctx context.Context, username, password, want string) {
	t.Helper()
	profile, err := p.Checker.Check(ctx, username, password)
	switch {
	case err == nil || errors.Is(err, ErrRefused) || profile != (identity.Profile{}):
		t.Errorf("got %+v, %v, want a failure", profile, err)
	case !strings.Contains(err.Error(), want):
		t.Errorf("got %v, want %q in it", err, want)
	case strings.Contains(err.Error(), password):
		t.Errorf("the password is in the error: %v", err)
	}
}

// fake answers with what it was given and counts the questions.
type fake struct {
	profile identity.Profile
	err     error
	took    time.Duration
	asked   int
}

func (f *fake) Check(context.Context, string, string) (identity.Profile, error) {
	f.asked++
	time.Sleep(f.took) // within synctest only
	return f.profile, f.err
}

func TestGuardRefuses(t *testing.T) {
	f := &fake{profile: identity.Profile{ID: "1"}}
	g := &guard{checker: f, provider: &Provider{Provider: config.Provider{ID: "p"}}, now: time.Now}
	for _, c := range [][2]string{
		{"", "x"}, {"x", ""}, {"", ""}, {"a\x00b", "x"}, {"a", "x\x00"}, {"a\nb", "x"}, {"a\u0085b", "x"}, {"\xff", "x"}, {"a", "\xff"},
		{strings.Repeat("a", MaxUsername+1), "x"}, {"a", strings.Repeat("x", maxPassword+1)},
	} {
		if _, err := g.Check(t.Context(), c[0], c[1]); !errors.Is(err, ErrRefused) {
			t.Errorf("%.20q, %.20q: %v", c[0], c[1], err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Check(ctx, "a", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of ctx: %v", err)
	}
	if f.asked != 0 {
		t.Errorf("the strategy was asked %d times", f.asked)
	}
	if _, err := g.Check(t.Context(), strings.Repeat("ä", MaxUsername/2), strings.Repeat("x", maxPassword)); err != nil || f.asked != 1 {
		t.Errorf("the longest credentials: %v", err)
	}
}

func TestGuardCompletesTheProfile(t *testing.T) {
	g := &guard{provider: &Provider{Provider: config.Provider{ID: "p", Template: "https://example.org/{id}?u={username}#x"}}, now: time.Now,
		checker: &fake{profile: identity.Profile{ID: "a/b", Name: " Ada\x1b[2J\n\u202eLovelace ", Username: "a&b c"}}}
	got, err := g.Check(t.Context(), "a", "x")
	want := identity.Profile{Provider: "p", ID: "a/b", Name: "Ada[2J Lovelace", Username: "a&b c", URI: "https://example.org/a%2Fb?u=a%26b+c#x"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	g.checker = &fake{profile: identity.Profile{ID: "1", URI: "urn:x"}}
	if got, _ := g.Check(t.Context(), "a", "x"); got.URI != "urn:x" {
		t.Errorf("the URI of the profile does not win: %q", got.URI)
	}
	for _, id := range []string{"", "\xff", "a\x00b", strings.Repeat("a", identity.MaxID+1)} {
		g.checker = &fake{profile: identity.Profile{ID: id}}
		if _, err := g.Check(t.Context(), "a", "x"); err == nil || errors.Is(err, ErrRefused) {
			t.Errorf("the id %.20q is accepted: %v", id, err)
		}
	}
}

// TestGuardLogsCauses: an everyday refusal is not in the log, one that an operator can
// do something about is.
func TestGuardLogsCauses(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{ErrRefused, ""},
		{&RefusedError{"no"}, ""},
		{errors.New("down"), ""}, // returned, and logged by the caller
		{fmt.Errorf("several match: %w", ErrRefused), "level=WARN msg=\"credentials refused with a cause\" provider=p err=\"several match: credentials refused\"\n"},
	} {
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		g := &guard{checker: &fake{err: tc.err}, provider: &Provider{Provider: config.Provider{ID: "p"}}, now: time.Now, log: log}
		if _, err := g.Check(t.Context(), "ada", "x"); err == nil || out.String() != tc.want {
			t.Errorf("%v: logged %q, want %q", tc.err, &out, tc.want)
		}
	}
}

func TestExpand(t *testing.T) {
	ada := identity.Profile{ID: "58/3?#", Username: "ada", Name: "Ada Lovelace"}
	for _, tc := range []struct {
		template string
		profile  identity.Profile
		want     string
	}{
		{"", ada, ""},
		{"https://github.com/{username}", ada, "https://github.com/ada"},
		{"https://example.org/{id}/{name}", ada, "https://example.org/58%2F3%3F%23/Ada%20Lovelace"},
		{"https://example.org/?id={id}&n={name}", ada, "https://example.org/?id=58%2F3%3F%23&n=Ada+Lovelace"},
		{"cbs:{id}", identity.Profile{ID: "1999"}, "cbs:1999"},
		{"https://github.com/{username}", identity.Profile{ID: "1"}, ""},
		{"https://github.com/{username}/x", identity.Profile{Username: ".."}, ""},
		{"https://github.com/{username}", identity.Profile{Username: "ada@example.org"}, "https://github.com/ada@example.org"},
		{"https://example.org/{id}", identity.Profile{ID: "{name}", Name: "x"}, "https://example.org/%7Bname%7D"},
		{"https://example.org/{id}", identity.Profile{ID: "\"><script>"}, "https://example.org/%22%3E%3Cscript%3E"},
	} {
		if got := expand(tc.template, tc.profile); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.template, got, tc.want)
		}
	}
}

// FuzzExpand: whatever somebody is called, the URI stays below the template's path.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"ada", "..", "a/../b", "//evil.com", "%2e%2e", "?x#y", "\\", "@evil.com", "{username}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		uri := expand("https://example.org/people/{username}/x", identity.Profile{Username: name})
		if uri == "" {
			return
		}
		if !strings.HasPrefix(uri, "https://example.org/people/") || strings.Count(uri, "/") != 5 || config.SafeURI(uri) != nil || strings.ContainsAny(uri, "?#\\") {
			t.Errorf("%q: %s", name, uri)
		}
	})
}

// TestPace: refusals that took different times are answered after the same time, and
// nobody who signs in waits.
func TestPace(t *testing.T) {
	const step = 250 * time.Millisecond
	tests := []struct {
		name string
		fake fake
		want time.Duration
	}{
		{"quick refusal", fake{err: ErrRefused, took: time.Millisecond}, step},
		{"slow refusal", fake{err: ErrRefused, took: 200 * time.Millisecond}, step},
		{"refusal with a reason", fake{err: &RefusedError{"no"}, took: 3 * time.Millisecond}, step},
		{"very slow refusal", fake{err: ErrRefused, took: 300 * time.Millisecond}, 2 * step},
		{"failure", fake{err: errors.New("down"), took: time.Millisecond}, time.Millisecond},
		{"success", fake{profile: identity.Profile{ID: "1"}, took: time.Millisecond}, time.Millisecond},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				g := &guard{checker: &tc.fake, provider: &Provider{}, now: time.Now, step: step}
				_, _ = g.Check(t.Context(), "ada", "x")
				if got := time.Since(start); got != tc.want {
					t.Errorf("took %v, want %v", got, tc.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		g := &guard{checker: &fake{err: ErrRefused}, provider: &Provider{}, now: time.Now, step: step}
		if _, err := g.Check(ctx, "ada", "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a refusal waits longer than its ctx: %v", err)
		}
	})
}

func TestPacedStrategies(t *testing.T) {
	paced := map[string]bool{}
	for _, p := range []struct {
		strategy string
		options  object
	}{
		{"test", object{}}, {"local", object{}},
		{"script", object{"script": "/bin/true"}},
		{"easydb", object{"url": "http://localhost/"}}, {"cbs", object{"url": "http://localhost/", "apiKey": "k"}},
		{"ldapauth", object{"server": object{"url": "ldap://localhost", "searchBase": "dc=example", "searchFilter": "(uid={{username}})"}}},
	} {
		deps := testDeps()
		deps.RefusalStep = 0
		opened, _ := openWith(t, deps, config.Provider{ID: "p", Strategy: p.strategy, Name: "P"}, p.options)
		paced[p.strategy] = opened.Checker.(*guard).step > 0
	}
	for strategy, want := range map[string]bool{"test": false, "local": false, "script": true, "easydb": true, "cbs": true, "ldapauth": true} {
		if paced[strategy] != want {
			t.Errorf("%s: paced = %v", strategy, paced[strategy])
		}
	}
}

func TestSlots(t *testing.T) {
	s := make(slots, 1)
	if err := s.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.acquire(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.release()
	if err := s.acquire(t.Context()); err != nil {
		t.Error(err)
	}
}
