package templates

import "time"

// SignInPage is where people sign in whose accounts live here.
type SignInPage struct {
	Layout
	Provider    Provider
	Application string
	// Client is the application that asked for the sign-in by OpenID Connect; nil if none did.
	Client *Client
	// Password: an address and a password can be typed. Action is where they are posted to.
	Password bool
	Action   string
	Back     string
	// Email that was tried before, to be filled in again.
	Email string
	// Error stands in the form; Field is "username", "password" or "".
	Error *FieldError
	// Linking means that somebody is signed in and adds this identity to the account.
	Linking bool
	// Challenge is asked for after failures; nil if it is not.
	Challenge *Challenge
	// Passkey asks for one; nil where nobody can sign in with it.
	Passkey *PasskeyForm
	// SignUp, Reset and Unlock lead on; empty where there is nothing.
	SignUp, Reset, Unlock string
	// Phone leads to signing in with a code that is sent there; may be empty.
	Phone string
}

// SignUpPage is filled in by who is new.
type SignUpPage struct {
	Layout
	Application string
	Action      string
	// SignIn leads to who has an account already, Passkey to signing up with a passkey alone; the latter may be empty.
	SignIn, Passkey string
	Email, Name     string
	// Invited: the address is that of an invitation, whose key goes into a hidden field.
	Invited    bool
	Invitation string
	// Domains are those that addresses have to be in; any if there are none.
	Domains []string
	// Least is how many characters a password has.
	Least     int
	Errors    []*FieldError
	Challenge *Challenge
	// Closed: nobody can sign up here; Invitations: but who was invited.
	Closed, Invitations bool
}

// ErrorOf is what is wrong with a field; nil if nothing is.
func (p SignUpPage) ErrorOf(field string) *FieldError { return errorOf(p.Errors, field) }

func errorOf(errors []*FieldError, field string) *FieldError {
	for _, e := range errors {
		if e.Field == field {
			return e
		}
	}
	return nil
}

// Purposes of CodePage, LinkPage and AskMailPage.
const (
	ForSignUp = "signup"
	ForReset  = "reset"
	ForEmail  = "email"
	ForUnlock = "unlock"
	ForUndo   = "undo"
)

// CodePage asks for the code in a mail.
type CodePage struct {
	Layout
	Purpose string // ForSignUp, ForReset or ForEmail
	Email   string
	Minutes int
	// Action takes the code, Resend has the mail sent again, Back begins anew.
	Action, Resend, Back string
	Error                *FieldError
	// Over: no code is looked at any more.
	Over bool
}

// LinkPage is what a link in a mail leads to: it does nothing before the button is pressed.
type LinkPage struct {
	Layout
	Purpose string // ForSignUp, ForEmail, ForUnlock or ForUndo
	Email   string
	Action  string
	// Key goes into a hidden field.
	Key string
	// Password: it is asked as well, for it began in another browser.
	Password bool
	Error    *FieldError
	Cancel   string
}

// AskMailPage asks for the address that a mail is sent to.
type AskMailPage struct {
	Layout
	Purpose string // ForReset or ForUnlock
	Email   string
	Action  string
	Back    string
	Error   *FieldError
	// Challenge is nil once it is Sent.
	Challenge *Challenge
	// Sent: a mail is on its way, if there is such an account.
	Sent bool
}

// PasswordPage chooses a password.
type PasswordPage struct {
	Layout
	// Reset: with the key of a mail, which goes into a hidden field. Otherwise by who is signed in.
	Reset  bool
	Key    string
	Action string
	// Current: the present password is asked. Email is what it is typed beside, for password managers.
	Current bool
	Email   string
	Least   int
	Errors  []*FieldError
	Cancel  string
	// Challenge is asked for after failures; nil if it is not.
	Challenge *Challenge
	// NoEmail: there is no address yet that the password could be typed beside; Emails leads there.
	NoEmail bool
	Emails  string
}

// ErrorOf is what is wrong with a field; nil if nothing is.
func (p PasswordPage) ErrorOf(field string) *FieldError { return errorOf(p.Errors, field) }

// EmailsPage is the addresses of who is signed in.
type EmailsPage struct {
	Layout
	Emails []EmailAddress
	// Waiting are addresses that no code was typed for yet.
	Waiting []WaitingEmail
	// Add, Primary and Remove take what is posted.
	Add, Primary, Remove string
	Typed                string
	Error                *FieldError
	Full                 bool
	Back                 string
}

// EmailAddress is one that belongs to somebody.
type EmailAddress struct {
	Address  string
	Primary  bool
	Verified time.Time
}

// WaitingEmail is one that somebody has yet to show to be theirs.
type WaitingEmail struct {
	Address string
	URL     string // where its code is typed
}
