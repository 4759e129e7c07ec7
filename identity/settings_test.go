package identity_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"login-server/identity"
)

// All zones to choose from exist, once each.
func TestZones(t *testing.T) {
	seen := map[string]bool{}
	for _, region := range identity.Zones() {
		for _, place := range region.Places {
			name := region.Name + "/" + place
			if got, err := identity.CheckClaim("zoneinfo", name); err != nil || got != name || seen[name] {
				t.Errorf("%s: %v, %v", name, got, err)
			}
			seen[name] = true
		}
	}
	for _, name := range []string{"Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "Etc/UTC"} {
		if !seen[name] {
			t.Errorf("%s is missing among %d", name, len(seen))
		}
	}
}

func TestLanguage(t *testing.T) {
	h := newHouse(t)
	a := h.person("google/1")
	if got := a.Language() + a.ChosenLanguage(); got != "" {
		t.Errorf("language %q of who has said nothing", got)
	}
	a = h.signInWith(says("google/1", `{"locale":"de"}`))
	if a.Language() != "de" || a.ChosenLanguage() != "" {
		t.Errorf("a provider says de: %q, %q", a.Language(), a.ChosenLanguage())
	}
	h.set(a.ID, identity.SourceYou, `{"locale":"pt-BR"}`)
	a, err := h.Get(t.Context(), a.ID)
	if err != nil || a.Language() != "pt-BR" || a.ChosenLanguage() != "pt-BR" {
		t.Errorf("chosen: %q, %q, %v", a.Language(), a.ChosenLanguage(), err)
	}
	h.set(a.ID, identity.SourceYou, `{"locale":null}`) // hidden: what the provider says does not count either
	if a, err = h.Get(t.Context(), a.ID); err != nil || a.Language()+a.ChosenLanguage() != "" {
		t.Errorf("hidden: %q, %q, %v", a.Language(), a.ChosenLanguage(), err)
	}
}

// Merging never turns notices off for somebody who has not done it, and an undo gives both
// what they had.
func TestNoticesThroughMergeAndUndo(t *testing.T) {
	h := newHouse(t)
	ada, other := h.person("google/1"), h.person("apple/1")
	quiet := identity.Notices{SignInsOff: true}
	before, err := h.SetNotices(t.Context(), other.ID, quiet)
	if err != nil || before.Notices != quiet {
		t.Fatalf("%+v, %v", before.Notices, err)
	}
	if before.Updated != other.Updated {
		t.Error("applications are told that something about the person has changed")
	}
	h.merge(ada, other)
	if a, err := h.Get(t.Context(), other.ID); err != nil || a.ID != ada.ID || a.Notices.SignInsOff {
		t.Errorf("merged: %+v, %v", a.Notices, err)
	}
	survivor, restored, err := h.UndoMerge(t.Context(), ada.ID, other.ID)
	if err != nil || survivor.Notices.SignInsOff || restored.Notices != quiet {
		t.Errorf("undone: %+v and %+v, %v", survivor.Notices, restored.Notices, err)
	}
	h.merge(ada, other)
	h.clock.Advance(identity.UndoPeriod + 2*time.Hour)
	if _, err := h.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	former, err := h.Former(t.Context(), ada.ID)
	if err != nil || len(former) != 1 || former[0].Notices != (identity.Notices{}) {
		t.Errorf("the tombstone keeps %+v, %v", former, err)
	}
}

// Of any number who replace a picture at once each is told another one that is gone.
func TestPicturesAreReplacedOnce(t *testing.T) {
	h := newHouse(t)
	a := h.person("google/1")
	address := func(i int) string { return fmt.Sprintf("%spictures/%d", baseURL, i) }
	const many = 8
	befores := make([]string, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			_, before, err := h.SetPicture(t.Context(), a.ID, identity.SourceYou, address(i))
			if err != nil {
				t.Error(err)
			}
			befores[i] = before
		})
	}
	wg.Wait()
	a, last, err := h.SetPicture(t.Context(), a.ID, identity.SourceYou, "")
	if err != nil || a.Picture() != "" {
		t.Fatalf("%q, %v", a.Picture(), err)
	}
	befores = append(befores, last)
	slices.Sort(befores)
	want := []string{""}
	for i := range many {
		want = append(want, address(i))
	}
	if !slices.Equal(befores, want) {
		t.Errorf("replaced were %v", befores)
	}
	if _, before, err := h.SetPicture(t.Context(), a.ID, identity.SourceYou, "javascript:alert(1)"); err == nil || before != "" {
		t.Errorf("a picture that is no address: %q, %v", before, err)
	}
}

// What has come with a merge is not for the survivor to throw away.
func TestPictureThroughMergeAndUndo(t *testing.T) {
	h := newHouse(t)
	ada, other := h.person("google/1"), h.person("apple/1")
	theirs, own := baseURL+"pictures/theirs", baseURL+"pictures/own"
	if _, _, err := h.SetPicture(t.Context(), other.ID, identity.SourceYou, theirs); err != nil {
		t.Fatal(err)
	}
	h.merge(ada, other)
	a, err := h.Get(t.Context(), ada.ID)
	if err != nil || a.Picture() != theirs {
		t.Fatalf("merged: %q, %v", a.Picture(), err)
	}
	a, before, err := h.SetPicture(t.Context(), ada.ID, identity.SourceYou, own)
	if err != nil || before != "" || a.Picture() != own {
		t.Errorf("replaced: %q, %q, %v", a.Picture(), before, err)
	}
	survivor, restored, err := h.UndoMerge(t.Context(), ada.ID, other.ID)
	if err != nil || survivor.Picture() != own || restored.Picture() != theirs {
		t.Errorf("undone: %q and %q, %v", survivor.Picture(), restored.Picture(), err)
	}

	h.signInWith(says("apple/1", `{"picture":"https://apple.example/p.png"}`))
	hidden, before, err := h.SetPicture(t.Context(), other.ID, identity.SourceYou, "")
	if _, shown := hidden.Known()["picture"]; err != nil || shown || before != theirs {
		t.Errorf("taken back: %v, %q, %v", hidden.Known(), before, err)
	}
	shown, before, err := h.RestorePicture(t.Context(), other.ID)
	if err != nil || shown.Known()["picture"].Value != "https://apple.example/p.png" || before != "" || shown.Picture() != "" {
		t.Errorf("given back to the provider: %v, %q, %v", shown.Known(), before, err)
	}
}
