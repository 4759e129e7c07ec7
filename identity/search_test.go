package identity

import (
	"context"
	"fmt"
	"testing"
	"time"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
)

// hasty deletes an account when accounts are counted, as somebody may do between two counts.
type hasty struct {
	store.Engine
	delete func()
	wrote  int
}

func (e *hasty) Count(ctx context.Context, kind, key string) (int, error) {
	n, err := e.Engine.Count(ctx, kind, key)
	if f := e.delete; f != nil {
		e.delete = nil
		f()
	}
	return n, err
}

func (e *hasty) Replace(ctx context.Context, kind string, d store.Doc) (int64, error) {
	e.wrote++
	return e.Engine.Replace(ctx, kind, d)
}

// Accounts that have keys for their names already are not written anew.
func TestNameAllWritesWhatLacksKeys(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	engine := &hasty{Engine: teststore.Open(t, c.Now)}
	ids := 0
	d := NewDirectory(engine, Options{BaseURL: "https://login.example.org/", Now: c.Now, CacheSize: 100, CacheAge: time.Second,
		NewID: func() string { ids++; return fmt.Sprintf("id-%03d", ids) }})
	var all []Account
	for i := range 5 {
		a, _, err := d.SignIn(t.Context(), Profile{Provider: "github", ID: fmt.Sprint(i), Name: fmt.Sprintf("Person %d", i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	engine.wrote = 0
	engine.delete = func() {
		if err := d.Delete(t.Context(), all[4].ID); err != nil {
			t.Error(err)
		}
		engine.wrote = 0
	}
	if _, err := d.Heal(t.Context()); err != nil || engine.wrote > 0 {
		t.Errorf("%d accounts were written, %v", engine.wrote, err)
	}

	// Two that an older version has written.
	older := store.NewCollection(engine, Kind, func(a Account) store.Index {
		ix := index(a)
		ix.Keys = []string{keyLive}
		return ix
	})
	for _, i := range []int{0, 2} {
		item, err := older.Get(t.Context(), all[i].ID)
		if err == nil {
			_, err = older.Replace(t.Context(), item)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	engine.wrote = 0
	if _, err := d.Heal(t.Context()); err != nil || engine.wrote != 2 {
		t.Errorf("%d accounts were written, want 2: %v", engine.wrote, err)
	}
	if found, _, err := d.Named(t.Context(), "person", "", 10); err != nil || len(found) != 4 {
		t.Errorf("%d are found, %v", len(found), err)
	}
}
