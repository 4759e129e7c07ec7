package templates

import (
	"strings"
	"time"
)

// accountsExamples are the pages of accounts that live here.
func accountsExamples(layout Layout) []Example {
	in := func(path string) Layout {
		l := layout
		l.Path, l.User = path, "Ada Lovelace"
		return l
	}
	out := func(path string) Layout {
		l := layout
		l.Path = path
		return l
	}
	german := func(l Layout) Layout {
		l.Lang = "de"
		return l
	}
	wrong := func(field, id string) *FieldError {
		return &FieldError{Field: field, Message: Message{Kind: "error", ID: id}}
	}
	when := func(day int) time.Time { return time.Date(2026, time.November, day, 9, 12, 0, 0, time.UTC) }
	const address = "ada@example.org"
	// Names and addresses as long as they may be, and a name that is written from right to left.
	longName := strings.Repeat("Wolfeschlegelsteinhausenbergerdorff", 6)[:200]
	longAddress := strings.Repeat("lovelace", 8) + "@" + strings.Repeat("mathematical-institute.", 8) + "example.org"
	const rightToLeft = "محمد بن موسى الخوارزمي"
	named := func(l Layout, name string) Layout {
		l.User = name
		return l
	}
	client := &Client{ID: "cocoda", Name: "Cocoda", Logo: "https://cocoda.example.org/logo.svg", Host: "cocoda.example.org"}
	signIn := func(change func(*SignInPage)) *SignInPage {
		p := &SignInPage{Layout: out("login/account"), Provider: Provider{ID: "account", Name: "Account", Strategy: "account", LoginURL: "login/account"},
			Password: true, Action: "login/account", Back: "login", SignUp: "signup", Reset: "reset"}
		change(p)
		return p
	}
	signUp := func(change func(*SignUpPage)) *SignUpPage {
		p := &SignUpPage{Layout: out("signup"), Action: "signup", SignIn: "login/account", Least: 10}
		change(p)
		return p
	}
	code := func(change func(*CodePage)) *CodePage {
		p := &CodePage{Layout: out("signup/code"), Purpose: ForSignUp, Email: address, Minutes: 60, Action: "signup/code", Resend: "signup/resend", Back: "signup"}
		change(p)
		return p
	}
	link := func(purpose string, change func(*LinkPage)) *LinkPage {
		p := &LinkPage{Layout: out("signup/confirm"), Purpose: purpose, Email: address, Action: "signup/confirm", Key: "k", Cancel: "login"}
		change(p)
		return p
	}
	password := func(change func(*PasswordPage)) *PasswordPage {
		p := &PasswordPage{Layout: in("security/password"), Action: "security/password", Current: true, Email: address, Least: 10, Cancel: "security"}
		change(p)
		return p
	}
	emails := func(l Layout) *EmailsPage {
		return &EmailsPage{Layout: l, Add: "security/emails", Primary: "security/emails/primary", Remove: "security/emails/remove", Back: "security",
			Emails:  []EmailAddress{{address, true, when(3)}, {"ada.lovelace@a-very-long-name-of-a-mathematical-institute.university.example.org", false, when(18)}},
			Waiting: []WaitingEmail{{"countess@example.net", "security/emails/code"}}}
	}
	return []Example{
		{"signin-long", "E-mail and password, long address", signIn(func(p *SignInPage) {
			p.Layout, p.Linking, p.Email, p.Phone, p.Error = named(in("login/account"), longName), true, longAddress, "login/account/phone", wrong("", "local_refused")
		})},
		{"signup-rtl", "Create an account, name from right to left", signUp(func(p *SignUpPage) {
			p.Email, p.Name, p.Domains = longAddress, rightToLeft, []string{strings.Repeat("mathematical-institute.", 8) + "example.org"}
			p.Errors = []*FieldError{wrong("email", "email_domain")}
		})},
		{"code-long", "Code in a mail, long address, German", code(func(p *CodePage) { p.Layout, p.Email = german(p.Layout), longAddress })},
		{"link-long", "Link of one more address, long address", link(ForEmail, func(p *LinkPage) { p.Layout, p.Email = named(in("security/emails/confirm"), rightToLeft), longAddress })},
		{"password-long", "Change the password, long address", password(func(p *PasswordPage) { p.Layout, p.Email = named(p.Layout, rightToLeft), longAddress })},
		{"emails-long", "E-mail addresses, long", &EmailsPage{Layout: named(german(in("security/emails")), longName), Add: "security/emails", Primary: "p", Remove: "r", Back: "security",
			Emails: []EmailAddress{{longAddress, true, when(3)}, {"x" + longAddress, false, when(18)}}, Waiting: []WaitingEmail{{"y" + longAddress, "security/emails/code"}}}},
		{"signin", "E-mail and password", signIn(func(*SignInPage) {})},
		{"signin-german", "E-mail and password, German", signIn(func(p *SignInPage) { p.Layout = german(p.Layout) })},
		{"signin-wrong", "E-mail and password, refused", signIn(func(p *SignInPage) { p.Email, p.Error = address, wrong("", "local_refused") })},
		{"signin-wait", "E-mail and password, have to wait", signIn(func(p *SignInPage) {
			p.Email, p.Unlock = address, "unlock"
			p.Error = &FieldError{Message: Message{Kind: "error", ID: "attempts_wait", Args: map[string]any{"Minutes": 4}}}
		})},
		{"signin-missing", "E-mail and password, nothing typed, German", signIn(func(p *SignInPage) { p.Layout, p.Error = german(p.Layout), wrong("username", "email_missing") })},
		{"signin-client", "E-mail and password, for a client", signIn(func(p *SignInPage) { p.Application, p.Client = "Cocoda", client })},
		{"signin-linking", "E-mail and password, signed in already", signIn(func(p *SignInPage) { p.Layout, p.Linking, p.Back = in("login/account"), true, "account" })},
		{"signup", "Create an account", signUp(func(p *SignUpPage) { p.Passkey = "signup/passkey" })},
		{"signup-german", "Create an account, German", signUp(func(p *SignUpPage) { p.Layout, p.Passkey = german(p.Layout), "signup/passkey" })},
		{"signup-wrong", "Create an account, all wrong", signUp(func(p *SignUpPage) {
			p.Email, p.Name, p.Domains = "ada@elsewhere.example", "Ada", []string{"example.org", "maths.example.org"}
			p.Errors = []*FieldError{wrong("email", "email_domain"), wrong("password", "password_common"), wrong("name", "name_control")}
		})},
		{"signup-personal", "Create an account, German, password about oneself", signUp(func(p *SignUpPage) {
			p.Layout, p.Application, p.Email = german(p.Layout), "Cocoda", address
			p.Errors = []*FieldError{wrong("password", "password_personal")}
		})},
		{"signup-invited", "Create an account, invited", signUp(func(p *SignUpPage) { p.Invited, p.Invitation, p.Email, p.Name = true, "k", address, "Ada Lovelace" })},
		{"signup-by-invitation", "No account without an invitation", signUp(func(p *SignUpPage) { p.Closed, p.Invitations = true, true })},
		{"signup-closed", "No accounts, German", signUp(func(p *SignUpPage) { p.Layout, p.Closed = german(p.Layout), true })},
		{"code", "Code in a mail", code(func(*CodePage) {})},
		{"code-wrong", "Code in a mail, wrong", code(func(p *CodePage) { p.Error = wrong("code", "code_wrong") })},
		{"code-over", "Code in a mail, too many wrong", code(func(p *CodePage) { p.Over = true })},
		{"code-reset", "Code to reset a password, German", code(func(p *CodePage) { p.Layout, p.Purpose, p.Minutes = german(p.Layout), ForReset, 30 })},
		{"code-email", "Code for one more address", code(func(p *CodePage) {
			p.Layout, p.Purpose, p.Back = in("security/emails/code"), ForEmail, "security/emails"
		})},
		{"link-signup", "Link of a sign-up", link(ForSignUp, func(*LinkPage) {})},
		{"link-signup-elsewhere", "Link of a sign-up, in another browser", link(ForSignUp, func(p *LinkPage) { p.Password, p.Error = true, wrong("password", "confirm_password_wrong") })},
		{"link-signup-german", "Link of a sign-up, in another browser, German", link(ForSignUp, func(p *LinkPage) { p.Layout, p.Password = german(p.Layout), true })},
		{"link-email", "Link of one more address", link(ForEmail, func(p *LinkPage) { p.Layout = in("security/emails/confirm") })},
		{"link-unlock", "Link to unlock", link(ForUnlock, func(*LinkPage) {})},
		{"link-undo", "Link to undo a change of address", link(ForUndo, func(*LinkPage) {})},
		{"link-undo-german", "Link to undo a change of address, German", link(ForUndo, func(p *LinkPage) { p.Layout = german(p.Layout) })},
		{"reset", "Ask for a reset", &AskMailPage{Layout: out("reset"), Purpose: ForReset, Action: "reset", Back: "login/account"}},
		{"reset-german", "Ask for a reset, German, no address", &AskMailPage{Layout: german(out("reset")), Purpose: ForReset, Action: "reset", Back: "login/account", Email: "ada", Error: wrong("email", "email_invalid")}},
		{"unlock", "Ask for an unlock", &AskMailPage{Layout: out("unlock"), Purpose: ForUnlock, Action: "unlock", Back: "login/account", Email: address}},
		{"unlock-sent", "Ask for an unlock, sent", &AskMailPage{Layout: out("unlock"), Purpose: ForUnlock, Back: "login/account", Sent: true}},
		{"password-reset", "New password after a reset", password(func(p *PasswordPage) {
			p.Layout, p.Reset, p.Key, p.Current, p.Action, p.Cancel = out("reset/new"), true, "k", false, "reset/new", ""
			p.Errors = []*FieldError{wrong("password", "password_short")}
		})},
		{"password-change", "Change the password", password(func(p *PasswordPage) {
			p.Errors = []*FieldError{wrong("current", "current_wrong")}
		})},
		{"password-change-german", "Change the password, German", password(func(p *PasswordPage) { p.Layout = german(p.Layout) })},
		{"password-first", "Set a password", password(func(p *PasswordPage) { p.Current = false })},
		{"password-no-email", "Set a password, no address yet", password(func(p *PasswordPage) { p.Current, p.NoEmail, p.Emails = false, true, "security/emails" })},
		{"emails", "E-mail addresses", emails(in("security/emails"))},
		{"emails-german", "E-mail addresses, German", emails(german(in("security/emails")))},
		{"emails-none", "E-mail addresses, none", &EmailsPage{Layout: in("security/emails"), Add: "security/emails", Back: "security", Typed: "ada@", Error: wrong("email", "email_invalid")}},
	}
}
