package web_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/admin"
	"login-server/audit"
	"login-server/config"
	"login-server/identity"
	"login-server/notify"
	"login-server/oidc"
)

// granted makes who is signed in an administrator.
func (b *browser) granted() identity.Account {
	b.server.t.Helper()
	a, err := b.server.users.Grant(b.server.t.Context(), b.user().ID, identity.RoleAdmin)
	if err != nil {
		b.server.t.Fatal(err)
	}
	return a
}

// administrator is signed in with a passkey, which is both factors, and has the role.
func (s *server) administrator(name string) (*browser, *authenticator, identity.Account) {
	s.t.Helper()
	b, a := s.browser(), s.authenticator()
	b.signUp(a, name)
	return b, a, b.granted()
}

// auditLog is the audit log, the latest entry first.
func (s *server) auditLog(q audit.Query) []audit.Entry {
	s.t.Helper()
	entries, err := audit.NewBook(s.guard, s.clock.Now).List(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	return entries
}

// stored adds a client to the store.
func (s *server) storedClient(id, name string) {
	s.t.Helper()
	_, _, err := oidc.NewRegistry(s.guard, s.clock).Add(s.t.Context(), name, "", config.Client{
		ClientID: id, RedirectURIs: []string{"https://stored.example.org/cb"}, TokenEndpointAuthMethod: "none",
	}, false)
	if err != nil {
		s.t.Fatal(err)
	}
}

// adminPages and adminForms are every page and form of administrators, and adminReads and
// adminCalls every call, for somebody with an id.
func adminPages(id string) []string {
	person := "admin/people/" + id
	return []string{
		"admin", "admin/people", "admin/people?q=ada", person, person + "/ask/delete", person + "/ask/reset-factors", person + "/ask/revoke-admin",
		"admin/invitation", "admin/clients", "admin/clients/stored", "admin/clients/stored/ask/remove", "admin/messages", "admin/messages/remove?id=m",
		"admin/providers", "admin/audit",
	}
}

func adminForms(id string) []string {
	var all []string
	for _, action := range []string{"disable", "enable", "sign-out", "end-session", "reset-factors", "send-reset", "revoke-admin", "delete"} {
		all = append(all, "admin/people/"+id+"/"+action)
	}
	return append(all, "admin/invitation/send", "admin/clients/stored/disable", "admin/clients/stored/enable", "admin/clients/stored/remove",
		"admin/messages/retry", "admin/messages/remove", "admin/audit/verify")
}

func adminReads(id string) []string {
	return []string{"api/v1/admin", "api/v1/admin/people", "api/v1/admin/people/" + id, "api/v1/admin/people/" + id + "/history", "api/v1/admin/clients",
		"api/v1/admin/clients/stored", "api/v1/admin/messages", "api/v1/admin/providers", "api/v1/admin/audit"}
}

func adminCalls(id string) []string {
	var all []string
	for _, form := range adminForms(id) {
		all = append(all, "api/v1/"+strings.Replace(form, "invitation/send", "invitations", 1))
	}
	return all
}

var perRequest = regexp.MustCompile(`nonce="[^"]*"|nonce-[^' ;]*|id="request-id">[^<]*|\?[^"]*lang=[a-z]+|href="[^"]*lang=[a-z]+"`)

// Everybody but an administrator is told that there is nothing, in the words for any other
// path, and nothing happens.
func TestAdminDoesNotExist(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	victim := s.browser()
	victim.login("alpha", "ada")
	id := victim.user().ID
	s.storedClient("stored", "Stored")

	out, plain := s.browser(), s.browser()
	plain.signUp(s.authenticator(), "Plain")
	off, _, disabled := s.administrator("Disabled")
	if _, err := s.users.SetDisabled(t.Context(), disabled.ID, true); err != nil {
		t.Fatal(err)
	}
	former, _, gone := s.administrator("Former")
	former.open("admin").want(200)
	if _, err := s.users.Revoke(t.Context(), gone.ID, identity.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	for who, b := range map[string]*browser{"signed out": out, "without the role": plain, "disabled": off, "revoked in between": former} {
		s.run(who, func(t *testing.T) {
			blank := func(a answer) string { return perRequest.ReplaceAllString(a.body, "") }
			nothing, nothingAPI := blank(b.open("nothing/here").want(404)), blank(b.fetch(testOrigin, "GET", "api/v1/nothing", "").want(404))
			for _, path := range adminPages(id) {
				if got := blank(b.open(path).want(404)); got != nothing {
					t.Errorf("%s is told from a path that there is not:\n%s\n%s", path, got, nothing)
				}
			}
			for _, path := range adminForms(id) {
				b.submit(path, "id", "x", "name", "Ada", "email", "x@example.org").want(404)
				b.open(path).want(404) // nor does a method that is not allowed tell
			}
			for _, path := range adminReads(id) {
				if got := blank(b.fetch(testOrigin, "GET", path, "").want(404)); got != nothingAPI {
					t.Errorf("%s is told from a path that there is not: %s", path, got)
				}
			}
			for _, path := range adminCalls(id) {
				b.fetch(testOrigin, "POST", path, `{"name": "Ada"}`).want(404)
				b.fetch(testOrigin, "POST", path, strings.Repeat("x", 100_000)).want(404)
				b.fetch(testOrigin, "DELETE", path, "").want(404)
			}
			for _, page := range []string{"account", "security"} {
				if a := b.open(page); a.status == 200 {
					a.wantNot(`href="/admin"`)
				}
			}
		})
	}
	if log := s.auditLog(audit.Query{}); len(log) > 0 {
		t.Errorf("the audit log has %+v", log[0])
	}
	if a, err := s.users.Get(t.Context(), id); err != nil || a.Disabled || victim.user().ID != id {
		t.Errorf("something was done: %+v, %v", a, err)
	}
}

// An administrator gives a second factor, every half hour.
func TestAdminStepUp(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.storedClient("stored", "Stored")
	b := s.browser()
	b.login("alpha", "ada")
	b.granted()
	id := b.user().ID
	closed := func(why string) {
		t.Helper()
		for _, path := range adminPages(id) {
			if at := b.open(path).want(302).location(); !strings.HasPrefix(at, "/factor?") || !strings.Contains(at, url.QueryEscape(testOrigin+"/"+strings.SplitN(path, "?", 2)[0])) {
				t.Errorf("%s: %s leads to %s", why, path, at)
			}
		}
		for _, path := range adminForms(id) {
			at := b.submit(path).want(302).location()
			u, err := url.Parse(at)
			if err != nil || u.Path != "/factor" {
				t.Fatalf("%s: %s leads to %s", why, path, at)
			}
			// What is led back to is a page.
			back := strings.TrimPrefix(u.Query().Get("redirect_uri"), testOrigin+"/")
			if !slices.Contains(adminPages(id), back) {
				t.Errorf("%s: from %s there is no way back but %s", why, path, back)
			}
		}
		for _, path := range adminReads(id) {
			b.fetch(testOrigin, "GET", path, "").want(403, "factor_required")
		}
		for _, path := range adminCalls(id) {
			b.fetch(testOrigin, "POST", path, `{}`).want(403, "factor_required")
		}
	}
	closed("no factor")
	// Who has none is led to set one up, and back.
	b.open(b.open("admin").location()).want(200, "Set up", "security/app")
	app, _ := b.setUpApp()
	b.open("admin").want(200, "Overview")
	s.clock.Advance(31 * time.Minute)
	closed("stale")
	at := b.open("admin/audit").location()
	b.submit(at, "code", "000000").want(302)
	b.open("admin/audit").want(302)
	b.submit(at, "code", app.code(s.clock.Now())).leadsTo(testOrigin + "/admin/audit")
	b.open("admin/audit").want(200)

	// A browser that is trusted is no second factor.
	s.clock.Advance(2 * time.Minute)
	other := s.browser()
	b.twoSteps()
	step := other.toFactor("login/alpha", "ada")
	other.submit(step, "code", app.code(s.clock.Now()), "trust", "on").want(302)
	other.submit("logout").want(302)
	other.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302)
	other.get("currentUser").want(200)
	if at := other.open("admin").want(302).location(); !strings.HasPrefix(at, "/factor?") {
		t.Errorf("a trusted browser is led to %s", at)
	}
}

// Whose only factor is the passkey that they have signed in with signs in with it anew.
func TestAdminPasskeyAlone(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, key, _ := s.administrator("Grace")
	b.open("admin").want(200)
	s.clock.Advance(31 * time.Minute)
	at := b.open("admin/people").want(302).location()
	u, err := url.Parse(at)
	if err != nil || u.Path != "/login" || u.Query().Get("fresh") != "1" {
		t.Fatalf("led to %s", at)
	}
	b.open(at).want(200)
	b.passkeyLogin(key, "?"+u.RawQuery).leadsTo(testOrigin + "/admin/people")
	b.open("admin/people").want(200)
}

// No other origin, also none that is allowed elsewhere, reads or does anything.
func TestAdminOtherOrigins(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	s.storedClient("stored", "Stored")
	victim := s.browser()
	victim.login("alpha", "ada")
	id := victim.user().ID
	b, _, _ := s.administrator("Grace")
	for _, origin := range []string{appOrigin, toolOrigin, evilOrigin, "null"} {
		for _, path := range append(adminReads(id), "admin", "admin/people") {
			a := b.fetch(origin, "GET", path, "")
			for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
				if a.header.Get(name) != "" {
					t.Errorf("%s may read %s", origin, path)
				}
			}
			if strings.HasPrefix(path, "api/") {
				a.want(403, "cross_site")
			}
		}
		for _, path := range adminCalls(id) {
			b.fetch(origin, "POST", path, `{"name": "Ada"}`).want(403, "cross_site")
			b.fetch(origin, "DELETE", path, "").want(403, "cross_site")
			if a := b.send("OPTIONS", path, headers("Origin", origin, "Access-Control-Request-Method", "POST", "Sec-Fetch-Site", "cross-site"), ""); a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s may call %s", origin, path)
			}
		}
		for _, path := range adminForms(id) {
			b.submitFrom(origin+"/", path, "name", "Ada").want(403)
		}
	}
	// A form cannot send JSON, and another type is none.
	b.send("POST", "api/v1/admin/people/"+id+"/disable", headers("Origin", testOrigin, "Sec-Fetch-Site", "same-origin", "Content-Type", "text/plain"), `{}`).want(415)
	b.open("admin/people/" + id + "/disable").want(405)
	if log := s.auditLog(audit.Query{}); len(log) > 0 {
		t.Errorf("the audit log has %+v", log[0])
	}
	victim.get("currentUser").want(200)
}

