package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"login-server/internal/outbound"
)

const (
	maxJWKS = 256 << 10 // bytes
	// maxJWS is how many bytes a signed object of a client may have.
	maxJWS = 32 << 10
	// jwksAge is how long keys of a jwks_uri are used before they are asked for again, and
	// jwksStale how long when they cannot be had.
	jwksAge   = 10 * time.Minute
	jwksStale = time.Hour
	// jwksPause is between two requests for the keys of one client, whatever their outcome.
	jwksPause = 10 * time.Second
	// maxTried is how many keys one signature is tried with.
	maxTried = 16

	minRSA, maxRSA = 2048, 8192 // bits; RFC 7518, 3.3
)

// A signature of a client says which algorithm it is of; which key goes with it is not
// the client's word but this table (RFC 8725, 3.1).
var keyTypes = map[string]struct {
	kty   jwa.KeyType
	curve jwa.EllipticCurveAlgorithm
}{
	"RS256": {kty: jwa.RSA}, "PS256": {kty: jwa.RSA},
	"ES256": {jwa.EC, jwa.P256}, "EdDSA": {jwa.OKP, jwa.Ed25519},
}

// fits tells whether a signature of an algorithm can be one of this key: public, strong
// enough, and not meant for something else.
func fits(key jwk.Key, alg string) bool {
	want, ok := keyTypes[alg]
	if !ok || key.KeyType() != want.kty || key.Algorithm().String() != "" && key.Algorithm().String() != alg {
		return false
	}
	if use := key.KeyUsage(); use != "" && use != string(jwk.ForSignature) {
		return false
	}
	if ops := key.KeyOps(); len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpVerify) {
		return false
	}
	switch k := key.(type) {
	case jwk.RSAPublicKey:
	case jwk.ECDSAPublicKey:
		if k.Crv() != want.curve {
			return false
		}
	case jwk.OKPPublicKey:
		if k.Crv() != want.curve {
			return false
		}
	default:
		return false
	}
	var raw any
	if key.Raw(&raw) != nil {
		return false
	}
	switch k := raw.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSA && k.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// joseHeader is what is looked at of the header of a signed object (RFC 7515, 4.1). Keys
// and addresses of keys in it (jwk, jku, x5c, x5u) are not, but for DPoP proofs, which
// are signed by nobody in particular.
type joseHeader struct {
	Alg  string          `json:"alg"`
	Kid  string          `json:"kid"`
	Typ  string          `json:"typ"`
	JWK  json.RawMessage `json:"jwk"`
	Crit json.RawMessage `json:"crit"`
	B64  *bool           `json:"b64"`
}

var errNotJWS = errors.New("not a compact JWS")

// readJWS takes a compact JWS apart. Nothing in it is proven by that.
func readJWS(raw string, limit int) (header joseHeader, payload []byte, err error) {
	parts := strings.Split(raw, ".")
	if len(raw) > limit || len(parts) != 3 || parts[2] == "" {
		return header, nil, errNotJWS
	}
	head, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil || json.Unmarshal(head, &header) != nil {
		return header, nil, errNotJWS
	}
	if payload, err = base64.RawURLEncoding.Strict().DecodeString(parts[1]); err != nil {
		return header, nil, errNotJWS
	}
	// The library reads other ways to write the same signature too.
	if _, err = base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		return header, nil, errNotJWS
	}
	if header.Crit != nil || header.B64 != nil {
		return header, nil, errNotJWS // RFC 7515, 4.1.11: something that has to be understood, and is not
	}
	return header, payload, nil
}

// isType compares a typ, which is a media type without "application/" (RFC 7515, 4.1.9).
func isType(typ string, allowed ...string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return slices.Contains(allowed, typ)
}

var (
	errNoKey    = errors.New("signed with none of the client's keys")
	errKeysAway = errors.New("the keys of the client cannot be had")
)

