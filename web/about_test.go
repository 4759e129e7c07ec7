package web

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/token"
)

// slowEngine is one whose first answer takes a while.
type slowEngine struct {
	store.Engine
	answer chan struct{}
	asked  bool
}

func (e *slowEngine) Count(context.Context, string, string) (int, error) {
	if !e.asked {
		e.asked = true
		<-e.answer
	}
	return 0, errors.New("nothing to count")
}

// TestSlowCountDoesNotBringTheFormerKeyBack: a count that began before the keys were
// changed ends after that.
func TestSlowCountDoesNotBringTheFormerKeyBack(t *testing.T) {
	db := teststore.Outside(t, teststore.Open(t, time.Now))
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		private, public := filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key")
		if _, err := token.EnsureKeys(private, public, "ES256"); err != nil {
			t.Fatal(err)
		}
		tokens, err := token.NewManager(ctx, db, token.Options{PrivateKeyPath: private, PublicKeyPath: public, Algorithm: "ES256", ExpiresIn: time.Minute, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		engine := &slowEngine{Engine: db, answer: make(chan struct{})}
		s := &Server{Deps: Deps{
			Config: &config.Config{BaseURL: &url.URL{}}, Tokens: tokens, Store: store.NewGuard(engine, store.GuardOptions{}),
			Users: identity.NewDirectory(engine, identity.Options{Now: time.Now, CacheSize: 1, CacheAge: time.Second}),
			Clock: clock.NewFake(time.Now()), Log: slog.New(slog.DiscardHandler),
		}}
		s.about.server = s
		s.about.body, s.about.counted = []byte("the first"), quickCount+1
		s.about.get(ctx) // begins to count
		synctest.Wait()
		if err := errors.Join(token.Rotate(private, public, ".old", "ES256"), tokens.Reload(ctx)); err != nil {
			t.Fatal(err)
		}
		s.about.renew(ctx)
		want := string(s.about.get(ctx))
		close(engine.answer)
		synctest.Wait()
		if got := string(s.about.get(ctx)); got != want {
			t.Errorf("after the count:\n%s\nbefore:\n%s", got, want)
		}
	})
}
