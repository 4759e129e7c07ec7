package clock_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"login-server/clock"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))

func TestFakeStandsStillUntilItIsMoved(t *testing.T) {
	c := clock.NewFake(start)
	if got := c.Now(); !got.Equal(start) || got.Location() != time.UTC {
		t.Errorf("got %v, want %v in UTC", got, start)
	}
	c.Advance(time.Hour)
	if got := c.Now().Sub(start); got != time.Hour {
		t.Errorf("moved by %v, want an hour", got)
	}
}

func TestFakeRunsTimersInTheirOrderAtTheirTime(t *testing.T) {
	c := clock.NewFake(start)
	var ran []time.Duration
	note := func() { ran = append(ran, c.Now().Sub(start)) }
	c.AfterFunc(3*time.Second, note)
	c.AfterFunc(time.Second, func() {
		note()
		c.AfterFunc(time.Second, note)    // due within the same Advance
		c.AfterFunc(10*time.Second, note) // and one that is not
	})
	c.AfterFunc(0, note)
	stopped := c.AfterFunc(2*time.Second, note)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop is to report whether it has prevented the call")
	}
	c.Advance(5 * time.Second)
	if want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(ran, want) {
		t.Errorf("ran at %v, want %v", ran, want)
	}
	ran = nil
	c.Advance(6*time.Second - time.Nanosecond)
	if len(ran) != 0 {
		t.Errorf("ran too early, at %v", ran)
	}
	c.Advance(time.Nanosecond)
	if len(ran) != 1 {
		t.Errorf("ran %d times, want once", len(ran))
	}
}

func TestFakeTimerThatHasRunCannotBeStopped(t *testing.T) {
	c := clock.NewFake(start)
	timer := c.AfterFunc(time.Second, func() {})
	c.Advance(time.Second)
	if timer.Stop() {
		t.Error("Stop says that it has prevented a call that was made")
	}
}

func TestFakeIsSafeForConcurrentUse(t *testing.T) {
	c := clock.NewFake(start)
	var mu sync.Mutex
	ran := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				c.AfterFunc(time.Millisecond, func() { mu.Lock(); ran++; mu.Unlock() })
				c.AfterFunc(time.Hour, func() {}).Stop()
				c.Now()
				c.Advance(time.Millisecond)
			}
		})
	}
	wg.Wait()
	c.Advance(time.Second)
	if ran != 400 {
		t.Errorf("%d timers have run, want 400", ran)
	}
}

func TestSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock.Clock = clock.System{}
		begin := c.Now()
		if begin.Location() != time.UTC {
			t.Errorf("Now is in %v, want UTC", begin.Location())
		}
		ran := make(chan time.Time)
		c.AfterFunc(time.Minute, func() { ran <- c.Now() })
		if got := (<-ran).Sub(begin); got != time.Minute {
			t.Errorf("ran after %v, want a minute", got)
		}
		if !c.AfterFunc(time.Minute, func() { t.Error("a stopped timer has run") }).Stop() {
			t.Error("Stop has not prevented the call")
		}
		time.Sleep(time.Hour) // of the bubble
	})
}

func TestFakeSkipsAsASuspendedMachine(t *testing.T) {
	c := clock.NewFake(start)
	var ran []time.Duration
	var tick func()
	tick = func() {
		ran = append(ran, c.Now().Sub(start))
		c.AfterFunc(time.Second, tick)
	}
	c.AfterFunc(time.Second, tick)
	c.Skip(time.Hour)
	c.Advance(time.Second)
	if want := []time.Duration{time.Hour, time.Hour + time.Second}; !slices.Equal(ran, want) {
		t.Errorf("ran at %v, want %v", ran, want)
	}
}
