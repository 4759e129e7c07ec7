package legacy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/testenv"
	"login-server/store/mongo"
	"login-server/store/storetest"
)

// engine is this server's store in the very database of the older one.
func (o *older) engine() *mongo.Engine {
	o.Helper()
	e, err := mongo.Open(o.Context(), o.uri, o.name, mongo.Options{Now: clock.NewFake(now).Now})
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() {
		if err := e.Close(); err != nil {
			o.Error(err)
		}
	})
	return e
}

// start takes over in place, and returns the lines of the log but for their time.
func (o *older) start(d *identity.Directory) []string {
	o.Helper()
	var log bytes.Buffer
	if err := AdoptInPlace(o.Context(), o.uri, o.name, d, logger(&log)); err != nil {
		o.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(log.String()), "\n")
}

func logger(to *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestInPlace(t *testing.T) {
	o := newOlder(t)
	mixed(o)
	usages, sessions := o.all(usagesName), o.all("sessions")
	before := o.all(usersName)
	d := directory(o.engine())

	log := o.start(d)
	if got, want := log[len(log)-1], `level=INFO msg="taken over" people=8 here_already=0 refused=3 not_completely=4`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	var told []string
	for _, line := range log[1 : len(log)-1] {
		_, line, _ = strings.Cut(line, `user_id=`)
		told = append(told, line)
	}
	slices.Sort(told)
	if len(told) != len(mixedTold) || !strings.Contains(strings.Join(told, "\n"), `twin-3 reason="github:1 is also that of twin-2`) {
		t.Errorf("told:\n%s", strings.Join(told, "\n"))
	}
	wantMixed(t, d)

	// Who was refused is as before; an account of its own has taken the place of every other.
	after := o.all(usersName)
	if len(after) != 11 {
		t.Errorf("%d documents, want 11: %v", len(after), after)
	}
	for _, id := range []string{`"twin-3"`, `"a/b"`, `{"$numberInt":"5"}`} {
		if after[id] != before[id] || after[id] == "" {
			t.Errorf("%s: got %s, want %s", id, after[id], before[id])
		}
		delete(after, id)
	}
	for id, doc := range after {
		if !strings.Contains(doc, `"_meta"`) {
			t.Errorf("%s is not an account: %s", id, doc)
		}
	}
	if diff := cmp.Diff(usages, o.all(usagesName)) + cmp.Diff(sessions, o.all("sessions")); diff != "" {
		t.Error(diff)
	}

	// The next start finds those who were refused, and tells so.
	before = o.all(usersName)
	log = o.start(d)
	if got, want := log[len(log)-1], `level=INFO msg="taken over" people=0 here_already=0 refused=3 not_completely=0`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if diff := cmp.Diff(before, o.all(usersName)); diff != "" {
		t.Error(diff)
	}

	// Once they are gone a start says nothing and changes nothing.
	if _, err := o.db.Collection(usersName).DeleteMany(t.Context(), bson.M{"_meta": bson.M{"$exists": false}}); err != nil {
		t.Fatal(err)
	}
	before = o.all(usersName)
	if log := o.start(d); len(log) != 1 || log[0] != "" {
		t.Errorf("got %q", log)
	}
	if diff := cmp.Diff(before, o.all(usersName)); diff != "" {
		t.Error(diff)
	}
}

// What the older server writes after all is taken over at the next start.
func TestInPlaceLater(t *testing.T) {
	o := newOlder(t)
	o.put(usersName, user("ada", "github/1"))
	d := directory(o.engine())
	o.start(d)
	// It may write a whole document over one of ours, too.
	if _, err := o.db.Collection(usersName).ReplaceOne(t.Context(), bson.M{"_id": "ada"}, user("ada", "github/1", "orcid/1")); err != nil {
		t.Fatal(err)
	}
	o.put(usersName, user("bob", "github/2"), user("cid", "github/1"))
	d.ForgetAll()
	log := o.start(d)
	if got, want := log[len(log)-1], `level=INFO msg="taken over" people=2 here_already=0 refused=1 not_completely=0`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for key, want := range map[string]string{"github/1": "ada", "orcid/1": "ada", "github/2": "bob"} {
		if got := owner(t, d, key); got != want {
			t.Errorf("%s belongs to %q, want %q", key, got, want)
		}
	}
}

// Who is refused and signs in is somebody new; and who has deleted an account that had
// replaced no document does not find it again.
func TestInPlaceSignIn(t *testing.T) {
	o := newOlder(t)
	mixed(o)
	d := directory(o.engine())
	o.start(d)
	a, created, err := d.SignIn(t.Context(), identity.Profile{Provider: "github", ID: "1"})
	if err != nil || created || a.ID != "twin-2" {
		t.Errorf("got %s (created %v), %v", a.ID, created, err)
	}
	for _, id := range []string{"ada", "5b8d1e2f9c3a4d0011223344"} {
		if err := d.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	o.start(d)
	for _, key := range []string{"github/583231", "ldap/oid"} {
		if got := owner(t, d, key); got != "" {
			t.Errorf("%s is back", got)
		}
	}
	for id, doc := range o.all(usersName) {
		if strings.Contains(doc, "By ObjectId") {
			t.Errorf("%s has outlived the account: %s", id, doc)
		}
	}
}

// TestInPlaceAtOnce: several nodes start on the database of the older server.
func TestInPlaceAtOnce(t *testing.T) {
	const people = 2*pageSize + 20
	o := newOlder(t)
	var users []any
	for i := range people {
		users = append(users, user(fmt.Sprintf("person-%04d", i), fmt.Sprintf("github/%d", i/2), fmt.Sprintf("orcid/%d", i)))
	}
	o.put(usersName, users...)
	var wg sync.WaitGroup
	for range 3 {
		d := directory(o.engine())
		wg.Go(func() {
			var log bytes.Buffer
			err := AdoptInPlace(t.Context(), o.uri, o.name, d, logger(&log))
			// The stand-in stumbles now and then when several read and write. A node that it has
			// kept from starting is started again.
			for range 5 {
				if err == nil || !testenv.MongoIsStandIn() || !strings.Contains(err.Error(), "Unknown error: null") {
					break
				}
				err = AdoptInPlace(t.Context(), o.uri, o.name, d, logger(&log))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantHalf(t, directory(o.engine()), people)
}

// wantHalf: of each two with one identity at GitHub the first has kept it.
func wantHalf(t *testing.T, d *identity.Directory, people int) {
	t.Helper()
	if n, err := d.Count(t.Context(), ""); n != people || err != nil {
		t.Errorf("%d accounts, want %d; %v", n, people, err)
	}
	for i := range people {
		id := fmt.Sprintf("person-%04d", i)
		if got := owner(t, d, fmt.Sprintf("orcid/%d", i)); got != id {
			t.Fatalf("the ORCID of %s belongs to %q", id, got)
		}
		if got := owner(t, d, fmt.Sprintf("github/%d", i)); i < people/2 && got != fmt.Sprintf("person-%04d", 2*i) {
			t.Fatalf("github/%d belongs to %q", i, got)
		}
	}
}

// TestInPlaceCrash: a start that dies at any write is finished by the next.
func TestInPlaceCrash(t *testing.T) {
	const people = pageSize + 20
	o := newOlder(t)
	var users []any
	for i := range people {
		users = append(users, user(fmt.Sprintf("person-%04d", i), fmt.Sprintf("github/%d", i/2), fmt.Sprintf("orcid/%d", i)))
	}
	o.put(usersName, users...)
	engine := storetest.Faulty(o.engine())
	crashes := 0
	for {
		engine.KillAfter(37)
		var log bytes.Buffer
		err := AdoptInPlace(t.Context(), o.uri, o.name, directory(engine), logger(&log))
		engine.Revive()
		if err == nil {
			break
		}
		if !errors.Is(err, storetest.ErrKilled) {
			t.Fatal(err)
		}
		crashes++
	}
	if crashes < people/40 {
		t.Errorf("%d crashes", crashes)
	}
	wantHalf(t, directory(engine), people)
}

// TestInPlaceWithoutDatabase: the start ends with an error, in good time, and without a password.
func TestInPlaceWithoutDatabase(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := AdoptInPlace(ctx, "mongodb://ada:geheim@127.0.0.1:1/?serverSelectionTimeoutMS=100", "x", directory(another(t)), logger(&log))
	if err == nil || strings.Contains(err.Error()+log.String(), "geheim") {
		t.Errorf("got %v, log %s", err, log.String())
	}
}
