package oidc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/clock"
	"login-server/session"
	"login-server/store"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// receiver is the backchannel_logout_uri of clients: /app, /other …
type receiver struct {
	*httptest.Server
	status atomic.Int64
	got    chan notice
}

// notice is what a client has been sent.
type notice struct {
	path, kind string
	form       map[string][]string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: make(chan notice, 100)}
	r.status.Store(http.StatusOK)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_ = q.ParseForm()
		status := int(r.status.Load())
		if status == http.StatusFound {
			w.Header().Set("Location", r.URL+"/elsewhere")
		}
		w.WriteHeader(status)
		r.got <- notice{q.Method + " " + q.URL.String(), q.Header.Get("Content-Type"), q.PostForm}
	}))
	t.Cleanup(r.Close)
	return r
}

// entry is a client that is told here.
func (r *receiver) entry(id, more string) string {
	return fmt.Sprintf(`{"client_id": %q, "name": %q, "url": "https://%s.example.org/", "client_secret": "%s",
		"redirect_uris": ["https://%s.example.org/cb"], "trusted": true, "backchannel_logout_uri": "%s/%s"%s}`, id, id, id, secret, id, r.URL, id, more)
}

func (r *receiver) wait(t *testing.T, within time.Duration) notice {
	t.Helper()
	select {
	case n := <-r.got:
		return n
	case <-time.After(within):
		t.Fatalf("no client was told within %s", within)
		return notice{}
	}
}

// telling is a house whose clients can be reached, with the worker at work. Each attempt
// that has ended goes to the channel.
func telling(t *testing.T, entries ...string) (*house, <-chan error) {
	t.Helper()
	h := newHouse(t, entries...)
	h.o.HTTP = &http.Client{}
	attempts := make(chan error, 1000)
	h.logouts.attempted = func(_ string, err error) { attempts <- err }
	h.work(t)
	return h, attempts
}

