// Package token is everything that is signed or encrypted: keys and their rotation, the
// JWTs that applications verify with the PEM from /about or with the JWKS, and sealed
// values that only this server can read.
//
// One key signs the tokens of GET /token. It is a pair in files, or, as several nodes want
// it that share a store, it is in that (ring.go). The OpenID Provider signs with it too, and
// with keys for other algorithms, which are in the store in any case. A key is used with one
// algorithm, and signs and does nothing else. One more pair, which signs nothing, is for what
// applications encrypt for this server (encryption.go). What the server encrypts for itself uses
// keys derived from SESSION_SECRET, one for each purpose.
package token

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/store"
)

// Token is a signed JWT as the API and the events hand it out.
type Token struct {
	Token string `json:"token"`
	// ExpiresIn is the lifetime in seconds, counted from when it was signed.
	ExpiresIn int `json:"expiresIn"`
}

// Options are what a Manager needs.
type Options struct {
	// The files of the pair that Sign signs with. Both empty: its keys are in the store.
	PrivateKeyPath, PublicKeyPath string
	// The algorithm and life of the tokens that Sign makes.
	Algorithm string
	ExpiresIn time.Duration

	// Sealer encrypts the keys that the files do not give, which are kept in the store, and
	// those that the files gave before. Without one there are none, and there have to be files.
	Sealer *Sealer
	// Secret tells with which secret of the Sealer they are sealed: with one that all nodes
	// know, while SESSION_SECRET is changed node by node. nil is the first one.
	Secret func() int
	// Life is that of the longest-lived token that SignJWT is to sign.
	Life time.Duration
	// PublishFor is how long a key is in the JWKS before it signs, and RotateEvery how long
	// it signs; 0 is for good.
	PublishFor, RotateEvery time.Duration

	// Encrypts tells whether others are to encrypt for us; nil: never. While it does there is a
	// key of Encryption, in the store, if there is a Sealer.
	Encrypts func() bool

	// Look is for commands beside the server: nothing is made or noted but by RotateKey.
	Look bool
	// Written is called after keys in the store were changed here, so that other nodes can be
	// told to Refresh; may be nil.
	Written func()

	Now func() time.Time
	Log *slog.Logger // may be nil
}

// KeysPurpose is what the Sealer of Options is for.
const KeysPurpose = "signing keys"

// Leeway is by how much the clocks of nodes that share a store may differ: what one of them
// has signed or sealed is good on the others for as long as it is meant to be.
const Leeway = 30 * time.Second

// Manager signs tokens. It is safe for concurrent use.
type Manager struct {
	options    Options
	log        *slog.Logger
	algorithms []string
	retired    *store.Collection[sealedKey]
	rings      *store.Collection[ring]

	keys atomic.Pointer[keySet]

	mu sync.Mutex // of those who change keys
	// wrote: keys in the store were changed since mu was taken.
	wrote bool
	// settled: what has taken the place of other keys has retired them.
	settled bool
	// odd are the kids of retired keys in the store that cannot be used, which was said.
	odd map[string]bool
	// looked is when an unknown kid has last made us read the keys again.
	looked time.Time
}

// keySet is what is derived from the keys in force; it is replaced as a whole.
type keySet struct {
	files *key              // nil: the keys of all algorithms are in rings
	rings map[string][]*key // by algorithm, in the order in which they sign
	byID  map[string]*key   // all that sign, or have
	// encryption are those that others encrypt with for us, in the order of their making. They
	// are nowhere else, so that none of them signs and none that signs decrypts.
	encryption []*key
	// headers that were found to be those of our tokens: as many as there are keys and types.
	headers sync.Map // string → *key
	// published are the JWKS of the times to come, each without the keys that have
	// expired by then; the last one holds for good.
	published []publication
}

// publication is a JWKS and when it is replaced by the next one.
type publication struct {
	until time.Time
	body  []byte
	tag   string
}

// at returns the JWKS of a time.
func (s *keySet) at(now time.Time) *publication {
	last := len(s.published) - 1
	for i := range s.published[:last] {
		if now.Before(s.published[i].until) {
			return &s.published[i]
		}
	}
	return &s.published[last]
}

