package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"login-server/session"
)

func (h *house) recorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// save gives the browser what it is known for from now on.
func (b *browser) save(m *session.Manager, known session.Browser) *http.Cookie {
	b.Helper()
	rec := b.recorder()
	b.must(m.SaveBrowser(rec, known))
	set := rec.Result().Cookies()
	if len(set) != 1 {
		b.Fatalf("%d cookies", len(set))
	}
	b.cookies[set[0].Name] = set[0]
	return set[0]
}

func TestBrowserIsKnown(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	fresh := h.Browser(b.request())
	if !fresh.New || fresh.Known("ada") || fresh.ID == "" || fresh.ID == h.Browser(b.request()).ID {
		t.Errorf("without a cookie: %+v", fresh)
	}
	fresh.SignedIn("ada")
	cookie := b.save(h.Manager, fresh)
	if cookie.Name != h.CookieName()+"-bw" || !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode ||
		cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != 400*24*60*60 || strings.Contains(cookie.Value, fresh.ID) {
		t.Errorf("the cookie: %+v", cookie)
	}
	known := h.Browser(b.request())
	if known.New || known.ID != fresh.ID {
		t.Errorf("with the cookie: %+v, want id %s", known, fresh.ID)
	}
	for _, tc := range []struct {
		ids  []string
		want bool
	}{{[]string{"ada"}, true}, {[]string{"survivor", "ada"}, true}, {[]string{"bob"}, false}, {nil, false}} {
		if got := known.Known(tc.ids...); got != tc.want {
			t.Errorf("Known(%v): %v", tc.ids, got)
		}
	}
	if known.Trusted(time.Time{}, "ada") {
		t.Error("trusted, though nobody has said so")
	}
	h.clock.Advance(399 * 24 * time.Hour)
	if !h.Browser(b.request()).Known("ada") {
		t.Error("forgotten too early")
	}
	h.clock.Advance(2 * 24 * time.Hour)
	if h.Browser(b.request()).Known("ada") {
		t.Error("known for longer than a cookie lives")
	}
}

func TestBrowserIsTrusted(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	known := h.Browser(b.request())
	known.SignedIn("bob")
	known.Trust("ada", 30*24*time.Hour)
	b.save(h.Manager, known)
	given := h.clock.Now()
	want := func(what string, since time.Time, want bool, ids ...string) {
		t.Helper()
		if got := h.Browser(b.request()).Trusted(since, ids...); got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	want("at once", time.Time{}, true, "ada")
	want("absorbed", time.Time{}, true, "survivor", "ada")
	want("another account", time.Time{}, false, "bob")
	want("a password from before", given.Add(-time.Hour), true, "ada")
	want("a password since", given.Add(time.Millisecond), false, "ada")
	h.clock.Advance(time.Hour)
	// The next sign-in without a second factor does not make it longer.
	known = h.Browser(b.request())
	known.SignedIn("ada")
	b.save(h.Manager, known)
	h.clock.Advance(30*24*time.Hour - time.Hour - time.Second)
	want("to the last second", time.Time{}, true, "ada")
	h.clock.Advance(time.Second)
	want("after 30 days", time.Time{}, false, "ada")
	if !h.Browser(b.request()).Known("ada") {
		t.Error("and it is not known any more")
	}
	known = h.Browser(b.request())
	known.Trust("ada", time.Hour)
	known.Distrust("ada")
	b.save(h.Manager, known)
	want("taken back", time.Time{}, false, "ada")
}

// TestBrowserCookieOfOthers: only what this installation has made counts, and only as the
// cookie that it was made as.
func TestBrowserCookieOfOthers(t *testing.T) {
	h := newHouse(t)
	made := h.Browser(h.browser().request())
	made.Trust("ada", time.Hour)
	good := h.browser().save(h.Manager, made).Value
	anonymous := h.browser()
	anonymous.comeBy()
	for what, value := range map[string]string{
		"empty": "", "nonsense": "nonsense", "cut off": good[:len(good)-4], "changed": good[:20] + "AAAA" + good[24:],
		"10 MB":              strings.Repeat("A", 10<<20),
		"the session cookie": anonymous.cookies[h.CookieName()].Value,
		"another secret":     h.browser().save(h.node(session.CookieOptions{Keys: [][]byte{other}}), made).Value,
		"another server":     h.browser().save(h.node(session.CookieOptions{Installation: "https://example.org/other/", Secure: true}), made).Value,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: h.BrowserCookie(), Value: value})
		if got := h.Browser(r); !got.New || got.Known("ada") || got.Trusted(time.Time{}, "ada") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	// And it is no session.
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: h.CookieName(), Value: good})
	if v, err := h.Visit(r); err != nil || v.Handle != "" || v.Session != nil {
		t.Errorf("as a session: %+v, %v", v, err)
	}
	// With rotated secrets it stays good; the first one of several counts that can be read.
	r = httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: h.BrowserCookie(), Value: "planted"})
	r.AddCookie(&http.Cookie{Name: h.BrowserCookie(), Value: good})
	if got := h.node(session.CookieOptions{Keys: [][]byte{other, key}}).Browser(r); !got.Known("ada") {
		t.Error("not known after the secret was rotated")
	}
}

// TestBrowserOfManyAccounts: the cookie stays small, and forgets whom it has not seen for long.
func TestBrowserOfManyAccounts(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	var cookie *http.Cookie
	for i := range 100 {
		known := h.Browser(b.request())
		known.Trust(fmt.Sprint("user", i), 30*24*time.Hour)
		known.SignedIn("user0") // comes every time
		cookie = b.save(h.Manager, known)
		h.clock.Advance(time.Minute)
	}
	if n := len(cookie.String()); n > 2500 {
		t.Errorf("the cookie has %d bytes", n)
	}
	known, count := h.Browser(b.request()), 0
	for i := range 100 {
		if known.Known(fmt.Sprint("user", i)) {
			count++
		}
	}
	if count != 20 || !known.Known("user0") || !known.Known("user99") || known.Known("user1") {
		t.Errorf("known to %d accounts", count)
	}
}
