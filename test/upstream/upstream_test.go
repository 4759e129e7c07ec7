// Package upstream signs people in at OpenID Providers that others have written, in a real
// Chromium: from our login page through the provider's own pages and back, with the whole
// program in between. Nothing in it reaches the Internet.
//
//	npm ci                                      the providers: see package.json
//	go test .                                   all of it
//	SCREENSHOTS=dir go test .                   also writes pictures of our pages there
//
// Without Node.js, its packages or Chromium the tests are skipped.
package upstream

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"

	"login-server/internal/testbrowser"
	"login-server/internal/testprogram"
)

// The identities of one person, Ada, at all providers, as they are to stand in a token. The
// iD of ORCID is one that its documentation uses.
var (
	adaAtLibrary = object{"id": "u-1815", "name": "Ada Lovelace", "username": "ada"}
	adaAtGoogle  = object{"id": "118159023847561029384", "name": "Ada at Google"}
	adaAtORCID   = object{"id": "0000-0002-1825-0097", "name": "Ada Lovelace"}
)

// The secret of the client has what an Authorization header must not have as it is (RFC
// 6749, 2.3.1).
const clientSecret = "at least 32: 100%+/&=? characters"

// library is an entry of providers.json for a provider of an institution.
func library(u *upstream, more object) object {
	entry := object{"id": "library", "strategy": "oidc", "name": "State Library", "options": object{
		"issuer": u.issuer, "clientID": "login-server", "clientSecret": clientSecret,
	}}
	maps.Copy(entry["options"].(object), more)
	return entry
}

func startLibrary(t *testing.T, s *loginServer, more object) *upstream {
	settings := object{"clientID": "login-server", "clientSecret": clientSecret, "callback": s.callback("library"), "accounts": object{
		"u-1815": object{"name": "Ada Lovelace", "preferred_username": "ada", "email": "ada@example.org", "email_verified": true},
		"u-1906": object{"name": "Grace Hopper", "preferred_username": "grace"},
	}}
	maps.Copy(settings, more)
	return startUpstream(t, "op.mjs", settings)
}

// to goes to a provider from our login page.
func (b *tab) to(provider string) {
	b.t.Helper()
	b.visit("login")
	b.Click(`ul.providers a[href*="login/` + provider + `"]`)
}

// signInAt fills in the form of oidc-provider, and agrees.
func (b *tab) signInAt(u *upstream, account string) {
	b.t.Helper()
	b.Fill(`input[name=login]`, account)
	if !strings.HasPrefix(b.Location(), u.issuer) {
		b.t.Fatalf("the address is %s, want one at %s", b.Location(), u.issuer)
	}
	b.Fill(`input[name=password]`, "any")
	b.Click(`.login-submit`)
	b.Click(`input[value=consent] + button`)
}

// isIn checks that the browser is at the account page.
func (b *tab) isIn() {
	b.t.Helper()
	b.See(`#name`)
	b.At(b.server.Base + "account")
}

func (b *tab) signOut() {
	b.t.Helper()
	b.Click(`header a[href$="logout"]`)
	b.See(`ul.providers`)
}

// identities are those of the person who is signed in, as a backend reads them: out of a
// token from GET /token, verified with the key of /about.
func (b *tab) identities() (user string, identities object) {
	b.t.Helper()
	var about struct{ PublicKey, Algorithm string }
	getJSON(b.t, b.server.Base+"about", &about)
	key, err := jwt.ParseRSAPublicKeyFromPEM([]byte(about.PublicKey))
	if err != nil {
		b.t.Fatal(err)
	}
	token := testbrowser.Get[string](b, `fetch(`+testbrowser.Quote(b.server.Base+"token")+`).then(r => r.json()).then(r => r.token)`)
	var claims struct {
		jwt.RegisteredClaims
		User struct {
			ID         string `json:"_id"`
			Identities object
		}
	}
	if _, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{about.Algorithm})); err != nil {
		b.t.Fatalf("token: %v", err)
	}
	return claims.User.ID, claims.User.Identities
}

