// Package oidc is the OpenID Provider: an OAuth 2.0 authorization server (RFC 6749) with
// OpenID Connect on top. It knows the protocol only. That somebody signs in, and how, is
// not its business: Authorize tells its caller what is still missing, be it a person, a
// fresh sign-in or a consent, and is called again when that is done.
//
// What a client may do in somebody's name is one document, the grant (grant.go): the
// refresh tokens and what became of them are all in it, so that rotating one is one
// compare-and-swap, and revoking is one write that ends everything at once. Until its code
// is redeemed, by one insertion, the code itself carries it (code.go).
package oidc

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/events"
	"login-server/identity"
	"login-server/internal/outbound"
	"login-server/session"
	"login-server/store"
	"login-server/token"
)

// Options are what a Provider needs.
type Options struct {
	// Issuer is the base URL without the slash at its end.
	Issuer   string
	Store    store.Engine
	Users    *identity.Directory
	Sessions *session.Manager
	Tokens   *token.Manager
	// RefreshKeys are what refresh tokens are computed with: the first makes, all verify.
	RefreshKeys [][]byte
	// Codes seals what authorization codes carry.
	Codes *token.Sealer
	Clock clock.Clock
	Log   *slog.Logger
	// HTTP asks for what clients have an address of: keys, request objects, sectors, and
	// takes logout tokens there. Nil is one that asks public servers only.
	HTTP *http.Client

	// Logouts are told of ends of sessions; nil: there is nobody who tells of them, and
	// they are found a little later.
	Logouts *Logouts

	// Changed is told of grants, and of clients in the store, after each write that others may
	// have to know of: what they have in memory is out of date. nil is allowed.
	Changed func(events.Hint)

	// Issued is told of each answer with an access token: to which client, and by which grant
	// type. Refused is told of errors: at which endpoint, and which code. Both are for metrics;
	// nil is allowed.
	Issued  func(client, grantType string)
	Refused func(endpoint, code string)

	// Limit counts a request that leaves a document here and comes from somebody who has proved
	// nothing: a public client. An error refuses it; nil is no limit.
	Limit func(r *http.Request) error

	// HasFactor tells whether somebody could give a second factor; nil: nobody can, there
	// are no accounts of our own.
	HasFactor func(context.Context, identity.Account) (bool, error)

	// Locales are the languages of our pages, as BCP 47 tags.
	Locales []string

	// LegacyFlows allows response types beside code.
	LegacyFlows bool

	// Registration is who may register clients (RegistrationOff, also if empty, …), and
	// RegistrationLimit how many clients may have registered themselves.
	Registration      string
	RegistrationLimit int

	// AccessTokenLife is how long access tokens and ID Tokens live; RefreshIdle and
	// RefreshLife how long a refresh token does, unused and at all.
	AccessTokenLife, RefreshIdle, RefreshLife time.Duration
}

const (
	codeLife = time.Minute // RFC 6749, 4.1.2 allows ten; FAPI 2.0 one
	// interactionLife is how long somebody may take to sign in and consent.
	interactionLife = time.Hour
	// grantsInMemory is how many grants, and claims of access tokens, are kept in memory: what
	// is asked for within seconds. With their garbage they take some 5 KiB each.
	grantsInMemory = 5000
	// grace is how long a refresh token that has been replaced still gives its successor.
	grace = time.Minute
)

// responseTypes that clients may use, their words in alphabetical order.
func responseTypes(legacy bool) []string {
	types := []string{"code"}
	if legacy {
		types = append(types, "id_token", "id_token token", "code id_token", "code token", "code id_token token")
	}
	return types
}

// Provider is the OpenID Provider. It is safe for concurrent use.
type Provider struct {
	o        Options
	clients  *clients
	grants   *store.Collection[grant]
	cache    *store.Cache[store.Item[grant]]
	pending  *store.Collection[interaction]
	pushed   *store.Collection[pushed]
	consents *store.Collection[consent]
	// marks are those of withdrawals, by id, in memory: empty where there is none.
	withdrawals *store.Collection[withdrawal]
	marks       *store.Cache[string]
	origins     *store.Cache[bool] // of clients in the store
	devices     *store.Collection[device]
	logouts     *Logouts
	// salt is what pairwise subjects are computed with; it never changes.
	salt []byte
	// verified are JWT access tokens whose signature was checked.
	verified *store.Cache[*verified]
	// remote are the keys that clients publish; spent and proofs what is good once.
	remote *remoteKeys
	spent  *store.Collection[spent]
	proofs usedProofs
}

