package providers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

// fakeWebsite does what the test says.
type fakeWebsite struct {
	begin  func(context.Context, Login) (Departure, error)
	finish func(context.Context, Login, url.Values) (identity.Profile, error)
}

func (f fakeWebsite) Begin(ctx context.Context, l Login) (Departure, error) { return f.begin(ctx, l) }

func (f fakeWebsite) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	return f.finish(ctx, l, answer)
}

func departsTo(address string) func(context.Context, Login) (Departure, error) {
	return func(context.Context, Login) (Departure, error) {
		return Departure{URL: address, Key: "key", Keep: "keep"}, nil
	}
}

func fails(err error) func(context.Context, Login, url.Values) (identity.Profile, error) {
	return func(context.Context, Login, url.Values) (identity.Profile, error) {
		return identity.Profile{ID: "1"}, err // a strategy that forgets to return none
	}
}

var aday = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// siteOf is the guard around w.
func siteOf(w Website, now *clock.Fake, issuer func(context.Context) (string, error)) *Provider {
	p := &Provider{Provider: config.Provider{ID: "p", Template: "https://example.org/{id}?u={username}"}}
	e := &entry{opening: &opening{deps: Deps{Clock: now}}}
	e.website(p, w, issuer)
	return p
}

func TestSiteBegin(t *testing.T) {
	long := "https://example.org/?" + strings.Repeat("a", maxURLSent-len("https://example.org/?"))
	for address, good := range map[string]bool{
		"https://example.org/authorize?state=1": true, "http://localhost/authorize": true, long: true, long + "a": false,
		"": false, "/authorize": false, "//example.org/": false, "https:///authorize": false, "https:example.org": false,
		"javascript:alert(1)//example.org/": false, "javascript://example.org/%0aalert(1)": false, "data:text/html,x": false,
		"ftp://example.org/": false, "https://example.org/%zz": false, "https://example.org/\r\nSet-Cookie: x=1": false,
	} {
		p := siteOf(fakeWebsite{begin: departsTo(address)}, clock.NewFake(aday), nil)
		d, err := p.Website.Begin(t.Context(), Login{})
		if good && (err != nil || d != Departure{URL: address, Key: "key", Keep: "keep"}) || !good && (err == nil || d != Departure{}) {
			t.Errorf("%.60q: %+.60v, %v", address, d, err)
		}
	}
	p := siteOf(fakeWebsite{begin: func(ctx context.Context, l Login) (Departure, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > websiteTimeout {
			t.Error("a strategy may take any time")
		}
		return Departure{URL: "https://example.org"}, &url.Error{Op: "Post", URL: "https://example.org", Err: errors.New("refused")}
	}}, clock.NewFake(aday), nil)
	d, err := p.Website.Begin(t.Context(), Login{})
	wantUnavailable(t, err, "refused")
	if d != (Departure{}) || p.AnswerKey != stateParameter {
		t.Errorf("%+v, %q", d, p.AnswerKey)
	}
}