// hasIdentities checks the identities in the token of whoever is signed in. There must be
// no others, and nothing in them but what is wanted, and an address.
func (b *tab) hasIdentities(want object) (user string) {
	b.t.Helper()
	user, got := b.identities()
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		b.t.Errorf("the token has identities of %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	for provider, identity := range want {
		got, _ := got[provider].(object)
		delete(got, "uri")
		if !maps.Equal(got, identity.(object)) {
			b.t.Errorf("%s: the token says %v, want %v", provider, got, identity)
		}
	}
	return user
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	needAll(t)
	s := newLoginServer(t)
	u := startLibrary(t, s, nil)
	s.start(t, []object{library(u, nil)})
	b := newTab(t, s, "de-CH, en;q=0.5")

	b.visit("login")
	b.Shots("login")
	b.to("library")
	b.See(`input[name=login]`)
	asked := u.asked(t)
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "login-server", "redirect_uri": s.callback("library"), "code_challenge_method": "S256", "ui_locales": "de",
	} {
		if asked[name] != want {
			t.Errorf("the provider is asked with %s=%q, want %q", name, asked[name], want)
		}
	}
	if scopes := strings.Fields(asked["scope"]); !slices.Contains(scopes, "openid") || !slices.Contains(scopes, "profile") {
		t.Errorf("asked for the scopes %v", scopes)
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(asked[name]) < 32 {
			t.Errorf("the provider is asked with %s=%q", name, asked[name])
		}
	}

	b.signInAt(u, "u-1815")
	b.isIn()
	b.Shots("account")
	first := b.hasIdentities(object{"library": adaAtLibrary})

	// The address of the answer is used up: going back must not do anything again, or end
	// in an error.
	b.Do("go back", chromedp.NavigateBack())
	b.visit("account")
	b.isIn()
	b.signOut()
	b.Shots("signed-out")

	// The provider still knows who is there.
	b.to("library")
	b.isIn()
	if again := b.hasIdentities(object{"library": adaAtLibrary}); again != first {
		t.Errorf("another account the second time: %s, then %s", first, again)
	}
	if again := u.asked(t); again["state"] == asked["state"] || again["nonce"] == asked["nonce"] || again["code_challenge"] == asked["code_challenge"] {
		t.Error("state, nonce or code_challenge is used twice")
	}
	b.signOut()

	t.Run("two tabs", func(t *testing.T) {
		one := newTab(t, s, "en")
		one.to("library")
		one.See(`input[name=login]`)
		two := one.another()
		two.to("library")
		two.signInAt(u, "u-1906")
		two.isIn()
		// The form of the first is still open, and its login still good: for the same person.
		one.Fill(`input[name=login]`, "u-1906")
		one.Fill(`input[name=password]`, "any")
		one.Click(`.login-submit`)
		one.isIn()
		one.Reads(`.message`, "You are signed in.")
		two.hasIdentities(object{"library": object{"id": "u-1906", "name": "Grace Hopper", "username": "grace"}})
	})
}

// TestOptions: what an operator may want of a provider arrives there. The answer is posted by
// a page of another site, which sends none of our cookies along.
func TestOptions(t *testing.T) {
	t.Parallel()
	needAll(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><link rel=icon href='data:,'><title>Application</title><h1 id=app>Application</h1>"))
	}))
	t.Cleanup(app.Close)
	s := newLoginServer(t)
	u := startLibrary(t, s, object{"authMethod": "client_secret_post", "algorithm": "ES256"})
	s.start(t, []object{library(u, object{"prompt": "login", "scope": "openid profile email", "responseMode": "form_post"})}, "ALLOWED_ORIGINS="+app.URL)

	b := newTab(t, s, "en")
	for i := range 2 { // although the provider knows who is there
		b.visit("login?redirect_uri=" + url.QueryEscape(app.URL+"/page?a=1&b=2"))
		b.Click(`ul.providers a`)
		b.Fill(`input[name=login]`, "u-1815")
		if asked := u.asked(t); asked["prompt"] != "login" || asked["scope"] != "openid profile email" || asked["ui_locales"] != "en" || asked["response_mode"] != "form_post" {
			t.Errorf("asked with %v", asked)
		}
		b.Fill(`input[name=password]`, "any")
		b.Click(`.login-submit`)
		if i == 0 { // it remembers what somebody agreed to
			b.Click(`input[value=consent] + button`)
		}
		b.See(`#app`)
		if where := b.Location(); where != app.URL+"/page?a=1&b=2" {
			t.Errorf("led to %s", where)
		}
		b.visit("account")
		b.hasIdentities(object{"library": adaAtLibrary})
		b.signOut()
	}
}

