package picture_test

import (
	"errors"
	"testing"
	"time"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/picture"
	"login-server/store"
)

func TestAlbum(t *testing.T) {
	clock := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	a := picture.NewAlbum(teststore.Open(t, clock.Now), clock.Now)
	ctx := t.Context()
	keep := func(owner, content string) string {
		t.Helper()
		id, err := a.Keep(ctx, owner, picture.Picture{Type: "image/png", Large: []byte(content), Small: []byte("small")})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first, second, bens := keep("ada", "first"), keep("ada", "second"), keep("ben", "ben's")
	got, err := a.Get(ctx, first)
	if err != nil || string(got.Large) != "first" || string(got.Small) != "small" || got.Type != "image/png" || got.Owner != "ada" || !got.Made.Equal(clock.Now()) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, id := range []string{"", "x", first[:31], first + "0", "../" + first, "00000000000000000000000000000000", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"} {
		if _, err := a.Get(ctx, id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}

	// Nobody removes another's.
	if err := a.Delete(ctx, "ada", bens); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Get(ctx, bens); err != nil {
		t.Errorf("ben's picture: %v", err)
	}
	for range 2 { // twice is as good as once
		if err := a.Delete(ctx, "ada", first); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Get(ctx, first); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the first picture: %v", err)
	}

	third := keep("ada", "third")
	if err := a.DeleteOf(ctx, func(i picture.Item) bool { return i.ID == third }, "ada", "nobody"); err != nil {
		t.Fatal(err)
	}
	items, err := a.Of(ctx, "ada", "ben")
	if err != nil || len(items) != 2 || items[0].ID != third || items[1].ID != bens {
		t.Errorf("left are %v, %v; not %s", items, err, second)
	}
	if err := a.DeleteOf(ctx, nil, "ada", "ben"); err != nil {
		t.Fatal(err)
	}
	if items, err := a.Of(ctx, "ada", "ben"); err != nil || len(items) != 0 {
		t.Errorf("left are %v, %v", items, err)
	}
}
