package identity_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/store/storetest"
)

// elsewhere is somebody as another server kept them.
func elsewhere(id string, keys ...string) identity.Person {
	p := identity.Person{
		ID: id, URI: "https://old.example/users/" + id, Name: "Old " + id,
		Created: start.AddDate(-5, 0, 0), LastUsed: start.AddDate(-1, 0, 0),
		Identities: map[string]identity.Identity{},
	}
	for _, key := range keys {
		f := profile(key)
		p.Identities[f.Provider] = identity.Identity{ID: f.ID, URI: f.URI, Name: f.Name, Username: f.Username}
	}
	return p
}

func (h *house) adopt(p identity.Person) identity.Adoption {
	h.Helper()
	done, err := h.Adopt(h.Context(), p, false)
	if err != nil {
		h.Fatalf("Adopt %s: %v", p.ID, err)
	}
	return done
}

// wantOutcome adopts a person and compares what becomes of them.
func (h *house) wantOutcome(p identity.Person, want identity.Outcome) identity.Adoption {
	h.Helper()
	done := h.adopt(p)
	if done.Outcome != want {
		h.Errorf("Adopt %s: got %+v, want %s", p.ID, done, want)
	}
	return done
}

func TestAdopt(t *testing.T) {
	h := newHouse(t)
	p := elsewhere("ada", "github/1", "orcid/2")
	p.Merged = []string{baseURL + "users/former", baseURL + "users/former", p.URI}
	done := h.adopt(p)
	if diff := cmp.Diff(identity.Adoption{Outcome: identity.Taken}, done); diff != "" {
		t.Fatal(diff)
	}
	a := h.get("ada")
	want := identity.UserWithUsage{
		User:  identity.User{ID: "ada", URI: p.URI, Name: p.Name, Identities: p.Identities, Merged: []string{baseURL + "users/former"}},
		Usage: identity.Usage{Created: p.Created, LastUsed: p.LastUsed},
	}
	if diff := cmp.Diff(want, a.UserWithUsage()); diff != "" {
		t.Error(diff)
	}
	if moved, other, err := h.Locate(t.Context(), "former"); moved.ID != "ada" || !other || err != nil {
		t.Errorf("the URL of an account they had absorbed leads to %q, %v", moved.ID, err)
	}
	if b, created, err := h.SignIn(t.Context(), profile("github/1")); b.ID != "ada" || created || err != nil {
		t.Errorf("sign-in leads to %s (created %v), %v", b.ID, created, err)
	}
	if n, err := h.Count(t.Context(), "orcid"); n != 1 || err != nil {
		t.Errorf("%d accounts have an ORCID, %v", n, err)
	}
}

// What is missing there is made as for somebody new; what is not known stays the same from
// one time to the next.
func TestAdoptWithLittle(t *testing.T) {
	h := newHouse(t)
	for _, tc := range []struct {
		p    identity.Person
		name string
	}{
		{identity.Person{ID: "a"}, "a"},
		{identity.Person{ID: "b", Identities: map[string]identity.Identity{"github": {ID: "1"}, "orcid": {ID: "2", Name: "Ada"}}}, "Ada"},
		{identity.Person{ID: "c", Identities: map[string]identity.Identity{"github": {ID: "3", Username: "ada"}}}, "ada@github"},
		{identity.Person{ID: "d", Name: " \u202eBob\n ", Identities: map[string]identity.Identity{"github": {ID: "4"}}}, "Bob"},
		{identity.Person{ID: "e", Name: "\u200d", Identities: map[string]identity.Identity{"": {ID: "x"}, "\xff": {ID: "y"}, "ldap": {ID: "5"}}}, "5@ldap"},
		{identity.Person{ID: "f", Name: strings.Repeat("ü", 10_000)}, strings.Repeat("ü", identity.MaxName)},
	} {
		h.wantOutcome(tc.p, identity.Taken)
		a := h.get(tc.p.ID)
		if a.Name != tc.name || a.URI != baseURL+"users/"+tc.p.ID || !a.Created.Equal(h.clock.Now()) || !a.LastUsed.Equal(h.clock.Now()) {
			t.Errorf("%s: got %q, %s, created %s, last used %s", tc.p.ID, a.Name, a.URI, a.Created, a.LastUsed)
		}
	}
	h.clock.Advance(time.Hour)
	h.wantOutcome(identity.Person{ID: "a"}, identity.Present)
}

