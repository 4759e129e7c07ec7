package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"login-server/store"
)

// Errors of the Directory, possibly wrapped.
var (
	// ErrNotFound: nobody has this id or identity.
	ErrNotFound = store.ErrNotFound
	// ErrLastIdentity: an account keeps at least one identity, or nobody could ever sign in to it.
	ErrLastIdentity = errors.New("the last identity cannot be disconnected")
	// ErrNotLinked: the account has no identity at that provider.
	ErrNotLinked = errors.New("no identity at this provider")
	// ErrBusy: another merge of one of the two accounts is under way; try again.
	ErrBusy = errors.New("another change of these accounts is under way")
	// ErrUndoExpired: the merge is unknown or too long ago to be undone.
	ErrUndoExpired = errors.New("this merge can no longer be undone")
	// ErrUndoImpossible: one of the two accounts would be left without an identity.
	ErrUndoImpossible = errors.New("undoing this merge would leave an account without identity")
	// ErrNameEmpty, ErrNameLong and ErrNameControl: what is wrong with a name.
	ErrNameEmpty   = errors.New("the name is empty")
	ErrNameLong    = fmt.Errorf("the name has more than %d characters", MaxName)
	ErrNameControl = errors.New("the name contains control characters")
	// ErrDisabled: an operator has disabled the account. Nobody signs in to it, and nothing
	// joins it.
	ErrDisabled = errors.New("the account is disabled")
	// ErrProfile: a provider has vouched for somebody without a usable id, or hands on
	// what tokens cannot carry.
	ErrProfile = errors.New("profile that cannot be used")
)

// MaxName is how many characters a name may have.
const MaxName = 200

// UndoPeriod is how long a merge can be undone.
const UndoPeriod = 7 * 24 * time.Hour

// OwnedError says that an identity belongs to another account, which shares no
// provider with the own one: the two can be merged.
type OwnedError struct{ Owner Account }

func (e *OwnedError) Error() string { return "identity belongs to another account" }

// SharedError says that two accounts cannot become one because both have an
// identity at the same providers.
type SharedError struct{ Providers []string }

func (e *SharedError) Error() string {
	return "both accounts have an identity at " + strings.Join(e.Providers, ", ")
}

// Directory keeps accounts. It is safe for concurrent use, also by several
// processes on one store.
type Directory struct {
	accounts *store.Collection[Account]
	departed *store.Collection[departed]
	rosters  *store.Collection[roster]
	cache    *store.Cache[*kept]
	baseURL  string
	now      func() time.Time
	newID    func() string
	changed  func(ids ...string)
	sealer   Sealer
	exposes  func(provider string) bool
	released func(ctx context.Context, provider, id string)
}

// Options are what a Directory needs beside the store.
type Options struct {
	// BaseURL is the prefix of account URIs, with trailing slash.
	BaseURL string
	Now     func() time.Time
	// NewID returns a fresh UUID.
	NewID func() string
	// Changed is told the ids of accounts after each write that others may want
	// to know of; nil is allowed.
	Changed func(ids ...string)
	// Sealer encrypts what providers gave to act in people's names. Exposes tells of which
	// providers it is handed on to applications at this moment (exposeUpstreamToken).
	// Without a Sealer nothing of that is kept, dropped or shown.
	Sealer  Sealer
	Exposes func(provider string) bool
	// Released is told of identities that nobody has any more, after they were disconnected
	// or their account was deleted; nil is allowed.
	Released func(ctx context.Context, provider, id string)
	// CacheSize and CacheAge bound what is kept in memory.
	CacheSize int
	CacheAge  time.Duration
}

// Kind is that of the documents that accounts are.
const Kind = "user"