// TestAdminActions does everything that can be done, once by page and once by call, and finds
// what has begun and what has ended in the audit log.
func TestAdminActions(t *testing.T) {
	for _, how := range []string{"page", "call"} {
		t.Run(how, func(t *testing.T) {
			s := newServer(t, withAccounts(`{}`), applications(oauthApplications))
			b, _, grace := s.administrator("Grace")
			_, _, second := s.administrator("Second")
			s.storedClient("stored", "Stored")
			victim := s.browser()
			victim.login("alpha", "ada")
			victim.setUpApp()
			s.verifiedEmail(victim, "ada@example.org")
			id := victim.user().ID
			other := s.browser()
			other.login("beta", "ben")
			handle := func() string {
				sessions, err := s.sessions.Of(t.Context(), id)
				if err != nil || len(sessions) == 0 {
					t.Fatalf("sessions: %v", err)
				}
				return sessions[0].Handle
			}
			message := func() string {
				if err := s.notify.Mail(t.Context(), notify.Mail{To: "x@example.org", Subject: "s", Text: "the secret code 123456", Kind: "verify"}); err != nil {
					t.Fatal(err)
				}
				items, err := s.notify.List(t.Context(), notify.Filter{})
				for _, m := range items {
					if m.To == "x@example.org" {
						return m.ID
					}
				}
				t.Fatalf("messages: %+v, %v", items, err)
				return ""
			}
			act := func(path string, fields ...string) {
				t.Helper()
				if how == "page" {
					if at := b.submit("admin/"+path, fields...).want(302).location(); !strings.HasPrefix(at, "/admin/") {
						t.Errorf("%s leads to %s", path, at)
					}
					return
				}
				body := map[string]string{}
				for i := 0; i+1 < len(fields); i += 2 {
					body[fields[i]] = fields[i+1]
				}
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				if a := b.fetch(testOrigin, "POST", "api/v1/admin/"+strings.Replace(path, "invitation/send", "invitations", 1), string(text)); a.status != 200 && a.status != 204 {
					t.Errorf("%s: %d %s", path, a.status, a.text())
				}
			}
			person := "people/" + id + "/"
			for _, step := range []struct {
				action string
				do     func()
			}{
				{admin.ActionSendReset, func() { act(person + "send-reset") }},
				{admin.ActionResetFactors, func() { act(person + "reset-factors") }},
				{admin.ActionEndSession, func() { act(person+"end-session", "handle", handle()) }},
				{admin.ActionSignOut, func() { victim = s.browser(); victim.login("alpha", "ada"); act(person + "sign-out") }},
				{admin.ActionDisable, func() { act(person + "disable") }},
				{admin.ActionEnable, func() { act(person + "enable") }},
				{admin.ActionDelete, func() { act(person+"delete", "name", "Ada") }},
				{admin.ActionRevoke, func() { act("people/" + second.ID + "/revoke-admin") }},
				{admin.ActionInvite, func() { act("invitation/send", "email", "new@example.org", "name", "New", "language", "de") }},
				{admin.ActionDisableClient, func() { act("clients/stored/disable") }},
				{admin.ActionEnableClient, func() { act("clients/stored/enable") }},
				{admin.ActionRemoveClient, func() { act("clients/stored/remove") }},
				{admin.ActionRetryMessage, func() { act("messages/retry", "id", message()) }},
				{admin.ActionRemoveMessage, func() { act("messages/remove", "id", message()) }},
			} {
				step.do()
				log := s.auditLog(audit.Query{Action: step.action})
				if len(log) != 2 {
					t.Errorf("%s has %d entries, want 2: %+v", step.action, len(log), log)
					continue
				}
				for i, state := range []string{admin.StateDone, admin.StateBegun} {
					e := log[i]
					if e.Detail["state"] != state || e.Actor != grace.ID || e.ActorName != "Grace" || e.Target == "" || e.Address != "127.0.0.1" {
						t.Errorf("%s: %+v, want %s", step.action, e, state)
					}
				}
			}
			victim.get("currentUser").want(401)
			if _, err := s.users.Get(t.Context(), id); err == nil {
				t.Error("the account is not deleted")
			}
			var kinds []string
			for _, m := range s.mails("ada@example.org") {
				kinds = append(kinds, m.Kind)
			}
			for _, kind := range []string{"reset", "factors_reset", "signed_out"} {
				if !slices.Contains(kinds, kind) {
					t.Errorf("no mail %s among %v", kind, kinds)
				}
			}
			if m := s.mail("new@example.org"); m.Kind != "invitation" || !strings.Contains(m.Text, "Grace") {
				t.Errorf("the invitation: %+v", m)
			}
			if len(s.auditLog(audit.Query{Limit: 1000})) != 28 {
				t.Error("there are more entries than actions")
			}
			for _, e := range s.auditLog(audit.Query{}) {
				if text, err := json.Marshal(e); err != nil || strings.Contains(string(text), "123456") || strings.Contains(string(text), "invitation=") {
					t.Errorf("a secret in the audit log: %s, %v", text, err)
				}
			}
			act("audit/verify")
			other.get("currentUser").want(200)
		})
	}
}