func TestAdoptRefuses(t *testing.T) {
	h := newHouse(t)
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a b", "ä", "a\x00", "a\n", "-rf", strings.Repeat("a", 256)} {
		if done := h.wantOutcome(identity.Person{ID: id}, identity.Refused); done.Reason == "" {
			t.Errorf("%q: no reason", id)
		}
	}
	h.wantOutcome(identity.Person{ID: "a", URI: "https://example.org/" + strings.Repeat("x", 1000)}, identity.Refused)
	much := identity.Person{ID: "much"}
	for i := range 200_000 {
		much.Merged = append(much.Merged, fmt.Sprintf("https://example.org/a/long/way/to/users?%d", i))
	}
	h.wantOutcome(much, identity.Refused)
	if n, err := h.Count(t.Context(), ""); n != 0 || err != nil {
		t.Errorf("%d accounts, %v", n, err)
	}
}

// Here counts more than there.
func TestAdoptAgain(t *testing.T) {
	h := newHouse(t)
	changes := map[string]func(id string) error{
		"signed in": func(id string) error {
			_, _, err := h.SignIn(t.Context(), profile("github/"+id))
			return err
		},
		"renamed":  func(id string) error { _, err := h.Rename(t.Context(), id, "New"); return err },
		"disabled": func(id string) error { _, err := h.SetDisabled(t.Context(), id, true); return err },
		"linked": func(id string) error {
			_, err := h.Link(t.Context(), id, profile("easydb/"+id))
			return err
		},
		"absorbed another": func(id string) error {
			_, err := h.Merge(t.Context(), id, h.person("cbs/"+id).ID)
			return err
		},
		"was absorbed": func(id string) error {
			_, err := h.Merge(t.Context(), h.person("cbs/"+id).ID, id)
			return err
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			id := strings.ReplaceAll(name, " ", "-")
			p := elsewhere(id, "github/"+id)
			h.wantOutcome(p, identity.Taken)
			h.wantOutcome(p, identity.Present)

			// Nothing has happened here so far: the latest from there counts.
			p.Name, p.LastUsed = "Later", p.LastUsed.Add(time.Hour)
			p.Identities = elsewhere(id, "github/"+id, "orcid/"+id).Identities
			h.wantOutcome(p, identity.Updated)
			h.wantOutcome(p, identity.Present)
			if a := h.get(id); a.Name != "Later" || !a.LastUsed.Equal(p.LastUsed) || h.ownerOf("orcid/"+id) != id {
				t.Errorf("got %+v", a)
			}

			h.clock.Advance(time.Minute)
			if err := change(id); err != nil {
				t.Fatal(err)
			}
			before := h.get(id)
			p.Name, p.LastUsed = "Too late", p.LastUsed.Add(time.Hour)
			delete(p.Identities, "orcid")
			h.wantOutcome(p, identity.Present)
			if diff := cmp.Diff(before, h.get(id)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An identity that somebody has here stays theirs.
func TestAdoptKnownIdentity(t *testing.T) {
	h := newHouse(t)
	bob := h.person("github/1")
	for _, tc := range []struct {
		p    identity.Person
		want identity.Outcome
	}{
		{elsewhere("ada", "github/1"), identity.Refused},
		{elsewhere("cid", "github/1", "orcid/1"), identity.Taken},
	} {
		done := h.wantOutcome(tc.p, tc.want)
		if text := done.Reason + strings.Join(done.Left, "; "); !strings.Contains(text, "github:1 belongs to account "+bob.ID) {
			t.Errorf("%s: %q does not say who has the identity", tc.p.ID, text)
		}
	}
	if h.ownerOf("github/1") != bob.ID || h.ownerOf("orcid/1") != "cid" {
		t.Errorf("the owners are %s and %s", h.ownerOf("github/1"), h.ownerOf("orcid/1"))
	}
	if len(h.get("cid").Identities) != 1 {
		t.Errorf("got %v", h.get("cid").Identities)
	}
	// Once Bob's account is gone, they are what they were.
	if err := h.Delete(t.Context(), bob.ID); err != nil {
		t.Fatal(err)
	}
	h.wantOutcome(elsewhere("ada", "github/1"), identity.Taken)
}

// An identity that several have there goes to one of them, in whatever order they come.
func TestAdoptContested(t *testing.T) {
	for _, loserFirst := range []bool{true, false} {
		h := newHouse(t)
		winner, loser, partly := elsewhere("winner", "github/1"), elsewhere("loser", "github/1"), elsewhere("partly", "github/1", "orcid/1")
		loser.Contested = map[string]string{"github": "winner"}
		partly.Contested = loser.Contested
		order := []identity.Person{winner, loser, partly}
		if loserFirst {
			slices.Reverse(order)
		}
		for range 2 {
			for _, p := range order {
				done := h.adopt(p)
				if p.ID == "loser" && (done.Outcome != identity.Refused || !strings.Contains(done.Reason, "winner")) {
					t.Errorf("loser: got %+v", done)
				}
			}
		}
		if h.ownerOf("github/1") != "winner" || h.ownerOf("orcid/1") != "partly" {
			t.Errorf("loser first %v: the owners are %q and %q", loserFirst, h.ownerOf("github/1"), h.ownerOf("orcid/1"))
		}
	}
}

// Nobody gets the URI of somebody who is there themselves.
func TestAdoptURIOfAnother(t *testing.T) {
	h := newHouse(t)
	bob := h.person("github/1")
	h.wantOutcome(elsewhere("cid", "orcid/1"), identity.Taken)
	p := elsewhere("ada", "ldap/1")
	p.Merged = []string{bob.URI, "https://old.example/users/cid", "https://other.example/users/cid", strings.Repeat("x", 2000)}
	done := h.wantOutcome(p, identity.Taken)
	thief := elsewhere("thief", "ldap/2")
	thief.URI = bob.URI
	if done := h.wantOutcome(thief, identity.Taken); len(done.Left) != 1 || h.get("thief").URI != baseURL+"users/thief" {
		t.Errorf("got %+v with %s", done, h.get("thief").URI)
	}
	// Nor that of somebody who comes later, or one that two people bring.
	for _, id := range []string{"first", "second"} {
		early := elsewhere(id, "orcid/"+id)
		early.URI = "https://old.example/users/late"
		if done := h.wantOutcome(early, identity.Taken); len(done.Left) != 1 || h.get(id).URI != baseURL+"users/"+id {
			t.Errorf("got %+v with %s", done, h.get(id).URI)
		}
	}
	h.wantOutcome(elsewhere("late", "github/2"), identity.Taken)
	if uri := h.get("late").URI; uri != "https://old.example/users/late" {
		t.Errorf("late has the URI %s", uri)
	}
	if a := h.get("ada"); len(done.Left) != 3 || len(a.Merged) != 1 || a.Merged[0] != "https://other.example/users/cid" {
		t.Errorf("merged %v, left %q", a.Merged, done.Left)
	}
}

// Who has deleted their account does not come back by a second import, at whichever write a
// crash comes.
func TestAdoptAfterDeletion(t *testing.T) {
	for kills := 0; ; kills++ {
		c := clock.NewFake(start)
		engine := storetest.Faulty(teststore.Open(t, c.Now))
		h := &house{T: t, Directory: newDirectory(engine, c.Now), engine: engine, clock: c}
		ada, bob := elsewhere("ada", "github/1"), elsewhere("bob", "orcid/1")
		h.wantOutcome(ada, identity.Taken)
		h.wantOutcome(bob, identity.Taken)
		h.merge(h.get("ada"), h.get("bob"))

		engine.KillAfter(kills)
		err := h.Delete(t.Context(), "ada")
		engine.Revive()
		h.ForgetAll()
		if err != nil && !errors.Is(err, storetest.ErrKilled) {
			t.Fatal(err)
		}
		if kills == 0 {
			h.wantOutcome(ada, identity.Present)
			continue
		}
		for range 2 {
			h.wantOutcome(ada, identity.Refused)
			if done := h.adopt(bob); done.Outcome != identity.Refused && done.Outcome != identity.Present { // Present: the tombstone is still there
				t.Errorf("after %d writes Bob is %+v", kills, done)
			}
			if owner := h.ownerOf("github/1") + h.ownerOf("orcid/1"); owner != "" {
				t.Errorf("after %d writes %s is back", kills, owner)
			}
			if _, err := h.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.wantOutcome(bob, identity.Refused)
		if err == nil {
			return
		}
	}
}

// TestAdoptCrash: a person is taken or not, and the next time they are.
func TestAdoptCrash(t *testing.T) {
	for kills := range 2 {
		c := clock.NewFake(start)
		engine := storetest.Faulty(teststore.Open(t, c.Now))
		h := &house{T: t, Directory: newDirectory(engine, c.Now), engine: engine, clock: c}
		p := elsewhere("ada", "github/1", "orcid/1")
		engine.KillAfter(kills)
		_, err := h.Adopt(t.Context(), p, false)
		engine.Revive()
		if want := kills == 0; errors.Is(err, storetest.ErrKilled) != want {
			t.Fatalf("after %d writes: %v", kills, err)
		}
		want := identity.Present
		if kills == 0 {
			want = identity.Taken
		}
		h.wantOutcome(p, want)
		if a := h.get("ada"); len(a.Identities) != 2 {
			t.Errorf("got %v", a.Identities)
		}
	}
}

func TestAdoptDryRun(t *testing.T) {
	c := clock.NewFake(start)
	engine := storetest.Faulty(teststore.Open(t, c.Now))
	h := &house{T: t, Directory: newDirectory(engine, c.Now), engine: engine, clock: c}
	h.person("github/1")
	h.wantOutcome(elsewhere("cid", "cbs/1"), identity.Taken)
	before := engine.Writes()
	later := elsewhere("cid", "cbs/1")
	later.Name = "Later"
	for _, tc := range []struct {
		p    identity.Person
		want identity.Outcome
	}{
		{elsewhere("ada", "orcid/1"), identity.Taken},
		{elsewhere("bob", "github/1"), identity.Refused},
		{elsewhere("cid", "cbs/1"), identity.Present},
		{later, identity.Updated},
	} {
		if done, err := h.Adopt(t.Context(), tc.p, true); done.Outcome != tc.want || err != nil {
			t.Errorf("%s: got %+v, %v, want %s", tc.p.ID, done, err, tc.want)
		}
	}
	if n := engine.Writes() - before; n != 0 {
		t.Errorf("%d writes in a dry run", n)
	}
}

// TestAdoptAtOnce: several processes take the same people over while some of them sign in for
// the first time here. Each identity ends at one account, and each person was taken once at
// the most.
func TestAdoptAtOnce(t *testing.T) {
	h := newHouse(t)
	other := newDirectory(h.engine, h.clock.Now)
	const people = 20
	outcomes := make([][]identity.Outcome, people)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range people {
		key := fmt.Sprintf("github/%d", i)
		for _, d := range []*identity.Directory{h.Directory, other} {
			wg.Go(func() {
				done, err := d.Adopt(t.Context(), elsewhere(fmt.Sprintf("person-%d", i), key), false)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[i] = append(outcomes[i], done.Outcome)
			})
		}
		wg.Go(func() {
			if _, _, err := other.SignIn(t.Context(), profile(key)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	accounts, err := h.Count(t.Context(), "")
	if err != nil || accounts != people {
		t.Errorf("%d accounts, want %d; %v", accounts, people, err)
	}
	for i, o := range outcomes {
		slices.Sort(o)
		if o[0] != identity.Refused && (o[0] != identity.Present || o[1] != identity.Taken) {
			t.Errorf("person %d: %v", i, o)
		}
		if o[0] == identity.Refused && o[1] == identity.Taken {
			t.Errorf("person %d was taken and refused", i)
		}
	}
}
