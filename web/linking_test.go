package web_test

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/identity"
)

// Linking and merging (contract section 4), with the test strategy. The rules
// themselves are tested in identity; here it is what people and browsers see.

var proofField = regexp.MustCompile(`name="proof" value="([^"]+)"`)

// proofOn opens the page that asks before a merge and returns what its form carries.
func (b *browser) proofOn(location string) string {
	b.server.t.Helper()
	page := b.follow(b.server.base+"login/beta", location).want(200)
	found := proofField.FindStringSubmatch(page.body)
	if found == nil {
		b.server.t.Fatalf("%s: no proof in %s", location, page.text())
	}
	return html.UnescapeString(found[1])
}

// prove signs in, while signed in, with an identity that somebody else has, and returns
// the proof of that.
func (b *browser) prove(provider, username string) string {
	b.server.t.Helper()
	asked := b.submit("login/"+provider, "username", username, "password", username+"-pw").want(302)
	if !strings.HasPrefix(asked.location(), b.server.cfg.BaseURL.Path+"merge?proof=") {
		b.server.t.Fatalf("leads to %s, want the question whether to merge", asked.location())
	}
	return b.proofOn(asked.location())
}

// merged returns a browser that is signed in to an account at alpha into which one at
// beta was merged, and that one as it was before.
func (s *server) merged() (*browser, identity.UserWithUsage) {
	s.t.Helper()
	b, other := s.browser(), s.browser()
	other.login("beta", "ada")
	former := other.user()
	b.login("alpha", "ada")
	b.submit("merge", "proof", b.prove("beta", "ada")).leadsTo("/account")
	return b, former
}

func TestLink(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	id := b.user().ID

	b.follow(s.base+"account", "login/beta").want(200, "Connect Beta", "This adds another way to sign in to your account Ada.", "Back to your account")
	b.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
	b.open("account").want(200, "Beta is now connected to your account.")
	if u := b.user(); u.ID != id || u.Name != "Ada" || len(u.Identities) != 2 || u.Identities["beta"].ID != "b1" {
		t.Errorf("after linking: %+v", u)
	}
	other := s.browser()
	other.login("beta", "ada")
	if got := other.user().ID; got != id {
		t.Errorf("beta leads to %s, want %s", got, id)
	}

	b.follow(s.base+"account", "login/beta").leadsTo("/account")
	b.open("account").want(200, "Beta is already connected to your account.")
	// Signing in with it once more is not linking.
	b.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
	b.open("account").want(200, "Beta is already connected to your account.")
	// Nor can it be replaced by somebody else's there.
	b.submit("login/beta", "username", "ben", "password", "ben-pw").leadsTo("/account")
	b.open("account").want(200, "The accounts cannot be merged, because both are connected to Beta. Nothing was changed.")
	if got := b.user().Identities["beta"].ID; got != "b1" {
		t.Errorf("the identity at beta is %s", got)
	}
}

func TestMerge(t *testing.T) {
	s := newServer(t)
	b, other := s.browser(), s.browser()
	other.login("beta", "ada")
	other.submit("account/name", "name", "Lady Lovelace")
	former := other.user()
	b.login("alpha", "ada")
	mine := b.user()

	asked := b.submit("login/beta", "username", "ada", "password", "ada-pw").want(302)
	b.follow(s.base, asked.location()).want(200,
		"Merge two accounts?", "Your current account", "Ada", mine.URI, "The other account", "Lady Lovelace", former.URI, "Alpha", "Beta",
		"All ways to sign in lead to the account Ada from then on.",
		"The URI of the other account keeps working and leads to this one.",
		"You can undo the merge on your account page for seven days.")
	if got := b.user(); got.ID != mine.ID || len(got.Identities) != 1 {
		t.Errorf("merged without being asked: %+v", got)
	}
	// No is an answer, too.
	b.follow(s.base+"merge", "account").want(200)
	if got := other.user().ID; got != former.ID {
		t.Errorf("merged although it was not confirmed")
	}

	b.submit("merge", "proof", b.proofOn(asked.location())).leadsTo("/account")
	b.open("account").want(200, "The accounts have been merged. You can undo this for seven days.", former.URI, "Undo merge", "Lady Lovelace")
	u := b.user()
	if u.ID != mine.ID || u.Name != "Ada" || len(u.Identities) != 2 || len(u.Merged) != 1 || u.Merged[0] != former.URI {
		t.Errorf("after the merge: %+v", u)
	}
	// The other account's session goes on, as one of the merged account.
	if got := other.user().ID; got != mine.ID {
		t.Errorf("the other session belongs to %s, want %s", got, mine.ID)
	}
	b.open("sessions").want(200, "Remove session")

	s.clock.Advance(6 * 24 * time.Hour)
	b.submit("account/undo-merge", "merge", former.ID).leadsTo("/account")
	b.open("account").want(200, "The merge has been undone. Both accounts are as they were.").wantNot(former.URI)
	if got := b.user(); len(got.Merged) != 0 || len(got.Identities) != 1 {
		t.Errorf("after undoing: %+v", got)
	}
	if got := other.user(); got.ID != former.ID || got.URI != former.URI || got.Name != "Lady Lovelace" {
		t.Errorf("the other account after undoing: %+v", got)
	}
	b.submit("account/undo-merge", "merge", former.ID).leadsTo("/account")
	b.open("account").want(200, "This merge can no longer be undone")
}

