package token_test

import (
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/token"
)

// encrypting loads a manager for whom others encrypt.
func (h *house) encrypting(change ...func(*token.Options)) *token.Manager {
	h.Helper()
	_, err := token.EnsureKeys(h.private, h.public, "ES256")
	h.must(err)
	o := token.Options{
		PrivateKeyPath: h.private, PublicKeyPath: h.public, Algorithm: "ES256", ExpiresIn: 2 * time.Minute, Now: h.clock.Now,
		Sealer: h.sealer, Life: hour, PublishFor: hour, RotateEvery: 90 * day, Log: h.log(), Encrypts: func() bool { return true },
	}
	for _, f := range change {
		f(&o)
	}
	m, err := token.NewManager(h.Context(), h.engine, o)
	h.must(err)
	return m
}

// published are the keys in the JWKS with a use.
func (h *house) published(m *token.Manager, use jwk.KeyUsageType) []jwk.Key {
	h.Helper()
	set, err := jwk.Parse(m.JWKS())
	h.must(err)
	var keys []jwk.Key
	for i := range set.Len() {
		if k, _ := set.Key(i); k.KeyUsage() == string(use) {
			keys = append(keys, k)
		}
	}
	return keys
}

// recipient is the one key in the JWKS to encrypt with.
func (h *house) recipient(m *token.Manager) (kid string, public *rsa.PublicKey) {
	h.Helper()
	keys := h.published(m, jwk.ForEncryption)
	if len(keys) != 1 {
		h.Fatalf("%d keys to encrypt with, want 1: %s", len(keys), m.JWKS())
	}
	public = new(rsa.PublicKey)
	h.must(keys[0].Raw(public))
	return keys[0].KeyID(), public
}

// compactJWE encrypts by hand, whatever the header says, with a content key of some bytes.
func (h *house) compactJWE(header string, public *rsa.PublicKey, oaep hash.Hash, contentKey int, plain []byte) string {
	h.Helper()
	key, nonce := make([]byte, contentKey), make([]byte, 12)
	_, _ = rand.Read(key)
	_, _ = rand.Read(nonce)
	wrapped, err := rsa.EncryptOAEP(oaep, rand.Reader, public, key, nil)
	h.must(err)
	block, err := aes.NewCipher(key)
	h.must(err)
	gcm, err := cipher.NewGCM(block)
	h.must(err)
	encode := base64.RawURLEncoding.EncodeToString
	protected := encode([]byte(header))
	sealed := gcm.Seal(nil, nonce, plain, []byte(protected))
	tag := len(sealed) - gcm.Overhead()
	return strings.Join([]string{protected, encode(wrapped), encode(nonce), encode(sealed[:tag]), encode(sealed[tag:])}, ".")
}

func TestOthersEncryptForUs(t *testing.T) {
	h := newHouse(t)
	m := h.encrypting()
	if keys := h.published(m, jwk.ForEncryption); len(keys) != 0 {
		t.Errorf("%d keys before the first was made", len(keys))
	}
	kid, err := m.EncryptionKeyID(t.Context())
	h.must(err)
	named, public := h.recipient(m)
	if kid != named || public.N.BitLen() != 3072 {
		t.Errorf("kid %q and %q, %d bits", kid, named, public.N.BitLen())
	}
	// What verifiers know stays the first.
	set, err := jwk.Parse(m.JWKS())
	h.must(err)
	if first, _ := set.Key(0); first.KeyUsage() != "sig" {
		t.Errorf("the first key is for %q", first.KeyUsage())
	}
	if bytes.Contains(m.JWKS(), []byte(`"d"`)) || bytes.Contains(m.JWKS(), []byte(`"p"`)) {
		t.Error("a private half is published")
	}
	// By hand, and by a library.
	header := `{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"` + kid + `"}`
	opened, err := m.Decrypt(h.compactJWE(header, public, sha256.New(), 32, []byte("by hand")))
	if err != nil || string(opened) != "by hand" {
		t.Errorf("got %q, %v", opened, err)
	}
	key := h.published(m, jwk.ForEncryption)[0]
	text, err := jwe.Encrypt([]byte("by a library"), jwe.WithKey(jwa.RSA_OAEP_256, key), jwe.WithContentEncryption(jwa.A256GCM))
	h.must(err)
	if opened, err = m.Decrypt(string(text)); err != nil || string(opened) != "by a library" {
		t.Errorf("got %q, %v", opened, err)
	}
}

