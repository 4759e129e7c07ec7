// Package identity is who people are: accounts, the identities linked to them, and
// the rules of linking, merging, disconnecting and deleting. One rule set serves
// every strategy alike.
//
// An account is one document, and the keys of its identities are unique keys of
// that document, so no identity is ever on two accounts. A merge turns the absorbed
// account into a tombstone that points at the survivor and keeps holding the keys
// of its identities; see merge.go for why a crash at any point heals.
package identity

import (
	"maps"
	"slices"
	"time"
)

// Identity is somebody's account at a provider, linked to an Account here.
type Identity struct {
	ID       string `json:"id"`
	URI      string `json:"uri,omitempty"`
	Name     string `json:"name,omitempty"`
	Username string `json:"username,omitempty"`
}

// User is an account as tokens, events and the API show it.
type User struct {
	ID         string              `json:"_id"`
	URI        string              `json:"uri"`
	Name       string              `json:"name"`
	Identities map[string]Identity `json:"identities"`
	Merged     []string            `json:"merged"`
}

// Usage tells when an account was made and last signed in to.
type Usage struct {
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"lastUsed"`
}

// UserWithUsage is a User as HTTP answers show it.
type UserWithUsage struct {
	User
	Usage Usage `json:"usage"`
}

// Account is one person as the store keeps them.
type Account struct {
	ID   string `json:"_id"`
	URI  string `json:"uri"`
	Name string `json:"name"`
	// Identities by the id of their provider.
	Identities map[string]Identity `json:"identities"`
	// Merged are the URIs of accounts that this one has absorbed.
	Merged   []string  `json:"merged"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"lastUsed"`

	// Updated is when what is known of the person changed last; zero: never since Created.
	Updated time.Time `json:"updated,omitzero"`
	// Claims are standard claims about the person that were set here, and Given what each
	// provider has said of them at the last sign-in with it (claims.go). Tombstones keep
	// the former only.
	Claims map[string]Claim          `json:"claims,omitempty"`
	Given  map[string]map[string]any `json:"given,omitempty"`

	// Notices are what the person wants to be written of. Merging leaves those of the
	// survivor as they are, and an undo gives the other its own again.
	Notices Notices `json:"notices,omitzero"`

	// Adopted is what the account was, in short, when it was taken over from elsewhere
	// (adopt.go); empty for all others.
	Adopted string `json:"adopted,omitempty"`

	// Disabled: an operator has shut the account; nothing of it is lost.
	Disabled bool `json:"disabled,omitempty"`
	// Roles are what the person may do here beside their own account (roles.go). A merge gives
	// the survivor none of the other's, and an undo leaves the other with its own.
	Roles []string `json:"roles,omitempty"`

	// MergedInto is the id of the account that has absorbed this one; the document
	// is then a tombstone that keeps what an undo needs.
	MergedInto string     `json:"mergedInto,omitempty"`
	MergedAt   *time.Time `json:"mergedAt,omitempty"`
	// MergeID is the id of the Intent that made the tombstone: the same two accounts
	// can be merged, separated and merged again.
	MergeID string `json:"mergeId,omitempty"`
	// Held tells, by provider, which tombstone holds the unique key of an identity
	// that came with a merge; identities not in it are held by this document.
	Held map[string]string `json:"held,omitempty"`
	// Upstream is what providers gave to act in the person's name, by provider, as the
	// Sealer has made it. Tombstones have none.
	Upstream map[string]string `json:"upstreamTokens,omitempty"`
	// Deleted marks an account whose removal has been decided and is being carried out.
	Deleted bool `json:"deleted,omitempty"`
	// Absorbed are the accounts this one has absorbed, for the time in which that can be undone.
	Absorbed []Absorbed `json:"absorbed,omitempty"`
	// Intent is a change that spans two documents and has been begun.
	Intent *Intent `json:"intent,omitempty"`
}

// Absorbed is an account that was merged into another.
type Absorbed struct {
	ID        string    `json:"id"`
	URI       string    `json:"uri"`
	Name      string    `json:"name"`
	Providers []string  `json:"providers"`
	At        time.Time `json:"at"`
}

// Intent is half of a change that spans two documents: written first, finished by
// whoever sees it next.
type Intent struct {
	// Kind is "merge" (absorb Other) or "undo" (let Other go again).
	Kind  string `json:"kind"`
	Other string `json:"other"`
	// ID names the merge, this one or the one to undo.
	ID string `json:"id"`
	// Version is that of the document of Other from which a merge was decided.
	Version int64 `json:"version,omitempty"`
	// Providers are those whose identities go back to Other, for "undo".
	Providers []string `json:"providers,omitempty"`
	// Upstream and Given are what goes with the identities that change hands.
	Upstream map[string]string         `json:"upstreamTokens,omitempty"`
	Given    map[string]map[string]any `json:"given,omitempty"`
}

// User is the account as everybody but the store sees it.
func (a Account) User() User {
	u := User{ID: a.ID, URI: a.URI, Name: a.Name, Identities: a.Identities, Merged: a.Merged}
	if u.Identities == nil {
		u.Identities = map[string]Identity{}
	}
	if u.Merged == nil {
		u.Merged = []string{}
	}
	return u
}

// UserWithUsage is the account as HTTP answers show it.
func (a Account) UserWithUsage() UserWithUsage {
	return UserWithUsage{User: a.User(), Usage: Usage{Created: a.Created, LastUsed: a.LastUsed}}
}

// clone returns a copy that shares nothing with a, so that an account from the
// cache is never changed in place.
func (a Account) clone() Account {
	a.Identities = maps.Clone(a.Identities)
	if a.Identities == nil {
		a.Identities = map[string]Identity{}
	}
	a.Held = maps.Clone(a.Held)
	a.Upstream = maps.Clone(a.Upstream)
	a.Claims = maps.Clone(a.Claims)
	a.Given = maps.Clone(a.Given)
	a.Merged = slices.Clone(a.Merged)
	a.Absorbed = slices.Clone(a.Absorbed)
	return a
}

// Providers lists the providers of the account's identities in alphabetical order.
func (a Account) Providers() []string {
	return slices.Sorted(maps.Keys(a.Identities))
}

// shared lists the providers at which both accounts have an identity.
func shared(a, b Account) []string {
	return slices.DeleteFunc(a.Providers(), func(provider string) bool {
		_, both := b.Identities[provider]
		return !both
	})
}

// holder is the id of the document that holds the unique key of the identity at a
// provider: the account itself, or a tombstone.
func (a Account) holder(provider string) string {
	if held := a.Held[provider]; held != "" {
		return held
	}
	return a.ID
}

// has tells whether the identity is one of the account's own.
func (a Account) has(provider, id string) bool {
	own, ok := a.Identities[provider]
	return ok && own.ID == id
}