// NewDirectory returns the directory of the accounts in engine.
func NewDirectory(engine store.Engine, o Options) *Directory {
	if o.Changed == nil {
		o.Changed = func(...string) {}
	}
	if o.Exposes == nil {
		o.Exposes = func(string) bool { return false }
	}
	if o.Released == nil {
		o.Released = func(context.Context, string, string) {}
	}
	return &Directory{
		accounts: store.NewCollection(engine, Kind, index),
		departed: store.NewCollection(engine, "departed user", func(departed) store.Index { return store.Index{} }),
		rosters:  store.NewCollection(engine, "roster", func(roster) store.Index { return store.Index{} }),
		cache:    store.NewCache[*kept](o.CacheSize, o.CacheAge, o.Now),
		baseURL:  o.BaseURL,
		now:      o.Now,
		newID:    o.NewID,
		changed:  o.Changed,
		sealer:   o.Sealer,
		exposes:  o.Exposes,
		released: o.Released,
	}
}

// Look-up keys of accounts.
const (
	keyLive      = "live"      // neither tombstone nor deleted
	keyIntent    = "intent"    // has an unfinished change
	keyDeleted   = "deleted"   // removal under way
	keyTombstone = "tombstone" // absorbed by another account
	keyAbsorbed  = "absorbed"  // has absorbed others
	keyUpstream  = "upstream"  // tokens carry what a provider gave
)

// keyIdentity counts the provider's bytes, so that no two pairs have the same key.
func keyIdentity(provider, id string) string {
	return fmt.Sprintf("identity:%d:%s:%s", len(provider), provider, id)
}

func keyProvider(provider string) string { return "provider:" + provider }
func keyMerged(uri string) string        { return "merged:" + uri }
func keyInto(id string) string           { return "into:" + id }

func index(a Account) store.Index {
	var ix store.Index
	if a.Deleted {
		ix.Keys = []string{keyDeleted}
		return ix
	}
	for provider, id := range a.Identities {
		if a.Held[provider] == "" {
			ix.Unique = append(ix.Unique, keyIdentity(provider, id.ID))
		}
	}
	if a.MergedInto != "" {
		ix.Keys = []string{keyTombstone, keyInto(a.MergedInto)}
		return ix
	}
	ix.Keys = append(ix.Keys, keyLive)
	if a.Intent != nil {
		ix.Keys = append(ix.Keys, keyIntent)
	}
	if len(a.Absorbed) > 0 {
		ix.Keys = append(ix.Keys, keyAbsorbed)
	}
	if len(a.Upstream) > 0 {
		ix.Keys = append(ix.Keys, keyUpstream)
	}
	for provider := range a.Identities {
		ix.Keys = append(ix.Keys, keyProvider(provider))
	}
	for _, uri := range a.Merged {
		ix.Keys = append(ix.Keys, keyMerged(uri))
	}
	for _, role := range a.Roles {
		ix.Keys = append(ix.Keys, keyRole(role))
	}
	ix.Keys = append(ix.Keys, nameKeys(a.Name)...)
	return ix
}

// Forget drops what is kept in memory of an account, after another node has changed it.
func (d *Directory) Forget(id string) { d.cache.Forget(id) }

// ForgetAll drops everything that is kept in memory.
func (d *Directory) ForgetAll() { d.cache.Clear() }

// wrote makes a write known: readers on this node see it from now on, the others
// are told. It is called after failed writes too, for those may have happened.
func (d *Directory) wrote(ids ...string) {
	for _, id := range ids {
		d.cache.Forget(id)
	}
	d.changed(ids...)
}

// Get returns the live account with an id, or the one that has absorbed it.
// The caller must not change what the account's fields point to.
func (d *Directory) Get(ctx context.Context, id string) (Account, error) {
	a, _, err := d.Trace(ctx, id)
	return a, err
}

// JSON returns the User and the UserWithUsage of a live account as JSON, which is
// made once as long as the account stays as it is. The caller must not change it.
func (d *Directory) JSON(ctx context.Context, id string) (user, withUsage []byte, err error) {
	k, err := d.cache.Get(ctx, id, d.load)
	if err != nil {
		return nil, nil, err
	}
	if a := k.item.Value; a.Deleted || a.MergedInto != "" || a.Intent != nil {
		// It is changing at this moment; what comes of it is not in memory yet.
		if a, err = d.Get(ctx, id); err != nil {
			return nil, nil, err
		}
		k = &kept{item: store.Item[Account]{Value: a}}
	}
	k.once.Do(func() {
		a := k.item.Value
		if k.user, k.err = json.Marshal(a.User()); k.err == nil {
			k.withUsage, k.err = json.Marshal(a.UserWithUsage())
		}
	})
	return k.user, k.withUsage, k.err
}

