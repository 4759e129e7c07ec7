package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

const (
	meMethod         = "/2.3/me"
	associatedMethod = "/2.3/me/associated"
)

// fakeStackExchange answers with what was given for each method: status 200 unless it is
// an error, always compressed.
type fakeStackExchange struct {
	*upstream
	answers map[string]object

	mu    sync.Mutex
	calls map[string]int
}

func newStackExchange(t *testing.T, answers map[string]object) *fakeStackExchange {
	f := &fakeStackExchange{answers: answers, calls: map[string]int{}}
	f.upstream = newUpstream(t, "/oauth/access_token/json", meMethod, associatedMethod)
	f.profile = func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if !query.Has("access_token") {
			body, _ := json.Marshal(object{"error_id": 403, "error_name": "access_denied", "error_message": "no access token"})
			compressed(w, http.StatusBadRequest, body)
			return
		}
		f.mu.Lock()
		f.calls[r.URL.Path]++
		f.mu.Unlock()
		want := url.Values{"key": {oauthKey}, "access_token": {oauthToken}}
		if r.URL.Path == meMethod {
			want.Set("site", "stackoverflow")
		}
		if query.Encode() != want.Encode() || r.Header.Get("Authorization") != "" || r.UserAgent() != "login-server/1.2.3" {
			t.Errorf("asked %s with %v", r.URL, r.Header)
		}
		answer := f.answers[r.URL.Path]
		status := http.StatusOK
		if answer["error_id"] != nil {
			status = http.StatusBadRequest
		}
		body, err := json.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		compressed(w, status, body)
	}
	return f
}

// called returns how often a method was called since the last time.
func (f *fakeStackExchange) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.calls[method]
	f.calls[method] = 0
	return n
}

func (f *fakeStackExchange) options() object {
	return object{"clientID": oauthClient, "clientSecret": oauthSecret, "sessionKey": oauthKey, "baseURL": f.URL}
}

// users is an answer with these items.
func users(items ...object) object {
	if items == nil {
		items = []object{}
	}
	return object{"items": items, "has_more": false, "quota_max": 10000, "quota_remaining": 9999}
}

func TestStackExchange(t *testing.T) {
	for _, tc := range []struct {
		name           string
		me, associated object
		want           identity.Profile
	}{
		{"account on the site", users(object{"account_id": 1234567890123456789, "user_id": 22656, "display_name": "Ada"}), nil,
			identity.Profile{ID: "1234567890123456789", Name: "Ada"}},
		{"HTML entities", users(object{"account_id": 7, "display_name": "D&#39;Arcy &amp; S&#248;n &lt;b&gt; &quot;x&quot;"}), nil,
			identity.Profile{ID: "7", Name: `D'Arcy & Søn <b> "x"`}},
		{"entities are decoded once", users(object{"account_id": 7, "display_name": "&amp;lt;"}), nil,
			identity.Profile{ID: "7", Name: "&lt;"}},
		{"control characters as entities", users(object{"account_id": 7, "display_name": "Ada&#10;&#x202e;L&#0;"}), nil,
			identity.Profile{ID: "7", Name: "Ada L"}},
		{"name missing", users(object{"account_id": 7, "user_id": 8}), nil,
			identity.Profile{ID: "7"}},
		{"no account on the site", users(), users(object{"account_id": 7, "user_id": 8, "site_name": "Mathematics"}, object{"account_id": 7, "user_id": 9}),
			identity.Profile{ID: "7"}},
		{"associated users with names", users(), users(
			object{"account_id": 7, "display_name": "Old", "last_access_date": 1}, object{"account_id": 7, "display_name": "New&amp;", "last_access_date": 3},
			object{"account_id": 7, "last_access_date": 9}, object{"account_id": 7, "display_name": "Middle", "last_access_date": 2}),
			identity.Profile{ID: "7", Name: "New&"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, form := range []bool{false, true} {
				f := newStackExchange(t, map[string]object{meMethod: tc.me, associatedMethod: tc.associated})
				f.form = form
				p := open(t, "stackexchange", f.options())
				tc.want.Provider = "p"
				got, err := f.login(t.Context(), p)
				if err != nil || got != tc.want {
					t.Errorf("got %+v, %v", got, err)
				}
				if n, want := f.called(associatedMethod), min(1, len(tc.associated)); n != want {
					t.Errorf("/me/associated was called %d times", n)
				}
				if err := p.Prober.Probe(t.Context()); err != nil {
					t.Errorf("Probe: %v", err)
				}
			}
		})
	}
	for _, tc := range []struct {
		name           string
		me, associated object
		want           string
	}{
		{"no account at all", users(), users(), "no account at any site"},
		{"no account_id", users(object{"user_id": 7, "display_name": "Ada"}), nil, "no account_id"},
		{"account_id of a bot", users(object{"account_id": -1}), nil, "no account_id"},
		{"a text", users(object{"account_id": "ada"}), nil, "no account_id"},
		{"no items", object{"quota_max": 1}, nil, meMethod + ": the answer is not JSON as documented"},
		{"items of two people", users(), users(object{"account_id": 7}, object{"account_id": 8}), "not the same"},
		{"none, then no items", users(), object{}, associatedMethod + ": the answer is not JSON as documented"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newStackExchange(t, map[string]object{meMethod: tc.me, associatedMethod: tc.associated})
			_, err := f.login(t.Context(), open(t, "stackexchange", f.options()))
			wantPlain(t, err, tc.want)
		})
	}
}