// What cannot be written to the audit log is not done.
func TestAdminNothingUnaudited(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	victim := s.browser()
	victim.login("alpha", "ada")
	id := victim.user().ID
	b, _, _ := s.administrator("Grace")
	s.store.fail(broken("audit"))
	b.submit("admin/people/" + id + "/disable").want(500)
	b.submit("admin/people/"+id+"/delete", "name", "Ada").want(500)
	s.store.fail(nil)
	if a, err := s.users.Get(t.Context(), id); err != nil || a.Disabled {
		t.Errorf("done all the same: %+v, %v", a, err)
	}
}

// Two administrators take the role from each other at the same moment: one stays. The last one
// can neither demote, disable nor delete themselves.
func TestAdminOneStays(t *testing.T) {
	for _, action := range []string{"revoke-admin", "disable", "delete"} {
		t.Run(action, func(t *testing.T) {
			s := newServer(t, withAccounts(`{}`))
			a, _, ada := s.administrator("Ada")
			b, _, ben := s.administrator("Ben")
			var wg sync.WaitGroup
			wg.Go(func() { a.submit("admin/people/"+ben.ID+"/"+action, "name", "Ben") })
			wg.Go(func() { b.submit("admin/people/"+ada.ID+"/"+action, "name", "Ada") })
			wg.Wait()
			able := func() (left []identity.Account) {
				all, err := s.users.InRole(t.Context(), identity.RoleAdmin)
				if err != nil {
					t.Fatal(err)
				}
				return slices.DeleteFunc(all, func(x identity.Account) bool { return x.Disabled })
			}
			left := able()
			if len(left) != 1 {
				t.Fatalf("%d administrators are left", len(left))
			}
			last := a
			if left[0].ID == ben.ID {
				last = b
			}
			last.open("admin").want(200)
			for _, own := range []string{"revoke-admin", "disable", "delete"} {
				last.submit("admin/people/"+left[0].ID+"/"+own, "name", left[0].Name).want(302)
				last.open("admin/people/"+left[0].ID).want(200, "nobody else who can sign in would be an administrator")
				last.fetch(testOrigin, "POST", "api/v1/admin/people/"+left[0].ID+"/"+own, `{"name": "`+left[0].Name+`"}`).want(422, "last_admin")
			}
			if len(able()) != 1 {
				t.Error("nobody is left")
			}
			failed := s.auditLog(audit.Query{Actor: left[0].ID, Action: "user.delete"})
			if len(failed) == 0 || failed[0].Detail["state"] != admin.StateFailed {
				t.Errorf("what was refused is not in the log: %+v", failed)
			}
		})
	}
}