// kept is an account in memory.
type kept struct {
	item store.Item[Account]

	once            sync.Once
	user, withUsage []byte
	err             error
}

func (d *Directory) load(ctx context.Context, id string) (*kept, error) {
	item, err := d.accounts.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &kept{item: item}, nil
}

// Trace is Get for those who want to hear of changes: when any of the accounts in
// via changes, another account may answer to id. via is what has been seen so far
// in case of an error.
func (d *Directory) Trace(ctx context.Context, id string) (a Account, via []string, err error) {
	path, err := d.follow(ctx, id, func(ctx context.Context, id string) (store.Item[Account], error) {
		k, err := d.cache.Get(ctx, id, d.load)
		if err != nil {
			return store.Item[Account]{}, err
		}
		return k.item, nil
	})
	via = []string{id}
	for _, item := range path {
		if next := item.Value.MergedInto; next != "" {
			via = append(via, next)
		} else {
			a = item.Value
		}
	}
	return a, via, err
}

// live returns the live account of an id as the store has it now.
func (d *Directory) live(ctx context.Context, id string) (store.Item[Account], error) {
	for {
		path, gone := d.follow(ctx, id, d.accounts.Get)
		if gone != nil && !errors.Is(gone, ErrNotFound) {
			return store.Item[Account]{}, gone
		}
		var end store.Item[Account]
		if gone == nil {
			path, end = path[:len(path)-1], path[len(path)-1]
		}
		same, err := d.unchanged(ctx, path)
		if err != nil {
			return store.Item[Account]{}, err
		}
		if same {
			return end, gone
		}
	}
}

