package mongo

import (
	"context"
	"errors"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/internal/testenv"
	"login-server/store"
)

// TestPrepare: indexes are there before the first write, over what another program has left.
func TestPrepare(t *testing.T) {
	e := open(t, testenv.Mongo(t), newDatabase(t), Options{})
	users := e.db.Collection("users")
	foreign := bson.A{bson.M{"_id": "ada", "name": "Ada"}, bson.M{"_id": "bob", "name": "Bob"}}
	if _, err := users.InsertMany(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second time it is nothing to do
		if err := e.Prepare(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
	}
	made, err := users.Indexes().ListSpecifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, index := range made {
		names = append(names, index.Name)
	}
	slices.Sort(names)
	if want := []string{"_id_", "_meta.e_1", "_meta.k_1__id_1", "_meta.u_1"}; !slices.Equal(names, want) {
		t.Errorf("indexes %q, want %q", names, want)
	}
	if n, err := users.CountDocuments(t.Context(), bson.D{}); n != 2 || err != nil {
		t.Errorf("%d documents (%v), want the 2 that were there", n, err)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Prepare(ended, "thing"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: got %v", err)
	}
	if err := e.Prepare(t.Context(), ""); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("without a kind: got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Prepare(t.Context(), "user"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}
