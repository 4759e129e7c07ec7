// Package storetest is the contract of store.Engine as a test: Run holds any
// engine to it. For the tests of the rooms above there is Faulty, an engine that
// dies between two writes.
package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"login-server/clock"
	"login-server/store"
)

// check is one check with an engine of its own.
type check struct {
	*testing.T
	store.Engine
	clock *clock.Fake
}

// Run holds an engine to the contract of store.Engine. open returns an engine
// over an empty database, which goes by the clock now, and arranges for it to be
// closed at the end of the test; it is called once for each check, also in parallel.
//
// The clock begins at the present and only goes ahead: a database that removes
// expired documents by its own clock must not do so too early.
func Run(t *testing.T, open func(t *testing.T, now func() time.Time) store.Engine) {
	groups := []struct {
		name   string
		checks map[string]func(*check)
	}{
		{"Plain", plain},
		{"Contention", contention},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			for name, f := range group.checks {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					now := clock.NewFake(time.Now().UTC().Truncate(time.Second))
					f(&check{T: t, Engine: open(t, now.Now), clock: now})
				})
			}
		})
	}
}

// in is the time d from now on the check's clock.
func (c *check) in(d time.Duration) time.Time { return c.clock.Now().Add(d) }

func (c *check) insert(kind string, doc store.Doc) store.Doc {
	c.Helper()
	version, err := c.Insert(c.Context(), kind, doc)
	if err != nil {
		c.Fatalf("Insert %s %.40q: %v", kind, doc.ID, err)
	}
	doc.Version = version
	return doc
}

func (c *check) replace(kind string, doc store.Doc) store.Doc {
	c.Helper()
	version, err := c.Replace(c.Context(), kind, doc)
	if err != nil {
		c.Fatalf("Replace %s %.40q: %v", kind, doc.ID, err)
	}
	doc.Version = version
	return doc
}

func (c *check) delete(kind, id string) {
	c.Helper()
	if err := c.Delete(c.Context(), kind, id); err != nil {
		c.Fatalf("Delete %s %.40q: %v", kind, id, err)
	}
}

func (c *check) find(kind string, q store.Query) []string {
	c.Helper()
	docs, err := c.Find(c.Context(), kind, q)
	if err != nil {
		c.Errorf("Find %s %+v: %v", kind, q, err)
	}
	ids := make([]string, len(docs))
	for i, doc := range docs {
		ids[i] = doc.ID
	}
	return ids
}

// wantErr is for calls that return something and an error.
func (c *check) wantErr(what string, got, want error) {
	c.Helper()
	if !errors.Is(got, want) {
		c.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

// wantGone checks that a document cannot be reached by its id.
func (c *check) wantGone(kind, id string) {
	c.Helper()
	_, err := c.Get(c.Context(), kind, id)
	c.wantErr("Get of a document that is gone", err, store.ErrNotFound)
}

// wantDoc checks that a document can be read by its id and by each of its keys.
func (c *check) wantDoc(kind string, want store.Doc) {
	c.Helper()
	got, err := c.Get(c.Context(), kind, want.ID)
	if err != nil {
		c.Errorf("Get %s %.40q: %v", kind, want.ID, err)
		return
	}
	c.wantSame("Get", got, want)
	for _, key := range want.Unique {
		got, err := c.GetUnique(c.Context(), kind, key)
		if err != nil {
			c.Errorf("GetUnique %s %.40q: %v", kind, key, err)
			continue
		}
		c.wantSame("GetUnique", got, want)
	}
	for _, key := range want.Keys {
		if ids := c.find(kind, store.Query{Key: key, Limit: 1000}); !slices.Contains(ids, want.ID) {
			c.Errorf("Find %s %.40q does not return %.40q", kind, key, want.ID)
		}
	}
}

func (c *check) wantSame(what string, got, want store.Doc) {
	c.Helper()
	if !want.Expires.IsZero() {
		want.Expires = want.Expires.UTC().Truncate(time.Millisecond)
	}
	if got.Expires.Location() != time.UTC {
		c.Errorf("%s: Expires is in %v, want UTC", what, got.Expires.Location())
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		if len(diff) > 2000 {
			diff = diff[:2000] + "…"
		}
		c.Errorf("%s returns something else than was written (-want +got):\n%s", what, diff)
	}
}

func (c *check) wantIDs(what string, got []string, want ...string) {
	c.Helper()
	if !slices.Equal(got, want) {
		c.Errorf("%s: got %.40q, want %.40q", what, got, want)
	}
}

func (c *check) wantCount(kind, key string, want int) {
	c.Helper()
	got, err := c.Count(c.Context(), kind, key)
	if err != nil || got != want {
		c.Errorf("Count %s %.40q: got %d, %v; want %d", kind, key, got, err, want)
	}
}

// together runs f n times at once and returns when all are done.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// oneWinner runs f n times at once: exactly one call may succeed, all the others fail with lost.
func (c *check) oneWinner(what string, n int, lost error, f func(ctx context.Context, i int) error) (winner int) {
	c.Helper()
	errs := make([]error, n)
	together(n, func(i int) { errs[i] = f(c.Context(), i) })
	winner = -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			c.Errorf("%s: more than one of %d concurrent calls succeeded", what, n)
		case err == nil:
			winner = i
		case !errors.Is(err, lost):
			c.Errorf("%s: got error %v, want %v", what, err, lost)
		}
	}
	if winner < 0 {
		c.Fatalf("%s: none of %d concurrent calls succeeded", what, n)
	}
	return winner
}
