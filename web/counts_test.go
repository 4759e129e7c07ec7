package web_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// TestSlowCountsRest: a database that takes its time to count is not made to count again and
// again, and /about says all the same when it has gone.
func TestSlowCountsRest(t *testing.T) {
	s := newServer(t)
	s.browser().login("alpha", "ada")
	var counted atomic.Int32
	var away atomic.Bool
	s.store.fail(func(kind string) error {
		if away.Load() {
			return errors.New("away")
		}
		if kind == "user" { // counting is the only thing that asks for these now
			counted.Add(1)
			s.clock.Advance(time.Second)
		}
		return nil
	})
	about := func() (ok, people int) {
		t.Helper()
		s.clock.Advance(2 * time.Second) // so that it is made anew
		var body struct {
			OK         int
			Statistics struct{ UserCount int }
		}
		s.browser().get("about").want(200).json(&body)
		return body.OK, body.Statistics.UserCount
	}
	if ok, people := about(); ok != 1 || people != 1 || counted.Load() == 0 {
		t.Fatalf("ok %d, %d people, counted %d times", ok, people, counted.Load())
	}
	once := counted.Load()
	if ok, people := about(); ok != 1 || people != 1 || counted.Load() != once {
		t.Errorf("ok %d, %d people, counted %d times more", ok, people, counted.Load()-once)
	}
	away.Store(true)
	if ok, _ := about(); ok != 0 {
		t.Errorf("ok is %d while the database is away", ok)
	}
	away.Store(false)
	s.clock.Advance(time.Duration(once) * restFactor * time.Second)
	if ok, people := about(); ok != 1 || people != 1 || counted.Load() == once {
		t.Errorf("ok %d, %d people, counted %d times more", ok, people, counted.Load()-once)
	}
}

// restFactor is that of web/info.go.
const restFactor = 20
