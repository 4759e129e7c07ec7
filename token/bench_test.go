package token_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"login-server/store/sqlite"
	"login-server/token"
)

// BenchmarkSign compares a token with the signature in it; ratio is what the
// server's own doing makes of the time.
func BenchmarkSign(b *testing.B) {
	dir := b.TempDir()
	private, public := filepath.Join(dir, "private.key"), filepath.Join(dir, "public.key")
	if _, err := token.EnsureKeys(private, public, "RS256"); err != nil {
		b.Fatal(err)
	}
	engine, err := sqlite.Open(context.Background(), filepath.Join(dir, "test.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	m, err := token.NewManager(context.Background(), engine, token.Options{
		PrivateKeyPath: private, PublicKeyPath: public, Algorithm: "RS256", ExpiresIn: 2 * time.Minute, Now: time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(private)
	if err != nil {
		b.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	user := map[string]any{"_id": "c0c1914a", "name": "Ada", "identities": map[string]any{"github": map[string]string{"id": "583231", "name": "Ada L."}}}
	ticket := strings.Repeat("t", 150)

	// One after the other, so that both meet the same machine; the median, for the rest of it.
	digest := sha256.Sum256([]byte("digest"))
	var bare, signed []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := rsa.SignPKCS1v15(nil, key.(*rsa.PrivateKey), crypto.SHA256, digest[:]); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if _, err := m.Sign(user, ticket); err != nil {
			b.Fatal(err)
		}
		bare, signed = append(bare, between.Sub(start)), append(signed, time.Since(between))
	}
	b.ReportMetric(float64(median(signed))/float64(median(bare)), "ratio")
	b.ReportMetric(float64(median(bare)), "bare-ns")
	b.ReportMetric(float64(median(signed)), "token-ns")
}

// BenchmarkJWT compares SignJWT and VerifyJWT with the bare operation of the standard
// library on the same input, digest included.
func BenchmarkJWT(b *testing.B) {
	h := newHouse(b)
	m := h.manager("RS256")
	claims := []byte(`{"iss":"https://login.example.org","sub":"c0c1914a","aud":"app","iat":1772366400,"exp":1772367000,"sid":"` + strings.Repeat("s", 43) + `","jti":"` + strings.Repeat("t", 86) + `"}`)
	for _, algorithm := range m.Algorithms() {
		b.Run(algorithm, func(b *testing.B) {
			signed, err := m.SignJWT(algorithm, "at+jwt", claims)
			if err != nil {
				b.Fatal(err)
			}
			input := []byte(signed[:strings.LastIndex(signed, ".")])
			key, err := token.NewKeyOf(algorithm)
			if err != nil {
				b.Fatal(err)
			}
			sign, verify := bare(b, algorithm, key)
			signature := sign(input)
			var plainSign, ownSign, plainVerify, ownVerify []time.Duration
			for b.Loop() {
				t0 := time.Now()
				sign(input)
				t1 := time.Now()
				if _, err := m.SignJWT(algorithm, "at+jwt", claims); err != nil {
					b.Fatal(err)
				}
				t2 := time.Now()
				if !verify(input, signature) {
					b.Fatal("the bare signature is wrong")
				}
				t3 := time.Now()
				if _, err := m.VerifyJWT(signed, "at+jwt"); err != nil {
					b.Fatal(err)
				}
				plainSign, ownSign = append(plainSign, t1.Sub(t0)), append(ownSign, t2.Sub(t1))
				plainVerify, ownVerify = append(plainVerify, t3.Sub(t2)), append(ownVerify, time.Since(t3))
			}
			b.ReportMetric(float64(median(ownSign))/float64(median(plainSign)), "sign-ratio")
			b.ReportMetric(float64(median(ownVerify))/float64(median(plainVerify)), "verify-ratio")
			b.ReportMetric(float64(median(plainSign)), "bare-sign-ns")
			b.ReportMetric(float64(median(plainVerify)), "bare-verify-ns")
		})
	}
}

// bare signs and verifies with nothing but the standard library.
func bare(b *testing.B, algorithm string, key crypto.Signer) (sign func([]byte) []byte, verify func(input, signature []byte) bool) {
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	options := map[string]crypto.SignerOpts{"RS256": crypto.SHA256, "PS256": pss, "ES256": crypto.SHA256, "EdDSA": crypto.Hash(0)}[algorithm]
	sign = func(input []byte) []byte {
		if algorithm != "EdDSA" {
			sum := sha256.Sum256(input)
			input = sum[:]
		}
		signature, err := key.Sign(rand.Reader, input, options)
		if err != nil {
			b.Fatal(err)
		}
		return signature
	}
	verify = func(input, signature []byte) bool {
		sum := sha256.Sum256(input)
		switch public := key.Public().(type) {
		case *rsa.PublicKey:
			if algorithm == "PS256" {
				return rsa.VerifyPSS(public, crypto.SHA256, sum[:], signature, pss) == nil
			}
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
		case *ecdsa.PublicKey:
			return ecdsa.VerifyASN1(public, sum[:], signature)
		}
		return ed25519.Verify(key.Public().(ed25519.PublicKey), input, signature)
	}
	return sign, verify
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
