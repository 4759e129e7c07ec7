package openid

import (
	"strings"
	"syscall"
	"testing"

	"login-server/internal/testenv"
)

// TestExpress is an application with express-openid-connect, in a browser: it signs people
// in and out, and hears of it by back-channel when they have signed out elsewhere.
func TestExpress(t *testing.T) {
	t.Parallel()
	testenv.NeedChromium(t)
	testenv.NeedNode(t, 20)
	testenv.NeedPackages(t, ".", "express-openid-connect")
	origin := "https://" + freeAddress(t, "127.0.0.1")
	s := startServer(t, []object{{
		"url": origin + "/", "name": "Express application", "client_id": "express", "client_secret": secret,
		"redirect_uris": []string{origin + "/callback"}, "post_logout_redirect_uris": []string{origin},
		"backchannel_logout_uri": origin + "/backchannel-logout", "backchannel_logout_session_required": true,
	}})
	app := newProcess(nodeCommand(t, object{"issuer": s.issuer, "secret": secret, "origin": origin, "cert": inShared("cert.pem"), "key": inShared("key.pem")}, "express.mjs"))
	app.cmd.Stdout, app.cmd.Stderr = app.said, app.said
	app.start(t)
	t.Cleanup(func() {
		_ = app.stop(t, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the application says:\n%s", strings.Join(app.said.lines(), "\n"))
		}
	})
	app.until(t, "is ready", func(lines []string) bool { return len(lines) > 0 })

	page := newTab(t, s)
	page.visit(origin + "/profile")
	page.signIn("bob")
	page.click("#consent-allow")
	if name := page.see("#name"); name != "Bob" {
		t.Errorf("the application calls the person %q", name)
	}
	sid := page.see("#sid")

	// Signed out at the server, the application has no session any more.
	page.another().signOut()
	until[bool](page, `fetch("/state").then(r => r.json()).then(signedIn => signedIn ? null : true)`)

	page.visit(origin + "/profile")
	page.signIn("bob")
	page.see("#name")
	if again := page.see("#sid"); again != sid {
		t.Errorf("the handle of the browser's session was %s and is %s", sid, again)
	}
	page.click("#logout")
	if state := page.see("#state"); state != "signed out" {
		t.Errorf("the application says: %s", state)
	}
	page.visit(s.url("account"))
	page.see(`a.provider[href*="login/test"]`)
}
