package identity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/token"
)

const baseURL = "https://example.org/login/"

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newDirectory returns a directory of the accounts in engine. Each provider gives
// something to act there in people's names, so that every test of what becomes of an
// identity is one of what becomes of that, too.
func newDirectory(engine store.Engine, now func() time.Time) *identity.Directory {
	return identity.NewDirectory(engine, identity.Options{
		BaseURL: baseURL, Now: now, NewID: uuid.NewString, CacheSize: 1000, CacheAge: time.Hour,
		Sealer: newSealer("secret of the tests"), Exposes: func(string) bool { return true },
	})
}

func newSealer(secrets ...string) identity.Sealer {
	s, err := token.NewSealer(secrets, "upstream tokens")
	if err != nil {
		panic(err) // for no secrets
	}
	return s
}

// house is a directory with a fake clock, and short ways to use it that fail the test.
type house struct {
	*testing.T
	*identity.Directory
	engine store.Engine
	clock  *clock.Fake
}

func newHouse(t *testing.T) *house {
	c := clock.NewFake(start)
	engine := teststore.Open(t, c.Now)
	return &house{T: t, Directory: newDirectory(engine, c.Now), engine: engine, clock: c}
}

// profile of "provider/id", with a name, a username, a URI and a token made from it.
func profile(key string) identity.Profile {
	provider, id, _ := strings.Cut(key, "/")
	return identity.Profile{
		Provider: provider, ID: id, Name: "Name of " + key, Username: "user-" + id, URI: "https://" + provider + ".example/" + id,
		Upstream: `{"token":"token of ` + key + `"}`,
	}
}

// person signs in with the first identity and links the others.
func (h *house) person(keys ...string) identity.Account {
	h.Helper()
	a, created, err := h.SignIn(h.Context(), profile(keys[0]))
	if err != nil || !created {
		h.Fatalf("SignIn %s: created %v, %v", keys[0], created, err)
	}
	for _, key := range keys[1:] {
		if a, err = h.Link(h.Context(), a.ID, profile(key)); err != nil {
			h.Fatalf("Link %s: %v", key, err)
		}
	}
	return a
}

func (h *house) merge(survivor, other identity.Account) identity.Account {
	h.Helper()
	a, err := h.Merge(h.Context(), survivor.ID, other.ID)
	if err != nil {
		h.Fatalf("Merge: %v", err)
	}
	return a
}

func (h *house) get(id string) identity.Account {
	h.Helper()
	a, err := h.Get(h.Context(), id)
	if err != nil {
		h.Fatalf("Get: %v", err)
	}
	return a
}

// ownerOf returns the id of the account with an identity; empty if that is free.
func (h *house) ownerOf(key string) string {
	h.Helper()
	provider, id, _ := strings.Cut(key, "/")
	a, err := h.Owner(h.Context(), provider, id)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		h.Fatalf("Owner of %s: %v", key, err)
	}
	return a.ID
}

func (h *house) wantError(got, want error) {
	h.Helper()
	if !errors.Is(got, want) {
		h.Errorf("got error %v, want %v", got, want)
	}
}

func keysOf(a identity.Account) []string {
	var keys []string
	for provider, i := range a.Identities {
		keys = append(keys, provider+"/"+i.ID)
	}
	slices.Sort(keys)
	return keys
}

func (h *house) wantIdentities(a identity.Account, want ...string) {
	h.Helper()
	if diff := cmp.Diff(want, keysOf(a)); diff != "" {
		h.Errorf("identities of %s (-want +got):\n%s", a.Name, diff)
	}
}

func TestFirstSignInMakesAnAccount(t *testing.T) {
	h := newHouse(t)
	a, created, err := h.SignIn(t.Context(), identity.Profile{
		Provider: "github", ID: "583231", Name: "Ada L.", Username: "ada", URI: "https://github.com/ada",
	})
	if err != nil || !created {
		t.Fatalf("SignIn: created %v, %v", created, err)
	}
	want := identity.UserWithUsage{
		User: identity.User{
			ID: a.ID, URI: baseURL + "users/" + a.ID, Name: "Ada L.", Merged: []string{},
			Identities: map[string]identity.Identity{
				"github": {ID: "583231", URI: "https://github.com/ada", Name: "Ada L.", Username: "ada"},
			},
		},
		Usage: identity.Usage{Created: start, LastUsed: start},
	}
	if diff := cmp.Diff(want, h.get(a.ID).UserWithUsage()); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
	if uuid.Validate(a.ID) != nil {
		t.Errorf("the id %q is not a UUID", a.ID)
	}
}

