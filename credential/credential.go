// Package credential is what people of this server prove themselves with: addresses,
// passwords, passkeys, one-time codes, recovery codes, a phone number.
//
// All of somebody's is one document, whose id is that of their identity at the provider
// with the strategy account. Who came by another provider gets one with their first
// factor. Addresses, passkeys and phone numbers are unique keys of the document, so none
// is ever on two. What waits for an answer to a mail or a message (a sign-up, a reset, an
// address to add) is a document of its own, and proves nothing before it was answered.
//
// The room knows nothing of accounts: which of them an identity is linked to is package
// identity's.
package credential

import (
	"context"
	"errors"
	"slices"
	"time"

	"login-server/clock"
	"login-server/store"
	"login-server/token"
)

// Errors of the Book, possibly wrapped.
var (
	// ErrNotFound: there is no such credential, address or passkey.
	ErrNotFound = store.ErrNotFound
	// ErrTaken: the address, passkey or number is somebody else's.
	ErrTaken = errors.New("belongs to somebody else")
	// ErrLast: without it nobody could sign in any more.
	ErrLast = errors.New("the last way to sign in")
)

// Credential is what one local identity is proved with.
type Credential struct {
	// ID is that of the identity at the provider: random, and never used again.
	ID string `json:"_id"`
	// Emails are verified addresses; one of them is the primary one.
	Emails   []Email   `json:"emails,omitempty"`
	Password *Password `json:"password,omitempty"`
	Passkeys []Passkey `json:"passkeys,omitempty"`
	TOTP     *TOTP     `json:"totp,omitempty"`
	// Recovery are codes that take the place of a factor that was lost, each once.
	Recovery []RecoveryCode `json:"recovery,omitempty"`
	Phone    *Phone         `json:"phone,omitempty"`
	// TwoStep: every sign-in to the account asks for a second factor, whatever the
	// provider, unless it was a passkey that has verified the person.
	TwoStep bool `json:"twoStep,omitempty"`
	// Moves counts how often mail has gone to another address from then on.
	Moves int `json:"moves,omitempty"`
	// Role is what an invitation makes of the account; empty once the account has it.
	Role    string    `json:"role,omitempty"`
	Created time.Time `json:"created"`
	// Changed is when something was taken away or replaced that others may have got hold
	// of: browsers that were trusted before, and sign-ins half done, are not any more.
	Changed time.Time `json:"changed"`
}

// Email is an address that somebody has shown to be theirs.
type Email struct {
	// Address as it was typed, which is where mail goes.
	Address  string    `json:"address"`
	Primary  bool      `json:"primary,omitempty"`
	Verified time.Time `json:"verified"`
}

// Password is the hash of a password.
type Password struct {
	Hash string    `json:"hash"`
	Set  time.Time `json:"set"`
}

// Passkey is a public key of an authenticator (WebAuthn Level 3).
type Passkey struct {
	// ID is the credential id of the authenticator.
	ID []byte `json:"id"`
	// Name is what the person calls it.
	Name  string    `json:"name"`
	Added time.Time `json:"added"`
	Used  time.Time `json:"used,omitzero"`
	// Cloned is when its counter went back: there may be a copy, and neither signs in.
	Cloned time.Time `json:"cloned,omitzero"`
	// Record is the rest, as package webauthn keeps it.
	Record []byte `json:"record"`
}

// TOTP is the secret of an app for one-time codes (RFC 6238), sealed.
type TOTP struct {
	Secret string    `json:"secret"`
	Added  time.Time `json:"added"`
	Used   time.Time `json:"used,omitzero"`
	// Step is the time step of the last code that was taken: each is good once (RFC 6238, 5.2).
	Step int64 `json:"step,omitempty"`
}

// RecoveryCode is the hash of one, with a key.
type RecoveryCode struct {
	Hash []byte    `json:"hash"`
	Used time.Time `json:"used,omitzero"`
}

// Phone is a number that somebody has shown to be theirs.
type Phone struct {
	// Number in the form of E.164: +4915112345678.
	Number   string    `json:"number"`
	Verified time.Time `json:"verified"`
	// Factor: codes may be sent there as a second factor. SignIn: also as the first.
	Factor bool `json:"factor,omitempty"`
	SignIn bool `json:"signIn,omitempty"`
}

// Primary is the address that mail goes to; empty if there is none.
func (c Credential) Primary() string {
	for _, e := range c.Emails {
		if e.Primary {
			return e.Address
		}
	}
	return ""
}

// HasEmail tells whether an address is among those of the credential, in whichever spelling.
func (c Credential) HasEmail(address string) bool {
	return slices.ContainsFunc(c.Emails, func(e Email) bool { return Fold(e.Address) == Fold(address) })
}

// SignsIn tells whether somebody can sign in with it, without another provider.
func (c Credential) SignsIn() bool {
	passkey := slices.ContainsFunc(c.Passkeys, func(p Passkey) bool { return p.Cloned.IsZero() })
	return c.Password != nil && len(c.Emails) > 0 || passkey || c.Phone != nil && c.Phone.SignIn
}

// Ways of giving a second factor.
const (
	FactorTOTP     = "totp"
	FactorPasskey  = "passkey"
	FactorSMS      = "sms"
	FactorRecovery = "recovery"
)