// TestSiteAnswers: an answer that is not one is refused before the strategy sees it.
func TestSiteAnswers(t *testing.T) {
	const issuer = "https://idp.example.org"
	for _, tc := range []struct {
		name, query string
		want        error // nil: the strategy is asked
		text        string
	}{
		{"code", "code=c&state=s", nil, ""},
		{"issuer", "code=c&state=s&iss=https%3A%2F%2Fidp.example.org", nil, ""},
		{"empty error", "code=c&state=s&error=", nil, ""},
		{"two codes", "code=c&code=d&state=s", errAny, `parameter "code" 2 times`},
		{"two states", "code=c&state=s&state=s", errAny, `parameter "state" 2 times`},
		{"two issuers", "code=c&state=s&iss=https%3A%2F%2Fidp.example.org&iss=https%3A%2F%2Fevil.example", errAny, `parameter "iss" 2 times`},
		{"two of anything", "code=c&state=s&x=1&x=2", errAny, `parameter "x" 2 times`},
		{"another issuer", "code=c&state=s&iss=https%3A%2F%2Fevil.example", errAny, `comes from "https://evil.example", not from "https://idp.example.org"`},
		{"issuer with a slash", "code=c&state=s&iss=https%3A%2F%2Fidp.example.org%2F", errAny, "comes from"},
		{"error of another issuer", "error=access_denied&iss=https%3A%2F%2Fevil.example", errAny, "comes from"},
		{"denied", "error=access_denied&error_description=No&state=s", ErrCancelled, `access_denied "No"`},
		{"denied beside a code", "code=c&error=access_denied&state=s", ErrCancelled, "access_denied"},
		{"LinkedIn", "error=user_cancelled_login", ErrCancelled, "user_cancelled_login"},
		{"prompt none", "error=login_required", ErrCancelled, "login_required"},
		{"overloaded", "error=temporarily_unavailable&error_description=later", errUnavailable, `temporarily_unavailable "later"`},
		{"broken", "error=server_error", errUnavailable, "server_error"},
		{"ours", "error=redirect_uri_mismatch&error_description=a%0Ab%1b%5B2J", errAny, `"redirect_uri_mismatch" "a\nb\x1b[2J"`},
		{"long", "error=" + strings.Repeat("e", 5000) + "&error_description=" + strings.Repeat("d", 5000), errAny, `eee" "ddd`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := false
			p := siteOf(fakeWebsite{finish: func(context.Context, Login, url.Values) (identity.Profile, error) {
				asked = true
				return identity.Profile{ID: "1"}, nil
			}}, clock.NewFake(aday), func(context.Context) (string, error) { return issuer, nil })
			answer, err := url.ParseQuery(tc.query)
			if err != nil {
				t.Fatal(err)
			}
			profile, err := p.Website.Finish(t.Context(), Login{}, answer)
			if asked != (tc.want == nil) || (profile.ID != "") != asked {
				t.Errorf("asked %v, %+v", asked, profile)
			}
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			wantKind(t, err, tc.want, tc.text)
			// Anybody can send such an answer: it says nothing of the provider.
			if h := p.Health(); h.Known != asked {
				t.Errorf("health %+v", h)
			}
		})
	}
	// Where a provider has no issuer, iss means nothing.
	p := siteOf(fakeWebsite{finish: fails(nil)}, clock.NewFake(aday), nil)
	if _, err := p.Website.Finish(t.Context(), Login{}, url.Values{"iss": {"x"}}); err != nil {
		t.Error(err)
	}
	// The issuer cannot be learned.
	p = siteOf(fakeWebsite{finish: fails(nil)}, clock.NewFake(aday), func(context.Context) (string, error) {
		return "", &url.Error{Op: "Get", URL: "https://idp", Err: errors.New("EOF")}
	})
	_, err := p.Website.Finish(t.Context(), Login{}, url.Values{"iss": {issuer}})
	wantUnavailable(t, err, "EOF")
}

// Kinds of errors beside ErrCancelled and ErrRefused.
var (
	errAny         = errors.New("any other")
	errUnavailable = errors.New("unavailable")
)

func wantKind(t *testing.T, err, want error, text string) {
	t.Helper()
	switch want {
	case nil:
		if err != nil {
			t.Errorf("got %v", err)
		}
	case errUnavailable:
		wantUnavailable(t, err, text)
	case errAny:
		wantPlain(t, err, text)
	default:
		if !errors.Is(err, want) || errors.As(err, new(*UnavailableError)) || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %v with %q", err, want, text)
		}
	}
}

// timeout is how net and net/http say that something took too long.
type timeout struct{}

func (timeout) Error() string { return "too slow" }
func (timeout) Timeout() bool { return true }

// TestSiteErrors: what a strategy returns, and what becomes of it.
func TestSiteErrors(t *testing.T) {
	connection := func(err error) error {
		return fmt.Errorf("token endpoint: %w", &url.Error{Op: "Post", URL: "https://example.org", Err: err})
	}
	for _, tc := range []struct {
		err, want error
	}{
		{errors.New("no id"), errAny},
		{fmt.Errorf("x: %w", ErrCancelled), ErrCancelled},
		{&RefusedError{"not a member"}, ErrRefused},
		{&UnavailableError{errors.New("503")}, errUnavailable},
		{connection(errors.New("connection refused")), errUnavailable},
		{connection(errLongAnswer), errAny},
		{connection(errRedirect), errAny},
		{connection(context.Canceled), context.Canceled},
		{context.DeadlineExceeded, errUnavailable},
		{fmt.Errorf("read: %w", timeout{}), errUnavailable},
		{&url.Error{Op: "parse", URL: "http://%zz", Err: errors.New("escape")}, errAny},
	} {
		for _, side := range []string{"Begin", "Finish"} {
			t.Run(fmt.Sprintf("%s %v", side, tc.err), func(t *testing.T) {
				p := siteOf(fakeWebsite{finish: fails(tc.err), begin: func(context.Context, Login) (Departure, error) {
					return Departure{URL: "https://example.org"}, tc.err
				}}, clock.NewFake(aday), nil)
				var err error
				var profile identity.Profile
				if side == "Begin" {
					_, err = p.Website.Begin(t.Context(), Login{})
				} else {
					profile, err = p.Website.Finish(t.Context(), Login{}, url.Values{"code": {"c"}})
				}
				wantKind(t, err, tc.want, "")
				if profile != (identity.Profile{}) {
					t.Errorf("a profile beside the error: %+v", profile)
				}
			})
		}
	}
}

