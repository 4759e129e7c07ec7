package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// KeyError says what is wrong with the key files, and what to do.
type KeyError struct{ File, Text, Remedy string }

func (e *KeyError) Error() string { return e.File + ": " + e.Text + "; " + e.Remedy }

// algorithms are those that tokens can be signed with.
var algorithms = map[string]jwa.SignatureAlgorithm{
	"RS256": jwa.RS256, "RS384": jwa.RS384, "RS512": jwa.RS512,
	"PS256": jwa.PS256, "PS384": jwa.PS384, "PS512": jwa.PS512,
	"ES256": jwa.ES256, "ES384": jwa.ES384, "EdDSA": jwa.EdDSA,
}

// fits tells whether a public key can be used with an algorithm.
func fits(key crypto.PublicKey, algorithm string) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return (algorithm[:2] == "RS" || algorithm[:2] == "PS") && key.N.BitLen() >= 2048 // Encryption among them
	case *ecdsa.PublicKey:
		return algorithm == "ES256" && key.Curve.Params().BitSize == 256 || algorithm == "ES384" && key.Curve.Params().BitSize == 384
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	}
	return false
}

// EnsureKeys makes a pair that fits the algorithm when both files are missing, an
// RSA pair of 2048 bits for RS256, and tells whether it did. One missing file is an
// error: a key that others rely on is not to be replaced because of a typing
// mistake in a path. Without paths there is nothing to do: the keys are in the store.
func EnsureKeys(privatePath, publicPath, algorithm string) (made bool, err error) {
	if privatePath == "" && publicPath == "" {
		return false, nil
	}
	missing, err := missingKeys(privatePath, publicPath)
	if err != nil || !missing {
		return false, err
	}
	return true, writeNewPair(privatePath, publicPath, algorithm)
}

// missingKeys tells whether neither file is there.
func missingKeys(privatePath, publicPath string) (bool, error) {
	_, noPrivate := os.Stat(privatePath)
	_, noPublic := os.Stat(publicPath)
	missingPrivate, missingPublic := errors.Is(noPrivate, os.ErrNotExist), errors.Is(noPublic, os.ErrNotExist)
	switch {
	case missingPrivate && missingPublic:
		return true, nil
	case missingPrivate:
		return false, &KeyError{File: privatePath, Text: "the private key is missing, but the public key " + publicPath + " is there",
			Remedy: "put the private key back, or remove the public key too to have a new pair made"}
	case missingPublic:
		return false, &KeyError{File: publicPath, Text: "the public key is missing, but the private key " + privatePath + " is there",
			Remedy: "make it with: openssl pkey -in " + privatePath + " -pubout -out " + publicPath}
	}
	return false, nil
}

// KeyInfo is what CheckKeys has found.
type KeyInfo struct {
	// Missing: neither file is there, and EnsureKeys would make them.
	Missing bool
	// KeyID is the kid, and Kind such as "an RSA key of 2048 bits".
	KeyID, Kind string
	// PEM is the public key, as /about shows it.
	PEM string
}

// CheckKeys reads the key files and writes nothing; without paths, when the keys are in
// the store, KeyInfo is empty. Errors are *KeyError, unless the algorithm is unknown.
func CheckKeys(privatePath, publicPath, algorithm string) (KeyInfo, error) {
	if privatePath == "" && publicPath == "" {
		return KeyInfo{}, nil
	}
	missing, err := missingKeys(privatePath, publicPath)
	if err != nil {
		return KeyInfo{}, err
	}
	if missing {
		for _, path := range []string{privatePath, publicPath} {
			if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
				return KeyInfo{}, &KeyError{File: path, Text: "cannot be made: there is no folder " + filepath.Dir(path), Remedy: "make the folder, or choose another path"}
			}
		}
		return KeyInfo{Missing: true}, nil
	}
	p, err := loadPair(privatePath, publicPath, algorithm)
	if err != nil {
		return KeyInfo{}, err
	}
	return KeyInfo{KeyID: p.id, Kind: describe(p.public), PEM: p.pem}, nil
}