// startBrand starts what takes the place of a provider with a strategy of its own.
func startBrand(t *testing.T, s *loginServer, id, prompt string, accounts, claims object) (*upstream, object) {
	u := startUpstream(t, "op.mjs", object{"clientID": "login-server", "clientSecret": clientSecret, "callback": s.callback(id), "accounts": accounts, "claims": claims})
	return u, object{"id": id, "strategy": id, "name": map[string]string{"google": "Google", "orcid": "ORCID"}[id], "template": "https://" + id + ".example/{id}",
		"options": object{"issuer": u.issuer, "clientID": "login-server", "clientSecret": clientSecret, "prompt": prompt}}
}

// TestLink connects what a person has at Google and at ORCID to one account.
func TestLink(t *testing.T) {
	t.Parallel()
	needAll(t)
	s := newLoginServer(t)
	google, googleEntry := startBrand(t, s, "google", "select_account",
		object{adaAtGoogle["id"].(string): object{"name": adaAtGoogle["name"], "email": "ada@gmail.com", "email_verified": true},
			"223344": object{"name": "Grace at Google"}},
		object{"openid": []string{"sub"}, "profile": []string{"name", "given_name", "family_name", "picture"}, "email": []string{"email", "email_verified"}})
	orcid, orcidEntry := startBrand(t, s, "orcid", "login",
		object{adaAtORCID["id"].(string): object{"given_name": "Ada", "family_name": "Lovelace"}},
		object{"openid": []string{"sub", "given_name", "family_name"}})
	s.start(t, []object{googleEntry, orcidEntry})
	b := newTab(t, s, "en")

	b.to("google")
	b.signInAt(google, adaAtGoogle["id"].(string))
	b.isIn()
	user := b.hasIdentities(object{"google": adaAtGoogle})

	// From the account page it goes straight on.
	b.Click(`.card a[href*="login/orcid"]`)
	b.signInAt(orcid, adaAtORCID["id"].(string))
	b.isIn()
	b.Reads(`.message`, "ORCID is now connected to your account.")
	b.Shots("linked")
	both := object{"google": adaAtGoogle, "orcid": adaAtORCID}
	if got := b.hasIdentities(both); got != user {
		t.Errorf("linking led to the account %s, want %s", got, user)
	}
	if uri := testbrowser.Get[string](b, `fetch("/currentUser").then(r => r.json()).then(u => u.identities.orcid.uri)`); uri != "https://orcid.example/0000-0002-1825-0097" {
		t.Errorf("the address of the ORCID iD is %q", uri)
	}

	// Each opens the account now. Asked to, they let people say who they are although they
	// know somebody.
	for _, provider := range []struct {
		id     string
		at     *upstream
		prompt string
	}{{"orcid", orcid, "login"}, {"google", google, "select_account"}} {
		b.signOut()
		b.to(provider.id)
		b.Fill(`input[name=login]`, both[provider.id].(object)["id"].(string))
		if got := provider.at.asked(t)["prompt"]; got != provider.prompt {
			t.Errorf("%s is asked with prompt=%q, want %q", provider.id, got, provider.prompt)
		}
		b.Fill(`input[name=password]`, "any")
		b.Click(`.login-submit`)
		b.isIn()
		if got := b.hasIdentities(both); got != user {
			t.Errorf("%s opens the account %s, want %s", provider.id, got, user)
		}
	}

	t.Run("already connected", func(t *testing.T) {
		b := b.in(t)
		b.visit("login/orcid")
		b.isIn()
		b.Reads(`.message`, "ORCID is already connected to your account.")
	})
	t.Run("disconnect", func(t *testing.T) {
		b := b.in(t)
		b.Click(`form[action*="disconnect/orcid"] button`)
		b.Reads(`.message`, "ORCID is no longer connected to your account.")
		b.hasIdentities(object{"google": adaAtGoogle})
	})
}

