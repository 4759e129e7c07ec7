// Package clock is where the program gets its time and its timers from, so that
// a test can move time instead of waiting for it.
package clock

import (
	"sort"
	"sync"
	"time"
)

// Clock tells the time and starts timers.
// Implementations are safe for concurrent use.
type Clock interface {
	// Now is the current time in UTC, in whole milliseconds, which is what the store keeps.
	Now() time.Time
	// AfterFunc calls f in its own goroutine once d has passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a timer that Clock.AfterFunc has started.
type Timer interface {
	// Stop prevents the call; false means that it has been made or stopped already.
	Stop() bool
}

// System is the clock of the machine, which may be off.
type System struct {
	// Off is what is added to its time: tests run nodes whose clocks differ.
	Off time.Duration
}

// Now implements Clock.
func (c System) Now() time.Time { return time.Now().Add(c.Off).UTC().Truncate(time.Millisecond) }

// AfterFunc implements Clock.
func (System) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// Fake is a clock that stands still until Advance moves it.
type Fake struct {
	mu     sync.Mutex
	now    time.Time
	timers []*fakeTimer
}

type fakeTimer struct {
	clock *Fake
	at    time.Time
	f     func()
}

// NewFake returns a clock that shows now.
func NewFake(now time.Time) *Fake { return &Fake{now: now.UTC()} }

// Now implements Clock.
func (c *Fake) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc implements Clock. f runs inside Advance, in the order in which timers are due.
func (c *Fake) AfterFunc(d time.Duration, f func()) Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &fakeTimer{clock: c, at: c.now.Add(d), f: f}
	c.timers = append(c.timers, t)
	return t
}

// Stop implements Timer.
func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	for i, other := range t.clock.timers {
		if other == t {
			t.clock.timers = append(t.clock.timers[:i], t.clock.timers[i+1:]...)
			return true
		}
	}
	return false
}

// Skip moves the clock forward by d as on a machine that was suspended: every timer that
// became due runs once, late, and timers that those set start from then.
func (c *Fake) Skip(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	c.Advance(0)
}

// Advance moves the clock forward by d and runs every timer that becomes due,
// each at the time it was set for; timers that those set are run too.
func (c *Fake) Advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		sort.SliceStable(c.timers, func(i, j int) bool { return c.timers[i].at.Before(c.timers[j].at) })
		if len(c.timers) == 0 || c.timers[0].at.After(end) {
			break
		}
		next := c.timers[0]
		c.timers = c.timers[1:]
		if next.at.After(c.now) {
			c.now = next.at
		}
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}
