package token

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Offered are the algorithms that clients can choose (RFC 7518, 3.1; RFC 8037). RS256 is
// the one that every OpenID Provider has to have (OpenID Connect Core, 15.1).
var offered = []string{"RS256", "PS256", "ES256", "EdDSA"}

// Algorithms are those that SignJWT can sign with, the default first. That is RS256 if
// Options.Algorithm is RS256, RS384 or RS512, and else that one. Without Options.Sealer
// there is no other than that.
func (m *Manager) Algorithms() []string { return slices.Clone(m.algorithms) }

func algorithmsOf(o Options) []string {
	if o.Sealer == nil {
		return []string{o.Algorithm}
	}
	first := o.Algorithm
	if first[:2] == "RS" {
		first = "RS256"
	}
	all := []string{first}
	for _, algorithm := range append([]string{o.Algorithm}, offered...) {
		if !slices.Contains(all, algorithm) {
			all = append(all, algorithm)
		}
	}
	return all
}

// makeTimeout is how long a token may wait for a key that has to be made first.
const makeTimeout = 10 * time.Second

// SignJWT signs claims, which are JSON, with an algorithm out of Algorithms; empty is the
// default. typ goes into the header.
func (m *Manager) SignJWT(algorithm, typ string, claims []byte) (string, error) {
	if algorithm == "" {
		algorithm = m.algorithms[0]
	}
	k, err := m.signer(algorithm)
	if err != nil {
		return "", err
	}
	return k.sign(typ, claims)
}

// signer returns the key that signs with an algorithm now, and makes it if there is none.
func (m *Manager) signer(algorithm string) (*key, error) {
	if k := m.keys.Load().signer(algorithm, m.options.Now()); k != nil {
		return k, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), makeTimeout)
	defer cancel()
	k, err := m.firstKey(ctx, algorithm)
	if err != nil {
		return nil, fmt.Errorf("sign token with %s: %w", algorithm, err)
	}
	return k, nil
}

// firstKey makes the key of an algorithm that has none. It is rare: the server makes
// them after its start.
func (m *Manager) firstKey(ctx context.Context, algorithm string) (*key, error) {
	if !slices.Contains(m.algorithms, algorithm) {
		return nil, errors.New("unknown algorithm")
	}
	m.mu.Lock()
	defer m.unlock()
	if k := m.keys.Load().signer(algorithm, m.options.Now()); k != nil {
		return k, nil // another request was faster
	}
	if _, err := m.tend(ctx, algorithm, false); err != nil {
		return nil, err
	}
	if err := m.refresh(ctx); err != nil {
		return nil, err
	}
	if k := m.keys.Load().signer(algorithm, m.options.Now()); k != nil {
		return k, nil
	}
	return nil, errors.New("there is no key")
}

// maxJWT is how long a token may be that VerifyJWT looks at.
const maxJWT = 32 << 10

// VerifyJWT returns the claims of a token that SignJWT has made with that typ. Whether it
// has expired is not looked at: who relies on the claims checks iss, aud and exp. A typ
// of JWT is believed for 30 days after its key has left the JWKS, for ID Tokens are hints
// when they have long expired. The error is ErrInvalid.
func (m *Manager) VerifyJWT(signed, typ string) ([]byte, error) {
	if len(signed) > maxJWT {
		return nil, fmt.Errorf("%w: too long", ErrInvalid)
	}
	now := m.options.Now()
	payload, k, err := m.verify(signed, typ)
	if err != nil {
		return nil, err
	}
	if !k.known(now) || typ != "JWT" && !k.published(now) {
		return nil, fmt.Errorf("%w: its key is retired", ErrInvalid)
	}
	return payload, nil
}

// errUnknownKey: none of our keys has the kid, as far as this node has heard.
var errUnknownKey = fmt.Errorf("%w: unknown key", ErrInvalid)

const (
	// lookEvery is how often a kid that is not known makes us read the keys again; anybody
	// can send one.
	lookEvery = time.Second
	// lookTimeout is how long that may take.
	lookTimeout = 3 * time.Second
)

// verify is keySet.verify, and knows what another node has signed with a key of which this
// one has not heard yet.
func (m *Manager) verify(signed, typ string) ([]byte, *key, error) {
	keys := m.keys.Load()
	payload, k, err := keys.verify(signed, typ)
	if errors.Is(err, errUnknownKey) {
		if newer := m.lookAgain(keys); newer != keys {
			return newer.verify(signed, typ)
		}
	}
	return payload, k, err
}

// lookAgain returns the keys in force after another look at the store, unless somebody has
// just had one.
func (m *Manager) lookAgain(known *keySet) *keySet {
	m.mu.Lock()
	defer m.unlock()
	now := m.options.Now()
	if m.options.Sealer == nil || m.keys.Load() != known || now.Sub(m.looked).Abs() < lookEvery {
		return m.keys.Load()
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	if err := m.refresh(ctx); err != nil {
		m.log.Warn("read signing keys", "err", err)
	}
	m.looked = m.options.Now()
	return m.keys.Load()
}

// verify returns the payload of a token and the key that has signed it. Of what the
// header says nothing is believed but which of our keys to look at (RFC 8725, 3.1): then
// it has to be, byte for byte, the header that this key's tokens of that typ have.
func (s *keySet) verify(signed, typ string) ([]byte, *key, error) {
	header, payload, signature, ok := compact(signed)
	if !ok || len(header) > 512 {
		return nil, nil, fmt.Errorf("%w: not in the compact form", ErrInvalid)
	}
	k := s.named(header)
	if k == nil {
		return nil, nil, errUnknownKey
	}
	if header != k.header(typ) {
		return nil, nil, fmt.Errorf("%w: not a %s of this key", ErrInvalid, typ)
	}
	s.headers.LoadOrStore(header, k)
	encoding := base64.RawURLEncoding.Strict()
	proof, err := encoding.DecodeString(signature)
	if err != nil || !k.verify([]byte(signed[:len(header)+1+len(payload)]), proof) {
		return nil, nil, fmt.Errorf("%w: wrong signature", ErrInvalid)
	}
	claims, err := encoding.DecodeString(payload)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return claims, k, nil
}

// named returns the key whose kid is in a header, or nil.
func (s *keySet) named(header string) *key {
	if k, ok := s.headers.Load(header); ok {
		return k.(*key)
	}
	text, err := base64.RawURLEncoding.DecodeString(header)
	var names struct {
		KeyID string `json:"kid"`
	}
	if err != nil || json.Unmarshal(text, &names) != nil {
		return nil
	}
	return s.byID[names.KeyID]
}