// signer returns the key that signs with an algorithm, or nil: the newest one whose time
// has come. If there is only one whose time is to come in a moment, the clock of the node
// that has made it is ahead of ours.
func (s *keySet) signer(algorithm string, now time.Time) *key {
	if s.files != nil && algorithm == s.files.algorithm {
		return s.files
	}
	for _, k := range slices.Backward(s.rings[algorithm]) {
		if k.signs(now) {
			return k
		}
	}
	for _, k := range s.rings[algorithm] {
		if k.signs(now.Add(retirement)) {
			return k
		}
	}
	return nil
}

// retiredKey is a public key of the files: the present one, or one that has signed before
// it. It stays in the JWKS until the last token that it signed has expired.
type retiredKey struct {
	Key     json.RawMessage `json:"key"`
	Current bool            `json:"current"`
	Expires time.Time       `json:"expires"`
}

// sealedKey is a retiredKey as it is kept, under its kid. It is sealed for the same reason as a
// ringEntry: who can write into the database must not be able to publish a key of their own.
type sealedKey struct {
	Sealed string `json:"sealed"`
	// Expires is for the store, which removes it some time after that.
	Expires time.Time `json:"expires"`
}

// NewManager loads the key files, which EnsureKeys has made where they were
// missing, and the keys in the store. Without files it makes the key that Sign signs with
// where there is none; of several nodes that do so at once one makes it. Errors about the
// files are *KeyError.
func NewManager(ctx context.Context, engine store.Engine, o Options) (*Manager, error) {
	if _, ok := algorithms[o.Algorithm]; !ok {
		return nil, fmt.Errorf("unknown algorithm %q", o.Algorithm)
	}
	if !o.files() && o.Sealer == nil {
		return nil, errors.New("neither key files nor a secret to keep keys in the store")
	}
	m := &Manager{
		options: o, log: o.Log, algorithms: algorithmsOf(o), odd: map[string]bool{},
		retired: store.NewCollection(engine, "key", func(k sealedKey) store.Index {
			if k.Expires.IsZero() {
				return store.Index{}
			}
			return store.Index{Expires: k.Expires.Add(remembrance)}
		}),
		rings: store.NewCollection(engine, "signing key", func(ring) store.Index { return store.Index{} }),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m, m.Reload(ctx)
}

// files tells whether there are key files.
func (o Options) files() bool { return o.PrivateKeyPath != "" || o.PublicKeyPath != "" }

// Reload reads the key files again, after key rotate has replaced them, and the keys in
// the store. On an error the keys that are in use stay in use.
func (m *Manager) Reload(ctx context.Context) error {
	var files *key
	if m.options.files() {
		var err error
		if files, err = loadPair(m.options.PrivateKeyPath, m.options.PublicKeyPath, m.options.Algorithm); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.unlock()
	note := noteLoaded
	if m.options.Look {
		note = noteNothing
	}
	if err := m.assemble(ctx, files, note); err != nil {
		return err
	}
	m.settled = false
	if m.options.Look || m.keys.Load().signer(m.options.Algorithm, m.options.Now()) != nil {
		return nil
	}
	if _, err := m.tend(ctx, m.options.Algorithm, false); err != nil {
		return fmt.Errorf("signing key of %s: %w", m.options.Algorithm, err)
	}
	return m.refresh(ctx)
}

// Refresh reads the keys in the store again, after another process has written.
func (m *Manager) Refresh(ctx context.Context) error {
	m.mu.Lock()
	defer m.unlock()
	return m.refresh(ctx)
}

func (m *Manager) refresh(ctx context.Context) error {
	return m.assemble(ctx, m.keys.Load().files, noteNothing)
}

// assemble puts together what is derived from the pair of the files, if there is one, and
// from the store. The caller holds mu.
func (m *Manager) assemble(ctx context.Context, files *key, note noting) error {
	retired, err := m.remember(ctx, files, note)
	if err != nil {
		return err
	}
	keys := &keySet{files: files, rings: map[string][]*key{}, byID: map[string]*key{}}
	kept, err := m.kept(ctx)
	if err != nil {
		return err
	}
	var all []*key
	if files != nil {
		all = append(append(all, files), retired...)
	}
	for _, algorithm := range kept {
		item, err := m.rings.Get(ctx, algorithm)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		found, _ := m.open(algorithm, item.Value)
		for _, o := range found {
			if algorithm == Encryption {
				keys.encryption = append(keys.encryption, o.key)
				continue
			}
			keys.rings[algorithm] = append(keys.rings[algorithm], o.key)
			all = append(all, o.key)
		}
	}
	if files == nil {
		all = append(all, retired...)
	}
	// No two keys of a set have one kid; the pair in the files comes first.
	all = slices.DeleteFunc(all, func(k *key) bool {
		_, taken := keys.byID[k.id]
		if !taken {
			keys.byID[k.id] = k
		}
		return taken
	})
	// Last: whoever takes the first key of the set has always had one that signs.
	if keys.published, err = publish(append(all, keys.encryption...), m.options.Now()); err != nil {
		return err
	}
	m.keys.Store(keys)
	return nil
}

// noting is what remember writes.
type noting int

const (
	noteNothing noting = iota
	// noteLoaded notes the pair in the files, and retires the one before. That is for who
	// has just read the files: two servers that disagree on them would otherwise answer
	// each other's writes for ever.
	noteLoaded
	// noteInUse keeps the pair known that others have retired while it still signs here, as
	// while the nodes of an installation are changed over one by one.
	noteInUse
)

// renewal is for how long noteInUse keeps the pair known; the server tends its keys more often.
const renewal = time.Hour

// remember returns the pairs of files that were in use before p, the first to expire
// first; p is nil if there are no files now.
func (m *Manager) remember(ctx context.Context, p *key, note noting) ([]*key, error) {
	if m.options.Sealer == nil {
		return nil, nil
	}
	var retired []*key
	var ownID string
	var public []byte
	if p != nil {
		ownID = p.id
		var err error
		if public, err = json.Marshal(p.jwk); err != nil {
			return nil, err
		}
	}
	leaves := m.options.Now().Add(m.life() + retirement) // when the last token of a pair has expired
	known := false
	for item, err := range m.retired.All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		var is retiredKey
		secret, broken := m.options.Sealer.open(item.Value.Sealed, &is)
		own, write := p != nil && item.ID == ownID, false
		switch {
		case own && note == noteLoaded:
			// An older pair may have been put back, or its algorithm or the secret been changed.
			write = broken != nil || secret != m.secret() || !is.Current || !bytes.Equal(public, is.Key)
			is = retiredKey{Key: public, Current: true}
		case own && note == noteInUse && !is.Current && is.Expires.Before(leaves.Add(renewal/2)):
			is.Key, is.Expires, write = public, leaves.Add(renewal), true
		case !own && is.Current && note == noteLoaded:
			is.Current, is.Expires, write = false, leaves, true
		}
		if write {
			if item.Value, err = m.sealKey(is); err != nil {
				return nil, err
			}
			_, err := m.retired.Replace(ctx, item)
			if errors.Is(err, store.ErrNotFound) {
				continue // it has expired just now
			}
			if err != nil && !errors.Is(err, store.ErrConflict) { // another node is at it too
				return nil, err
			}
		}
		if own {
			known = true
			continue
		}
		k, err := is.load()
		if broken != nil || err != nil || k.id != item.ID {
			if !m.odd[item.ID] {
				m.odd[item.ID] = true
				m.log.Warn("a retired key in the database cannot be used", "kid", item.ID, "err", cmp.Or(broken, err))
			}
			continue
		}
		retired = append(retired, k)
	}
	slices.SortFunc(retired, func(a, b *key) int { return a.gone.Compare(b.gone) })
	if known || p == nil || note != noteLoaded {
		return retired, nil
	}
	own, err := m.sealKey(retiredKey{Key: public, Current: true})
	if err != nil {
		return nil, err
	}
	_, err = m.retired.Insert(ctx, p.id, own)
	if err != nil && !errors.Is(err, store.ErrExists) {
		return nil, err
	}
	return retired, nil
}

// sealKey is a retired key as it is kept.
func (m *Manager) sealKey(k retiredKey) (sealedKey, error) {
	sealed, err := m.options.Sealer.seal(k, m.secret())
	return sealedKey{Sealed: sealed, Expires: k.Expires}, err
}

// load makes a key of what is kept. Its kid is computed, not read.
func (r retiredKey) load() (*key, error) {
	parsed, err := jwk.ParseKey(r.Key)
	if err != nil {
		return nil, err
	}
	var public crypto.PublicKey
	if err := parsed.Raw(&public); err != nil {
		return nil, err
	}
	algorithm := parsed.Algorithm().String()
	if _, ok := algorithms[algorithm]; !ok {
		return nil, fmt.Errorf("unknown algorithm %q", algorithm)
	}
	k, err := newPublicKey(public, algorithm)
	if err != nil {
		return nil, err
	}
	k.until, k.gone = r.Expires, r.Expires
	return k, nil
}

// publish makes the JWKS of now and of the times to come: one less whenever a key goes.
func publish(all []*key, now time.Time) ([]publication, error) {
	var ends []time.Time
	for _, k := range all {
		if now.Before(k.leaves()) {
			ends = append(ends, k.leaves())
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	var published []publication
	for i := 0; i <= len(ends); i++ {
		from, next := now, publication{}
		if i > 0 {
			from = ends[i-1]
		}
		if i < len(ends) {
			next.until = ends[i]
		}
		set := jwk.NewSet()
		for _, k := range all {
			if k.published(from) {
				if err := set.AddKey(k.jwk); err != nil {
					return nil, err
				}
			}
		}
		var err error
		if next.body, err = json.Marshal(set); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(next.body)
		next.tag = `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		published = append(published, next)
	}
	return published, nil
}

// current is the key that Sign signs with, or that has last; nil if none was made yet.
func (m *Manager) current() *key {
	keys := m.keys.Load()
	if k := keys.signer(m.options.Algorithm, m.options.Now()); k != nil {
		return k
	}
	if ring := keys.rings[m.options.Algorithm]; len(ring) > 0 {
		return ring[len(ring)-1]
	}
	return nil
}

// PublicPEM is the public key that Sign signs for, as PKIX PEM. It is empty, as is KeyID,
// only with Options.Look and before the server was started for the first time.
func (m *Manager) PublicPEM() string {
	if k := m.current(); k != nil {
		return k.pem
	}
	return ""
}

// KeyID is the kid of the key that Sign signs with. That of a key in the store changes when
// its time has come.
func (m *Manager) KeyID() string {
	if k := m.current(); k != nil {
		return k.id
	}
	return ""
}

// InFiles tells whether the key that Sign signs with is a pair in files.
func (m *Manager) InFiles() bool { return m.options.files() }

// Kind is what that key is, such as "an RSA key of 2048 bits".
func (m *Manager) Kind() string {
	if k := m.current(); k != nil {
		return describe(k.public)
	}
	return ""
}

// Algorithm is the name of the algorithm that Sign signs with, such as RS256.
func (m *Manager) Algorithm() string { return m.options.Algorithm }

// ExpiresIn is how long a token lives that Sign has made.
func (m *Manager) ExpiresIn() time.Duration { return m.options.ExpiresIn }

// JWKS is the JSON Web Key Set of all public keys that tokens in use are signed with, or
// will be before long, and of the one to encrypt with.
func (m *Manager) JWKS() []byte { return m.keys.Load().at(m.options.Now()).body }

// TaggedJWKS is the JWKS with an entity tag (RFC 9110, 8.8.3), which changes when it does.
func (m *Manager) TaggedJWKS() (body []byte, tag string) {
	p := m.keys.Load().at(m.options.Now())
	return p.body, p.tag
}

// States of a key.
const (
	KeyNext    = "next"    // in the JWKS, and will sign
	KeySigning = "signing" // the one that signs
	KeyRetired = "retired" // in the JWKS until its last token has expired
	KeyHints   = "hints"   // not in the JWKS; expired ID Tokens are still known by it
	// KeyEncrypting is the one that others encrypt with. A retired one is not in the JWKS; what
	// was encrypted with it is opened until it is gone.
	KeyEncrypting = "encrypting"
)

// KeyState is a key as operators see it.
type KeyState struct {
	KeyID     string `json:"kid"`
	Algorithm string `json:"algorithm"`
	State     string `json:"state"`
	// Files: it is, or was, the pair in the files.
	Files bool `json:"files"`
	// Signs is since or from when it signs; Gone is when it leaves, or has left, the JWKS.
	Signs time.Time `json:"signs,omitzero"`
	Gone  time.Time `json:"gone,omitzero"`
}

// Keys are all keys that are known, by algorithm and age, those of the files first.
func (m *Manager) Keys() []KeyState {
	keys, now := m.keys.Load(), m.options.Now()
	var states []KeyState
	for _, k := range keys.byID {
		s := KeyState{KeyID: k.id, Algorithm: k.algorithm, Signs: k.from, Gone: k.gone}
		s.Files = !slices.Contains(keys.rings[k.algorithm], k)
		switch {
		case k == keys.files, k.signer != nil && k == keys.signer(k.algorithm, now):
			s.State = KeySigning
		case now.Before(k.from):
			s.State = KeyNext
		case k.published(now):
			s.State = KeyRetired
		case k.known(now):
			s.State = KeyHints
		default:
			continue
		}
		states = append(states, s)
	}
	for _, k := range keys.encryption {
		s := KeyState{KeyID: k.id, Algorithm: k.algorithm, State: KeyRetired, Signs: k.from, Gone: k.gone}
		if k == keys.encrypting(now) {
			s.State = KeyEncrypting
		} else if !k.opens(now) {
			continue
		}
		states = append(states, s)
	}
	order := func(s KeyState) int {
		if s.Algorithm == Encryption {
			return len(m.algorithms)
		}
		return slices.Index(m.algorithms, s.Algorithm)
	}
	slices.SortFunc(states, func(a, b KeyState) int {
		if a.Files != b.Files {
			if a.Files {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(order(a), order(b)), a.Signs.Compare(b.Signs), -a.Gone.Compare(b.Gone), cmp.Compare(a.KeyID, b.KeyID))
	})
	return states
}

// Sign returns a token that carries user (anything that marshals to JSON; nil for
// nobody) and, if sessionID is not empty, the ticket of a session. Times in it are
// whole seconds, so it lives up to a second less than ExpiresIn.
func (m *Manager) Sign(user any, sessionID string) (Token, error) {
	now := m.options.Now().Unix()
	payload, err := json.Marshal(struct {
		User      any    `json:"user"`
		SessionID string `json:"sessionID,omitempty"`
		IssuedAt  int64  `json:"iat"`
		Expires   int64  `json:"exp"`
	}{user, sessionID, now, now + int64(m.options.ExpiresIn/time.Second)})
	if err != nil {
		return Token{}, fmt.Errorf("token claims: %w", err)
	}
	k, err := m.signer(m.options.Algorithm)
	if err != nil {
		return Token{}, err
	}
	signed, err := k.sign("JWT", payload)
	if err != nil {
		return Token{}, err
	}
	return Token{Token: signed, ExpiresIn: int(m.options.ExpiresIn / time.Second)}, nil
}

// ErrInvalid: a token that this server has not signed, or that is of no use any more.
var ErrInvalid = errors.New("invalid token")

// SessionID returns the ticket in a token that Sign has made, here or on a node whose
// clock differs by Leeway, and that has not expired; empty if it carries none.
//
// The algorithm is the one in the settings and the key one of ours: what the
// token's header says of either is not believed (RFC 8725, 3.1).
func (m *Manager) SessionID(signed string) (string, error) {
	now := m.options.Now()
	payload, k, err := m.verify(signed, "JWT")
	if err != nil {
		return "", err
	}
	if !k.published(now) {
		return "", fmt.Errorf("%w: its key is retired", ErrInvalid)
	}
	var claims struct {
		SessionID string `json:"sessionID"`
		Expires   int64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if now.Add(-Leeway).Unix() >= claims.Expires {
		return "", fmt.Errorf("%w: expired", ErrInvalid)
	}
	return claims.SessionID, nil
}
