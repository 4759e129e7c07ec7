package templates

import "time"

// Layout is what every page shows around its content.
type Layout struct {
	// Title of the installation (TITLE), shown in the header.
	Title string
	// Lang is the language of the page as BCP 47 tag, such as "en" or "de".
	Lang string
	// Base is the path below which the server is mounted, with trailing slash: "/" or "/login/".
	// Every link and asset is built from it.
	Base string
	// Nonce is the CSP nonce of this response, for script and style elements.
	Nonce string
	// Path is the path and query of this page below Base, for the language switch.
	Path string
	// User is the name of the signed-in person; empty when signed out.
	User string
	// Picture is the path below Base of a small picture of them; empty if they have none here.
	Picture string
	// Admin: they look after the accounts of others, too.
	Admin bool
	// Links in the footer; each may be empty.
	ImprintURL, PrivacyURL, SourcesURL string
	// Messages stand above the content, such as "Signed in." after a redirect.
	Messages []Message
	// Dev shows a mark that this is a development server.
	Dev bool
}

// Common is the layout of any page, to be set without knowing which page it is.
func (l *Layout) Common() *Layout { return l }

// Message is one line for the person, by the id of its translation.
type Message struct {
	Kind string // "success", "info", "warning" or "error"
	// ID of the translation, and what is filled into it.
	ID   string
	Args map[string]any
}

// Provider is one way to sign in.
type Provider struct {
	ID, Name string
	// Strategy tells which built-in icon fits when Image is empty.
	Strategy string
	Image    string // absolute URL of its picture; may be empty
	LoginURL string // path to go on at, with the redirect_uri in it
}

// LoginPage lists the providers.
type LoginPage struct {
	Layout
	Providers []Provider
	// Application is the name of the application that sent the person; may be empty.
	Application string
	// RedirectHost is the host the person is taken to after the login, when it is another than ours.
	RedirectHost string
	// Client is the application that asked for the sign-in by OpenID Connect; nil if none did.
	Client *Client
	// Fresh: somebody is signed in, and is to prove it again.
	Fresh bool
	// Decline is where the form is posted to that says no to the client; Request and Person
	// go into hidden fields.
	Decline, Request, Person string
}

// CredentialsPage is the form of one provider.
type CredentialsPage struct {
	Layout
	Provider    Provider
	Application string
	// Action is where the form is posted to.
	Action string
	// Back leads to the list of providers.
	Back string
	// Username that was tried before, to be filled in again.
	Username string
	// Error stands beside the form; nil when there is none. Field is "username", "password" or "".
	Error *FieldError
	// Linking means that somebody is signed in and adds this identity to the account.
	Linking bool
	// Client is the application that asked for the sign-in by OpenID Connect; nil if none did.
	Client *Client
	// Challenge is to be answered as well; nil if none is.
	Challenge *Challenge
}

// FieldError is a message beside a field of a form.
type FieldError struct {
	Field   string
	Message Message
}

// Identity is a linked identity as the account page shows it.
type Identity struct {
	Provider                Provider
	ID, URI, Name, Username string
	// DisconnectURL is where the form to disconnect posts to; empty when it is the last one.
	DisconnectURL string
	// TokenGiven: applications get what they need to act at the provider in the person's name.
	TokenGiven bool
}

// Merge is an account that was merged into this one and can be restored.
type Merge struct {
	ID        string
	Name      string
	Providers []string
	At, Until time.Time
}

// AccountPage shows and changes the signed-in person's account.
type AccountPage struct {
	Layout
	ID, URI, Name     string
	Created, LastUsed time.Time
	Identities        []Identity
	// Connectable are the providers that are not linked yet.
	Connectable []Provider
	// Merged are former URIs of this account.
	Merged []string
	Undo   []Merge
	// NameError stands beside the name field; NameInput is what was typed.
	NameError *FieldError
	NameInput string
	// Connected are the applications that the person has let in.
	Connected []Connected
	// Large is the path below Base of a picture of the person; may be empty.
	Large string
}

// Connected is an application that somebody has let in.
type Connected struct {
	Client Client
	// Trusted: the operator has let it in.
	Trusted bool
	Scopes  []Message
	// Since is when it came first, Used when it got something last.
	Since, Used time.Time
}

// ProfilePage shows and changes what is known of the signed-in person.
type ProfilePage struct {
	Layout
	Name    string
	Picture ProfilePicture
	Groups  []ClaimGroup
	// SignInMails: the person is written of sign-ins from new browsers and countries.
	SignInMails bool
	// Wrong: something that was filled in cannot be kept, and nothing was.
	Wrong bool
}

// ClaimGroup is some claims that belong together; ID is that of its heading.
type ClaimGroup struct {
	ID     string
	Title  Message
	Fields []ClaimField
}

// ClaimField is a claim, or a member of one, in a form.
type ClaimField struct {
	// Name of the field, and its id in the page.
	Name  string
	Label Message
	Hint  *Message
	Type  string // of the input; "lines" has several, "choice" is one of Choices
	Value string
	// Choices are what to choose from; Value is among them.
	Choices []ChoiceGroup
	// Autocomplete is what browsers fill in.
	Autocomplete string
	// Source says who it is from; nil when nothing is known.
	Source *Message
	// Judged: it can have been verified, and was or not.
	Judged, Verified bool
	// Offered is what a provider says in place of it; nil if that is nothing.
	Offered *Message
	// Claim is what the button to take that over is about.
	Claim string
	Error *FieldError
}

