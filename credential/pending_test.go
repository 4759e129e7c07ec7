package credential_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/clock"
	"login-server/credential"
	"login-server/internal/teststore"
)

// waitingRoom is a book with a clock that the test moves.
type waitingRoom struct {
	*testing.T
	*credential.Book
	clock *clock.Fake
}

func newWaitingRoom(t *testing.T) waitingRoom {
	t.Helper()
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	b, err := credential.NewBook(credential.Options{
		Store: teststore.Open(t, c.Now), Clock: c, NewID: func() string { return "id" }, Secrets: []string{"a secret", "an older one"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return waitingRoom{t, b, c}
}

func (h waitingRoom) begin(kind, owner, email string) credential.Issued {
	h.Helper()
	i, err := h.Begin(h.Context(), credential.Pending{Kind: kind, Credential: owner, Email: email}, map[string]string{"for": email}, 30*time.Minute)
	if err != nil {
		h.Fatal(err)
	}
	return i
}

// wrongFor is a code that is not the one of i.
func wrongFor(i credential.Issued) string {
	if i.Code == "000000" {
		return "000001"
	}
	return "000000"
}

// A code and a link are worth nothing for another record, kind or person.
func TestPendingIsForOneThing(t *testing.T) {
	h := newWaitingRoom(t)
	ctx := t.Context()
	i, other := h.begin(credential.PendingReset, "c1", "ada@example.org"), h.begin(credential.PendingReset, "c2", "ben@example.org")
	for what, err := range map[string]error{
		"link, other kind": second(h.ByLink(ctx, credential.PendingSignUp, i.Secret)),
		"link, garbage":    second(h.ByLink(ctx, credential.PendingReset, "x")),
		"link, its id":     second(h.ByLink(ctx, credential.PendingReset, i.ID)),
		"code, other kind": second(h.TryCode(ctx, credential.PendingEmail, i.ID, i.Code)),
		"code, no record":  second(h.TryCode(ctx, credential.PendingReset, i.Secret, i.Code)),
	} {
		if !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
	}
	if i.Code != other.Code {
		if _, err := h.TryCode(ctx, credential.PendingReset, other.ID, i.Code); !errors.Is(err, credential.ErrCode) {
			t.Errorf("the code of another: got %v", err)
		}
	}
	var payload map[string]string
	swapped := i.Pending
	swapped.Sealed = other.Sealed
	if err := h.Payload(swapped, &payload); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("what was sealed for another: got %v", err)
	}
	if err := h.Payload(i.Pending, &payload); err != nil || payload["for"] != "ada@example.org" {
		t.Errorf("got %v, %v", payload, err)
	}
	if !i.Bound(i.Browser) || i.Bound(other.Browser) || i.Bound("") {
		t.Error("bound to another browser")
	}
	if p, err := h.TryCode(ctx, credential.PendingReset, i.ID, " "+i.Code[:3]+"-"+i.Code[3:]); err != nil || p.Credential != "c1" {
		t.Errorf("the right code: got %+v, %v", p, err)
	}
	h.clock.Advance(30 * time.Minute)
	if _, err := h.ByLink(ctx, credential.PendingReset, i.Secret); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("too late: got %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// However many try at once, five codes are looked at.
func TestTriesAreCountedBeforeTheyAreLookedAt(t *testing.T) {
	h := newWaitingRoom(t)
	i := h.begin(credential.PendingReset, "c1", "ada@example.org")
	var looked atomic.Int32
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			switch _, err := h.TryCode(t.Context(), credential.PendingReset, i.ID, wrongFor(i)); {
			case errors.Is(err, credential.ErrCode):
				looked.Add(1)
			case !errors.Is(err, credential.ErrTries):
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if n := looked.Load(); n != credential.CodeTries-1 { // the fifth is told that it was the last
		t.Errorf("%d codes were looked at", n)
	}
	if _, err := h.TryCode(t.Context(), credential.PendingReset, i.ID, i.Code); !errors.Is(err, credential.ErrTries) {
		t.Errorf("the right one after that: got %v", err)
	}
	if _, err := h.ByLink(t.Context(), credential.PendingReset, i.Secret); err != nil {
		t.Errorf("the link: %v", err)
	}
}

// Of several who end it, and of several who exchange its code, one wins.
func TestPendingHasOneWinner(t *testing.T) {
	h := newWaitingRoom(t)
	i := h.begin(credential.PendingReset, "c1", "ada@example.org")
	race := func(do func() error) {
		t.Helper()
		var wins atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				switch err := do(); {
				case err == nil:
					wins.Add(1)
				case !errors.Is(err, credential.ErrNotFound):
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Errorf("%d have won", wins.Load())
		}
	}
	race(func() error { return second(h.Exchange(t.Context(), i.Pending)) })
	if _, err := h.ByLink(t.Context(), credential.PendingReset, i.Secret); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("the link in the mail: got %v", err)
	}
	if _, err := h.TryCode(t.Context(), credential.PendingReset, i.ID, i.Code); !errors.Is(err, credential.ErrCode) {
		t.Errorf("the code: got %v", err)
	}
	race(func() error { return h.End(t.Context(), i.Pending) })
}

func TestWithdraw(t *testing.T) {
	h := newWaitingRoom(t)
	ctx := t.Context()
	first, again := h.begin(credential.PendingReset, "c1", "ada@example.org"), h.begin(credential.PendingReset, "c1", "ADA@example.org")
	email, other := h.begin(credential.PendingEmail, "c1", "ada@example.org"), h.begin(credential.PendingReset, "c2", "ben@example.org")
	if err := h.Withdraw(ctx, credential.PendingReset, "c1"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		i    credential.Issued
		left bool
	}{{first, false}, {again, false}, {email, true}, {other, true}} {
		if _, err := h.ByLink(ctx, tc.i.Kind, tc.i.Secret); (err == nil) != tc.left {
			t.Errorf("%s of %s: %v", tc.i.Kind, tc.i.Credential, err)
		}
	}
}

// Nobody has the code of a decoy, and a lucky guess is none.
func TestDecoy(t *testing.T) {
	h := newWaitingRoom(t)
	i, err := h.Begin(t.Context(), credential.Pending{Kind: credential.PendingReset, Email: "ada@example.org", Decoy: true}, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.TryCode(t.Context(), credential.PendingReset, i.ID, i.Code); !errors.Is(err, credential.ErrCode) {
		t.Errorf("got %v", err)
	}
}
