package oidc

import (
	"context"
	"testing"
	"time"

	"login-server/config"
	"login-server/events"
	"login-server/store"
)

// undeletable is an engine that goes away when something is to be deleted.
type undeletable struct{ store.Engine }

func (undeletable) Delete(context.Context, string, string) error { return store.ErrAway }

// What somebody has just allowed, and takes back before the client has its answer, is asked
// for again.
func TestAllowedAndTakenBack(t *testing.T) {
	h := newHouse(t, consentClient)
	ada := h.person("ada")
	id := h.asked(h.step(ask("asking"), ada), Consent).Interaction
	h.pending = store.NewCollection[interaction](undeletable{h.engine}, "authorization", interaction.index)
	if _, err := h.Decide(t.Context(), id, Consent, true, ada); err == nil {
		t.Fatal("the answer was given")
	}
	h.pending = store.NewCollection[interaction](h.engine, "authorization", interaction.index)
	if err := h.Disconnect(t.Context(), "asking", ada.Account.ID); err != nil {
		t.Fatal(err)
	}
	h.asked(h.resume(id, ada), Consent)
	h.redeem("asking:"+secret, h.parameters(h.decide(id, Consent, true, ada)).Get("code")).want(t, 200, "")
}

// Memory that is behind voids nothing that was allowed since.
func TestOldMarksVoidNothing(t *testing.T) {
	h := newHouse(t, webClient)
	other, ada := h.another(), h.person("ada")
	h.disconnected(ada)
	if _, err := other.marksOf(t.Context(), ada.Account.ID, "app"); err != nil { // so that it has the first mark in memory
		t.Fatal(err)
	}
	h.disconnected(ada)
	code := h.code("app", ada)
	got := other.redeem(app, code).want(t, 200, "")
	h.clock.Advance(6 * time.Second)
	h.refreshing(app, got.text("refresh_token")).want(t, 200, "")
}

// So does a consent that is given where memory is behind.
func TestConsentOnOldMarks(t *testing.T) {
	h := newHouse(t, consentClient)
	ada := h.person("ada")
	id := h.asked(h.step(ask("asking"), ada), Consent).Interaction // remembers that there is no mark
	if _, _, err := NewRegistry(h.engine, h.clock).Revoke(t.Context(), "asking"); err != nil {
		t.Fatal(err)
	}
	code := h.parameters(h.decide(id, Consent, true, ada)).Get("code")
	h.Forget(events.Hint{Everything: true})
	h.redeem("asking:"+secret, code).want(t, 200, "")
}

// A client that is removed and added again under its name gets nothing for what it had.
func TestCodeOfClientAddedAgain(t *testing.T) {
	h := newHouse(t)
	ada := h.person("ada")
	add := func() string {
		return h.storedClient("again", func(m *config.Client) { m.RedirectURIs = []string{"https://app.example.org/cb"} })
	}
	add()
	code := h.code("again", ada)
	if _, err := h.RemoveClient(t.Context(), "again"); err != nil {
		t.Fatal(err)
	}
	basic := add()
	h.Forget(events.Hint{Everything: true})
	h.redeem(basic, code).want(t, 400, "invalid_grant")
	h.redeem(basic, h.code("again", ada)).want(t, 200, "")
}

// Grants that are stored at once, with a code that carries nothing or for a device, are void as
// well if they were being made when they were taken back.
func TestGrantMadeWhileDisconnecting(t *testing.T) {
	t.Run("with a code", func(t *testing.T) {
		h := newHouse(t, webClient)
		ada := h.person("ada")
		h.grants = store.NewCollection[grant](&during{Engine: h.engine, before: func() { h.disconnected(ada) }, after: func() {}}, "grant", grant.index)
		h.redeem(app, h.storedCode(ada)).want(t, 400, "invalid_grant")
	})
	t.Run("for a device", func(t *testing.T) {
		h := newHouse(t, tvClient)
		ada := h.person("ada")
		d := h.device("openid offline_access")
		if !h.decideDevice(d, true, ada) {
			t.Fatal("not decided")
		}
		disconnect := func() {
			if err := h.Disconnect(t.Context(), "tv", ada.Account.ID); err != nil {
				t.Error(err)
			}
		}
		h.grants = store.NewCollection[grant](&during{Engine: h.engine, before: disconnect, after: func() {}}, "grant", grant.index)
		got := h.poll(d)
		if got.Status == 200 {
			got = h.call(PathToken, "", form("grant_type", grantRefresh, "client_id", "tv", "refresh_token", got.text("refresh_token")))
		}
		got.want(t, 400, "invalid_grant")
	})
}

// A device that was let in before all is taken back gets nothing, although the person lets
// the client in again.
func TestDeviceLetInBeforeRevoke(t *testing.T) {
	h := newHouse(t, tvClient)
	ada := h.person("ada")
	first, second := h.device("openid offline_access"), h.device("openid offline_access")
	h.decideDevice(first, true, ada)
	if _, _, err := NewRegistry(h.engine, h.clock).Revoke(t.Context(), "tv"); err != nil {
		t.Fatal(err)
	}
	h.decideDevice(second, true, ada)
	h.poll(first).want(t, 400, "invalid_grant")
	h.poll(second).want(t, 200, "")
}