func TestWhatIsNotDecrypted(t *testing.T) {
	h := newHouse(t)
	m := h.encrypting()
	h.tend(m)
	kid, public := h.recipient(m)
	plain := []byte(`{"password":"a secret of Ada's"}`)
	var deflated bytes.Buffer
	w, err := flate.NewWriter(&deflated, flate.BestCompression)
	h.must(err)
	_, err = w.Write(make([]byte, 64<<20))
	h.must(errors.Join(err, w.Close()))
	// A signing key decrypts nothing, under its own name or that of the other.
	signing, theirs := h.published(m, jwk.ForSignature)[1], new(rsa.PublicKey)
	h.must(signing.Raw(theirs)) // that of RS256: the files have an EC key
	for _, id := range []string{signing.KeyID(), kid} {
		text := h.compactJWE(`{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"`+id+`"}`, theirs, sha256.New(), 32, plain)
		if _, err := m.Decrypt(text); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("with a signing key, kid %s: %v", id, err)
		}
	}
	header := func(more string) string {
		return `{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"` + kid + `"` + more + `}`
	}
	by := func(header string) string { return h.compactJWE(header, public, sha256.New(), 32, plain) }
	good := by(header(""))
	if _, err := m.Decrypt(good); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	general, err := json.Marshal(map[string]any{
		"protected": parts[0], "recipients": []any{map[string]any{"encrypted_key": parts[1]}}, "iv": parts[2], "ciphertext": parts[3], "tag": parts[4],
	})
	h.must(err)
	flattened, err := json.Marshal(map[string]any{"protected": parts[0], "encrypted_key": parts[1], "iv": parts[2], "ciphertext": parts[3], "tag": parts[4]})
	h.must(err)
	swapped := func(i int, with string) string {
		other := append([]string(nil), parts...)
		other[i] = with
		return strings.Join(other, ".")
	}
	refused := map[string]string{
		"empty":                     "",
		"four parts":                strings.Join(parts[:4], "."),
		"six parts":                 good + ".",
		"general JSON":              string(general),
		"flattened JSON":            string(flattened),
		"a line break":              good + "\n",
		"too long":                  h.compactJWE(header(""), public, sha256.New(), 32, make([]byte, 8<<10)),
		"10 MB":                     strings.Repeat("A", 10<<20),
		"header no base64url":       swapped(0, "e30="),
		"header no JSON":            swapped(0, "e3"),
		"header an array":           by(`["alg"]`),
		"header and more":           by(header("") + `{}`),
		"header of twice alg":       by(header(`,"alg":"RSA-OAEP-256"`)),
		"header of twice enc":       by(header(`,"enc":"A256GCM"`)),
		"no kid":                    by(`{"alg":"RSA-OAEP-256","enc":"A256GCM"}`),
		"another kid":               by(`{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"x"}`),
		"a path for a kid":          by(`{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"../../private.key"}`),
		"a kid that is no text":     by(`{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":["` + kid + `"]}`),
		"RSA1_5":                    by(strings.Replace(header(""), "RSA-OAEP-256", "RSA1_5", 1)),
		"RSA-OAEP with SHA-1":       h.compactJWE(strings.Replace(header(""), "RSA-OAEP-256", "RSA-OAEP", 1), public, sha1.New(), 32, plain),
		"SHA-1 under another name":  h.compactJWE(header(""), public, sha1.New(), 32, plain),
		"dir":                       by(strings.Replace(header(""), "RSA-OAEP-256", "dir", 1)),
		"none":                      by(strings.Replace(header(""), "RSA-OAEP-256", "none", 1)),
		"a password of many rounds": by(`{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","kid":"` + kid + `","p2s":"AAAAAAAAAAA","p2c":2147483647}`),
		"rounds beside OAEP":        by(header(`,"p2c":2147483647`)),
		"ECDH":                      by(strings.Replace(header(`,"epk":{}`), "RSA-OAEP-256", "ECDH-ES", 1)),
		"A128CBC-HS256":             by(strings.Replace(header(""), "A256GCM", "A128CBC-HS256", 1)),
		"A128GCM":                   h.compactJWE(strings.Replace(header(""), "A256GCM", "A128GCM", 1), public, sha256.New(), 16, plain),
		"a key of 128 bits":         h.compactJWE(header(""), public, sha256.New(), 16, plain),
		"compressed":                by(header(`,"zip":"DEF"`)),
		"a bomb":                    h.compactJWE(header(`,"zip":"DEF"`), public, sha256.New(), 32, deflated.Bytes()[:4<<10]),
		"crit":                      by(header(`,"crit":["exp"],"exp":"1"`)),
		"a key in it":               by(header(`,"jwk":{"kty":"RSA"}`)),
		"a key elsewhere":           by(header(`,"jku":"https://evil.example/"`)),
		"another content":           swapped(3, "AAAA"),
		"another tag":               swapped(4, "AAAAAAAAAAAAAAAAAAAAAA"),
		"a short tag":               swapped(4, parts[4][:11]),
		"another nonce":             swapped(2, "AAAAAAAAAAAAAAAA"),
		"an empty nonce":            swapped(2, ""),
		"another key":               swapped(1, strings.Repeat("A", 512)),
		"an empty key":              swapped(1, ""),
		"another header":            swapped(0, base64.RawURLEncoding.EncodeToString([]byte(header(`,"typ":"JWE"`)))),
	}
	for name, text := range refused {
		if got, err := m.Decrypt(text); !errors.Is(err, token.ErrInvalid) || got != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"no kid", "another kid", "a path for a kid"} {
		if _, err := m.Decrypt(refused[name]); !errors.Is(err, token.ErrUnknownKey) {
			t.Errorf("%s: %v, want ErrUnknownKey", name, err)
		}
	}
}

