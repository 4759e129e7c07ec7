// Package teststore opens the store that the tests of the rooms stand on: a file of SQLite,
// or a MongoDB, so that the same tests hold the program to the same promises on both.
package teststore

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/internal/testenv"
	"login-server/store"
	"login-server/store/mongo"
	"login-server/store/sqlite"
)

// Variable chooses the store: "mongo", or the embedded one when it is empty.
const Variable = "LOGIN_SERVER_TEST_STORE"

// Shared tells whether tests run on a store that several nodes can share. What has to be
// shared beside it, the bus and the counts of rate limits, is in Redis then.
func Shared() bool {
	switch name := os.Getenv(Variable); name {
	case "":
		return false
	case "mongo":
		return true
	default:
		panic(fmt.Sprintf("%s is %q; write mongo, or leave it out", Variable, name))
	}
}

// Open returns an empty store that goes by the clock now, and is closed and gone at the end
// of the test.
func Open(t testing.TB, now func() time.Time) store.Engine {
	t.Helper()
	var engine store.Engine
	var err error
	if Shared() {
		uri, database := Database(t)
		engine, err = mongo.Open(context.Background(), uri, database, mongo.Options{Now: now})
	} else {
		engine, err = sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "test.db"), sqlite.Options{Now: now})
	}
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

// Database returns a server of MongoDB and the name of a database there that nobody has
// used. It is dropped at the end of the test.
func Database(t testing.TB) (uri, name string) {
	t.Helper()
	uri, name = testenv.Mongo(t), "login-server-test-"+strings.ToLower(rand.Text()[:16])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		client, err := sweeper(uri)
		if err == nil {
			err = client.Database(name).Drop(ctx)
		}
		if err != nil {
			t.Errorf("drop the database %s: %v", name, err)
		}
	})
	return uri, name
}

// sweeping is the client that drops databases. There is one server for all tests of a process.
var sweeping struct {
	once   sync.Once
	client *driver.Client
	err    error
}

func sweeper(uri string) (*driver.Client, error) {
	sweeping.once.Do(func() { sweeping.client, sweeping.err = driver.Connect(options.Client().ApplyURI(uri)) })
	return sweeping.client, sweeping.err
}
