package mongo

import (
	"errors"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/internal/testenv"
	"login-server/store"
)

// addForeign writes a document as another program does.
func addForeign(t *testing.T, e *Engine, kind, id string) {
	t.Helper()
	doc := bson.D{{Key: "_id", Value: id}, {Key: "name", Value: "Ada"}, {Key: "__v", Value: 0}}
	if _, err := e.collection(kind).InsertOne(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
}

func mustInsert(t testing.TB, e *Engine, id string) store.Doc {
	t.Helper()
	doc := store.Doc{ID: id, Data: []byte(`{"a":1}`)}
	var err error
	if doc.Version, err = e.Insert(t.Context(), "kind", doc); err != nil {
		t.Fatalf("Insert %s: %v", id, err)
	}
	return doc
}

func TestForeignDocuments(t *testing.T) {
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{Now: time.Now})
	ctx := t.Context()
	mustInsert(t, e, "0")
	for _, id := range []string{"1", "2"} {
		addForeign(t, e, "kind", id)
	}
	_, getErr := e.Get(ctx, "kind", "1")
	_, replaceErr := e.Replace(ctx, "kind", store.Doc{ID: "1", Data: []byte(`{}`)})
	_, takeErr := e.Take(ctx, "kind", "1")
	for call, err := range map[string]error{"Get": getErr, "Replace": replaceErr, "Take": takeErr, "Delete": e.Delete(ctx, "kind", "1")} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a foreign document: got %v, want %v", call, err, store.ErrNotFound)
		}
	}
	docs, err := e.Find(ctx, "kind", store.Query{})
	if err != nil || len(docs) != 1 || docs[0].ID != "0" {
		t.Errorf("Find: got %v, %v; want the one of ours", docs, err)
	}
	if n, err := e.Count(ctx, "kind", ""); n != 1 || err != nil {
		t.Errorf("Count: got %d, %v; want 1", n, err)
	}
	if n, err := e.Sweep(ctx); n != 0 || err != nil {
		t.Errorf("Sweep: got %d, %v; want 0", n, err)
	}

	// Of many that insert over it, one wins; the others see the winner's.
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = e.Insert(ctx, "kind", store.Doc{ID: "1", Data: []byte(`{"b":1}`), Unique: []string{"u"}})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, store.ErrExists) {
			t.Errorf("Insert over a foreign document: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d inserts over a foreign document won, want 1", won, len(errs))
	}
	raw, err := e.collection("kind").FindOne(ctx, bson.D{{Key: "_id", Value: "1"}}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.LookupErr("name"); err == nil {
		t.Errorf("the foreign document was not replaced but changed: %s", raw)
	}

	// A unique key that is taken leaves the foreign document where it is.
	_, err = e.Insert(ctx, "kind", store.Doc{ID: "2", Data: []byte(`{}`), Unique: []string{"u"}})
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("got %v, want %v", err, store.ErrExists)
	}
	raw, err = e.collection("kind").FindOne(ctx, bson.D{{Key: "_id", Value: "2"}}).Raw()
	if err != nil || raw.Lookup("name").StringValue() != "Ada" {
		t.Errorf("the foreign document is now %s, %v", raw, err)
	}
}

// Who inserts where an expired document has the id and others have the keys must not
// remove those before it is known that nothing living stands in the way.
func TestInsertRemovesNothingInVain(t *testing.T) {
	now := time.Now()
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{Now: func() time.Time { return now }})
	past := now.Add(-time.Second)
	for _, doc := range []store.Doc{
		{ID: "1", Unique: []string{"a"}, Expires: past},
		{ID: "2", Unique: []string{"b"}, Expires: past},
		{ID: "3", Unique: []string{"c"}},
	} {
		doc.Data = []byte(`{}`)
		if _, err := e.Insert(t.Context(), "kind", doc); err != nil {
			t.Fatal(err)
		}
	}
	_, err := e.Insert(t.Context(), "kind", store.Doc{ID: "1", Data: []byte(`{}`), Unique: []string{"b", "c"}})
	if !errors.Is(err, store.ErrExists) {
		t.Errorf("got %v, want %v", err, store.ErrExists)
	}
	if n, err := e.collection("kind").CountDocuments(t.Context(), bson.D{}); n != 3 || err != nil {
		t.Errorf("%d documents are left, %v; want 3", n, err)
	}
	_, err = e.Insert(t.Context(), "kind", store.Doc{ID: "1", Data: []byte(`{"new":1}`), Unique: []string{"b", "a"}})
	if err != nil {
		t.Error(err)
	}
	if n, err := e.collection("kind").CountDocuments(t.Context(), bson.D{}); n != 2 || err != nil {
		t.Errorf("%d documents are left, %v; want 2", n, err)
	}
}
