package session_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"login-server/session"
)

// stateHouse has a manager with the cookie for scripts, and notes which sessions ended.
func stateHouse(t *testing.T, secure bool) (*house, *session.Manager, *[]session.Session) {
	h := newHouse(t)
	ended := &[]session.Session{}
	return h, session.NewManager(h.engine, session.Options{
		Cookie:   session.CookieOptions{Installation: "https://example.org/", Secure: secure, Keys: [][]byte{bytes.Repeat([]byte{7}, 32)}, State: true},
		Lifetime: time.Hour, Now: h.clock.Now, CacheSize: 10, CacheAge: time.Second,
		Ended: func(_ context.Context, s session.Session) { *ended = append(*ended, s) },
	}), ended
}

func cookieNamed(t *testing.T, rec *httptest.ResponseRecorder, name string) *http.Cookie {
	t.Helper()
	all := rec.Result().Cookies()
	i := slices.IndexFunc(all, func(c *http.Cookie) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no cookie %s in %v", name, all)
	}
	return all[i]
}

func TestStateCookie(t *testing.T) {
	for _, secure := range []bool{true, false} {
		h, m, ended := stateHouse(t, secure)
		rec := httptest.NewRecorder()
		s, err := m.SignIn(t.Context(), rec, session.Visit{}, login("ada"))
		h.must(err)
		c := cookieNamed(t, rec, m.StateCookie())
		if c.Value != m.BrowserState(s) || c.HttpOnly || c.Secure != secure || c.Path != "/" || c.Domain != "" {
			t.Errorf("cookie %+v", c)
		}
		if want := map[bool]http.SameSite{true: http.SameSiteNoneMode, false: http.SameSiteLaxMode}[secure]; c.SameSite != want {
			t.Errorf("secure %t: SameSite %v, want %v", secure, c.SameSite, want)
		}
		r := httptest.NewRequest("GET", "/", nil)
		for _, c := range rec.Result().Cookies() {
			r.AddCookie(c)
		}
		v, err := m.Visit(r)
		h.must(err)
		rec = httptest.NewRecorder()
		h.must(m.SignOut(t.Context(), rec, v))
		if out := cookieNamed(t, rec, m.StateCookie()); out.Value == c.Value || out.Value == "" {
			t.Errorf("after signing out: %+v", out)
		}
		// The same cookie again: the session has ended already.
		v, err = m.Visit(r)
		h.must(err)
		h.must(m.SignOut(t.Context(), httptest.NewRecorder(), v))
		if len(*ended) != 1 || (*ended)[0].Handle != s.Handle || !(*ended)[0].Created.Equal(s.Created) {
			t.Errorf("ended: %+v", *ended)
		}
	}
}

// Whoever ends a session, the hook hears of it once the session is gone.
func TestEnded(t *testing.T) {
	h, m, ended := stateHouse(t, true)
	var handles []string
	for range 4 {
		s, err := m.SignIn(t.Context(), httptest.NewRecorder(), session.Visit{}, login("ada"))
		h.must(err)
		handles = append(handles, s.Handle)
	}
	if m.Remove(t.Context(), handles[0], "ben") == nil || m.Remove(t.Context(), "unknown", "ada") == nil || len(*ended) != 0 {
		t.Errorf("what was refused has ended: %v", *ended)
	}
	h.must(m.Remove(t.Context(), handles[0], "ada"))
	if _, err := m.RemoveAll(t.Context(), handles[1], "ada"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range *ended {
		got = append(got, s.Handle)
		if _, err := m.Get(t.Context(), s.Handle); err == nil {
			t.Errorf("%s is told of, and lives", s.Handle)
		}
	}
	want := []string{handles[0], handles[2], handles[3]}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("ended %v, want %v", got, want)
	}
}