// Nor does the only administrator go by what everybody may do with their own account.
func TestAdminOneStaysByThemselves(t *testing.T) {
	s := newServer(t)
	admin := s.browser()
	admin.login("beta", "ada")
	only := admin.user().ID
	_, err := s.users.Grant(t.Context(), only, identity.RoleAdmin)
	must(t, err)
	stays := func() {
		t.Helper()
		all, err := s.users.InRole(t.Context(), identity.RoleAdmin)
		if err != nil || len(all) != 1 || all[0].ID != only {
			t.Fatalf("administrators: %+v, %v", all, err)
		}
	}
	admin.submit("delete").leadsTo("/delete")
	admin.open("delete").want(200, "You are the only administrator.")
	stays()
	keeper := s.browser()
	keeper.login("alpha", "ada")
	keeper.submit("merge", "proof", keeper.prove("beta", "ada")).leadsTo("/account")
	keeper.open("account").want(200, "The other account is the only administrator")
	stays()
	_, err = s.users.Grant(t.Context(), keeper.user().ID, identity.RoleAdmin)
	must(t, err)
	keeper.submit("merge", "proof", keeper.prove("beta", "ada")).leadsTo("/account")
	keeper.open("account").want(200, "merged")
	if u := keeper.user(); len(u.Identities) != 2 {
		t.Errorf("got %+v", u)
	}
}

