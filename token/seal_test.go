package token_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/token"
)

func sealer(t testing.TB, purpose string, secrets ...string) *token.Sealer {
	t.Helper()
	s, err := token.NewSealer(secrets, purpose)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *token.Sealer, value any) string {
	t.Helper()
	sealed, err := s.Seal(value)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealer(t *testing.T) {
	s := sealer(t, "test", "secret")
	sealed := seal(t, s, "Ada")
	if sealed == seal(t, s, "Ada") {
		t.Error("the same value is sealed alike twice")
	}
	tests := []struct {
		what   string
		sealer *token.Sealer
		sealed string
		opens  bool
	}{
		{"the same sealer", s, sealed, true},
		{"one made alike", sealer(t, "test", "secret"), sealed, true},
		{"after the secret was rotated", sealer(t, "test", "new", "secret"), sealed, true},
		{"before everybody has the new secret", sealer(t, "test", "secret", "new"), seal(t, sealer(t, "test", "new", "secret"), "Ada"), true},
		{"after the old secret was dropped", sealer(t, "test", "new"), sealed, false},
		{"another purpose", sealer(t, "other", "secret"), sealed, false},
		{"a value of another type", s, seal(t, s, []int{1}), false},
		{"nothing", s, "", false},
		{"too short", s, "AAAA", false},
		{"no base64", s, sealed + "!", false},
		{"cut off", s, sealed[:len(sealed)-1], false},
	}
	for _, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			var value string
			err := tc.sealer.Open(tc.sealed, &value)
			if tc.opens && (err != nil || value != "Ada") {
				t.Errorf("got %q, %v", value, err)
			}
			if !tc.opens && !errors.Is(err, token.ErrInvalid) {
				t.Errorf("got %q, %v; want ErrInvalid", value, err)
			}
		})
	}
	if _, err := token.NewSealer(nil, "test"); err == nil {
		t.Error("a sealer without a secret was made")
	}
}

func TestSealerNoticesEveryChange(t *testing.T) {
	s := sealer(t, "test", "secret")
	sealed := seal(t, s, "Ada")
	for i := range sealed {
		for _, c := range []byte("AB_-") {
			if sealed[i] == c {
				continue
			}
			changed := []byte(sealed)
			changed[i] = c
			var value string
			if err := s.Open(string(changed), &value); !errors.Is(err, token.ErrInvalid) {
				t.Fatalf("byte %d changed: got %q, %v; want ErrInvalid", i, value, err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer(f, "test", "secret")
	f.Add(seal(f, s, "Ada"))
	f.Add("")
	f.Fuzz(func(t *testing.T, sealed string) {
		var value string
		if err := s.Open(sealed, &value); err == nil && value != "Ada" {
			t.Errorf("%q opens as %q, which was never sealed", sealed, value)
		}
	})
}

func (h *house) tickets() *token.Tickets {
	h.Helper()
	t, err := token.NewTickets(h.engine, []string{"secret"}, h.clock.Now)
	h.must(err)
	return t
}

func TestTicket(t *testing.T) {
	h := newHouse(t)
	tickets := h.tickets()
	sealed, err := tickets.Mint("handle", "binding")
	h.must(err)
	ticket, err := tickets.Peek(sealed)
	h.must(err)
	if ticket.Handle != "handle" || ticket.Binding != "binding" {
		t.Errorf("got %+v", ticket)
	}
	if again, err := tickets.Peek(sealed); err != nil || again != ticket {
		t.Errorf("looking at it has changed it: %+v, %v", again, err)
	}
	if tickets.IsSpent(t.Context(), ticket, true) {
		t.Error("spent before it was")
	}
	h.clock.Advance(token.TicketLife + token.Leeway - time.Millisecond)
	if _, err := tickets.Peek(sealed); err != nil {
		t.Errorf("within its life: %v", err)
	}
	h.clock.Advance(time.Millisecond)
	if _, err := tickets.Peek(sealed); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("after its life: got %v, want ErrInvalid", err)
	}
	if _, err := tickets.Peek("garbage"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("garbage: got %v, want ErrInvalid", err)
	}
	if other, _ := tickets.Mint("handle", "binding"); other == sealed {
		t.Error("two tickets are alike")
	}
}

func TestTicketIsSpentOnce(t *testing.T) {
	for what, binding := range map[string]string{"signed in": "binding", "anonymous": ""} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t)
			tickets := h.tickets()
			sealed, err := tickets.Mint("handle", binding)
			h.must(err)
			ticket, err := tickets.Peek(sealed)
			h.must(err)
			// Somebody who looked at it in time, and comes to spend it when it has expired.
			h.clock.Advance(token.TicketLife)
			var spent atomic.Int32
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					switch err := tickets.Spend(t.Context(), ticket); {
					case err == nil:
						spent.Add(1)
					case !errors.Is(err, token.ErrInvalid):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if spent.Load() != 1 {
				t.Errorf("spent %d times, want once", spent.Load())
			}
			if !tickets.IsSpent(t.Context(), ticket, true) {
				t.Error("this node does not know that it was spent here")
			}
			if binding != "" { // what opens something is spent for every node
				if err := h.tickets().Spend(t.Context(), ticket); !errors.Is(err, token.ErrInvalid) {
					t.Errorf("on another node: got %v, want ErrInvalid", err)
				}
			}
		})
	}
}

func TestSpentTicketsAreForgotten(t *testing.T) {
	h := newHouse(t)
	tickets := h.tickets()
	var first token.Ticket
	for i := range 5 {
		sealed, err := tickets.Mint("handle", "")
		h.must(err)
		ticket, err := tickets.Peek(sealed)
		h.must(err)
		h.must(tickets.Spend(t.Context(), ticket))
		if i == 0 {
			first = ticket
		}
		h.clock.Advance(token.TicketLife + time.Second)
	}
	if tickets.IsSpent(t.Context(), first, true) {
		t.Error("a ticket that expired long ago still takes memory")
	}
}

func TestDerivedKeys(t *testing.T) {
	a, b, c := token.DeriveKey("secret", "a"), token.DeriveKey("secret", "b"), token.DeriveKey("other", "a")
	if len(a) != 32 || string(a) == string(b) || string(a) == string(c) || string(a) != string(token.DeriveKey("secret", "a")) {
		t.Error("keys are to differ by secret and purpose, and by nothing else")
	}
}