// AccountSide is one of the two accounts on the merge page.
type AccountSide struct {
	Name, URI         string
	Created, LastUsed time.Time
	Identities        []Identity
}

// MergePage asks before two accounts become one.
type MergePage struct {
	Layout
	Current, Other AccountSide
	Action         string
	// Proof goes into a hidden field of the same name.
	Proof  string
	Cancel string
}

// Session is one row of the sessions page.
type Session struct {
	Handle                     string
	Current                    bool
	Application                string
	Browser                    string // such as "Firefox on Linux"
	Address                    string
	Place                      string // such as "Lyon, France"
	Provider                   string // name of the provider of the last sign-in
	Created, LastUsed, Expires time.Time
	Sockets                    int
	// Page is the one that its form leads back to.
	Page string
}

// SessionsPage lists the sessions of the signed-in person.
type SessionsPage struct {
	Layout
	Sessions []Session
	SignIns  []SignIn
}

// SignIn is one entry of the sign-in history.
type SignIn struct {
	At          time.Time
	Provider    string
	Address     string
	Place       string
	Browser     string
	Application string
	// Methods are how it was proved.
	Methods []Message
	Result  string // "ok", or one of session's others: refused
	// More: so many refusals of a day that are not listed one by one.
	More int
}

// DeletePage asks before the account is deleted. Typed asks for the account's
// name to be typed, because the last sign-in is not fresh.
type DeletePage struct {
	Layout
	Name  string
	Typed bool
	Error *FieldError
}

// LogoutPage asks before signing out; Done says that it has happened.
type LogoutPage struct {
	Layout
	// Action is where the form is posted to, with the redirect_uri in it.
	Action string
	Done   bool
	// Frames are addresses of clients that the browser loads, so that they sign the person
	// out as well (OpenID Connect Front-Channel Logout).
	Frames []string
	// Continue is the whole address to go on to when it is done; may be empty. Auto: once
	// the frames are loaded the page goes on by itself.
	Continue string
	Auto     bool
}

// ConfirmPage asks before an identity is disconnected.
type ConfirmPage struct {
	Layout
	Provider       Provider
	Action, Cancel string
}

// HelpPage tells what is stored and which applications see it.
type HelpPage struct {
	Layout
	Applications []Application
	CookieDays   int
}

// Application is a listed application.
type Application struct{ Name, URL string }

// APIPage is the live demonstration of the API and the events.
type APIPage struct {
	Layout
	BaseURL      string // absolute
	WebSocketURL string
}

// ErrorPage says in plain words what is wrong and what to do next.
type ErrorPage struct {
	Layout
	Status int
	// Code is stable: "not_found", "rate_limited", "unavailable", "internal",
	// "expired", "redirect_refused", "cross_site", "bad_request", "unauthorized",
	// "forbidden", "too_large", "method_not_allowed". Another one reads like
	// "bad_request" or "internal", as Status says.
	Code string
	// RetryAfter is the waiting time in seconds for "rate_limited".
	RetryAfter int
	RequestID  string
	// Link leads on; its label is translated by Code. Detail is a safe value such
	// as the host that was refused.
	Link   string
	Detail string
}

// DepartPage explains that the login goes on at a provider's own pages.
type DepartPage struct {
	Layout
	Provider    Provider
	Application string
	// Go leads there, Back to the list of providers, or to the account.
	Go, Back string
	// Linking means that somebody is signed in and adds this identity to the account.
	Linking bool
	// Auto: the page leads on by itself, after Delay seconds: at once, but for the gallery.
	Auto  bool
	Delay int
}

// Client is an application as the pages of the OpenID Provider show it. Logo, Policy and
// Terms are addresses that may be empty.
type Client struct {
	ID, Name, URL, Logo, Policy, Terms string
	// Host is where the answer goes, or the application is.
	Host string
}

// ConsentPage asks whether a client may have what it asks for.
type ConsentPage struct {
	Layout
	Client Client
	// Scopes are what it asks for beside knowing who somebody is, in words.
	Scopes []Scope
	// Action is where the form is posted to; Request and Person go into hidden fields.
	Action, Request, Person string
	// Other leads to signing in as somebody else.
	Other string
}

// Scope is what an application asks for: a few words, and a sentence.
type Scope struct{ Title, Text Message }

// ChoosePage asks whether to go on as who is signed in.
type ChoosePage struct {
	Layout
	Client                  Client
	Action, Request, Person string
	// Other leads to signing in as somebody else.
	Other string
}

// DevicePage is where the code of a device is entered and, if there is a Client, what
// asks whether that device may have what it asks for, or says what was answered.
type DevicePage struct {
	Layout
	// Typed is filled in; Error is what is wrong with it.
	Typed string
	Error *FieldError

	Client *Client
	// Code is the one that the device shows.
	Code   string
	Scopes []Message
	// Allowed or Denied is what was answered.
	Allowed, Denied bool

	Action, Person string
}

// FormPostPage posts an answer to a client, by itself where JavaScript is on (OAuth 2.0
// Form Post Response Mode).
type FormPostPage struct {
	Layout
	// Auto: the page posts it by itself.
	Auto       bool
	Action     string
	Parameters map[string]string
}

// LeavePage leads to an application on the person's own device, where browsers do not
// follow a redirect.
type LeavePage struct {
	Layout
	// URL may have a scheme of its own: a reverse domain name (RFC 8252, 7.1).
	URL string
	// Auto: the page leads on by itself.
	Auto bool
}