// Check tells what is wrong with the clients of apps: a *config.Problems, or nil.
func Check(apps []config.Application, legacyFlows bool) error {
	_, err := listed(apps, legacyFlows)
	return err
}

// Addresses are those that the operator has written in the entries of clients, for
// outbound.Options.
func Addresses(apps []config.Application) []string {
	var list []string
	for _, app := range apps {
		list = append(list, app.JWKSURI, app.SectorIdentifierURI, app.BackchannelLogoutURI)
		list = append(list, app.RequestURIs...)
	}
	return list
}

// New returns the provider for the clients of apps. An error about those is a
// *config.Problems.
func New(ctx context.Context, apps []config.Application, o Options) (*Provider, error) {
	if o.HTTP == nil {
		o.HTTP = outbound.New(outbound.Options{})
	}
	if o.Logouts == nil {
		o.Logouts = NewLogouts(o.Store, o.Clock, o.Log)
	}
	if o.Issued == nil {
		o.Issued = func(string, string) {}
	}
	if o.Refused == nil {
		o.Refused = func(string, string) {}
	}
	if o.Changed == nil {
		o.Changed = func(events.Hint) {}
	}
	p := &Provider{
		o:           o,
		logouts:     o.Logouts,
		grants:      store.NewCollection(o.Store, "grant", grant.index),
		cache:       store.NewCache[store.Item[grant]](grantsInMemory, 5*time.Second, o.Clock.Now),
		pending:     store.NewCollection(o.Store, "authorization", interaction.index),
		pushed:      store.NewCollection(o.Store, "pushed request", pushed.index),
		consents:    store.NewCollection(o.Store, "consent", consent.index),
		withdrawals: store.NewCollection(o.Store, "withdrawal", withdrawal.index),
		marks:       store.NewCache[string](10_000, 5*time.Second, o.Clock.Now),
		origins:     store.NewCache[bool](10_000, 5*time.Second, o.Clock.Now),
		devices:     store.NewCollection(o.Store, "device", device.index),
		verified:    store.NewCache[*verified](grantsInMemory, time.Minute, o.Clock.Now),
		remote:      newRemoteKeys(o),
		spent:       store.NewCollection(o.Store, "spent", spent.index),
		proofs:      usedProofs{now: o.Clock.Now, room: maxProofs},
	}
	var err error
	if p.clients, err = newClients(apps, o); err != nil {
		return nil, err
	}
	p.salt, err = permanent(ctx, o.Store)
	return p, err
}

// permanent returns the salt of the installation, and makes it at the first start. It is
// in the store and not derived from a secret, which may be replaced.
func permanent(ctx context.Context, engine store.Engine) ([]byte, error) {
	type setting struct {
		Value []byte `json:"value"`
	}
	settings := store.NewCollection(engine, "setting", func(setting) store.Index { return store.Index{} })
	const id = "pairwise salt"
	for {
		item, err := settings.Get(ctx, id)
		if !errors.Is(err, store.ErrNotFound) {
			return item.Value.Value, err
		}
		salt := make([]byte, 32)
		_, _ = rand.Read(salt)
		if _, err := settings.Insert(ctx, id, setting{salt}); err != nil && !errors.Is(err, store.ErrExists) {
			return nil, err
		}
	}
}

// random is a value that cannot be guessed: 32 bytes, base64url.
func random() string { return randomName(32) }

// randomName is a name that nobody else has or will have, of so many random bytes. With
// fewer than 32 it is not for secrets.
func randomName(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Scopes.
const (
	scopeOpenID        = "openid"
	scopeProfile       = "profile"
	scopeEmail         = "email"
	scopeAddress       = "address"
	scopePhone         = "phone"
	scopeOffline       = "offline_access"
	scopeIdentities    = "identities"
	scopeSessionEvents = "session_events"
)

var scopes = []string{scopeOpenID, scopeProfile, scopeEmail, scopeAddress, scopePhone, scopeOffline, scopeIdentities, scopeSessionEvents}

// Scopes are those that clients can ask for.
func Scopes() []string { return slices.Clone(scopes) }