// TestStackExchangeErrors: the wrapper tells what is wrong, with status 400 for all.
func TestStackExchangeErrors(t *testing.T) {
	for _, tc := range []struct {
		id      int
		name    string
		passing bool
	}{
		{400, "bad_parameter", false}, {402, "invalid_access_token", false}, {403, "access_denied", false}, {405, "key_required", false},
		{406, "access_token_compromised", false}, {500, "internal_error", true}, {502, "throttle_violation", true}, {503, "temporarily_unavailable", true},
	} {
		for _, method := range []string{meMethod, associatedMethod} {
			f := newStackExchange(t, map[string]object{meMethod: users()})
			// A message that repeats what was sent.
			f.answers[method] = object{"error_id": tc.id, "error_name": tc.name, "error_message": "wrong: " + oauthToken + " " + url.QueryEscape(oauthToken) + " " + oauthKey}
			_, err := f.login(t.Context(), open(t, "stackexchange", f.options()))
			want := f.URL + method + ": error " + jsonText(tc.id) + ` "` + tc.name + `" "wrong: … … …"`
			if tc.passing {
				wantUnavailable(t, err, want)
			} else {
				wantPlain(t, err, want)
			}
		}
	}
	// An error with status 200, which JSONP would have, is no success either.
	f := newStackExchange(t, nil)
	f.profile = func(w http.ResponseWriter, _ *http.Request) {
		compressed(w, 200, []byte(`{"items":[{"account_id":7}],"error_id":402,"error_name":"invalid_access_token"}`))
	}
	_, err := f.login(t.Context(), open(t, "stackexchange", f.options()))
	wantPlain(t, err, "invalid_access_token")
	// The token endpoint refuses as Facebook's did.
	f.token = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusBadRequest, object{"error": object{"type": "OAuthException", "message": "code is wrong"}})
	}
	_, err = f.login(t.Context(), open(t, "stackexchange", f.options()))
	wantPlain(t, err, `"OAuthException" "code is wrong"`)
}

