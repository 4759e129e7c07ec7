package openid

import (
	"fmt"
	"syscall"
	"testing"

	"login-server/internal/testbrowser"
	"login-server/internal/testenv"
	"login-server/internal/testprogram"
)

// TestExpress is an application with express-openid-connect, in a browser: it signs people
// in and out, and hears of it by back-channel when they have signed out elsewhere.
func TestExpress(t *testing.T) {
	t.Parallel()
	testenv.NeedChromium(t)
	testenv.NeedNode(t, 20)
	testenv.NeedPackages(t, ".", "express-openid-connect")
	origin := fmt.Sprintf("https://127.0.0.1:%d", testprogram.FreePort(t, "127.0.0.1"))
	s := startServer(t, []object{{
		"url": origin + "/", "name": "Express application", "client_id": "express", "client_secret": secret,
		"redirect_uris": []string{origin + "/callback"}, "post_logout_redirect_uris": []string{origin},
		"backchannel_logout_uri": origin + "/backchannel-logout", "backchannel_logout_session_required": true,
	}})
	app := testprogram.NewProcess(nodeCommand(t, object{"issuer": s.issuer, "secret": secret, "origin": origin, "cert": inShared("cert.pem"), "key": inShared("key.pem")}, "express.mjs"))
	app.Cmd.Stdout, app.Cmd.Stderr = app.Said, app.Said
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = app.Stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the application says:\n%s", app.Said)
		}
	})
	if err := app.Until("is ready", func(lines []string) bool { return len(lines) > 0 }); err != nil {
		t.Fatal(err)
	}

	page := newTab(t, s)
	page.Visit(origin + "/profile")
	page.signIn("bob")
	page.Click("#consent-allow")
	if name := page.See("#name"); name != "Bob" {
		t.Errorf("the application calls the person %q", name)
	}
	sid := page.See("#sid")

	// Signed out at the server, the application has no session any more.
	page.another().signOut()
	testbrowser.Wait[bool](page, `fetch("/state").then(r => r.json()).then(signedIn => signedIn ? null : true)`)

	page.Visit(origin + "/profile")
	page.signIn("bob")
	page.See("#name")
	if again := page.See("#sid"); again != sid {
		t.Errorf("the handle of the browser's session was %s and is %s", sid, again)
	}
	page.Click("#logout")
	if state := page.See("#state"); state != "signed out" {
		t.Errorf("the application says: %s", state)
	}
	page.Visit(s.url("account"))
	page.See(`a.provider[href*="login/test"]`)
}
