package attempt_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/attempt"
	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/token"
)

const (
	life       = time.Hour
	remembered = 24 * time.Hour
	cookieName = "login-12345678-at"
)

// office is a book on a real store, with a clock that stands still.
type office struct {
	*attempt.Book
	t      *testing.T
	clock  *clock.Fake
	engine store.Engine
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	o.engine = teststore.Open(t, o.clock.Now)
	o.Book = o.book(false, "the first secret of the tests")
	return o
}

// book returns a book of the same installation: with other settings, or after a restart.
func (o *office) book(secure bool, secrets ...string) *attempt.Book {
	o.t.Helper()
	sealer, err := token.NewSealer(secrets, "login attempt")
	if err != nil {
		o.t.Fatal(err)
	}
	name := cookieName
	if secure {
		name = "__Host-" + name
	}
	return attempt.NewBook(attempt.Options{Store: o.engine, Clock: o.clock, Sealer: sealer, Life: life, Cookie: name, Secure: secure})
}

// browser keeps cookies, and the lines that set them.
type browser struct {
	jar map[string]string
	set []string
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range b.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

func (b *browser) take(w *httptest.ResponseRecorder) {
	if b.jar == nil {
		b.jar = map[string]string{}
	}
	b.set = append(b.set, w.Header()["Set-Cookie"]...)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
		} else {
			b.jar[c.Name] = c.Value
		}
	}
}

// keep begins an attempt in a browser and returns it with its key, the state.
func (o *office) keep(b *browser, a attempt.Attempt) attempt.Attempt {
	o.t.Helper()
	w := httptest.NewRecorder()
	if err := o.Keep(o.t.Context(), w, b.request(), a.State, a); err != nil {
		o.t.Fatal(err)
	}
	b.take(w)
	return a
}

func (o *office) begin(b *browser) attempt.Attempt {
	o.t.Helper()
	return o.keep(b, attempt.New("github"))
}

// want takes an attempt and fails the test unless that ends with an error, or nil.
func (o *office) want(wanted error, b *browser, provider, key string) attempt.Attempt {
	o.t.Helper()
	a, err := o.Take(o.t.Context(), b.request(), provider, key)
	if !errors.Is(err, wanted) || wanted == nil && err != nil {
		o.t.Fatalf("Take: got %v, want %v", err, wanted)
	}
	return a
}

func TestTake(t *testing.T) {
	o, b := newOffice(t), &browser{}
	full := attempt.New("github")
	full.User, full.Fresh, full.Redirect, full.From, full.Kept = "u1", true, "https://app.example.org/?a=b#c", "https://app.example.org/", "token secret"
	o.keep(b, full)
	if diff := cmp.Diff(full, o.want(nil, b, "github", full.State)); diff != "" {
		t.Errorf("what comes back (-want +got):\n%s", diff)
	}
	// Once; whoever comes again learns where it was to lead to, and nothing that opens anything.
	rest := attempt.Attempt{Provider: "github", User: "u1", Fresh: true, Redirect: full.Redirect, From: full.From}
	if diff := cmp.Diff(rest, o.want(attempt.ErrUsed, b, "github", full.State)); diff != "" {
		t.Errorf("what comes back the second time (-want +got):\n%s", diff)
	}
}

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		a := attempt.New("github")
		for _, value := range []string{a.State, a.Nonce, a.Verifier} {
			if len(value) != 43 || strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || seen[value] {
				t.Fatalf("%q is not random or no PKCE verifier", value)
			}
			seen[value] = true
		}
	}
}