// The session of an administrator that was ended on another node is out at once, whatever
// memory says.
func TestAdminAsksTheStore(t *testing.T) {
	s, node, _ := nodes(t, withAccounts(`{}`))
	b, _, grace := s.administrator("Grace")
	there := b.at(node)
	there.open("admin").want(200)
	if _, err := s.users.Revoke(t.Context(), grace.ID, identity.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	there.open("admin").want(404)
	if _, err := s.users.Grant(t.Context(), grace.ID, identity.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	there.open("admin").want(200)
	if _, err := s.sessions.RemoveAll(t.Context(), "", grace.ID); err != nil {
		t.Fatal(err)
	}
	there.open("admin").want(404)
}

// Whatever people choose is text on the pages of administrators.
func TestAdminShowsText(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, _, _ := s.administrator("Grace")
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	victim := s.browser()
	victim.header.Set("User-Agent", evil)
	victim.login("alpha", "ada")
	if _, err := s.users.Rename(t.Context(), victim.user().ID, evil); err != nil {
		t.Fatal(err)
	}
	victim.addPasskey(s.authenticator(), evil)
	s.verifiedEmail(victim, `"<script>"@example.org`)
	s.storedClient("evil", evil)
	if err := s.notify.Mail(t.Context(), notify.Mail{To: "script@example.org", Subject: evil, Text: "the secret code 123456", Kind: "verify"}); err != nil {
		t.Fatal(err)
	}
	id := victim.user().ID
	b.submit("admin/people/" + id + "/sign-out").want(302)
	b.submit("admin/clients/evil/disable").want(302)
	for _, path := range []string{"admin", "admin/people", "admin/people?q=" + url.QueryEscape(evil), "admin/people?q=alert", "admin/people/" + id, "admin/people/" + id + "/ask/delete",
		"admin/clients", "admin/clients/evil", "admin/clients/evil/ask/remove", "admin/messages", "admin/messages/remove?id=" + url.QueryEscape(`<script>`),
		"admin/audit", "admin/audit?actor=" + url.QueryEscape(evil), "admin/providers"} {
		a := b.open(path)
		if a.status != 404 { // an id with such letters is none
			a.want(200)
		}
		a.wantNot("<script>alert", "<img src=x", `"<script>"`, "123456", evil)
		if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'nonce-") || strings.Contains(policy, "unsafe-inline") {
			t.Errorf("%s: %s", path, policy)
		}
	}
}

// No page and no call shows a secret of anybody.
func TestAdminShowsNoSecrets(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), applications(oauthApplications))
	b, _, _ := s.administrator("Grace")
	victim := s.browser()
	victim.login("alpha", "ada")
	victim.setUpApp()
	id := victim.user().ID
	c := victim.credential()
	for _, path := range []string{"admin/people/" + id, "api/v1/admin/people/" + id, "admin/clients", "admin/clients/app", "api/v1/admin/clients", "api/v1/admin/clients/app", "api/v1/admin/people/" + id + "/history", "api/v1/admin/messages"} {
		b.send("GET", path, headers("Sec-Fetch-Site", "same-origin"), "").want(200).wantNot(c.TOTP.Secret, "client_secret\"", "secret of the app", "$argon2", `"hash"`, `"secret"`)
	}
	b.fetch(testOrigin, "POST", "api/v1/admin/people/"+id+"/end-session", `{"handle": "no such"}`).want(404)
	b.fetch(testOrigin, "POST", "api/v1/admin/people/nobody/end-session", `{"handle": "no such"}`).want(404)
	// A session of somebody else is not ended by way of this person.
	other := s.browser()
	other.login("beta", "ben")
	sessions, err := s.sessions.Of(t.Context(), other.user().ID)
	if err != nil {
		t.Fatal(err)
	}
	b.fetch(testOrigin, "POST", "api/v1/admin/people/"+id+"/end-session", `{"handle": "`+sessions[0].Handle+`"}`).want(404)
	other.get("currentUser").want(200)
}

