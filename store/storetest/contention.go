package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"login-server/store"
)

// contention are the checks in which many want the same.
var contention = map[string]func(*check){
	"InsertByID":         insertByIDHasOneWinner,
	"InsertByKey":        insertByKeyHasOneWinner,
	"InsertOverExpired":  insertOverExpiredHasOneWinner,
	"InsertCrossedKeys":  crossedKeysDoNotLock,
	"ReplaceVersion":     replaceHasOneWinner,
	"ReplaceByKey":       replaceByKeyHasOneWinner,
	"DeleteAndTake":      deleteAndTakeHaveOneWinner,
	"Counter":            counterLosesNoUpdate,
	"Lock":               insertAndDeleteLock,
	"ReadersSeeWholes":   readersSeeWholes,
	"CancelledInFlight":  cancelledInFlight,
	"ReadYourWrites":     readYourWrites,
	"SweepBesideInserts": sweepBesideInserts,
}

const (
	rounds = 10
	many   = 16
)

func insertByIDHasOneWinner(c *check) {
	for round := range rounds {
		id := fmt.Sprint(round)
		winner := c.oneWinner("Insert of one id", many, store.ErrExists, func(ctx context.Context, i int) error {
			_, err := c.Insert(ctx, "kind", store.Doc{ID: id, Data: fmt.Appendf(nil, "%d", i), Unique: []string{fmt.Sprint(round, "by", i)}, Keys: []string{"k"}})
			return err
		})
		if d, err := c.Get(c.Context(), "kind", id); err != nil || string(d.Data) != fmt.Sprint(winner) {
			c.Errorf("got %s, %v; want the winner's %d", d.Data, err, winner)
		}
		c.wantCount("kind", "k", round+1)
	}
}

func insertByKeyHasOneWinner(c *check) {
	for round := range rounds {
		key := fmt.Sprint(round)
		winner := c.oneWinner("Insert of one unique key", many, store.ErrExists, func(ctx context.Context, i int) error {
			_, err := c.Insert(ctx, "kind", store.Doc{ID: fmt.Sprint(round, "by", i), Data: []byte(`1`), Unique: []string{key}})
			return err
		})
		if d, err := c.GetUnique(c.Context(), "kind", key); err != nil || d.ID != fmt.Sprint(round, "by", winner) {
			c.Errorf("got %q, %v; want the winner's, %d", d.ID, err, winner)
		}
		c.wantCount("kind", "", round+1)
	}
}

func insertOverExpiredHasOneWinner(c *check) {
	for range rounds {
		c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}, Expires: c.in(time.Second)})
		c.clock.Advance(time.Second)
		c.oneWinner("Insert over an expired document", many, store.ErrExists, func(ctx context.Context, i int) error {
			_, err := c.Insert(ctx, "kind", store.Doc{ID: "1", Data: []byte(`1`)})
			return err
		})
		c.delete("kind", "1")
		c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}, Expires: c.in(time.Second)})
		c.clock.Advance(time.Second)
		winner := c.oneWinner("Insert over an expired unique key", many, store.ErrExists, func(ctx context.Context, i int) error {
			_, err := c.Insert(ctx, "kind", store.Doc{ID: fmt.Sprint("by", i), Data: []byte(`1`), Unique: []string{"u"}})
			return err
		})
		c.delete("kind", fmt.Sprint("by", winner))
	}
}

// crossedKeysDoNotLock has pairs of documents want the same two keys in opposite order.
func crossedKeysDoNotLock(c *check) {
	for round := range rounds {
		a, b := fmt.Sprint("a", round), fmt.Sprint("b", round)
		c.oneWinner("Insert of two unique keys", many, store.ErrExists, func(ctx context.Context, i int) error {
			unique := []string{a, b}
			if i%2 == 1 {
				unique = []string{b, a}
			}
			_, err := c.Insert(ctx, "kind", store.Doc{ID: fmt.Sprint(round, "by", i), Data: []byte(`1`), Unique: unique})
			return err
		})
	}
}