// TestCancel: who changes their mind at the provider comes back to where they were.
func TestCancel(t *testing.T) {
	t.Parallel()
	needAll(t)
	s := newLoginServer(t)
	u := startLibrary(t, s, nil)
	orcid, orcidEntry := startBrand(t, s, "orcid", "login", object{}, nil)
	s.start(t, []object{library(u, nil), orcidEntry})
	const abort = `a[href$="/abort"]`

	b := newTab(t, s, "en")
	b.to("library")
	b.Click(abort)
	b.Reads(`.message`, "The sign-in with State Library was cancelled.")
	b.At(s.Base + "login")
	b.Shots("cancelled")

	// After the form, when it asks whether the server may know who somebody is.
	b.to("library")
	b.Fill(`input[name=login]`, "u-1815")
	b.Fill(`input[name=password]`, "any")
	b.Click(`.login-submit`)
	b.See(`input[value=consent] + button`)
	b.Click(abort)
	b.Reads(`.message`, "The sign-in with State Library was cancelled.")
	b.At(s.Base + "login")

	// Trying again is all it takes.
	b.to("library")
	b.Click(`input[value=consent] + button`)
	b.isIn()

	// A link from elsewhere leads to a page that asks, not to the provider.
	b.visit("login/orcid")
	b.Reads(`h1`, "Connect ORCID")
	b.Shots("asks")
	b.Click(`#depart`)
	b.See(`input[name=login]`)
	if where := b.Location(); !strings.HasPrefix(where, orcid.issuer) {
		t.Errorf("the form is at %s", where)
	}
	b.Click(abort)
	b.isIn()
	b.Reads(`.message`, "ORCID was not connected, because you cancelled it there.")
	b.Shots("cancelled-linking")
	b.hasIdentities(object{"library": adaAtLibrary})
}

// TestProviderAway: a provider that does not answer hinders nobody else, and is back as
// soon as it answers.
func TestProviderAway(t *testing.T) {
	t.Parallel()
	needAll(t)
	s := newLoginServer(t)
	u := startLibrary(t, s, nil)
	u.stop(t)
	s.start(t, []object{library(u, nil), {"id": "test", "strategy": "test", "name": "Test",
		"options": object{"users": []object{{"username": "ada", "password": "secret"}}}}})
	b := newTab(t, s, "en")
	away := func() {
		t.Helper()
		b.to("library")
		b.Reads(`.message`, "State Library does not answer at the moment. Please try again later, or choose another way.")
		b.At(s.Base + "login")
	}

	away() // never seen since the server has started
	b.Shots("away")
	b.Click(`ul.providers a[href*="login/test"]`)
	b.Fill(`input[name=username]`, "ada")
	b.Fill(`input[name=password]`, "secret")
	b.Click(`#login-submit`)
	b.isIn()
	b.signOut()

	u.start(t)
	b.to("library")
	b.signInAt(u, "u-1815")
	b.isIn()
	b.hasIdentities(object{"library": adaAtLibrary})
	b.signOut()

	// It stops after the browser has its answer, before the server has asked for the tokens,
	// and comes back with other keys: the ID Token names one that the server has never seen.
	b.holding(s.callback("library"), func() { b.to("library") }, func() { u.stop(t) })
	b.Reads(`.message`, "State Library does not answer at the moment.")
	b.At(s.Base + "login")
	u.start(t)
	b.to("library")
	b.signInAt(u, "u-1815")
	b.isInAtLast()
	b.hasIdentities(object{"library": adaAtLibrary})
}

// TestKeysReplaced: a provider that has other keys from one moment to the next, although it
// said nothing of them before.
func TestKeysReplaced(t *testing.T) {
	t.Parallel()
	needAll(t)
	s := newLoginServer(t)
	u := startLibrary(t, s, nil)
	s.start(t, []object{library(u, nil)})
	b := newTab(t, s, "en")
	b.to("library")
	b.signInAt(u, "u-1815")
	b.isIn()
	user := b.hasIdentities(object{"library": adaAtLibrary})
	b.signOut()
	u.stop(t)
	u.start(t)
	b.to("library")
	b.signInAt(u, "u-1815")
	b.isInAtLast()
	if again := b.hasIdentities(object{"library": adaAtLibrary}); again != user {
		t.Errorf("another account with other keys: %s, then %s", user, again)
	}
}

// isInAtLast is isIn for somebody who comes back from a provider with other keys. Those are
// asked for every ten seconds at most: who comes earlier has to try again.
func (b *tab) isInAtLast() {
	b.t.Helper()
	deadline := time.Now().Add(testprogram.Patience)
	for b.See(`.message`); b.Location() != b.server.Base+"account"; b.See(`.message`) {
		b.Reads(`.message`, "The answer of State Library could not be used")
		if time.Now().After(deadline) {
			b.t.Fatal("the new keys are not taken")
		}
		b.to("library")
	}
	b.isIn()
}

