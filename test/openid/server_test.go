package openid

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/internal/testenv"
	"login-server/internal/testprogram"
)

type object = map[string]any

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.End()
	testprogram.Remove()
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is what all tests have in common: a certificate for this machine with the authority
// that has signed it. Both are made here, for this run.
var shared struct {
	once sync.Once
	err  error
	// dir has ca.pem, cert.pem and key.pem.
	dir         string
	certificate tls.Certificate
	authorities *x509.CertPool
	// pin is the SHA-256 of the certificate's SubjectPublicKeyInfo, base64, by which
	// Chromium is told to trust it.
	pin string
}

func prepare(t testing.TB) {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "login-server-openid-"); shared.err != nil {
			return
		}
		shared.err = makeCertificates()
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
}

// inShared is the path of a file that all tests share.
func inShared(name string) string { return filepath.Join(shared.dir, name) }

func makeCertificates() error {
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := template(1, "Authority of a test")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := template(2, "localhost")
	leaf.DNSNames, leaf.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(public)
	shared.pin = base64.StdEncoding.EncodeToString(sum[:])
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, text := range map[string][]byte{"ca.pem": caPEM, "cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(inShared(name), text, 0o600); err != nil {
			return err
		}
	}
	shared.authorities = x509.NewCertPool()
	shared.authorities.AppendCertsFromPEM(caPEM)
	shared.certificate, err = tls.X509KeyPair(certPEM, keyPEM)
	return err
}

// newTransport trusts the authority of the test, and nobody else.
func newTransport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: shared.authorities}, ForceAttemptHTTP2: true}
}

// people can sign in with the password "<username>-pass".
var people = []string{"ada", "bob", "cleo", "dan", "erin", "finn"}

// server is the program, with TLS of its own.
type server struct {
	issuer string
	*testprogram.Server
}

// startServer runs the program until the test ends, with these entries of
// applications.json and these settings.
func startServer(t testing.TB, applications []object, settings ...string) *server {
	t.Helper()
	prepare(t)
	s := &server{Server: testprogram.New(t)}
	s.issuer = fmt.Sprintf("https://localhost:%d", s.Port)
	s.Base = s.issuer + "/"

	var users []object
	for i, name := range people {
		users = append(users, object{"id": strconv.Itoa(i + 1), "username": name, "password": name + "-pass", "displayName": strings.ToUpper(name[:1]) + name[1:]})
	}
	providers := []object{{"id": "test", "strategy": "test", "name": "Test", "credentialsNecessary": true, "options": object{"users": users}}}
	// With accounts that live here the key set has one more key, which is not for clients.
	providers = append(providers, object{"id": "account", "strategy": "account", "name": "Account",
		"options": object{"hashing": object{"memoryKiB": 8192}}})
	s.Env = append(s.Env, "TLS_CERT_PATH="+inShared("cert.pem"), "TLS_KEY_PATH="+inShared("key.pem"),
		"SSL_CERT_FILE="+inShared("ca.pem"), "SSL_CERT_DIR="+s.Dir) // for logout tokens
	s.Start(t, testprogram.Files{"providers.json": providers, "applications.json": applications}, settings...)
	return s
}

// url is an address of the server.
func (s *server) url(path string) string { return s.issuer + "/" + path }

// nodeCommand runs a script of this folder in Node.js, which trusts the authority of the
// test and is given settings as JSON in the environment.
func nodeCommand(t testing.TB, settings object, arguments ...string) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.NeedNode(t, 20), arguments...)
	for _, variable := range os.Environ() {
		// With these, Node would behave as somebody wants it elsewhere, or ask a proxy.
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "NODE_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "NODE_EXTRA_CA_CERTS="+inShared("ca.pem"), "SETTINGS="+string(text))
	return cmd
}

// runNodeTests runs a file with tests for node --test.
func runNodeTests(t *testing.T, file string, settings object) {
	t.Helper()
	cmd := nodeCommand(t, settings, "--test", "--test-reporter=spec", file)
	cmd.WaitDelay = time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	deadline := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer deadline.Stop()
	switch err := cmd.Run(); {
	case err != nil:
		t.Errorf("node --test %s: %v\n%s", file, err, &output)
	case !ran.Match(output.Bytes()):
		t.Errorf("node --test %s has run no tests:\n%s", file, &output)
	case testing.Verbose():
		t.Logf("%s", &output)
	}
}

// read is the body of an answer with status 200.
func read(t testing.TB, answer *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s\n%s", answer.Request.Method, answer.Request.URL, answer.Status, body)
	}
	return string(body)
}