// The key to encrypt with signs nothing, and nothing that it could have signed is believed.
func TestEncryptionKeyDoesNotSign(t *testing.T) {
	h := newHouse(t)
	m := h.encrypting()
	h.tend(m)
	kid, _ := h.recipient(m)
	if _, err := m.SignJWT(token.Encryption, "JWT", someClaims); err == nil {
		t.Error("it has signed")
	}
	signed := h.sign(m, "RS256", "JWT")
	for _, alg := range []string{"RS256", token.Encryption} {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + alg + `","kid":"` + kid + `","typ":"JWT"}`))
		if _, err := m.VerifyJWT(header+signed[strings.IndexByte(signed, '.'):], "JWT"); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s with its kid: %v", alg, err)
		}
	}
	for _, algorithm := range m.Algorithms() {
		if algorithm == token.Encryption {
			t.Error("clients could choose it")
		}
	}
}

func TestEncryptionKeyIsReplaced(t *testing.T) {
	h := newHouse(t)
	m := h.encrypting()
	h.tend(m)
	first, public := h.recipient(m)
	seal := func(kid string, public *rsa.PublicKey) string {
		return h.compactJWE(`{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"`+kid+`"}`, public, sha256.New(), 32, []byte("x"))
	}
	old := seal(first, public)

	h.clock.Advance(90*day - time.Second)
	h.tend(m)
	if again, _ := h.recipient(m); again != first {
		t.Error("replaced before its time")
	}
	h.clock.Advance(time.Second)
	h.tend(m)
	second, public := h.recipient(m)
	if second == first {
		t.Fatal("not replaced")
	}
	opens := func(m *token.Manager, text string) error { _, err := m.Decrypt(text); return err }
	h.must(opens(m, old))
	h.must(opens(m, seal(second, public)))
	// Also by a node that was started now, and by one that has not heard of the new one.
	h.must(opens(h.encrypting(), old))

	done, err := m.RotateKey(t.Context(), token.Encryption)
	if err != nil || !done {
		t.Fatalf("RotateKey: %v, %v", done, err)
	}
	late := h.encrypting()
	third, public := h.recipient(m)
	h.must(opens(late, seal(third, public)))
	h.clock.Advance(time.Second)
	if _, err := m.RotateKey(t.Context(), token.Encryption); err != nil {
		t.Fatal(err)
	}
	fourth, public := h.recipient(m)
	h.must(opens(late, seal(fourth, public)))

	// What was sent to one that is gone is not opened, and the private half with it.
	h.clock.Advance(hour + 5*time.Minute + time.Second)
	if err := opens(m, old); !errors.Is(err, token.ErrUnknownKey) {
		t.Errorf("long after: %v", err)
	}
	h.tend(m)
	if got := states(m, token.Encryption); len(got) != 1 || got[0] != token.KeyEncrypting {
		t.Errorf("kept are %v", got)
	}
}

