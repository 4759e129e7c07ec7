package mongo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"login-server/internal/testenv"
	"login-server/store"
)

// A process whose clock is far from that of the database does not begin.
func TestClockOfTheMachine(t *testing.T) {
	c, err := connect(testenv.Mongo(t), newDatabase(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.client.Disconnect(context.Background()) }()
	for off, want := range map[time.Duration]string{
		0: "", time.Minute: "", -time.Minute: "",
		24 * time.Hour:   "ahead of that of the server",
		-expiryGrace * 2: "behind that of the server",
	} {
		_, err := c.greet(t.Context(), func() time.Time { return time.Now().Add(off) })
		problem, _ := errors.AsType[*StartError](err)
		switch {
		case want == "" && err != nil:
			t.Errorf("off by %s: %v", off, err)
		case want != "" && (problem == nil || !strings.Contains(problem.Problem, want)):
			t.Errorf("off by %s: got %v, want %q", off, err, want)
		}
	}
	if _, err := c.greet(t.Context(), nil); err != nil {
		t.Errorf("without a clock: %v", err)
	}
}

// A process whose clock is put ahead later removes nothing that others still use.
func TestSweepWithAWrongClock(t *testing.T) {
	uri, database := testenv.Mongo(t), newDatabase(t)
	right, ahead := open(t, uri, database, Options{}), open(t, uri, database, Options{})
	doc := store.Doc{ID: "a", Data: []byte(`{}`), Expires: time.Now().Add(time.Hour)}
	if _, err := right.Insert(t.Context(), "session", doc); err != nil {
		t.Fatal(err)
	}
	ahead.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	if _, err := ahead.Get(t.Context(), "session", "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("got %v, want that it has expired by that clock", err)
	}
	if n, err := ahead.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if _, err := right.Get(t.Context(), "session", "a"); err != nil {
		t.Errorf("after Sweep: %v", err)
	}
}
