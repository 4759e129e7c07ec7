package mongo

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"login-server/internal/testenv"
	"login-server/store"
	"login-server/store/storetest"
)

// Where the stand-in is not like MongoDB, it is made so where it is started
// (test/mongo/src/main/java/StandIn.java): order of strings, order of fields after a
// replacement, readers beside a writer. What it lacks, TestIndexes and TestConcerns look at
// from this side: TTL indexes, and how safe writes are.
func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.Engine {
		return open(t, testenv.Mongo(t), newDatabase(t), Options{Now: now})
	})
}

// newDatabase returns the name of a database that is gone at the end of the test.
func newDatabase(t testing.TB) string {
	t.Helper()
	name := "test-" + uuid.NewString()
	uri := testenv.Mongo(t)
	t.Cleanup(func() {
		client, err := mongo.Connect(clientOptions(uri))
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if err := client.Database(name).Drop(ctx); err != nil {
			t.Errorf("drop the database: %v", err)
		}
		if err := client.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	})
	return name
}

func open(t testing.TB, uri, database string, o Options) *Engine {
	t.Helper()
	e, err := Open(t.Context(), uri, database, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}
