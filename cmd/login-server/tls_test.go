package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"login-server/config"
)

// Rule 45: TLS 1.3 is preferred, of 1.2 only suites with forward secrecy and authenticated
// encryption are taken, and nothing older at all.
func TestTLSSuites(t *testing.T) {
	dir := t.TempDir()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certify(t, dir, "localhost"))
	c, err := loadCertificate(&config.Config{TLSCertPath: filepath.Join(dir, "cert.pem"), TLSKeyPath: filepath.Join(dir, "key.pem")})
	if err != nil {
		t.Fatal(err)
	}
	shake := func(client *tls.Config) (tls.ConnectionState, error) {
		near, far := net.Pipe()
		go func() {
			s := tls.Server(far, c.tlsConfig())
			_ = s.Handshake()
			_, _ = io.Copy(io.Discard, s)
			_ = s.Close()
		}()
		client.RootCAs, client.ServerName = pool, "localhost"
		conn := tls.Client(near, client)
		err := conn.Handshake()
		state := conn.ConnectionState()
		_ = near.Close()
		return state, err
	}
	if state, err := shake(&tls.Config{}); err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("TLS %x, %v", state.Version, err)
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if _, err := shake(&tls.Config{MinVersion: version, MaxVersion: version}); err == nil {
			t.Errorf("TLS %x was accepted", version)
		}
	}
	taken := map[string]bool{}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if state, err := shake(&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}); err == nil {
			taken[tls.CipherSuiteName(state.CipherSuite)] = true
		}
	}
	for name := range taken {
		if !strings.HasPrefix(name, "TLS_ECDHE_") || !strings.Contains(name, "_GCM_") && !strings.Contains(name, "_CHACHA20_POLY1305_") {
			t.Errorf("%s was accepted", name)
		}
	}
	if len(taken) != 3 { // those of a certificate with an elliptic curve
		t.Errorf("accepted are %v", taken)
	}
	// The same for certificates with RSA.
	for _, id := range c.tlsConfig().CipherSuites {
		name := tls.CipherSuiteName(id)
		if !strings.HasPrefix(name, "TLS_ECDHE_") || !strings.Contains(name, "_GCM_") && !strings.Contains(name, "_CHACHA20_POLY1305_") {
			t.Errorf("%s is allowed", name)
		}
	}
}
