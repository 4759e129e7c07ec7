package oidc

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"login-server/identity"
	"login-server/picture"
	"login-server/session"
	"login-server/store"
)

// consentClient is not trusted: people are asked for their consent.
const consentClient = `{"client_id": "asking", "name": "Asking", "url": "https://app.example.org/", "client_secret": "` + secret + `",
	"redirect_uris": ["https://app.example.org/cb"], "logo_uri": "https://app.example.org/logo.svg"}`

// allowed lets somebody allow a request, and returns the code.
func (h *house) allowed(request map[string][]string, who *Person) string {
	h.Helper()
	step, err := h.Authorize(h.Context(), request, who)
	if err == nil && step.Ask != nil && step.Ask.Task == Consent {
		step, err = h.Decide(h.Context(), step.Ask.Interaction, Consent, true, who)
	}
	if err != nil {
		h.Fatal(err)
	}
	return h.parameters(step).Get("code")
}

func (h *house) connected(ids ...string) map[string]Connection {
	h.Helper()
	list, err := h.Connected(h.Context(), ids...)
	if err != nil {
		h.Fatal(err)
	}
	found := map[string]Connection{}
	for _, c := range list {
		found[c.Client.ClientID] = c
	}
	return found
}

func (h *house) about(token string) response {
	h.Helper()
	r := httptest.NewRequest(http.MethodGet, PathUserInfo, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return h.do(r)
}

func TestConnected(t *testing.T) {
	h := newHouse(t, webClient, consentClient)
	ada, bob := h.person("ada"), h.person("bob")
	if got := h.connected(ada.Account.ID); len(got) != 0 {
		t.Errorf("before anything: %v", got)
	}
	h.redeem("app:"+secret, h.answered(ask("app"), ada).Get("code")).want(t, 200, "")
	h.clock.Advance(time.Hour)
	first := h.redeem("asking:"+secret, h.allowed(ask("asking", "scope", "openid email offline_access"), ada)).want(t, 200, "")
	h.clock.Advance(time.Hour)
	first = h.call(PathToken, "asking:"+secret, form("grant_type", "refresh_token", "refresh_token", first.text("refresh_token"))).want(t, 200, "")
	bobs := h.redeem("asking:"+secret, h.allowed(ask("asking"), bob)).want(t, 200, "")
	second := h.allowed(ask("asking", "scope", "openid profile"), ada) // a code that nobody has redeemed

	got := h.connected(ada.Account.ID)
	if app := got["app"]; !app.Trusted || !slices.Equal(app.Scopes, []string{"profile"}) || !app.Since.Equal(start) {
		t.Errorf("the trusted one: %+v", app)
	}
	if c := got["asking"]; len(got) != 2 || c.Trusted || !slices.Equal(c.Scopes, []string{"profile", "email", "offline_access"}) ||
		!c.Since.Equal(start.Add(time.Hour)) || !c.Used.Equal(start.Add(2*time.Hour)) {
		t.Errorf("the one that asks: %+v", c)
	}

	if err := h.Disconnect(t.Context(), "asking", ada.Account.ID); err != nil {
		t.Fatal(err)
	}
	if got := h.connected(ada.Account.ID); len(got) != 1 {
		t.Errorf("disconnected: %v", got)
	}
	if info := h.about(first.text("access_token")); info.Status != 401 {
		t.Errorf("the access token: %d %s", info.Status, info.Body)
	}
	h.call(PathToken, "asking:"+secret, form("grant_type", "refresh_token", "refresh_token", first.text("refresh_token"))).want(t, 400, "invalid_grant")
	h.redeem("asking:"+secret, second).want(t, 400, "invalid_grant")
	if info := h.about(bobs.text("access_token")); info.Status != 200 {
		t.Errorf("somebody else's access token: %d %s", info.Status, info.Body)
	}
	if step, err := h.Authorize(t.Context(), ask("asking"), ada); err != nil || step.Ask == nil || step.Ask.Task != Consent {
		t.Errorf("the next request: %+v, %v", step, err)
	}
	if step, err := h.Authorize(t.Context(), ask("asking", "prompt", "none"), ada); err != nil || h.parameters(step).Get("error") != "consent_required" {
		t.Errorf("the next silent request: %+v, %v", step, err)
	}
}

// What was allowed to an account that has been merged into another is shown there, and
// ends there.
func TestConnectedAfterMerge(t *testing.T) {
	h := newHouse(t, consentClient)
	ada := h.person("ada")
	got := h.redeem("asking:"+secret, h.allowed(ask("asking"), ada)).want(t, 200, "")
	other, _, err := h.users.SignIn(t.Context(), identity.Profile{Provider: "orcid", ID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	survivor, err := h.users.Merge(t.Context(), other.ID, ada.Account.ID)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := h.users.IDs(t.Context(), survivor)
	if err != nil {
		t.Fatal(err)
	}
	if list := h.connected(ids...); len(list) != 1 {
		t.Errorf("connected: %v", list)
	}
	if err := h.Disconnect(t.Context(), "asking", ids...); err != nil {
		t.Fatal(err)
	}
	if info := h.about(got.text("access_token")); info.Status != 401 || len(h.connected(ids...)) != 0 {
		t.Errorf("disconnected: %d %s", info.Status, info.Body)
	}
}

func TestDeleteAccountLeavesNothing(t *testing.T) {
	h := newHouse(t, webClient, consentClient)
	ada, bob := h.person("ada"), h.person("bob")
	got := h.redeem("asking:"+secret, h.allowed(ask("asking", "scope", "openid offline_access"), ada)).want(t, 200, "")
	h.code("app", ada)
	h.redeem("asking:"+secret, h.allowed(ask("asking"), bob)).want(t, 200, "")
	for _, who := range []*Person{ada, bob} { // which leaves a withdrawal of each
		if err := h.Disconnect(t.Context(), "app", who.Account.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, owner := range []string{ada.Account.ID, bob.Account.ID} {
		if _, err := picture.NewAlbum(h.o.Store, time.Now).Keep(t.Context(), owner, picture.Picture{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := DeleteAccount(t.Context(), h.o.Store, h.sessions, h.users, ada.Account.ID, ""); err != nil {
		t.Fatal(err)
	}
	if info := h.about(got.text("access_token")); info.Status != 401 {
		t.Errorf("userinfo: %d %s", info.Status, info.Body)
	}
	for _, kind := range []string{"grant", "consent", "withdrawal", "picture"} {
		if n, err := h.o.Store.Count(t.Context(), kind, ""); n != 1 || err != nil {
			t.Errorf("%d of %s are left, %v, want that of somebody else", n, kind, err)
		}
	}
	if _, err := h.sessions.Get(t.Context(), ada.Session.Handle); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the session: %v", err)
	}
	if err := DeleteAccount(t.Context(), h.o.Store, h.sessions, h.users, ada.Account.ID, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
}

// Rule 21: who does not want to sign in for a client says no to it, once.
func TestDecline(t *testing.T) {
	h := newHouse(t, webClient)
	step, err := h.Authorize(t.Context(), ask("app"), nil)
	if err != nil || step.Ask == nil || step.Ask.RedirectURI != "https://app.example.org/cb" {
		t.Fatalf("%+v, %v", step, err)
	}
	id := step.Ask.Interaction
	if step, err = h.Decline(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if v := h.parameters(step); v.Get("error") != "access_denied" || v.Get("state") != "the state" || v.Get("iss") != issuer || v.Get("code") != "" {
		t.Errorf("got %v", v)
	}
	if step, err = h.Decline(t.Context(), id); err != nil || step.Refuse == nil {
		t.Errorf("a second time: %+v, %v", step, err)
	}
}

// Rules 9, 30 and 31: each scope gives its claims and no others, and none is empty.
func TestScopesAndClaims(t *testing.T) {
	h := newHouse(t, webClient)
	ada := h.person("ada")
	all := map[string]any{
		"given_name": "Ada", "family_name": "Lovelace", "middle_name": "King", "nickname": "Countess", "preferred_username": "ada", "profile": "https://example.org/ada",
		"picture": "https://example.org/ada.png", "website": "https://ada.example/", "gender": "female", "birthdate": "0000-12-10", "zoneinfo": "Europe/London", "locale": "en-GB", "biography": "Counts.",
		"email": "ada@example.org", "email_verified": true, "phone_number": "+442071234567", "phone_number_verified": true, "address": map[string]any{"country": "GB"},
	}
	if _, err := h.users.SetClaims(t.Context(), ada.Account.ID, identity.SourceOperator, all); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"openid": {},
		"profile": {"biography", "birthdate", "family_name", "gender", "given_name", "locale", "middle_name", "name", "nickname", "picture",
			"preferred_username", "profile", "updated_at", "website", "zoneinfo"},
		"email":      {"email", "email_verified"},
		"phone":      {"phone_number", "phone_number_verified"},
		"address":    {"address"},
		"identities": {"identities"},
	}
	for scope, names := range want {
		code := h.answered(ask("app", "scope", "openid "+scope), ada).Get("code")
		info := h.about(h.redeem("app:"+secret, code).want(t, 200, "").text("access_token"))
		got := []string{}
		for name, value := range info.JSON {
			if name != "sub" {
				got = append(got, name)
			}
			if wanted, ok := all[name]; ok {
				a, _ := json.Marshal(value)
				b, _ := json.Marshal(wanted)
				if string(a) != string(b) {
					t.Errorf("%s is %s, want %s", name, a, b)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Errorf("scope %s gives %v, want %v", scope, got, names)
		}
		if scope == "profile" {
			if n, ok := info.JSON["updated_at"].(float64); !ok || n != float64(start.Unix()) {
				t.Errorf("updated_at is %v", info.JSON["updated_at"])
			}
		}
		if scope == "identities" && !strings.Contains(string(info.Body), `"identities":[{"provider":"local","id":"ada","username":"ada","name":"Ada"}]`) {
			t.Errorf("identities: %s", info.Body)
		}
	}

	// Somebody of whom nothing is known has no empty claims.
	bob := h.person("bob")
	code := h.answered(ask("app", "scope", "openid profile email phone address identities"), bob).Get("code")
	info := h.about(h.redeem("app:"+secret, code).want(t, 200, "").text("access_token"))
	for name, value := range info.JSON {
		if value == nil || value == "" {
			t.Errorf("%s is %v", name, value)
		}
	}
	for _, name := range []string{"email", "email_verified", "phone_number_verified", "address", "given_name"} {
		if _, ok := info.JSON[name]; ok {
			t.Errorf("there is a claim %s", name)
		}
	}

	// The metadata names them all.
	names := claimNames()
	for _, list := range scopeClaims {
		for _, name := range list {
			if !slices.Contains(names, name) {
				t.Errorf("claims_supported lacks %s", name)
			}
		}
	}
	for _, name := range identity.ClaimNames() {
		if !slices.Contains(names, name) {
			t.Errorf("claims_supported lacks %s", name)
		}
	}
}
