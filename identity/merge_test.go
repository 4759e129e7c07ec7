package identity_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/identity"
)

func (h *house) undo(survivor, other identity.Account) (identity.Account, identity.Account) {
	h.Helper()
	a, b, err := h.UndoMerge(h.Context(), survivor.ID, other.ID)
	if err != nil {
		h.Fatalf("UndoMerge: %v", err)
	}
	return a, b
}

func (h *house) wantUser(got identity.Account, want identity.User) {
	h.Helper()
	if diff := cmp.Diff(want, got.User()); diff != "" {
		h.Errorf("%s (-want +got):\n%s", want.Name, diff)
	}
}

// wantMoved checks where an old URL leads.
func (h *house) wantMoved(old, to identity.Account) {
	h.Helper()
	a, moved, err := h.Locate(h.Context(), old.ID)
	if err != nil || a.ID != to.ID || moved != (old.ID != to.ID) {
		h.Errorf("Locate %s: got %s, moved %v, %v; want %s", old.Name, a.Name, moved, err, to.Name)
	}
}

func TestMerge(t *testing.T) {
	h := newHouse(t)
	ada, bob := h.person("github/1"), h.person("orcid/2", "google/3")
	a := h.merge(ada, bob)
	h.wantUser(a, identity.User{
		ID: ada.ID, URI: ada.URI, Name: ada.Name, Merged: []string{bob.URI},
		Identities: map[string]identity.Identity{
			"github": ada.Identities["github"], "orcid": bob.Identities["orcid"], "google": bob.Identities["google"],
		},
	})
	h.wantMoved(bob, ada)
	h.wantMoved(ada, ada)
	for _, key := range keysOf(a) {
		got, created, err := h.SignIn(t.Context(), profile(key))
		if err != nil || created || got.ID != ada.ID {
			t.Errorf("signing in with %s: got %s, created %v, %v; want the survivor", key, got.ID, created, err)
		}
	}
	if a, err := h.Merge(t.Context(), ada.ID, bob.ID); err != nil || a.ID != ada.ID {
		t.Errorf("merging again: got %s, %v; want the survivor as it is", a.ID, err)
	}
	if former, err := h.Former(t.Context(), ada.ID); err != nil || len(former) != 1 || former[0].ID != bob.ID {
		t.Errorf("former accounts: got %v, %v; want the absorbed one", former, err)
	}
	if _, via, err := h.Trace(t.Context(), bob.ID); err != nil || !slices.Equal(via, []string{bob.ID, ada.ID}) {
		t.Errorf("Trace: got %v, %v; want both accounts", via, err)
	}
}

func TestMergeOfAccountsThatShareAProviderIsRefused(t *testing.T) {
	h := newHouse(t)
	ada, bob := h.person("github/1", "orcid/1", "ldap/1"), h.person("github/2", "orcid/2", "google/2")
	_, err := h.Merge(t.Context(), ada.ID, bob.ID)
	if e, ok := errors.AsType[*identity.SharedError](err); !ok || !slices.Equal(e.Providers, []string{"github", "orcid"}) {
		t.Errorf("got %v, want a SharedError that names github and orcid", err)
	}
	h.wantUser(h.get(ada.ID), ada.User())
	h.wantUser(h.get(bob.ID), bob.User())
}

func TestMergeWithNobody(t *testing.T) {
	h := newHouse(t)
	ada := h.person("github/1")
	_, err := h.Merge(t.Context(), ada.ID, "nobody")
	h.wantError(err, identity.ErrNotFound)
	_, err = h.Merge(t.Context(), "nobody", ada.ID)
	h.wantError(err, identity.ErrNotFound)
	if a, err := h.Merge(t.Context(), ada.ID, ada.ID); err != nil || len(a.Merged) != 0 {
		t.Errorf("merged with itself: got %v, %v", a.Merged, err)
	}
}