func TestAdminFinds(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, _, _ := s.administrator("Grace Hopper")
	ada := s.browser()
	ada.login("alpha", "ada")
	ada.addPasskey(s.authenticator(), "Key")
	s.verifiedEmail(ada, "Ada@example.org")
	u := ada.user()
	ben := s.browser()
	ben.login("alpha", "ben")
	for _, query := range []string{u.ID, u.URI, "ada@EXAMPLE.org", "alpha:a1", "a1", "ada", "AD", " ada "} {
		var found struct{ People []struct{ Name string } }
		b.fetch(testOrigin, "GET", "api/v1/admin/people?q="+url.QueryEscape(query), "").want(200).json(&found)
		if len(found.People) != 1 || found.People[0].Name != "Ada" {
			t.Errorf("%q finds %+v", query, found.People)
		}
		b.open("admin/people?q="+url.QueryEscape(query)).want(200, u.ID).wantNot(">Ben<")
	}
	for _, query := range []string{"nobody", "a", "ben@example.org", strings.Repeat("x", 5000), "\x00", "alpha:", ":"} {
		b.open("admin/people?q="+url.QueryEscape(query)).want(200, "Nobody was found")
	}
	b.open("admin/people?q=%ff").want(200)
	b.open("admin/people?after=" + strings.Repeat("y", 3000)).want(200)
	b.open("admin/people/" + strings.Repeat("y", 3000)).want(404)
}

