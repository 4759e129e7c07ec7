package templates

import "time"

// FactorPage asks for a second factor: in the middle of a sign-in, or of somebody signed in.
type FactorPage struct {
	Layout
	// Application and Client are who it is for, as on the LoginPage.
	Application string
	Client      *Client
	// StepUp: somebody is signed in already.
	StepUp bool
	// Way is how it is given on this page, one of credential's factors; empty: the person has
	// none that could be, and Setup are the ways to get one.
	Way   string
	Other []FactorWay
	Setup []FactorWay
	// Action is where the form is posted to.
	Action string
	// Number is the masked phone number that a code is sent to, Sent that one was.
	Number string
	Sent   bool
	Error  *FieldError
	// TrustDays is for how long the browser can be trusted from now on; 0: it cannot.
	TrustDays int
	// Passkey asks for one, where that is the way; nil otherwise.
	Passkey *PasskeyForm
	// Cancel leads away; Decline, Request and Person are those of the LoginPage.
	Cancel                   string
	Decline, Request, Person string
}

// FactorWay is another way to give a second factor, or to set one up.
type FactorWay struct {
	Name string // one of credential's factors
	URL  string
}

// SecurityPage is all that somebody's sign-in is made of.
type SecurityPage struct {
	Layout
	// Local: the person can have a password, passkeys and so on here.
	Local bool
	// Password, Emails, Passkeys, Phone and TOTP are what there is; nil where there is none.
	// Offered are those that can be set up.
	Password *PasswordState
	Emails   []string
	Passkeys int
	TOTP     *AppState
	Phone    *PhoneState
	Recovery *RecoveryState
	Offered  struct{ Password, Emails, Passkeys, TOTP, Phone bool }
	// Factors: there is something that a second step can ask for. TwoStep: it does.
	Factors, TwoStep bool
	// Trusted: this browser is not asked for it.
	Trusted bool
	// TrustDays is for how long browsers can be trusted; 0: not at all.
	TrustDays int
	// Identities are the names of the providers, Applications how many were let in.
	Identities   []string
	Sessions     []Session
	Applications int
	History      []SignIn
	// Older is where the history goes on, Newest where it begins; empty if that is here.
	Older, Newest string
}

// PasswordState is when a password was chosen.
type PasswordState struct{ Set time.Time }

// AppState is an app for one-time codes.
type AppState struct{ Added, Used time.Time }

// PhoneState is a phone number, masked.
type PhoneState struct {
	Number   string
	Verified time.Time
	SignIn   bool
}

// RecoveryState is how many recovery codes are left.
type RecoveryState struct {
	Left int
	Low  bool
}

// AppPage sets up an app for one-time codes.
type AppPage struct {
	Layout
	// Replaces: there is an app already.
	Replaces bool
	Action   string
	// Picture is the QR code (SVG), URL what is in it, Key the secret in groups.
	Picture  []byte
	URL, Key string
	// Sealed goes into a hidden field of the same name.
	Sealed string
	Error  *FieldError
	Cancel string
}

// PhonePage asks for a number and, with Sent, for the code that was sent there.
type PhonePage struct {
	Layout
	Action string
	Number string
	Sent   bool
	// SignIn: the number can also be a way to sign in; Chosen, that the person wants that.
	SignIn, Chosen bool
	Error          *FieldError
	Cancel         string
}

// RecoveryPage shows recovery codes, once, or tells of them.
type RecoveryPage struct {
	Layout
	// Codes are shown this time only; empty: the page offers to make some.
	Codes  []string
	Left   int
	Action string
	// Next is where the person wanted to go.
	Next string
}

// PhoneLoginPage signs in with a code that is sent to a phone. Whether a number is anybody's
// it does not tell.
type PhoneLoginPage struct {
	Layout
	Provider    Provider
	Application string
	Client      *Client
	Action      string
	Back        string
	Number      string
	Sent        bool
	Error       *FieldError
	// Challenge stands beside the number; nil once a code was sent.
	Challenge *Challenge
}

// NotMePage asks who does not know a sign-in whether to end it.
type NotMePage struct {
	Layout
	Action string
	// Browser, Place and At are of the sign-in.
	Browser, Place string
	At             time.Time
	// Done: it was ended, and there is no password to choose anew.
	Done bool
}
