package accounts

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"login-server/providers"
)

// crowd asks a hasher for hashes that take a time which the test decides, in a bubble in
// which time passes when nobody can go on.
type crowd struct {
	hasher *hasher
	took   time.Duration
	places int
	seen   seen // behind hasher.mu
}

// seen is what became of a crowd.
type seen struct {
	// begun are those that have had their turn, in order; ended what came of who waits no more.
	begun []int
	ended map[int]error
	// now and most are how many are made at once.
	now, most        int
	running, waiting int
}

// inBubble runs a test with a crowd whose hashes take a time.
func inBubble(t *testing.T, places int, took time.Duration, test func(*testing.T, *crowd)) {
	synctest.Test(t, func(t *testing.T) {
		test(t, &crowd{hasher: new(hasher), places: places, took: took, seen: seen{ended: map[int]error{}}})
	})
}

// ask asks for the i-th hash, and returns when it has begun, waits, or was refused.
func (c *crowd) ask(ctx context.Context, i int) {
	places := c.places
	note := func(change func(*seen)) {
		c.hasher.mu.Lock()
		defer c.hasher.mu.Unlock()
		change(&c.seen)
	}
	go func() {
		leave, err := c.hasher.enter(ctx, places)
		if err == nil {
			note(func(s *seen) { s.begun, s.now = append(s.begun, i), s.now+1; s.most = max(s.most, s.now) })
			time.Sleep(c.took)
			note(func(s *seen) { s.now-- })
			leave()
		}
		note(func(s *seen) { s.ended[i] = err })
	}()
	synctest.Wait()
}

// after lets time pass and tells what became of everybody.
func (c *crowd) after(d time.Duration) seen {
	time.Sleep(d)
	synctest.Wait()
	c.hasher.mu.Lock()
	defer c.hasher.mu.Unlock()
	s := c.seen
	s.begun, s.ended = slices.Clone(s.begun), maps.Clone(s.ended)
	s.running, s.waiting = c.hasher.running, len(c.hasher.queue)
	return s
}

func TestHashesInOrder(t *testing.T) {
	inBubble(t, 2, time.Second, func(t *testing.T, c *crowd) {
		const asked = 9
		for i := range asked {
			c.ask(t.Context(), i)
		}
		s := c.after(time.Minute)
		if len(s.begun) != asked {
			t.Errorf("%d of %d have begun", len(s.begun), asked)
		}
		for turn, i := range s.begun {
			// Two whose turn it is at the same moment may be seen in either order.
			if i < turn-1 || i > turn+1 {
				t.Errorf("the order is %v", s.begun)
			}
		}
		if s.most != 2 {
			t.Errorf("%d were made at once, want 2", s.most)
		}
		if s.running != 0 || s.waiting != 0 {
			t.Errorf("%d run and %d wait when all have ended", s.running, s.waiting)
		}
	})
}

// TestHashesRefusedAtOnce: who would have to wait too long is told so when they come, and
// those who wait are served.
func TestHashesRefusedAtOnce(t *testing.T) {
	inBubble(t, 1, time.Second, func(t *testing.T, c *crowd) {
		c.ask(t.Context(), 0)
		c.after(2 * time.Second) // from now on it knows how long they take
		const asked = 20
		for i := range asked {
			c.ask(t.Context(), 1+i)
		}
		s := c.after(0)
		refused := 0
		for i, err := range s.ended {
			if i > 0 && !errors.Is(err, ErrBusy) {
				t.Errorf("%d ended with %v", i, err)
			}
			if err != nil {
				refused++
			}
		}
		// One runs, and six wait: before the last of them are five, of a second each.
		if want := asked - 7; refused != want {
			t.Errorf("%d of %d were refused at once, want %d", refused, asked, want)
		}
		// Whoever asks before anything else hears the same.
		counted := c.hasher.refused.Load()
		if err := c.hasher.knock(providers.Hashing{AtOnce: 1}); !errors.Is(err, ErrBusy) || c.hasher.refused.Load() != counted+1 {
			t.Errorf("knocking: %v", err)
		}
		if s = c.after(time.Minute); len(s.begun) != 1+asked-refused {
			t.Errorf("%d were served and %d refused, of %d", len(s.begun), refused, 1+asked)
		}
		if err := c.hasher.knock(providers.Hashing{AtOnce: 1}); err != nil {
			t.Errorf("knocking when nobody waits: %v", err)
		}
		c.ask(t.Context(), 99)
		if s = c.after(time.Minute); s.ended[99] != nil || !slices.Contains(s.begun, 99) {
			t.Errorf("after the crowd has gone somebody ends with %v", s.ended[99])
		}
	})
}

// TestHashesQueueBounded: also before it is known how long they take.
func TestHashesQueueBounded(t *testing.T) {
	inBubble(t, 1, time.Hour, func(t *testing.T, c *crowd) {
		for i := range queuePerPlace + 1 {
			c.ask(t.Context(), i)
		}
		if s := c.after(0); len(s.ended) != 0 {
			t.Fatalf("%d were refused", len(s.ended))
		}
		c.ask(t.Context(), -1)
		if s := c.after(0); !errors.Is(s.ended[-1], ErrBusy) {
			t.Errorf("one more ends with %v, want ErrBusy", s.ended[-1])
		}
		s := c.after(maxWait)
		if len(s.ended) != queuePerPlace+1 || s.waiting != 0 {
			t.Errorf("%d have ended after %v, and %d wait", len(s.ended), maxWait, s.waiting)
		}
		c.after(time.Hour)
	})
}

func TestHashesGivenUp(t *testing.T) {
	inBubble(t, 1, time.Second, func(t *testing.T, c *crowd) {
		gone, leave := context.WithCancel(t.Context())
		c.ask(t.Context(), 0)
		c.ask(gone, 1)
		c.ask(t.Context(), 2)
		leave()
		if s := c.after(0); !errors.Is(s.ended[1], context.Canceled) {
			t.Errorf("who has gone ends with %v", s.ended[1])
		}
		if s := c.after(time.Minute); !slices.Equal(s.begun, []int{0, 2}) || s.running != 0 {
			t.Errorf("begun %v, %d run", s.begun, s.running)
		}
	})
}

// TestHashesFewerPlaces: a setting that was made smaller holds for those who wait already.
func TestHashesFewerPlaces(t *testing.T) {
	inBubble(t, 3, time.Second, func(t *testing.T, c *crowd) {
		for i := range 6 {
			c.ask(t.Context(), i)
		}
		c.places = 1
		c.ask(t.Context(), 6)
		if s := c.after(1500 * time.Millisecond); s.now != 1 {
			t.Errorf("%d are made at once, want 1", s.now)
		}
		if s := c.after(time.Minute); len(s.begun) != 7 {
			t.Errorf("%d were served, want 7", len(s.begun))
		}
	})
}
