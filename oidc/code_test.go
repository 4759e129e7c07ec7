package oidc

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"login-server/store"
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

// What memory has of a grant may be older than what another process has written.
func TestCodeOlderInMemory(t *testing.T) {
	h := newHouse(t, webClient)
	elsewhere := store.NewCollection(h.engine, "grant", grant.index)
	change := func(code string, change func(*grant)) string {
		t.Helper()
		id, _ := grantOf(code)
		if _, err := elsewhere.Update(t.Context(), id, func(g *grant) error { change(g); return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	stored := func(id string) grant {
		t.Helper()
		item, err := elsewhere.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return item.Value
	}
	ada := h.person("ada")

	used := h.answered(ask("app"), ada).Get("code")
	id := change(used, func(g *grant) { g.Code.Used = true })
	h.redeem("app:"+secret, used).want(t, 400, "invalid_grant")
	if !stored(id).Revoked {
		t.Error("a code that was used elsewhere before has not ended the grant")
	}

	ended := h.answered(ask("app"), ada).Get("code")
	change(ended, func(g *grant) { g.Revoked = true })
	h.redeem("app:"+secret, ended).want(t, 400, "invalid_grant")

	good := h.answered(ask("app"), ada).Get("code")
	id = change(good, func(g *grant) { g.deny(denied{ID: "x", Issued: start, Expires: start.Add(time.Hour)}) })
	// The proof is good once, and is not asked for again when the grant is read again.
	h.proving(PathToken, "app:"+secret, form("grant_type", grantCode, "code", good, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier),
		h.prover(0).token()).want(t, 200, "")
	if g := stored(id); g.Revoked || !g.denies("x", start.Unix()) || !g.Code.Used {
		t.Errorf("what was written elsewhere is lost: %+v", g)
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
