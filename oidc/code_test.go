package oidc

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

func TestCodeFlow(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	answer := h.answered(ask("app"), ada)
	if answer.Get("state") != "the state" || answer.Get("iss") != issuer {
		t.Errorf("answer %v", answer)
	}
	got := h.redeem("app:"+secret, answer.Get("code")).want(t, 200, "")
	if got.JSON["token_type"] != "Bearer" || got.JSON["expires_in"] != 600.0 || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %s", got.Body)
	}
	id := claims(t, got.text("id_token"))
	for name, want := range map[string]any{"iss": issuer, "aud": "app", "sub": ada.Account.ID, "nonce": "the nonce", "sid": ada.Session.Handle, "acr": "1"} {
		if id[name] != want {
			t.Errorf("%s is %v, want %v", name, id[name], want)
		}
	}
	if id["name"] != nil {
		t.Error("the ID Token of the code flow has a name")
	}
	r := httptest.NewRequest(http.MethodGet, PathUserInfo, nil)
	r.Header.Set("Authorization", "Bearer "+got.text("access_token"))
	if info := h.do(r); info.Status != 200 || info.JSON["sub"] != ada.Account.ID || info.JSON["name"] != "Ada" {
		t.Errorf("userinfo: %d %s", info.Status, info.Body)
	}

	// The second use gives nothing, and takes what the first has given.
	h.redeem("app:"+secret, answer.Get("code")).want(t, 400, "invalid_grant")
	if info := h.do(r); info.Status != 401 {
		t.Errorf("after the second use of the code: %d %s", info.Status, info.Body)
	}
	h.call(PathToken, "app:"+secret, form("grant_type", "refresh_token", "refresh_token", got.text("refresh_token"))).want(t, 400, "invalid_grant")
}

func TestCodeTwiceAtOnce(t *testing.T) {
	h := newHouse(t, webClient)
	code := h.answered(ask("app"), h.person("ada")).Get("code")
	var mu sync.Mutex
	var won []string
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := h.redeem("app:"+secret, code); got.Status == 200 {
				mu.Lock()
				won = append(won, got.text("access_token"))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d have redeemed the code", len(won))
	}
	if got := h.call(PathIntrospect, "app:"+secret, form("token", won[0])); got.JSON["active"] != false {
		t.Errorf("the token of a code that was used twice: %s", got.Body)
	}
}

func TestRefresh(t *testing.T) {
	h := newHouse(t, webClient)
	first := h.redeem("app:"+secret, h.answered(ask("app"), h.person("ada")).Get("code")).text("refresh_token")
	refresh := func(token string, more ...string) response {
		return h.call(PathToken, "app:"+secret, form(append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...))
	}
	h.clock.Advance(time.Minute)
	second := refresh(first).want(t, 200, "").text("refresh_token")
	if again := refresh(first).want(t, 200, "").text("refresh_token"); again != second {
		t.Error("within the grace the successor is another one")
	}
	third := refresh(second).want(t, 200, "").text("refresh_token")
	refresh(third, "scope", "openid email").want(t, 400, "invalid_scope")
	fourth := refresh(third, "scope", "openid").want(t, 200, "").text("refresh_token")
	h.clock.Advance(2 * time.Minute)
	refresh(third).want(t, 400, "invalid_grant")
	refresh(fourth).want(t, 400, "invalid_grant")
}

// A disabled account is the end of what was given in its name, also of what outlives a
// session; it is good again when the account is.
func TestDisabledAccount(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	got := h.redeem("app:"+secret, h.answered(ask("app", "scope", "openid offline_access"), ada).Get("code")).want(t, 200, "")
	if _, err := h.users.SetDisabled(t.Context(), ada.Account.ID, true); err != nil {
		t.Fatal(err)
	}
	refresh := form("grant_type", "refresh_token", "refresh_token", got.text("refresh_token"))
	h.call(PathToken, "app:"+secret, refresh).want(t, 400, "invalid_grant")
	if info := h.call(PathIntrospect, "app:"+secret, form("token", got.text("access_token"))); info.JSON["active"] != false {
		t.Errorf("introspection: %s", info.Body)
	}
	if _, err := h.users.SetDisabled(t.Context(), ada.Account.ID, false); err != nil {
		t.Fatal(err)
	}
	h.call(PathToken, "app:"+secret, refresh).want(t, 200, "")
}