func jsonText(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// TestStackExchangeRefusals: a code is worth one login, in the browser that began it.
func TestStackExchangeRefusals(t *testing.T) {
	f := newStackExchange(t, map[string]object{meMethod: users(object{"account_id": 7})})
	p := open(t, "stackexchange", f.options())
	l := aLogin(p)
	d, err := p.Website.Begin(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	answer := f.approve(l, d.URL, nil)
	stolen := l
	stolen.Verifier = aLogin(p).Verifier
	_, err = f.finish(t.Context(), p, stolen, answer)
	wantPlain(t, err, "bad_verification_code")
	_, err = f.finish(t.Context(), p, l, answer) // spent by the attempt
	wantPlain(t, err, "bad_verification_code")
	if n := f.called(meMethod); n != 0 {
		t.Errorf("the API was called %d times", n)
	}
}

// TestStackExchangeBackoff: a method that asks for rest is left alone, and only that one.
func TestStackExchangeBackoff(t *testing.T) {
	now := clock.NewFake(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	associated := users(object{"account_id": 7})
	resting := users()
	resting["backoff"] = 30
	f := newStackExchange(t, map[string]object{meMethod: resting, associatedMethod: associated})
	p := openAt(t, now, f.options())
	if _, err := f.login(t.Context(), p); err != nil {
		t.Fatalf("the answer itself is good, and the other method may be called: %v", err)
	}
	f.called(meMethod)
	f.called(associatedMethod)
	for range 2 {
		_, err := f.login(t.Context(), p)
		wantUnavailable(t, err, "left alone for another 30s")
	}
	if n := f.called(meMethod) + f.called(associatedMethod); n != 0 {
		t.Errorf("called %d times", n)
	}
	now.Advance(30 * time.Second)
	f.answers[meMethod] = users(object{"account_id": 8})
	if got, err := f.login(t.Context(), p); err != nil || got.ID != "8" || f.called(meMethod) != 1 {
		t.Errorf("after the rest: %+v, %v", got, err)
	}

	// An error may ask for rest too, and no answer for more than an hour of it.
	f.answers[meMethod] = object{"error_id": 502, "error_name": "throttle_violation", "backoff": int64(1) << 62}
	_, err := f.login(t.Context(), p)
	wantUnavailable(t, err, "throttle_violation")
	_, err = f.login(t.Context(), p)
	wantUnavailable(t, err, "left alone for another 1h0m0s")
	now.Advance(time.Hour)
	f.answers[meMethod] = object{"items": []object{{"account_id": 8}}, "backoff": -9223372037} // times 10^9 is a large positive int64
	for range 2 {
		if _, err := f.login(t.Context(), p); err != nil {
			t.Errorf("after an hour: %v", err)
		}
	}
}

func openAt(t *testing.T, now *clock.Fake, options object) *Provider {
	t.Helper()
	p, _ := openWith(t, withClock(now), config.Provider{ID: "p", Strategy: "stackexchange", Name: "P"}, options)
	return p
}

// TestStackExchangeWaits: a rest of seconds is waited for, unless the person goes.
func TestStackExchangeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stackExchange{clock: clock.System{}, rest: map[string]time.Time{}}
		await := func(ctx context.Context) (time.Duration, error) {
			start := time.Now()
			err := s.await(ctx, "m")
			return time.Since(start), err
		}
		if took, err := await(t.Context()); took != 0 || err != nil {
			t.Errorf("nothing to wait for: %v, %v", took, err)
		}
		s.leaveAlone("m", 3)
		s.leaveAlone("m", 1) // does not shorten it
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if took, err := await(ctx); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("less patience: %v, %v", took, err)
		}
		// Somebody else makes it longer meanwhile.
		time.AfterFunc(time.Second, func() { s.leaveAlone("m", 4) })
		if took, err := await(t.Context()); took != 5*time.Second || err != nil {
			t.Errorf("got %v, %v", took, err)
		}
		s.leaveAlone("m", 6)
		if took, err := await(t.Context()); took != 0 || !errors.As(err, new(*UnavailableError)) {
			t.Errorf("too long: %v, %v", took, err)
		}
	})
}

func TestStackExchangeOptions(t *testing.T) {
	s := func(more object) *stackExchange {
		options := object{"clientID": "x", "clientSecret": "y"}
		for name, value := range more {
			options[name] = value
		}
		return open(t, "stackexchange", options).Website.(*site).website.(*stackExchange)
	}
	got := s(object{"stackAppsKey": "k"})
	if e := got.config.Endpoint; e.AuthURL != "https://stackoverflow.com/oauth" || e.TokenURL != "https://stackoverflow.com/oauth/access_token/json" ||
		got.url != "https://api.stackexchange.com/2.3/me" || got.key != "k" || got.site != "stackoverflow" {
		t.Errorf("%+v", got)
	}
	got = s(object{"sessionKey": "k", "stackAppsKey": "k", "site": "dba.stackexchange.com", "profileURL": "http://localhost/me", "scope": "no_expiry"})
	if got.url != "http://localhost/me" || got.site != "dba.stackexchange.com" || got.key != "k" {
		t.Errorf("%+v", got)
	}
	d, _ := got.Begin(t.Context(), Login{})
	if u, err := url.Parse(d.URL); err != nil || u.Query().Get("scope") != "no_expiry" {
		t.Errorf("%s", d.URL)
	}
}

func TestStackExchangeBadServers(t *testing.T) {
	badUpstreams(t, func(t *testing.T) (*upstream, *Provider) {
		f := newStackExchange(t, map[string]object{meMethod: users(object{"account_id": 7})})
		return f.upstream, open(t, "stackexchange", f.options())
	})
	// What no decompressor accepts.
	f := newStackExchange(t, nil)
	f.profile = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, `{"items":[{"account_id":7}]}`)
	}
	if _, err := f.login(t.Context(), open(t, "stackexchange", f.options())); err == nil {
		t.Error("a broken answer is accepted")
	}
	// Small on its way, 4 MiB here.
	f.profile = func(w http.ResponseWriter, _ *http.Request) { compressed(w, 200, bytes.Repeat([]byte(" "), 4<<20)) }
	_, err := f.login(t.Context(), open(t, "stackexchange", f.options()))
	wantPlain(t, err, errLongAnswer.Error())
}
