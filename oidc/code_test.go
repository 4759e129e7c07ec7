package oidc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/config"
	"login-server/events"
	"login-server/store"
	"login-server/token"
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

// another is a second node on the same store, with the client app.
func (h *house) another() *house {
	h.Helper()
	var app config.Application
	if err := json.Unmarshal([]byte(webClient), &app); err != nil {
		h.Fatal(err)
	}
	p, err := New(h.Context(), []config.Application{app}, h.o)
	if err != nil {
		h.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, handler := range p.Endpoints() {
		mux.Handle(path, handler)
	}
	other := *h
	other.Provider, other.handler = p, mux
	return &other
}

func (h *house) count(kind string) int {
	h.Helper()
	n, err := h.engine.Count(h.Context(), kind, "")
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// An authorization writes nothing until its code is redeemed.
func TestCodeIsNotStored(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	code := h.code("app", ada)
	if n := h.count("grant"); n != 0 {
		t.Errorf("%d grants before the code was redeemed", n)
	}
	h.redeem(app, code, "code_verifier", strings.Repeat("x", 43)).want(t, 400, "invalid_grant")
	h.redeem(app, code, "redirect_uri", "https://app.example.org/other").want(t, 400, "invalid_grant")
	if n := h.count("grant"); n != 0 {
		t.Errorf("%d grants after attempts that have failed", n)
	}
	h.redeem(app, code).want(t, 200, "")
	if n := h.count("grant"); n != 1 {
		t.Errorf("%d grants", n)
	}
}

// Rule 24: the second use ends what the first has given, on whichever node, also much later,
// and whatever else is wrong with it.
func TestCodeUsedAgain(t *testing.T) {
	for name, again := range map[string]func(h *house, code string) response{
		"at once":              func(h *house, code string) response { return h.redeem(app, code) },
		"on another node":      func(h *house, code string) response { return h.another().redeem(app, code) },
		"without the verifier": func(h *house, code string) response { return h.redeem(app, code, "code_verifier", "") },
		"for another address": func(h *house, code string) response {
			return h.redeem(app, code, "redirect_uri", "https://evil.example.org/")
		},
		"an hour later": func(h *house, code string) response {
			h.clock.Advance(time.Hour)
			return h.redeem(app, code)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, webClient)
			code := h.code("app", h.person("ada"))
			got := h.redeem(app, code).want(t, 200, "")
			again(h, code).want(t, 400, "invalid_grant")
			h.refreshing(app, got.text("refresh_token")).want(t, 400, "invalid_grant")
		})
	}
}

// A client that has somebody else's code neither gets anything for it nor ends anything.
func TestCodeOfAnotherClient(t *testing.T) {
	h := newHouse(t, webClient, askingClient)
	code := h.code("app", h.person("ada"))
	h.redeem("asking:"+secret, code).want(t, 400, "invalid_grant")
	got := h.redeem(app, code).want(t, 200, "")
	h.redeem("asking:"+secret, code).want(t, 400, "invalid_grant")
	if !h.active(app, got.text("access_token")) {
		t.Error("another client has ended a grant with its code")
	}
}

