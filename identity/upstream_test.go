package identity_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/store"
)

// What becomes of it when accounts are merged, separated, and processes crash in the
// middle of that, is checked by wantUpstream in all tests of crash_test.go.

// embassy is a house whose providers in exposed have things handed on, sealed with secrets.
type embassy struct {
	*house
	exposed map[string]bool
	secrets []string
}

func newEmbassy(t *testing.T, exposed ...string) *embassy {
	c := clock.NewFake(start)
	e := &embassy{house: &house{T: t, engine: teststore.Open(t, c.Now), clock: c}, exposed: map[string]bool{}, secrets: []string{"the first secret"}}
	for _, provider := range exposed {
		e.exposed[provider] = true
	}
	e.restart()
	return e
}

func (e *embassy) restart() {
	e.Directory = identity.NewDirectory(e.engine, identity.Options{
		BaseURL: baseURL, Now: e.clock.Now, NewID: uuid.NewString, CacheSize: 1000, CacheAge: time.Hour,
		Sealer: newSealer(e.secrets...), Exposes: func(provider string) bool { return e.exposed[provider] },
	})
}

// came is a profile with which something has come.
func came(key, upstream string) identity.Profile {
	p := profile(key)
	p.Upstream = upstream
	return p
}

func (e *embassy) signIn(p identity.Profile) identity.Account {
	e.Helper()
	a, _, err := e.SignIn(e.Context(), p)
	if err != nil {
		e.Fatalf("SignIn: %v", err)
	}
	return a
}

func (e *embassy) link(a identity.Account, p identity.Profile) identity.Account {
	e.Helper()
	a, err := e.Link(e.Context(), a.ID, p)
	if err != nil {
		e.Fatalf("Link: %v", err)
	}
	return a
}

