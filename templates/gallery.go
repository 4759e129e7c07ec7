package templates

import (
	"slices"
	"strings"
	"time"
)

// Example is a page in one state.
type Example struct {
	Name  string // unique, fit for a URL
	Title string
	// Page is a pointer to one of the pages, made for this call of Gallery: its
	// layout may be changed through Common.
	Page any
}

// Gallery is every page in every state, for development and tests. The people,
// servers and sessions in it are invented.
func Gallery() []Example {
	layout := Layout{
		Title:      "Login Server",
		Lang:       fallback,
		Base:       "/",
		Nonce:      "gallery",
		ImprintURL: "https://example.org/imprint",
		PrivacyURL: "https://example.org/privacy",
		SourcesURL: "https://example.org/sources",
	}
	// in is the layout of a page at path, of somebody signed in.
	in := func(path string, messages ...Message) Layout {
		l := layout
		l.Path, l.User, l.Messages = path, "Ada Lovelace", messages
		return l
	}
	// out is the same with nobody signed in.
	out := func(path string, messages ...Message) Layout {
		l := in(path, messages...)
		l.User = ""
		return l
	}
	german := func(l Layout) Layout {
		l.Lang = "de"
		return l
	}
	day := func(d, hour, minute int) time.Time {
		return time.Date(2026, time.November, d, hour, minute, 0, 0, time.UTC)
	}
	provider := func(id, name, strategy string) Provider {
		return Provider{ID: id, Name: name, Strategy: strategy, LoginURL: "login/" + id}
	}
	var (
		github   = provider("github", "GitHub", "github")
		orcid    = provider("orcid", "ORCID", "orcid")
		wikidata = provider("wikidata", "Wikidata", "mediawiki")
		stack    = provider("stackexchange", "Stack Exchange", "stackexchange")
		ldap     = provider("my-ldap", "University Library", "ldapauth")
		local    = provider("local", "Local account", "local")
		google   = provider("google", "Google", "google")
		gitlab   = provider("gitlab", "GitLab", "goth:gitlab")
		all      = []Provider{github, orcid, google, wikidata, provider("mediawiki", "MediaWiki", "mediawiki"), stack, ldap, local,
			provider("script", "Script", "script"), provider("easydb", "easydb", "easydb"), provider("cbs", "CBS", "cbs"),
			provider("sso", "Single sign-on", "oidc"), gitlab, provider("microsoft", "Microsoft", "goth:azureadv2"),
			provider("apple", "Apple", "goth:apple"), provider("discord", "Discord", "goth:discord"), provider("test", "Test", "test"), provider("other", "Something else", "other")}
		five  = []Provider{github, orcid, wikidata, ldap, local}
		long  = strings.Repeat("Donaudampfschifffahrtsgesellschaftskapitänswitwe", 4)
		none  = Provider{ID: "x", Name: long, Strategy: "ldapauth", LoginURL: "login/x"}
		login = "login?redirect_uri=https%3A%2F%2Fcocoda.example.org%2Fapp%2F"
	)
	identities := []Identity{
		{Provider: github, ID: "583231", URI: "https://github.com/ada", Name: "Ada L.", Username: "ada", DisconnectURL: "disconnect/github"},
		{Provider: orcid, ID: "0000-0002-1825-0097", URI: "https://orcid.org/0000-0002-1825-0097", Name: "Ada Lovelace", DisconnectURL: "disconnect/orcid"},
		{Provider: ldap, ID: "alovelace", Name: "Lovelace, Ada", Username: "alovelace", DisconnectURL: "disconnect/my-ldap"},
	}
	// portrait stands for an uploaded picture.
	const portrait = "static/test.svg"
	account := AccountPage{
		Layout:      in("account"),
		ID:          "c0c1914a-f9d6-4b92-a624-bf44118b6619",
		URI:         "https://example.org/login/users/c0c1914a-f9d6-4b92-a624-bf44118b6619",
		Name:        "Ada Lovelace",
		Created:     day(3, 9, 12),
		LastUsed:    day(21, 21, 50),
		Identities:  identities,
		Connectable: []Provider{google, wikidata, stack},
	}
	// with is the account page after a change.
	with := func(change func(*AccountPage)) *AccountPage {
		p := account
		change(&p)
		return &p
	}
	merge := MergePage{
		Layout: in("merge"),
		Current: AccountSide{Name: "Ada Lovelace", URI: account.URI, Created: account.Created, LastUsed: account.LastUsed,
			Identities: identities[:2]},
		Other: AccountSide{Name: "alovelace@my-ldap", URI: "https://example.org/login/users/0d5ac8f2-3c8b-4a5e-9e09-7c1e5b0a6f11",
			Created: day(1, 14, 5), LastUsed: day(19, 8, 30), Identities: identities[2:]},
		Action: "merge", Proof: "eyJhbGciOiJkaXIifQ", Cancel: "merge/cancel",
	}
	germanMerge := merge
	germanMerge.Layout = german(merge.Layout)
	sessions := []Session{
		{Handle: "s2", Application: "BARTOC", Browser: "Safari on iOS", Address: "2001:db8::17", Provider: "ORCID",
			Created: day(18, 7, 1), LastUsed: day(20, 18, 44), Expires: day(30, 18, 44)},
		{Handle: "s1", Current: true, Application: "Cocoda", Browser: "Firefox on Linux", Address: "192.0.2.17", Provider: "GitHub",
			Created: day(21, 21, 48), LastUsed: day(21, 21, 50), Expires: day(30, 21, 50), Sockets: 3},
		{Handle: "s3", Created: day(2, 7, 1), LastUsed: day(9, 10, 0), Expires: day(25, 10, 0)},
	}
	signIns := []SignIn{
		{At: day(21, 21, 48), Provider: "GitHub", Address: "192.0.2.17", Place: "Göttingen, Germany", Browser: "Firefox on Linux", Application: "Cocoda", Result: "ok"},
		{At: day(20, 3, 2), Provider: "University Library", Address: "203.0.113.99", Place: "Lyon, France", Result: "refused"},
		{At: day(19, 23, 58), Result: "refused", More: 3481},
		{At: day(18, 7, 1), Provider: "ORCID", Address: "2001:db8::17", Browser: "Safari on iOS", Application: "BARTOC", Result: "ok"},
	}
	credentials := func(change func(*CredentialsPage)) *CredentialsPage {
		p := CredentialsPage{Layout: out("login/my-ldap"), Provider: ldap, Action: "login/my-ldap", Back: login}
		change(&p)
		return &p
	}
	depart := func(change func(*DepartPage)) *DepartPage {
		p := DepartPage{Layout: out("login/github"), Provider: github, Go: "login/github/auth", Back: login, Delay: 24 * 60 * 60}
		change(&p)
		return &p
	}
	cocoda := Client{ID: "cocoda", Name: "Cocoda", URL: "https://cocoda.example.org/", Policy: "https://cocoda.example.org/privacy", Terms: "https://cocoda.example.org/terms",
		Logo: "https://cocoda.example.org/logo.svg", Host: "cocoda.example.org"}
	message := func(kind, id string, args ...string) Message {
		m := Message{Kind: kind, ID: id}
		for i := 0; i+1 < len(args); i += 2 {
			if m.Args == nil {
				m.Args = make(map[string]any)
			}
			m.Args[args[i]] = args[i+1]
		}
		return m
	}
	field := func(name, id string) *FieldError { return &FieldError{Field: name, Message: message("error", id)} }

	asked := func(names ...string) (list []Scope) {
		for _, name := range names {
			list = append(list, Scope{Message{ID: "scope_" + name}, Message{ID: "scope_" + name + "_text"}})
		}
		return list
	}
	connected := []Connected{
		{Client: cocoda, Scopes: []Message{{ID: "scope_profile"}, {ID: "scope_offline_access"}}, Since: day(3, 9, 12), Used: day(21, 21, 48)},
		{Client: Client{ID: "bartoc", Name: "BARTOC", Host: "bartoc.example.org"}, Trusted: true, Scopes: []Message{{ID: "scope_profile"}}, Since: day(18, 7, 1), Used: day(20, 18, 44)},
	}
	profile := func(l Layout, wrong bool) *ProfilePage {
		said := func(id string, args ...string) *Message {
			m := message("", id, args...)
			return &m
		}
		of := func(name, value string, more func(*ClaimField)) ClaimField {
			f := ClaimField{Name: name, Claim: name, Label: Message{ID: "claim_" + name}, Type: "text", Value: value}
			if value != "" {
				f.Source = said("claim_source_you")
			}
			if more != nil {
				more(&f)
			}
			return f
		}
		p := &ProfilePage{Layout: l, Name: "Ada Lovelace", Wrong: wrong, Groups: []ClaimGroup{
			{ID: "group-names", Title: Message{ID: "profile_group_names"}, Fields: []ClaimField{
				of("given_name", "Ada", func(f *ClaimField) { f.Source = said("claim_source_provider", "Provider", "Google") }),
				of("middle_name", "", nil), of("family_name", "Lovelace", nil), of("nickname", "", nil),
				of("preferred_username", "ada", func(f *ClaimField) { f.Offered = said("claim_offered", "Provider", "GitHub", "Value", "ada-l") }),
			}},
			{ID: "group-contact", Title: Message{ID: "profile_group_contact"}, Fields: []ClaimField{
				of("email", "ada@example.org", func(f *ClaimField) {
					f.Type, f.Judged, f.Verified, f.Source = "email", true, true, said("claim_source_operator")
				}),
				of("phone_number", "+49551390", func(f *ClaimField) { f.Type, f.Judged, f.Hint = "tel", true, said("claim_phone_hint") }),
				of("website", "", func(f *ClaimField) {
					f.Hint, f.Offered = said("claim_url_hint"), said("claim_offered", "Provider", "Google", "Value", "https://example.org/"+strings.Repeat("ada", 40))
				}),
			}},
			{ID: "group-address", Title: Message{ID: "profile_group_address"}, Fields: []ClaimField{
				of("street_address", "Platz der Göttinger Sieben 1", func(f *ClaimField) { f.Type = "lines" }), of("postal_code", "37073", nil), of("locality", "Göttingen", nil), of("country", "", nil),
			}},
			{ID: "group-person", Title: Message{ID: "profile_group_person"}, Fields: []ClaimField{
				of("biography", "I count, and write about it.\n\nNotes on the Analytical Engine are in the library.", func(f *ClaimField) { f.Type, f.Hint = "lines", said("claim_biography_hint") }),
				of("gender", "", nil), of("birthdate", "0000-12-10", func(f *ClaimField) { f.Hint = said("claim_birthdate_hint") }),
				of("locale", "de", func(f *ClaimField) {
					f.Type, f.Hint, f.Choices = "choice", said("claim_locale_hint"), []ChoiceGroup{
						{Title: said("choice_pages"), Choices: []Choice{{"en", "English", "en"}, {"de", "Deutsch", "de"}}},
						{Title: said("choice_languages"), Choices: []Choice{{"fr", "français", "fr"}, {"ja", "日本語", "ja"}}}}
				}),
				of("zoneinfo", "EST5EDT", func(f *ClaimField) {
					f.Type, f.Choices = "choice", []ChoiceGroup{{Choices: []Choice{{Value: "EST5EDT", Label: "EST5EDT"}}},
						{Title: said("zone_europe"), Choices: []Choice{{Value: "Europe/Berlin", Label: "Berlin"}, {Value: "Europe/London", Label: "London"}}}}
				}),
			}},
		}, SignInMails: true}
		if wrong {
			p.Groups[1].Fields[0].Error, p.Groups[1].Fields[0].Value = field("email", "claim_bad_email"), long
			p.Groups[2].Fields[0].Error = field("street_address", "claim_bad_long")
			p.Groups[3].Fields[2].Error = field("birthdate", "claim_bad_date")
		}
		return p
	}
	// pictured is a profile page with a picture.
	pictured := func(p *ProfilePage, picture ProfilePicture) *ProfilePage {
		if p.Picture = picture; picture.Path != "" {
			p.Layout.Picture = picture.Path
		}
		return p
	}

	examples := []Example{
		{"login", "Sign in", &LoginPage{Layout: out("login"), Providers: five}},
		{"login-application", "Sign in, sent by an application", &LoginPage{Layout: out(login), Providers: five, Application: "Cocoda", RedirectHost: "cocoda.example.org"}},
		{"login-redirect", "Sign in, sent by another website", &LoginPage{Layout: out(login), Providers: five, RedirectHost: "cocoda.example.org"}},
		{"login-one", "Sign in, one provider", &LoginPage{Layout: out("login"), Providers: []Provider{local}}},
		{"login-many", "Sign in, many providers", &LoginPage{Layout: out("login"), Providers: all}},
		{"login-none", "Sign in, no providers", &LoginPage{Layout: out("login")}},
		{"login-long", "Sign in, long names", &LoginPage{Layout: out(login), Providers: []Provider{none, github}, Application: long, RedirectHost: strings.ToLower(long[:60]) + ".example.org"}},
		{"login-messages", "Sign in, with messages", &LoginPage{Layout: out("login", message("success", "signed_out"), message("info", "already_linked", "Provider", "GitHub"), message("error", "merge_expired")), Providers: five}},
		{"login-cancelled", "Sign in, cancelled at the provider", &LoginPage{Layout: out(login, message("info", "login_cancelled", "Provider", "GitHub")), Providers: five, Application: "Cocoda", RedirectHost: "cocoda.example.org"}},
		{"login-away", "Sign in, the provider does not answer", &LoginPage{Layout: out("login", message("error", "provider_unavailable", "Provider", "GitHub")), Providers: five}},
		{"login-answer", "Sign in, the provider's answer is no good", &LoginPage{Layout: out("login", message("error", "provider_answer", "Provider", "GitHub")), Providers: five}},
		{"login-refused", "Sign in, the provider refuses", &LoginPage{Layout: out("login", message("error", "provider_refused", "Provider", "Wikidata")), Providers: five}},
		{"login-reason", "Sign in, the provider refuses and says why", &LoginPage{Layout: out("login", message("error", "provider_reason", "Provider", "Wikidata", "Reason", "This account is blocked.")), Providers: five}},
		{"login-signed-out", "Sign in, signed out while connecting", &LoginPage{Layout: out("login", message("error", "link_signed_out", "Provider", "GitHub")), Providers: five}},
		{"login-away-german", "Sign in, messages of providers, German", &LoginPage{Layout: german(out("login",
			message("info", "login_cancelled", "Provider", "GitHub"), message("error", "provider_unavailable", "Provider", "GitHub"),
			message("error", "provider_answer", "Provider", "GitHub"), message("error", "provider_refused", "Provider", "Wikidata"),
			message("error", "provider_reason", "Provider", "Wikidata", "Reason", "This account is blocked."),
			message("error", "link_signed_out", "Provider", "GitHub"))), Providers: five}},
		{"login-german", "Sign in, German", &LoginPage{Layout: german(out(login)), Providers: five, Application: "Cocoda", RedirectHost: "cocoda.example.org"}},
		{"login-dev", "Sign in, development server", &LoginPage{Layout: out("login"), Providers: five}},

		{"credentials", "Username and password", credentials(func(p *CredentialsPage) { p.Application = "Cocoda" })},
		{"credentials-refused", "Username and password, refused", credentials(func(p *CredentialsPage) {
			p.Username, p.Error = "ada", field("", "credentials_refused")
		})},
		{"credentials-username", "Username and password, no username", credentials(func(p *CredentialsPage) { p.Error = field("username", "username_missing") })},
		{"credentials-password", "Username and password, no password", credentials(func(p *CredentialsPage) {
			p.Username, p.Error = "ada", field("password", "password_missing")
		})},
		{"credentials-unavailable", "Username and password, provider away", credentials(func(p *CredentialsPage) {
			p.Username = "ada"
			p.Error = &FieldError{Message: Message{Kind: "error", ID: "provider_unavailable", Args: map[string]any{"Provider": p.Provider.Name}}}
		})},
		{"credentials-linking", "Username and password, to connect", credentials(func(p *CredentialsPage) {
			p.Layout, p.Linking, p.Back = in("login/my-ldap"), true, "account"
		})},
		{"credentials-german", "Username and password, German", credentials(func(p *CredentialsPage) {
			p.Layout, p.Application = german(p.Layout), "Cocoda"
			p.Error = field("", "credentials_refused")
		})},
		{"credentials-long", "Username and password, long names", credentials(func(p *CredentialsPage) {
			p.Provider, p.Application, p.Username = none, long, long
		})},

		{"account", "Account", &account},
		{"account-picture", "Account, with a picture", with(func(p *AccountPage) { p.Large, p.Picture = portrait, portrait })},
		{"account-one", "Account, one identity", with(func(p *AccountPage) {
			p.Identities = []Identity{{Provider: local, ID: "ada", Name: "Ada Lovelace", Username: "ada"}}
			p.Connectable = nil
			p.Messages = []Message{message("success", "signed_in")}
		})},
		{"account-merged", "Account, merged with another", with(func(p *AccountPage) {
			p.Messages = []Message{message("success", "merged")}
			p.Merged = []string{merge.Other.URI}
			p.Undo = []Merge{{ID: "m1", Name: merge.Other.Name, Providers: []string{"University Library"}, At: day(21, 21, 50), Until: day(28, 21, 50)}}
		})},
		{"account-name", "Account, name refused", with(func(p *AccountPage) { p.NameError, p.NameInput = field("name", "name_empty"), "" })},
		{"account-conflict", "Account, merge refused", with(func(p *AccountPage) {
			p.Messages = []Message{message("error", "merge_conflict", "Providers", "GitHub, ORCID")}
		})},
		{"account-linked", "Account, a provider's website connected", with(func(p *AccountPage) {
			p.Messages = []Message{message("success", "linked", "Provider", "ORCID")}
		})},
		{"account-other", "Account, somebody else's by now", with(func(p *AccountPage) {
			p.Messages = []Message{message("error", "link_other_user", "Provider", "GitHub", "Name", "Ada Lovelace")}
			p.Identities, p.Connectable = identities[1:], []Provider{github, google, wikidata}
		})},
		{"account-token", "Account, applications get a provider's token", with(func(p *AccountPage) {
			p.Identities = append(slices.Clone(identities), Identity{Provider: wikidata, ID: "1234567", URI: "https://www.wikidata.org/wiki/User:Ada", Name: "Ada", Username: "Ada", DisconnectURL: "disconnect/wikidata", TokenGiven: true})
			p.Connectable = []Provider{google, stack}
		})},
		{"account-cancelled", "Account, connecting cancelled", with(func(p *AccountPage) {
			p.Messages = []Message{message("info", "link_cancelled", "Provider", "Google")}
		})},
		{"account-nameless", "Account, no names known", with(func(p *AccountPage) {
			p.Name, p.User = "0000-0002-1825-0097@orcid", "0000-0002-1825-0097@orcid"
			p.Identities = []Identity{
				{Provider: orcid, ID: "0000-0002-1825-0097", URI: "https://orcid.org/0000-0002-1825-0097", DisconnectURL: "disconnect/orcid"},
				{Provider: github, ID: "583231", Username: "ada", URI: "https://github.com/ada", DisconnectURL: "disconnect/github"},
				{Provider: google, ID: "110169484474386276334", DisconnectURL: "disconnect/google"},
			}
			p.Connectable = []Provider{wikidata, stack, gitlab}
		})},
		{"account-long", "Account, long names", with(func(p *AccountPage) {
			p.Name, p.User = long, long
			p.Messages = []Message{message("error", "link_other_user", "Provider", long, "Name", long)}
			p.Identities = []Identity{{Provider: none, ID: long, Name: long, Username: long + "x", URI: "https://example.org/" + long, DisconnectURL: "disconnect/x"}}
			p.Connectable = []Provider{none, none}
		})},
		{"account-applications", "Account, with applications", with(func(p *AccountPage) { p.Connected = connected })},
		{"account-applications-german", "Account, with applications, German", with(func(p *AccountPage) {
			p.Layout, p.Connected = german(p.Layout), connected
			p.Messages = []Message{message("success", "application_disconnected", "Application", "Cocoda"), message("info", "link_cancelled", "Provider", "ORCID"),
				message("error", "link_unavailable", "Provider", "ORCID"), message("error", "link_answer", "Provider", "ORCID"),
				message("error", "link_refused", "Provider", "ORCID"), message("error", "link_reason", "Provider", "Wikidata", "Reason", "This account is blocked.")}
		})},
		{"account-link-failed", "Account, connecting came to nothing", with(func(p *AccountPage) {
			p.Messages = []Message{message("error", "link_unavailable", "Provider", "ORCID"), message("error", "link_answer", "Provider", "ORCID"),
				message("error", "link_refused", "Provider", "ORCID"), message("error", "link_reason", "Provider", "Wikidata", "Reason", "This account is blocked."),
				message("success", "application_disconnected", "Application", "Cocoda"), message("success", "profile_saved")}
		})},
		{"profile", "Profile", profile(in("account/profile"), false)},
		{"profile-picture", "Profile, with a picture", pictured(profile(in("account/profile", message("success", "picture_saved")), false),
			ProfilePicture{Path: portrait, Source: &Message{ID: "claim_source_you"}, Removable: true, Offered: "GitHub"})},
		{"profile-picture-elsewhere", "Profile, with a provider's picture", pictured(profile(in("account/profile"), false),
			ProfilePicture{Elsewhere: "avatars.example.org", Source: &Message{ID: "claim_source_provider", Args: map[string]any{"Provider": "GitHub"}}, Removable: true})},
		{"profile-picture-removed", "Profile, picture removed", pictured(profile(in("account/profile", message("success", "picture_removed")), false), ProfilePicture{Offered: "GitHub"})},
		{"profile-picture-wrong", "Profile, picture refused", pictured(profile(in("account/profile"), false), ProfilePicture{Error: field("picture", "picture_bad_format")})},
		{"profile-picture-german", "Profile, picture too large, German", pictured(profile(german(in("account/profile")), false),
			ProfilePicture{Path: portrait, Source: &Message{ID: "claim_source_you"}, Removable: true, Offered: "Donaudampfschifffahrtsgesellschaft", Error: field("picture", "picture_bad_bytes")})},
		{"profile-wrong", "Profile, with mistakes", profile(in("account/profile"), true)},
		{"profile-german", "Profile, German", profile(german(in("account/profile")), true)},
		{"account-empty", "Account, nothing known", &AccountPage{Layout: in("account")}},
		{"account-german", "Account, German", with(func(p *AccountPage) {
			p.Layout = german(p.Layout)
			p.Messages = []Message{message("error", "link_other_user", "Provider", "GitHub", "Name", "Ada Lovelace")}
			p.Undo = []Merge{{ID: "m1", Name: merge.Other.Name, Providers: []string{"Universitätsbibliothek", "ORCID"}, At: day(21, 21, 50), Until: day(28, 21, 50)}}
		})},

		{"merge", "Merge", &merge},
		{"merge-german", "Merge, German", &germanMerge},
		{"sessions", "Sessions", &SessionsPage{Layout: in("sessions"), Sessions: sessions, SignIns: signIns}},
		{"sessions-one", "Sessions, only this", &SessionsPage{Layout: in("sessions", message("success", "sessions_removed")), Sessions: sessions[1:2]}},
		{"sessions-german", "Sessions, German", &SessionsPage{Layout: german(in("sessions")), Sessions: sessions, SignIns: signIns}},
		{"delete", "Delete account", &DeletePage{Layout: in("delete"), Name: "Ada Lovelace"}},
		{"delete-typed", "Delete account, name to be typed", &DeletePage{Layout: in("delete"), Name: "Ada Lovelace", Typed: true}},
		{"delete-mismatch", "Delete account, wrong name", &DeletePage{Layout: in("delete"), Name: long, Typed: true, Error: field("name", "delete_name_mismatch")}},
		{"delete-last-admin", "Delete account: nobody else is an administrator", &DeletePage{Layout: in("delete"), Name: "Ada Lovelace", Typed: true, Error: field("", "delete_last_admin")}},
		{"delete-german", "Delete account, German", &DeletePage{Layout: german(in("delete")), Name: "Ada Lovelace", Typed: true}},
		{"logout", "Sign out", &LogoutPage{Layout: in("logout"), Action: "logout"}},
		{"logout-done", "Signed out", &LogoutPage{Layout: out("logout"), Done: true}},
		{"logout-german", "Sign out, German", &LogoutPage{Layout: german(in("logout")), Action: "logout"}},
		{"logout-telling", "Signed out, applications are told", &LogoutPage{Layout: out("logout"), Done: true, Frames: []string{"https://cocoda.example.org/logout?sid=s1"}}},
		{"logout-continue", "Signed out, applications are told, then on", &LogoutPage{Layout: out("logout"), Done: true, Frames: []string{"https://cocoda.example.org/logout?sid=s1"}, Continue: "https://bartoc.example.org/"}},
		{"logout-continue-german", "Signed out, applications are told, then on, German", &LogoutPage{Layout: german(out("logout")), Done: true, Frames: []string{"https://cocoda.example.org/logout?sid=s1"}, Continue: "https://bartoc.example.org/"}},
		{"confirm", "Disconnect", &ConfirmPage{Layout: in("disconnect/github"), Provider: github, Action: "disconnect/github", Cancel: "account"}},
		{"confirm-german", "Disconnect, German", &ConfirmPage{Layout: german(in("disconnect/github")), Provider: github, Action: "disconnect/github", Cancel: "account"}},
		{"help", "Help", &HelpPage{Layout: out("help"), CookieDays: 30, Applications: []Application{{"Cocoda", "https://cocoda.example.org/app/"}, {"BARTOC", "https://bartoc.example.org/"}}}},
		{"help-empty", "Help, no applications", &HelpPage{Layout: in("help"), CookieDays: 1}},
		{"help-german", "Help, German", &HelpPage{Layout: german(out("help")), CookieDays: 30}},
		{"depart", "On to the provider", depart(func(p *DepartPage) { p.Application, p.Auto = "Cocoda", true })},
		{"depart-plain", "On to the provider, no application", depart(func(p *DepartPage) { p.Provider, p.Auto = orcid, true })},
		{"depart-waiting", "On to the provider, not by itself", depart(func(p *DepartPage) {})},
		{"depart-linking", "On to the provider, to connect", depart(func(p *DepartPage) {
			p.Layout, p.Linking, p.Auto, p.Back = in("login/github"), true, true, "account"
		})},
		{"depart-asking", "On to the provider, to connect, asking", depart(func(p *DepartPage) {
			p.Layout, p.Linking, p.Back = in("login/github"), true, "account"
		})},
		{"depart-german", "On to the provider, German", depart(func(p *DepartPage) {
			p.Layout, p.Application, p.Auto = german(p.Layout), "Cocoda", true
		})},
		{"depart-asking-german", "On to the provider, to connect, asking, German", depart(func(p *DepartPage) {
			p.Layout, p.Linking, p.Back = german(in("login/github")), true, "account"
		})},
		{"depart-long", "On to the provider, long names", depart(func(p *DepartPage) { p.Provider, p.Application = none, long })},
		{"login-client", "Sign in, for a client", &LoginPage{Layout: out(login), Providers: five, Application: "Cocoda", Client: &cocoda, Decline: "oauth/continue"}},
		{"login-client-german", "Sign in, for a client, German", &LoginPage{Layout: german(out(login)), Providers: five, Application: "Cocoda", Client: &cocoda, Decline: "oauth/continue"}},
		{"login-client-plain", "Sign in, for a client of which little is known", &LoginPage{Layout: out(login), Providers: five, Application: long, Client: &Client{ID: "x", Name: long}, Decline: "oauth/continue"}},
		{"credentials-client", "Username and password, for a client", credentials(func(p *CredentialsPage) { p.Application, p.Client, p.Username = "Cocoda", &cocoda, "ada" })},
		{"login-fresh", "Sign in again, for a client", &LoginPage{Layout: in(login), Providers: five, Application: "Cocoda", Client: &cocoda, Fresh: true, Decline: "oauth/continue"}},
		{"login-fresh-german", "Sign in again, for a client, German", &LoginPage{Layout: german(in(login)), Providers: five, Application: "Cocoda", Client: &cocoda, Fresh: true, Decline: "oauth/continue"}},
		{"consent", "Consent", &ConsentPage{Layout: in("oauth/continue"), Client: cocoda, Scopes: asked("profile", "email", "identities", "offline_access"), Action: "oauth/continue", Other: login}},
		{"consent-all", "Consent to everything, long names", &ConsentPage{Layout: in("oauth/continue"), Client: Client{ID: "x", Name: long, Host: strings.ToLower(long) + ".example.org"},
			Scopes: asked("profile", "email", "phone", "address", "identities", "session_events", "offline_access"), Action: "oauth/continue", Other: login}},
		{"consent-little", "Consent to nothing but knowing who it is", &ConsentPage{Layout: in("oauth/continue"), Client: cocoda, Action: "oauth/continue", Other: login}},
		{"consent-german", "Consent, German", &ConsentPage{Layout: german(in("oauth/continue")), Client: cocoda, Scopes: asked("profile", "email", "phone", "address", "identities", "session_events", "offline_access"), Action: "oauth/continue", Other: login}},
		{"choose", "Choose an account", &ChoosePage{Layout: in("oauth/continue"), Client: cocoda, Action: "oauth/continue", Other: login}},
		{"choose-german", "Choose an account, German", &ChoosePage{Layout: german(in("oauth/continue")), Client: cocoda, Action: "oauth/continue", Other: login}},
		{"device", "Code of a device", &DevicePage{Layout: out("device"), Action: "device"}},
		{"device-unknown", "Unknown code of a device", &DevicePage{Layout: out("device"), Action: "device", Typed: "WDJB-MJHT", Error: &FieldError{Field: "device-code", Message: Message{Kind: "error", ID: "device_unknown"}}}},
		{"device-confirm", "Confirm a device", &DevicePage{Layout: in("device"), Action: "device", Client: &cocoda, Code: "WDJB-MJHT", Scopes: []Message{{ID: "scope_profile"}, {ID: "scope_offline_access"}}}},
		{"device-confirm-german", "Confirm a device, German", &DevicePage{Layout: german(in("device")), Action: "device", Client: &cocoda, Code: "WDJB-MJHT", Scopes: []Message{{ID: "scope_profile"}}}},
		{"device-allowed", "A device was allowed", &DevicePage{Layout: in("device"), Client: &cocoda, Allowed: true}},
		{"device-denied", "A device was refused", &DevicePage{Layout: in("device"), Client: &cocoda, Denied: true}},
		{"device-german", "Code of a device, German", &DevicePage{Layout: german(out("device")), Action: "device"}},
		{"leave", "On to an application on the device", &LeavePage{Layout: in("oauth/continue"), URL: "org.example.app:/cb?code=…"}},
		{"leave-german", "On to an application on the device, German", &LeavePage{Layout: german(in("oauth/continue")), URL: "org.example.app:/cb?code=…"}},
		{"form-post", "Posting an answer", &FormPostPage{Layout: out("oauth/authorize"), Action: "https://cocoda.example.org/callback", Parameters: map[string]string{"code": "…"}}},
		{"api", "API", &APIPage{Layout: in("api"), BaseURL: "http://localhost:3004/", WebSocketURL: "ws://localhost:3004/"}},
		{"api-german", "API, German", &APIPage{Layout: german(out("api")), BaseURL: "http://localhost:3004/", WebSocketURL: "ws://localhost:3004/"}},
	}
	for _, e := range []ErrorPage{
		{Status: 404, Code: "not_found"},
		{Status: 429, Code: "rate_limited", RetryAfter: 42, Link: login},
		{Status: 503, Code: "unavailable", Link: "account"},
		{Status: 500, Code: "internal", Link: "account"},
		{Status: 400, Code: "expired", Link: login},
		{Status: 400, Code: "other_browser", Link: login},
		{Status: 400, Code: "redirect_refused", Link: "login", Detail: "evil.example"},
		{Status: 403, Code: "cross_site", Link: "account"},
		{Status: 400, Code: "bad_request"},
		{Status: 401, Code: "unauthorized", Link: "login"},
		{Status: 403, Code: "forbidden", Link: "account"},
		{Status: 413, Code: "too_large", Link: "account"},
		{Status: 405, Code: "method_not_allowed"},
		{Status: 503, Code: "busy", RetryAfter: 5, Link: login},
		{Status: 400, Code: "link_expired", Link: login},
		{Status: 403, Code: "registration_closed", Link: login},
		{Status: 503, Code: "no_mail", Link: login},
		{Status: 403, Code: "other_account", Link: "account"},
	} {
		e.Layout, e.RequestID = out(""), "01JD8W3KQ4X2"
		inGerman := e
		inGerman.Layout = german(e.Layout)
		name := "error-" + strings.ReplaceAll(e.Code, "_", "-")
		examples = append(examples,
			Example{name, "Error: " + e.Code, &e},
			Example{name + "-german", "Error: " + e.Code + ", German", &inGerman})
	}
	examples = append(examples, securityExamples(layout)...)
	examples = append(examples, accountsExamples(layout)...)
	examples = append(examples, passkeyExamples(layout)...)
	examples = append(examples, adminExamples(layout)...)
	examples = append(examples, challengeExamples(credentials, german)...)
	for _, e := range examples {
		if e.Name == "login-dev" {
			e.Page.(common).Common().Dev = true
		}
	}
	return examples
}
