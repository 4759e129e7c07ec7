// Package accounts is the life of accounts that live here: signing up, signing in with a
// password, the ways back, addresses, invitations, and who is told of what. Pages and the
// JSON API of package web both call it, so that there is one set of rules.
//
// It puts together what other rooms keep: credentials and what waits for a mail (package
// credential), accounts (identity), failures (backoff), mails (notify, templates). What
// somebody has shown comes out as a Proof, with which web lets them in; a session is never
// made here.
//
// Who asks learns nothing of others: for an address that is known and one that is not,
// the answer is the same, and so are hashes, writes and mails queued; what is for nobody is
// queued as a decoy. Mail to somebody who is known goes to the address that they have
// verified, never to the spelling of whoever asks.
package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"login-server/audit"
	"login-server/backoff"
	"login-server/clock"
	"login-server/credential"
	"login-server/hashing"
	"login-server/identity"
	"login-server/notify"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// How long what is sent by mail is good for.
const (
	SignUpLife     = time.Hour
	ResetLife      = 30 * time.Minute
	EmailLife      = time.Hour
	UnlockLife     = 30 * time.Minute
	InvitationLife = 7 * 24 * time.Hour
	UndoLife       = 7 * 24 * time.Hour
)

// mostMails is how many mails of a kind go to one address in the time in which what is in
// them is good, and as many go there again. What is asked for beyond that looks the same and
// gets no mail: nobody's inbox is filled. Since that time begins with the first of them,
// whoever asks for somebody else's way back leaves them with links that are good, or with
// room for another.
const mostMails = 3

// Errors, possibly wrapped. Those of package credential that callers meet as well: ErrNotFound
// (a code or link that is not good any more), ErrCode, ErrTries, ErrResent, *TooSoonError, ErrTaken,
// ErrLast.
var (
	// ErrOff: no provider with the strategy account is set, or not this of it.
	ErrOff = errors.New("not offered here")
	// ErrClosed: nobody can sign up, or only who was invited.
	ErrClosed = errors.New("registration is closed")
	// ErrRefused: the address or the password is wrong; see RefusedError.
	ErrRefused = errors.New("wrong address or password")
	// ErrBusy: more passwords wait to be hashed than can be in reasonable time. Nothing was
	// looked at.
	ErrBusy = errors.New("too many passwords to hash")
	// ErrBrowser: it began in another browser, and the link or a password is needed here.
	ErrBrowser = errors.New("begun in another browser")
	// ErrOther: it is another account's.
	ErrOther = errors.New("of another account")
	// ErrAddressTaken: the address of an invitation has an account by now.
	ErrAddressTaken = errors.New("the address has an account")
	// ErrNoMail: the operator has set no way for mails, which this cannot do without.
	ErrNoMail = notify.ErrNoSender
)

// RefusedError is ErrRefused of somebody who is known: for the history of their account,
// and for nobody else's eyes.
type RefusedError struct {
	// Account is the id of the account, empty if there is none yet.
	Account string
}

func (*RefusedError) Error() string { return ErrRefused.Error() }

// Unwrap makes it ErrRefused.
func (*RefusedError) Unwrap() error { return ErrRefused }

// NeedError says what is asked before an attempt is looked at.
type NeedError struct{ backoff.Need }

func (e *NeedError) Error() string {
	if e.Wait > 0 {
		return fmt.Sprintf("too many failures, again in %v", e.Wait.Round(time.Second))
	}
	return "a challenge is needed"
}

// Fields of an InvalidError.
const (
	FieldEmail    = "email"
	FieldPassword = "password"
	FieldName     = "name"
	FieldCurrent  = "current"
)

