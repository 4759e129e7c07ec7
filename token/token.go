// Package token is everything that is signed or encrypted: the key pair and its
// rotation, the JWTs that applications verify with the PEM from /about or with the
// JWKS, and sealed values that only this server can read.
//
// The key pair signs and nothing else. What is encrypted uses keys derived from
// SESSION_SECRET, one for each purpose.
package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

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
	PrivateKeyPath, PublicKeyPath string
	Algorithm                     string
	ExpiresIn                     time.Duration
	Now                           func() time.Time
}

// Manager signs tokens. It is safe for concurrent use.
type Manager struct {
	options Options
	retired *store.Collection[retiredKey]
	keys    atomic.Pointer[keySet]
}

// keySet is what is derived from the keys in force; it is replaced as a whole.
type keySet struct {
	pair      *pair
	algorithm jwa.SignatureAlgorithm
	// published are the JWKS of the times to come, each without the keys that have
	// expired by then; the last one holds for good.
	published []publication
}

// publication is a JWKS and when it is replaced by the next one.
type publication struct {
	until time.Time
	set   jwk.Set
	body  []byte
}

// at returns the JWKS of a time.
func (k *keySet) at(now time.Time) publication {
	last := len(k.published) - 1
	for _, p := range k.published[:last] {
		if now.Before(p.until) {
			return p
		}
	}
	return k.published[last]
}

// retiredKey is a public key that has signed before the present one. It stays in
// the JWKS until the last token it signed has expired.
type retiredKey struct {
	Key     json.RawMessage `json:"key"`
	Current bool            `json:"current"`
	Expires time.Time       `json:"expires"`
}

// retirement is how long a key stays in the JWKS beyond the life of its last
// token, for verifiers whose clock is late.
const retirement = 5 * time.Minute

// NewManager loads the key files, which EnsureKeys has made where they were
// missing. Errors about the files are *KeyError.
func NewManager(ctx context.Context, engine store.Engine, o Options) (*Manager, error) {
	m := &Manager{
		options: o,
		retired: store.NewCollection(engine, "key", func(k retiredKey) store.Index {
			return store.Index{Expires: k.Expires}
		}),
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
	retired, err := m.remember(ctx, p)
	if err != nil {
		return err
	}
	keys := &keySet{pair: p, algorithm: algorithms[m.options.Algorithm]}
	if keys.published, err = publish(p, retired); err != nil {
		return err
	}
	m.keys.Store(keys)
	return nil
}

// remember notes the key in use in the store, retires the one that was in use
// before, and returns those whose tokens may still be around, the first to expire first.
func (m *Manager) remember(ctx context.Context, p *pair) ([]retiredKey, error) {
	var retired []retiredKey
	known := false
	for item, err := range m.retired.All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		own, was := item.ID == p.public.KeyID(), item.Value
		if own {
			item.Value.Current, item.Value.Expires = true, time.Time{} // an older pair may have been put back
		} else if was.Current {
			item.Value.Current, item.Value.Expires = false, m.options.Now().Add(m.options.ExpiresIn+retirement)
		}
		if item.Value.Current != was.Current {
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
		} else {
			retired = append(retired, item.Value)
		}
	}
	slices.SortFunc(retired, func(a, b retiredKey) int { return a.Expires.Compare(b.Expires) })
	if known {
		return retired, nil
	}
	public, err := json.Marshal(p.public)
	if err != nil {
		return nil, err
	}
	_, err = m.retired.Insert(ctx, p.public.KeyID(), retiredKey{Key: public, Current: true})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return nil, err
	}
	return retired, nil
}

// publish makes the JWKS of the pair in use and of the keys before it, as long as each has to be known.
func publish(p *pair, retired []retiredKey) ([]publication, error) {
	var published []publication
	for i := 0; i <= len(retired); i++ {
		next := publication{set: jwk.NewSet()}
		if err := next.set.AddKey(p.public); err != nil {
			return nil, err
		}
		for _, r := range retired[i:] {
			key, err := jwk.ParseKey(r.Key)
			if err != nil {
				return nil, fmt.Errorf("retired key: %w", err)
			}
			if err := next.set.AddKey(key); err != nil {
				return nil, err
			}
		}
		if i < len(retired) {
			next.until = retired[i].Expires
		}
		var err error
		if next.body, err = json.Marshal(next.set); err != nil {
			return nil, err
		}
		published = append(published, next)
	}
	return published, nil
}

// PublicPEM is the public key of the pair in use, as PKIX PEM.
func (m *Manager) PublicPEM() string { return m.keys.Load().pair.pem }

// KeyID is the kid of the pair in use.
func (m *Manager) KeyID() string { return m.keys.Load().pair.public.KeyID() }

// Algorithm is the name of the algorithm that signs, such as RS256.
func (m *Manager) Algorithm() string { return m.options.Algorithm }

// ExpiresIn is how long a token lives.
func (m *Manager) ExpiresIn() time.Duration { return m.options.ExpiresIn }

// JWKS is the JSON Web Key Set of all public keys that tokens in use are signed with.
func (m *Manager) JWKS() []byte { return m.keys.Load().at(m.options.Now()).body }

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
	keys := m.keys.Load()
	// A header of its own: jws.Sign writes the algorithm into it.
	header := jws.NewHeaders()
	for name, value := range map[string]string{jws.TypeKey: "JWT", jws.KeyIDKey: keys.pair.public.KeyID()} {
		if err := header.Set(name, value); err != nil {
			return Token{}, fmt.Errorf("token header: %w", err)
		}
	}
	signed, err := jws.Sign(payload, jws.WithKey(keys.algorithm, keys.pair.signer, jws.WithProtectedHeaders(header)))
	if err != nil {
		return Token{}, fmt.Errorf("sign token: %w", err)
	}
	return Token{Token: string(signed), ExpiresIn: int(m.options.ExpiresIn / time.Second)}, nil
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
	// The JSON form may have any number of signatures (RFC 7515, 7.2.1), and a stranger
	// could have hundreds of them checked. Ours has none of its braces.
	if strings.Contains(signed, "{") {
		return "", fmt.Errorf("%w: not in the compact form", ErrInvalid)
	}
	payload, err := jws.Verify([]byte(signed), jws.WithKeySet(m.keys.Load().at(now).set, jws.WithRequireKid(true)))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
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