func TestSignInAgain(t *testing.T) {
	h := newHouse(t)
	first := h.person("github/1")
	h.clock.Advance(time.Hour)
	again := profile("github/1")
	again.Username = "renamed"
	a, created, err := h.SignIn(t.Context(), again)
	if err != nil || created || a.ID != first.ID {
		t.Fatalf("got account %s, created %v, %v; want the first one", a.ID, created, err)
	}
	if got := h.get(a.ID); got.Identities["github"].Username != "renamed" || !got.LastUsed.Equal(start.Add(time.Hour)) || got.Name != first.Name {
		t.Errorf("got %+v: what the provider says and the time are taken over, the account's name stays", got)
	}
}

func TestNameOfANewAccount(t *testing.T) {
	long := strings.Repeat("ü", 300)
	tests := []struct {
		what    string
		profile identity.Profile
		want    string
	}{
		{"name", identity.Profile{ID: "1", Name: "Ada", Username: "ada"}, "Ada"},
		{"no name", identity.Profile{ID: "1", Username: "ada"}, "ada@github"},
		{"neither", identity.Profile{ID: "1"}, "1@github"},
		{"name of spaces", identity.Profile{ID: "1", Name: " \t\n", Username: "ada"}, "ada@github"},
		{"name with an at sign first", identity.Profile{ID: "1", Name: "@ada"}, "@ada"},
		{"name of control characters", identity.Profile{ID: "1", Name: "\x00\x1b\u202e", Username: "\x07"}, "1@github"},
		{"name with line breaks", identity.Profile{ID: "1", Name: "Ada\r\nSet-Cookie: x"}, "AdaSet-Cookie: x"},
		{"text direction turned", identity.Profile{ID: "1", Name: "Ada\u202egpj.exe"}, "Adagpj.exe"},
		{"invalid UTF-8", identity.Profile{ID: "1", Name: "A\xffda"}, "Ada"},
		{"joiners only", identity.Profile{ID: "1", Name: "\u200d\u200c"}, "1@github"},
		{"markup stays text", identity.Profile{ID: "1", Name: "<script>"}, "<script>"},
		{"too long", identity.Profile{ID: "1", Name: long}, long[:2*identity.MaxName]},
		{"nothing printable", identity.Profile{ID: "\x01"}, "github"},
	}
	h := newHouse(t)
	for i, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			tc.profile.Provider = "github"
			a, created, err := h.SignIn(t.Context(), tc.profile)
			if err != nil || !created {
				t.Fatalf("SignIn: created %v, %v", created, err)
			}
			if a.Name != tc.want {
				t.Errorf("got %q, want %q", a.Name, tc.want)
			}
			if kept, err := identity.CheckName(a.Name); err != nil || kept != a.Name {
				t.Errorf("the account could not be renamed to its own name: %q, %v", kept, err)
			}
			if err := h.Delete(t.Context(), a.ID); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		})
	}
}

func TestHostileProfiles(t *testing.T) {
	h := newHouse(t)
	for _, p := range []identity.Profile{
		{Provider: "github"},
		{ID: "1"},
		{Provider: "github", ID: "\xff"},
		{Provider: "github", ID: strings.Repeat("x", 1000)},
	} {
		if _, _, err := h.SignIn(t.Context(), p); !errors.Is(err, identity.ErrProfile) {
			t.Errorf("SignIn %.40q: got error %v, want ErrProfile", p, err)
		}
	}
	big := identity.Profile{Provider: "script", ID: "1", Name: strings.Repeat("n", 1e6), Username: strings.Repeat("u", 1e6), URI: "https://x/" + strings.Repeat("p", 1e6)}
	a, _, err := h.SignIn(t.Context(), big)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Identities["script"]; len(got.Name) > identity.MaxName || len(got.Username) > identity.MaxName || got.URI != "" {
		t.Errorf("every token would carry %d bytes", len(got.Name)+len(got.Username)+len(got.URI))
	}
}

func TestIdentitiesOfDifferentProvidersDiffer(t *testing.T) {
	h := newHouse(t)
	keys := []string{"a/b:c", "a:b/c", "a/b", "a/B", "a/b ", "identity:a/b", "a/%", "a/\u00e9", "a/e\u0301"}
	ids := map[string]string{}
	for _, key := range keys {
		ids[h.person(key).ID] = key
	}
	if len(ids) != len(keys) {
		t.Errorf("%d identities gave %d accounts", len(keys), len(ids))
	}
}