// Rotate puts a new pair that fits the algorithm into the key files and keeps the
// old one under names that end in suffix. The server keeps the old public key in its
// JWKS until the last token it signed has expired.
func Rotate(privatePath, publicPath, suffix, algorithm string) error {
	kept := map[string]os.FileMode{privatePath: 0o600, publicPath: 0o644}
	for path := range kept {
		if _, err := os.Lstat(path + suffix); err == nil {
			return &KeyError{File: path, Text: "cannot be kept as " + path + suffix + ", which is there already", Remedy: "move that file away"}
		}
	}
	for path, mode := range kept {
		data, err := os.ReadFile(path)
		if err != nil {
			return &KeyError{File: path, Text: "cannot be read (" + reason(err) + ")", Remedy: "make it readable"}
		}
		if err := writeFile(path+suffix, data, mode); err != nil {
			return err
		}
	}
	return writeNewPair(privatePath, publicPath, algorithm)
}

// newKey makes a key that fits an algorithm.
func newKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case Encryption: // what is sent to it has to stay secret when it is long gone
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

func writeNewPair(privatePath, publicPath, algorithm string) error {
	key, err := newKey(algorithm)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := publicPEM(key.Public())
	if err != nil {
		return err
	}
	if err := writeFile(privatePath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return writeFile(publicPath, []byte(public), 0o644)
}

// reason is what the system says, without the paths that the message has already.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// writeFile writes a file that is complete or not there at all.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return &KeyError{File: path, Text: "cannot be written (" + reason(err) + ")", Remedy: "make the folder writable or choose another path"}
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return &KeyError{File: path, Text: "cannot be written (" + reason(err) + ")", Remedy: "make room or choose another path"}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return &KeyError{File: path, Text: "cannot be written (" + reason(err) + ")", Remedy: "make the folder writable or choose another path"}
	}
	return nil
}

func publicPEM(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// loadPair reads and checks the key files.
func loadPair(privatePath, publicPath, algorithm string) (*key, error) {
	if _, ok := algorithms[algorithm]; !ok {
		return nil, fmt.Errorf("unknown algorithm %q", algorithm)
	}
	private, err := readPEM(privatePath, parsePrivate)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, &KeyError{File: privatePath, Text: "holds a key that cannot sign", Remedy: "use an RSA, EC or Ed25519 key"}
	}
	public, err := readPEM(publicPath, parsePublic)
	if err != nil {
		return nil, err
	}
	own := signer.Public()
	if equal, ok := own.(interface{ Equal(crypto.PublicKey) bool }); !ok || !equal.Equal(public) {
		return nil, &KeyError{File: publicPath, Text: "is not the public key of " + privatePath,
			Remedy: "make it with: openssl pkey -in " + privatePath + " -pubout -out " + publicPath}
	}
	if !fits(own, algorithm) {
		return nil, &KeyError{File: privatePath, Text: fmt.Sprintf("holds %s, which does not fit JWT_ALGORITHM=%s", describe(own), algorithm),
			Remedy: "set JWT_ALGORITHM to " + suggest(own)}
	}
	return newSigningKey(signer, algorithm)
}

func readPEM[T any](path string, parse func([]byte) (T, error)) (T, error) {
	var none T
	data, err := os.ReadFile(path)
	if err != nil {
		return none, &KeyError{File: path, Text: "cannot be read (" + reason(err) + ")", Remedy: "make it readable for the server"}
	}
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" { // which openssl ecparam writes first
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return none, &KeyError{File: path, Text: "is not a PEM file", Remedy: "write a key that begins with -----BEGIN"}
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return none, &KeyError{File: path, Text: "holds no key that can be used here (" + block.Type + ")",
			Remedy: "use an RSA, EC or Ed25519 key without a passphrase"}
	}
	return key, nil
}

func parsePrivate(der []byte) (any, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	return x509.ParseECPrivateKey(der)
}

func parsePublic(der []byte) (any, error) {
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return key, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return cert.PublicKey, nil
}

func describe(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "an EC key on " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "an Ed25519 key"
	}
	return "a key of another kind"
}

func suggest(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= 2048 {
			return "RS256"
		}
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize == 384 {
			return "ES384"
		}
		if key.Curve.Params().BitSize == 256 {
			return "ES256"
		}
	case ed25519.PublicKey:
		return "EdDSA"
	}
	return "RS256 and use an RSA key of at least 2048 bits"
}
