// Package teststore opens the store that the tests of the rooms stand on: a file of SQLite,
// or a MongoDB, so that the same tests hold the program to the same promises on both.
package teststore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"login-server/store"
	"login-server/store/sqlite"
)

// Variable chooses the store: "mongo", or the embedded one when it is empty.
const Variable = "LOGIN_SERVER_TEST_STORE"

// Shared tells whether tests run on a store that several nodes can share. What has to be
// shared beside it, the bus and the counts of rate limits, is in Redis then.
func Shared() bool { return os.Getenv(Variable) == "mongo" }

// Open returns an empty store that goes by the clock now, and is closed and gone at the end
// of the test.
func Open(t testing.TB, now func() time.Time) store.Engine {
	t.Helper()
	if name := os.Getenv(Variable); name != "" && !Shared() {
		t.Fatalf("%s is %q; write mongo, or leave it out", Variable, name)
	}
	engine, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "test.db"), sqlite.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return engine
}