func TestParallelFirstSignInsMakeOneAccount(t *testing.T) {
	h := newHouse(t)
	const n = 16
	var created atomic.Int32
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			a, fresh, err := h.SignIn(t.Context(), profile("github/1"))
			if err != nil {
				t.Errorf("SignIn: %v", err)
			}
			if fresh {
				created.Add(1)
			}
			ids[i] = a.ID
		})
	}
	wg.Wait()
	if count, err := h.Count(t.Context(), ""); count != 1 || err != nil || created.Load() != 1 {
		t.Errorf("%d accounts, %d times created, %v; want one", count, created.Load(), err)
	}
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("the sign-ins were told of different accounts: %v", ids)
	}
}

func TestLink(t *testing.T) {
	h := newHouse(t)
	ada := h.person("github/1")
	a, err := h.Link(t.Context(), ada.ID, profile("orcid/2"))
	if err != nil {
		t.Fatal(err)
	}
	h.wantIdentities(a, "github/1", "orcid/2")
	if h.ownerOf("orcid/2") != ada.ID {
		t.Error("the linked identity has another owner")
	}

	t.Run("again changes nothing but what the provider says", func(t *testing.T) {
		p := profile("orcid/2")
		p.Name = "New"
		a, err := h.Link(t.Context(), ada.ID, p)
		if err != nil || a.Identities["orcid"].Name != "New" || len(a.Identities) != 2 {
			t.Errorf("got %+v, %v", a.Identities, err)
		}
	})
	t.Run("another identity of the same provider is refused", func(t *testing.T) {
		_, err := h.Link(t.Context(), ada.ID, profile("github/other"))
		if e, ok := errors.AsType[*identity.SharedError](err); !ok || !slices.Equal(e.Providers, []string{"github"}) {
			t.Errorf("got %v, want a SharedError that names github", err)
		}
		if h.ownerOf("github/other") != "" {
			t.Error("the refused identity is owned")
		}
	})
	t.Run("of an account that could be merged", func(t *testing.T) {
		bob := h.person("google/3")
		_, err := h.Link(t.Context(), ada.ID, profile("google/3"))
		if e, ok := errors.AsType[*identity.OwnedError](err); !ok || e.Owner.ID != bob.ID {
			t.Errorf("got %v, want an OwnedError with the owner", err)
		}
	})
	t.Run("of an account that shares providers", func(t *testing.T) {
		h.person("ldap/4", "github/4", "orcid/4")
		_, err := h.Link(t.Context(), ada.ID, profile("ldap/4"))
		if e, ok := errors.AsType[*identity.SharedError](err); !ok || !slices.Equal(e.Providers, []string{"github", "orcid"}) {
			t.Errorf("got %v, want a SharedError that names github and orcid", err)
		}
	})
	t.Run("to an account that does not exist", func(t *testing.T) {
		_, err := h.Link(t.Context(), "nobody", profile("ldap/5"))
		(&house{T: t}).wantError(err, identity.ErrNotFound)
	})
}

func TestParallelLinksOfOneIdentity(t *testing.T) {
	h := newHouse(t)
	var people []identity.Account
	for i := range 8 {
		people = append(people, h.person(fmt.Sprintf("p%d/x", i)))
	}
	var linked atomic.Int32
	var wg sync.WaitGroup
	for _, a := range people {
		wg.Go(func() {
			_, err := h.Link(t.Context(), a.ID, profile("github/1"))
			if _, owned := errors.AsType[*identity.OwnedError](err); err != nil && !owned {
				t.Errorf("Link: %v", err)
			}
			if err == nil {
				linked.Add(1)
			}
		})
	}
	wg.Wait()
	if linked.Load() != 1 {
		t.Errorf("%d accounts were told to have the identity, want one", linked.Load())
	}
}

func TestDisconnect(t *testing.T) {
	h := newHouse(t)
	ada := h.person("github/1", "orcid/2")
	a, err := h.Disconnect(t.Context(), ada.ID, "orcid")
	if err != nil {
		t.Fatal(err)
	}
	h.wantIdentities(a, "github/1")
	if h.ownerOf("orcid/2") != "" {
		t.Error("the disconnected identity still has an owner")
	}
	_, err = h.Disconnect(t.Context(), ada.ID, "orcid")
	h.wantError(err, identity.ErrNotLinked)
	_, err = h.Disconnect(t.Context(), ada.ID, "github")
	h.wantError(err, identity.ErrLastIdentity)
	if bob := h.person("orcid/2"); bob.ID == ada.ID {
		t.Error("signing in with the disconnected identity leads to the old account")
	}
}

