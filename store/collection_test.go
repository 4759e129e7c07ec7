package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/store/storetest"
)

// person is a value with everything that an index can name.
type person struct {
	Name    string    `json:"name"`
	Email   string    `json:"email,omitempty"`
	Team    string    `json:"team,omitempty"`
	Visits  int       `json:"visits,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Broken  any       `json:"broken,omitempty"`
}

func personIndex(p person) store.Index {
	index := store.Index{Expires: p.Expires}
	if p.Email != "" {
		index.Unique = []string{strings.ToLower(p.Email)}
	}
	if p.Team != "" {
		index.Keys = []string{p.Team}
	}
	return index
}

func openEngine(t *testing.T) (store.Engine, *clock.Fake) {
	t.Helper()
	now := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return teststore.Open(t, now.Now), now
}

func openPeople(t *testing.T) (*store.Collection[person], *clock.Fake) {
	engine, now := openEngine(t)
	return store.NewCollection(engine, "person", personIndex), now
}

func mustInsert(t *testing.T, people *store.Collection[person], id string, p person) store.Item[person] {
	t.Helper()
	item, err := people.Insert(t.Context(), id, p)
	if err != nil {
		t.Fatalf("Insert %s: %v", id, err)
	}
	return item
}

func TestCollectionKeepsValuesAndTheirKeys(t *testing.T) {
	people, now := openPeople(t)
	ann := mustInsert(t, people, "1", person{Name: "Ann", Email: "Ann@example.org", Team: "red", Expires: now.Now().Add(time.Hour)})
	mustInsert(t, people, "2", person{Name: "Bo", Team: "red"})
	if ann.ID != "1" || ann.Version == 0 || ann.Value.Name != "Ann" {
		t.Errorf("Insert returns %+v", ann)
	}

	got, err := people.Get(t.Context(), "1")
	if diff := cmp.Diff(ann, got); err != nil || diff != "" {
		t.Errorf("Get: %v\n%s", err, diff)
	}
	got, err = people.GetUnique(t.Context(), "ann@example.org")
	if diff := cmp.Diff(ann, got); err != nil || diff != "" {
		t.Errorf("GetUnique: %v\n%s", err, diff)
	}
	if n, err := people.Count(t.Context(), "red"); n != 2 || err != nil {
		t.Errorf("Count: got %d, %v; want 2", n, err)
	}
	if _, err := people.Insert(t.Context(), "3", person{Email: "ANN@example.org"}); !errors.Is(err, store.ErrExists) {
		t.Errorf("Insert of a taken key: got %v, want %v", err, store.ErrExists)
	}

	ann.Value.Team, ann.Value.Email = "blue", ""
	moved, err := people.Replace(t.Context(), ann)
	if err != nil || moved.Version == ann.Version || moved.Value.Team != "blue" {
		t.Fatalf("Replace: got %+v, %v", moved, err)
	}
	if _, err := people.Replace(t.Context(), ann); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Replace of an old version: got %v, want %v", err, store.ErrConflict)
	}
	if _, err := people.GetUnique(t.Context(), "ann@example.org"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("GetUnique of a key given up: got %v, want %v", err, store.ErrNotFound)
	}
	blue, err := people.Find(t.Context(), store.Query{Key: "blue"})
	if diff := cmp.Diff([]store.Item[person]{moved}, blue); err != nil || diff != "" {
		t.Errorf("Find: %v\n%s", err, diff)
	}

	now.Advance(time.Hour)
	if _, err := people.Get(t.Context(), "1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of an expired document: got %v, want %v", err, store.ErrNotFound)
	}
	taken, err := people.Take(t.Context(), "2")
	if err != nil || taken.Value.Name != "Bo" {
		t.Errorf("Take: got %+v, %v", taken, err)
	}
	if err := people.Delete(t.Context(), "2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Delete of no document: got %v, want %v", err, store.ErrNotFound)
	}
}

func TestCollectionReportsWhatIsNotJSON(t *testing.T) {
	engine, _ := openEngine(t)
	people := store.NewCollection(engine, "person", personIndex)
	if _, err := people.Insert(t.Context(), "1", person{Broken: func() {}}); err == nil || !strings.HasPrefix(err.Error(), "encode person: ") {
		t.Errorf("Insert: got %v, want encode person: …", err)
	}
	if _, err := engine.Insert(t.Context(), "person", store.Doc{ID: "1", Data: []byte(`{"name":7}`)}); err != nil {
		t.Fatal(err)
	}
	_, getErr := people.Get(t.Context(), "1")
	_, findErr := people.Find(t.Context(), store.Query{})
	for call, err := range map[string]error{"Get": getErr, "Find": findErr} {
		if err == nil || !strings.HasPrefix(err.Error(), "decode person: ") {
			t.Errorf("%s: got %v, want decode person: …", call, err)
		}
	}
}

func TestCollectionAll(t *testing.T) {
	engine, _ := openEngine(t)
	people := store.NewCollection(engine, "person", personIndex)
	const n = 2500 // three pages
	var want []string
	var wg sync.WaitGroup
	for i := range n {
		id := fmt.Sprintf("%04d", i)
		want = append(want, id)
		wg.Go(func() {
			if _, err := people.Insert(t.Context(), id, person{Team: "red"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all := func(q store.Query) (ids []string) {
		t.Helper()
		for item, err := range people.All(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, item.ID)
		}
		return ids
	}
	if got := all(store.Query{}); !slices.Equal(got, want) {
		t.Errorf("All yields %d documents, want %d in order", len(got), n)
	}
	if got := all(store.Query{Key: "blue"}); len(got) != 0 {
		t.Errorf("All of no key yields %d documents", len(got))
	}
	slices.Reverse(want)
	if got := all(store.Query{Key: "red", Descending: true, Limit: 1}); !slices.Equal(got, want) {
		t.Errorf("All downwards yields %d documents, want %d in order", len(got), n)
	}
	seen := 0
	for range people.All(t.Context(), store.Query{}) {
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("All went on to %d after a break at 3", seen)
	}

	faulty := storetest.Faulty(engine)
	faulty.KillAfter(0)
	people = store.NewCollection(faulty, "person", personIndex)
	if err := people.Delete(t.Context(), "0000"); !errors.Is(err, storetest.ErrKilled) {
		t.Fatal(err)
	}
	yields := 0
	for _, err := range people.All(t.Context(), store.Query{}) {
		yields++
		if !errors.Is(err, storetest.ErrKilled) {
			t.Errorf("All of a dead engine: got %v, want %v", err, storetest.ErrKilled)
		}
	}
	if yields != 1 {
		t.Errorf("All of a dead engine yields %d times, want once", yields)
	}
}

func TestCollectionUpdate(t *testing.T) {
	people, _ := openPeople(t)
	mustInsert(t, people, "1", person{Name: "Ann"})
	const writers, rounds = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				if _, err := people.Update(t.Context(), "1", func(p *person) error { p.Visits++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	before, err := people.Get(t.Context(), "1")
	if err != nil || before.Value.Visits != writers*rounds {
		t.Errorf("got %d visits, %v; want %d", before.Value.Visits, err, writers*rounds)
	}

	refused := errors.New("refused")
	if _, err := people.Update(t.Context(), "1", func(p *person) error { p.Visits = 0; return refused }); !errors.Is(err, refused) {
		t.Errorf("Update that refuses: got %v, want %v", err, refused)
	}
	after, err := people.Get(t.Context(), "1")
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("an update that refused has written: %v\n%s", err, diff)
	}

	mustInsert(t, people, "2", person{Email: "bo@example.org"})
	if _, err := people.Update(t.Context(), "1", func(p *person) error { p.Email = "bo@example.org"; return nil }); !errors.Is(err, store.ErrExists) {
		t.Errorf("Update with a taken key: got %v, want %v", err, store.ErrExists)
	}
	if _, err := people.Update(t.Context(), "3", func(*person) error { t.Error("called for no document"); return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Update of no document: got %v, want %v", err, store.ErrNotFound)
	}
	deleted := false
	_, err = people.Update(t.Context(), "1", func(*person) error {
		if !deleted {
			deleted = true
			return people.Delete(t.Context(), "1")
		}
		return nil
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Update of a document deleted meanwhile: got %v, want %v", err, store.ErrNotFound)
	}
}

func TestCollectionUpsert(t *testing.T) {
	people, _ := openPeople(t)
	refused := errors.New("refused")
	if _, err := people.Upsert(t.Context(), "ada", func(*person) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, want the error of the change", err)
	}
	if _, err := people.Get(t.Context(), "ada"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("refused, and written all the same: %v", err)
	}
	// Of many who come first at the same time nobody's change is lost.
	const visits = 40
	var all sync.WaitGroup
	for range visits {
		all.Go(func() {
			item, err := people.Upsert(t.Context(), "ada", func(p *person) error {
				p.Name = "Ada"
				p.Visits++
				return nil
			})
			if err != nil || item.Value.Name != "Ada" || item.Version == 0 {
				t.Errorf("got %+v, %v", item, err)
			}
		})
	}
	all.Wait()
	got, err := people.Get(t.Context(), "ada")
	if err != nil || got.Value.Visits != visits {
		t.Errorf("got %+v, %v, want %d visits", got.Value, err, visits)
	}
}