func replaceHasOneWinner(c *check) {
	d := c.insert("kind", doc("1"))
	for range rounds {
		versions := make([]int64, many)
		winner := c.oneWinner("Replace of one version", many, store.ErrConflict, func(ctx context.Context, i int) (err error) {
			versions[i], err = c.Replace(ctx, "kind", store.Doc{ID: "1", Version: d.Version, Data: fmt.Appendf(nil, "%d", i)})
			return err
		})
		d.Version, d.Data = versions[winner], fmt.Appendf(nil, "%d", winner)
		c.wantDoc("kind", d)
	}
}

func replaceByKeyHasOneWinner(c *check) {
	docs := make([]store.Doc, many)
	for i := range docs {
		docs[i] = c.insert("kind", store.Doc{ID: fmt.Sprint(i), Data: []byte(`1`), Unique: []string{fmt.Sprint("own", i)}})
	}
	for round := range rounds {
		winner := c.oneWinner("Replace with one unique key", many, store.ErrExists, func(ctx context.Context, i int) error {
			d := docs[i]
			d.Unique = []string{fmt.Sprint("own", i), fmt.Sprint("prize", round)}
			version, err := c.Replace(ctx, "kind", d)
			if err == nil {
				d.Version = version
				docs[i] = d
			}
			return err
		})
		for _, d := range docs {
			c.wantDoc("kind", d)
		}
		if d, err := c.GetUnique(c.Context(), "kind", fmt.Sprint("prize", round)); err != nil || d.ID != fmt.Sprint(winner) {
			c.Errorf("got %q, %v; want the winner's, %d", d.ID, err, winner)
		}
	}
}

func deleteAndTakeHaveOneWinner(c *check) {
	for range rounds {
		want := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}, Keys: []string{"k"}})
		c.oneWinner("Delete and Take of one document", many, store.ErrNotFound, func(ctx context.Context, i int) error {
			if i%2 == 0 {
				return c.Delete(ctx, "kind", "1")
			}
			got, err := c.Take(ctx, "kind", "1")
			if err == nil {
				c.wantSame("Take", got, want)
			}
			return err
		})
		c.wantGone("kind", "1")
	}
}

func counterLosesNoUpdate(c *check) {
	c.insert("kind", store.Doc{ID: "counter", Data: []byte(`0`)})
	together(many, func(int) {
		for done := 0; done < rounds; {
			d, err := c.Get(c.Context(), "kind", "counter")
			if err != nil {
				c.Errorf("Get: %v", err)
				return
			}
			n, err := strconv.Atoi(string(d.Data))
			if err != nil {
				c.Error(err)
				return
			}
			d.Data = strconv.AppendInt(nil, int64(n+1), 10)
			switch _, err := c.Replace(c.Context(), "kind", d); {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrConflict):
				c.Errorf("Replace: %v", err)
				return
			}
		}
	})
	if d, err := c.Get(c.Context(), "kind", "counter"); err != nil || string(d.Data) != fmt.Sprint(many*rounds) {
		c.Errorf("the counter is at %s, %v; want %d", d.Data, err, many*rounds)
	}
}

// insertAndDeleteLock uses a document as a lock: who has inserted it is alone.
func insertAndDeleteLock(c *check) {
	var inside atomic.Int32
	together(many, func(int) {
		for done := 0; done < rounds; {
			switch _, err := c.Insert(c.Context(), "kind", doc("lock")); {
			case errors.Is(err, store.ErrExists):
				continue
			case err != nil:
				c.Errorf("Insert: %v", err)
				return
			}
			if inside.Add(1) != 1 {
				c.Error("two callers hold the lock")
			}
			inside.Add(-1)
			if err := c.Delete(c.Context(), "kind", "lock"); err != nil {
				c.Errorf("Delete by the one who inserted: %v", err)
				return
			}
			done++
		}
	})
}

