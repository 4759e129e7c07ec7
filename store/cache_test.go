package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/clock"
	"login-server/store"
)

// source is what a cache stands before; it counts how often it is asked.
type source struct {
	value atomic.Int64
	loads atomic.Int64
}

func (s *source) load(context.Context, string) (int64, error) {
	s.loads.Add(1)
	return s.value.Load(), nil
}

func newCache(size int) (*store.Cache[int64], *clock.Fake) {
	now := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return store.NewCache[int64](size, time.Minute, now.Now), now
}

// wantGet checks what the cache returns and how often the source has been asked until then.
func wantGet(t *testing.T, c *store.Cache[int64], s *source, key string, value, loads int64) {
	t.Helper()
	got, err := c.Get(t.Context(), key, s.load)
	if err != nil || got != value {
		t.Errorf("Get %s: got %d, %v; want %d", key, got, err, value)
	}
	if got := s.loads.Load(); got != loads {
		t.Errorf("Get %s: %d loads so far, want %d", key, got, loads)
	}
}

func TestCacheLoadsOnce(t *testing.T) {
	c, now := newCache(100)
	var s source
	wantGet(t, c, &s, "a", 0, 1)
	s.value.Store(1)
	wantGet(t, c, &s, "a", 0, 1)
	wantGet(t, c, &s, "b", 1, 2)
	now.Advance(time.Minute - 1)
	wantGet(t, c, &s, "a", 0, 2)
	now.Advance(1)
	wantGet(t, c, &s, "a", 1, 3)
}

func TestCacheForgets(t *testing.T) {
	c, _ := newCache(100)
	var s source
	wantGet(t, c, &s, "a", 0, 1)
	wantGet(t, c, &s, "b", 0, 2)
	s.value.Store(1)
	c.Forget("a")
	wantGet(t, c, &s, "a", 1, 3)
	wantGet(t, c, &s, "b", 0, 3)
	s.value.Store(2)
	c.Clear()
	wantGet(t, c, &s, "a", 2, 4)
	wantGet(t, c, &s, "b", 2, 5)
}

// A value that was read before a change and arrives after it must not stay.
func TestCacheForgetsWhatIsBeingLoaded(t *testing.T) {
	for name, forget := range map[string]func(*store.Cache[int64]){
		"Forget": func(c *store.Cache[int64]) { c.Forget("a") },
		"Clear":  func(c *store.Cache[int64]) { c.Clear() },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCache(100)
			var s source
			got, err := c.Get(t.Context(), "a", func(ctx context.Context, key string) (int64, error) {
				old, err := s.load(ctx, key)
				s.value.Store(1)
				forget(c)
				return old, err
			})
			if got != 0 || err != nil {
				t.Errorf("Get: got %d, %v; want 0", got, err)
			}
			wantGet(t, c, &s, "a", 1, 2)
		})
	}
}

// Age counts from before the load: a slow source does not make a value live longer.
func TestCacheAgeCountsFromTheLoad(t *testing.T) {
	c, now := newCache(100)
	var s source
	if _, err := c.Get(t.Context(), "a", func(ctx context.Context, key string) (int64, error) {
		now.Advance(time.Minute)
		return s.load(ctx, key)
	}); err != nil {
		t.Fatal(err)
	}
	s.value.Store(1)
	wantGet(t, c, &s, "a", 1, 2)
}

func TestCacheKeepsNoErrors(t *testing.T) {
	c, _ := newCache(100)
	broken := errors.New("broken")
	_, err := c.Get(t.Context(), "a", func(context.Context, string) (int64, error) { return 0, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	var s source
	s.value.Store(1)
	wantGet(t, c, &s, "a", 1, 1)
}

func TestCacheIsBounded(t *testing.T) {
	const size = 320
	c, _ := newCache(size)
	var s source
	for i := range 10 * size {
		if _, err := c.Get(t.Context(), fmt.Sprint(i), s.load); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for i := range 10 * size {
		before := s.loads.Load()
		if _, err := c.Get(t.Context(), fmt.Sprint(i), s.load); err != nil {
			t.Fatal(err)
		}
		if s.loads.Load() == before {
			kept++
		}
	}
	if kept > size {
		t.Errorf("%d values are kept, want no more than %d", kept, size)
	}
	// One that is smaller than its parts still keeps something.
	c, _ = newCache(1)
	s.loads.Store(0)
	wantGet(t, c, &s, "a", 0, 1)
	wantGet(t, c, &s, "a", 0, 1)
}

// Whoever changes a value and then calls Forget never sees the old one again,
// whatever others load meanwhile.
func TestCacheUnderContention(t *testing.T) {
	c, _ := newCache(100)
	var sources [4]source
	var wg sync.WaitGroup
	var stop atomic.Bool
	for i := range sources {
		s, key := &sources[i], fmt.Sprint(i)
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					if _, err := c.Get(t.Context(), key, s.load); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	var writers sync.WaitGroup
	for i := range sources {
		s, key := &sources[i], fmt.Sprint(i)
		writers.Go(func() {
			for n := int64(1); n <= 500; n++ {
				s.value.Store(n)
				c.Forget(key)
				if got, err := c.Get(t.Context(), key, s.load); got != n || err != nil {
					t.Errorf("after writing %d: got %d, %v", n, got, err)
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	wg.Wait()
}

func BenchmarkCacheGet(b *testing.B) {
	c := store.NewCache[int64](1000, time.Hour, time.Now)
	var s source
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Get(b.Context(), "a", s.load); err != nil {
				b.Error(err)
			}
		}
	})
}