func TestCodeTwiceAtOnceOnTwoNodes(t *testing.T) {
	h := newHouse(t, webClient)
	other := h.another()
	code := h.code("app", h.person("ada"))
	var mu sync.Mutex
	var won []string
	var wg sync.WaitGroup
	for _, node := range []*house{h, other, h, other, h, other} {
		wg.Go(func() {
			if got := node.redeem(app, code); got.Status == 200 {
				mu.Lock()
				won = append(won, got.text("refresh_token"))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d have redeemed the code", len(won))
	}
	h.refreshing(app, won[0]).want(t, 400, "invalid_grant")
}

// What was not sealed as a code, or was put together from several, is none.
func TestCodeForged(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	code, other := h.code("app", ada), h.code("app", ada)
	id, sealed, _ := strings.Cut(code, ".")
	otherID, _, _ := strings.Cut(other, ".")
	own, _ := h.openCode(code)
	own.User = "00000000-0000-4000-8000-000000000099"
	pages, err := token.NewSealer([]string{strings.Repeat("s", 32)}, "pages")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := pages.Seal(own)
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := codeSealer.Seal(grant{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]string{
		"another id": otherID + "." + sealed, "no id": "." + sealed, "only an id": id + ".", "another id of ours": h.newGrantID() + "." + sealed,
		"cut": code[:len(code)-1], "changed": code[:60] + "AAAA" + code[64:], "longer": code + "A", "for another purpose": id + "." + elsewhere,
		"without a code": id + "." + nothing, "huge": id + "." + strings.Repeat("A", 60_000), "the grant": id,
	} {
		h.redeem(app, forged).want(t, 400, "invalid_grant")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if n := h.count("grant"); n != 0 {
		t.Errorf("%d grants", n)
	}
	got := h.redeem(app, code).want(t, 200, "")
	// Who knows the id of a grant, from a token, has no code of it.
	h.redeem(app, id+"."+strings.Repeat("A", 43)).want(t, 400, "invalid_grant")
	h.redeem(app, otherID+"."+sealed).want(t, 400, "invalid_grant")
	if !h.active(app, got.text("access_token")) {
		t.Error("a forged code has ended the grant")
	}
}

// Between a code and its redemption things are taken back.
func TestCodeTakenBack(t *testing.T) {
	for name, tc := range map[string]struct {
		between func(h *house, ada *Person) *house // and on which node it is redeemed
		status  int
	}{
		"nothing": {func(h *house, _ *Person) *house { return h }, 200},
		"disconnected": {func(h *house, ada *Person) *house {
			return h.disconnected(ada)
		}, 400},
		"disconnected on another node": {func(h *house, ada *Person) *house {
			h.another().disconnected(ada)
			return h.forgetful(events.Hint{Client: "app"})
		}, 400},
		// Memory may allow for five seconds.
		"disconnected on another node, without a word": {func(h *house, ada *Person) *house {
			h.another().disconnected(ada)
			h.clock.Advance(5 * time.Second)
			return h
		}, 400},
		"disconnected, redeemed elsewhere": {func(h *house, ada *Person) *house {
			h.disconnected(ada)
			return h.another()
		}, 400},
		"somebody else has disconnected": {func(h *house, _ *Person) *house {
			return h.disconnected(h.person("bob"))
		}, 200},
		"revoked by the operator": {func(h *house, _ *Person) *house {
			if _, _, err := NewRegistry(h.engine, h.clock).Revoke(h.Context(), "app"); err != nil {
				h.Fatal(err)
			}
			return h.forgetful(events.Hint{Everything: true})
		}, 400},
		"another client revoked": {func(h *house, _ *Person) *house {
			if _, _, err := NewRegistry(h.engine, h.clock).Revoke(h.Context(), "other"); err != nil {
				h.Fatal(err)
			}
			return h.forgetful(events.Hint{Everything: true})
		}, 200},
		"signed out": {func(h *house, ada *Person) *house { h.remove(ada); return h }, 400},
		"disabled": {func(h *house, ada *Person) *house {
			if _, err := h.users.SetDisabled(h.Context(), ada.Account.ID, true); err != nil {
				h.Fatal(err)
			}
			return h
		}, 400},
		"deleted": {func(h *house, ada *Person) *house {
			if err := DeleteAccount(h.Context(), h.engine, h.sessions, h.users, ada.Account.ID, ""); err != nil {
				h.Fatal(err)
			}
			return h
		}, 400},
		"expired": {func(h *house, _ *Person) *house { h.clock.Advance(codeLife); return h }, 400},
	} {
		for scope, kind := range map[string]string{"openid": "", "openid offline_access": ", for good"} {
			t.Run(name+kind, func(t *testing.T) {
				h := newHouse(t, webClient)
				ada := h.person("ada")
				code := h.code("app", ada, "scope", scope)
				code2 := h.code("app", ada, "scope", scope, "nonce", strings.Repeat("n", maxCode)) // is stored
				node := tc.between(h, ada)
				for _, code := range []string{code, code2} {
					got := node.redeem(app, code)
					if got.Status != tc.status {
						t.Errorf("answers with %d %s, want %d", got.Status, got.Body, tc.status)
					}
					if got.Status == 400 && got.JSON["error"] != "invalid_grant" {
						t.Errorf("answers %s", got.Body)
					}
				}
			})
		}
	}
}

func (h *house) disconnected(who *Person) *house {
	h.Helper()
	if err := h.Disconnect(h.Context(), "app", who.Account.ID); err != nil {
		h.Fatal(err)
	}
	return h
}

func (h *house) forgetful(hint events.Hint) *house {
	h.Forget(hint)
	return h
}

// Who disconnects a client and lets it in again at once has done both.
func TestCodeAfterDisconnect(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	before := h.code("app", ada)
	after := h.disconnected(ada).code("app", ada)
	h.redeem(app, before).want(t, 400, "invalid_grant")
	h.redeem(app, after).want(t, 200, "")
	// It was given while the withdrawal was known, and is redeemed when it is not any more.
	h.clock.Advance(withdrawalMemory - codeLife/2)
	late := h.code("app", ada)
	h.clock.Advance(codeLife / 2)
	h.redeem(app, late).want(t, 200, "")
}

// during is an engine in which something happens before and after a grant is inserted.
type during struct {
	store.Engine
	before, after func()
}

func (d *during) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if kind != "grant" || d.before == nil {
		return d.Engine.Insert(ctx, kind, doc)
	}
	before, after := d.before, d.after
	d.before, d.after = nil, nil
	before()
	defer after()
	return d.Engine.Insert(ctx, kind, doc)
}

// However redeeming a code and disconnecting its client come together, nothing is left.
func TestCodeWhileDisconnecting(t *testing.T) {
	for name, first := range map[string]bool{"before it is written": true, "after it is written": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, webClient)
			ada := h.person("ada")
			code := h.code("app", ada)
			disconnect, nothing := func() { h.disconnected(ada) }, func() {}
			d := &during{Engine: h.engine, before: nothing, after: disconnect}
			if first {
				d.before, d.after = disconnect, nothing
			}
			h.grants = store.NewCollection[grant](d, "grant", grant.index)
			got := h.redeem(app, code)
			if got.Status == 200 {
				h.refreshing(app, got.text("refresh_token")).want(t, 400, "invalid_grant")
			}
			for item, err := range h.grants.All(t.Context(), store.Query{}) {
				if err != nil || !item.Value.Revoked {
					t.Errorf("left: %+v, %v", item.Value, err)
				}
			}
			if first && got.Status != 400 {
				t.Errorf("answers with %d although it was disconnected before", got.Status)
			}
		})
	}
}

// changing is an engine in which a grant is changed by somebody else before it is replaced.
type changing struct {
	store.Engine
	change func()
}

func (c *changing) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if change := c.change; kind == "grant" && change != nil {
		c.change = nil
		change()
	}
	return c.Engine.Replace(ctx, kind, doc)
}

