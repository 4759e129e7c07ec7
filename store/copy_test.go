package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"login-server/store"
	"login-server/store/sqlite"
	"login-server/store/storetest"
)

func database(t *testing.T) *sqlite.Engine {
	t.Helper()
	e, err := sqlite.Open(t.Context(), t.TempDir()+"/test.db", sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Copy takes all that lives, leaves what is there, and can be run again after a crash.
func TestCopy(t *testing.T) {
	ctx := t.Context()
	from, below := database(t), database(t)
	to := storetest.Faulty(below)
	insert := func(e store.Engine, kind string, doc store.Doc) {
		t.Helper()
		if _, err := e.Insert(ctx, kind, doc); err != nil {
			t.Fatal(err)
		}
	}
	const many = 2345 // more than two pages
	for i := range many {
		id := fmt.Sprintf("%04d", i)
		insert(from, "user", store.Doc{ID: id, Data: []byte(`{"n":` + fmt.Sprint(i) + `}`), Unique: []string{"u" + id}, Keys: []string{"all"}})
	}
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	insert(from, "session", store.Doc{ID: "s", Data: []byte(`1`), Expires: expires})
	insert(from, "session", store.Doc{ID: "gone", Data: []byte(`1`), Expires: time.Now().Add(-time.Second)})
	insert(below, "user", store.Doc{ID: "0007", Data: []byte(`"mine"`)})
	insert(below, "user", store.Doc{ID: "other", Data: []byte(`"mine"`), Unique: []string{"u0008"}})

	kinds, err := from.Kinds(ctx)
	if err != nil || len(kinds) != 2 || kinds[0] != "session" || kinds[1] != "user" {
		t.Fatalf("Kinds: %q, %v", kinds, err)
	}
	if got, err := store.Copy(ctx, from, to, "user", true); err != nil || got.Copied != many-2 || got.There != 2 {
		t.Errorf("dry run: %+v, %v", got, err)
	}
	if n, err := below.Count(ctx, "user", ""); err != nil || n != 2 {
		t.Fatalf("a dry run has written: %d, %v", n, err)
	}

	to.KillAfter(1500)
	if _, err := store.Copy(ctx, from, to, "user", false); !errors.Is(err, storetest.ErrKilled) {
		t.Fatalf("killed: %v", err)
	}
	to.Revive()
	got, err := store.Copy(ctx, from, to, "user", false)
	if err != nil || got.Copied+got.There != many || got.Copied < many-1500 {
		t.Errorf("again: %+v, %v", got, err)
	}
	if got, err := store.Copy(ctx, from, to, "user", false); err != nil || got.Copied != 0 || got.There != many {
		t.Errorf("a third time: %+v, %v", got, err)
	}
	doc, err := below.GetUnique(ctx, "user", "u0042")
	if err != nil || doc.ID != "0042" || string(doc.Data) != `{"n":42}` || len(doc.Keys) != 1 {
		t.Errorf("copied: %+v, %v", doc, err)
	}
	if doc, err := below.Get(ctx, "user", "0007"); err != nil || string(doc.Data) != `"mine"` {
		t.Errorf("what was there: %s, %v", doc.Data, err)
	}
	if got, err := store.Copy(ctx, from, to, "session", false); err != nil || got.Copied != 1 {
		t.Errorf("sessions: %+v, %v", got, err)
	}
	if doc, err := below.Get(ctx, "session", "s"); err != nil || !doc.Expires.Equal(expires) {
		t.Errorf("expiry: %v, %v", doc.Expires, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := store.Copy(cancelled, from, to, "user", false); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
