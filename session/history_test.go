package session_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"login-server/session"
)

func refusal(user string) session.SignIn {
	return session.SignIn{UserID: user, Provider: "test", Result: session.ResultRefused, Reason: "password", Address: "192.0.2.66"}
}

// history is that of an account, with how many refusals it stands for.
func (h *house) history(user string) (entries []session.SignIn, refused int) {
	h.Helper()
	entries, err := h.History(h.Context(), session.HistoryQuery{UserIDs: []string{user}})
	h.must(err)
	for _, e := range entries {
		if e.Result != session.ResultOK {
			refused += max(1, e.More)
		}
	}
	return entries, refused
}

// TestRefusalsAreBounded: who guesses passwords all day can neither fill the store nor push
// the person's own sign-ins out of sight.
func TestRefusalsAreBounded(t *testing.T) {
	h := newHouse(t)
	h.browser().signIn("ada")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				if err := h.Note(t.Context(), refusal("ada")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	entries, refused := h.history("ada")
	if len(entries) != 1+200+1 || refused != 320 {
		t.Errorf("%d entries for %d refusals; want 202 for 320", len(entries), refused)
	}
	last := entries[len(entries)-1]
	if last.More != 120 || last.UserID != "ada" || last.Address != "" {
		t.Errorf("the last entry of the day: %+v", last)
	}
	// The next day begins anew, and nobody else's history is touched.
	h.clock.Advance(24 * time.Hour)
	h.must(h.Note(t.Context(), refusal("ada")))
	h.must(h.Note(t.Context(), refusal("bob")))
	entries, refused = h.history("ada")
	if refused != 321 || entries[0].Reason != "password" || entries[0].Slot != 0 {
		t.Errorf("the next day: %d refusals, %+v", refused, entries[0])
	}
	if _, refused := h.history("bob"); refused != 1 {
		t.Errorf("somebody else: %d", refused)
	}
	h.must(h.DeleteHistory(t.Context(), "ada"))
	if entries, _ := h.history("ada"); len(entries) != 0 {
		t.Errorf("%d entries of who has gone", len(entries))
	}
}

func TestNoteRefusesWhatBelongsToNobody(t *testing.T) {
	h := newHouse(t)
	for _, s := range []session.SignIn{{Result: session.ResultRefused}, {UserID: "ada"}, {UserID: "ada", Result: session.ResultOK}} {
		if err := h.Note(t.Context(), s); err == nil {
			t.Errorf("%+v is in the history", s)
		}
	}
}

func TestHistoryByPages(t *testing.T) {
	h := newHouse(t)
	for i := range 25 {
		if i%3 == 0 {
			h.must(h.Note(t.Context(), refusal("absorbed")))
		} else {
			h.browser().signIn("ada")
		}
		h.clock.Advance(time.Duration(i%2) * time.Minute) // some at the same moment
	}
	q := session.HistoryQuery{UserIDs: []string{"ada", "absorbed"}, Limit: 4}
	seen := map[string]bool{}
	for before := "~"; ; {
		page, err := h.History(t.Context(), q)
		h.must(err)
		for _, e := range page {
			if seen[e.ID] || e.ID >= before {
				t.Errorf("%s after %s", e.ID, before)
			}
			seen[e.ID], before = true, e.ID
		}
		if len(page) < q.Limit {
			break
		}
		q.Before = before
	}
	if len(seen) != 25 {
		t.Errorf("%d entries, want 25", len(seen))
	}
}

// TestHistoryNamesTheSession: also when another has taken the handle that was meant.
func TestHistoryNamesTheSession(t *testing.T) {
	h := newHouse(t)
	one := h.browser()
	one.comeBy()
	two := one.copy()
	first, second := one.signIn("ada"), two.signIn("bob")
	if first.Handle == second.Handle {
		t.Fatal("both have one session")
	}
	for user, want := range map[string]string{"ada": first.Handle, "bob": second.Handle} {
		entries, _ := h.history(user)
		if len(entries) != 1 || entries[0].Session != want {
			t.Errorf("%s: %+v, want one of session %s", user, entries, want)
		}
	}
}

func TestSignedInFrom(t *testing.T) {
	h := newHouse(t)
	signIn := func(user, country string) {
		b := h.browser()
		l := login(user)
		l.Country, l.City, l.Device = country, "Somewhere", "d1"
		_, err := h.SignIn(t.Context(), h.recorder(), b.visit(), l)
		h.must(err)
	}
	want := func(what, country string, there, anywhere bool, users ...string) {
		t.Helper()
		gotThere, gotAnywhere, err := h.SignedInFrom(t.Context(), country, users...)
		h.must(err)
		if gotThere != there || gotAnywhere != anywhere {
			t.Errorf("%s: got %v, %v; want %v, %v", what, gotThere, gotAnywhere, there, anywhere)
		}
	}
	signIn("ada", "")
	want("no country is known", "DE", false, false, "ada")
	signIn("ada", "DE")
	signIn("bob", "FR")
	r := refusal("ada")
	r.Country = "BR"
	h.must(h.Note(t.Context(), r))
	want("the same", "DE", true, true, "ada")
	want("another", "NO", false, true, "ada")
	want("somebody else's", "FR", false, true, "ada")
	want("an absorbed account's", "FR", true, true, "ada", "bob")
	want("of a refusal only", "BR", false, true, "ada")
	h.clock.Advance(91 * 24 * time.Hour)
	want("too long ago", "DE", false, false, "ada")
}

func TestSoftware(t *testing.T) {
	for header, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "Firefox, Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36":                         "Chrome, Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1": "Safari, iOS",
		"": ", ",
	} {
		browser, system := session.Software(header)
		if got := fmt.Sprintf("%s, %s", browser, system); got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}