// A key of ours is not opened under another name: who can write into the database cannot have
// signing keys decrypt, nor the other way.
func TestEncryptionKeyIsNoSigningKey(t *testing.T) {
	h := newHouse(t)
	m := h.encrypting()
	h.tend(m)
	swap := func(from, to string) {
		doc, err := h.engine.Get(t.Context(), "signing key", from)
		h.must(err)
		other, err := h.engine.Get(t.Context(), "signing key", to)
		h.must(err)
		other.Data = doc.Data
		_, err = h.engine.Replace(t.Context(), "signing key", other)
		h.must(err)
	}
	swap("RS256", token.Encryption)
	fresh := h.encrypting()
	if keys := h.published(fresh, jwk.ForEncryption); len(keys) != 0 {
		t.Errorf("a signing key is published to encrypt with")
	}
}

// Nobody encrypts for who does not want it.
func TestNoEncryptionKeyUnlessWanted(t *testing.T) {
	h := newHouse(t)
	on := atomic.Bool{}
	m := h.encrypting(func(o *token.Options) { o.Encrypts = on.Load })
	h.tend(m)
	if _, err := m.EncryptionKeyID(t.Context()); err == nil || len(h.published(m, jwk.ForEncryption)) != 0 {
		t.Errorf("there is one: %v, %s", err, m.JWKS())
	}
	on.Store(true)
	h.tend(m)
	h.recipient(m)
	on.Store(false) // and the next start retires it
	m = h.encrypting(func(o *token.Options) { o.Encrypts = on.Load })
	h.tend(m)
	if len(h.published(m, jwk.ForEncryption)) != 0 {
		t.Errorf("it is still published: %s", m.JWKS())
	}
}

// Of several nodes that make the key at once one wins.
func TestEncryptionKeyOfNodes(t *testing.T) {
	h := newHouse(t)
	nodes := []*token.Manager{h.encrypting(), h.encrypting(), h.encrypting()}
	kids := make([]string, len(nodes))
	var wg sync.WaitGroup
	for i, m := range nodes {
		wg.Go(func() {
			var err error
			if kids[i], err = m.EncryptionKeyID(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if kids[0] != kids[1] || kids[1] != kids[2] {
		t.Errorf("kids %v", kids)
	}
}

func TestNonceIsGoodOnce(t *testing.T) {
	h := newHouse(t)
	nonces := func(secret string) *token.Nonces {
		n, err := token.NewNonces(h.engine, []string{secret}, h.clock.Now)
		h.must(err)
		return n
	}
	here, node, elsewhere := nonces("secret"), nonces("secret"), nonces("another")
	nonce, err := here.Issue()
	h.must(err)
	n, err := h.engine.Count(t.Context(), "ticket", "")
	if err != nil || n != 0 {
		t.Errorf("issuing one has written %d documents, %v", n, err)
	}
	if err := elsewhere.Spend(t.Context(), nonce); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("in another installation: %v", err)
	}
	// At once, on two nodes.
	var good atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			switch err := []*token.Nonces{here, node}[i%2].Spend(t.Context(), nonce); {
			case err == nil:
				good.Add(1)
			case !errors.Is(err, token.ErrInvalid):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("spent %d times", good.Load())
	}
	// After a restart, as long as it lives.
	h.clock.Advance(token.NonceLife - time.Second)
	if err := nonces("secret").Spend(t.Context(), nonce); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("after a restart: %v", err)
	}
	late, err := here.Issue()
	h.must(err)
	h.clock.Advance(token.NonceLife + token.Leeway)
	if err := here.Spend(t.Context(), late); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("too late: %v", err)
	}
	tickets, err := token.NewTickets(h.engine, []string{"secret"}, h.clock.Now)
	h.must(err)
	ticket, err := tickets.Mint("handle", "b")
	h.must(err)
	for _, other := range []string{"", "x", ticket, strings.Repeat("A", 10<<20)} {
		if err := here.Spend(t.Context(), other); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%.20q: %v", other, err)
		}
	}
}
