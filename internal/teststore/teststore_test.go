package teststore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"login-server/store"
	"login-server/store/storetest"
)

// TestOutside: an engine that is used through another goroutine is the same engine.
func TestOutside(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.Engine { return Outside(t, Open(t, now)) })
}

// TestInBubble: calls begin and end within what Wait waits for, and take no time there.
func TestInBubble(t *testing.T) {
	engine := Outside(t, Open(t, time.Now))
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		answered := make(chan error, 10)
		for i := range cap(answered) {
			go func() {
				_, err := engine.Insert(t.Context(), "thing", store.Doc{ID: string(rune('a' + i)), Data: []byte(`{}`)})
				answered <- err
			}()
		}
		synctest.Wait()
		if len(answered) != cap(answered) {
			t.Errorf("%d of %d calls were answered", len(answered), cap(answered))
		}
		for range len(answered) {
			if err := <-answered; err != nil {
				t.Error(err)
			}
		}
		if n, err := engine.Count(t.Context(), "thing", ""); n != cap(answered) || err != nil {
			t.Errorf("Count: got %d, %v", n, err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := engine.Ping(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Ping with a context that has ended: got %v", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v of the bubble", took)
		}
	})
}

// TestEmpty: no test finds what another has left.
func TestEmpty(t *testing.T) {
	for range 2 {
		engine := Open(t, time.Now)
		if _, err := engine.Insert(t.Context(), "thing", store.Doc{ID: "one", Data: []byte(`{}`)}); err != nil {
			t.Error(err)
		}
	}
}