// unchanged tells whether tombstones are still what they were when they were read.
// If so, they all led where they did at the moment when the account at their end
// was read: no undo has come in between.
func (d *Directory) unchanged(ctx context.Context, tombstones []store.Item[Account]) (bool, error) {
	for _, t := range tombstones {
		now, err := d.accounts.Get(ctx, t.ID)
		if errors.Is(err, ErrNotFound) || err == nil && now.Version != t.Version {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// follow goes from an id by the tombstones to the live account, which is the last
// of the path, and finishes what it finds half done. With an error it returns the
// tombstones up to there.
func (d *Directory) follow(ctx context.Context, id string, get func(context.Context, string) (store.Item[Account], error)) (path []store.Item[Account], err error) {
	next := id
	for {
		item, err := get(ctx, next)
		switch {
		case err != nil:
			return path, err
		case item.Value.Deleted:
			return path, ErrNotFound
		case item.Value.Intent != nil:
			if err := d.settle(ctx, next); err != nil {
				return path, err
			}
			// It may have been an undo, and the way that has led here another one now.
			path, next = path[:0], id
		case item.Value.MergedInto != "":
			path, next = append(path, item), item.Value.MergedInto
		default:
			return append(path, item), nil
		}
	}
}

// Locate returns the account that answers to /users/{id} today, and whether that
// is another one than asked for because the account was merged.
func (d *Directory) Locate(ctx context.Context, id string) (a Account, moved bool, err error) {
	a, err = d.Get(ctx, id)
	if err == nil {
		return a, a.ID != id, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return a, false, err
	}
	// Accounts taken over from elsewhere know their former URIs but have no tombstones.
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyMerged(d.baseURL + "users/" + id)}) {
		return item.Value, err == nil, err
	}
	return Account{}, false, ErrNotFound
}

// Owner returns the live account that an identity is linked to, or ErrNotFound.
func (d *Directory) Owner(ctx context.Context, provider, id string) (Account, error) {
	for {
		holder, err := d.accounts.GetUnique(ctx, keyIdentity(provider, id))
		if err != nil {
			return Account{}, err
		}
		item, err := d.live(ctx, holder.ID)
		switch {
		case errors.Is(err, ErrNotFound) && holder.Value.MergedInto != "":
			// The account that had absorbed the holder is deleted, and with it this identity.
		case err != nil:
			return Account{}, err
		case item.Value.has(provider, id):
			return item.Value, nil
		}
		// The key outlives the identity: it was disconnected from the account that
		// had absorbed the holder. An account that is not merged holds just what it has.
		if err := d.release(ctx, holder, provider); err != nil {
			return Account{}, err
		}
	}
}

// release gives up the key of an identity that a tombstone still holds. If the
// holder has changed meanwhile nothing is done; the caller looks again.
func (d *Directory) release(ctx context.Context, holder store.Item[Account], provider string) error {
	if holder.Value.MergedInto == "" {
		return nil
	}
	holder.Value = holder.Value.clone()
	delete(holder.Value.Identities, provider)
	_, err := d.accounts.Replace(ctx, holder)
	d.cache.Forget(holder.ID)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// update changes a live account. change works on a copy and may run several times.
func (d *Directory) update(ctx context.Context, id string, change func(*Account) error) (Account, error) {
	for {
		item, err := d.live(ctx, id)
		if err != nil {
			return Account{}, err
		}
		before := item.Value
		item.Value = before.clone()
		if err := change(&item.Value); err != nil {
			return Account{}, err
		}
		if !item.Value.tellsTheSame(before) && item.Value.Updated.Equal(before.Updated) && !item.Value.Deleted {
			item.Value.Updated = d.now()
		}
		item, err = d.accounts.Replace(ctx, item)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		d.wrote(item.ID)
		if err != nil {
			return Account{}, err
		}
		return item.Value, nil
	}
}

// maxURI is how long the URI of an identity may be; a longer one is left out.
const maxURI = 2048

// identity makes what is kept of a profile. Every token carries it, so whatever a
// provider says is cut to a size.
func (p Profile) identity() Identity {
	i := Identity{ID: p.ID, Name: displayed(p.Name), Username: displayed(p.Username)}
	if len(p.URI) <= maxURI && utf8.ValidString(p.URI) {
		i.URI = p.URI
	}
	return i
}

// MaxID is how many bytes the id of a provider and of a person there may have each.
const MaxID = 448

func (p Profile) check() error {
	if p.Provider == "" || len(p.Provider) > MaxID || p.ID == "" || len(p.ID) > MaxID || !utf8.ValidString(p.ID) {
		return fmt.Errorf("%w: provider %.64q has no usable id", ErrProfile, p.Provider)
	}
	return nil
}

// accountName is how somebody is called who has just come: by the profile's name,
// else username@provider, else id@provider.
func (p Profile) accountName() string {
	if name := displayed(p.Name); name != "" {
		return name
	}
	for _, part := range []string{p.Username, p.ID} {
		if part = displayed(part); part != "" {
			return displayed(part + "@" + p.Provider)
		}
	}
	return p.Provider
}

// displayed makes of what a provider says a name that CheckName would take, or
// the empty string if nothing is left.
func displayed(text string) string {
	text = trimName(strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "")))
	if runes := []rune(text); len(runes) > MaxName {
		text = trimName(string(runes[:MaxName]))
	}
	return text
}

// SignIn returns the account that the profile's identity is linked to, and makes
// one when there is none. Any number of first sign-ins at once make one account.
func (d *Directory) SignIn(ctx context.Context, p Profile) (a Account, created bool, err error) {
	if err := p.check(); err != nil {
		return Account{}, false, err
	}
	sealed, err := d.seal(p)
	if err != nil {
		return Account{}, false, err
	}
	for {
		owner, err := d.Owner(ctx, p.Provider, p.ID)
		switch {
		case err == nil:
			a, err = d.touch(ctx, owner.ID, p, sealed)
			if errors.Is(err, ErrNotLinked) || errors.Is(err, ErrNotFound) {
				continue // it was disconnected, or the account deleted, just now
			}
			return a, false, err
		case !errors.Is(err, ErrNotFound):
			return Account{}, false, err
		}
		id, now := d.newID(), d.now()
		a = Account{
			ID:         id,
			URI:        d.baseURL + "users/" + id,
			Name:       p.accountName(),
			Identities: map[string]Identity{p.Provider: p.identity()},
			Merged:     []string{},
			Created:    now,
			LastUsed:   now,
		}
		a.keepUpstream(p.Provider, sealed)
		a.keepGiven(p.Provider, p.given())
		_, err = d.accounts.Insert(ctx, id, a)
		if errors.Is(err, store.ErrExists) {
			continue // a sign-in at the same time was faster
		}
		d.wrote(id)
		return a, true, err
	}
}

