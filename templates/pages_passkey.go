package templates

import "time"

// PasskeyForm asks for a passkey; static/passkey.js does what it says.
type PasskeyForm struct {
	// For is "sign-in", "factor", "add" or "sign-up".
	For string
	// Begin is where the script has the question to the authenticator from, Action where the
	// form is posted to with the answer.
	Begin, Action string
	// Autofill: the browser offers passkeys in a field of the page that has "webauthn" in its
	// autocomplete. Now: it asks as soon as the page is there.
	Autofill, Now bool
	// Beside: the button is the second on the page, after that of another form.
	Beside bool
	// Name is what somebody has called a passkey to add.
	Name string
	// TrustDays: see FactorPage.
	TrustDays int
	// Error stands in the form; Field is "name" or "".
	Error *FieldError
}

// PasskeysPage lists the passkeys of a person.
type PasskeysPage struct {
	Layout
	Passkeys []Passkey
	// Full: there cannot be more. Add is where one is added.
	Full bool
	Add  string
}

// Passkey is one of them.
type Passkey struct {
	// ID goes into the forms.
	ID, Name    string
	Added, Used time.Time
	// Synced: it is on several devices. Copied: it was taken back, because there may be a copy.
	Synced, Copied bool
	// Input was typed as another name, which Error says what is wrong with.
	Input string
	Error *FieldError
}

// PasskeyAddPage adds a passkey.
type PasskeyAddPage struct {
	Layout
	Form   *PasskeyForm
	Cancel string
}

// PasskeySignUpPage asks somebody new for a name, and for their passkey once there is a Form.
type PasskeySignUpPage struct {
	Layout
	Application string
	Action      string
	Name        string
	Error       *FieldError
	// Invited is the address that an invitation was sent to; empty for most.
	Invited string
	// Challenge stands beside the name.
	Challenge *Challenge
	Form      *PasskeyForm
	Back      string
}