func TestChainOfMerges(t *testing.T) {
	h := newHouse(t)
	a, b, c := h.person("github/a"), h.person("orcid/b"), h.person("google/c")
	a1 := h.merge(a, b) // b → a
	c1 := h.merge(c, a) // a → c
	h.wantIdentities(c1, "github/a", "google/c", "orcid/b")
	if want := []string{a.URI, b.URI}; !slices.Equal(c1.Merged, want) {
		t.Errorf("merged URIs: got %v, want %v", c1.Merged, want)
	}
	h.wantMoved(a, c)
	h.wantMoved(b, c)
	if h.ownerOf("orcid/b") != c.ID {
		t.Error("the identity that has moved twice does not lead to the survivor")
	}
	if _, via, err := h.Trace(t.Context(), b.ID); err != nil || !slices.Equal(via, []string{b.ID, a.ID, c.ID}) {
		t.Errorf("Trace: got %v, %v; want the whole chain", via, err)
	}

	_, _, err := h.UndoMerge(t.Context(), c.ID, b.ID)
	h.wantError(err, identity.ErrUndoExpired) // b goes with a

	c2, a2 := h.undo(c, a)
	h.wantUser(c2, c.User())
	h.wantUser(a2, a1.User())
	h.wantMoved(b, a)

	a3, b3 := h.undo(a, b)
	h.wantUser(a3, a.User())
	h.wantUser(b3, b.User())
	h.wantMoved(b, b)
}

func TestUndoRestoresBothAsTheyWere(t *testing.T) {
	h := newHouse(t)
	ada, bob := h.person("github/1", "ldap/1"), h.person("orcid/2", "google/2")
	bob = h.merge(bob, h.person("script/3")) // has a merged URI of his own
	h.merge(ada, bob)
	h.clock.Advance(identity.UndoPeriod)
	a, b := h.undo(ada, bob)
	h.wantUser(a, ada.User())
	h.wantUser(b, bob.User())
	for _, key := range keysOf(b) {
		if h.ownerOf(key) != bob.ID {
			t.Errorf("%s did not go back", key)
		}
	}

	t.Run("and they can be merged and separated again", func(t *testing.T) {
		h := &house{T: t, Directory: h.Directory}
		h.merge(ada, bob)
		a, b := h.undo(ada, bob)
		h.wantUser(a, ada.User())
		h.wantUser(b, bob.User())
		h.merge(bob, ada)
		b, a = h.undo(bob, ada)
		h.wantUser(a, ada.User())
		h.wantUser(b, bob.User())
	})
}

func TestUndoIsRefused(t *testing.T) {
	t.Run("after the period", func(t *testing.T) {
		h := newHouse(t)
		ada, bob := h.person("github/1"), h.person("orcid/2")
		merged := h.merge(ada, bob)
		h.clock.Advance(identity.UndoPeriod + time.Millisecond)
		_, _, err := h.UndoMerge(t.Context(), ada.ID, bob.ID)
		h.wantError(err, identity.ErrUndoExpired)
		h.wantUser(h.get(ada.ID), merged.User())
	})
	t.Run("when there was no merge", func(t *testing.T) {
		h := newHouse(t)
		ada, bob := h.person("github/1"), h.person("orcid/2")
		_, _, err := h.UndoMerge(t.Context(), ada.ID, bob.ID)
		h.wantError(err, identity.ErrUndoExpired)
	})
	t.Run("a second time", func(t *testing.T) {
		h := newHouse(t)
		ada, bob := h.person("github/1"), h.person("orcid/2")
		h.merge(ada, bob)
		h.undo(ada, bob)
		_, _, err := h.UndoMerge(t.Context(), ada.ID, bob.ID)
		h.wantError(err, identity.ErrUndoExpired)
	})
	t.Run("when the survivor would have no identity", func(t *testing.T) {
		h := newHouse(t)
		ada, bob := h.person("github/1"), h.person("orcid/2")
		h.merge(ada, bob)
		if _, err := h.Disconnect(t.Context(), ada.ID, "github"); err != nil {
			t.Fatal(err)
		}
		_, _, err := h.UndoMerge(t.Context(), ada.ID, bob.ID)
		h.wantError(err, identity.ErrUndoImpossible)
		h.wantIdentities(h.get(ada.ID), "orcid/2")
	})
	t.Run("when the absorbed account would have no identity", func(t *testing.T) {
		h := newHouse(t)
		ada, bob := h.person("github/1"), h.person("orcid/2")
		h.merge(ada, bob)
		if _, err := h.Disconnect(t.Context(), ada.ID, "orcid"); err != nil {
			t.Fatal(err)
		}
		_, _, err := h.UndoMerge(t.Context(), ada.ID, bob.ID)
		h.wantError(err, identity.ErrUndoImpossible)
	})
}