// verifyJWS checks a compact JWS that a client has signed with a key of its own, and
// returns what is in it. allowed are the algorithms that it may be signed with. When none
// of the keys is the one, the client may have got new ones since.
func (p *Provider) verifyJWS(ctx context.Context, c *Client, raw string, allowed []string) (joseHeader, []byte, error) {
	header, payload, err := readJWS(raw, maxJWS)
	if err != nil {
		return header, nil, err
	}
	if !slices.Contains(allowed, header.Alg) || keyTypes[header.Alg].kty == "" {
		return header, nil, errNoKey
	}
	if c.JWKSURI == "" {
		if !verifiedByOne(c.keys, header, raw) {
			return header, nil, errNoKey
		}
		return header, payload, nil
	}
	known, err := p.remote.get(ctx, c, nil)
	if err != nil {
		return header, nil, err
	}
	if verifiedByOne(known, header, raw) {
		return header, payload, nil
	}
	// The same set again if it is too early for another one.
	newer, err := p.remote.get(ctx, c, known)
	if err != nil {
		return header, nil, err
	}
	if newer == known || !verifiedByOne(newer, header, raw) {
		return header, nil, errNoKey
	}
	return header, payload, nil
}

// verifiedByOne tells whether a JWS is of one of the keys. A kid chooses among those that
// have one.
func verifiedByOne(keys jwk.Set, header joseHeader, raw string) bool {
	if keys == nil {
		return false
	}
	tried := 0
	for i := range keys.Len() {
		key, _ := keys.Key(i)
		if header.Kid != "" && key.KeyID() != "" && key.KeyID() != header.Kid || !fits(key, header.Alg) {
			continue
		}
		if tried++; tried > maxTried {
			return false
		}
		if _, err := jws.Verify([]byte(raw), jws.WithKey(jwa.SignatureAlgorithm(header.Alg), key), jws.WithCompact()); err == nil {
			return true
		}
	}
	return false
}

// remoteKeys are the key sets that clients publish at their jwks_uri.
type remoteKeys struct {
	o    Options
	mu   sync.Mutex
	sets *lru.Cache[string, *remoteSet] // by client and address
}

// remoteSet is what one client has published. Who holds turn may ask for it.
type remoteSet struct {
	turn    chan struct{}
	keys    jwk.Set
	fetched time.Time
	tried   time.Time
	err     error
}

func newRemoteKeys(o Options) *remoteKeys {
	sets, _ := lru.New[string, *remoteSet](10_000)
	return &remoteKeys{o: o, sets: sets}
}

func (all *remoteKeys) of(c *Client) *remoteSet {
	id := c.ClientID + "\x00" + c.JWKSURI
	all.mu.Lock()
	defer all.mu.Unlock()
	set, ok := all.sets.Get(id)
	if !ok {
		set = &remoteSet{turn: make(chan struct{}, 1)}
		all.sets.Add(id, set)
	}
	return set
}

// get returns the keys of a client, newer ones than those that have failed if the client
// may be asked for them by now. Of any number at once one asks, and the others wait for
// what it hears.
func (all *remoteKeys) get(ctx context.Context, c *Client, failed jwk.Set) (jwk.Set, error) {
	set := all.of(c)
	select {
	case set.turn <- struct{}{}:
		defer func() { <-set.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := all.o.Clock.Now()
	old := set.keys == nil || now.Sub(set.fetched) >= jwksAge
	if (old || set.keys == failed) && (set.tried.IsZero() || now.Sub(set.tried) >= jwksPause) {
		set.tried = now
		var keys jwk.Set
		// What the next one finds does not depend on whether this one waits for it.
		if keys, set.err = all.fetch(context.WithoutCancel(ctx), c.JWKSURI); set.err == nil {
			set.keys, set.fetched = keys, now
		} else {
			all.o.Log.WarnContext(ctx, "the keys of a client cannot be had", "client", c.ClientID, "err", set.err)
		}
	}
	if set.keys == nil || now.Sub(set.fetched) >= jwksStale {
		return nil, errKeysAway
	}
	return set.keys, nil
}

// fetch asks for a JWK Set (RFC 7517, 5). Keys that cannot be used are left out.
func (all *remoteKeys) fetch(ctx context.Context, address string) (jwk.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := outbound.Get(ctx, all.o.HTTP, address, "application/jwk-set+json, application/json", maxJWKS)
	if err != nil {
		return nil, err
	}
	return readJWKS(body)
}

// readJWKS reads the public keys of a set; others in it are worth nothing, and no reason
// to refuse those.
func readJWKS(body []byte) (jwk.Set, error) {
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &published); err != nil || published.Keys == nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	keys := jwk.NewSet()
	for _, raw := range published.Keys {
		key, err := jwk.ParseKey(raw)
		if err != nil {
			continue
		}
		for alg := range keyTypes {
			if fits(key, alg) {
				_ = keys.AddKey(key)
				break
			}
		}
	}
	return keys, nil
}
