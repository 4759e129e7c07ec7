package templates

import (
	"strings"
	"time"
)

// adminExamples are the pages of administrators.
func adminExamples(layout Layout) []Example {
	in := func(path string, messages ...Message) Layout {
		l := layout
		l.Path, l.User, l.Admin, l.Messages = path, "Grace Hopper", true, messages
		return l
	}
	german := func(l Layout) Layout {
		l.Lang = "de"
		return l
	}
	day := func(d, hour int) time.Time { return time.Date(2026, time.November, d, hour, 12, 0, 0, time.UTC) }
	long := strings.Repeat("Wolfeschlegelsteinhausenbergerdorff ", 4)
	const ada = "3f0c7d9a-5f0e-4a3e-9a51-6d2b7f9f1c11"
	entries := []AuditEntry{
		{Number: 112, At: day(21, 10), Actor: "grace", ActorName: "Grace Hopper", ActorURL: "admin/people/grace", Action: "user.reset_factors", Target: ada, TargetName: "Ada Lovelace", TargetURL: "admin/people/ada", Address: "192.0.2.17", State: "done", Details: []string{"factors=totp recovery"}},
		{Number: 111, At: day(21, 10), Actor: "grace", ActorName: "Grace Hopper", ActorURL: "admin/people/grace", Action: "user.reset_factors", Target: ada, TargetName: "Ada Lovelace", TargetURL: "admin/people/ada", Address: "192.0.2.17", State: "begun"},
		{Number: 110, At: day(20, 8), Actor: "cli", System: true, ActorName: "root", Action: "user.grant", Target: "grace", TargetName: "Grace Hopper", TargetURL: "admin/people/grace", Details: []string{"role=admin"}},
		{Number: 109, At: day(19, 17), Actor: "grace", ActorName: "Grace Hopper", ActorURL: "admin/people/grace", Action: "user.disable", Target: "grace", TargetName: "Grace Hopper", TargetURL: "admin/people/grace", Address: "2001:db8::17", State: "failed", Details: []string{"reason=nobody else has this role"}},
		{Number: 108, At: day(18, 1), Actor: "system", System: true, Action: "audit.prune", Details: []string{"through=57"}},
	}
	person := AdminPersonLine{ID: ada, URL: "admin/people/ada", Name: "Ada Lovelace", Providers: []string{"E-mail", "GitHub", "ORCID"}, Created: day(1, 9), LastUsed: day(21, 9)}
	people := []AdminPersonLine{
		person,
		{ID: "5f0e", URL: "admin/people/grace", Name: "Grace Hopper", Providers: []string{"GitHub"}, Created: day(2, 9), LastUsed: day(20, 9), Admin: true},
		{ID: "9a51", URL: "admin/people/eve", Name: "<script>alert(1)</script>", Providers: []string{"E-mail"}, Created: day(3, 9), LastUsed: day(3, 9), Disabled: true},
		{ID: "1c11", URL: "admin/people/long", Name: long, Providers: []string{"Library of the Institute of Mathematics", "E-mail"}, Created: day(4, 9), LastUsed: day(9, 9)},
	}
	of := func(l Layout, change func(*AdminPersonPage)) *AdminPersonPage {
		p := &AdminPersonPage{
			Layout: l, Person: person, URI: "https://login.example.org/users/" + ada, Page: "admin/people/ada",
			Former:     []string{"https://login.example.org/users/9b1d"},
			Identities: []Identity{{Provider: Provider{ID: "account", Name: "E-mail"}, ID: "0b1f", Name: "Ada Lovelace"}, {Provider: Provider{ID: "github", Name: "GitHub"}, ID: "583231", URI: "https://github.com/ada", Name: "Ada L.", Username: "ada"}},
			Emails:     []AdminEmail{{Address: "ada@example.org", Primary: true}, {Address: "ada.lovelace@university.example"}},
			Password:   true, Passkeys: []AdminPasskey{{Name: "MacBook", Added: day(3, 9), Used: day(21, 9)}},
			TOTP: &AppState{Added: day(3, 9)}, Phone: &PhoneState{Number: "+49 ••• 78"}, RecoveryLeft: 9, TwoStep: true, Resettable: true, CanReset: true,
			Sessions:     []Session{{Handle: "s", Browser: "Firefox on Linux", Address: "192.0.2.17", Place: "Lyon, France", Provider: "E-mail", Application: "Cocoda", Created: day(20, 9), LastUsed: day(21, 9), Expires: day(28, 9)}},
			Applications: []AdminConnection{{Name: "Cocoda"}, {Name: "Catalogue"}},
			History:      []SignIn{{At: day(20, 9), Provider: "E-mail", Address: "192.0.2.17", Browser: "Firefox on Linux", Result: "ok", Methods: []Message{{ID: "method_pwd"}}}, {At: day(19, 9), Provider: "E-mail", Address: "198.51.100.4", Result: "refused"}},
			Older:        "admin/people/ada?before=x",
		}
		if change != nil {
			change(p)
		}
		return p
	}
	overview := func(l Layout) *AdminPage {
		return &AdminPage{Layout: l, People: 12873, Admins: 2, Sessions: 4410, Clients: 14, Waiting: 3, Failed: 1, ProvidersDown: 1, Entries: entries}
	}
	list := func(l Layout) *AdminPeoplePage {
		return &AdminPeoplePage{Layout: l, People: people, Next: "admin/people?after=x"}
	}
	log := func(l Layout) *AdminAuditPage {
		return &AdminAuditPage{Layout: l, Entries: entries, Action: "user.disable", Actions: []string{"user.disable", "user.enable"}, Older: "admin/audit?before=108"}
	}
	client := AdminClient{ID: "jV7dYcQyTr2hQ0mG5bYt9g", Name: "Catalogue", URL: "https://catalogue.example.org/", Page: "admin/clients/x", Created: day(4, 9), Method: "client_secret_basic", Scope: "openid profile",
		Redirects: []string{"https://catalogue.example.org/callback"}, Grants: []string{"authorization_code", "refresh_token"}, Secrets: 2}
	listed, self := client, client
	listed.ID, listed.Name, listed.Listed, listed.Created = "cocoda", "Cocoda", true, time.Time{}
	self.Self, self.Disabled, self.Name = true, true, "A tool that has registered itself"
	queue := []AdminMessage{
		{ID: "m1", Channel: "mail", Kind: "verify", To: "ada@example.org", Queued: day(21, 9), Next: day(21, 10), Attempts: 2, Problem: "451 4.7.1 greylisted, try again later", Remove: "admin/messages/remove?id=m1"},
		{ID: "m2", Channel: "sms", Kind: "code", To: "+4915112345678", Failed: true, Late: true, Queued: day(20, 9), Next: day(20, 9), Attempts: 5, Problem: "21610: unsubscribed recipient", Remove: "admin/messages/remove?id=m2"},
	}
	providers := []AdminProvider{
		{Provider: Provider{ID: "github", Name: "GitHub", Strategy: "github"}, People: 1204, Known: true, Up: true, At: day(21, 9), Since: day(2, 9)},
		{Provider: Provider{ID: "my-ldap", Name: "University", Strategy: "ldapauth"}, People: 318, Known: true, At: day(21, 9), Since: day(21, 8), Problem: "dial tcp 192.0.2.9:636: connect: connection refused"},
		{Provider: Provider{ID: "orcid", Name: "ORCID", Strategy: "orcid"}},
	}
	ask := func(what, name string, change func(*AdminConfirmPage)) *AdminConfirmPage {
		p := &AdminConfirmPage{Layout: in("admin/people/ada/ask/" + what), Section: "people", What: what, Name: name, ID: ada, Action: "admin/people/ada/x", Cancel: "admin/people/ada"}
		if change != nil {
			change(p)
		}
		return p
	}
	typed := func(p *AdminConfirmPage) { p.Typed = true }
	wrong := func(p *AdminConfirmPage) {
		p.Typed, p.Error = true, &FieldError{Field: "name", Message: Message{Kind: "error", ID: "delete_name_mismatch"}}
	}
	languages := []Language{{Tag: "de", Name: "Deutsch"}, {Tag: "en", Name: "English"}}
	return []Example{
		{"admin", "Administration", overview(in("admin"))},
		{"admin-german", "Administration, German", overview(german(in("admin")))},
		{"admin-fresh", "Administration of a new server", &AdminPage{Layout: in("admin"), Admins: 1, People: 1, Sessions: 1}},
		{"admin-people", "People", list(in("admin/people"))},
		{"admin-people-german", "People, German", list(german(in("admin/people")))},
		{"admin-people-none", "Nobody found", &AdminPeoplePage{Layout: in("admin/people"), Query: "Babbage"}},
		{"admin-person", "A person", of(in("admin/people/ada"), nil)},
		{"admin-person-german", "A person, German", of(german(in("admin/people/ada")), nil)},
		{"admin-person-disabled", "A person who is disabled", of(in("admin/people/eve"), func(p *AdminPersonPage) {
			p.Person.Disabled, p.Person.Admin, p.Person.Name, p.Sessions, p.History, p.Older = true, true, long, nil, nil, ""
			p.Emails, p.Passkeys, p.TOTP, p.Phone, p.Resettable, p.CanReset, p.Password, p.TwoStep, p.RecoveryLeft = nil, nil, nil, nil, false, false, false, false, 0
		})},
		{"admin-person-message", "A person, after an action", of(in("admin/people/ada", Message{Kind: "success", ID: "admin_done_send_reset"}), nil)},
		{"admin-person-last", "A person, the last administrator", of(in("admin/people/ada", Message{Kind: "error", ID: "admin_error_last_admin"}), nil)},
		{"admin-ask-factors", "Reset a second step?", ask("reset_factors", "Ada Lovelace", nil)},
		{"admin-ask-revoke", "Take the role away?", ask("revoke_admin", "Ada Lovelace", nil)},
		{"admin-ask-delete", "Delete somebody's account?", ask("delete", "Ada Lovelace", typed)},
		{"admin-ask-delete-wrong", "Delete somebody's account: wrong name", ask("delete", long, wrong)},
		{"admin-ask-client", "Remove an application?", ask("remove_client", "Catalogue", nil)},
		{"admin-ask-message", "Remove a message?", ask("remove_message", ada, nil)},
		{"admin-invite", "Invite somebody", &AdminInvitePage{Layout: in("admin/invitation"), Language: "en", Languages: languages}},
		{"admin-invite-wrong", "Invite somebody who is here", &AdminInvitePage{Layout: in("admin/invitation"), Email: "ada@example.org", Language: "de", Languages: languages, Error: &FieldError{Field: "email", Message: Message{Kind: "error", ID: "admin_error_taken"}}}},
		{"admin-invite-link", "An invitation without mail", &AdminInvitePage{Layout: in("admin/invitation"), Email: "ada@example.org", Link: "https://login.example.org/signup?invitation=Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"}},
		{"admin-clients", "Applications", &AdminClientsPage{Layout: in("admin/clients"), Clients: []AdminClient{listed, client, self}}},
		{"admin-clients-none", "No applications", &AdminClientsPage{Layout: in("admin/clients")}},
		{"admin-client", "An application", &AdminClientPage{Layout: in("admin/clients/x"), Client: client}},
		{"admin-client-listed", "An application of applications.json", &AdminClientPage{Layout: in("admin/clients/cocoda"), Client: listed}},
		{"admin-client-disabled", "An application that is disabled", &AdminClientPage{Layout: in("admin/clients/x"), Client: self}},
		{"admin-messages", "Messages", &AdminMessagesPage{Layout: in("admin/messages"), Queue: queue, Next: "admin/messages?after=m2"}},
		{"admin-messages-german", "Messages, German", &AdminMessagesPage{Layout: german(in("admin/messages")), Queue: queue, State: "failed"}},
		{"admin-messages-none", "No messages", &AdminMessagesPage{Layout: in("admin/messages"), State: "failed"}},
		{"admin-providers", "Providers", &AdminProvidersPage{Layout: in("admin/providers"), Providers: providers}},
		{"admin-audit", "Audit log", log(in("admin/audit"))},
		{"admin-audit-german", "Audit log, German", log(german(in("admin/audit")))},
		{"admin-audit-none", "Audit log, nothing found", &AdminAuditPage{Layout: in("admin/audit", Message{Kind: "success", ID: "admin_audit_in_order", Args: map[string]any{"Count": 112, "Last": 112, "Hash": "5f2b8a90c1"}}), Actor: "nobody"}},
	}
}