// InvalidError is what is wrong with a field that somebody has filled in.
type InvalidError struct {
	Field string
	// Reason is stable, a word for programs, and names the message: email_invalid, email_domain,
	// email_own, email_many, email_unknown, email_primary, email_first, password_missing, password_short, password_long, password_characters,
	// password_common, password_personal, password_same, name_too_long, name_control, current_wrong.
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// Proof is what somebody has shown, for web to let them in with.
type Proof struct {
	Profile identity.Profile
	// Methods are values of RFC 8176.
	Methods    []string
	Credential credential.Credential
	// Continue is the query of where they wanted to go when it began; may be empty.
	Continue string
}

// Options are what a Desk stands on.
type Options struct {
	Credentials *credential.Book
	Users       *identity.Directory
	Sessions    *session.Manager
	// Local is the provider whose accounts live here, as it is at the moment.
	Local     func() (*providers.Provider, bool)
	Backoff   *backoff.Book
	Notify    *notify.Queue
	Templates *templates.Set
	// Audit is told of roles that invitations give.
	Audit *audit.Book
	// Hasher makes the hashes; nil: in this process.
	Hasher *hashing.Hasher
	// BaseURL and Title are those of the installation. Links in mails begin with BaseURL.
	BaseURL, Title string
	Clock          clock.Clock
	Log            *slog.Logger
}

// Desk is where people come with what concerns their accounts. It is safe for concurrent use.
type Desk struct {
	o      Options
	hashes hasher
}

// New returns the desk of an installation.
func New(o Options) *Desk {
	if o.Hasher == nil {
		o.Hasher = hashing.New(nil, o.Log)
	}
	return &Desk{o: o, hashes: hasher{processes: o.Hasher}}
}

// local is the provider and what it allows, or ErrOff.
func (d *Desk) local() (*providers.Provider, *providers.Account, error) {
	p, ok := d.o.Local()
	if !ok || p.Account == nil {
		return nil, nil, ErrOff
	}
	return p, p.Account, nil
}

// mailing is the provider where there is a way to send mails; ErrNoMail.
func (d *Desk) mailing() (*providers.Provider, error) {
	p, _, err := d.local()
	if err == nil && !d.o.Notify.CanMail() {
		err = ErrNoMail
	}
	return p, err
}

// withPassword is local where passwords are a way to sign in.
func (d *Desk) withPassword() (*providers.Provider, *providers.Account, error) {
	p, a, err := d.local()
	if err == nil && !a.Password {
		err = ErrOff
	}
	return p, a, err
}

// owner is the account that a credential belongs to; an empty one if there is none, be it
// that the credential is nobody's. The read is done in any case.
func (d *Desk) owner(ctx context.Context, provider, id string) (identity.Account, error) {
	if id == "" {
		id = "nobody"
	}
	a, err := d.o.Users.Owner(ctx, provider, id)
	if errors.Is(err, identity.ErrNotFound) {
		return identity.Account{}, nil
	}
	return a, err
}

// holder is who has an address: their credential and their account, both empty if it is
// nobody's. Both are read in any case.
func (d *Desk) holder(ctx context.Context, provider, address string) (credential.Credential, identity.Account, error) {
	c, err := d.o.Credentials.ByEmail(ctx, address)
	if err != nil && !errors.Is(err, credential.ErrNotFound) {
		return c, identity.Account{}, err
	}
	a, err := d.owner(ctx, provider, c.ID)
	return c, a, err
}

// Credential is the provider whose accounts live here, and the credential that an account has
// there; no provider if there is none, and false if the account has no credential.
func (d *Desk) Credential(ctx context.Context, a identity.Account) (*providers.Provider, credential.Credential, bool, error) {
	p, _, err := d.local()
	if err != nil {
		return nil, credential.Credential{}, false, nil
	}
	own, ok := a.Identities[p.ID]
	if !ok {
		return p, credential.Credential{}, false, nil
	}
	c, err := d.o.Credentials.Get(ctx, own.ID)
	if errors.Is(err, credential.ErrNotFound) {
		return p, credential.Credential{}, false, nil
	}
	return p, c, err == nil, err
}

// profileOf is what the provider says of somebody at a sign-in. name is for who has no
// identity yet; otherwise it keeps the name that it has.
func (d *Desk) profileOf(ctx context.Context, c credential.Credential, name string) (identity.Profile, error) {
	p, _, err := d.local()
	if err != nil {
		return identity.Profile{}, err
	}
	a, err := d.owner(ctx, p.ID, c.ID)
	if err != nil {
		return identity.Profile{}, err
	}
	return profile(p.ID, c, a, name)
}

func profile(provider string, c credential.Credential, a identity.Account, name string) (identity.Profile, error) {
	if own, ok := a.Identities[provider]; ok {
		name = own.Name
	}
	made := identity.Profile{Provider: provider, ID: c.ID, Name: name}
	if email := c.Primary(); email != "" {
		claims, err := json.Marshal(map[string]any{"email": email, "email_verified": true})
		if err != nil {
			return identity.Profile{}, err
		}
		made.Claims = string(claims)
	}
	return made, nil
}

// Shown is what a credential that somebody has shown to be theirs is good for. name is for
// who has no identity yet, methods are values of RFC 8176.
func (d *Desk) Shown(ctx context.Context, c credential.Credential, name string, methods ...string) (Proof, error) {
	p, err := d.profileOf(ctx, c, name)
	if err != nil {
		return Proof{}, err
	}
	return d.appointed(ctx, Proof{Profile: p, Methods: methods, Credential: c})
}

// Answer is a code that somebody has typed, in the browser that what waits began in.
type Answer struct {
	ID, Code string
	// Browser is what that browser keeps (credential.Issued).
	Browser string
}

// answered compares the code of an answer. The Pending goes on.
func (d *Desk) answered(ctx context.Context, kind string, a Answer) (credential.Pending, error) {
	p, err := d.o.Credentials.Pending(ctx, kind, a.ID)
	if err != nil {
		return p, err
	}
	if !p.Bound(a.Browser) {
		return p, ErrBrowser
	}
	return d.o.Credentials.TryCode(ctx, kind, a.ID, a.Code)
}

// Waits returns what waits for a code in the browser that it began in, for the page that asks
// for it: ErrNotFound or ErrBrowser.
func (d *Desk) Waits(ctx context.Context, kind, id, browser string) (credential.Pending, error) {
	p, err := d.o.Credentials.Pending(ctx, kind, id)
	if err == nil && !p.Bound(browser) {
		err = ErrBrowser
	}
	return p, err
}

// ByLink returns what a link leads to, and changes nothing: ErrNotFound.
func (d *Desk) ByLink(ctx context.Context, kind, key string) (credential.Pending, error) {
	return d.o.Credentials.ByLink(ctx, kind, key)
}

// signedOut ends the sessions of who owns a credential, but one.
func (d *Desk) signedOut(ctx context.Context, a identity.Account, keep string) error {
	if a.ID == "" {
		return nil
	}
	ids, err := d.o.Users.IDs(ctx, a)
	if err != nil {
		return err
	}
	_, err = d.o.Sessions.RemoveAll(ctx, keep, ids...)
	return err
}
