package identity_test

import (
	"errors"
	"testing"

	"login-server/identity"
)

// A disabled account lets nobody in, joins no other, and is as it was when it is enabled again.
func TestDisabled(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	ada, _, err := h.SignIn(ctx, identity.Profile{Provider: "github", ID: "1", Name: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	ben, _, err := h.SignIn(ctx, identity.Profile{Provider: "orcid", ID: "2", Name: "Ben"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetDisabled(ctx, ada.ID, true); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, identity.ErrDisabled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err = h.SignIn(ctx, identity.Profile{Provider: "github", ID: "1", Name: "Ada"})
	refused("signing in", err)
	_, err = h.Link(ctx, ben.ID, identity.Profile{Provider: "github", ID: "1", Name: "Ada"})
	refused("linking what belongs to it", err)
	_, err = h.Merge(ctx, ben.ID, ada.ID)
	refused("merging it", err)
	_, err = h.Merge(ctx, ada.ID, ben.ID)
	refused("merging into it", err)

	if _, err := h.SetDisabled(ctx, ada.ID, false); err != nil {
		t.Fatal(err)
	}
	again, created, err := h.SignIn(ctx, identity.Profile{Provider: "github", ID: "1", Name: "Ada"})
	if err != nil || created || again.ID != ada.ID {
		t.Errorf("enabled again: %s, %v, %v; want %s", again.ID, created, err, ada.ID)
	}
}
