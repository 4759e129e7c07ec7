package storetest

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"login-server/store"
	"login-server/store/sqlite"
)

func open(t *testing.T, now func() time.Time) store.Engine {
	t.Helper()
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// A faulty engine that is not told to die keeps the contract.
func TestFaultyKeepsTheContract(t *testing.T) {
	Run(t, func(t *testing.T, now func() time.Time) store.Engine {
		return Faulty(open(t, now))
	})
}

func TestFaultyDies(t *testing.T) {
	ctx := t.Context()
	engine := Faulty(open(t, time.Now))
	ids := []string{"1", "2", "3"}
	insertAll := func() error {
		for _, id := range ids {
			if _, err := engine.Insert(ctx, "kind", store.Doc{ID: id, Data: []byte(`1`)}); err != nil && !errors.Is(err, store.ErrExists) {
				return err
			}
			if _, err := engine.Get(ctx, "kind", id); err != nil {
				return err
			}
		}
		return nil
	}
	for n := range ids {
		engine.KillAfter(n)
		if err := insertAll(); !errors.Is(err, ErrKilled) {
			t.Fatalf("killed after %d writes: got %v", n, err)
		}
		for call, err := range allCalls(ctx, engine, store.Doc{ID: "1", Unique: []string{"u"}, Keys: []string{"k"}}) {
			if !errors.Is(err, ErrKilled) {
				t.Errorf("%s of a dead engine: got %v, want %v", call, err, ErrKilled)
			}
		}
		engine.Revive()
		if got, err := engine.Count(ctx, "kind", ""); got != n || err != nil {
			t.Errorf("killed after %d writes: %d documents are there, %v", n, got, err)
		}
	}
	before := engine.Writes()
	engine.KillAfter(len(ids))
	if err := insertAll(); err != nil {
		t.Errorf("with as many writes as are needed: %v", err)
	}
	if got := engine.Writes() - before; got != len(ids) {
		t.Errorf("%d writes are counted, want %d", got, len(ids))
	}
}