func TestUndoMergeAfterSevenDays(t *testing.T) {
	s := newServer(t)
	b, former := s.merged()
	s.clock.Advance(7*24*time.Hour + time.Minute)
	b.open("account").want(200).wantNot("Undo merge")
	b.submit("account/undo-merge", "merge", former.ID).leadsTo("/account")
	b.open("account").want(200, "This merge can no longer be undone, because seven days have passed.")
	for _, id := range []string{"", "x", strings.Repeat("x", 10_000), b.user().ID} {
		b.submit("account/undo-merge", "merge", id).leadsTo("/account")
	}
}

// Accounts that share a provider stay two, and the message names what is in the way.
func TestMergeConflict(t *testing.T) {
	s := newServer(t)
	b, other := s.browser(), s.browser()
	other.login("beta", "ada")
	other.submit("login/gamma", "username", "ada", "password", "ada-pw").leadsTo("/account")
	b.login("alpha", "ada")
	b.submit("login/gamma", "username", "ben", "password", "ben-pw").leadsTo("/account")

	b.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
	b.open("account").want(200, "The accounts cannot be merged, because both are connected to Gamma. Nothing was changed.")
	if u := other.user(); len(u.Identities) != 2 || u.ID == b.user().ID {
		t.Errorf("something was changed: %+v", u)
	}
}

// What the page before a merge carries is worth something only where, when, and for
// whom it was made, and once.
func TestMergeProof(t *testing.T) {
	s := newServer(t)
	refused := func(b *browser, proof string) {
		t.Helper()
		b.follow(s.base, "merge?"+url.Values{"proof": {proof}}.Encode()).leadsTo("/account")
		b.open("account").want(200, "The confirmation came too late, so nothing was merged.")
		b.submit("merge", "proof", proof).leadsTo("/account")
		b.open("account").want(200, "The confirmation came too late, so nothing was merged.")
	}
	other := s.browser()
	other.login("beta", "ada")
	b := s.browser()
	b.login("alpha", "ada")
	proof := b.prove("beta", "ada")

	s.run("another session", func(t *testing.T) {
		phone := s.browser()
		phone.login("alpha", "ada")
		refused(phone, proof)
	})
	s.run("another user", func(t *testing.T) {
		ben := s.browser()
		ben.login("alpha", "ben")
		refused(ben, proof)
	})
	s.run("signed out", func(t *testing.T) {
		s.browser().submit("merge", "proof", proof).leadsTo("/login")
		s.browser().open("merge?" + url.Values{"proof": {proof}}.Encode()).leadsTo("/login")
	})
	s.run("tampered", func(t *testing.T) {
		half := len(proof) / 2
		flipped := proof[:half] + string(proof[half]^1) + proof[half+1:]
		for _, wrong := range []string{"", "x", flipped, proof + "A", proof[:half], strings.Repeat("A", 20_000), "ä"} {
			b.submit("merge", "proof", wrong).leadsTo("/account")
		}
	})
	s.run("in the query", func(t *testing.T) {
		b.submit("merge?"+url.Values{"proof": {proof}}.Encode(), "other", "x").leadsTo("/account")
	})
	s.run("too late", func(t *testing.T) {
		late := s.browser()
		late.login("alpha", "ada")
		proof := late.prove("beta", "ada")
		s.clock.Advance(16 * time.Minute)
		refused(late, proof)
	})
	if got := other.user().ID; got == b.user().ID {
		t.Fatal("one of these has merged the accounts")
	}
	s.run("replayed", func(t *testing.T) {
		b := s.browser()
		b.login("alpha", "ada")
		proof, former := b.prove("beta", "ada"), other.user().ID
		b.submit("merge", "proof", proof).leadsTo("/account")
		refused(b, proof)
		b.submit("account/undo-merge", "merge", former).leadsTo("/account")
		b.open("account").want(200, "The merge has been undone.")
		refused(b, proof)
		if got := other.user().ID; got != former {
			t.Errorf("the other session belongs to %s", got)
		}
	})
	s.run("the identity has moved on", func(t *testing.T) {
		b, other := s.browser(), s.browser()
		b.login("alpha", "ben")
		other.login("beta", "ben")
		proof := b.prove("beta", "ben")
		other.submit("delete").leadsTo("/login")
		refused(b, proof)
	})
}

// The destination of a login survives the question whether to merge.
func TestMergeKeepsDestination(t *testing.T) {
	s := newServer(t)
	other, b := s.browser(), s.browser()
	other.login("beta", "ada")
	b.login("alpha", "ada")
	target := appOrigin + "/page?x=1#y"
	asked := b.submit("login/beta?"+url.Values{"redirect_uri": {target}}.Encode(), "username", "ada", "password", "ada-pw").want(302)
	b.submit("merge", "proof", b.proofOn(asked.location())).leadsTo(target)
}

func TestParallelMerges(t *testing.T) {
	s := newServer(t)
	other := s.browser()
	other.login("beta", "ada")
	type attempt struct {
		b     *browser
		proof string
	}
	var attempts []attempt
	for range 4 {
		b := s.browser()
		b.login("alpha", "ada")
		attempts = append(attempts, attempt{b, b.prove("beta", "ada")})
	}
	var wg sync.WaitGroup
	for _, a := range attempts {
		wg.Go(func() { a.b.submit("merge", "proof", a.proof) })
	}
	wg.Wait()
	u := attempts[0].b.user()
	if len(u.Identities) != 2 || len(u.Merged) != 1 || other.user().ID != u.ID {
		t.Errorf("after four merges at once: %+v", u)
	}
}