func TestTakeHasOneWinner(t *testing.T) {
	o, b := newOffice(t), &browser{}
	a := o.begin(b)
	r := b.request()
	var wins, used atomic.Int32
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 32 {
		wg.Go(func() {
			<-start
			switch _, err := o.Take(t.Context(), r, "github", a.State); {
			case err == nil:
				wins.Add(1)
			case errors.Is(err, attempt.ErrUsed):
				used.Add(1)
			default:
				t.Errorf("Take: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	if wins.Load() != 1 || used.Load() != 31 {
		t.Errorf("%d got it and %d heard that it was used, want 1 and 31", wins.Load(), used.Load())
	}
}

func TestTakeRefusals(t *testing.T) {
	t.Run("another browser changes nothing", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		a := o.begin(b)
		stranger := &browser{}
		o.begin(stranger) // with an attempt of its own
		var name, own string
		for name = range b.jar {
			own = b.jar[name]
		}
		forged := func(value string) *browser { return &browser{jar: map[string]string{name: value}} }
		at, secret, _ := strings.Cut(own, ".")
		var other string
		for _, other = range stranger.jar {
		}
		for _, thief := range []*browser{
			{}, stranger, forged(""), forged("."), forged(at + "."), forged(secret), forged(at + "." + secret[1:]), forged(at + "." + secret + "A"),
			forged(at + "." + strings.ToLower(secret) + "!"), forged(other), forged(a.State), forged(at + "." + a.State),
		} {
			if got := o.want(attempt.ErrBrowser, thief, "github", a.State); got != (attempt.Attempt{}) {
				t.Fatalf("it learns %+v", got)
			}
		}
		o.want(nil, b, "github", a.State)
	})
	t.Run("a cookie of the same name beside ours", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		a := o.begin(b)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for name, value := range b.jar {
			r.AddCookie(&http.Cookie{Name: name, Value: "planted"})
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		if _, err := o.Take(t.Context(), r, "github", a.State); err != nil {
			t.Error(err)
		}
	})
	t.Run("another provider uses it up", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		a := o.begin(b)
		o.want(attempt.ErrProvider, b, "orcid", a.State)
		o.want(attempt.ErrUsed, b, "github", a.State)
	})
	t.Run("unknown", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		a := o.begin(b)
		for _, key := range []string{"", " ", a.State[1:], a.State + "A", strings.ToUpper(a.State), a.Nonce, strings.Repeat("x", 512), strings.Repeat("x", 1<<20), "\x00", "\xff"} {
			o.want(attempt.ErrUnknown, b, "github", key)
		}
		o.want(nil, b, "github", a.State)
	})
	t.Run("expired", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		a := attempt.New("github")
		a.Redirect = "https://app.example.org/"
		early := o.keep(b, a)
		late := o.begin(b)
		o.clock.Advance(life)
		o.want(nil, b, "github", early.State)
		o.clock.Advance(time.Millisecond)
		again := o.keep(b, a2(a))
		o.want(attempt.ErrExpired, b, "github", late.State)
		o.want(attempt.ErrUsed, b, "github", late.State)
		o.clock.Advance(life + time.Minute)
		if got := o.want(attempt.ErrExpired, b, "github", again.State); got.Redirect != a.Redirect {
			t.Errorf("the destination is lost: %+v", got)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		first, second := o.begin(b), o.begin(b)
		o.clock.Advance(remembered - time.Second)
		o.want(attempt.ErrExpired, b, "github", first.State) // which does not make it live longer
		o.clock.Advance(time.Second)
		o.want(attempt.ErrUnknown, b, "github", first.State)
		o.want(attempt.ErrUnknown, b, "github", second.State)
		if n, err := o.engine.Sweep(t.Context()); n != 2 || err != nil {
			t.Errorf("%d records swept (%v), want 2", n, err)
		}
	})
}

// a2 is an attempt that leads to the same place, with values of its own.
func a2(a attempt.Attempt) attempt.Attempt {
	b := attempt.New(a.Provider)
	b.User, b.Redirect, b.From = a.User, a.Redirect, a.From
	return b
}

func TestKey(t *testing.T) {
	o, b := newOffice(t), &browser{}
	a := attempt.New("mediawiki")
	for _, key := range []string{"", strings.Repeat("x", 513)} {
		w := httptest.NewRecorder()
		if err := o.Keep(t.Context(), w, b.request(), key, a); err == nil || len(w.Header()) != 0 {
			t.Errorf("a key of %d bytes: %v, header %v", len(key), err, w.Header())
		}
	}
	// What a provider names a login by may be as long as that, and any bytes.
	for _, key := range []string{strings.Repeat("x", 512), "request token \xff\x00;,\r\n"} {
		w := httptest.NewRecorder()
		if err := o.Keep(t.Context(), w, b.request(), key, a); err != nil {
			t.Fatal(err)
		}
		b.take(w)
		if got := o.want(nil, b, "mediawiki", key); got.State != a.State {
			t.Errorf("got %+v", got)
		}
		// A provider that names a second login the same gets none.
		if err := o.Keep(t.Context(), httptest.NewRecorder(), b.request(), key, a); !errors.Is(err, store.ErrExists) {
			t.Errorf("the same key once more: %v", err)
		}
	}
}

func TestParallel(t *testing.T) {
	t.Run("one after the other", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		var attempts []attempt.Attempt
		for range 15 {
			attempts = append(attempts, o.begin(b))
		}
		for i := range attempts { // in an order of their own
			a := attempts[i*7%len(attempts)]
			o.want(nil, b, "github", a.State)
		}
	})
	t.Run("all at once, without any cookie", func(t *testing.T) {
		o, b := newOffice(t), &browser{}
		attempts := make([]attempt.Attempt, 12)
		answers := make([]*httptest.ResponseRecorder, len(attempts))
		var wg sync.WaitGroup
		for i := range attempts {
			attempts[i], answers[i] = attempt.New("github"), httptest.NewRecorder()
			wg.Go(func() {
				if err := o.Keep(t.Context(), answers[i], (&browser{}).request(), attempts[i].State, attempts[i]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, w := range answers {
			b.take(w)
		}
		for _, a := range attempts {
			o.want(nil, b, "github", a.State)
		}
	})
	t.Run("the oldest gives way to the 21st", func(t *testing.T) {
		for _, pause := range []time.Duration{0, time.Millisecond, time.Minute} {
			o, b := newOffice(t), &browser{}
			b.jar = map[string]string{"login-12345678": "session", "login-12345678-atlas": "of somebody else", cookieName + "-junk": "xyz.abc"}
			var attempts []attempt.Attempt
			for i := range 21 {
				attempts = append(attempts, o.begin(b))
				if want := min(i+1, 20) + 2; i > 18 && len(b.jar) != want {
					t.Fatalf("after %d: %d cookies, want %d", i+1, len(b.jar), want)
				}
				o.clock.Advance(pause)
			}
			if b.jar["login-12345678"] == "" || b.jar["login-12345678-atlas"] == "" || b.jar[cookieName+"-junk"] != "" {
				t.Errorf("the wrong cookies are gone: %v", b.jar)
			}
			if pause > 0 { // a jar that is a map does not know which of a moment was first
				o.want(attempt.ErrBrowser, b, "github", attempts[0].State)
			}
			kept := 0
			for _, a := range attempts[1:] {
				if _, err := o.Take(t.Context(), b.request(), "github", a.State); err == nil {
					kept++
				}
			}
			if pause > 0 && kept != 20 {
				t.Errorf("%d of the other 20 are left", kept)
			}
		}
	})
	t.Run("of one moment, browsers send the oldest first", func(t *testing.T) {
		o := newOffice(t)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		begun := "mm8apa80."
		for i := range 20 {
			r.AddCookie(&http.Cookie{Name: fmt.Sprintf("%s-%02d", cookieName, i), Value: begun})
		}
		w, a := httptest.NewRecorder(), attempt.New("github")
		if err := o.Keep(t.Context(), w, r, a.State, a); err != nil {
			t.Fatal(err)
		}
		if c := w.Result().Cookies(); len(c) != 2 || c[0].Name != cookieName+"-00" || c[0].MaxAge >= 0 {
			t.Errorf("cookies: %v", c)
		}
	})
}

func TestCookieAttributes(t *testing.T) {
	for _, secure := range []bool{false, true} {
		o, b := newOffice(t), &browser{}
		o.Book = o.book(secure, "the first secret of the tests")
		for range 21 {
			o.begin(b)
			o.clock.Advance(time.Second)
		}
		deleted := 0
		for _, line := range b.set {
			c, err := http.ParseSetCookie(line)
			if err != nil {
				t.Fatal(err)
			}
			prefix := map[bool]string{false: cookieName + "-", true: "__Host-" + cookieName + "-"}[secure]
			if !strings.HasPrefix(c.Name, prefix) || len(c.Name) != len(prefix)+16 || c.Path != "/" || c.Domain != "" || !c.HttpOnly || c.Secure != secure || c.SameSite != http.SameSiteLaxMode {
				t.Fatalf("secure %v: %s", secure, line)
			}
			switch {
			case c.MaxAge < 0 && c.Value == "":
				deleted++
			case c.MaxAge != int(remembered/time.Second):
				t.Errorf("lives %d seconds: %s", c.MaxAge, line)
			}
			if len(line) > 300 {
				t.Errorf("a cookie of %d bytes, of which there are 20", len(line))
			}
		}
		if deleted != 1 {
			t.Errorf("%d cookies deleted, want 1", deleted)
		}
	}
}

func TestStash(t *testing.T) {
	o, b := newOffice(t), &browser{}
	stash := func(wanted error, provider, key string) {
		t.Helper()
		if err := o.Stash(t.Context(), provider, key, "code=1&state=2"); !errors.Is(err, wanted) || wanted == nil && err != nil {
			t.Errorf("Stash: got %v, want %v", err, wanted)
		}
	}
	a := attempt.New("apple")
	a.Kept = "kept"
	o.keep(b, a)
	for _, key := range []string{"", "x", strings.Repeat("x", 513)} {
		stash(attempt.ErrUnknown, "apple", key)
	}
	stash(attempt.ErrProvider, "github", a.State)
	stash(nil, "apple", a.State)
	stash(attempt.ErrUsed, "apple", a.State) // the first answer counts
	a.Answer = "code=1&state=2"
	if diff := cmp.Diff(a, o.want(nil, b, "apple", a.State)); diff != "" {
		t.Errorf("with its answer (-want +got):\n%s", diff)
	}
	stash(attempt.ErrUsed, "apple", a.State)

	// That an answer was posted proves nothing of the browser.
	posted := o.keep(b, attempt.New("apple"))
	stash(nil, "apple", posted.State)
	o.want(attempt.ErrBrowser, &browser{}, "apple", posted.State)
	o.want(nil, b, "apple", posted.State)

	// Nor does it give more time.
	slow := o.keep(b, attempt.New("apple"))
	o.clock.Advance(life + time.Second)
	stash(nil, "apple", slow.State)
	o.want(attempt.ErrExpired, b, "apple", slow.State)
	o.clock.Advance(remembered)
	stash(attempt.ErrUnknown, "apple", slow.State)
}

// Of two answers that are posted at once one counts, and Take beside them gets it or none.
func TestStashHasOneWinner(t *testing.T) {
	o, b := newOffice(t), &browser{}
	a := o.keep(b, attempt.New("apple"))
	var wins atomic.Int32
	var won atomic.Value
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			text := fmt.Sprint("code=", i)
			switch err := o.Stash(t.Context(), "apple", a.State, text); {
			case err == nil:
				wins.Add(1)
				won.Store(text)
			case !errors.Is(err, attempt.ErrUsed):
				t.Errorf("Stash: %v", err)
			}
		})
	}
	wg.Wait()
	if got := o.want(nil, b, "apple", a.State); wins.Load() != 1 || got.Answer != won.Load() {
		t.Errorf("%d were taken, the answer is %q, want 1 and %q", wins.Load(), got.Answer, won.Load())
	}
}

// Who can read the database can finish no login, and learns nothing that opens one.
func TestAtRest(t *testing.T) {
	o, b := newOffice(t), &browser{}
	a := attempt.New("github")
	a.Kept, a.Redirect = "request token secret", "https://app.example.org/"
	o.keep(b, a)
	stored := func() string {
		docs, err := o.engine.Find(t.Context(), "attempt", store.Query{})
		if err != nil || len(docs) != 1 {
			t.Fatalf("%d documents (%v)", len(docs), err)
		}
		raw, err := json.Marshal(docs[0])
		if err != nil {
			t.Fatal(err)
		}
		return docs[0].ID + string(docs[0].Data) + string(raw)
	}
	secrets := []string{a.State, a.Nonce, a.Verifier, a.Kept, "the code"}
	for name, value := range b.jar {
		_, secret, _ := strings.Cut(value, ".")
		secrets = append(secrets, secret)
		if strings.Contains(name+value, a.State) {
			t.Error("the cookie has the state")
		}
	}
	unreadable := func(when string) {
		t.Helper()
		text := stored()
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %q can be read in %s", when, secret, text)
			}
		}
	}
	unreadable("begun")
	if err := o.Stash(t.Context(), "github", a.State, "the code"); err != nil {
		t.Fatal(err)
	}
	unreadable("with an answer")
	o.want(nil, b, "github", a.State)
	unreadable("used")
	if strings.Contains(stored(), "sealed") {
		t.Error("a used attempt still has what was sealed")
	}
}