// touch notes a sign-in and takes over what the provider says of the identity today.
func (d *Directory) touch(ctx context.Context, id string, p Profile, sealed string) (Account, error) {
	return d.update(ctx, id, func(a *Account) error {
		if !a.has(p.Provider, p.ID) {
			return ErrNotLinked
		}
		if a.Disabled {
			return ErrDisabled
		}
		a.Identities[p.Provider] = p.identity()
		a.keepUpstream(p.Provider, sealed)
		a.keepGiven(p.Provider, p.given())
		a.LastUsed = d.now()
		return nil
	})
}

// Link adds the profile's identity to an account; linking it again changes nothing.
//
// It returns *SharedError when the account has another identity at that provider,
// or when the identity's owner and the account share a provider, and *OwnedError
// when the identity belongs to an account that could be merged.
func (d *Directory) Link(ctx context.Context, id string, p Profile) (Account, error) {
	if err := p.check(); err != nil {
		return Account{}, err
	}
	sealed, err := d.seal(p)
	if err != nil {
		return Account{}, err
	}
	for {
		item, err := d.live(ctx, id)
		if err != nil {
			return Account{}, err
		}
		own := item.Value
		owner, err := d.Owner(ctx, p.Provider, p.ID)
		switch {
		case err == nil && owner.ID == own.ID:
			a, err := d.touch(ctx, own.ID, p, sealed)
			if errors.Is(err, ErrNotLinked) {
				continue
			}
			return a, err
		case err == nil && owner.Disabled:
			return Account{}, ErrDisabled
		case err == nil:
			if both := shared(own, owner); len(both) > 0 {
				return Account{}, &SharedError{Providers: both}
			}
			if sealed != "" {
				owner, err = d.renew(ctx, owner.ID, p, sealed)
				if errors.Is(err, ErrNotLinked) || errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return Account{}, err
				}
			}
			return Account{}, &OwnedError{Owner: owner}
		case !errors.Is(err, ErrNotFound):
			return Account{}, err
		}
		a, err := d.update(ctx, own.ID, func(a *Account) error {
			if old, ok := a.Identities[p.Provider]; ok && old.ID != p.ID {
				return &SharedError{Providers: []string{p.Provider}}
			}
			a.Identities[p.Provider] = p.identity()
			delete(a.Held, p.Provider)
			a.keepUpstream(p.Provider, sealed)
			a.keepGiven(p.Provider, p.given())
			a.LastUsed = d.now()
			return nil
		})
		if errors.Is(err, store.ErrExists) {
			continue // somebody has taken the identity meanwhile
		}
		return a, err
	}
}

// Disconnect removes the identity at a provider from an account. The last one
// stays: ErrLastIdentity. ErrNotLinked if there is none.
func (d *Directory) Disconnect(ctx context.Context, id, provider string) (Account, error) {
	var gone Identity
	var holder string
	a, err := d.update(ctx, id, func(a *Account) error {
		var ok bool
		if gone, ok = a.Identities[provider]; !ok {
			return ErrNotLinked
		}
		if len(a.Identities) == 1 {
			return ErrLastIdentity
		}
		holder = a.Held[provider]
		delete(a.Identities, provider)
		delete(a.Held, provider)
		delete(a.Upstream, provider)
		delete(a.Given, provider)
		return nil
	})
	if err != nil {
		return a, err
	}
	d.released(ctx, provider, gone.ID)
	if holder == "" {
		return a, nil
	}
	// The identity is free already as far as Owner is concerned; this tidies up.
	if item, err := d.accounts.GetUnique(ctx, keyIdentity(provider, gone.ID)); err == nil && item.ID == holder {
		_ = d.release(ctx, item, provider)
	}
	return a, nil
}

