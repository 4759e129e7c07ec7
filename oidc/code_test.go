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
	for name, several := range map[string]bool{"on one node": false, "on two nodes": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, webClient)
			nodes := []*house{h, h}
			if several {
				nodes[1] = h.another()
			}
			code := h.code("app", h.person("ada"))
			var mu sync.Mutex
			var won []response
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if got := nodes[i%2].redeem(app, code); got.Status == 200 {
						mu.Lock()
						won = append(won, got)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if len(won) != 1 {
				t.Fatalf("%d have redeemed the code", len(won))
			}
			h.Forget(events.Hint{Everything: true})
			if h.active(app, won[0].text("access_token")) {
				t.Error("the token of a code that was used twice is good")
			}
			h.refreshing(app, won[0].text("refresh_token")).want(t, 400, "invalid_grant")
		})
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

// An authorization writes no grant until its code is redeemed.
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
		"for another resource": func(h *house, code string) response {
			return h.redeem(app, code, "resource", "https://evil.example.org/")
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
	nothing, err := codeSealer().Seal(grant{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	changed := "AAAA"
	if code[60:64] == changed {
		changed = "BBBB"
	}
	for name, forged := range map[string]string{
		"another id":          otherID + "." + sealed,
		"a new id":            h.newGrantID() + "." + sealed,
		"no id":               "." + sealed,
		"only an id":          id + ".",
		"an id without a dot": id,
		"cut":                 code[:len(code)-1],
		"changed":             code[:60] + changed + code[64:],
		"longer":              code + "A",
		"for another purpose": id + "." + elsewhere,
		"without a code":      id + "." + nothing,
		"huge":                id + "." + strings.Repeat("A", 60_000),
	} {
		t.Run(name, func(t *testing.T) { h.redeem(app, forged).want(t, 400, "invalid_grant") })
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

// Between a code and its redemption things are taken back. What memory has may be older for
// five seconds: then the code is redeemed, and what it gives is void after those.
func TestCodeTakenBack(t *testing.T) {
	disconnect := func(h *house, ada *Person) *house { return h.disconnected(ada) }
	disconnectElsewhere := func(h *house, ada *Person) *house { h.another().disconnected(ada); return h }
	revoke := func(h *house, client string) *house {
		if _, _, err := NewRegistry(h.engine, h.clock).Revoke(h.Context(), client); err != nil {
			h.Fatal(err)
		}
		return h
	}
	for name, tc := range map[string]struct {
		between func(h *house, ada *Person) *house // and on which node it is redeemed
		status  int
		void    bool // what was given is, within seconds
	}{
		"nothing":                          {func(h *house, _ *Person) *house { return h }, 200, false},
		"disconnected":                     {disconnect, 400, true},
		"disconnected, redeemed elsewhere": {func(h *house, ada *Person) *house { return disconnect(h, ada).another() }, 400, true},
		"disconnected elsewhere":           {disconnectElsewhere, 200, true},
		"disconnected elsewhere before": {func(h *house, ada *Person) *house {
			disconnectElsewhere(h, ada).clock.Advance(5 * time.Second)
			return h
		}, 400, true},
		"somebody else has disconnected": {func(h *house, _ *Person) *house { return disconnect(h, h.person("bob")) }, 200, false},
		"revoked by the operator":        {func(h *house, _ *Person) *house { return revoke(h, "app") }, 200, true},
		"revoked, as is known": {func(h *house, _ *Person) *house {
			revoke(h, "app").Forget(events.Hint{Everything: true})
			return h
		}, 400, true},
		"revoked, with a hint": {func(h *house, _ *Person) *house {
			revoke(h, "app").Forget(events.Hint{Client: "app"})
			return h
		}, 400, true},
		"another client revoked": {func(h *house, _ *Person) *house {
			revoke(h, "other").Forget(events.Hint{Everything: true})
			return h
		}, 200, false},
		"signed out": {func(h *house, ada *Person) *house { h.remove(ada); return h }, 400, true},
		"disabled": {func(h *house, ada *Person) *house {
			if _, err := h.users.SetDisabled(h.Context(), ada.Account.ID, true); err != nil {
				h.Fatal(err)
			}
			return h
		}, 400, true},
		"deleted": {func(h *house, ada *Person) *house {
			if err := DeleteAccount(h.Context(), h.engine, h.sessions, h.users, ada.Account.ID, ""); err != nil {
				h.Fatal(err)
			}
			return h
		}, 400, true},
		"expired": {func(h *house, _ *Person) *house { h.clock.Advance(codeLife); return h }, 400, true},
	} {
		for scope, kind := range map[string]string{"openid": "", "openid offline_access": ", for good"} {
			t.Run(name+kind, func(t *testing.T) {
				h := newHouse(t, webClient)
				ada := h.person("ada")
				code, stored := h.code("app", ada, "scope", scope), h.storedCode(ada, "scope", scope)
				node := tc.between(h, ada)
				got := node.redeem(app, code)
				if got.Status != tc.status || got.Status == 400 && got.JSON["error"] != "invalid_grant" {
					t.Errorf("answers with %d %s, want %d", got.Status, got.Body, tc.status)
				}
				if other := node.redeem(app, stored); other.Status != 200 != tc.void {
					t.Errorf("a code that carries nothing: %d %s", other.Status, other.Body)
				}
				if got.Status != 200 {
					return
				}
				for _, later := range []time.Duration{5 * time.Second, 13 * 24 * time.Hour} {
					h.clock.Advance(later)
					again := node.refreshing(app, got.text("refresh_token"))
					if again.Status != 200 != tc.void {
						t.Errorf("%s later a refresh is answered with %d %s", later, again.Status, again.Body)
					}
					if again.Status == 200 {
						got = again
					}
				}
				if len(h.connected(ada.Account.ID)) > 0 == tc.void {
					t.Errorf("connected: %v", h.connected(ada.Account.ID))
				}
			})
		}
	}
}

// storedCode is a code that is too long to carry its grant.
func (h *house) storedCode(who *Person, changes ...string) string {
	h.Helper()
	code := h.code("app", who, append(changes, "nonce", strings.Repeat("n", maxCode))...)
	if _, ok := h.openCode(code); ok || len(code) > 100 {
		h.Fatalf("the code carries something: %s", code)
	}
	return code
}

// disconnected is the house after somebody has disconnected the client app.
func (h *house) disconnected(who *Person) *house {
	h.Helper()
	if err := h.Disconnect(h.Context(), "app", who.Account.ID); err != nil {
		h.Fatal(err)
	}
	return h
}

// Who disconnects a client and lets it in again at once has done both.
func TestCodeAfterDisconnect(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	before := h.code("app", ada)
	after := h.disconnected(ada).code("app", ada)
	h.redeem(app, before).want(t, 400, "invalid_grant")
	got := h.redeem(app, after).want(t, 200, "")
	h.clock.Advance(13 * 24 * time.Hour)
	h.refreshing(app, got.text("refresh_token")).want(t, 200, "")
}

// TestCodeLength: a code is at most so long, and one that would be longer is stored.
func TestCodeLength(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	longest, stored := 0, 0
	for n := 0; n <= maxCode; n += 50 {
		code := h.code("app", ada, "nonce", strings.Repeat("n", n+1))
		if _, carries := h.openCode(code); carries {
			longest = max(longest, len(code))
		} else {
			stored++
		}
		h.redeem(app, code).want(t, 200, "")
	}
	if longest > maxCode || longest < maxCode-100 || stored == 0 {
		t.Errorf("the longest has %d characters; %d are stored", longest, stored)
	}
}

// A code that was sealed with a secret that is about to go is good.
func TestCodeOfOlderSecret(t *testing.T) {
	h := newHouse(t, webClient)
	code := h.code("app", h.person("ada"))
	var err error
	if h.o.Codes, err = token.NewSealer([]string{strings.Repeat("t", 32), strings.Repeat("s", 32)}, "authorization code"); err != nil {
		t.Fatal(err)
	}
	h.redeem(app, code).want(t, 200, "")
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
			code := h.code("app", ada, "scope", "openid offline_access")
			disconnect, nothing := func() { h.disconnected(ada) }, func() {}
			d := &during{Engine: h.engine, before: nothing, after: disconnect}
			if first {
				d.before, d.after = disconnect, nothing
			}
			h.grants = store.NewCollection[grant](d, "grant", grant.index)
			got := h.redeem(app, code).want(t, 200, "")
			if h.count("grant") != 1 {
				t.Errorf("%d grants", h.count("grant"))
			}
			h.refreshing(app, got.text("refresh_token")).want(t, 400, "invalid_grant")
			if info := h.about(got.text("access_token")); info.Status != 401 {
				t.Errorf("userinfo: %d %s", info.Status, info.Body)
			}
		})
	}
}

// before is an engine in which something happens before a document of a kind is read, or deleted.
type before struct {
	store.Engine
	kind, call string
	do         func()
}

func (b *before) once(call, kind string) {
	if do := b.do; call == b.call && kind == b.kind && do != nil {
		b.do = nil
		do()
	}
}

func (b *before) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	doc, err := b.Engine.Get(ctx, kind, id)
	b.once("read", kind)
	return doc, err
}

