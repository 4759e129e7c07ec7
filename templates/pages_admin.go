package templates

import "time"

// The pages of administrators.

// AdminPage is the installation in numbers.
type AdminPage struct {
	Layout
	People, Admins, Sessions, Clients int
	// Waiting and Failed are messages.
	Waiting, Failed int
	// ProvidersDown are those that have not answered the last time.
	ProvidersDown int
	// Entries are the latest of the audit log.
	Entries []AuditEntry
}

// AuditEntry is an entry of the audit log.
type AuditEntry struct {
	Number             int64
	At                 time.Time
	Actor, ActorName   string
	ActorURL           string // empty for who is no account
	System             bool   // a command, or the server by itself
	Action             string
	Target, TargetName string
	TargetURL          string
	Address            string
	State              string // "begun", "done", "failed"; empty for commands
	Details            []string
}

// AdminPeoplePage is a list of people.
type AdminPeoplePage struct {
	Layout
	Query  string
	People []AdminPersonLine
	// First and Next lead to other pages of the list; empty where there are none.
	First, Next string
}

// AdminPersonLine is somebody in a list.
type AdminPersonLine struct {
	ID, URL, Name     string
	Providers         []string
	Created, LastUsed time.Time
	Disabled, Admin   bool
}

// AdminPersonPage is all that administrators see of somebody.
type AdminPersonPage struct {
	Layout
	Person AdminPersonLine
	URI    string
	Former []string
	// Self: it is the administrator who looks at it.
	Self bool
	// Page is where it is, below which its forms are posted to.
	Page       string
	Identities []Identity
	Emails     []AdminEmail
	Password   bool
	Passkeys   []AdminPasskey
	TOTP       *AppState
	Phone      *PhoneState
	// Factors are what a second factor can be given with, as credential names them.
	Factors      []string
	RecoveryLeft int
	TwoStep      bool
	// Resettable: there are factors that can be taken away. CanReset: a mail with which a password is chosen
	// can be sent.
	Resettable, CanReset bool
	Sessions             []Session
	Applications         []AdminConnection
	History              []SignIn
	Older, Newest        string
}

// AdminEmail is an address of somebody.
type AdminEmail struct {
	Address  string
	Primary  bool
	Verified time.Time
}

// AdminPasskey is a passkey of somebody.
type AdminPasskey struct {
	Name        string
	Added, Used time.Time
}

// AdminConnection is an application that somebody has let in.
type AdminConnection struct {
	Name        string
	Since, Used time.Time
}

// AdminConfirmPage asks before something is done that cannot be undone.
type AdminConfirmPage struct {
	Layout
	Section string
	// What names the words: reset_factors, revoke_admin, delete, remove_client, remove_message.
	What string
	// Name and ID are of what it is done to.
	Name, ID string
	// Typed asks for the name to be typed.
	Typed          bool
	Action, Cancel string
	Error          *FieldError
}

// AdminInvitePage asks somebody to sign up.
type AdminInvitePage struct {
	Layout
	Email     string
	Language  string
	Languages []Language
	Error     *FieldError
	// Link is shown instead, once, where no mail is sent.
	Link string
}

// AdminClientsPage lists clients.
type AdminClientsPage struct {
	Layout
	Clients []AdminClient
}

// AdminClientPage is one client.
type AdminClientPage struct {
	Layout
	Client AdminClient
}

// AdminClient is a client, without secrets.
type AdminClient struct {
	ID, Name, URL string
	// Page is where it is shown.
	Page string
	// Listed: it is in applications.json. Self: it has registered itself.
	Listed, Self, Disabled bool
	Created                time.Time
	Method, Scope          string
	Redirects, Grants      []string
	// Secrets is how many are good.
	Secrets int
}

// AdminMessagesPage is the queue of mails and SMS.
type AdminMessagesPage struct {
	Layout
	// State limits the list: "waiting", "failed" or empty.
	State       string
	Queue       []AdminMessage
	First, Next string
}

// AdminMessage is a message in the queue, without what it says.
type AdminMessage struct {
	ID, Channel, Kind, To string
	// Failed: it was given up. Late: it is of no use any more.
	Failed, Late bool
	Queued, Next time.Time
	Attempts     int
	Problem      string
	// Remove is where it is asked whether to remove it.
	Remove string
}

// AdminProvidersPage tells how the providers are.
type AdminProvidersPage struct {
	Layout
	Providers []AdminProvider
}

// AdminProvider is how a provider was when it was last asked.
type AdminProvider struct {
	Provider  Provider
	People    int
	Known, Up bool
	At, Since time.Time
	Problem   string
}

// AdminAuditPage is the audit log.
type AdminAuditPage struct {
	Layout
	Entries []AuditEntry
	// Action, Actor and Target limit the list.
	Action, Actor, Target string
	Actions               []string
	Older, Newest         string
}
