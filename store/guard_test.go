package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"login-server/store"
)

// ill is an engine whose database refuses, or hangs until the caller gives up.
type ill struct {
	store.Engine // nil: what is not overridden is not called
	refuses      atomic.Bool
	hangs        atomic.Bool
	broken       atomic.Bool // it answers pings only
	calls, pings atomic.Int64
}

var errRefused = errors.New("dial tcp 10.0.0.7:27017: connection refused")

func (e *ill) ask(ctx context.Context) error {
	switch {
	case e.refuses.Load():
		return errRefused
	case e.hangs.Load():
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (e *ill) Get(ctx context.Context, _, _ string) (store.Doc, error) {
	e.calls.Add(1)
	if e.broken.Load() {
		return store.Doc{}, errRefused
	}
	return store.Doc{ID: "x"}, e.ask(ctx)
}

func (e *ill) Delete(context.Context, string, string) error { return store.ErrNotFound }

func (e *ill) Ping(ctx context.Context) error {
	e.pings.Add(1)
	return e.ask(ctx)
}

func guarded() (*ill, *store.Guard, *bytes.Buffer) {
	e, log := &ill{}, &bytes.Buffer{}
	return e, store.NewGuard(e, store.GuardOptions{Log: slog.New(slog.NewTextHandler(log, nil))}), log
}

func TestGuardBoundsCallsOfAHangingDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, g, log := guarded()
		e.hangs.Store(true)
		begun := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := g.Get(t.Context(), "k", "i"); !errors.Is(err, store.ErrAway) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("the first callers have waited %s", took)
		}
		if n := e.pings.Load(); n != 1 {
			t.Errorf("%d pings for 50 callers at once", n)
		}
		// From now on nobody waits, but for one each second that asks.
		begun = time.Now()
		for range 100 {
			if _, err := g.Get(t.Context(), "k", "i"); !errors.Is(err, store.ErrAway) {
				t.Errorf("got %v", err)
			}
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("callers wait %s for a database that is known to be away", took)
		}
		e.hangs.Store(false)
		time.Sleep(time.Second) // of the bubble
		if _, err := g.Get(t.Context(), "k", "i"); err != nil {
			t.Errorf("a second after it is back: %v", err)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "failed_calls=150") {
			t.Errorf("the log has %d lines:\n%s", n, log)
		}
		if st := g.Stats(); st.Away || st.Failed != 150 {
			t.Errorf("got %+v", st)
		}
	})
}

// While the database hangs, the one who asks whether it is back holds up nobody else.
func TestGuardAsksForOneCallerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, g, _ := guarded()
		e.hangs.Store(true)
		_ = g.Ping(t.Context())
		time.Sleep(time.Second)
		asking := make(chan time.Duration, 1)
		go func() {
			begun := time.Now()
			_ = g.Ping(t.Context())
			asking <- time.Since(begun)
		}()
		synctest.Wait()
		begun := time.Now()
		if _, err := g.Get(t.Context(), "k", "i"); !errors.Is(err, store.ErrAway) || time.Since(begun) > 0 {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
		if took := <-asking; took != 2*time.Second {
			t.Errorf("the one who asks waits %s", took)
		}
	})
}

func TestGuardPassesOnWhatIsNotAnAbsence(t *testing.T) {
	e, g, log := guarded()
	if err := g.Delete(t.Context(), "k", "i"); err != store.ErrNotFound || e.pings.Load() != 0 {
		t.Errorf("got %v after %d pings", err, e.pings.Load())
	}
	e.broken.Store(true)
	if _, err := g.Get(t.Context(), "k", "i"); err != errRefused {
		t.Errorf("a database that answers pings: got %v", err)
	}
	e.broken.Store(false)
	if _, err := g.Get(t.Context(), "k", "i"); err != nil {
		t.Errorf("got %v", err)
	}
	// Who has gone tells nothing of the database.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	e.hangs.Store(true)
	if _, err := g.Get(gone, "k", "i"); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrAway) || g.Stats().Away {
		t.Errorf("got %v, %+v", err, g.Stats())
	}
	if log.Len() > 0 {
		t.Errorf("the log has\n%s", log)
	}
}

func TestGuardOfADatabaseThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, g, log := guarded()
		e.refuses.Store(true)
		for range 1000 {
			if _, err := g.Get(t.Context(), "k", "i"); !errors.Is(err, store.ErrAway) {
				t.Fatalf("got %v", err)
			}
		}
		if n := e.calls.Load(); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		if g.Ping(t.Context()) == nil || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("the log has\n%s", log)
		}
		e.refuses.Store(false)
		time.Sleep(time.Second)
		if err := g.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
