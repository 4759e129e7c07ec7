package teststore

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/store"
	"login-server/store/mongo"
	"login-server/store/storetest"
)

// TestOutside: an engine that is used through another goroutine is the same engine.
func TestOutside(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.Engine { return Outside(t, Open(t, now)) })
}

// TestInBubble: calls begin and end within what Wait waits for, and take no time there.
func TestInBubble(t *testing.T) {
	engine := Outside(t, Open(t, time.Now))
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		answered := make(chan error, 10)
		for i := range cap(answered) {
			go func() {
				_, err := engine.Insert(t.Context(), "thing", store.Doc{ID: string(rune('a' + i)), Data: []byte(`{}`)})
				answered <- err
			}()
		}
		synctest.Wait()
		if len(answered) != cap(answered) {
			t.Errorf("%d of %d calls were answered", len(answered), cap(answered))
		}
		for range len(answered) {
			if err := <-answered; err != nil {
				t.Error(err)
			}
		}
		if n, err := engine.Count(t.Context(), "thing", ""); n != cap(answered) || err != nil {
			t.Errorf("Count: got %d, %v", n, err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := engine.Ping(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Ping with a context that has ended: got %v", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v of the bubble", took)
		}
	})
}

// TestWhichStore: nobody believes that tests have run on MongoDB when they have not.
func TestWhichStore(t *testing.T) {
	engine := Open(t, time.Now)
	if _, isMongo := engine.(*mongo.Engine); isMongo != Shared() {
		t.Errorf("with %s=%q the store is a %T", Variable, os.Getenv(Variable), engine)
	}
}

// TestNothingIsLeft: a database is gone after its test.
func TestNothingIsLeft(t *testing.T) {
	if !Shared() {
		t.Skip("files of SQLite are in folders that the testing package removes")
	}
	var uri, name string
	there := func(t *testing.T) bool {
		client, err := sweeper(uri)
		if err != nil {
			t.Fatal(err)
		}
		found, err := client.ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: name}})
		if err != nil {
			t.Fatal(err)
		}
		return len(found) > 0
	}
	t.Run("a test", func(t *testing.T) {
		uri, name = Database(t)
		engine, err := mongo.Open(t.Context(), uri, name, mongo.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		if _, err := engine.Insert(t.Context(), "thing", store.Doc{ID: "one", Data: []byte(`{}`)}); err != nil {
			t.Error(err)
		}
		if !there(t) {
			t.Error("what was written is in another database")
		}
	})
	if there(t) {
		t.Errorf("the database %s is still there", name)
	}
}

// TestEmpty: no test finds what another has left.
func TestEmpty(t *testing.T) {
	for range 2 {
		engine := Open(t, time.Now)
		if _, err := engine.Insert(t.Context(), "thing", store.Doc{ID: "one", Data: []byte(`{}`)}); err != nil {
			t.Error(err)
		}
	}
}
