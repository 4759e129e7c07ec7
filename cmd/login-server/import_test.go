package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/identity"
	"login-server/internal/testenv"
	"login-server/token"
)

// TestMongoScripts runs the command lines in testdata/mongo, which need a MongoDB.
func TestMongoScripts(t *testing.T) {
	uri := testenv.Mongo(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/mongo",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("GORACE", noSleep)
			e.Setenv("PORT", "0")
			e.Setenv("SERVER", uri)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"seed": seed, "mode": mode, "older": older, "newdb": newDatabase, "keys": makeKeys, "mainkey": makeMainKey,
		},
	})
}

// TestStartInTheOlderDatabase: with the settings and the keys of the older server people sign
// in and are who they were.
func TestStartInTheOlderDatabase(t *testing.T) {
	t.Parallel()
	server := testenv.Mongo(t)
	client, err := mongo.Connect(options.Client().ApplyURI(server))
	if err != nil {
		t.Fatal(err)
	}
	db := client.Database("older-" + uuid.NewString())
	t.Cleanup(func() {
		if err := errors.Join(db.Drop(context.Background()), client.Disconnect(context.Background())); err != nil {
			t.Error(err)
		}
	})
	ada := bson.M{"_id": "c0c1914a-0000-4000-8000-000000000001", "uri": "https://older.example/users/c0c1914a-0000-4000-8000-000000000001", "name": "Ada",
		"identities": bson.M{"local": bson.M{"id": "demo", "username": "demo", "uri": nil}, "github": bson.M{"id": 42}}, "merged": bson.A{}, "__v": 0}
	if _, err := db.Collection("users").InsertOne(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Collection("sessions").InsertOne(t.Context(), bson.M{"_id": "sid", "expires": time.Now().Add(time.Hour), "session": `{"user":"c0c1914a-0000-4000-8000-000000000001"}`}); err != nil {
		t.Fatal(err)
	}
	dir := site(t)
	if _, err := token.EnsureKeys(filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key"), "RS256"); err != nil {
		t.Fatal(err)
	}
	env := []string{"MONGO_URI=" + server, "MONGO_DB=" + db.Name(), "SESSION_SECRET=0123456789abcdef0123456789abcdef"}
	p := serve(t, dir, env...)
	p.waitFor(`msg="taken over" people=1 here_already=0 refused=0`)

	b := p.browser()
	own, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	b.Jar.SetCookies(own, []*http.Cookie{{Name: "connect.sid", Value: "s:sid.signature", Path: "/"}})
	if status, _ := b.send(http.MethodGet, "currentUser", nil); status != http.StatusUnauthorized {
		t.Errorf("with a cookie of the older server: status %d", status)
	}
	b.signIn("local", "demo", "demo")
	_, body := b.send(http.MethodGet, "currentUser", nil)
	var user identity.User
	if err := json.Unmarshal([]byte(body), &user); err != nil {
		t.Fatal(err)
	}
	if user.ID != ada["_id"] || user.URI != ada["uri"] || user.Name != "Ada" || user.Identities["github"].ID != "42" {
		t.Errorf("signed in as %+v", user)
	}
	key, err := os.ReadFile(filepath.Join(dir, "public.key"))
	if err != nil {
		t.Fatal(err)
	}
	var about struct{ PublicKey string }
	_, body = b.send(http.MethodGet, "about", nil)
	if err := json.Unmarshal([]byte(body), &about); err != nil || strings.TrimSpace(about.PublicKey) != strings.TrimSpace(string(key)) {
		t.Errorf("/about has another key than public.key: %v\n%s", err, about.PublicKey)
	}
}

// madeDatabase is one that is dropped when the script ends.
func madeDatabase(ts *testscript.TestScript) *mongo.Database {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(ts.Getenv("SERVER")))
	ts.Check(err)
	db := client.Database("script-" + uuid.NewString())
	ts.Defer(func() {
		ts.Check(db.Drop(ctx))
		ts.Check(client.Disconnect(ctx))
	})
	return db
}

// newDatabase puts the URI of an empty database into a variable: newdb VARIABLE.
func newDatabase(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], uriOf(ts, madeDatabase(ts).Name()))
}

// uriOf is the URI of a database on the server of the scripts.
func uriOf(ts *testscript.TestScript, database string) string {
	server, settings, _ := strings.Cut(ts.Getenv("SERVER"), "?")
	scheme, rest, _ := strings.Cut(server, "://")
	hosts, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + hosts + "/" + database + "?" + settings
}

// older makes a database as the older server has left it. Its name is in a variable, and its
// URI in that with _URI behind it: older VARIABLE.
func older(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	db := madeDatabase(ts)
	ts.Setenv(args[0], db.Name())
	ts.Setenv(args[0]+"_URI", uriOf(ts, db.Name()))
	user := func(id, name string, identities bson.M) bson.M {
		return bson.M{"_id": id, "uri": "http://localhost:3004/users/" + id, "name": name, "identities": identities, "merged": bson.A{}, "__v": 0}
	}
	_, err := db.Collection("users").InsertMany(ctx, []any{
		user("c0000000-0000-4000-8000-000000000001", "Eve", bson.M{"github": bson.M{"id": 42, "username": "eve"}, "local": bson.M{"id": "eve", "username": "eve"}}),
		user("c0000000-0000-4000-8000-000000000002", "Ada of old", bson.M{"github": bson.M{"id": "583231"}}),
		user("c0000000-0000-4000-8000-000000000003", "Carl of old", bson.M{"github": bson.M{"id": "583231"}, "orcid": bson.M{"id": "0000-0001-0000-0000"}}),
		bson.M{"_id": "\x1b[31mred", "name": "odd", "identities": bson.M{}},
	})
	ts.Check(err)
	_, err = db.Collection("usages").InsertOne(ctx, bson.M{"_id": "c0000000-0000-4000-8000-000000000001", "created": "2019-05-06T07:08:09.123Z", "lastUsed": "2020-05-06T07:08:09.123Z"})
	ts.Check(err)
}
