package legacy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/testenv"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/store/storetest"
)

const baseURL = "https://example.org/login/"

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// older is a database as the older server has left it.
type older struct {
	*testing.T
	uri, name string
	db        *mongo.Database
}

func newOlder(t *testing.T) *older {
	t.Helper()
	o := &older{T: t, uri: testenv.Mongo(t), name: "legacy-" + uuid.NewString()}
	client, err := mongo.Connect(options.Client().ApplyURI(o.uri))
	if err != nil {
		t.Fatal(err)
	}
	o.db = client.Database(o.name)
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(o.db.Drop(ctx), client.Disconnect(ctx)); err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *older) put(collection string, docs ...any) {
	o.Helper()
	if _, err := o.db.Collection(collection).InsertMany(o.Context(), docs); err != nil {
		o.Fatal(err)
	}
}

// user is somebody with identities, each "provider/id".
func user(id string, keys ...string) bson.M {
	identities := bson.M{}
	for _, key := range keys {
		provider, id, _ := strings.Cut(key, "/")
		identities[provider] = bson.M{"id": id, "uri": "https://" + provider + ".example/" + id, "name": "Name at " + provider, "username": "user-" + id}
	}
	return bson.M{"_id": id, "uri": baseURL + "users/" + id, "name": "Person " + id, "identities": identities, "merged": bson.A{}, "__v": 0}
}

// used says when somebody was there: days after the first of 2020.
func used(id any, days int) bson.M {
	return bson.M{"_id": id, "created": "2019-05-06T07:08:09.123Z", "lastUsed": time.Date(2020, 1, 1+days, 0, 0, 0, 0, time.UTC).Format("2006-01-02T15:04:05.000Z"), "__v": 0}
}

func (o *older) open() *Source {
	o.Helper()
	s, err := Open(o.Context(), o.uri, o.name)
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() {
		if err := s.Close(); err != nil {
			o.Error(err)
		}
	})
	return s
}

// run takes over from there, and returns what is to be told of each who was not simply taken.
func (o *older) run(users *identity.Directory, opts Options) (Summary, []string) {
	o.Helper()
	var told []string
	opts.Report = func(r Result) error {
		if r.Reason != "" || len(r.Left) > 0 {
			told = append(told, fmt.Sprintf("%s %s: %s%s", r.ID, r.Outcome, r.Reason, strings.Join(r.Left, "; ")))
		}
		return nil
	}
	sum, err := o.open().Adopt(o.Context(), users, opts)
	if err != nil {
		o.Fatal(err)
	}
	return sum, told
}

// all is everything in a collection, by id.
func (o *older) all(collection string) map[string]string {
	o.Helper()
	cursor, err := o.db.Collection(collection).Find(o.Context(), bson.D{})
	if err != nil {
		o.Fatal(err)
	}
	docs := map[string]string{}
	for cursor.Next(o.Context()) {
		docs[cursor.Current.Lookup("_id").String()] = cursor.Current.String()
	}
	if err := cursor.Err(); err != nil {
		o.Fatal(err)
	}
	return docs
}

func directory(engine store.Engine) *identity.Directory {
	return identity.NewDirectory(engine, identity.Options{
		BaseURL: baseURL, Now: func() time.Time { return now }, NewID: uuid.NewString, CacheSize: 1000, CacheAge: time.Hour,
	})
}

// another is a store to take people over into.
func another(t *testing.T) *storetest.FaultyEngine {
	t.Helper()
	return storetest.Faulty(teststore.Open(t, clock.NewFake(now).Now))
}

func get(t *testing.T, d *identity.Directory, id string) identity.UserWithUsage {
	t.Helper()
	a, err := d.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return a.UserWithUsage()
}

func owner(t *testing.T, d *identity.Directory, key string) string {
	t.Helper()
	provider, id, _ := strings.Cut(key, "/")
	a, err := d.Owner(t.Context(), provider, id)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		t.Fatal(err)
	}
	return a.ID
}

// mixed is what years of versions may have left.
func mixed(o *older) {
	oid, err := bson.ObjectIDFromHex("5b8d1e2f9c3a4d0011223344")
	if err != nil {
		o.Fatal(err)
	}
	ada := user("ada", "orcid/0000-0002-1825-0097")
	ada["identities"].(bson.M)["github"] = bson.M{"id": int32(583231), "name": "Ada L.", "username": "ada"}
	ada["merged"] = bson.A{baseURL + "users/former", baseURL + "users/bob"}
	thief := user("thief", "cbs/thief")
	thief["uri"] = baseURL + "users/bob"
	moved := user("moved", "ldap/moved")
	moved["uri"] = "http://older.example/users/moved"
	o.put("users", ada, user("bob", "ldap/bob"), moved, thief, user("empty"),
		bson.M{"_id": oid, "name": "By ObjectId", "identities": bson.M{"ldap": bson.M{"id": "oid"}}},
		bson.M{"_id": int32(5), "name": "Number"},
		bson.M{"_id": "a/b", "name": "Slash", "identities": bson.M{}},
		user("twin-1", "github/1", "orcid/1"), user("twin-2", "github/1"), user("twin-3", "github/1"),
	)
	o.put("usages", used("ada", 10), used("bob", 20), used("5b8d1e2f9c3a4d0011223344", 30),
		bson.M{"_id": "moved", "lastUsed": "never"},
		used("twin-1", 1), used("twin-2", 3), bson.M{"_id": "twin-3", "created": time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)},
		used("nobody", 1))
	o.put("sessions", bson.M{"_id": "s1", "expires": now, "session": `{"user":"ada"}`})
}

