package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"login-server/clock"
	"login-server/internal/teststore"
)

// A node that has died with a clock that was years ahead keeps nobody out; one that is ahead by
// minutes, and may live, does.
func TestNodeOfTheFuture(t *testing.T) {
	now := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	for ahead, keepsOut := range map[time.Duration]bool{5 * time.Minute: true, 10 * 365 * 24 * time.Hour: false} {
		engine := teststore.Open(t, now.Now)
		options := func(at time.Duration, secret string) Options {
			return Options{Name: secret, BaseURL: "https://login.example/", Secrets: []string{secret}, Clock: clock.NewFake(now.Now().Add(at))}
		}
		if _, err := Join(t.Context(), engine, options(ahead, "the one secret")); err != nil {
			t.Fatal(err)
		}
		living, err := Nodes(t.Context(), engine, now.Now())
		if err != nil || (len(living) == 1) != keepsOut {
			t.Errorf("ahead by %s: %d nodes live, %v", ahead, len(living), err)
		}
		n, err := Join(t.Context(), engine, options(0, "another secret"))
		if _, refused := errors.AsType[*MismatchError](err); refused != keepsOut || err != nil && !refused {
			t.Errorf("ahead by %s: another installation joins with %v", ahead, err)
		}
		if n != nil {
			_ = n.Leave(context.Background())
		}
	}
}
