package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/session"
	"login-server/store/sqlite"
	"login-server/store/storetest"
)

const lifetime = 30 * 24 * time.Hour

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key   = bytes.Repeat([]byte{1}, 32)
	other = bytes.Repeat([]byte{2}, 32)
)

// house is a manager over a real store, with a clock to move and a list of what it tells others.
type house struct {
	*testing.T
	*session.Manager
	clock  *clock.Fake
	engine *storetest.FaultyEngine
	mu     sync.Mutex
	told   []string
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, clock: clock.NewFake(start)}
	h.engine = storetest.Faulty(teststore.Open(t, h.clock.Now))
	h.Manager = h.node(session.CookieOptions{})
	return h
}

// node is another manager of the same sessions, with its own memory. What is not
// set in o is as it is everywhere.
func (h *house) node(o session.CookieOptions) *session.Manager {
	if o.Installation == "" {
		o.Installation, o.Secure = "https://example.org/", true
	}
	if o.Keys == nil {
		o.Keys = [][]byte{key}
	}
	return session.NewManager(h.engine, session.Options{
		Cookie: o, Lifetime: lifetime, Now: h.clock.Now, CacheSize: 1000, CacheAge: time.Hour,
		Changed: func(handle string, removed bool) {
			if removed {
				handle = "removed " + handle
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.told = append(h.told, handle)
		},
	})
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// browser keeps cookies, and takes them to one of the managers.
type browser struct {
	*house
	cookies map[string]*http.Cookie
}

func (h *house) browser() *browser { return &browser{house: h, cookies: map[string]*http.Cookie{}} }

// copy is another browser with the same cookies.
func (b *browser) copy() *browser {
	c := b.house.browser()
	for name, cookie := range b.cookies {
		c.cookies[name] = cookie
	}
	return c
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	return r
}

func (b *browser) visitTo(m *session.Manager) session.Visit {
	b.Helper()
	v, err := m.Visit(b.request())
	b.must(err)
	return v
}

func (b *browser) visit() session.Visit {
	b.Helper()
	return b.visitTo(b.Manager)
}

// answer is a request whose answer may set cookies; it returns those.
func (b *browser) answer(f func(w http.ResponseWriter, v session.Visit) error) []*http.Cookie {
	b.Helper()
	rec := httptest.NewRecorder()
	b.must(f(rec, b.visit()))
	set := rec.Result().Cookies()
	for _, c := range set {
		b.cookies[c.Name] = c
	}
	return set
}

// comeBy is a page view.
func (b *browser) comeBy() []*http.Cookie {
	b.Helper()
	return b.answer(func(w http.ResponseWriter, v session.Visit) error {
		_, err := b.Welcome(b.Context(), w, v)
		return err
	})
}

func login(user string) session.Login {
	return session.Login{UserID: user, Provider: "test", Application: "Cocoda", Address: "192.0.2.1", UserAgent: "Browser/1"}
}

func (b *browser) signIn(user string) session.Session {
	b.Helper()
	var s session.Session
	b.answer(func(w http.ResponseWriter, v session.Visit) (err error) {
		s, err = b.SignIn(b.Context(), w, v, login(user))
		return err
	})
	return s
}

func (b *browser) signOut() {
	b.Helper()
	b.answer(func(w http.ResponseWriter, v session.Visit) error { return b.SignOut(b.Context(), w, v) })
}

// wantSignedIn checks who the browser is signed in as; empty for nobody.
func (b *browser) wantSignedIn(user string) {
	b.Helper()
	got := ""
	if s := b.visit().Session; s != nil {
		got = s.UserID
	}
	if got != user {
		b.Errorf("signed in as %q, want %q", got, user)
	}
}

func TestCookie(t *testing.T) {
	tests := []struct {
		what    string
		options session.CookieOptions
		want    http.Cookie
	}{
		{"http", session.CookieOptions{Installation: "http://localhost:3004/"},
			http.Cookie{Name: "login-9be36661", SameSite: http.SameSiteLaxMode}},
		{"https", session.CookieOptions{Installation: "https://example.org/", Secure: true},
			http.Cookie{Name: "__Host-login-8198d1ba", Secure: true, SameSite: http.SameSiteLaxMode}},
		{"https for other sites", session.CookieOptions{Installation: "https://example.org/", Secure: true, CrossSite: true},
			http.Cookie{Name: "__Host-login-8198d1ba", Secure: true, SameSite: http.SameSiteNoneMode}},
		{"http for other sites, which browsers would refuse", session.CookieOptions{Installation: "http://localhost:3004/", CrossSite: true},
			http.Cookie{Name: "login-9be36661", SameSite: http.SameSiteLaxMode}},
	}
	h := newHouse(t)
	for _, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			h := &house{T: t, Manager: h.node(tc.options), clock: h.clock, engine: h.engine}
			for _, set := range [][]*http.Cookie{h.browser().comeBy(), func() []*http.Cookie {
				b := h.browser()
				b.signIn("ada")
				return []*http.Cookie{b.cookies[h.CookieName()]}
			}()} {
				if len(set) != 1 || set[0] == nil {
					t.Fatalf("got %d cookies, want 1", len(set))
				}
				got := *set[0]
				if got.Value == "" {
					t.Error("the cookie is empty")
				}
				got.Value, got.Raw = "", ""
				want := tc.want
				want.Path, want.HttpOnly, want.MaxAge = "/", true, int(lifetime/time.Second)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("cookie (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestAnonymousVisitorsCostNoWrite(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.comeBy()
	handle := b.visit().Handle
	if handle == "" {
		t.Fatal("the visitor has no handle")
	}
	for range 10 {
		h.clock.Advance(3 * time.Hour)
		b.comeBy()
		if got := b.visit(); got.Handle != handle || got.Session != nil {
			t.Fatalf("got %+v, want the same handle and no session", got)
		}
	}
	b.signOut()
	if n := h.engine.Writes(); n != 0 {
		t.Errorf("%d writes", n)
	}
	if set := b.comeBy(); len(set) != 0 {
		t.Error("a fresh cookie was replaced within a minute")
	}
	h.clock.Advance(lifetime + time.Second)
	if got := b.visit(); got.Handle != "" {
		t.Error("the cookie opens after its lifetime, had the browser kept it")
	}
}

func TestSignInAndOut(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.comeBy()
	handle := b.visit().Handle
	anonymous := b.copy()
	s := b.signIn("ada")
	if s.Handle != handle {
		t.Error("the handle has changed: sockets would have to follow")
	}
	b.wantSignedIn("ada")
	want := session.Session{
		Handle: handle, Secret: s.Secret, SignIn: s.SignIn, UserID: "ada", Provider: "test", AuthTime: start, Application: "Cocoda",
		Address: "192.0.2.1", UserAgent: "Browser/1", Created: start, LastSeen: start, Expires: start.Add(lifetime),
	}
	if got, err := h.Get(t.Context(), handle); err != nil || !cmp.Equal(want, got) {
		t.Errorf("session (-want +got), %v:\n%s", err, cmp.Diff(want, got))
	}
	signedIn := b.copy()

	b.signOut()
	b.wantSignedIn("")
	if got := b.visit(); got.Handle != handle {
		t.Error("signing out has changed the handle")
	}
	if got := signedIn.visit(); got.Session != nil || !got.Stale || got.Handle != "" {
		t.Errorf("the cookie of before: got %+v, want it to be stale", got)
	}
	_, err := h.Get(t.Context(), handle)
	if !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
	b.signIn("bob")
	b.wantSignedIn("bob")
	anonymous.wantSignedIn("")
	if diff := cmp.Diff([]string{handle, handle, handle}, h.told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
}

// An attacker who has planted a cookie of their own in the victim's browser gets
// nothing out of the victim's sign-in, nor the other way round.
func TestFixation(t *testing.T) {
	t.Run("of an anonymous cookie", func(t *testing.T) {
		h := newHouse(t)
		attacker := h.browser()
		attacker.comeBy()
		victim := attacker.copy()
		victim.signIn("ada")
		attacker.wantSignedIn("")
		attacker.comeBy()
		attacker.wantSignedIn("")
		attacker.signIn("eve")
		attacker.wantSignedIn("eve")
		victim.wantSignedIn("ada")
		if attacker.visit().Handle == victim.visit().Handle {
			t.Error("two people share a handle")
		}
	})
	t.Run("of a session's cookie", func(t *testing.T) {
		h := newHouse(t)
		attacker := h.browser()
		attacker.signIn("eve")
		victim := attacker.copy()
		victim.signIn("ada") // takes the session over, with another secret
		victim.wantSignedIn("ada")
		attacker.wantSignedIn("")
		if !attacker.visit().Stale {
			t.Error("the attacker's cookie is not stale")
		}
	})
}

func TestTwoSignInsAtOnceWithOneAnonymousCookie(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.comeBy()
	browsers := make([]*browser, 8)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range browsers {
		browsers[i] = b.copy()
		wg.Go(func() {
			v := browsers[i].visit()
			rec := httptest.NewRecorder()
			_, err := h.SignIn(t.Context(), rec, v, login("ada"))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, c := range rec.Result().Cookies() {
				browsers[i].cookies[c.Name] = c
			}
		})
	}
	wg.Wait()
	handles := map[string]bool{}
	for _, b := range browsers {
		b.wantSignedIn("ada")
		handles[b.visit().Handle] = true
	}
	if len(handles) != len(browsers) {
		t.Errorf("%d handles for %d sign-ins", len(handles), len(browsers))
	}
}

// Two tabs prove themselves at the same time, with the same cookie: whichever
// answer the browser gets last, it is signed in.
func TestTwoRenewalsAtOnce(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.signIn("ada")
	first, second := b.copy(), b.copy()
	v := second.visit() // looked at before the other one was answered
	first.signIn("ada")
	rec := httptest.NewRecorder()
	_, err := h.SignIn(t.Context(), rec, v, login("ada"))
	h.must(err)
	for _, c := range rec.Result().Cookies() {
		second.cookies[c.Name] = c
	}
	first.wantSignedIn("ada")
	second.wantSignedIn("ada")
}

func TestSecretIsReplacedWithThePrivilege(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	before := b.signIn("ada")
	old := b.copy()
	h.clock.Advance(time.Hour)
	after := b.signIn("ada")
	if after.Handle != before.Handle || bytes.Equal(after.Secret, before.Secret) || !after.AuthTime.Equal(start.Add(time.Hour)) || !after.Created.Equal(start) {
		t.Errorf("got %+v after %+v: want the same session with another secret", after, before)
	}
	b.wantSignedIn("ada")
	v := old.visit()
	if v.Session != nil || !v.Stale {
		t.Errorf("the old cookie: got %+v, want it to be stale", v)
	}
	// The answer with the new cookie may still be on its way: another cookie must
	// not overtake it.
	if set := old.comeBy(); len(set) != 0 {
		t.Error("a request that crossed the sign-in was given an anonymous cookie")
	}
	h.clock.Advance(time.Hour)
	if set := old.comeBy(); len(set) != 1 {
		t.Error("a stale cookie is not replaced in the end")
	}
}

func TestSecretIsStoredHashed(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	s := b.signIn("ada")
	doc, err := h.engine.Get(t.Context(), "session", s.Handle)
	h.must(err)
	var raw map[string]any
	h.must(json.Unmarshal(doc.Data, &raw))
	if len(raw["secret"].(string)) != 44 { // SHA-256 in base64
		t.Errorf("the document has the secret %v", raw["secret"])
	}
	// What is in the store is not enough to make a cookie, even for who knows the key.
	if bytes.Contains(doc.Data, []byte(b.cookies[h.CookieName()].Value)) {
		t.Error("the document holds the cookie")
	}
}

func TestRollingExpiry(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.signIn("ada")
	writes := h.engine.Writes()
	for range 59 {
		h.clock.Advance(time.Second)
		if set := b.comeBy(); len(set) != 0 {
			t.Fatal("the cookie was set again within a minute")
		}
	}
	if n := h.engine.Writes() - writes; n != 0 {
		t.Errorf("%d writes within a minute", n)
	}
	h.clock.Advance(time.Second)
	if set := b.comeBy(); len(set) != 1 || set[0].MaxAge != int(lifetime/time.Second) {
		t.Errorf("after a minute the cookie was set %d times, want once", len(set))
	}
	if n := h.engine.Writes() - writes; n != 1 {
		t.Errorf("%d writes in the first minute, want 1", n)
	}
	for range 5 {
		h.clock.Advance(lifetime - time.Second)
		b.comeBy()
		b.wantSignedIn("ada")
	}
	h.clock.Advance(lifetime)
	b.wantSignedIn("")
	if n, err := h.Count(t.Context()); n != 0 || err != nil {
		t.Errorf("%d sessions counted, %v", n, err)
	}
}

func TestRollOnManyRequestsAtOnceWritesOnce(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.signIn("ada")
	h.clock.Advance(time.Hour)
	var wg sync.WaitGroup
	var mu sync.Mutex
	cookies := 0
	for range 8 {
		wg.Go(func() {
			rec := httptest.NewRecorder()
			if err := h.Roll(t.Context(), rec, b.visit()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			cookies += len(rec.Result().Cookies())
			mu.Unlock()
		})
	}
	wg.Wait()
	if cookies != 1 {
		t.Errorf("%d answers set the cookie, want 1", cookies)
	}
}

func TestExpiryMovedByAnotherNode(t *testing.T) {
	h := newHouse(t)
	here, there := h.Manager, h.node(session.CookieOptions{})
	b := h.browser()
	b.signIn("ada")
	h.clock.Advance(lifetime - 2*time.Minute)
	b.wantSignedIn("ada") // now in the memory of this node
	rec := httptest.NewRecorder()
	h.must(there.Roll(t.Context(), rec, b.visitTo(there)))
	h.clock.Advance(5 * time.Minute)
	if b.visitTo(here).Session == nil {
		t.Error("this node has let a session expire that another one has seen in time")
	}
}

// A database may go by its own clock, and be late: expiry is judged by the program's.
func TestExpiryWhenTheDatabaseIsLate(t *testing.T) {
	now := clock.NewFake(start)
	late := teststore.Open(t, func() time.Time { return now.Now().Add(-lifetime) })
	m := session.NewManager(late, session.Options{
		Cookie:   session.CookieOptions{Installation: "https://example.org/", Secure: true, Keys: [][]byte{key}},
		Lifetime: lifetime, Now: now.Now, CacheSize: 1000, CacheAge: time.Hour,
	})
	s, err := m.SignIn(t.Context(), httptest.NewRecorder(), session.Visit{}, session.Login{UserID: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	now.Advance(lifetime - time.Millisecond)
	if _, err := m.Get(t.Context(), s.Handle); err != nil {
		t.Errorf("just before it expires: %v", err)
	}
	now.Advance(time.Millisecond)
	if _, err := m.Get(t.Context(), s.Handle); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestCookieOfElsewhere(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.signIn("ada")
	mine := b.cookies[h.CookieName()]
	tests := []struct {
		what    string
		options session.CookieOptions
		opens   bool
	}{
		{"the same key", session.CookieOptions{}, true},
		{"a new key before it", session.CookieOptions{Keys: [][]byte{other, key}}, true},
		{"another key", session.CookieOptions{Keys: [][]byte{other}}, false},
		{"another installation", session.CookieOptions{Installation: "https://example.org/login/", Secure: true}, false},
		{"the same host over http", session.CookieOptions{Installation: "https://example.org/"}, false},
	}
	for _, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			m := h.node(tc.options)
			r := httptest.NewRequest("GET", "/", nil)
			// Also under the name that this manager looks for.
			r.AddCookie(&http.Cookie{Name: m.CookieName(), Value: mine.Value})
			v, err := m.Visit(r)
			if err != nil || (v.Session != nil) != tc.opens || v.Stale {
				t.Errorf("got %+v, %v; want it to open: %v", v, err, tc.opens)
			}
		})
	}
	t.Run("the first key signs", func(t *testing.T) {
		rotated := &house{T: t, Manager: h.node(session.CookieOptions{Keys: [][]byte{other, key}}), clock: h.clock, engine: h.engine}
		h.clock.Advance(time.Hour)
		b := &browser{house: rotated, cookies: b.cookies}
		b.comeBy()
		b.Manager = h.node(session.CookieOptions{Keys: [][]byte{other}})
		b.wantSignedIn("ada")
	})
	t.Run("ours behind one that somebody else has set", func(t *testing.T) {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: h.CookieName(), Value: "planted"})
		r.AddCookie(b.cookies[h.CookieName()])
		if v, err := h.node(session.CookieOptions{Keys: [][]byte{other}}).Visit(r); err != nil || v.Session == nil {
			t.Errorf("got %+v, %v; want the session", v, err)
		}
	})
}

func TestResponseSetsTheCookieOnce(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	set := b.answer(func(w http.ResponseWriter, v session.Visit) error {
		http.SetCookie(w, &http.Cookie{Name: "language", Value: "de"})
		v, err := h.Welcome(t.Context(), w, v)
		h.must(err)
		_, err = h.SignIn(t.Context(), w, v, login("ada"))
		return err
	})
	if len(set) != 2 {
		t.Errorf("%d cookies were set, want that of the session once and the other one", len(set))
	}
	b.wantSignedIn("ada")
}

func TestOf(t *testing.T) {
	h := newHouse(t)
	one, two, three := h.browser(), h.browser(), h.browser()
	first := one.signIn("ada").Handle
	h.clock.Advance(time.Hour)
	second := two.signIn("ada").Handle
	third := three.signIn("absorbed").Handle
	h.browser().signIn("bob")
	h.clock.Advance(time.Hour)
	one.comeBy()
	got, err := h.Of(t.Context(), "ada")
	h.must(err)
	if handles := handlesOf(got); !slices.Equal(handles, []string{first, second}) {
		t.Errorf("got %v, want %v and %v: the one used last first", handles, first, second)
	}
	got, err = h.Of(t.Context(), "ada", "absorbed")
	h.must(err)
	if handles := handlesOf(got); len(handles) != 3 || !slices.Contains(handles, third) {
		t.Errorf("got %v, want those of both accounts", handles)
	}
	if n, err := h.Count(t.Context()); n != 4 || err != nil {
		t.Errorf("Count: got %d, %v; want 4", n, err)
	}
}

func handlesOf(sessions []session.Session) []string {
	var handles []string
	for _, s := range sessions {
		handles = append(handles, s.Handle)
	}
	return handles
}

func TestRemove(t *testing.T) {
	h := newHouse(t)
	mine, second, bobs := h.browser(), h.browser(), h.browser()
	mine.signIn("ada")
	gone := second.signIn("ada").Handle
	foreign := bobs.signIn("bob").Handle
	h.told = nil

	for what, handle := range map[string]string{"somebody else's": foreign, "nobody's": "nobody", "empty": "-"} {
		if err := h.Remove(t.Context(), handle, "ada"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
	}
	bobs.wantSignedIn("bob")
	h.must(h.Remove(t.Context(), gone, "ada"))
	second.wantSignedIn("")
	mine.wantSignedIn("ada")
	if err := h.Remove(t.Context(), gone, "ada"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a second time: got %v, want ErrNotFound", err)
	}
	if diff := cmp.Diff([]string{"removed " + gone}, h.told); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
}

func TestRemoveAllOthers(t *testing.T) {
	h := newHouse(t)
	mine, second, third, bobs := h.browser(), h.browser(), h.browser(), h.browser()
	keep := mine.signIn("ada").Handle
	want := []string{second.signIn("ada").Handle, third.signIn("absorbed").Handle}
	bobs.signIn("bob")
	got, err := h.RemoveAll(t.Context(), keep, "ada", "absorbed")
	h.must(err)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	mine.wantSignedIn("ada")
	second.wantSignedIn("")
	third.wantSignedIn("")
	bobs.wantSignedIn("bob")
}

func TestDeleteAccount(t *testing.T) {
	h := newHouse(t)
	users := identity.NewDirectory(h.engine, identity.Options{
		BaseURL: "https://example.org/", Now: h.clock.Now, NewID: uuid.NewString, CacheSize: 10, CacheAge: time.Hour,
	})
	ada, _, err := users.SignIn(t.Context(), identity.Profile{Provider: "github", ID: "1"})
	h.must(err)
	absorbed, _, err := users.SignIn(t.Context(), identity.Profile{Provider: "orcid", ID: "2"})
	h.must(err)
	one, two, bobs := h.browser(), h.browser(), h.browser()
	keep := one.signIn(ada.ID).Handle
	two.signIn(absorbed.ID)
	bobs.signIn("bob")
	_, err = users.Merge(t.Context(), ada.ID, absorbed.ID)
	h.must(err)

	h.must(h.Manager.DeleteAccount(t.Context(), users, ada.ID, keep))
	two.wantSignedIn("")
	bobs.wantSignedIn("bob")
	if _, err := users.Get(t.Context(), ada.ID); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("the account: %v", err)
	}
	if entries, err := h.History(t.Context(), session.HistoryQuery{Limit: 10, UserIDs: []string{ada.ID, absorbed.ID}}); len(entries) != 0 || err != nil {
		t.Errorf("history: %v, %v", entries, err)
	}
	one.signOut() // is the caller's to do
	if n, err := h.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d sessions are left, %v; want that of somebody else", n, err)
	}
}

func TestHistory(t *testing.T) {
	h := newHouse(t)
	for i := range 5 {
		h.browser().signIn([]string{"ada", "absorbed"}[i%2])
		h.clock.Advance(24 * time.Hour)
	}
	bobs := h.browser().signIn("bob")
	days := func(entries []session.SignIn, err error) (days []int) {
		h.must(err)
		for _, e := range entries {
			days = append(days, int(e.At.Sub(start)/(24*time.Hour)))
		}
		return days
	}
	for _, tc := range []struct {
		what  string
		limit int
		users []string
		want  []int
	}{
		{"newest first", 10, []string{"ada"}, []int{4, 2, 0}},
		{"the latest", 2, []string{"ada"}, []int{4, 2}},
		{"of several accounts", 3, []string{"ada", "absorbed"}, []int{4, 3, 2}},
		{"all", 0, []string{"absorbed", "ada"}, []int{4, 3, 2, 1, 0}},
		{"of nobody", 10, []string{"eve"}, nil},
	} {
		if diff := cmp.Diff(tc.want, days(h.History(t.Context(), session.HistoryQuery{Limit: tc.limit, UserIDs: tc.users}))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.what, diff)
		}
	}
	entries, err := h.History(t.Context(), session.HistoryQuery{Limit: 1, UserIDs: []string{"bob"}})
	h.must(err)
	want := session.SignIn{
		ID: entries[0].ID, UserID: "bob", At: h.clock.Now(), Provider: "test", Application: "Cocoda", Address: "192.0.2.1", UserAgent: "Browser/1",
		Session: bobs.Handle, Result: session.ResultOK,
	}
	if diff := cmp.Diff([]session.SignIn{want}, entries); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	h.clock.Advance(90*24*time.Hour - 3*24*time.Hour)
	if diff := cmp.Diff([]int{4, 3}, days(h.History(t.Context(), session.HistoryQuery{Limit: 10, UserIDs: []string{"ada", "absorbed"}}))); diff != "" {
		t.Errorf("after 90 days (-want +got):\n%s", diff)
	}
	h.must(h.DeleteHistory(t.Context(), "ada"))
	if diff := cmp.Diff([]int{3}, days(h.History(t.Context(), session.HistoryQuery{Limit: 10, UserIDs: []string{"ada", "absorbed"}}))); diff != "" {
		t.Errorf("after one was deleted (-want +got):\n%s", diff)
	}
}

func TestVisitsAreServedFromMemoryUntilToldOtherwise(t *testing.T) {
	h := newHouse(t)
	there := h.node(session.CookieOptions{})
	b := h.browser()
	s := b.signIn("ada")
	if b.visitTo(there).Session == nil {
		t.Fatal("the other node does not know the session")
	}
	b.copy().signOut()
	b.wantSignedIn("") // the node that wrote
	if b.visitTo(there).Session == nil {
		t.Error("the other node asks the store each time")
	}
	there.Forget(s.Handle)
	if b.visitTo(there).Session != nil {
		t.Error("the other node was told, and remembers")
	}
}

func TestStoreDown(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.signIn("ada")
	h.engine.KillAfter(0)
	h.told = nil
	rec := httptest.NewRecorder()
	if _, err := h.SignIn(t.Context(), rec, b.visit(), login("ada")); !errors.Is(err, storetest.ErrKilled) {
		t.Errorf("SignIn: got %v", err)
	}
	if len(rec.Result().Cookies()) != 0 || len(h.told) != 0 {
		t.Errorf("a sign-in that failed has set a cookie or was told of: %v", h.told)
	}
	h.ForgetAll()
	if v, err := h.Visit(b.request()); !errors.Is(err, storetest.ErrKilled) || v.Session != nil {
		t.Errorf("Visit: got %+v, %v; want the store's error, not a visitor who has signed out", v, err)
	}
	if v, err := h.Visit(h.browser().request()); err != nil || v.Handle != "" {
		t.Errorf("a visitor without a cookie: got %+v, %v", v, err)
	}
	h.engine.Revive()
	b.wantSignedIn("ada")
}

// A sign-in that the store gave up in the middle of leaves the browser as it was.
func TestCrashDuringSignIn(t *testing.T) {
	for n := range 2 {
		h := newHouse(t)
		b := h.browser()
		b.comeBy()
		h.engine.KillAfter(n)
		_, err := h.SignIn(t.Context(), httptest.NewRecorder(), b.visit(), login("ada"))
		if !errors.Is(err, storetest.ErrKilled) {
			t.Fatalf("killed after %d writes: %v", n, err)
		}
		h.engine.Revive()
		if sessions, err := h.Of(t.Context(), "ada"); len(sessions) != 0 || err != nil {
			t.Errorf("killed after %d writes: %d sessions whose cookie nobody has, %v", n, len(sessions), err)
		}
		b.signIn("ada")
		b.wantSignedIn("ada")
	}
}

func TestBrokenCookies(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.signIn("ada")
	good := b.cookies[h.CookieName()].Value
	for what, value := range map[string]string{
		"empty": "", "garbage": "garbage", "long": strings.Repeat("A", 10_000), "cut off": good[:len(good)-2], "longer": good + "AA",
		"NUL": "\x00", "quoted": `"` + good, "base64": "AAAA",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", h.CookieName()+"="+value)
		if v, err := h.Visit(r); err != nil || v.Handle != "" || v.Session != nil || v.Stale {
			t.Errorf("%s: got %+v, %v; want a visitor without a cookie", what, v, err)
		}
	}
}

func FuzzVisit(f *testing.F) {
	m := session.NewManager(teststore.Open(f, time.Now), session.Options{
		Cookie:   session.CookieOptions{Installation: "http://localhost/", Keys: [][]byte{key}},
		Lifetime: lifetime, Now: time.Now, CacheSize: 10, CacheAge: time.Hour,
	})
	// Nobody has ever been given these: whatever they are made into is refused.
	for _, seed := range []string{"", "AAAA", "MTc3MjM2NjQwMHxhQUFBQXw=", strings.Repeat("=", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", m.CookieName()+"="+value)
		v, err := m.Visit(r)
		if err != nil || v.Handle != "" || v.Session != nil {
			t.Errorf("%q is taken for one of our cookies: %+v, %v", value, v, err)
		}
	})
}

// BenchmarkVisit is what every request of somebody who has signed in costs.
func BenchmarkVisit(b *testing.B) {
	engine, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "test.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	m := session.NewManager(engine, session.Options{
		Cookie:   session.CookieOptions{Installation: "https://example.org/", Secure: true, Keys: [][]byte{key}},
		Lifetime: lifetime, Now: time.Now, CacheSize: 1000, CacheAge: time.Hour,
	})
	rec := httptest.NewRecorder()
	if _, err := m.SignIn(b.Context(), rec, session.Visit{}, login("ada")); err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(rec.Result().Cookies()[0])
	b.ReportAllocs()
	for b.Loop() {
		if v, err := m.Visit(r); err != nil || v.Session == nil {
			b.Fatal(err)
		}
	}
}