func TestDisconnectAfterAMergeFreesTheIdentity(t *testing.T) {
	h := newHouse(t)
	ada, bob := h.person("github/1"), h.person("orcid/2", "google/2")
	h.merge(ada, bob)
	if _, err := h.Disconnect(t.Context(), ada.ID, "orcid"); err != nil {
		t.Fatal(err)
	}
	eve := h.person("orcid/2") // a new account
	a, b := h.undo(ada, bob)
	h.wantIdentities(a, "github/1")
	h.wantIdentities(b, "google/2")
	if h.ownerOf("orcid/2") != eve.ID {
		t.Error("undo has taken the identity from its new owner")
	}
}

func TestUndoLeavesWhatHasComeBackByAnotherWay(t *testing.T) {
	t.Run("linked again", func(t *testing.T) {
		h := newHouse(t)
		ada, bob := h.person("github/1"), h.person("orcid/2", "google/2")
		h.merge(ada, bob)
		if _, err := h.Disconnect(t.Context(), ada.ID, "orcid"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Link(t.Context(), ada.ID, profile("orcid/2")); err != nil {
			t.Fatal(err)
		}
		a, b := h.undo(ada, bob)
		h.wantIdentities(a, "github/1", "orcid/2")
		h.wantIdentities(b, "google/2")
	})
	t.Run("in another merge, while a chain still remembers it", func(t *testing.T) {
		h := newHouse(t)
		top, middle := h.person("github/1"), h.person("ldap/2")
		h.merge(middle, h.person("orcid/3", "google/3"))
		h.merge(top, middle)
		if _, err := h.Disconnect(t.Context(), top.ID, "orcid"); err != nil {
			t.Fatal(err)
		}
		eve := h.person("orcid/3")
		h.merge(top, eve)
		a, b := h.undo(top, middle)
		h.wantIdentities(a, "github/1", "orcid/3")
		h.wantIdentities(b, "google/3", "ldap/2")
		if h.ownerOf("orcid/3") != top.ID {
			t.Error("the identity is lost")
		}
		_, e := h.undo(top, eve)
		h.wantIdentities(e, "orcid/3")
	})
}

func TestChangesBetweenMergeAndUndoStay(t *testing.T) {
	h := newHouse(t)
	ada, bob := h.person("github/1"), h.person("orcid/2")
	h.merge(ada, bob)
	if _, err := h.Rename(t.Context(), ada.ID, "Both"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Link(t.Context(), ada.ID, profile("google/3")); err != nil {
		t.Fatal(err)
	}
	a, b := h.undo(ada, bob)
	h.wantIdentities(a, "github/1", "google/3")
	if a.Name != "Both" || b.Name != bob.Name {
		t.Errorf("names: got %q and %q", a.Name, b.Name)
	}
}

func TestHealDropsWhatWasKeptForUndo(t *testing.T) {
	h := newHouse(t)
	ada, bob := h.person("github/1"), h.person("orcid/2")
	h.merge(ada, bob)
	if n, err := h.Heal(t.Context()); n != 0 || err != nil {
		t.Errorf("while it can be undone: %d documents changed, %v", n, err)
	}
	h.clock.Advance(identity.UndoPeriod + 2*time.Hour)
	if n, err := h.Heal(t.Context()); n != 2 || err != nil {
		t.Errorf("afterwards: %d documents changed, %v; want survivor and tombstone", n, err)
	}
	if n, err := h.Heal(t.Context()); n != 0 || err != nil {
		t.Errorf("once more: %d documents changed, %v", n, err)
	}
	if absorbed := h.get(ada.ID).Absorbed; len(absorbed) != 0 {
		t.Errorf("the survivor still remembers %v", absorbed)
	}
	former, err := h.Former(t.Context(), ada.ID)
	if err != nil || len(former) != 1 {
		t.Fatal(former, err)
	}
	want := map[string]identity.Identity{"orcid": {ID: "2"}}
	if diff := cmp.Diff(want, former[0].Identities); diff != "" || former[0].Name != "" {
		t.Errorf("the tombstone keeps more than its keys: %q\n%s", former[0].Name, diff)
	}
	h.wantMoved(bob, ada)
	if h.ownerOf("orcid/2") != ada.ID {
		t.Error("the absorbed identity has lost its owner")
	}
}
