package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// key is a public key with the one algorithm that it is used with, and the private half
// as long as it signs.
type key struct {
	id, algorithm string
	jwk           jwk.Key // public
	pem           string  // PKIX, as /about shows it
	public        crypto.PublicKey
	signer        crypto.Signer // nil: verifies only
	hash          crypto.Hash   // none for EdDSA

	// from is when it begins to sign and until when another one does; the zero time is
	// always and not yet. It is in the JWKS until gone, from the moment it is made.
	from, until, gone time.Time

	headers sync.Map // typ → string
}

// hashes of the algorithms (RFC 7518, 3.1; RFC 8037, 3.1: EdDSA has its own inside).
var hashes = map[string]crypto.Hash{
	"RS256": crypto.SHA256, "PS256": crypto.SHA256, "ES256": crypto.SHA256,
	"RS384": crypto.SHA384, "PS384": crypto.SHA384, "ES384": crypto.SHA384,
	"RS512": crypto.SHA512, "PS512": crypto.SHA512,
	"EdDSA": 0,
}

// newPublicKey makes a key that verifies, or that others encrypt with. Its kid is the
// thumbprint (RFC 7638).
func newPublicKey(public crypto.PublicKey, algorithm string) (*key, error) {
	if !fits(public, algorithm) {
		return nil, fmt.Errorf("%s does not fit %s", describe(public), algorithm)
	}
	k := &key{algorithm: algorithm, public: public, hash: hashes[algorithm]}
	var err error
	if k.pem, err = publicPEM(public); err != nil {
		return nil, err
	}
	if k.jwk, err = jwk.FromRaw(public); err != nil {
		return nil, err
	}
	if err := jwk.AssignKeyID(k.jwk); err != nil {
		return nil, err
	}
	use := map[string]any{jwk.AlgorithmKey: algorithms[algorithm], jwk.KeyUsageKey: jwk.ForSignature}
	if algorithm == Encryption {
		use = map[string]any{jwk.AlgorithmKey: jwa.RSA_OAEP_256, jwk.KeyUsageKey: jwk.ForEncryption}
	}
	for name, value := range use {
		if err := k.jwk.Set(name, value); err != nil {
			return nil, err
		}
	}
	k.id = k.jwk.KeyID()
	return k, nil
}

// newSigningKey makes a key that signs.
func newSigningKey(signer crypto.Signer, algorithm string) (*key, error) {
	k, err := newPublicKey(signer.Public(), algorithm)
	if err == nil {
		k.signer = signer
	}
	return k, err
}

// header is the first part of a token. Neither of the three values needs quoting: typ is
// one of our own media types, kid is base64url.
func (k *key) header(typ string) string {
	if known, ok := k.headers.Load(typ); ok {
		return known.(string)
	}
	made := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + k.algorithm + `","kid":"` + k.id + `","typ":"` + typ + `"}`))
	k.headers.Store(typ, made)
	return made
}

// sign returns the compact form (RFC 7515, 7.1).
func (k *key) sign(typ string, claims []byte) (string, error) {
	header := k.header(typ)
	encoding := base64.RawURLEncoding
	const room = 1 + 1 + (512*8+5)/6 // two dots and the signature of an RSA key of 4096 bits
	signed := make([]byte, 0, len(header)+encoding.EncodedLen(len(claims))+room)
	signed = append(append(signed, header...), '.')
	signed = encoding.AppendEncode(signed, claims)
	signature, err := k.signature(signed)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return string(encoding.AppendEncode(append(signed, '.'), signature)), nil
}

// signature signs in the form of RFC 7518, 3.3 to 3.5, and RFC 8037, 3.1.
func (k *key) signature(input []byte) ([]byte, error) {
	if k.algorithm == Encryption {
		return nil, errors.New("the key opens what was sent to us, and does nothing else")
	}
	switch key := k.signer.(type) {
	case *rsa.PrivateKey:
		if k.algorithm[0] == 'P' {
			return rsa.SignPSS(rand.Reader, key, k.hash, k.digest(input), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(nil, key, k.hash, k.digest(input))
	case *ecdsa.PrivateKey:
		der, err := ecdsa.SignASN1(rand.Reader, key, k.digest(input))
		if err != nil {
			return nil, err
		}
		// JOSE wants both numbers in full length, one after the other.
		size := (key.Curve.Params().BitSize + 7) / 8
		signature := make([]byte, 2*size)
		var r, s big.Int
		text := cryptobyte.String(der)
		if !text.ReadASN1(&text, asn1.SEQUENCE) || !text.ReadASN1Integer(&r) || !text.ReadASN1Integer(&s) {
			return nil, errors.New("ECDSA signature is no sequence of two integers")
		}
		r.FillBytes(signature[:size])
		s.FillBytes(signature[size:])
		return signature, nil
	case ed25519.PrivateKey:
		return ed25519.Sign(key, input), nil
	}
	return nil, errors.New("the key cannot sign")
}

// verify tells whether signature is one of this key.
func (k *key) verify(input, signature []byte) bool {
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		if k.algorithm[0] == 'P' {
			return rsa.VerifyPSS(key, k.hash, k.digest(input), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(key, k.hash, k.digest(input), signature) == nil
	case *ecdsa.PublicKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(key, k.digest(input), r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	}
	return false
}

func (k *key) digest(input []byte) []byte {
	if k.hash == crypto.SHA256 {
		sum := sha256.Sum256(input)
		return sum[:]
	}
	h := k.hash.New()
	h.Write(input)
	return h.Sum(nil)
}

// signs tells whether tokens may be signed with the key at a time. It may for a little
// longer than it has to: a node that does not know of its successor yet goes on with it.
func (k *key) signs(now time.Time) bool {
	return k.signer != nil && !now.Before(k.from) && (k.until.IsZero() || now.Before(k.until.Add(retirement)))
}

// published tells whether the key is in the JWKS of a time.
func (k *key) published(now time.Time) bool { return k.leaves().IsZero() || now.Before(k.leaves()) }

// leaves is when the key leaves the JWKS: one to encrypt with as soon as there is another, for
// nobody is to use it any more.
func (k *key) leaves() time.Time {
	if k.algorithm == Encryption {
		return k.until
	}
	return k.gone
}

// known tells whether a signature of the key is still believed where a token may have
// expired, as an id_token_hint may (RP-Initiated Logout 1.0, 2).
func (k *key) known(now time.Time) bool {
	return k.gone.IsZero() || now.Before(k.gone.Add(remembrance))
}

// compact takes a token apart. Line breaks, which the decoder of base64 would skip, are
// refused: no two texts are the same token.
func compact(signed string) (header, payload, signature string, ok bool) {
	header, rest, first := strings.Cut(signed, ".")
	payload, signature, second := strings.Cut(rest, ".")
	ok = first && second && !strings.Contains(signature, ".") && !strings.ContainsAny(signed, "\r\n")
	return header, payload, signature, ok
}

// marshalPrivate and parsePKCS8 are how private keys are kept in the store.
func marshalPrivate(signer crypto.Signer) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(signer) }

func parsePKCS8(der []byte) (crypto.Signer, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that cannot sign")
	}
	return signer, nil
}
