package templates

import "time"

// passkeyExamples are the pages of passkeys.
func passkeyExamples(layout Layout) []Example {
	in := layout
	in.User = "Ada Lovelace"
	german := func(l Layout) Layout {
		l.Lang = "de"
		return l
	}
	said := func(l Layout, kind, id string, args map[string]any) Layout {
		l.Messages = []Message{{Kind: kind, ID: id, Args: args}}
		return l
	}
	wrong := func(field, id string) *FieldError {
		return &FieldError{Field: field, Message: Message{Kind: "error", ID: id}}
	}
	day := func(d int) time.Time { return time.Date(2026, time.November, d, 9, 12, 0, 0, time.UTC) }
	own := []Passkey{
		{ID: "a", Name: "Chrome on Linux", Added: day(2), Used: day(21), Synced: true},
		{ID: "b", Name: "Key on the key ring", Added: day(3)},
		{ID: "c", Name: "An old key with a name that is so long that it needs two lines", Added: day(1), Used: day(9), Copied: true},
	}
	misnamed := append([]Passkey{}, own...)
	misnamed[0].Input, misnamed[0].Error = "", wrong("name-a", "passkey_name_missing")
	list := func(l Layout, passkeys []Passkey, full bool) *PasskeysPage {
		return &PasskeysPage{Layout: l, Passkeys: passkeys, Full: full, Add: "security/passkeys/add"}
	}
	form := func(purpose string, e *FieldError) *PasskeyForm {
		return &PasskeyForm{For: purpose, Begin: "passkey/begin", Action: "passkey", Error: e}
	}
	account := Provider{ID: "account", Name: "Account", Strategy: "account", LoginURL: "login/account"}
	return []Example{
		{"passkeys", "Passkeys", list(said(in, "success", "passkey_added", map[string]any{"Name": "Key on the key ring"}), own, false)},
		{"passkeys-german", "Passkeys, German", list(german(in), own, false)},
		{"passkeys-none", "Passkeys: none", list(in, nil, false)},
		{"passkeys-first", "Passkeys: after signing up", list(said(in, "success", "passkey_welcome", map[string]any{"Name": "Ada"}), own[:1], false)},
		{"passkeys-full", "Passkeys: no more", list(said(in, "error", "passkey_last", nil), own, true)},
		{"passkeys-misnamed", "Passkeys: wrong name", list(in, misnamed, false)},
		{"passkey-add", "Add a passkey", &PasskeyAddPage{Layout: in, Form: form("add", nil), Cancel: "security/passkeys"}},
		{"passkey-add-refused", "Add a passkey: known", &PasskeyAddPage{Layout: in, Form: form("add", wrong("", "passkey_taken")), Cancel: "security/passkeys"}},
		{"passkey-add-misnamed", "Add a passkey: wrong name", &PasskeyAddPage{Layout: german(in), Form: form("add", wrong("name", "passkey_name_wrong")), Cancel: "security/passkeys"}},
		{"passkey-signup", "Sign up with a passkey", &PasskeySignUpPage{Layout: layout, Action: "signup/passkey", Back: "login"}},
		{"passkey-signup-wrong", "Sign up with a passkey: no name", &PasskeySignUpPage{Layout: german(layout), Application: "Cocoda", Action: "signup/passkey", Error: wrong("name", "name_empty"), Back: "login"}},
		{"passkey-signup-invited", "Sign up with a passkey: invited", &PasskeySignUpPage{Layout: german(layout), Name: "Ada Lovelace", Invited: "ada.lovelace@mathematics.example.org", Action: "signup/passkey?invitation=key", Back: "login"}},
		{"passkey-signup-create", "Sign up with a passkey: create it", &PasskeySignUpPage{Layout: layout, Name: "Ada", Form: form("sign-up", nil), Back: "login"}},
		{"signin-passkey", "Sign in: password or passkey", &SignInPage{Layout: layout, Provider: account, Password: true, Action: "login/account", Back: "login", Phone: "login/account/phone", SignUp: "signup", Reset: "reset",
			Passkey: &PasskeyForm{For: "sign-in", Begin: "passkey/begin", Action: "passkey", Beside: true}}},
		{"signin-passkey-only", "Sign in: passkey alone, refused", &SignInPage{Layout: german(layout), Provider: account, Back: "login", Passkey: form("sign-in", wrong("", "passkey_refused"))}},
	}
}