func TestTwoDisconnectsAtOnceLeaveOne(t *testing.T) {
	h := newHouse(t)
	for round := range 20 {
		a := h.person(fmt.Sprintf("github/%d", round), fmt.Sprintf("orcid/%d", round))
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, provider := range []string{"github", "orcid"} {
			wg.Go(func() { _, errs[i] = h.Disconnect(t.Context(), a.ID, provider) })
		}
		wg.Wait()
		slices.SortFunc(errs, func(a, b error) int {
			if a == nil {
				return -1
			}
			return 1
		})
		if errs[0] != nil || !errors.Is(errs[1], identity.ErrLastIdentity) {
			t.Fatalf("got %v, want one success and one ErrLastIdentity", errs)
		}
		if n := len(h.get(a.ID).Identities); n != 1 {
			t.Fatalf("%d identities are left, want 1", n)
		}
	}
}

func TestRename(t *testing.T) {
	h := newHouse(t)
	ada := h.person("github/1")
	tests := []struct {
		what, name, want string
		err              error
	}{
		{"plain", "Ada", "Ada", nil},
		{"trimmed", "  Ada Lovelace\t", "Ada Lovelace", nil},
		{"joiner inside a word", "می\u200cخواهم", "می\u200cخواهم", nil},
		{"emoji of several", "👩\u200d🔬", "👩\u200d🔬", nil},
		{"200 characters", strings.Repeat("ü", 200), strings.Repeat("ü", 200), nil},
		{"201 characters", strings.Repeat("ü", 201), "", identity.ErrNameLong},
		{"empty", "", "", identity.ErrNameEmpty},
		{"only spaces", " \u00a0\u3000", "", identity.ErrNameEmpty},
		{"only joiners", "\u200d", "", identity.ErrNameEmpty},
		{"control character", "A\x00", "", identity.ErrNameControl},
		{"line break", "A\nB", "", identity.ErrNameControl},
		{"line separator", "A\u2028B", "", identity.ErrNameControl},
		{"text direction", "A\u202eB", "", identity.ErrNameControl},
		{"invalid UTF-8", "A\xff", "", identity.ErrNameControl},
	}
	for _, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			a, err := h.Rename(t.Context(), ada.ID, tc.name)
			if !errors.Is(err, tc.err) || a.Name != tc.want {
				t.Errorf("got %q, %v; want %q, %v", a.Name, err, tc.want, tc.err)
			}
			if err == nil && h.get(ada.ID).Name != tc.want {
				t.Errorf("a reader sees %q", h.get(ada.ID).Name)
			}
		})
	}
	_, err := h.Rename(t.Context(), "nobody", "Ada")
	h.wantError(err, identity.ErrNotFound)
}

func TestDelete(t *testing.T) {
	h := newHouse(t)
	c := h.person("google/3")
	b := h.merge(h.person("orcid/2"), c)
	a := h.merge(h.person("github/1"), b)
	if err := h.Delete(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{a.ID, b.ID, c.ID} {
		_, _, err := h.Locate(t.Context(), id)
		h.wantError(err, identity.ErrNotFound)
	}
	for _, key := range []string{"github/1", "orcid/2", "google/3"} {
		if h.ownerOf(key) != "" {
			t.Errorf("%s still has an owner", key)
		}
		if again := h.person(key); slices.Contains([]string{a.ID, b.ID, c.ID}, again.ID) {
			t.Errorf("signing in with %s leads to a deleted account", key)
		}
	}
	docs, err := h.engine.Find(t.Context(), "user", store.Query{})
	if err != nil || len(docs) != 3 {
		t.Errorf("%d documents, %v; want those of the three new accounts", len(docs), err)
	}
	h.wantError(h.Delete(t.Context(), a.ID), identity.ErrNotFound)
}

func TestListAndCount(t *testing.T) {
	h := newHouse(t)
	var want []string
	for i := range 5 {
		want = append(want, h.person(fmt.Sprintf("github/%d", i)).ID)
	}
	gone := h.person("orcid/1")
	h.merge(h.get(want[0]), gone)
	slices.Sort(want)
	var got []string
	for after := ""; ; {
		page, err := h.List(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.ID)
		}
		after = page[len(page)-1].ID
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("live accounts (-want +got):\n%s", diff)
	}
	for provider, want := range map[string]int{"": 5, "github": 5, "orcid": 1, "google": 0} {
		if got, err := h.Count(t.Context(), provider); got != want || err != nil {
			t.Errorf("Count %q: got %d, %v; want %d", provider, got, err, want)
		}
	}
}

