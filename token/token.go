// Package token is everything that is signed or encrypted: keys and their rotation, the
// JWTs that applications verify with the PEM from /about or with the JWKS, and sealed
// values that only this server can read.
//
// There is one key pair in files, with which the tokens of GET /token are signed. The
// OpenID Provider signs with it too, and with keys for other algorithms, which the server
// makes and keeps in the store (ring.go). A key is used with one algorithm, and signs and
// does nothing else. What is encrypted uses keys derived from SESSION_SECRET, one for each
// purpose.
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
	// The pair in the files, and the algorithm and life of the tokens that Sign makes with it.
	PrivateKeyPath, PublicKeyPath string
	Algorithm                     string
	ExpiresIn                     time.Duration

	// Sealer encrypts the keys that the files do not give, which are kept in the store.
	// Without one there are none.
	Sealer *Sealer
	// Life is that of the longest-lived token that SignJWT is to sign.
	Life time.Duration
	// PublishFor is how long a key is in the JWKS before it signs, and RotateEvery how long
	// it signs; 0 is for good.
	PublishFor, RotateEvery time.Duration

	Now func() time.Time
	Log *slog.Logger // may be nil
}

// KeysPurpose is what the Sealer of Options is for.
const KeysPurpose = "signing keys"

// Manager signs tokens. It is safe for concurrent use.
type Manager struct {
	options    Options
	log        *slog.Logger
	algorithms []string
	retired    *store.Collection[retiredKey]
	rings      *store.Collection[ring]

	mu   sync.Mutex // of those who change keys
	keys atomic.Pointer[keySet]
}

// keySet is what is derived from the keys in force; it is replaced as a whole.
type keySet struct {
	pair  *pair
	rings map[string][]*key // by algorithm, in the order in which they sign
	byID  map[string]*key   // all that are known
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
// has come.
func (s *keySet) signer(algorithm string, now time.Time) *key {
	if algorithm == s.pair.algorithm {
		return s.pair.key
	}
	for _, k := range slices.Backward(s.rings[algorithm]) {
		if k.signs(now) {
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

// NewManager loads the key files, which EnsureKeys has made where they were
// missing. Errors about the files are *KeyError.
func NewManager(ctx context.Context, engine store.Engine, o Options) (*Manager, error) {
	if _, ok := algorithms[o.Algorithm]; !ok {
		return nil, fmt.Errorf("unknown algorithm %q", o.Algorithm)
	}
	m := &Manager{
		options: o, log: o.Log, algorithms: algorithmsOf(o),
		retired: store.NewCollection(engine, "key", func(k retiredKey) store.Index {
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

// Reload reads the key files again, after key rotate has replaced them. On an
// error the keys that are in use stay in use.
func (m *Manager) Reload(ctx context.Context) error {
	p, err := loadPair(m.options.PrivateKeyPath, m.options.PublicKeyPath, m.options.Algorithm)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.assemble(ctx, p, true)
}

// Refresh reads the keys in the store again, after another process has written.
func (m *Manager) Refresh(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refresh(ctx)
}

func (m *Manager) refresh(ctx context.Context) error {
	return m.assemble(ctx, m.keys.Load().pair, false)
}

// assemble puts together what is derived from the pair of the files and from the store.
// The caller holds mu.
func (m *Manager) assemble(ctx context.Context, p *pair, note bool) error {
	retired, err := m.remember(ctx, p, note)
	if err != nil {
		return err
	}
	keys := &keySet{pair: p, rings: map[string][]*key{}, byID: map[string]*key{}}
	all := append([]*key{p.key}, retired...)
	if m.options.Sealer != nil {
		for _, algorithm := range offered {
			item, err := m.rings.Get(ctx, algorithm)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			found, _ := m.open(algorithm, item.Value)
			for _, o := range found {
				keys.rings[algorithm] = append(keys.rings[algorithm], o.key)
				all = append(all, o.key)
			}
		}
	}
	// No two keys of a set have one kid; the pair in the files comes first.
	all = slices.DeleteFunc(all, func(k *key) bool {
		_, taken := keys.byID[k.id]
		if !taken {
			keys.byID[k.id] = k
		}
		return taken
	})
	if keys.published, err = publish(all, m.options.Now()); err != nil {
		return err
	}
	m.keys.Store(keys)
	return nil
}

// remember returns the pairs of the files that were in use before, the first to expire
// first. With note it notes p in the store, and retires the one before. That is for who
// has just read the files: two servers that disagree on them would otherwise answer each
// other's writes for ever.
func (m *Manager) remember(ctx context.Context, p *pair, note bool) ([]*key, error) {
	public, err := json.Marshal(p.jwk)
	if err != nil {
		return nil, err
	}
	var retired []*key
	known := false
	for item, err := range m.retired.All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		own, was := item.ID == p.id, item.Value
		if own {
			// An older pair may have been put back, or its algorithm been changed.
			item.Value = retiredKey{Key: public, Current: true}
		} else if was.Current && note {
			item.Value.Current, item.Value.Expires = false, m.options.Now().Add(m.life()+retirement)
		}
		if note && (item.Value.Current != was.Current || !bytes.Equal(item.Value.Key, was.Key)) {
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
		k, err := item.Value.load()
		if err != nil || k.id != item.ID {
			m.log.Warn("a retired key in the database cannot be used", "kid", item.ID, "err", err)
			continue
		}
		retired = append(retired, k)
	}
	slices.SortFunc(retired, func(a, b *key) int { return a.gone.Compare(b.gone) })
	if known || !note {
		return retired, nil
	}
	_, err = m.retired.Insert(ctx, p.id, retiredKey{Key: public, Current: true})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return nil, err
	}
	return retired, nil
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
		if now.Before(k.gone) {
			ends = append(ends, k.gone)
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

// PublicPEM is the public key of the pair in use, as PKIX PEM.
func (m *Manager) PublicPEM() string { return m.keys.Load().pair.pem }

// KeyID is the kid of the pair in use.
func (m *Manager) KeyID() string { return m.keys.Load().pair.id }

// Algorithm is the name of the algorithm that Sign signs with, such as RS256.
func (m *Manager) Algorithm() string { return m.options.Algorithm }

// ExpiresIn is how long a token lives that Sign has made.
func (m *Manager) ExpiresIn() time.Duration { return m.options.ExpiresIn }

// JWKS is the JSON Web Key Set of all public keys that tokens in use are signed with, or
// will be before long.
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
		case k == keys.pair.key, k.signer != nil && k == keys.signer(k.algorithm, now):
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
	order := func(s KeyState) int { return slices.Index(m.algorithms, s.Algorithm) }
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
	signed, err := m.keys.Load().pair.sign("JWT", payload)
	if err != nil {
		return Token{}, err
	}
	return Token{Token: signed, ExpiresIn: int(m.options.ExpiresIn / time.Second)}, nil
}

// ErrInvalid: a token that this server has not signed, or that is of no use any more.
var ErrInvalid = errors.New("invalid token")

// SessionID returns the ticket in a token that Sign has made and that has not
// expired; empty if it carries none.
//
// The algorithm is the one in the settings and the key one of ours: what the
// token's header says of either is not believed (RFC 8725, 3.1).
func (m *Manager) SessionID(signed string) (string, error) {
	now := m.options.Now()
	payload, k, err := m.keys.Load().verify(signed, "JWT")
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
	if now.Unix() >= claims.Expires {
		return "", fmt.Errorf("%w: expired", ErrInvalid)
	}
	return claims.SessionID, nil
}
