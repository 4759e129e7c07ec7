package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"login-server/internal/testenv"
	"login-server/store"
)

// throughProxy opens an engine whose connections the test can break, and one beside it that
// goes straight to the server.
func throughProxy(t *testing.T) (e *Engine, p *testenv.Proxy, beside *Engine) {
	t.Helper()
	if !testenv.MongoIsStandIn() {
		t.Skip("the proxy stands before one server, and this may be several")
	}
	p, uri := testenv.NewProxyURL(t, testenv.Mongo(t))
	database := newDatabase(t)
	// With a clock, for Sweep to have something to do.
	beside = open(t, testenv.Mongo(t), database, Options{Now: time.Now})
	// Nobody has to be told of writes, which would take connections that a test has in mind.
	e = open(t, uri, database, Options{Now: time.Now, Heard: func() bool { return true }})
	t.Cleanup(p.Restore) // before the engine is closed
	return e, p, beside
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// exists tells whether a document is there.
func exists(t *testing.T, e *Engine, id string) bool {
	t.Helper()
	_, err := e.Get(t.Context(), "kind", id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get %s: %v", id, err)
	}
	return err == nil
}

// everyCall is each method once, on a database that may be away.
func everyCall(ctx context.Context, e *Engine, doc store.Doc) map[string]func() error {
	return map[string]func() error{
		"Get":       func() error { _, err := e.Get(ctx, "kind", doc.ID); return err },
		"GetUnique": func() error { _, err := e.GetUnique(ctx, "kind", "u"); return err },
		"Find":      func() error { _, err := e.Find(ctx, "kind", store.Query{}); return err },
		"Count":     func() error { _, err := e.Count(ctx, "kind", ""); return err },
		"Insert":    func() error { _, err := e.Insert(ctx, "kind", store.Doc{ID: "new", Data: []byte(`{}`)}); return err },
		"Replace":   func() error { _, err := e.Replace(ctx, "kind", doc); return err },
		"Delete":    func() error { return e.Delete(ctx, "kind", doc.ID) },
		"Take":      func() error { _, err := e.Take(ctx, "kind", doc.ID); return err },
		"Sweep":     func() error { _, err := e.Sweep(ctx); return err },
		"Ping":      func() error { return e.Ping(ctx) },
		"a first use of a kind": func() error {
			_, err := e.Insert(ctx, "new kind", store.Doc{ID: "1", Data: []byte(`{}`)})
			return err
		},
	}
}

func TestOutage(t *testing.T) {
	for name, fail := range map[string]func(*testenv.Proxy){"cut": (*testenv.Proxy).Cut, "frozen": (*testenv.Proxy).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, p, _ := throughProxy(t)
			doc := mustInsert(t, e, "1")
			fail(p)
			var wg sync.WaitGroup
			calls := everyCall(t.Context(), e, doc)
			for range 10 { // so that some meet a pool that others have just emptied
				for call, f := range calls {
					wg.Go(func() {
						begin := time.Now()
						err := f()
						if !errors.Is(err, store.ErrAway) || isVerdict(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
							t.Errorf("%s: got %v, want %v and nothing else", call, err, store.ErrAway)
						}
						if took := time.Since(begin); took > callTimeout+5*time.Second { // which is for a slow machine
							t.Errorf("%s failed after %s", call, took)
						}
					})
				}
			}
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				if _, err := e.Get(ctx, "kind", "1"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Get with a deadline of the caller's: got %v, want %v", err, context.DeadlineExceeded)
				}
			})
			wg.Wait()
			p.Restore()
			eventually(t, "the database is back", func() bool { return e.Ping(t.Context()) == nil })
			_, err := e.Get(t.Context(), "kind", "1")
			if err != nil && !errors.Is(err, store.ErrNotFound) { // what was frozen may have arrived: a Delete among it
				t.Errorf("Get after the outage: %v", err)
			}
			eventually(t, "a kind that was first used in the outage", func() bool {
				_, err := e.Insert(t.Context(), "new kind", store.Doc{ID: "2", Data: []byte(`{}`)})
				return err == nil
			})
		})
	}
}

// A short break, and the pool is full of connections that are dead. Reads are repeated by the
// driver, and nobody sees it.
func TestReadsSurviveABrokenConnection(t *testing.T) {
	t.Parallel()
	e, p, _ := throughProxy(t)
	mustInsert(t, e, "1")
	for i := range 3 {
		p.Cut()
		p.Restore()
		if _, err := e.Get(t.Context(), "kind", "1"); err != nil {
			t.Errorf("Get after break %d: %v", i, err)
		}
	}
}