func TestLocateKnowsFormerURIsWithoutTombstones(t *testing.T) {
	h := newHouse(t)
	// As it is taken over from the older program.
	imported := store.NewCollection(h.engine, "user", func(a identity.Account) store.Index {
		return store.Index{Keys: []string{"live", "merged:" + a.Merged[0]}}
	})
	_, err := imported.Insert(t.Context(), "new", identity.Account{ID: "new", Merged: []string{baseURL + "users/old"}})
	if err != nil {
		t.Fatal(err)
	}
	if a, moved, err := h.Locate(t.Context(), "old"); a.ID != "new" || !moved || err != nil {
		t.Errorf("got %q, moved %v, %v; want the account that lists the URI", a.ID, moved, err)
	}
}

func TestReadersSeeWhatWasWritten(t *testing.T) {
	h := newHouse(t)
	ada := h.person("github/1")
	other := newDirectory(h.engine, h.clock.Now) // another node
	if _, err := other.Get(t.Context(), ada.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Rename(t.Context(), ada.ID, "Countess"); err != nil {
		t.Fatal(err)
	}
	if got := h.get(ada.ID).Name; got != "Countess" {
		t.Errorf("the node that wrote reads %q", got)
	}
	if got, _ := other.Get(t.Context(), ada.ID); got.Name != ada.Name {
		t.Errorf("the other node reads %q before it has heard of the change: it does not use its memory", got.Name)
	}
	other.Forget(ada.ID)
	if got, _ := other.Get(t.Context(), ada.ID); got.Name != "Countess" {
		t.Errorf("the other node reads %q after it has heard of the change", got.Name)
	}
}

func TestChangesAreTold(t *testing.T) {
	c := clock.NewFake(start)
	var told []string
	d := identity.NewDirectory(teststore.Open(t, c.Now), identity.Options{
		BaseURL: baseURL, Now: c.Now, NewID: uuid.NewString, CacheSize: 10, CacheAge: time.Hour,
		Changed: func(ids ...string) { told = append(told, ids...) },
	})
	h := &house{T: t, Directory: d, clock: c}
	a, b := h.person("github/1"), h.person("orcid/2")
	steps := []struct {
		what string
		do   func() error
		want []string
	}{
		{"rename", func() error { _, err := d.Rename(t.Context(), a.ID, "A"); return err }, []string{a.ID}},
		{"merge", func() error { _, err := d.Merge(t.Context(), a.ID, b.ID); return err }, []string{a.ID, b.ID}},
		{"undo", func() error { _, _, err := d.UndoMerge(t.Context(), a.ID, b.ID); return err }, []string{a.ID, b.ID}},
		{"delete", func() error { return d.Delete(t.Context(), a.ID) }, []string{a.ID}},
	}
	for _, step := range steps {
		told = nil
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		for _, id := range step.want {
			if !slices.Contains(told, id) {
				t.Errorf("%s: not told of %s", step.what, id)
			}
		}
	}
}

func TestJSONFollowsTheAccount(t *testing.T) {
	w := newHouse(t)
	a := w.person("alpha/1", "beta/1")
	check := func(name string) {
		t.Helper()
		user, withUsage, err := w.JSON(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		now, err := w.Get(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []struct {
			got  []byte
			want any
		}{{user, now.User()}, {withUsage, now.UserWithUsage()}} {
			want, err := json.Marshal(text.want)
			if err != nil {
				t.Fatal(err)
			}
			if string(text.got) != string(want) || now.Name != name {
				t.Errorf("got %s, want %s named %s", text.got, want, name)
			}
		}
	}
	check(a.Name)
	if _, err := w.Rename(t.Context(), a.ID, "Ada"); err != nil {
		t.Fatal(err)
	}
	check("Ada")
	if err := w.Delete(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.JSON(t.Context(), a.ID); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("after deletion: got %v, want ErrNotFound", err)
	}
}

func BenchmarkGetFromMemory(b *testing.B) {
	engine := teststore.Open(b, time.Now)
	d := newDirectory(engine, time.Now)
	a, _, err := d.SignIn(b.Context(), profile("github/1"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Get(b.Context(), a.ID); err != nil {
			b.Fatal(err)
		}
	}
}