// TestSitePanics: a strategy that falls over its provider's answer ends one login.
func TestSitePanics(t *testing.T) {
	p := siteOf(fakeWebsite{
		begin: func(context.Context, Login) (Departure, error) {
			fields := map[string][]string{}
			return Departure{URL: fields["url"][0]}, nil
		},
		finish: func(context.Context, Login, url.Values) (identity.Profile, error) {
			return identity.Profile{}, any(1).(error)
		},
	}, clock.NewFake(aday), func(context.Context) (string, error) { panic("discovery") })
	d, err := p.Website.Begin(t.Context(), Login{})
	wantPlain(t, err, "panic: runtime error: index out of range")
	if d != (Departure{}) {
		t.Errorf("%+v", d)
	}
	_, err = p.Website.Finish(t.Context(), Login{}, url.Values{"code": {"c"}})
	wantPlain(t, err, "panic: interface conversion")
	_, err = p.Website.Finish(t.Context(), Login{}, url.Values{"iss": {"x"}})
	wantPlain(t, err, "panic: discovery")
}

// TestSiteCompletes: a profile gets its provider and URI, and names fit to be shown.
func TestSiteCompletes(t *testing.T) {
	finish := func(profile identity.Profile) (identity.Profile, error) {
		p := siteOf(fakeWebsite{finish: func(context.Context, Login, url.Values) (identity.Profile, error) { return profile, nil }}, clock.NewFake(aday), nil)
		return p.Website.Finish(t.Context(), Login{}, url.Values{"code": {"c"}})
	}
	got, err := finish(identity.Profile{Provider: "another", ID: "a/b", Name: " Ada\x1b[2J\n\u202eLovelace ", Username: "a&b\x00", Upstream: `{"token":"x"}`})
	want := identity.Profile{Provider: "p", ID: "a/b", Name: "Ada[2J Lovelace", Username: "a&b", URI: "https://example.org/a%2Fb?u=a%26b"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := finish(identity.Profile{ID: "1"}); err != nil || got.URI != "" {
		t.Errorf("a URI without its username: %+v, %v", got, err)
	}
	for _, id := range []string{"", "\xff", "a\nb", strings.Repeat("a", identity.MaxID+1)} {
		got, err := finish(identity.Profile{ID: id})
		wantPlain(t, err, "id")
		if got != (identity.Profile{}) {
			t.Errorf("%.20q: %+v", id, got)
		}
	}
}

// TestSiteHealth: a provider is what it was when it was asked, and nobody but itself
// says so.
func TestSiteHealth(t *testing.T) {
	now := clock.NewFake(aday)
	var answer error
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	client := newClient(testDeps())
	p := siteOf(fakeWebsite{begin: departsTo("https://example.org"), finish: func(ctx context.Context, _ Login, query url.Values) (identity.Profile, error) {
		if query.Get("code") == "" {
			return identity.Profile{}, errors.New("no code") // before anybody is asked
		}
		_, _, err := ask(ctx, client, http.MethodGet, s.URL, "", nil, nil)
		if err == nil {
			err = answer
		}
		return identity.Profile{ID: "1"}, err
	}}, now, nil)
	login := func(query string) {
		t.Helper()
		if _, err := p.Website.Begin(t.Context(), Login{}); err != nil {
			t.Fatal(err)
		}
		values, _ := url.ParseQuery(query)
		_, _ = p.Website.Finish(t.Context(), Login{}, values)
		now.Advance(time.Minute)
	}
	want := func(up bool, at, since int, text string) {
		t.Helper()
		h := p.Health()
		if !h.Known || h.Up != up || !h.At.Equal(aday.Add(time.Duration(at)*time.Minute)) || !h.Since.Equal(aday.Add(time.Duration(since)*time.Minute)) ||
			(h.Err == nil) != up || !up && !strings.Contains(h.Err.Error(), text) {
			t.Errorf("got %+v", h)
		}
	}
	login("error=access_denied") // minute 0
	if h := p.Health(); h.Known {
		t.Errorf("nobody was asked: %+v", h)
	}
	answer = &UnavailableError{errors.New("503")}
	login("code=c") // minute 1
	want(false, 1, 1, "503")
	login("error=access_denied")
	login("error=server_error")
	login("")
	login("code=c&code=d") // minute 5
	want(false, 1, 1, "503")
	login("code=c")
	want(false, 6, 1, "503")
	answer = errors.New("no id") // an answer all the same
	login("code=c")
	want(true, 7, 7, "")
	answer = nil
	login("code=c")
	want(true, 8, 7, "")
	s.Close()
	login("code=c")
	want(false, 9, 9, "connection refused")
}
