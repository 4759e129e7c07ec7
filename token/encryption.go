package token

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"

	"login-server/store"
)

// Encryption is the algorithm that others encrypt with for this server (RFC 7518, 4.3), and
// ContentEncryption the one beneath it (5.3). There are no others.
const (
	Encryption        = "RSA-OAEP-256"
	ContentEncryption = "A256GCM"
)

// maxJWE is how long a text may be that Decrypt looks at.
const maxJWE = 8 << 10

// ErrUnknownKey: a text was encrypted with a key that this server has not, or not any more. Who
// has sent it asks for the JWKS again.
var ErrUnknownKey = fmt.Errorf("%w: encrypted with an unknown key", ErrInvalid)

// Encrypts tells whether others are to encrypt for us.
func (m *Manager) Encrypts() bool {
	return m.options.Sealer != nil && m.options.Encrypts != nil && m.options.Encrypts()
}

// encrypting is the key that others encrypt with at a time, or nil.
func (s *keySet) encrypting(now time.Time) *key {
	for _, k := range slices.Backward(s.encryption) {
		// The clock of the node that has made it may be ahead of ours.
		if k.signs(now.Add(retirement)) && (k.until.IsZero() || now.Before(k.until)) {
			return k
		}
	}
	return nil
}

// opens tells whether a key of Encryption still opens what was encrypted with it.
func (k *key) opens(now time.Time) bool {
	return k.signer != nil && (k.gone.IsZero() || now.Before(k.gone))
}

// EncryptionKeyID is the kid of the key in the JWKS that others encrypt with. It is made if
// there is none.
func (m *Manager) EncryptionKeyID(ctx context.Context) (string, error) {
	if k := m.keys.Load().encrypting(m.options.Now()); k != nil {
		return k.id, nil
	}
	if !m.Encrypts() {
		return "", errors.New("nothing is encrypted for this server")
	}
	m.mu.Lock()
	defer m.unlock()
	if k := m.keys.Load().encrypting(m.options.Now()); k != nil {
		return k.id, nil // another request was faster
	}
	if _, err := m.tend(ctx, Encryption, false); err != nil {
		return "", fmt.Errorf("encryption key: %w", err)
	}
	if err := m.refresh(ctx); err != nil {
		return "", err
	}
	if k := m.keys.Load().encrypting(m.options.Now()); k != nil {
		return k.id, nil
	}
	return "", errors.New("encryption key: there is none")
}

// Decrypt returns what somebody has encrypted with the key of EncryptionKeyID, or with the one
// before it: a JWE in the compact form (RFC 7516, 7.1) of at most 8 KiB. Who it was nobody knows,
// and whether it has come before. The error is ErrInvalid, possibly ErrUnknownKey.
//
// The header has to say alg, enc and kid, as they are here; it may say typ and cty, and nothing
// else. So nothing is decompressed, no password is stretched, no key is fetched, and what a
// header makes critical (crit) is refused, all before there is any work.
func (m *Manager) Decrypt(text string) ([]byte, error) {
	if len(text) > maxJWE {
		return nil, fmt.Errorf("%w: too long", ErrInvalid)
	}
	if strings.Count(text, ".") != 4 || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: not a JWE in the compact form", ErrInvalid)
	}
	encoded, _, _ := strings.Cut(text, ".")
	plain, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: its header is not base64url", ErrInvalid)
	}
	header, ok := texts(plain)
	if !ok {
		return nil, fmt.Errorf("%w: its header is not an object of texts", ErrInvalid)
	}
	for name := range header {
		if !slices.Contains([]string{"alg", "enc", "kid", "typ", "cty"}, name) {
			return nil, fmt.Errorf("%w: its header has something that is not understood", ErrInvalid)
		}
	}
	if header["alg"] != Encryption || header["enc"] != ContentEncryption {
		return nil, fmt.Errorf("%w: not encrypted with %s and %s", ErrInvalid, Encryption, ContentEncryption)
	}
	k := m.opener(header["kid"])
	if k == nil {
		return nil, ErrUnknownKey
	}
	private, ok := k.signer.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the encryption key %s is %s", k.id, describe(k.public))
	}
	opened, err := jwe.Decrypt([]byte(text), jwe.WithKey(jwa.RSA_OAEP_256, private))
	if err != nil {
		return nil, fmt.Errorf("%w: cannot be decrypted", ErrInvalid) // why is nobody's business
	}
	return opened, nil
}

// texts reads an object of texts in which no name comes twice (RFC 7516, 4).
func texts(plain []byte) (map[string]string, bool) {
	d, object := json.NewDecoder(bytes.NewReader(plain)), map[string]string{}
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		value, err := d.Token()
		text, isText := value.(string)
		_, twice := object[name.(string)]
		if err != nil || !isText || twice {
			return nil, false
		}
		object[name.(string)] = text
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return object, err == io.EOF
}

// opener is the key of a kid that still opens; nil if there is none, as far as the store knows.
func (m *Manager) opener(kid string) *key {
	find := func(keys *keySet) *key {
		for _, k := range keys.encryption {
			if k.id == kid && k.opens(m.options.Now()) {
				return k
			}
		}
		return nil
	}
	keys := m.keys.Load()
	k := find(keys)
	if k == nil && kid != "" && m.Encrypts() {
		if newer := m.lookAgain(keys); newer != keys {
			k = find(newer)
		}
	}
	return k
}

// NonceLife is how long what carries a nonce of Nonces is taken.
const NonceLife = 2 * time.Minute

// Nonces make what was encrypted for this server good once. To issue one costs no write, to
// spend one costs one.
type Nonces struct{ tickets *Tickets }

// NewNonces returns the nonces of the server with these secrets.
func NewNonces(engine store.Engine, secrets []string, now func() time.Time) (*Nonces, error) {
	tickets, err := newTickets(engine, secrets, "nonce", NonceLife, now)
	return &Nonces{tickets}, err
}

// spendable is the binding of nonces, which are of no session: it has them noted in the store.
const spendable = "nonce"

// Issue returns a nonce.
func (n *Nonces) Issue() (string, error) { return n.tickets.Mint("", spendable) }

// Spend uses a nonce up: of any number of calls for it one returns nil, the others ErrInvalid,
// as for one that was not made here or is too old.
func (n *Nonces) Spend(ctx context.Context, nonce string) error {
	if len(nonce) > 512 {
		return fmt.Errorf("%w: no nonce of this server", ErrInvalid)
	}
	ticket, err := n.tickets.Peek(nonce)
	if err != nil {
		return err
	}
	return n.tickets.Spend(ctx, ticket)
}