func (b *before) Delete(ctx context.Context, kind, id string) error {
	b.once("delete", kind)
	return b.Engine.Delete(ctx, kind, id)
}

// A code that is given on a consent while that is taken back is worth nothing.
func TestCodeOnConsentTakenBack(t *testing.T) {
	disconnect := func(h *house, ada *Person) {
		if err := h.Disconnect(t.Context(), "asking", ada.Account.ID); err != nil {
			t.Error(err)
		}
	}
	revoke := func(h *house, _ *Person) {
		if _, _, err := h.clients.registry.Revoke(t.Context(), "asking"); err != nil {
			t.Error(err)
		}
	}
	for name, takeBack := range map[string]func(*house, *Person){"by the person": disconnect, "by the operator": revoke} {
		for _, call := range []string{"read", "delete"} {
			t.Run(name+", at the "+call, func(t *testing.T) {
				h := newHouse(t, consentClient)
				ada := h.person("ada")
				h.allowed(ask("asking"), ada)
				engine := &before{Engine: h.engine, kind: "consent", call: call}
				h.consents = store.NewCollection[consent](engine, "consent", consent.index)
				h.clients.registry.consents = h.consents
				code := ""
				if call == "read" { // the consent was seen, and all of it is taken back before the code is made
					engine.do = func() { takeBack(h, ada) }
					code = h.answered(ask("asking"), ada).Get("code")
				} else { // the code is made just before the consent goes
					engine.do = func() { code = h.answered(ask("asking"), ada).Get("code") }
					takeBack(h, ada)
				}
				h.Forget(events.Hint{Everything: true})
				h.redeem("asking:"+secret, code).want(t, 400, "invalid_grant")
			})
		}
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
		change        func(*grant)
		status        int
		used, revoked bool // what is stored at the end
	}{
		"redeemed": {func(g *grant) { g.Code.Used = true }, 400, true, true},
		"revoked":  {func(g *grant) { g.Revoked = true }, 400, false, true},
		// Here the code is redeemed at the second attempt, for which the proof is not asked again.
		"a token denied": {func(g *grant) { g.deny(denied{ID: "x", Issued: start, Expires: start.Add(time.Hour)}) }, 200, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			code := h.storedCode(ada)
			id, _ := grantOf(code)
			h.grants = store.NewCollection[grant](&changing{h.engine, func() {
				if _, err := elsewhere.Update(t.Context(), id, func(g *grant) error { tc.change(g); return nil }); err != nil {
					t.Error(err)
				}
			}}, "grant", grant.index)
			got := h.proving(PathToken, app, form("grant_type", grantCode, "code", code, "redirect_uri", "https://app.example.org/cb", "code_verifier", verifier),
				h.prover(0).token())
			if got.Status != tc.status {
				t.Errorf("answers with %d %s", got.Status, got.Body)
			}
			item, err := elsewhere.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			g := item.Value
			if g.Code.Used != tc.used || g.Revoked != tc.revoked {
				t.Errorf("used %t, revoked %t", g.Code.Used, g.Revoked)
			}
			if tc.status == 200 && !g.denies("x", start.Unix()) {
				t.Error("what was written elsewhere is lost")
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
