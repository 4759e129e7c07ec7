package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"

	"login-server/internal/testbrowser"
	"login-server/internal/testprogram"
)

// startWithAccounts runs a server with accounts that live here beside the usual providers.
func startWithAccounts(t testing.TB) *server {
	t.Helper()
	s := &server{testprogram.New(t)}
	files := settings(t, nil)
	files["providers.json"] = append(files["providers.json"].([]map[string]any), map[string]any{"id": "account", "strategy": "account", "name": "Account",
		"options": map[string]any{"hashing": map[string]any{"memoryKiB": 8192}}})
	s.Start(t, files)
	return s
}

// authenticator gives the browser one that verifies whoever it asks, as a phone or laptop does.
func (b *tab) authenticator() webauthn.AuthenticatorID {
	b.t.Helper()
	testbrowser.Call(b, webauthn.Enable, webauthn.EnableParams{})
	return testbrowser.Call(b, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}).AuthenticatorID
}

// touches says whether the person touches the authenticator when it asks.
func (b *tab) touches(id webauthn.AuthenticatorID, yes bool) {
	b.t.Helper()
	testbrowser.Call(b, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: id, Enabled: yes})
}

// passkeys are those that the authenticator keeps.
func (b *tab) passkeys(id webauthn.AuthenticatorID) []*webauthn.Credential {
	b.t.Helper()
	return testbrowser.Call(b, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: id}).Credentials
}

var withScript = person{script: true, accept: "en-GB"}

func TestPasskeyFromSignUpOn(t *testing.T) {
	s := startWithAccounts(t)
	b := newTab(t, withScript)
	key := b.authenticator()

	b.visit(s.to("signup/passkey"))
	b.fill("#name", "Ada Lovelace")
	b.follow("#signup-submit")
	b.reads("h1", "Create an account with a passkey")
	b.Shots("passkey-signup")
	b.follow("#passkey-button")
	b.At(s.to("security/passkeys"))
	b.reads("", "Welcome, Ada Lovelace", "Chrome on Linux", "On one device only")
	if n := len(b.passkeys(key)); n != 1 {
		t.Errorf("the authenticator has %d passkeys", n)
	}
	b.Shots("passkeys")

	// By the button, while the browser offers passkeys in the field as well.
	b.signOut(s)
	b.touches(key, false)
	b.visit(s.to("login/account"))
	b.Shots("passkey-login")
	b.touches(key, true)
	b.follow("#passkey-button")
	b.At(s.to("account"))
	b.reads("", "Ada Lovelace")

	// At once, where the link says that it is what somebody wants.
	b.signOut(s)
	b.visit(s.to("login/account?passkey=1"))
	b.UntilTrue(`location.pathname === "/account" && document.readyState === "complete"`)

	// In the field. This browser has no screen, and so no list to choose from: it takes what
	// somebody would choose.
	testbrowser.Call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const get = navigator.credentials.get.bind(navigator.credentials);
		navigator.credentials.get = ({ mediation, ...rest }) => mediation === "conditional" ? get(rest) : Promise.reject(new Error("nobody has asked"));
	}`})
	b.signOut(s)
	b.visit(s.to("login/account"))
	b.UntilTrue(`location.pathname === "/account" && document.readyState === "complete"`)
}

// signOut leaves nobody signed in.
func (b *tab) signOut(s *server) {
	b.t.Helper()
	b.visit(s.to("logout"))
	b.follow("main button[type=submit]")
	b.At(s.to("login"))
}

func TestPasskeyList(t *testing.T) {
	s := startWithAccounts(t)
	b := newTab(t, withScript)
	key := b.authenticator()
	b.visit(s.to("login/test"))
	b.fill("#username", ada)
	b.fill("#password", adaPassword)
	b.follow("#login-submit")

	b.visit(s.to("security/passkeys"))
	b.reads("", "You have no passkeys yet")
	b.follow("#passkey-add")
	b.fill("#passkey-name", "Laptop")
	b.follow("#passkey-button")
	b.At(s.to("security/passkeys"))
	b.reads("#passkeys", "Laptop", "never")

	// The same authenticator is not asked to make another one.
	b.follow("#passkey-add")
	b.click("#passkey-button")
	b.UntilTrue(`!document.querySelector("#passkey-error").hidden`)
	b.reads("#passkey-error", "This passkey is already known here")
	b.visit(s.to("security/passkeys"))

	b.click("#passkeys summary")
	b.fill("#passkeys input[name=name]", "Key ring")
	b.follow("#passkeys .rename button")
	b.reads("#passkeys", "Key ring")

	// As the second factor of who has signed in with a password: a touch is enough.
	b.visit(s.to("factor?redirect_uri=" + s.to("account")))
	b.Shots("passkey-factor")
	b.follow("#passkey-button")
	b.At(s.to("account"))
	b.visit(s.to("security/passkeys"))
	if shown := b.text("#passkeys"); strings.Contains(shown, "never") {
		t.Errorf("the passkey was used, and the page says: %s", shown)
	}

	b.follow("#passkeys form:not(.rename form) .danger")
	b.reads("", "was removed", "You have no passkeys yet")
	b.signOut(s)
	b.AllowStatus(401)
	b.visit(s.to("login/account?passkey=1"))
	b.UntilTrue(`document.body.innerText.includes("This passkey is not known here")`)
	if n := len(b.passkeys(key)); n != 1 {
		t.Errorf("the authenticator has %d passkeys", n)
	}
}

// Who does not touch the authenticator stays where they are, and can try again.
func TestPasskeyCancelled(t *testing.T) {
	s := startWithAccounts(t)
	b := newTab(t, withScript)
	b.authenticator()
	b.visit(s.to("login/account"))
	b.click("#passkey-button") // there is no passkey to choose
	b.UntilTrue(`!document.querySelector("#passkey-error").hidden`)
	b.reads("#passkey-error", "No passkey was chosen")
	if b.has("#passkey-button[aria-busy]") {
		t.Error("the button waits for ever")
	}
}

func TestPasskeyPagesWithoutScript(t *testing.T) {
	s := startWithAccounts(t)
	b := newTab(t, person{accept: "en-GB"})
	for _, path := range []string{"login/account", "signup/passkey"} {
		b.visit(s.to(path))
		b.reads("main", "Passkeys need JavaScript")
	}
	b.visit(s.to("login/account"))
	if shown := b.text("#passkey-button"); strings.Contains(shown, "passkey") && testbrowser.Get[bool](b, `document.querySelector("#passkey-button").checkVisibility()`) {
		t.Errorf("there is a button that does nothing: %s", shown)
	}
	if !b.has("#password") {
		t.Error("there is no other way")
	}
}
