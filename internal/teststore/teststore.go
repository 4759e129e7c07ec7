// Package teststore opens the store that the tests of the rooms stand on: a file of SQLite,
// or a MongoDB, so that the same tests hold the program to the same
// promises on both.
package teststore

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"login-server/store"
	"login-server/store/sqlite"
)

// Open returns an empty store that goes by the clock now, and is closed and gone at the end
// of the test.
func Open(t testing.TB, now func() time.Time) store.Engine {
	t.Helper()
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