// readersSeeWholes reads a document while it is replaced: version, data and keys belong together.
func readersSeeWholes(c *check) {
	numbered := func(n int) store.Doc {
		s := fmt.Sprint(n)
		return store.Doc{ID: "1", Data: []byte(s), Unique: []string{"u" + s}, Keys: []string{"k" + s}}
	}
	d := c.insert("kind", numbered(0))
	versions := make(map[string]int64) // by data; written before the readers are done, read afterwards
	versions["0"] = d.Version
	var stop atomic.Bool
	seen := make([][]store.Doc, 4)
	together(len(seen)+1, func(i int) {
		if i == len(seen) {
			defer stop.Store(true)
			for n := 1; n <= 50; n++ {
				next := numbered(n)
				next.Version = d.Version
				var err error
				if d.Version, err = c.Replace(c.Context(), "kind", next); err != nil {
					c.Errorf("Replace: %v", err)
					return
				}
				versions[fmt.Sprint(n)] = d.Version
			}
			return
		}
		for !stop.Load() {
			got, err := c.Get(c.Context(), "kind", "1")
			if err != nil {
				c.Errorf("Get: %v", err)
				return
			}
			if n := len(seen[i]); n == 0 || seen[i][n-1].Version != got.Version {
				seen[i] = append(seen[i], got)
			}
			if got, err = c.GetUnique(c.Context(), "kind", got.Unique[0]); err == nil {
				seen[i] = append(seen[i], got)
			} else if !errors.Is(err, store.ErrNotFound) {
				c.Errorf("GetUnique: %v", err)
			}
		}
	})
	for _, docs := range seen {
		for _, got := range docs {
			n, err := strconv.Atoi(string(got.Data))
			if err != nil {
				c.Fatal(err)
			}
			want := numbered(n)
			want.Version = versions[string(got.Data)]
			c.wantSame("Get", got, want)
		}
	}
}

// cancelledInFlight cancels writes while they are under way: each has happened
// wholly or not at all, and afterwards the engine works as before.
func cancelledInFlight(c *check) {
	together(many, func(i int) {
		for j := range rounds {
			ctx, cancel := context.WithCancel(c.Context())
			go cancel()
			id := fmt.Sprint(i, "-", j)
			_, err := c.Insert(ctx, "kind", store.Doc{ID: id, Data: []byte(`1`), Unique: []string{id}, Keys: []string{"k"}})
			cancel()
			got, getErr := c.GetUnique(c.Context(), "kind", id)
			switch {
			case err == nil && getErr != nil:
				c.Errorf("GetUnique of a document that was inserted: %v", getErr)
			case err != nil && !errors.Is(err, context.Canceled):
				c.Errorf("Insert: %v", err)
			case getErr == nil && got.ID != id:
				c.Errorf("GetUnique: got %q, want %q", got.ID, id)
			}
		}
	})
	byID, err := c.Count(c.Context(), "kind", "")
	if err != nil {
		c.Fatal(err)
	}
	c.wantCount("kind", "k", byID)
	c.insert("kind", doc("after"))
}

func readYourWrites(c *check) {
	together(many, func(i int) {
		key := fmt.Sprint("k", i)
		for j := range rounds {
			d := store.Doc{ID: fmt.Sprint(i, "-", j), Data: []byte(`1`), Unique: []string{fmt.Sprint("u", i, "-", j)}, Keys: []string{key}}
			version, err := c.Insert(c.Context(), "kind", d)
			if err != nil {
				c.Error(err)
				return
			}
			d.Version = version
			c.wantDoc("kind", d)
			c.wantCount("kind", key, j+1)
		}
	})
}

func sweepBesideInserts(c *check) {
	past := c.in(-time.Second)
	var swept atomic.Int64
	together(many, func(i int) {
		for j := range rounds {
			d := store.Doc{ID: fmt.Sprint(i, "-", j), Data: []byte(`1`), Keys: []string{"k"}}
			if i%2 == 0 {
				d.Expires = past
			}
			if _, err := c.Insert(c.Context(), "kind", d); err != nil {
				c.Error(err)
			}
			if i < 2 {
				n, err := c.Sweep(c.Context())
				if err != nil {
					c.Errorf("Sweep: %v", err)
				}
				swept.Add(int64(n))
			}
		}
	})
	n, err := c.Sweep(c.Context())
	if total := swept.Add(int64(n)); err != nil || total != many*rounds/2 {
		c.Errorf("Sweep removed %d documents in all, %v; want each of %d once", total, err, many*rounds/2)
	}
	c.wantCount("kind", "k", many*rounds/2)
}
