package providers

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

const (
	// minRSA is how many bits an RSA key has at least (RFC 7518, 3.3), maxRSA how many at
	// most: to verify with one of a million keeps a processor busy for minutes.
	minRSA = 2048
	maxRSA = 8192
	// maxKeys is how many keys of a set are looked at: without a kid all of them are tried.
	maxKeys = 100
)

// keyType is what a key has to be for an algorithm; the curve is empty for RSA.
type keyType struct {
	kty   jwa.KeyType
	curve jwa.EllipticCurveAlgorithm
}

// keyTypes is all algorithms that are accepted (RFC 7518, 3.1; RFC 8037, 3.1).
var keyTypes = map[string]keyType{
	"RS256": {kty: jwa.RSA}, "RS384": {kty: jwa.RSA}, "RS512": {kty: jwa.RSA},
	"PS256": {kty: jwa.RSA}, "PS384": {kty: jwa.RSA}, "PS512": {kty: jwa.RSA},
	"ES256": {jwa.EC, jwa.P256}, "ES384": {jwa.EC, jwa.P384}, "ES512": {jwa.EC, jwa.P521},
	"EdDSA": {jwa.OKP, jwa.Ed25519},
}

// jwks is a JWK Set as it was published (RFC 7517, 5).
type jwks struct {
	Keys []json.RawMessage `json:"keys"`
}

// keySet is the public keys of an OpenID Provider that signatures may be verified with.
type keySet []jwk.Key

// usable leaves out what cannot be read, is for something else, is too weak or too large,
// or is no public key: other keys of the set are not worth less for it.
func (s jwks) usable() keySet {
	var keys keySet
	for _, raw := range s.Keys[:min(len(s.Keys), maxKeys)] {
		key, err := jwk.ParseKey(raw)
		if err != nil || key.KeyUsage() != "" && key.KeyUsage() != string(jwk.ForSignature) {
			continue
		}
		if ops := key.KeyOps(); len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpVerify) {
			continue
		}
		var public any
		if key.Raw(&public) != nil {
			continue
		}
		switch k := public.(type) {
		case *rsa.PublicKey:
			if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
				continue
			}
		case ed25519.PublicKey:
			if len(k) != ed25519.PublicKeySize { // to verify with it would panic
				continue
			}
		case *ecdsa.PublicKey:
		default:
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

// fits tells whether a signature of this algorithm can be one of this key. A key need not
// say what algorithm it is for: ORCID's do not.
func fits(key jwk.Key, algorithm string) bool {
	want, ok := keyTypes[algorithm]
	if said := key.Algorithm().String(); !ok || said != "" && said != algorithm {
		return false
	}
	var curve jwa.EllipticCurveAlgorithm
	switch k := key.(type) {
	case jwk.ECDSAPublicKey:
		curve = k.Crv()
	case jwk.OKPPublicKey:
		curve = k.Crv()
	}
	return key.KeyType() == want.kty && curve == want.curve
}

// errNoKey: the signature is of none of the keys, which newer ones may change.
var errNoKey = errors.New("it is signed with none of the issuer's keys")

// verify checks the signature of a compact JWS and returns its payload. Keys that come
// with the token are not looked at.
func (s keySet) verify(token string) ([]byte, error) {
	message, err := jws.Parse([]byte(token), jws.WithCompact())
	if err != nil || len(message.Signatures()) != 1 || strings.Count(token, ".") != 2 {
		return nil, errors.New("it is not a compact JWS")
	}
	header := message.Signatures()[0].ProtectedHeaders()
	if _, ok := header.Get(jws.CriticalKey); ok {
		return nil, errors.New("its header has something critical that is not known here") // RFC 7515, 4.1.11
	}
	algorithm, kid := header.Algorithm(), header.KeyID()
	for _, key := range s {
		// Without a kid there is nothing to choose by (Core, 10.1).
		if kid != "" && key.KeyID() != kid || !fits(key, algorithm.String()) {
			continue
		}
		if payload, err := jws.Verify([]byte(token), jws.WithKey(algorithm, key), jws.WithCompact()); err == nil {
			return payload, nil
		}
	}
	return nil, fmt.Errorf("%w (kid %.80q, alg %.20q)", errNoKey, kid, algorithm)
}

var _ oidc.KeySet = (*discovery)(nil)

// VerifySignature implements oidc.KeySet. When no key fits, the issuer may have got new
// ones since.
func (d *discovery) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	known, err := d.get(ctx)
	if err != nil {
		return nil, err
	}
	payload, err := known.keys.verify(token)
	if errors.Is(err, errNoKey) {
		if newer := d.newer(ctx, known); newer != nil {
			return newer.keys.verify(token)
		}
	}
	return payload, err
}
