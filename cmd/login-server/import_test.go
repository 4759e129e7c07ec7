package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/internal/testenv"
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
			"seed": seed, "mode": mode, "older": older, "newdb": newDatabase,
		},
	})
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