// unprintable are the characters that no name may contain: controls, line and
// paragraph separators, and marks that turn the direction of text.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && !joiner(r) || r == '\u2028' || r == '\u2029'
}

// joiner: some scripts need them inside words; alone they are invisible.
func joiner(r rune) bool { return r == '\u200c' || r == '\u200d' }

func trimName(name string) string {
	return strings.TrimFunc(name, func(r rune) bool { return unicode.IsSpace(r) || joiner(r) })
}

// CheckName returns the name as it would be kept, or what is wrong with it.
func CheckName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", ErrNameControl
	}
	name = trimName(name)
	switch {
	case name == "":
		return "", ErrNameEmpty
	case utf8.RuneCountInString(name) > MaxName:
		return "", ErrNameLong
	case strings.ContainsFunc(name, unprintable):
		return "", ErrNameControl
	}
	return name, nil
}

// Rename gives an account another name; errors are those of CheckName.
func (d *Directory) Rename(ctx context.Context, id, name string) (Account, error) {
	name, err := CheckName(name)
	if err != nil {
		return Account{}, err
	}
	return d.update(ctx, id, func(a *Account) error {
		a.Name = name
		return nil
	})
}

// SetDisabled disables an account, or enables it again. The sessions are for the caller
// to end.
func (d *Directory) SetDisabled(ctx context.Context, id string, disabled bool) (Account, error) {
	return d.update(ctx, id, func(a *Account) error {
		a.Disabled = disabled
		return nil
	})
}

// Delete removes an account and the tombstones of those it has absorbed. Its
// identities are free at once, even if the rest has to be finished by Heal.
func (d *Directory) Delete(ctx context.Context, id string) error {
	var gone map[string]Identity
	a, err := d.update(ctx, id, func(a *Account) error {
		gone = a.Identities
		// Nothing but the id stays, and whether it was taken over, so that whoever holds an
		// older version fails to write it.
		*a = Account{ID: a.ID, Deleted: true, Adopted: a.Adopted}
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.remove(ctx, a.ID); err != nil {
		return err
	}
	d.wrote(a.ID)
	for provider, i := range gone {
		d.released(ctx, provider, i.ID)
	}
	return nil
}

// remove deletes the documents of a deleted account, the tombstones first, for
// they are found through it.
func (d *Directory) remove(ctx context.Context, id string) error {
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyInto(id)}) {
		if err != nil {
			return err
		}
		if err := d.remove(ctx, item.ID); err != nil {
			return err
		}
	}
	if err := d.depart(ctx, id); err != nil {
		return err
	}
	err := d.accounts.Delete(ctx, id)
	d.cache.Forget(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// List returns one page of live accounts in the order of their ids.
func (d *Directory) List(ctx context.Context, after string, limit int) ([]Account, error) {
	items, err := d.accounts.Find(ctx, store.Query{Key: keyLive, After: after, Limit: limit})
	accounts := make([]Account, len(items))
	for i, item := range items {
		accounts[i] = item.Value
	}
	return accounts, err
}

// Count tells how many accounts there are; with a provider, how many have an
// identity there.
func (d *Directory) Count(ctx context.Context, provider string) (int, error) {
	if provider == "" {
		return d.accounts.Count(ctx, keyLive)
	}
	return d.accounts.Count(ctx, keyProvider(provider))
}

// IDs are all ids under which something may be kept about a person: that of the
// account, and those of the accounts it has absorbed.
func (d *Directory) IDs(ctx context.Context, a Account) ([]string, error) {
	ids := []string{a.ID}
	if len(a.Merged) == 0 {
		return ids, nil
	}
	former, err := d.Former(ctx, a.ID)
	for _, f := range former {
		ids = append(ids, f.ID)
	}
	return ids, err
}

// Former returns what is still kept of the accounts that this one has absorbed,
// directly or through another.
func (d *Directory) Former(ctx context.Context, id string) ([]Account, error) {
	var former []Account
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyInto(id)}) {
		if err != nil {
			return nil, err
		}
		before, err := d.Former(ctx, item.ID)
		if err != nil {
			return nil, err
		}
		former = append(append(former, item.Value), before...)
	}
	return former, nil
}
