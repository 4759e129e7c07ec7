// Package session is which browser belongs to whom: sessions, their cookies, the
// browsers that an account knows, and the history of sign-ins and refusals.
//
// A session has a handle and a secret. The handle names it in tokens, events and
// pages, never changes and opens nothing. The secret is in the cookie only, is
// stored as its SHA-256, and is replaced whenever the session's privilege changes.
// A browser in which nobody has signed in has a signed cookie with a handle and no
// document: anonymous visitors cost no write.
package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"iter"
	"slices"
	"time"

	"login-server/identity"
	"login-server/store"
)

// ErrNotFound: there is no such session, or it is somebody else's.
var ErrNotFound = store.ErrNotFound

// touchInterval is how often the rolling expiry of a session is written at the most.
const touchInterval = time.Minute

// Session is a browser in which somebody has signed in.
type Session struct {
	// Handle names the session and opens nothing.
	Handle string `json:"handle"`
	// Secret is the SHA-256 of the secret in the cookie.
	Secret []byte `json:"secret"`
	// UserID is the account that signed in; if it was merged since, the account
	// is found through it.
	UserID string `json:"userId"`
	// Provider is where the person has last proved who they are, at AuthTime.
	Provider string    `json:"provider"`
	AuthTime time.Time `json:"authTime"`
	// Methods are how they did it (RFC 8176): "pwd", or "fed" for a provider's website; with
	// "mfa" several factors were given, the last of them at Elevated.
	Methods []string `json:"methods,omitempty"`
	// SignIn names the latest sign-in: giving one more factor is none.
	SignIn   string    `json:"signIn,omitempty"`
	Elevated time.Time `json:"elevated,omitzero"`
	// Application is the name of the application that sent the person.
	Application string `json:"application,omitempty"`
	// Address and UserAgent are those of the sign-in.
	Address   string `json:"address,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
	// Country (ISO 3166-1, two letters) and City are where Address is; empty if unknown.
	Country string `json:"country,omitempty"`
	City    string `json:"city,omitempty"`
	// Device is the id of the browser: see Browser.
	Device   string    `json:"device,omitempty"`
	Created  time.Time `json:"created"`
	LastSeen time.Time `json:"lastSeen"`
	Expires  time.Time `json:"expires"`
}

// Manager keeps sessions. It is safe for concurrent use.
type Manager struct {
	sessions *store.Collection[Session]
	history  *store.Collection[SignIn]
	cache    *store.Cache[store.Item[Session]]
	cookie   cookie
	lifetime time.Duration
	now      func() time.Time
	changed  func(handle string, removed bool)
	ended    func(context.Context, Session)
}

// Options are what a Manager needs beside the store.
type Options struct {
	Cookie CookieOptions
	// Lifetime is how long a session lives after it was last used.
	Lifetime time.Duration
	Now      func() time.Time
	// Changed is told the handle of a session after a write that others may want to
	// know of; removed tells that it was ended from elsewhere, not by signing out.
	// nil is allowed.
	Changed func(handle string, removed bool)
	// Ended is told of a session that somebody has ended, after that is written. Of
	// those that expire nobody is told. nil is allowed.
	Ended func(context.Context, Session)
	// CacheSize and CacheAge bound what is kept in memory.
	CacheSize int
	CacheAge  time.Duration
}

// NewManager returns the manager of the sessions in engine.
func NewManager(engine store.Engine, o Options) *Manager {
	if o.Changed == nil {
		o.Changed = func(string, bool) {}
	}
	if o.Ended == nil {
		o.Ended = func(context.Context, Session) {}
	}
	return &Manager{
		sessions: store.NewCollection(engine, "session", func(s Session) store.Index {
			return store.Index{Keys: []string{keyUser(s.UserID)}, Expires: s.Expires}
		}),
		history:  store.NewCollection(engine, "signin", SignIn.index),
		cache:    store.NewCache[store.Item[Session]](o.CacheSize, o.CacheAge, o.Now),
		cookie:   newCookie(o.Cookie, o.Lifetime),
		lifetime: o.Lifetime,
		now:      o.Now,
		changed:  o.Changed,
		ended:    o.Ended,
	}
}

func keyUser(id string) string { return "user:" + id }

// Forget drops what is kept in memory of a session, after another node has changed it.
func (m *Manager) Forget(handle string) { m.cache.Forget(handle) }

// ForgetAll drops everything that is kept in memory.
func (m *Manager) ForgetAll() { m.cache.Clear() }

func (m *Manager) wrote(handle string, removed bool) {
	m.cache.Forget(handle)
	m.changed(handle, removed)
}

// Get returns the session of a handle, or ErrNotFound. Knowing a handle proves
// nothing: who comes with a cookie is Visit's to tell.
func (m *Manager) Get(ctx context.Context, handle string) (Session, error) {
	item, err := m.cache.Get(ctx, handle, m.sessions.Get)
	if err == nil && !m.now().Before(item.Value.Expires) {
		// Another node may have moved its expiry on without a word.
		m.cache.Forget(handle)
		item, err = m.sessions.Get(ctx, handle)
		// The database may go by another clock; what counts is ours.
		if err == nil && !m.now().Before(item.Value.Expires) {
			err = ErrNotFound
		}
	}
	return item.Value, err
}

// GetAnew is Get past the memory: for those who would turn down somebody whose session
// another node has changed a moment ago. What memory allows may be late, by as much as it
// keeps things for; what it denies is asked of the store.
func (m *Manager) GetAnew(ctx context.Context, handle string) (Session, error) {
	m.cache.Forget(handle)
	return m.Get(ctx, handle)
}

// Began is Get for the session that began at a time, or ErrNotFound: a handle lives on
// after signing out.
func (m *Manager) Began(ctx context.Context, handle string, at time.Time) (Session, error) {
	s, err := m.Get(ctx, handle)
	if err == nil && s.Created.Before(at) {
		s, err = m.GetAnew(ctx, handle) // which has ended on another node, as the next one has begun
	}
	if err == nil && !s.Created.Equal(at) {
		return Session{}, ErrNotFound
	}
	return s, err
}

// Info is a session without what opens it.
type Info struct {
	Handle      string    `json:"handle"`
	Provider    string    `json:"provider"`
	Application string    `json:"application,omitempty"`
	Address     string    `json:"address,omitempty"`
	UserAgent   string    `json:"userAgent,omitempty"`
	Country     string    `json:"country,omitempty"`
	City        string    `json:"city,omitempty"`
	Created     time.Time `json:"created"`
	AuthTime    time.Time `json:"authTime"`
	LastSeen    time.Time `json:"lastSeen"`
	Expires     time.Time `json:"expires"`
}

// Info returns what may be shown of the session.
func (s Session) Info() Info {
	return Info{
		Handle: s.Handle, Provider: s.Provider, Application: s.Application, Address: s.Address, UserAgent: s.UserAgent,
		Country: s.Country, City: s.City,
		Created: s.Created, AuthTime: s.AuthTime, LastSeen: s.LastSeen, Expires: s.Expires,
	}
}

// NewHandle returns the handle of a session that does not exist yet.
func NewHandle() string { return base64.RawURLEncoding.EncodeToString(random(16)) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return b
}

func hash(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return sum[:]
}

func (s Session) opensWith(secret []byte) bool {
	return subtle.ConstantTimeCompare(s.Secret, hash(secret)) == 1
}

// Login says who has signed in, and from where.
type Login struct {
	UserID, Provider, Application, Address, UserAgent string
	// Country, City, Device and Methods are those of Session.
	Country, City, Device string
	Methods               []string
	// AuthTime and Elevated are those of a session that goes on, for who adds to it and proves
	// nothing new of who has been signed in; zero: now.
	AuthTime, Elevated time.Time
}

// begin stores the session of a login under a handle if that is free, with a new
// secret. entry is what the history has of the login.
func (m *Manager) begin(ctx context.Context, handle, entry string, l Login) (Session, []byte, error) {
	now, secret := m.now(), random(secretSize)
	s := Session{
		Handle: handle, Secret: hash(secret), UserID: l.UserID, Provider: l.Provider,
		Application: l.Application, Address: l.Address, UserAgent: l.UserAgent,
		Country: l.Country, City: l.City, Device: l.Device,
		Created: now, LastSeen: now, Expires: now.Add(m.lifetime),
	}
	s.proved(l, now)
	_, err := m.sessions.Insert(ctx, s.Handle, s)
	if errors.Is(err, store.ErrExists) {
		// Somebody has signed in with a copy of the same anonymous cookie: that
		// session is theirs, this one gets a handle of its own.
		s.Handle = NewHandle()
		if _, err = m.history.Update(ctx, entry, func(e *SignIn) error { e.Session = s.Handle; return nil }); err == nil {
			_, err = m.sessions.Insert(ctx, s.Handle, s)
		}
	}
	m.wrote(s.Handle, false)
	if err != nil {
		return Session{}, nil, err
	}
	return s, secret, nil
}

// renew replaces the secret of the visit's session after its privilege has
// changed. ErrNotFound if the visit does not open it any more: another request of
// the same browser was faster, and has the cookie that does.
func (m *Manager) renew(ctx context.Context, v Visit, l Login) (Session, []byte, error) {
	secret := random(secretSize)
	item, err := m.sessions.Update(ctx, v.Handle, func(s *Session) error {
		if !s.opensWith(v.secret) {
			return ErrNotFound
		}
		now := m.now()
		s.Secret, s.UserID, s.Provider = hash(secret), l.UserID, l.Provider
		s.Address, s.UserAgent = l.Address, l.UserAgent
		s.Country, s.City, s.Device = l.Country, l.City, l.Device
		s.proved(l, now)
		if l.Application != "" {
			s.Application = l.Application
		}
		s.LastSeen, s.Expires = now, now.Add(m.lifetime)
		return nil
	})
	m.wrote(v.Handle, false)
	if err != nil {
		return Session{}, nil, err
	}
	return item.Value, secret, nil
}

// touch rolls the expiry of a session. False means that nothing was to be done,
// or that the secret does not open it any more.
func (m *Manager) touch(ctx context.Context, handle string, secret []byte) (bool, error) {
	now := m.now()
	_, err := m.sessions.Update(ctx, handle, func(s *Session) error {
		if !s.opensWith(secret) || now.Sub(s.LastSeen) < touchInterval {
			return ErrNotFound
		}
		s.LastSeen, s.Expires = now, now.Add(m.lifetime)
		return nil
	})
	m.cache.Forget(handle) // which may not know what another node has written
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Of returns the sessions of accounts, the one used last first.
func (m *Manager) Of(ctx context.Context, userIDs ...string) ([]Session, error) {
	var found []Session
	for _, id := range userIDs {
		for item, err := range m.sessions.All(ctx, store.Query{Key: keyUser(id)}) {
			if err != nil {
				return nil, err
			}
			found = append(found, item.Value)
		}
	}
	slices.SortFunc(found, func(a, b Session) int { return b.LastSeen.Compare(a.LastSeen) })
	return found, nil
}

// Remove ends a session of one of the accounts; ErrNotFound if it is not theirs.
func (m *Manager) Remove(ctx context.Context, handle string, userIDs ...string) error {
	item, err := m.sessions.Get(ctx, handle)
	if err != nil {
		return err
	}
	for _, id := range userIDs {
		if item.Value.UserID == id {
			if err := m.sessions.Delete(ctx, handle); err != nil {
				return err
			}
			m.wrote(handle, true)
			m.ended(ctx, item.Value)
			return nil
		}
	}
	return ErrNotFound
}

// All goes through every session in which somebody is signed in. A second value
// that is not nil ends the sequence.
func (m *Manager) All(ctx context.Context) iter.Seq2[Session, error] {
	return func(yield func(Session, error) bool) {
		for item, err := range m.sessions.All(ctx, store.Query{}) {
			if !yield(item.Value, err) {
				return
			}
		}
	}
}

// DeleteAccount removes an account and whatever is kept here about the person: the
// sessions and the history of sign-ins, also those of accounts that were absorbed.
// The session keep, which may be empty, is left for the caller to end.
//
// The account goes first: from then on nobody can sign in to it, and what a failure
// leaves behind is of no use to anybody.
func (m *Manager) DeleteAccount(ctx context.Context, users *identity.Directory, id, keep string) error {
	a, err := users.Get(ctx, id)
	if err != nil {
		return err
	}
	ids, err := users.IDs(ctx, a)
	if err != nil {
		return err
	}
	if err := users.Delete(ctx, a.ID); err != nil {
		return err
	}
	if _, err := m.RemoveAll(ctx, keep, ids...); err != nil {
		return err
	}
	return m.DeleteHistory(ctx, ids...)
}

// RemoveProvedBy ends the sessions of accounts, but for the one to keep, that were
// opened with an identity at one of the providers.
func (m *Manager) RemoveProvedBy(ctx context.Context, keep string, providers []string, userIDs ...string) error {
	sessions, err := m.Of(ctx, userIDs...)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.Handle == keep || !slices.Contains(providers, s.Provider) {
			continue
		}
		if err := m.Remove(ctx, s.Handle, userIDs...); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// RemoveAll ends all sessions of the accounts but the one to keep, which may be
// empty. It returns the handles of those that are gone.
func (m *Manager) RemoveAll(ctx context.Context, keep string, userIDs ...string) ([]string, error) {
	sessions, err := m.Of(ctx, userIDs...)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, s := range sessions {
		if s.Handle == keep {
			continue
		}
		if err := m.sessions.Delete(ctx, s.Handle); err != nil && !errors.Is(err, ErrNotFound) {
			return gone, err
		}
		m.wrote(s.Handle, true)
		m.ended(ctx, s)
		gone = append(gone, s.Handle)
	}
	return gone, nil
}

// Count tells how many sessions there are in which somebody is signed in.
func (m *Manager) Count(ctx context.Context) (int, error) { return m.sessions.Count(ctx, "") }