// Factors are the ways in which a second factor can be given, the best first.
func (c Credential) Factors() []string {
	var ways []string
	if len(c.Passkeys) > 0 {
		ways = append(ways, FactorPasskey)
	}
	if c.TOTP != nil {
		ways = append(ways, FactorTOTP)
	}
	if c.Phone != nil && c.Phone.Factor {
		ways = append(ways, FactorSMS)
	}
	// Codes alone are no factor: they stand in for one.
	if len(ways) > 0 && slices.ContainsFunc(c.Recovery, func(r RecoveryCode) bool { return r.Used.IsZero() }) {
		ways = append(ways, FactorRecovery)
	}
	return ways
}

// Due tells whether a second factor has to be given after the first.
func (c Credential) Due() bool { return c.TwoStep && len(c.Factors()) > 0 }

// Options are what a Book needs.
type Options struct {
	Store store.Engine
	Clock clock.Clock
	// NewID returns a fresh UUID.
	NewID func() string
	// Secrets are those of the installation (SESSION_SECRET): the first seals and hashes, all
	// open and verify. Without any, what is sealed cannot be opened, nor anything made that is.
	Secrets []string
}

// Book keeps credentials. It is safe for concurrent use, also by several processes on one
// store.
type Book struct {
	o           Options
	credentials *store.Collection[Credential]
	pending     *store.Collection[Pending]
	tallies     *store.Collection[tally] // of wrong codes
	// sealer encrypts secrets of one-time codes and what waits for a mail; nil without secrets.
	sealer *token.Sealer
	// keys are those of the hashes of codes, which are too short to be hashed without one.
	keys [][]byte
}

// NewBook returns the book of the credentials in a store.
func NewBook(o Options) (*Book, error) {
	b := &Book{o: o, credentials: store.NewCollection(o.Store, "credential", index)}
	b.openPending()
	if len(o.Secrets) == 0 {
		return b, nil
	}
	var err error
	if b.sealer, err = token.NewSealer(o.Secrets, "credentials"); err != nil {
		return nil, err
	}
	for _, secret := range o.Secrets {
		b.keys = append(b.keys, token.DeriveKey(secret, "credential codes"))
	}
	return b, nil
}

func index(c Credential) store.Index {
	var ix store.Index
	for _, e := range c.Emails {
		ix.Unique = append(ix.Unique, keyEmail(e.Address))
	}
	for _, p := range c.Passkeys {
		ix.Unique = append(ix.Unique, keyPasskey(p.ID))
	}
	if c.Phone != nil {
		ix.Unique = append(ix.Unique, keyPhone(c.Phone.Number))
	}
	return ix
}

// Get returns a credential, or ErrNotFound. It asks the store: what lets somebody in is
// never out of date.
func (b *Book) Get(ctx context.Context, id string) (Credential, error) {
	item, err := b.credentials.Get(ctx, id)
	return item.Value, err
}

// ByEmail returns the credential that an address belongs to, in whichever spelling, or
// ErrNotFound.
func (b *Book) ByEmail(ctx context.Context, address string) (Credential, error) {
	return b.byKey(ctx, keyEmail(address))
}

// ByPhone returns the credential that a number in the form of E.164 belongs to, or ErrNotFound.
func (b *Book) ByPhone(ctx context.Context, number string) (Credential, error) {
	return b.byKey(ctx, keyPhone(number))
}

// ByPasskey returns the credential that an authenticator's key belongs to, or ErrNotFound.
func (b *Book) ByPasskey(ctx context.Context, id []byte) (Credential, error) {
	return b.byKey(ctx, keyPasskey(id))
}

func (b *Book) byKey(ctx context.Context, key string) (Credential, error) {
	if len(key) > store.MaxKey {
		return Credential{}, ErrNotFound
	}
	item, err := b.credentials.GetUnique(ctx, key)
	return item.Value, err
}

// Create makes a credential of what fill puts into an empty one. ErrTaken if an address,
// passkey or number in it is somebody else's: of several at once one gets it.
func (b *Book) Create(ctx context.Context, fill func(*Credential)) (Credential, error) {
	now := b.o.Clock.Now()
	c := Credential{ID: b.o.NewID(), Created: now, Changed: now}
	fill(&c)
	item, err := b.credentials.Insert(ctx, c.ID, c)
	if errors.Is(err, store.ErrExists) {
		err = ErrTaken
	}
	return item.Value, err
}

// Update changes a credential. change may run several times; what it
// returns as an error ends it, and nothing is written. ErrTaken as for Create.
func (b *Book) Update(ctx context.Context, id string, change func(*Credential) error) (Credential, error) {
	item, err := b.credentials.Update(ctx, id, change)
	if errors.Is(err, store.ErrExists) {
		err = ErrTaken
	}
	return item.Value, err
}

// Count tells how many credentials there are.
func (b *Book) Count(ctx context.Context) (int, error) { return b.credentials.Count(ctx, "") }

// Delete removes a credential with what waits for it; it is no error if there is none.
func (b *Book) Delete(ctx context.Context, id string) error {
	for _, kind := range []string{PendingReset, PendingEmail, PendingUndoEmail, PendingUnlock, PendingLogin, PendingNotMe} {
		if err := b.Withdraw(ctx, kind, id); err != nil {
			return err
		}
	}
	err := b.credentials.Delete(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