// work runs the worker until the test ends, or the function that it returns is called.
func (h *house) work(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.TellLogouts(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return stop
}

func (h *house) waiting() []PendingLogout {
	h.Helper()
	var list []PendingLogout
	for p, err := range h.logouts.Pending(h.Context()) {
		if err != nil {
			h.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func (h *house) remove(who *Person) {
	h.Helper()
	if err := h.sessions.Remove(h.Context(), who.Session.Handle, who.Account.ID); err != nil {
		h.Fatal(err)
	}
}

// Rule 39.
func TestLogoutToken(t *testing.T) {
	r := newReceiver(t)
	h, _ := telling(t, r.entry("app", ""))
	ada := h.person("ada")
	id := h.idTokenOf("app", ada)
	h.remove(ada)
	n := r.wait(t, 5*time.Second)
	if n.path != "POST /app" || n.kind != "application/x-www-form-urlencoded" || len(n.form) != 1 || len(n.form["logout_token"]) != 1 {
		t.Fatalf("got %+v", n)
	}
	signed := n.form["logout_token"][0]
	if _, err := h.tokens.VerifyJWT(signed, "logout+jwt"); err != nil {
		t.Errorf("signature: %v", err)
	}
	if _, err := h.tokens.VerifyJWT(signed, "JWT"); err == nil {
		t.Error("a logout token can be taken for an ID Token")
	}
	var header map[string]any
	raw, err := base64.RawURLEncoding.DecodeString(signed[:strings.IndexByte(signed, '.')])
	if err != nil || json.Unmarshal(raw, &header) != nil {
		t.Fatalf("header: %q, %v", raw, err)
	}
	c := claims(t, signed)
	if jti, _ := c["jti"].(string); len(jti) != 43 {
		t.Errorf("jti is %v", c["jti"])
	}
	if c["sid"] != claims(t, id)["sid"] || c["sub"] != claims(t, id)["sub"] {
		t.Errorf("sid and sub are %v and %v, and not those of the ID Token", c["sid"], c["sub"])
	}
	// What differs each time has a name in the golden file.
	c["jti"], c["sid"], header["kid"] = "JTI", "SID", "KID"
	got, err := json.MarshalIndent(map[string]any{"header": header, "claims": c}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/logout_token.json"
	if *updateGolden {
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(bytes.TrimSpace(want), got) {
		t.Errorf("got %s, want %s (%v)", got, want, err)
	}
}

// Rule 38: every client that took part is told, with the subject that it knows, and the
// refresh tokens of the session are dead; those of offline_access live.
func TestSessionEndReachesEverybody(t *testing.T) {
	r := newReceiver(t)
	h, attempts := telling(t, r.entry("app", ""), r.entry("other", `, "subject_type": "pairwise"`), r.entry("third", ""), logoutFree)
	ada, ben := h.person("ada"), h.person("ben")
	bound := h.redeem("app:"+secret, h.answered(ask("app"), ada).Get("code")).text("refresh_token")
	offline := h.redeem("app:"+secret, h.answered(ask("app", "scope", "openid offline_access"), ada).Get("code")).text("refresh_token")
	pairwise := claims(t, h.idTokenOf("other", ada))["sub"]
	h.idTokenOf("free", ada)
	h.idTokenOf("third", ben)

	began := time.Now()
	h.remove(ada)
	subjects := map[string]any{}
	for range 2 {
		n := r.wait(t, time.Second)
		subjects[n.path] = claims(t, n.form["logout_token"][0])["sub"]
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if len(subjects) != 2 || subjects["POST /app"] != ada.Account.ID || subjects["POST /other"] != pairwise || pairwise == ada.Account.ID {
		t.Errorf("told: %v", subjects)
	}
	for range 2 {
		if err := <-attempts; err != nil {
			t.Error(err)
		}
	}
	if left := h.waiting(); len(left) != 0 || len(r.got) != 0 {
		t.Errorf("still in the outbox: %+v; told besides: %d", left, len(r.got))
	}
	refresh := func(token string) response {
		return h.call(PathToken, "app:"+secret, form("grant_type", "refresh_token", "refresh_token", token))
	}
	refresh(bound).want(t, 400, "invalid_grant")
	refresh(offline).want(t, 200, "")
	if got := h.answered(ask("app", "prompt", "none"), nil); got.Get("error") != "login_required" {
		t.Errorf("prompt=none afterwards: %v", got)
	}
}

const logoutFree = `{"client_id": "free", "name": "Free", "url": "https://free.example.org/", "client_secret": "` + secret + `",
	"redirect_uris": ["https://free.example.org/cb"], "trusted": true}`

// Every way in which a session can end.
func TestWaysToEndASession(t *testing.T) {
	tests := []struct {
		name string
		end  func(t *testing.T, h *house, who *Person)
	}{
		{"signed out", func(t *testing.T, h *house, who *Person) {
			rec := httptest.NewRecorder()
			s, err := h.sessions.SignIn(t.Context(), rec, session.Visit{}, session.Login{UserID: who.Account.ID})
			if err != nil {
				t.Fatal(err)
			}
			h.idTokenOf("app", &Person{Session: s, Account: who.Account})
			q := httptest.NewRequest(http.MethodGet, "/", nil)
			for _, c := range rec.Result().Cookies() {
				q.AddCookie(c)
			}
			v, err := h.sessions.Visit(q)
			if err != nil || v.Session == nil {
				t.Fatalf("visit: %+v, %v", v, err)
			}
			if err := h.sessions.SignOut(t.Context(), httptest.NewRecorder(), v); err != nil {
				t.Fatal(err)
			}
		}},
		{"removed from another device", func(_ *testing.T, h *house, who *Person) { h.remove(who) }},
		{"all others removed", func(t *testing.T, h *house, who *Person) {
			if _, err := h.sessions.RemoveAll(t.Context(), "", who.Account.ID); err != nil {
				t.Fatal(err)
			}
		}},
		{"a merge undone", func(t *testing.T, h *house, who *Person) {
			if err := h.sessions.RemoveProvedBy(t.Context(), "", []string{"local"}, who.Account.ID); err != nil {
				t.Fatal(err)
			}
		}},
		{"account deleted", func(t *testing.T, h *house, who *Person) {
			if err := h.sessions.DeleteAccount(t.Context(), h.users, who.Account.ID, ""); err != nil {
				t.Fatal(err)
			}
		}},
		{"by another process", func(t *testing.T, h *house, who *Person) {
			// As on the command line: nobody tells there.
			log := h.o.Log
			beside := session.NewManager(h.engine, session.Options{Now: h.clock.Now, CacheSize: 10, CacheAge: time.Second,
				Cookie: session.CookieOptions{Keys: [][]byte{{1}}}, Ended: NewLogouts(h.engine, h.clock, log).Ended})
			if err := beside.Remove(t.Context(), who.Session.Handle, who.Account.ID); err != nil {
				t.Fatal(err)
			}
			h.logouts.Look() // when the server notices that somebody has written
		}},
		{"expired", func(_ *testing.T, h *house, _ *Person) {
			h.clock.Advance(31 * 24 * time.Hour)
		}},
		{"a crash after the session was deleted", func(t *testing.T, h *house, who *Person) {
			if err := h.engine.Delete(t.Context(), "session", who.Session.Handle); err != nil {
				t.Fatal(err)
			}
			h.sessions.ForgetAll() // a start begins with nothing in memory
			h.clock.Advance(lookEvery)
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := newReceiver(t)
			h := newHouse(t, r.entry("app", ""))
			h.o.HTTP = &http.Client{}
			looking := h.timerSet()
			h.work(t)
			<-looking // the worker waits
			ada := h.person("ada")
			h.idTokenOf("app", ada)
			tc.end(t, h, ada)
			if n := r.wait(t, 5*time.Second); n.path != "POST /app" {
				t.Errorf("told: %+v", n)
			}
		})
	}
}

// timerSet lets the test know when the worker waits for the clock.
func (h *house) timerSet() <-chan struct{} {
	set := make(chan struct{}, 1000)
	h.logouts.clock = watched{h.clock, set}
	return set
}

type watched struct {
	*clock.Fake
	set chan struct{}
}

func (w watched) AfterFunc(d time.Duration, f func()) clock.Timer {
	timer := w.Fake.AfterFunc(d, f)
	w.set <- struct{}{}
	return timer
}

// A receiver that is down is asked again with growing pauses, also after a restart, and
// told when it is up.
func TestLogoutRetries(t *testing.T) {
	r := newReceiver(t)
	r.status.Store(http.StatusServiceUnavailable)
	h := newHouse(t, r.entry("app", ""))
	h.o.HTTP = &http.Client{}
	attempts := make(chan error, 100)
	h.logouts.attempted = func(_ string, err error) { attempts <- err }
	stop := h.work(t)
	ada := h.person("ada")
	h.idTokenOf("app", ada)
	h.remove(ada)
	var tokens []string
	tried := func() error {
		t.Helper()
		tokens = append(tokens, r.wait(t, 5*time.Second).form["logout_token"][0])
		return <-attempts
	}
	if tried() == nil {
		t.Fatal("503 counts as told")
	}
	for i, wait := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second} {
		left := h.waiting()
		if len(left) != 1 || left[0].Attempts != i+1 || left[0].Next.Sub(h.clock.Now()) != wait || !strings.Contains(left[0].Problem, "503") {
			t.Fatalf("outbox: %+v", left)
		}
		h.clock.Advance(wait - time.Millisecond)
		if len(r.got) != 0 {
			t.Fatal("asked again too early")
		}
		h.clock.Advance(time.Millisecond)
		if tried() == nil {
			t.Fatal("503 counts as told")
		}
	}
	stop()
	h.clock.Advance(time.Hour) // the server is down
	if len(r.got) != 0 {
		t.Fatal("told by a server that is down")
	}
	r.status.Store(http.StatusNoContent)
	h.work(t)
	if err := tried(); err != nil {
		t.Fatal(err)
	}
	if left := h.waiting(); len(left) != 0 {
		t.Errorf("outbox: %+v", left)
	}
	seen := map[any]bool{}
	for _, token := range tokens {
		c := claims(t, token)
		if life := c["exp"].(float64) - c["iat"].(float64); life <= 0 || life > 120 || seen[c["jti"]] {
			t.Errorf("an attempt has a token of %v s, jti %v", life, c["jti"])
		}
		seen[c["jti"]] = true
	}
	if got := h.logouts.Stats(); got != (LogoutStats{Delivered: 1, Failed: 4}) {
		t.Errorf("stats: %+v", got)
	}
}

// deliverOnce makes one attempt, without the worker.
func (h *house) deliverOnce(t *testing.T) {
	t.Helper()
	for item, err := range h.logouts.participants.All(t.Context(), store.Query{Key: keyEnded}) {
		if err != nil {
			t.Fatal(err)
		}
		h.deliver(t.Context(), item.ID)
	}
}

func TestLogoutAnswers(t *testing.T) {
	for status, want := range map[int]LogoutStats{
		200: {Delivered: 1}, 204: {Delivered: 1}, 400: {Refused: 1},
		302: {Failed: 1}, 404: {Failed: 1}, 429: {Failed: 1}, 500: {Failed: 1}, 503: {Failed: 1},
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			r := newReceiver(t)
			r.status.Store(int64(status))
			h := newHouse(t, r.entry("app", ""))
			h.o.HTTP = &http.Client{}
			ada := h.person("ada")
			h.idTokenOf("app", ada)
			h.remove(ada)
			h.deliverOnce(t)
			h.deliverOnce(t) // and not twice
			if got := h.logouts.Stats(); got != want || len(r.got) != 1 {
				t.Errorf("got %+v, %d requests; want %+v, 1", got, len(r.got), want)
			}
			if left := len(h.waiting()); left != int(want.Failed) {
				t.Errorf("%d in the outbox", left)
			}
		})
	}
}

func TestLogoutIsGivenUpAfterADay(t *testing.T) {
	r := newReceiver(t)
	r.status.Store(500)
	h := newHouse(t, r.entry("app", ""))
	h.o.HTTP = &http.Client{}
	ada := h.person("ada")
	h.idTokenOf("app", ada)
	h.remove(ada)
	for end := h.clock.Now().Add(48 * time.Hour); h.clock.Now().Before(end) && len(h.waiting()) > 0; h.clock.Advance(30 * time.Minute) {
		h.deliverOnce(t)
	}
	if got := h.logouts.Stats(); got.Dropped != 1 || got.Failed < 8 || got.Failed > 50 || len(h.waiting()) != 0 {
		t.Errorf("stats %+v, outbox %+v", got, h.waiting())
	}
	if took := h.clock.Now().Sub(start); took < 24*time.Hour || took > 25*time.Hour {
		t.Errorf("given up after %s", took)
	}
}

// Several nodes on one store: of all that try at once one tells.
func TestLogoutIsToldOnce(t *testing.T) {
	r := newReceiver(t)
	h := newHouse(t, r.entry("app", ""))
	h.o.HTTP = &http.Client{}
	for range 5 {
		ada := h.person("ada")
		h.idTokenOf("app", ada)
		h.idTokenOf("app", ada) // the same client again is told once
		h.remove(ada)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { h.deliverOnce(t) })
	}
	wg.Wait()
	if len(r.got) != 5 || len(h.waiting()) != 0 {
		t.Errorf("told %d times, %d in the outbox; want 5, 0", len(r.got), len(h.waiting()))
	}
}

// The handle lives on: who signed in since is not signed out by what comes late.
func TestEndOfAnEarlierSignIn(t *testing.T) {
	r := newReceiver(t)
	h := newHouse(t, r.entry("app", ""))
	h.o.HTTP = &http.Client{}
	ada := h.person("ada")
	h.idTokenOf("app", ada)
	h.remove(ada)
	h.deliverOnce(t)
	r.wait(t, time.Second)
	h.clock.Advance(time.Minute)
	ben := h.person("ben")
	s, err := h.sessions.SignIn(t.Context(), httptest.NewRecorder(), session.Visit{Handle: ada.Session.Handle}, session.Login{UserID: ben.Account.ID})
	if err != nil || s.Handle != ada.Session.Handle {
		t.Fatalf("got %q, %v", s.Handle, err)
	}
	h.idTokenOf("app", &Person{Session: s, Account: ben.Account})
	h.logouts.Ended(t.Context(), ada.Session) // a hint that comes late
	if err := h.logouts.findEnded(t.Context(), h.sessions); err != nil {
		t.Fatal(err)
	}
	h.deliverOnce(t)
	if len(r.got) != 0 || len(h.waiting()) != 0 {
		t.Error("the client hears of the end of a session that lives")
	}
}

// One client that hangs holds up neither the person nor the other client.
func TestLogoutOfAClientThatHangs(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	r := newReceiver(t)
	h, _ := telling(t, r.entry("app", ""), strings.Replace(r.entry("slow", ""), r.URL+"/slow", hanging.URL, 1))
	var people []*Person
	for range 2 * perClient {
		ada := h.person("ada")
		h.idTokenOf("slow", ada)
		people = append(people, ada)
	}
	last := h.person("ada")
	h.idTokenOf("app", last)
	for _, who := range append(people, last) {
		h.remove(who)
	}
	if n := r.wait(t, 5*time.Second); n.path != "POST /app" {
		t.Errorf("told: %+v", n)
	}
}

// Clients that want no logout token cost no document; a client that lost its address is
// forgotten.
func TestParticipants(t *testing.T) {
	r := newReceiver(t)
	h := newHouse(t, logoutFree, r.entry("app", ""), strings.Replace(r.entry("front", `, "x": 1`), `"backchannel_logout_uri": "`+r.URL+`/front", "x": 1`, `"frontchannel_logout_uri": "https://front.example.org/out?a=b"`, 1))
	h.o.HTTP = &http.Client{}
	ada := h.person("ada")
	h.idTokenOf("free", ada)
	if n, err := h.logouts.participants.Count(t.Context(), ""); n != 0 || err != nil {
		t.Errorf("%d participants, %v", n, err)
	}
	h.idTokenOf("front", ada)
	h.idTokenOf("app", ada)
	frames, err := h.FrontChannel(t.Context(), ada.Session)
	if want := "https://front.example.org/out?a=b&iss=https%3A%2F%2Flogin.example.org&sid=" + ada.Session.Handle; err != nil || len(frames) != 1 || frames[0] != want {
		t.Errorf("frames %q, %v; want %q", frames, err, want)
	}
	other := ada.Session
	other.Created = other.Created.Add(time.Second)
	if frames, err := h.FrontChannel(t.Context(), other); err != nil || len(frames) != 0 {
		t.Errorf("frames of another sign-in: %q, %v", frames, err)
	}
	h.remove(ada)
	h.deliverOnce(t)
	if n, err := h.logouts.participants.Count(t.Context(), ""); n != 0 || err != nil || len(r.got) != 1 {
		t.Errorf("%d participants, %v; %d told", n, err, len(r.got))
	}
}