// A client that is disabled is unknown, and so are its tokens; enabled again all is as before.
func TestAdminDisablesClient(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), applications(oauthApplications))
	b, _, _ := s.administrator("Grace")
	s.storedClient("stored", "Stored")
	authorization := "oauth/authorize?" + url.Values{"client_id": {"stored"}, "redirect_uri": {"https://stored.example.org/cb"}, "response_type": {"code"}, "scope": {"openid"},
		"code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"}}.Encode()
	person := s.browser()
	person.login("alpha", "ada")
	person.open(authorization).want(302)
	b.submit("admin/clients/stored/disable").leadsTo("/admin/clients/stored")
	b.open("admin/clients/stored").want(200, "is disabled")
	person.open(authorization).want(400)
	b.submit("admin/clients/stored/enable").want(302)
	person.open(authorization).want(302)
	// Those of applications.json are the operator's.
	for _, action := range []string{"disable", "remove"} {
		b.submit("admin/clients/app/" + action).want(409)
		b.fetch(testOrigin, "POST", "api/v1/admin/clients/app/"+action, "{}").want(409, "listed_client")
	}
	b.open("admin/clients/app/ask/remove").want(404)
	b.open("admin/clients/app").want(200, "applications.json")
}

// Whoever has got hold of an administrator's browser is slowed down.
func TestAdminLimited(t *testing.T) {
	s := newServer(t, withAccounts(`{}`), env("RATE_LIMIT_MAX", "8"))
	b, _, grace := s.administrator("Grace")
	limited := 0
	for range 12 {
		if a := b.submit("admin/people/" + grace.ID + "/sign-out-nobody"); a.status == 429 {
			limited++
		}
		if a := b.submit("admin/audit/verify"); a.status == 429 {
			limited++
		}
	}
	if limited == 0 {
		t.Error("nothing is limited")
	}
}