func TestSecretsRotated(t *testing.T) {
	o, b := newOffice(t), &browser{}
	a, lost := o.begin(b), attempt.New("github")
	lost.Redirect = "https://app.example.org/"
	o.keep(b, lost)
	o.Book = o.book(false, "a second secret of the tests", "the first secret of the tests")
	if got := o.want(nil, b, "github", a.State); got != a {
		t.Errorf("got %+v, want %+v", got, a)
	}
	o.Book = o.book(false, "a second secret of the tests")
	if err := o.Stash(t.Context(), "github", lost.State, "x"); !errors.Is(err, attempt.ErrExpired) {
		t.Errorf("Stash: %v", err)
	}
	got := o.want(attempt.ErrExpired, b, "github", lost.State)
	if want := (attempt.Attempt{Provider: "github", Redirect: lost.Redirect}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	o.want(attempt.ErrUsed, b, "github", lost.State)
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		then, now string
		want      attempt.Verdict
		fresh     attempt.Verdict
	}{
		{"", "", attempt.Admit, attempt.Admit},
		{"ada", "ada", attempt.Admit, attempt.Admit},
		{"ada", "", attempt.SignedOut, attempt.Admit},
		{"ada", "ben", attempt.SomebodyElse, attempt.SomebodyElse},
		{"", "ben", attempt.SomebodyElse, attempt.SomebodyElse},
	} {
		if got := (attempt.Attempt{User: tc.then}).Verdict(tc.now); got != tc.want {
			t.Errorf("begun as %q, back as %q: got %d, want %d", tc.then, tc.now, got, tc.want)
		}
		if got := (attempt.Attempt{User: tc.then, Fresh: true}).Verdict(tc.now); got != tc.fresh {
			t.Errorf("begun afresh as %q, back as %q: got %d, want %d", tc.then, tc.now, got, tc.fresh)
		}
	}
}