// A write arrives, and its answer is lost. On a stand-alone server nothing repeats it. Insert
// and Replace find out; Delete and Take must not say that there was nothing.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	e, p, beside := throughProxy(t)
	ctx := t.Context()
	replaced, deleted, taken := mustInsert(t, e, "replaced"), mustInsert(t, e, "deleted"), mustInsert(t, e, "taken")
	var inserted, replacement int64
	for _, tc := range []struct {
		name    string
		write   func() error
		arrived func() bool
		found   bool // that it has arrived
	}{
		{"Insert", func() (err error) {
			inserted, err = e.Insert(ctx, "kind", store.Doc{ID: "inserted", Data: []byte(`{}`), Unique: []string{"u"}})
			return err
		}, func() bool { return exists(t, beside, "inserted") }, true},
		{"Replace", func() (err error) {
			replacement, err = e.Replace(ctx, "kind", replaced)
			return err
		}, func() bool {
			doc, err := beside.Get(ctx, "kind", "replaced")
			return err == nil && doc.Version != replaced.Version
		}, true},
		{"Delete", func() error { return e.Delete(ctx, "kind", deleted.ID) }, func() bool { return !exists(t, beside, "deleted") }, false},
		{"Take", func() error { _, err := e.Take(ctx, "kind", taken.ID); return err }, func() bool { return !exists(t, beside, "taken") }, false},
	} {
		if tc.name == "Insert" { // makes the index before
			if _, err := e.Insert(ctx, "kind", store.Doc{ID: "first", Data: []byte(`{}`), Unique: []string{"first"}}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the database is there", func() bool { return e.Ping(ctx) == nil })
		p.HoldAnswers()
		done := make(chan error, 1)
		go func() { done <- tc.write() }()
		eventually(t, tc.name+" arrives", tc.arrived)
		p.Cut()
		p.Restore()
		err := <-done
		switch {
		case tc.found && err != nil:
			t.Errorf("%s, whose answer was lost: %v", tc.name, err)
		case !tc.found && (!errors.Is(err, store.ErrAway) || isVerdict(err)):
			t.Errorf("%s, whose answer was lost: got %v, want %v", tc.name, err, store.ErrAway)
		}
	}
	for id, want := range map[string]int64{"inserted": inserted, "replaced": replacement} {
		if doc, err := e.Get(ctx, "kind", id); err != nil || doc.Version != want {
			t.Errorf("Get %s: got version %d, %v; want that of the answer, %d", id, doc.Version, err, want)
		}
	}
}

// The connection stays away: the caller gets an error, and a later Get tells the truth.
func TestLostAnswerInAnOutage(t *testing.T) {
	t.Parallel()
	e, p, beside := throughProxy(t)
	mustInsert(t, e, "0")
	p.HoldAnswers()
	done := make(chan error, 1)
	go func() {
		_, err := e.Insert(t.Context(), "kind", store.Doc{ID: "1", Data: []byte(`{}`)})
		done <- err
	}()
	eventually(t, "the write arrives", func() bool { return exists(t, beside, "1") })
	p.Cut()
	if err := <-done; !errors.Is(err, store.ErrAway) || isVerdict(err) {
		t.Errorf("got %v, want %v", err, store.ErrAway)
	}
	p.Restore()
	eventually(t, "the database is back", func() bool { return e.Ping(t.Context()) == nil })
	if !exists(t, e, "1") {
		t.Error("Get does not find what was written")
	}
}

// An Insert that meets its own document, from a request that was thought lost, has succeeded.
func TestInsertKnowsItsOwnDocument(t *testing.T) {
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{})
	doc := store.Doc{ID: "1", Version: newVersion(), Data: []byte(`{}`), Unique: []string{"u"}}
	c := e.collection("kind")
	raw, err := encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.InsertOne(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	if settled, err := e.takePlace(t.Context(), c, doc, raw); !settled || err != nil {
		t.Errorf("its own document: got %v, %v; want success", settled, err)
	}
	doc.Version++
	if settled, err := e.takePlace(t.Context(), c, doc, raw); settled || !errors.Is(err, store.ErrExists) {
		t.Errorf("another's document: got %v, %v; want %v", settled, err, store.ErrExists)
	}
	if settled, err := e.whyNotReplaced(t.Context(), c, "1", 1, doc.Version-1); !settled || err != nil {
		t.Errorf("Replace: its own version: got %v, %v; want success", settled, err)
	}
}

// What the database has answered is there, however often the connections break meanwhile.
func TestAnsweredWritesAreThere(t *testing.T) {
	t.Parallel()
	e, p, _ := throughProxy(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	answered := make([]map[string]int64, 8)
	for i := range answered {
		answered[i] = make(map[string]int64)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprint(i, "-", n)
				if version, err := e.Insert(t.Context(), "kind", store.Doc{ID: id, Data: []byte(`{}`), Unique: []string{id}}); err == nil {
					answered[i][id] = version
				} else if isVerdict(err) {
					t.Errorf("Insert of what nobody else has: %v", err)
				}
			}
		})
	}
	for range 4 {
		p.Cut()
		p.Restore()
		eventually(t, "the database is back", func() bool { return e.Ping(t.Context()) == nil })
	}
	stop()
	wg.Wait()
	total := 0
	for _, versions := range answered {
		total += len(versions)
		for id, version := range versions {
			if doc, err := e.Get(t.Context(), "kind", id); err != nil || doc.Version != version {
				t.Errorf("%s was answered with version %d and is now %d, %v", id, version, doc.Version, err)
			}
		}
	}
	if total == 0 {
		t.Error("nothing was answered")
	}
}

func TestCloseWaitsForWrites(t *testing.T) {
	t.Parallel()
	e, p, beside := throughProxy(t)
	mustInsert(t, e, "0")
	p.HoldAnswers()
	inserted := make(chan error, 1)
	go func() {
		_, err := e.Insert(t.Context(), "kind", store.Doc{ID: "1", Data: []byte(`{}`)})
		inserted <- err
	}()
	eventually(t, "the write arrives", func() bool { return exists(t, beside, "1") })
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	eventually(t, "Close waits", func() bool {
		free := e.calls.TryRLock()
		if free {
			e.calls.RUnlock()
		}
		return !free
	})
	select {
	case err := <-closed:
		t.Errorf("Close has not waited: %v", err)
	default:
	}
	p.Restore()
	if err := <-inserted; err != nil {
		t.Errorf("a write that Close found under way: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := e.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Ping after Close: got %v, want %v", err, ErrClosed)
	}
}
