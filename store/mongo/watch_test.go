package mongo

import (
	"context"
	"sync/atomic"
	"testing"

	"login-server/internal/testenv"
	"login-server/store"
)

// watched is an engine with the number of changes that its Watch has told of.
type watched struct {
	*Engine
	t       *testing.T
	changes atomic.Int64
	polls   func() int // so far
}

func watch(t *testing.T, database string, heard func() bool) *watched {
	t.Helper()
	var asked recorder
	w := &watched{Engine: open(t, testenv.Mongo(t), database, Options{Heard: heard, monitor: asked.monitor()}), t: t}
	w.polls = func() int {
		asked.mu.Lock()
		defer asked.mu.Unlock()
		n := 0
		for _, c := range asked.commands {
			if name, ok := c.Lookup("find").StringValueOK(); ok && name == changesName {
				n++
			}
		}
		return n
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Watch(ctx, func() { w.changes.Add(1) })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	eventually(t, "Watch has begun", func() bool { return w.polls() > 0 })
	return w
}

// settle returns when the others have told of all that they wrote, and w has looked twice since.
func (w *watched) settle(others ...*Engine) {
	w.t.Helper()
	for _, e := range others {
		eventually(w.t, "writes are announced", func() bool { return !e.changes.pending.Load() })
	}
	before := w.polls()
	eventually(w.t, "Watch looks", func() bool { return w.polls() > before+1 })
}

func TestWatch(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	a, b := watch(t, database, nil), watch(t, database, nil)
	mustInsert(t, a.Engine, "a")
	eventually(t, "another process notices", func() bool { return b.changes.Load() == 1 })
	a.settle(a.Engine)
	if n := a.changes.Load(); n != 0 {
		t.Errorf("changed was called %d times for own writes", n)
	}
	// Both at once: each has to hear of the other, whatever it says itself.
	mustInsert(t, a.Engine, "a2")
	mustInsert(t, b.Engine, "b2")
	eventually(t, "both notice", func() bool { return a.changes.Load() >= 1 && b.changes.Load() >= 2 })

	// Reads and writes that changed nothing are none.
	b.settle(a.Engine, b.Engine)
	before := b.changes.Load()
	if _, err := a.Get(t.Context(), "kind", "a"); err != nil {
		t.Error(err)
	}
	if _, err := a.Insert(t.Context(), "kind", store.Doc{ID: "a", Data: []byte(`{}`)}); err == nil {
		t.Error("the id is taken")
	}
	b.settle(a.Engine)
	if n := b.changes.Load() - before; n != 0 {
		t.Errorf("changed was called %d times although nothing was written", n)
	}
}

// A command writes and ends: what it has written is told at the latest when it closes.
func TestWatchHearsOfACommand(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	server := watch(t, database, func() bool { return true })
	command, err := Open(t.Context(), testenv.Mongo(t), database, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustInsert(t, command, "1")
	mustInsert(t, command, "2")
	if err := command.Close(); err != nil {
		t.Fatal(err)
	}
	if command.changes.pending.Load() {
		t.Error("Close leaves writes that nobody was told of")
	}
	eventually(t, "the server notices", func() bool { return server.changes.Load() > 0 })
}

// While a bus tells the others, the database is not asked to; when it fails, it is.
func TestWatchBesideABus(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	var heard atomic.Bool
	heard.Store(true)
	a, b := open(t, testenv.Mongo(t), database, Options{Heard: heard.Load}), watch(t, database, heard.Load)
	mustInsert(t, a, "1")
	b.settle(a)
	if n := b.changes.Load(); n != 0 {
		t.Errorf("changed was called %d times beside a bus", n)
	}
	heard.Store(false)
	mustInsert(t, a, "2")
	eventually(t, "the other notices without a bus", func() bool { return b.changes.Load() > 0 })
}

// The writer could not say it at once, for the database was away.
func TestWatchAfterAnOutage(t *testing.T) {
	t.Parallel()
	if !testenv.MongoIsStandIn() {
		t.Skip("the proxy stands before one server, and this may be several")
	}
	p, uri := testenv.NewProxyURL(t, testenv.Mongo(t))
	database := newDatabase(t)
	other := watch(t, database, nil)
	e := open(t, uri, database, Options{})
	t.Cleanup(p.Restore)
	mustInsert(t, e, "1")
	eventually(t, "the first write is noticed", func() bool { return other.changes.Load() > 0 })
	e.changes.pending.Store(true) // as a write just before
	p.Cut()
	if err := e.changes.announce(t.Context()); err == nil || !e.changes.pending.Load() {
		t.Fatalf("announce without a database: %v, pending %v", err, e.changes.pending.Load())
	}
	before := other.changes.Load()
	p.Restore()
	e.wrote()
	eventually(t, "it is noticed after all", func() bool { return other.changes.Load() > before })
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Watch(t.Context(), func() {})
	}()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}
