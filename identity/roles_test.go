package identity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/identity"
)

// named signs somebody in at a provider for the first time.
func (h *house) named(provider, id, name string) identity.Account {
	h.Helper()
	a, _, err := h.SignIn(h.Context(), identity.Profile{Provider: provider, ID: id, Name: name})
	if err != nil {
		h.Fatal(err)
	}
	return a
}

func (h *house) admins() []string {
	h.Helper()
	all, err := h.InRole(h.Context(), identity.RoleAdmin)
	if err != nil {
		h.Fatal(err)
	}
	var names []string
	for _, a := range all {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

func TestRoles(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	ada := h.named("github", "1", "Ada")
	if _, err := h.Grant(ctx, ada.ID, "emperor"); !errors.Is(err, identity.ErrRole) {
		t.Errorf("a role that there is not: %v", err)
	}
	if _, err := h.Grant(ctx, "nobody", identity.RoleAdmin); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	for range 2 {
		a, err := h.Grant(ctx, ada.ID, identity.RoleAdmin)
		if err != nil || !a.Has(identity.RoleAdmin) || len(a.Roles) != 1 {
			t.Fatalf("granted: %v, %v", a.Roles, err)
		}
		for what, v := range map[string]any{"user": a.User(), "answer": a.UserWithUsage()} {
			if text, err := json.Marshal(v); err != nil || strings.Contains(string(text), "admin") {
				t.Errorf("%s tells of the role: %s, %v", what, text, err)
			}
		}
	}
	if got := h.admins(); !slices.Equal(got, []string{"Ada"}) {
		t.Errorf("admins: %v", got)
	}
	if a, err := h.Revoke(ctx, ada.ID, identity.RoleAdmin); err != nil || a.Has(identity.RoleAdmin) {
		t.Errorf("revoked: %v, %v", a.Roles, err)
	}
	if got := h.admins(); got != nil {
		t.Errorf("admins: %v", got)
	}
}

// Who absorbs an administrator is none, and the administrator is one again after an undo.
func TestMergeCarriesNoRole(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	ada, ben := h.named("github", "1", "Ada"), h.named("orcid", "2", "Ben")
	if _, err := h.Grant(ctx, ben.ID, identity.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	merged, err := h.Merge(ctx, ada.ID, ben.ID)
	if err != nil || merged.Has(identity.RoleAdmin) {
		t.Fatalf("the survivor has %v: %v", merged.Roles, err)
	}
	if got := h.admins(); got != nil {
		t.Errorf("admins after the merge: %v", got)
	}
	_, restored, err := h.UndoMerge(ctx, ada.ID, ben.ID)
	if err != nil || !restored.Has(identity.RoleAdmin) {
		t.Errorf("after the undo: %v, %v", restored.Roles, err)
	}
	if merged, err = h.Merge(ctx, ben.ID, ada.ID); err != nil || !merged.Has(identity.RoleAdmin) {
		t.Errorf("the survivor's own role: %v, %v", merged.Roles, err)
	}
}

// Two who take the role from each other, many times at once: one stays.
func TestStepDownLeavesOne(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	var ids []string
	for i := range 4 {
		a := h.named("github", fmt.Sprint(i), fmt.Sprintf("Admin %d", i))
		if _, err := h.Grant(ctx, a.ID, identity.RoleAdmin); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			errs[i] = h.StepDown(ctx, id, identity.RoleAdmin, func() (err error) {
				if i%2 == 0 {
					_, err = h.Revoke(ctx, id, identity.RoleAdmin)
				} else {
					_, err = h.SetDisabled(ctx, id, true)
				}
				return err
			})
		})
	}
	wg.Wait()
	refused := 0
	for _, err := range errs {
		if errors.Is(err, identity.ErrLastInRole) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	able := 0
	all, err := h.InRole(ctx, identity.RoleAdmin)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if !a.Disabled {
			able++
		}
	}
	if refused != 1 || able != 1 {
		t.Errorf("%d were refused and %d are left, want 1 each", refused, able)
	}
	// Who has not the role can be disabled all the same.
	eve := h.named("orcid", "9", "Eve")
	done := false
	if err := h.StepDown(ctx, eve.ID, identity.RoleAdmin, func() error { done = true; return nil }); err != nil || !done {
		t.Errorf("somebody without the role: %v, %v", done, err)
	}
}

// A server that dies between the two writes holds nobody's place for longer than a minute.
func TestStepDownAfterCrash(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	ada, ben := h.named("github", "1", "Ada"), h.named("orcid", "2", "Ben")
	for _, a := range []identity.Account{ada, ben} {
		if _, err := h.Grant(ctx, a.ID, identity.RoleAdmin); err != nil {
			t.Fatal(err)
		}
	}
	// Ben is about to lose the role; nobody else may go in that moment.
	err := h.StepDown(ctx, ben.ID, identity.RoleAdmin, func() error {
		inner := h.StepDown(ctx, ada.ID, identity.RoleAdmin, func() error { return nil })
		if !errors.Is(inner, identity.ErrLastInRole) {
			t.Errorf("meanwhile: %v", inner)
		}
		h.clock.Advance(2 * time.Minute)
		inner = h.StepDown(ctx, ada.ID, identity.RoleAdmin, func() error { return nil })
		if inner != nil {
			t.Errorf("after the minute: %v", inner)
		}
		return errors.New("the server dies")
	})
	if err == nil {
		t.Error("what failed is no error")
	}
}

func TestNamed(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for i, name := range []string{"Ada Lovelace", "Adam Ångström", "Łukasz Nowak", "O'Brien, Seán", "Loveday Müller-Lüdenscheidt", "愛 Lovelace", "Bo"} {
		h.named("github", fmt.Sprint(i), name)
	}
	for text, want := range map[string][]string{
		"ada":           {"Ada Lovelace", "Adam Ångström"},
		"ADA love":      {"Ada Lovelace"},
		"love":          {"Ada Lovelace", "Loveday Müller-Lüdenscheidt", "愛 Lovelace"},
		"lovelac":       {"Ada Lovelace", "愛 Lovelace"},
		"lovelacex":     nil,
		"angst":         {"Adam Ångström"},
		"luden muller":  {"Loveday Müller-Lüdenscheidt"},
		"brien":         {"O'Brien, Seán"},
		"sean":          {"O'Brien, Seán"},
		"愛 lo":          {"愛 Lovelace"},
		"bo":            {"Bo"},
		"a":             nil,
		"":              nil,
		"%":             nil,
		"name:ad":       nil,
		"lovelace evil": nil,
	} {
		found, next, err := h.Named(ctx, text, "", 10)
		if err != nil || next != "" {
			t.Errorf("%q: %q, %v", text, next, err)
		}
		var names []string
		for _, a := range found {
			names = append(names, a.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%q finds %q, want %q", text, names, want)
		}
	}
	// Page by page, each once.
	var seen []string
	for after := ""; ; {
		found, next, err := h.Named(ctx, "love", after, 1)
		if err != nil || len(found) > 1 {
			t.Fatalf("%d on a page: %v", len(found), err)
		}
		for _, a := range found {
			seen = append(seen, a.Name)
		}
		if after = next; after == "" {
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("page by page: %q", seen)
	}
}

// Who loses the role has not got it again by undoing a merge.
func TestRevokedIsNotRestored(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	ada, ben, eve := h.named("github", "1", "Ada"), h.named("orcid", "2", "Ben"), h.named("google", "3", "Eve")
	if _, err := h.Grant(ctx, ben.ID, identity.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Merge(ctx, eve.ID, ben.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Merge(ctx, ada.ID, eve.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Revoke(ctx, ben.ID, identity.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.UndoMerge(ctx, ada.ID, eve.ID); err != nil {
		t.Fatal(err)
	}
	if _, restored, err := h.UndoMerge(ctx, eve.ID, ben.ID); err != nil || restored.ID != ben.ID || restored.Has(identity.RoleAdmin) {
		t.Errorf("after the undo: %v, %v", restored.Roles, err)
	}
	if got := h.admins(); got != nil {
		t.Errorf("admins: %v", got)
	}
}
