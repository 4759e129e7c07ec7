package token_test

import (
	"context"
	"crypto"
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

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
