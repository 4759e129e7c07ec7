package openid

import (
	"strings"
	"testing"

	"login-server/internal/testbrowser"
)

// chromium is the one browser that all tests share. It trusts the certificate of the test by
// its key.
var chromium = testbrowser.Browser{Flags: func(t testing.TB) map[string]any {
	prepare(t)
	return map[string]any{"ignore-certificate-errors-spki-list": shared.pin}
}}

// tab is one page of a browser.
type tab struct {
	*testbrowser.Tab
	t      testing.TB
	server *server
}

var options = testbrowser.Options{
	// What a policy or CORS holds back is said in the console, and nowhere else.
	Minds:   func(c testbrowser.Complaint) bool { return c.Security() || strings.Contains(c.Text, "CORS") },
	Explain: `document.body.innerText + (window.app ? "\n" + JSON.stringify([app.error, app.heard]) : "")`,
}

// newTab opens a browser with cookies of its own.
func newTab(t testing.TB, s *server) *tab {
	t.Helper()
	return &tab{chromium.New(t, options), t, s}
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return &tab{b.Another(options), b.t, b.server}
}

// signIn goes on from the login page, to where it leads.
func (b *tab) signIn(name string) {
	b.t.Helper()
	b.Click(`a.provider[href*="login/test"]`)
	b.Fill("#username", name)
	b.Fill("#password", name+"-pass")
	b.Click("#login-submit")
}

// signOut signs out on the account page.
func (b *tab) signOut() {
	b.t.Helper()
	b.Visit(b.server.url("account"))
	b.Click(`header a[href$="logout"]`)
}
