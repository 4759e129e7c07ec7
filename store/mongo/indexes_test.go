package mongo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/internal/testenv"
	"login-server/store"
)

// recorder notes what the database is asked.
type recorder struct {
	mu       sync.Mutex
	commands []bson.Raw
}

func (r *recorder) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.commands = append(r.commands, slices.Clone(e.Command))
	}}
}

// take returns the commands of a name (all if it is empty) since the last call.
func (r *recorder) take(name string) []bson.Raw {
	r.mu.Lock()
	defer r.mu.Unlock()
	var taken []bson.Raw
	for _, c := range r.commands {
		if first, err := c.IndexErr(0); err == nil && (name == "" || first.Key() == name) {
			taken = append(taken, c)
		}
	}
	r.commands = nil
	return taken
}

// indexes lists those of a collection, but for the one on _id.
func indexes(t *testing.T, e *Engine, kind string) []string {
	t.Helper()
	cursor, err := e.collection(kind).Indexes().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var specs []bson.Raw
	if err := cursor.All(t.Context(), &specs); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, spec := range specs {
		if spec.Lookup("name").StringValue() == "_id_" {
			continue
		}
		text := spec.Lookup("key").String()
		for _, option := range []string{"unique", "sparse", "expireAfterSeconds"} {
			// The stand-in says {unique: false} where MongoDB says nothing.
			if value, err := spec.LookupErr(option); err == nil && value.String() != "false" {
				if n, ok := value.AsInt64OK(); ok {
					text += fmt.Sprintf(" %s %d", option, n)
				} else {
					text += " " + option
				}
			}
		}
		list = append(list, strings.NewReplacer(`{"$numberInt":"1"}`, "1", `"`, "", " ", " ").Replace(text))
	}
	slices.Sort(list)
	return list
}

func TestIndexes(t *testing.T) {
	var asked recorder
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{monitor: asked.monitor()})
	mustInsert(t, e, "1")
	want := []string{"{_meta.e: 1} expireAfterSeconds 300", "{_meta.k: 1,_id: 1}"}
	if got := indexes(t, e, "kind"); !slices.Equal(got, want) {
		t.Errorf("without unique keys: got %q, want %q", got, want)
	}
	if _, err := e.Insert(t.Context(), "kind", store.Doc{ID: "u", Data: []byte(`{}`), Unique: []string{"u"}}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "{_meta.u: 1} unique sparse")
	if got := indexes(t, e, "kind"); !slices.Equal(got, want) {
		t.Errorf("with unique keys: got %q, want %q", got, want)
	}
	if n := len(asked.take("createIndexes")); n != 2 {
		t.Errorf("indexes were made with %d commands, want 2", n)
	}
	for i := range 5 {
		mustInsert(t, e, fmt.Sprint("more", i))
	}
	if commands := asked.take(""); len(commands) > 7 { // one may tell other processes
		t.Errorf("5 inserts took %d commands", len(commands))
	}

	withClock := open(t, testenv.Mongo(t), newDatabase(t), Options{Now: time.Now})
	mustInsert(t, withClock, "1")
	if got := indexes(t, withClock, "kind"); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "expireAfter") }) {
		t.Errorf("with a clock of its own the engine leaves expiry to the database: %q", got)
	}
}

func TestIndexesTogether(t *testing.T) {
	database := newDatabase(t)
	engines := make([]*Engine, 4)
	var wg sync.WaitGroup
	for i := range engines {
		wg.Go(func() {
			e, err := Open(t.Context(), testenv.Mongo(t), database, Options{})
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			engines[i] = e
		})
	}
	wg.Wait()
	for _, e := range engines {
		if e == nil {
			t.FailNow()
		}
		t.Cleanup(func() { _ = e.Close() })
		for j := range 4 {
			wg.Go(func() {
				doc := store.Doc{ID: fmt.Sprintf("%p-%d", e, j), Data: []byte(`{}`), Unique: []string{fmt.Sprintf("%p-%d", e, j)}}
				if _, err := e.Insert(t.Context(), "kind", doc); err != nil {
					t.Errorf("first Insert: %v", err)
				}
			})
		}
	}
	wg.Wait()
	if got := indexes(t, engines[0], "kind"); len(got) != 3 {
		t.Errorf("the indexes are %q", got)
	}
}

// Without its unique index the store must not take documents with unique keys.
func TestIndexInTheWay(t *testing.T) {
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{})
	ctx := t.Context()
	_, err := e.collection("kind").Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys: bson.D{{Key: fieldUnique, Value: 1}}, Options: options.Index().SetUnique(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	doc := store.Doc{ID: "1", Data: []byte(`{}`), Unique: []string{"u"}}
	_, err = e.Insert(ctx, "kind", doc)
	if err == nil || isVerdict(err) || !strings.HasPrefix(err.Error(), "insert kind: the collection kinds has such an index with other options; drop that, and it is made anew: ") {
		t.Fatalf("got %v", err)
	}
	if err := e.collection("kind").Indexes().DropOne(ctx, "_meta.u_1"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Insert(ctx, "kind", doc); err != nil {
		t.Errorf("after the index was dropped: %v", err)
	}
}

// How safe a write is and what a read sees, the stand-in does not care; so here is what
// MongoDB is asked for, whatever the URI says.
func TestConcerns(t *testing.T) {
	var asked recorder
	uri := testenv.Mongo(t)
	join := "?"
	if strings.Contains(uri, "?") {
		join = "&"
	}
	e := open(t, uri+join+"w=0&journal=false&readConcernLevel=local&readPreference=nearest", newDatabase(t), Options{monitor: asked.monitor()})
	ctx := t.Context()
	doc := mustInsert(t, e, "1")
	if _, err := e.Replace(ctx, "kind", doc); err != nil {
		t.Error(err)
	}
	if _, err := e.Get(ctx, "kind", "1"); err != nil {
		t.Error(err)
	}
	if _, err := e.Find(ctx, "kind", store.Query{}); err != nil {
		t.Error(err)
	}
	if _, err := e.Count(ctx, "kind", ""); err != nil {
		t.Error(err)
	}
	if _, err := e.Take(ctx, "kind", "1"); err != nil {
		t.Error(err)
	}
	mustInsert(t, e, "2")
	if err := e.Delete(ctx, "kind", "2"); err != nil {
		t.Error(err)
	}
	seen := make(map[string]bool)
	for _, c := range asked.take("") {
		name := c.Index(0).Key()
		seen[name] = true
		switch name {
		case "insert", "update", "delete", "findAndModify", "createIndexes":
			if w, j := c.Lookup("writeConcern", "w"), c.Lookup("writeConcern", "j"); w.String() != `"majority"` || j.String() != "true" {
				t.Errorf("%s has the write concern w %s, j %s", name, w, j)
			}
		case "find", "aggregate":
			if level := c.Lookup("readConcern", "level"); level.String() != `"majority"` {
				t.Errorf("%s has the read concern %s", name, level)
			}
			if mode, err := c.LookupErr("$readPreference", "mode"); err == nil && !strings.HasPrefix(mode.StringValue(), "primary") {
				t.Errorf("%s reads from %s", name, mode)
			}
		}
		// The driver puts none on a find whose cursor may be read on; that ends with its connection.
		if _, err := c.LookupErr("maxTimeMS"); err != nil && name != "find" {
			t.Errorf("%s has no limit of time", name)
		}
	}
	for _, name := range []string{"insert", "update", "find", "aggregate", "findAndModify", "delete", "createIndexes"} {
		if !seen[name] {
			t.Errorf("%s was never asked for", name)
		}
	}
}