// wantTokens checks what applications get of an account: by provider, the field token.
func (e *embassy) wantTokens(id string, want map[string]string) {
	e.Helper()
	a := e.get(id)
	claims, err := e.Claims(a)
	if err != nil {
		e.Fatalf("Claims: %v", err)
	}
	got := map[string]string{}
	if claims != nil {
		var user struct {
			Identities map[string]struct{ Token string }
		}
		if err := json.Unmarshal(claims, &user); err != nil {
			e.Fatal(err)
		}
		for provider, i := range user.Identities {
			if i.Token != "" {
				got[provider] = i.Token
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		e.Errorf("tokens (-want +got):\n%s", diff)
	}
	if exposed := slices.Sorted(maps.Keys(want)); !slices.Equal(e.Exposed(a), exposed) {
		e.Errorf("Exposed: got %v, want %v", e.Exposed(a), exposed)
	}
}

// documents returns what is stored of all accounts.
func (e *embassy) documents() map[string]string {
	e.Helper()
	docs, err := e.engine.Find(e.Context(), "user", store.Query{})
	if err != nil {
		e.Fatal(err)
	}
	all := map[string]string{}
	for _, doc := range docs {
		all[doc.ID] = string(doc.Data)
	}
	return all
}

// kept counts the values that are stored, wherever.
func (e *embassy) kept() int {
	e.Helper()
	n := 0
	for _, text := range e.documents() {
		var a identity.Account
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			e.Fatal(err)
		}
		n += len(a.Upstream)
		if a.Intent != nil {
			n += len(a.Intent.Upstream)
		}
	}
	return n
}

func TestUpstreamIsForTokensOnly(t *testing.T) {
	const secret = "vERy-SecrEt-7261"
	e := newEmbassy(t, "wikidata")
	a := e.signIn(came("wikidata/7", `{"oauth": {"token": "public-part", "token_secret": "`+secret+`"}, "count": 12345678901234567890}`))
	a = e.link(a, came("github/1", `{"token": "`+secret+`"}`)) // is not exposed

	claims, err := e.Claims(a)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_id":"` + a.ID + `","uri":"` + a.URI + `","name":"Name of wikidata/7","merged":[],"identities":{` +
		`"github":{"id":"1","uri":"https://github.example/1","name":"Name of github/1","username":"user-1"},` +
		`"wikidata":{"count":12345678901234567890,"id":"7","name":"Name of wikidata/7","oauth":{"token":"public-part","token_secret":"` + secret + `"},"uri":"https://wikidata.example/7","username":"user-7"}}}`
	if diff := cmp.Diff(want, string(claims)); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}

	user, withUsage, err := e.JSON(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	places := maps.Clone(e.documents())
	places["User"], places["UserWithUsage"], places["Account"] = string(user), string(withUsage), string(account)
	for place, text := range places {
		if strings.Contains(text, secret) || strings.Contains(text, "public-part") || strings.Contains(text, "oauth") {
			t.Errorf("%s: %s", place, text)
		}
	}
	for _, shown := range [][]byte{user, withUsage} {
		if strings.Contains(string(shown), "pstream") {
			t.Errorf("even sealed it is nobody's business: %s", shown)
		}
	}
}

func TestClaimsOfOthersAreTheUser(t *testing.T) {
	e := newEmbassy(t, "wikidata")
	a := e.signIn(came("wikidata/7", ""))
	a = e.link(a, came("github/1", `{"token": "t"}`))
	if claims, err := e.Claims(a); claims != nil || err != nil {
		t.Errorf("got %s, %v; want nothing beside the User", claims, err)
	}
	if a := e.signIn(came("wikidata/8", `{}`)); e.kept() != 0 {
		t.Errorf("nothing was kept: %v", a.Upstream)
	}
}

func TestUpstreamIsThatOfTheLastSignIn(t *testing.T) {
	e := newEmbassy(t, "easydb")
	a := e.signIn(came("easydb/1", `{"token": "one"}`))
	e.wantTokens(a.ID, map[string]string{"easydb": "one"})
	e.signIn(came("easydb/1", `{"token": "two"}`))
	e.wantTokens(a.ID, map[string]string{"easydb": "two"})
	e.link(a, came("easydb/1", `{"token": "three"}`))
	e.wantTokens(a.ID, map[string]string{"easydb": "three"})
	e.signIn(came("easydb/1", ""))
	e.wantTokens(a.ID, map[string]string{})
	if n := e.kept(); n != 0 {
		t.Errorf("%d values are kept", n)
	}
}

func TestUpstreamThatIsNotWantedAnyMore(t *testing.T) {
	e := newEmbassy(t, "easydb", "wikidata")
	a := e.signIn(came("easydb/1", `{"token": "e"}`))
	e.link(a, came("wikidata/1", `{"token": "w"}`))
	b := e.signIn(came("easydb/2", `{"token": "b"}`))

	e.exposed["easydb"] = false
	e.wantTokens(a.ID, map[string]string{"wikidata": "w"})
	e.wantTokens(b.ID, map[string]string{})
	e.signIn(came("easydb/1", `{"token": "e2"}`))
	if n := e.kept(); n != 2 {
		t.Errorf("%d values are kept, want that of wikidata and the one whose person has not signed in since", n)
	}
	e.exposed["easydb"] = true
	e.wantTokens(a.ID, map[string]string{"wikidata": "w"})
	e.wantTokens(b.ID, map[string]string{"easydb": "b"})

	e.exposed["easydb"] = false
	for _, want := range []int{1, 0} {
		if n, err := e.Heal(t.Context()); n != want || err != nil {
			t.Errorf("Heal: %d, %v; want %d", n, err, want)
		}
	}
	e.exposed["easydb"] = true
	e.wantTokens(a.ID, map[string]string{"wikidata": "w"})
	e.wantTokens(b.ID, map[string]string{})
	if n := e.kept(); n != 1 {
		t.Errorf("%d values are kept, want that of wikidata", n)
	}
}

// TestUpstreamIsNotForTheCommandLine: a directory that cannot open what is sealed
// shows nothing of it, and keeps it when it changes the account.
func TestUpstreamIsNotForTheCommandLine(t *testing.T) {
	e := newEmbassy(t, "easydb")
	a := e.signIn(came("easydb/1", `{"token": "one"}`))
	b := e.signIn(came("github/1", ""))
	command := identity.NewDirectory(e.engine, identity.Options{BaseURL: baseURL, Now: e.clock.Now, NewID: uuid.NewString, CacheSize: 10})
	if _, err := command.Rename(t.Context(), a.ID, "Ada"); err != nil {
		t.Fatal(err)
	}
	if _, err := command.Merge(t.Context(), b.ID, a.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := command.Heal(t.Context()); n != 0 || err != nil {
		t.Errorf("Heal: %d, %v", n, err)
	}
	if claims, err := command.Claims(e.get(b.ID)); claims != nil || err != nil {
		t.Errorf("claims: %s, %v", claims, err)
	}
	e.ForgetAll()
	e.wantTokens(b.ID, map[string]string{"easydb": "one"})
}

func TestUpstreamAfterAnotherSecret(t *testing.T) {
	e := newEmbassy(t, "easydb")
	a := e.signIn(came("easydb/1", `{"token": "one"}`))
	e.secrets = []string{"the second secret", "the first secret"}
	e.restart()
	e.wantTokens(a.ID, map[string]string{"easydb": "one"})
	e.secrets = []string{"the second secret"}
	e.restart()
	e.wantTokens(a.ID, map[string]string{})
	e.signIn(came("easydb/1", `{"token": "two"}`))
	e.wantTokens(a.ID, map[string]string{"easydb": "two"})
}

// TestUpstreamOfSomebodyElse: a value that stands beside another identity than its
// own, as only somebody who writes into the database can do it, is not handed on.
func TestUpstreamOfSomebodyElse(t *testing.T) {
	e := newEmbassy(t, "easydb", "wikidata")
	victim := e.signIn(came("easydb/1", `{"token": "the victim's"}`))
	thief := e.signIn(came("easydb/2", ""))
	thief = e.link(thief, came("wikidata/1", ""))
	for _, provider := range []string{"easydb", "wikidata", "github"} {
		thief.Upstream = map[string]string{provider: victim.Upstream["easydb"]}
		if claims, err := e.Claims(thief); claims != nil || err != nil {
			t.Errorf("%s: %s, %v", provider, claims, err)
		}
	}
	thief.Upstream = map[string]string{"easydb": "something else"}
	if claims, err := e.Claims(thief); claims != nil || err != nil {
		t.Errorf("not sealed here: %s, %v", claims, err)
	}
}

func TestUpstreamGoesWithItsIdentity(t *testing.T) {
	e := newEmbassy(t, "easydb", "wikidata", "github")
	ada := e.signIn(came("github/1", `{"token": "g"}`))
	bob := e.signIn(came("easydb/1", `{"token": "e"}`))
	e.link(bob, came("wikidata/1", `{"token": "w"}`))
	all := map[string]string{"github": "g", "easydb": "e", "wikidata": "w"}

	e.merge(ada, bob)
	e.wantTokens(ada.ID, all)
	if n := e.kept(); n != 3 {
		t.Errorf("%d values are kept: what was absorbed holds what was replaced or dropped since", n)
	}
	e.signIn(came("easydb/1", `{"token": "e2"}`))
	e.signIn(came("wikidata/1", ""))
	e.undo(ada, bob)
	e.wantTokens(ada.ID, map[string]string{"github": "g"})
	e.wantTokens(bob.ID, map[string]string{"easydb": "e2"}) // not what it was before: that is out of date

	e.merge(ada, bob)
	if _, err := e.Disconnect(t.Context(), ada.ID, "easydb"); err != nil {
		t.Fatal(err)
	}
	e.wantTokens(ada.ID, map[string]string{"github": "g"})
	if n := e.kept(); n != 1 {
		t.Errorf("%d values are kept after disconnecting", n)
	}
	e.signIn(came("easydb/1", `{"token": "of somebody new"}`))
	e.wantTokens(ada.ID, map[string]string{"github": "g"})

	if err := e.Delete(t.Context(), ada.ID); err != nil {
		t.Fatal(err)
	}
	if n := e.kept(); n != 1 {
		t.Errorf("%d values are kept after deleting, want that of somebody new", n)
	}
}

// TestUpstreamBeforeAMerge: who proves an identity of another account is asked
// whether to merge; what came with that proof is what applications get afterwards.
func TestUpstreamBeforeAMerge(t *testing.T) {
	e := newEmbassy(t, "easydb")
	ada, bob := e.signIn(came("github/1", "")), e.signIn(came("easydb/1", `{"token": "old"}`))
	_, err := e.Link(t.Context(), ada.ID, came("easydb/1", `{"token": "new"}`))
	owned, ok := errors.AsType[*identity.OwnedError](err)
	if !ok || owned.Owner.ID != bob.ID {
		t.Fatalf("got %v, want bob's", err)
	}
	e.wantTokens(ada.ID, map[string]string{})
	e.wantTokens(bob.ID, map[string]string{"easydb": "new"})
	if now := e.get(bob.ID); now.User().Name != bob.Name || !now.LastUsed.Equal(bob.LastUsed) {
		t.Errorf("more has changed: %+v", now)
	}
	e.merge(ada, bob)
	e.wantTokens(ada.ID, map[string]string{"easydb": "new"})
}

func TestUpstreamThatTokensCannotCarry(t *testing.T) {
	e := newEmbassy(t, "easydb")
	const secret = "s3cret"
	for name, upstream := range map[string]string{
		"text":              `"` + secret + `"`,
		"list":              `["` + secret + `"]`,
		"null":              `null`,
		"no JSON":           secret,
		"two objects":       `{"token": "` + secret + `"} {}`,
		"id":                `{"token": "` + secret + `", "id": "1"}`,
		"uri":               `{"uri": "https://evil.example/"}`,
		"name":              `{"name": "Admin"}`,
		"username":          `{"username": "admin"}`,
		"ID":                `{"ID": "1"}`,
		"escaped":           `{"\u0069d": "1"}`,
		"another s in name": `{"u\u017fername": "admin"}`,
		"no UTF-8":          "{\"token\": \"\xff\"}",
		"too long":          `{"token": "` + strings.Repeat("x", 16<<10) + `"}`,
	} {
		p := came("easydb/1", upstream)
		_, _, err := e.SignIn(t.Context(), p)
		if !errors.Is(err, identity.ErrProfile) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: SignIn: %v", name, err)
		}
		a := e.signIn(came("github/1", ""))
		if _, err := e.Link(t.Context(), a.ID, p); !errors.Is(err, identity.ErrProfile) {
			t.Errorf("%s: Link: %v", name, err)
		}
	}
	if n := e.kept(); n != 0 {
		t.Errorf("%d values are kept", n)
	}
	long := strings.Repeat("x", 16<<10-len(`{"token":""}`))
	a := e.signIn(came("easydb/1", `{"token":"`+long+`"}`))
	e.wantTokens(a.ID, map[string]string{"easydb": long})
}