// TestSecondOpinion signs in at another implementation, with both usual algorithms.
func TestSecondOpinion(t *testing.T) {
	t.Parallel()
	needAll(t)
	for _, algorithm := range []string{"RS256", "ES256"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := newLoginServer(t)
			u := startUpstream(t, "mock.mjs", object{"algorithm": algorithm})
			s.start(t, []object{library(u, nil)})
			u.tell(t, object{
				"token":    object{"sub": "u-1815", "name": "Ada Lovelace", "preferred_username": "ada"},
				"userinfo": object{"sub": "u-1815", "name": "Ada Lovelace", "preferred_username": "ada"},
			})
			b := newTab(t, s, "en")
			b.to("library")
			b.isIn()
			b.hasIdentities(object{"library": adaAtLibrary})
		})
	}
}

// TestWrongAnswers: a provider that answers what it must not lets nobody in, and people
// are told what they can do.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	needAll(t)
	s := newLoginServer(t)
	u := startUpstream(t, "mock.mjs", object{"algorithm": "RS256"})
	s.start(t, []object{library(u, nil)})
	b := newTab(t, s, "en")
	b.AllowStatus(http.StatusBadRequest)

	const (
		unusable  = "The answer of State Library could not be used"
		away      = "State Library does not answer at the moment."
		cancelled = "The sign-in with State Library was cancelled."
	)
	tests := []struct {
		name, want string
		order      object
	}{
		{"no nonce", unusable, object{"token": object{"nonce": nil}}},
		{"nonce of another login", unusable, object{"token": object{"nonce": "n-0S6_WzA2Mj"}}},
		{"for another client", unusable, object{"token": object{"aud": "other"}}},
		{"handed on to another client", unusable, object{"token": object{"aud": []string{"login-server", "other"}, "azp": "other"}}},
		{"of another issuer", unusable, object{"token": object{"iss": "http://127.0.0.1:1"}}},
		{"expired", unusable, object{"token": object{"exp": 1767225600}}},
		{"without an end", unusable, object{"token": object{"exp": nil}}},
		{"about nobody", unusable, object{"token": object{"sub": nil}}},
		{"about the empty name", unusable, object{"token": object{"sub": ""}}},
		{"userinfo about somebody else", unusable, object{"token": object{"sub": "u-1815"}, "userinfo": object{"sub": "u-1906"}}},
		{"no code", unusable, object{"answer": object{"code": nil}}},
		{"a code that it has not made", unusable, object{"answer": object{"code": "SplxlOBeZQQYbYS6WxSbIA"}}},
		{"an answer that another issuer claims", unusable, object{"answer": object{"iss": "http://127.0.0.1:1"}}},
		{"an error nobody has heard of", unusable, object{"answer": object{"code": nil, "error": "<b>x</b>", "error_description": "<script>document.title='x'</script>"}}},
		{"overloaded", away, object{"answer": object{"code": nil, "error": "temporarily_unavailable"}}},
		{"denied", cancelled, object{"answer": object{"code": nil, "error": "access_denied"}}},
		{"an error beside a code", cancelled, object{"answer": object{"error": "access_denied"}}},
	}
	nobody := func(b *tab) {
		b.t.Helper()
		if status := testbrowser.Get[int](b, `fetch("/currentUser").then(r => r.status)`); status != http.StatusUnauthorized {
			b.t.Errorf("/currentUser answers %d", status)
		}
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := b.in(t)
			b.Forget()
			u.tell(t, tc.order)
			b.to("library")
			b.Reads(`.message`, tc.want)
			b.At(s.Base + "login")
			nobody(b)
		})
	}
	for name, order := range map[string]object{
		"no state":                {"answer": object{"state": nil}},
		"state of nobody":         {"answer": object{"state": strings.Repeat("x", 43)}},
		"state and iss of nobody": {"answer": object{"state": "", "iss": "http://127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			u.tell(t, order)
			b.to("library")
			b.Reads(`.error-page h1`, "This sign-in has expired")
			b.Shots("no-attempt")
			nobody(b)
		})
	}

	u.tell(t, object{})
	b.to("library")
	b.isIn()
}