// mixedTold is what has to be told of it.
var mixedTold = []string{
	`a/b refused: the id has characters that no id may have, or is too long`,
	`ada taken: the merged URI https://example.org/login/users/bob is that of bob, who is a user still`,
	`moved taken: the date lastUsed of its usage cannot be read`,
	`thief taken: the URI https://example.org/login/users/bob is that of bob; another one is made`,
	`twin-1 taken: github:1 is also that of twin-2, who has it from now on`,
	`twin-3 refused: github:1 is also that of twin-2, who has it from now on`,
	`{"$numberInt":"5"} refused: the _id is neither a text nor an ObjectId`,
}

func wantMixed(t *testing.T, d *identity.Directory) {
	t.Helper()
	created := time.Date(2019, 5, 6, 7, 8, 9, 123_000_000, time.UTC)
	want := identity.UserWithUsage{
		User: identity.User{
			ID: "ada", URI: baseURL + "users/ada", Name: "Person ada", Merged: []string{baseURL + "users/former"},
			Identities: map[string]identity.Identity{
				"github": {ID: "583231", Name: "Ada L.", Username: "ada"},
				"orcid":  {ID: "0000-0002-1825-0097", URI: "https://orcid.example/0000-0002-1825-0097", Name: "Name at orcid", Username: "user-0000-0002-1825-0097"},
			},
		},
		Usage: identity.Usage{Created: created, LastUsed: time.Date(2020, 1, 11, 0, 0, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, get(t, d, "ada")); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{
		"github/583231": "ada", "ldap/bob": "bob", "ldap/moved": "moved", "ldap/oid": "5b8d1e2f9c3a4d0011223344", "github/1": "twin-2", "orcid/1": "twin-1",
	} {
		if got := owner(t, d, key); got != want {
			t.Errorf("%s belongs to %q, want %q", key, got, want)
		}
	}
	if got := get(t, d, "5b8d1e2f9c3a4d0011223344"); got.Usage.LastUsed.Year() != 2020 || got.URI != baseURL+"users/5b8d1e2f9c3a4d0011223344" {
		t.Errorf("got %+v", got)
	}
	if got := get(t, d, "thief"); got.URI != baseURL+"users/thief" {
		t.Errorf("got %+v", got)
	}
	if got := get(t, d, "moved"); got.URI != "http://older.example/users/moved" || got.Usage.LastUsed != now {
		t.Errorf("got %+v", got)
	}
	if n, err := d.Count(t.Context(), ""); n != 8 || err != nil {
		t.Errorf("%d accounts, want 8; %v", n, err)
	}
}

func TestAdopt(t *testing.T) {
	o := newOlder(t)
	mixed(o)
	engine := another(t)
	d := directory(engine)
	before := []map[string]string{o.all("users"), o.all("usages"), o.all("sessions")}

	wantTold := slices.Clone(mixedTold)
	sum, told := o.run(d, Options{DryRun: true})
	slices.Sort(told) // the order of ids of different types is the database's
	if diff := cmp.Diff(wantTold, told); diff != "" {
		t.Errorf("dry run: %s", diff)
	}
	if n := engine.Writes(); n != 0 {
		t.Errorf("%d writes in a dry run", n)
	}

	want := Summary{Taken: 8, Refused: 3, Partly: 4}
	if sum != want {
		t.Errorf("dry run: got %+v, want %+v", sum, want)
	}
	sum, told = o.run(d, Options{})
	slices.Sort(told)
	if diff := cmp.Diff(wantTold, told); diff != "" || sum != want || sum.People() != 11 {
		t.Errorf("got %+v, want %+v\n%s", sum, want, diff)
	}
	wantMixed(t, d)

	writes := engine.Writes()
	if sum, _ := o.run(d, Options{}); (sum != Summary{Present: 8, Refused: 3}) {
		t.Errorf("the second time: %+v", sum)
	}
	if n := engine.Writes() - writes; n != 0 {
		t.Errorf("%d writes the second time", n)
	}
	wantMixed(t, d)
	if diff := cmp.Diff(before, []map[string]string{o.all("users"), o.all("usages"), o.all("sessions")}); diff != "" {
		t.Errorf("the database of the older server has changed:\n%s", diff)
	}

	// What was told of those who were refused is how to have them: there the URI is merged.
	if _, err := o.db.Collection("users").UpdateOne(t.Context(), bson.M{"_id": "twin-2"}, bson.M{"$push": bson.M{"merged": baseURL + "users/twin-3"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.db.Collection("users").DeleteOne(t.Context(), bson.M{"_id": "twin-3"}); err != nil {
		t.Fatal(err)
	}
	if sum, _ := o.run(d, Options{}); (sum != Summary{Updated: 1, Present: 7, Refused: 2}) {
		t.Errorf("the third time: %+v", sum)
	}
	if a, moved, err := d.Locate(t.Context(), "twin-3"); a.ID != "twin-2" || !moved || err != nil {
		t.Errorf("the URL of the twin leads to %q, %v", a.ID, err)
	}
}

// TestAdoptMany: more than fit into a page, killed at any write, finished by the next run.
func TestAdoptMany(t *testing.T) {
	const people = 3*pageSize + 10
	o := newOlder(t)
	var users, usages []any
	for i := range people {
		id := fmt.Sprintf("person-%04d", i)
		users = append(users, user(id, "github/"+id))
		usages = append(usages, used(id, i))
	}
	o.put("users", users...)
	o.put("usages", usages...)
	engine := another(t)
	s := o.open()
	for kills := 1; ; kills += 300 {
		engine.KillAfter(kills)
		_, err := s.Adopt(t.Context(), directory(engine), Options{})
		engine.Revive()
		if err == nil {
			break
		}
		if !errors.Is(err, storetest.ErrKilled) {
			t.Fatal(err)
		}
	}
	d := directory(engine)
	if sum, told := o.run(d, Options{}); (sum != Summary{Present: people}) || len(told) > 0 {
		t.Errorf("got %+v, %q", sum, told)
	}
	for i := range people {
		id := fmt.Sprintf("person-%04d", i)
		if u := get(t, d, id); owner(t, d, "github/"+id) != id || !u.Usage.LastUsed.Equal(time.Date(2020, 1, 1+i, 0, 0, 0, 0, time.UTC)) {
			t.Fatalf("got %+v", u)
		}
	}
}

// TestAdoptAtOnce: two runs at the same time take everybody once.
func TestAdoptAtOnce(t *testing.T) {
	o := newOlder(t)
	mixed(o)
	engine := another(t)
	var wg sync.WaitGroup
	sums := make([]Summary, 3)
	for i := range sums {
		s := o.open()
		wg.Go(func() {
			var err error
			if sums[i], err = s.Adopt(t.Context(), directory(engine), Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	taken := 0
	for _, sum := range sums {
		if taken += sum.Taken; sum.Refused != 3 || sum.People() != 11 || sum.Updated != 0 {
			t.Errorf("got %+v", sum)
		}
	}
	if taken != 8 {
		t.Errorf("%d were taken, want 8", taken)
	}
	wantMixed(t, directory(engine))
}

// TestReportEnds: who reports can end it, and it can be ended from outside.
func TestReportEnds(t *testing.T) {
	o := newOlder(t)
	mixed(o)
	enough := errors.New("enough")
	sum, err := o.open().Adopt(t.Context(), directory(another(t)), Options{Report: func(Result) error { return enough }})
	if !errors.Is(err, enough) || sum.People() != 1 {
		t.Errorf("got %+v, %v", sum, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.open().Adopt(ctx, directory(another(t)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEmptyDatabase(t *testing.T) {
	o := newOlder(t)
	if sum, told := o.run(directory(another(t)), Options{}); sum.People() != 0 || len(told) > 0 {
		t.Errorf("got %+v, %q", sum, told)
	}
}

// TestOpenKeepsThePassword: no error repeats it, not even that of a URI that cannot be read.
func TestOpenKeepsThePassword(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil { // nobody is there now
		t.Fatal(err)
	}
	for _, uri := range []string{
		"mongodb://ada:geheim@" + address + "/?serverSelectionTimeoutMS=100",
		"mongodb://ada:geheim@@" + address + "/",
		"mongodb://ada:geheim%zz@" + address + "/",
		"mongodb://ada:geheim@" + address + "/?authMechanism=geheim",
		"mongodb://ada:geheim/" + address,
		"mongodb://ada:geheim@:x/",
		"postgres://ada:geheim@" + address + "/",
		"geheim",
		"",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		_, err := Open(ctx, uri, "")
		cancel()
		if err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: got %v", uri, err)
		}
	}
	if _, err := Open(t.Context(), "mongodb://"+address+"/", "a/b"); err == nil || !strings.Contains(err.Error(), "name of a database") {
		t.Errorf("got %v", err)
	}
}

func TestDatabaseOf(t *testing.T) {
	for uri, want := range map[string]string{
		"mongodb://localhost":                      "",
		"mongodb://localhost/":                     "",
		"mongodb://localhost/?w=1":                 "",
		"mongodb://a:1,b:2/people?replicaSet=x":    "people",
		"mongodb://u:p%2F@h/peo%70le":              "people",
		"mongodb+srv://cluster.example/people?a=/": "people",
	} {
		if got := databaseOf(uri); got != want {
			t.Errorf("%s: got %q, want %q", uri, got, want)
		}
	}
}
