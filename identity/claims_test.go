package identity_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/identity"
)

// says is the profile of "provider/id" with claims.
func says(key, claims string) identity.Profile {
	p := profile(key)
	p.Claims = claims
	return p
}

func (h *house) signInWith(p identity.Profile) identity.Account {
	h.Helper()
	a, _, err := h.SignIn(h.Context(), p)
	if err != nil {
		h.Fatalf("SignIn: %v", err)
	}
	return a
}

func (h *house) set(id string, by identity.Source, claims string) identity.Account {
	h.Helper()
	var changes map[string]any
	if err := json.Unmarshal([]byte(claims), &changes); err != nil {
		h.Fatal(err)
	}
	a, err := h.SetClaims(h.Context(), id, by, changes)
	if err != nil {
		h.Fatalf("SetClaims %s: %v", claims, err)
	}
	return a
}

// wantKnown wants claims, as "value source", and none of the others; name, updated_at and
// preferred_username, which everybody has, are left out.
func (h *house) wantKnown(when string, a identity.Account, want map[string]string) {
	h.Helper()
	got := map[string]string{}
	for name, claim := range h.get(a.ID).Known() {
		if name == "name" || name == "updated_at" || name == "preferred_username" {
			continue
		}
		value, err := json.Marshal(claim.Value)
		if err != nil {
			h.Fatal(err)
		}
		source := string(claim.Source)
		if claim.Provider != "" {
			source = claim.Provider
		}
		got[name] = string(value) + " " + source
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// Rules 9 and 31: there is room for every standard claim, and none of them is what it
// must not be.
func TestCheckClaim(t *testing.T) {
	object := func(pairs ...string) map[string]any {
		o := map[string]any{}
		for i := 0; i+1 < len(pairs); i += 2 {
			o[pairs[i]] = pairs[i+1]
		}
		return o
	}
	for _, tc := range []struct {
		name        string
		value, want any // want nil: refused
	}{
		{"given_name", " Ada ", "Ada"},
		{"family_name", "", nil},
		{"middle_name", nil, nil},
		{"nickname", 7.0, nil},
		{"gender", "a\u202eb", nil},
		{"gender", strings.Repeat("x", 201), nil},
		{"preferred_username", "ada\n", "ada"},
		{"preferred_username", "a\nb", nil},
		{"profile", "https://example.org/ada", "https://example.org/ada"},
		{"profile", "javascript:alert(1)//https://x", nil},
		{"picture", "//example.org/a.png", nil},
		{"picture", "https:///a.png", nil},
		{"picture", "data:image/png;base64,AA", nil},
		{"website", "https://ada:secret@example.org/", nil},
		{"website", "https://example.org/" + strings.Repeat("x", 2048), nil},
		{"website", "https://example.org/a b", nil},
		{"birthdate", "1815-12-10", "1815-12-10"},
		{"birthdate", "0000-02-29", "0000-02-29"},
		{"birthdate", "1815", "1815"},
		{"birthdate", "0000", nil},
		{"birthdate", "1815-02-29", nil},
		{"birthdate", "1815-12", nil},
		{"birthdate", "10.12.1815", nil},
		{"zoneinfo", "Europe/Berlin", "Europe/Berlin"},
		{"zoneinfo", "America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"},
		{"zoneinfo", "UTC", "UTC"},
		{"zoneinfo", "Local", nil},
		{"zoneinfo", "Europe/../../etc/passwd", nil},
		{"zoneinfo", "Mars/Olympus_Mons", nil},
		{"locale", "de", "de"},
		{"locale", "en_GB", "en-GB"},
		{"locale", "und", nil},
		{"locale", "Deutsch!", nil},
		{"email", "ada@example.org", "ada@example.org"},
		{"email", "Ada <ada@example.org>", nil},
		{"email", "ada@example.org, bob@example.org", nil},
		{"email", "ada", nil},
		{"email", `"a b"@example.org`, nil},
		{"email", strings.Repeat("a", 250) + "@example.org", nil},
		{"email_verified", true, true},
		{"email_verified", "true", nil},
		{"phone_number", "+49 (551) 39-0", "+49551390"},
		{"phone_number", "+1 604 555 1234;ext=5678", "+16045551234;ext=5678"},
		{"phone_number", "0551 390", nil},
		{"phone_number", "+0", nil},
		{"phone_number_verified", 1.0, nil},
		{"address", object("street_address", "Platz 1\r\nHaus 2 ", "country", "DE"), object("street_address", "Platz 1\nHaus 2", "country", "DE")},
		{"address", object(), nil},
		{"address", object("country", ""), nil},
		{"address", object("planet", "Earth"), nil},
		{"address", object("locality", "a\nb"), nil},
		{"address", map[string]any{"country": nil}, nil},
		{"address", "Platz 1", nil},
		{"biography", " Counts.\r\n\r\n  Writes.\t \n", "Counts.\n\n  Writes."},
		{"biography", strings.Repeat("ü", 500), strings.Repeat("ü", 500)},
		{"biography", strings.Repeat("x", 501), nil},
		{"biography", " \n ", nil},
		{"biography", "a\x07b", nil},
		{"biography", "a\u202eb", nil},
		{"biography", "a\xffb", nil},
		{"biography", 7.0, nil},
		{"biography", "<script>alert(1)</script>", "<script>alert(1)</script>"}, // text, as it stands
		{"updated_at", 1772366400.0, int64(1772366400)},
		{"updated_at", "2026-03-01", nil},
		{"updated_at", 1.5, nil},
		{"sub", "1", nil},
		{"identities", object("a", "b"), nil},
	} {
		got, err := identity.CheckClaim(tc.name, tc.value)
		var bad *identity.ClaimError
		if (tc.want == nil) != errors.As(err, &bad) || bad != nil && bad.Claim != tc.name {
			t.Errorf("%s %v: %v", tc.name, tc.value, err)
		}
		if diff := cmp.Diff(tc.want, got); tc.want != nil && diff != "" {
			t.Errorf("%s %v: %s", tc.name, tc.value, diff)
		}
	}
	if names := identity.ClaimNames(); len(names) != 20 {
		t.Errorf("there is room for %d claims: %v", len(names), names)
	}
}

func TestClaimsOfProviders(t *testing.T) {
	h := newHouse(t)
	a := h.signInWith(says("google/1", `{"given_name":"Ada","picture":"https://g.example/1.png","email":"ada@g.example","email_verified":true,
		"locale":"de","birthdate":"yesterday","website":null,"name":"Other","updated_at":5,"phone_number_verified":true,"sub":"x"}`))
	google := map[string]string{
		"given_name": `"Ada" google`, "picture": `"https://g.example/1.png" google`, "locale": `"de" google`,
		"email": `"ada@g.example" google`, "email_verified": "true google",
	}
	h.wantKnown("as the provider says", a, google)
	if got := h.get(a.ID).Name; got != "Name of google/1" {
		t.Errorf("the name is %q", got)
	}

	// The verdict is about the provider's own address: another one has not been verified.
	h.set(a.ID, identity.SourceYou, `{"email":"ada@elsewhere.example"}`)
	google["email"], google["email_verified"] = `"ada@elsewhere.example" you`, "false you"
	h.wantKnown("another address", a, google)
	h.signInWith(says("google/1", `{"picture":"https://g.example/2.png","email":"ada@g.example","email_verified":true}`))
	h.wantKnown("after the next sign-in", a, map[string]string{
		"picture": `"https://g.example/2.png" google`, "email": google["email"], "email_verified": "false you",
	})

	// What is taken back stays away, until it is wanted again.
	h.set(a.ID, identity.SourceYou, `{"picture":null,"email":null,"website":null}`)
	h.signInWith(says("google/1", `{"picture":"https://g.example/3.png","email":"ada@g.example"}`))
	h.wantKnown("hidden", a, map[string]string{})
	if offered, ok := h.get(a.ID).Offered("picture"); !ok || offered.Value != "https://g.example/3.png" {
		t.Errorf("offered: %v, %v", offered, ok)
	}
	if _, err := h.RestoreClaim(t.Context(), a.ID, "picture"); err != nil {
		t.Fatal(err)
	}
	h.wantKnown("shown again", a, map[string]string{"picture": `"https://g.example/3.png" google`})

	if _, err := h.Link(t.Context(), a.ID, says("apple/1", `{"picture":"https://a.example/1.png","gender":"female"}`)); err != nil {
		t.Fatal(err)
	}
	h.wantKnown("two providers", a, map[string]string{"picture": `"https://a.example/1.png" apple`, "gender": `"female" apple`})
	if _, err := h.Disconnect(t.Context(), a.ID, "apple"); err != nil {
		t.Fatal(err)
	}
	h.wantKnown("disconnected", a, map[string]string{"picture": `"https://g.example/3.png" google`})
}

func TestClaimsNobodyCanSayOfThemselves(t *testing.T) {
	h := newHouse(t)
	a := h.signInWith(says("google/1", `{"email":"ada@g.example","email_verified":true}`))
	for _, claims := range []map[string]any{
		{"email_verified": true}, {"phone_number_verified": true, "phone_number": "+49551390"}, {"updated_at": 1.0}, {"sub": "x"}, {"email": ""}, {"name": nil},
	} {
		if _, err := h.SetClaims(t.Context(), a.ID, identity.SourceYou, claims); !errors.As(err, new(*identity.ClaimError)) {
			t.Errorf("%v: %v", claims, err)
		}
	}
	// To write the same again takes nothing away; to write another one does.
	h.set(a.ID, identity.SourceYou, `{"email":"ada@g.example"}`)
	h.wantKnown("the same", a, map[string]string{"email": `"ada@g.example" google`, "email_verified": "true google"})

	// An operator vouches for what is there at that moment.
	if _, err := h.SetClaims(t.Context(), a.ID, identity.SourceOperator, map[string]any{"phone_number_verified": true}); err == nil {
		t.Error("a number that is not there has been verified")
	}
	h.signInWith(says("google/1", `{"email":"ada@g.example"}`))
	h.set(a.ID, identity.SourceOperator, `{"email_verified":true}`)
	h.signInWith(says("google/1", `{"email":"eve@g.example"}`))
	h.wantKnown("the provider says another address", a, map[string]string{"email": `"ada@g.example" operator`, "email_verified": "true operator"})
	h.set(a.ID, identity.SourceYou, `{"email":"eve@g.example"}`)
	h.wantKnown("changed by the person", a, map[string]string{"email": `"eve@g.example" you`, "email_verified": "false you"})
	h.set(a.ID, identity.SourceOperator, `{"email":"ada@o.example","email_verified":true,"phone_number":"+49551390"}`)
	h.wantKnown("by the operator", a, map[string]string{
		"email": `"ada@o.example" operator`, "email_verified": "true operator", "phone_number": `"+49551390" operator`, "phone_number_verified": "false operator",
	})
	h.set(a.ID, identity.SourceOperator, `{"email":null,"phone_number":null}`)
	h.wantKnown("taken back by the operator", a, map[string]string{"email": `"eve@g.example" google`, "email_verified": "false google"})
}

// An e-mail address is a claim and never who somebody is.
func TestNobodyIsMatchedByEmail(t *testing.T) {
	h := newHouse(t)
	a := h.signInWith(says("google/1", `{"email":"ada@g.example","email_verified":true}`))
	b := h.signInWith(says("apple/1", `{"email":"ada@g.example","email_verified":true}`))
	if a.ID == b.ID {
		t.Error("two people with one address are one account")
	}
}

func TestUpdatedAt(t *testing.T) {
	h := newHouse(t)
	a := h.signInWith(says("google/1", `{"gender":"female"}`))
	last := start
	step := func(what string, changes bool, do func() error) {
		t.Helper()
		h.clock.Advance(time.Hour)
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if changes {
			last = h.clock.Now()
		}
		if got := h.get(a.ID).Known()["updated_at"].Value; got != last.Unix() {
			t.Errorf("%s: updated_at is %v, want %d", what, got, last.Unix())
		}
	}
	signIn := func(claims string) func() error {
		return func() error { _, _, err := h.SignIn(t.Context(), says("google/1", claims)); return err }
	}
	set := func(claims map[string]any) func() error {
		return func() error { _, err := h.SetClaims(t.Context(), a.ID, identity.SourceYou, claims); return err }
	}
	step("a sign-in", false, signIn(`{"gender":"female"}`))
	step("a sign-in with news", true, signIn(`{"gender":"other"}`))
	step("a new name", true, func() error { _, err := h.Rename(t.Context(), a.ID, "Ada"); return err })
	step("the same name", false, func() error { _, err := h.Rename(t.Context(), a.ID, "Ada"); return err })
	step("a claim", true, set(map[string]any{"nickname": "Countess"}))
	step("the same claim", false, set(map[string]any{"nickname": "Countess"}))
	step("a claim less", true, set(map[string]any{"nickname": nil}))
	step("an identity", true, func() error { _, err := h.Link(t.Context(), a.ID, profile("orcid/1")); return err })
	step("a merge", true, func() error { h.merge(a, h.person("ldap/1")); return nil })
	if _, err := h.SetClaims(t.Context(), a.ID, identity.SourceOperator, map[string]any{"updated_at": 1000.0}); err != nil {
		t.Fatal(err)
	}
	if got := h.get(a.ID).Known()["updated_at"].Value; got != int64(1000) {
		t.Errorf("set by an operator, updated_at is %v", got)
	}
}

func TestClaimsThroughMergeAndUndo(t *testing.T) {
	h := newHouse(t)
	ada := h.signInWith(says("google/1", `{"gender":"female"}`))
	h.set(ada.ID, identity.SourceYou, `{"nickname":"Ada"}`)
	other := h.signInWith(says("apple/1", `{"gender":"other","locale":"en","email":"a@apple.example","email_verified":true}`))
	h.set(other.ID, identity.SourceYou, `{"nickname":"Other","website":"https://o.example/","gender":"other indeed","locale":null}`)
	h.set(other.ID, identity.SourceOperator, `{"phone_number":"+49551390","phone_number_verified":true}`)
	before := map[string]string{
		"nickname": `"Other" you`, "website": `"https://o.example/" you`, "gender": `"other indeed" you`, "email": `"a@apple.example" apple`, "email_verified": "true apple",
		"phone_number": `"+49551390" operator`, "phone_number_verified": "true operator",
	}
	h.wantKnown("the other", other, before)
	h.merge(ada, other)
	h.wantKnown("merged", ada, map[string]string{
		"nickname": `"Ada" you`, "gender": `"female" google`, "website": before["website"], "email": before["email"], "email_verified": "true apple",
		"phone_number": before["phone_number"], "phone_number_verified": "true operator",
	})
	// What was changed meanwhile on purpose stays; the provider has news.
	h.set(ada.ID, identity.SourceYou, `{"website":"https://ada.example/"}`)
	h.signInWith(says("apple/1", `{"email":"new@apple.example"}`))
	if _, _, err := h.UndoMerge(t.Context(), ada.ID, other.ID); err != nil {
		t.Fatal(err)
	}
	h.wantKnown("undone, the survivor", ada, map[string]string{"nickname": `"Ada" you`, "gender": `"female" google`, "website": `"https://ada.example/" you`})
	before["email"], before["email_verified"] = `"new@apple.example" apple`, "false apple"
	h.wantKnown("undone, the other", other, before)
}

// A tombstone keeps nothing of what providers say, and after a week nothing at all.
func TestClaimsOfTombstones(t *testing.T) {
	h := newHouse(t)
	ada, other := h.person("google/1"), h.signInWith(says("apple/1", `{"email":"a@apple.example"}`))
	h.set(other.ID, identity.SourceYou, `{"nickname":"Other"}`)
	h.merge(ada, other)
	former, err := h.Former(t.Context(), ada.ID)
	if err != nil || len(former) != 1 || former[0].Given != nil || former[0].Claims["nickname"].Value != "Other" {
		t.Fatalf("%+v, %v", former, err)
	}
	h.clock.Advance(8 * 24 * time.Hour)
	if _, err := h.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if former, err = h.Former(t.Context(), ada.ID); err != nil || former[0].Claims != nil {
		t.Errorf("%+v, %v", former, err)
	}
}

// The older API shows what it always has.
func TestUserHasNoClaims(t *testing.T) {
	h := newHouse(t)
	a := h.signInWith(says("google/1", `{"email":"ada@g.example","gender":"female"}`))
	user, withUsage, err := h.JSON(t.Context(), a.ID)
	if err != nil || strings.Contains(string(user)+string(withUsage), "female") || strings.Contains(string(user), "ada@") {
		t.Errorf("%s %s %v", user, withUsage, err)
	}
}

func TestParseClaim(t *testing.T) {
	for setting, want := range map[string]any{
		"nickname=Ada": "Ada", `nickname="Ada"`: "Ada", "birthdate=1815": "1815", "nickname=true": "true", "email_verified=true": true,
		"updated_at=7": 7.0, "gender=null": nil, `address={"country":"DE"}`: map[string]any{"country": "DE"}, "website=https://example.org/?a=b": "https://example.org/?a=b",
	} {
		if _, got, err := identity.ParseClaim(setting); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v", setting, got, err)
		}
	}
	for _, setting := range []string{"", "nickname", "sub=1", "=x"} {
		if _, _, err := identity.ParseClaim(setting); err == nil {
			t.Errorf("%q is accepted", setting)
		}
	}
}