// A grant that is stored before its code is redeemed may be changed in between.
func TestCodeOfStoredGrant(t *testing.T) {
	h := newHouse(t, webClient)
	elsewhere := h.grants
	ada := h.person("ada")
	for name, tc := range map[string]struct {
		change func(*grant)
		status int
	}{
		"redeemed":       {func(g *grant) { g.Code.Used = true }, 400},
		"revoked":        {func(g *grant) { g.Revoked = true }, 400},
		"a token denied": {func(g *grant) { g.deny(denied{ID: "x", Issued: start, Expires: start.Add(time.Hour)}) }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			code := h.code("app", ada, "nonce", strings.Repeat("n", maxCode))
			id, ok := grantOf(code)
			if !ok {
				t.Fatalf("code %s", code)
			}
			h.grants = store.NewCollection[grant](&changing{h.engine, func() {
				if _, err := elsewhere.Update(t.Context(), id, func(g *grant) error { tc.change(g); return nil }); err != nil {
					t.Error(err)
				}
			}}, "grant", grant.index)
			// The proof is good once, and is not asked for again when the grant is read again.
			got := h.proving(PathToken, app, form("grant_type", grantCode, "code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier),
				h.prover(0).token())
			if got.Status != tc.status {
				t.Errorf("answers with %d %s", got.Status, got.Body)
			}
			item, err := elsewhere.Get(t.Context(), id)
			if g := item.Value; err != nil || !g.Code.Used && name != "revoked" || g.Revoked != (tc.status == 400) || tc.status == 200 && !g.denies("x", start.Unix()) {
				t.Errorf("what was written elsewhere is lost: %+v, %v", g, err)
			}
		})
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
