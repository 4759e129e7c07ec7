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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"login-server/internal/testenv"
)

// patience is how long something may take that no promise is about.
const patience = 20 * time.Second

type object = map[string]any

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.end()
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is what all tests have in common: the built program, and a certificate for this
// machine with the authority that has signed it. All of it is made here, for this run.
var shared struct {
	once sync.Once
	err  error
	// dir has login-server, ca.pem, cert.pem and key.pem.
	dir         string
	certificate tls.Certificate
	authorities *x509.CertPool
	// pin is the SHA-256 of the certificate's SubjectPublicKeyInfo, base64, by which
	// Chromium is told to trust it.
	pin string
}

func prepare(t testing.TB) {
	t.Helper()
	goTool := testenv.Need(t, "go")
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "login-server-openid-"); shared.err != nil {
			return
		}
		if shared.err = makeCertificates(); shared.err != nil {
			return
		}
		if out, err := exec.Command(goTool, "build", "-o", shared.dir, "login-server/cmd/login-server").CombinedOutput(); err != nil {
			shared.err = fmt.Errorf("build: %w\n%s", err, out)
		}
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

// freeAddress is host:port that nobody listens at. The port goes into the settings of
// others before somebody does.
func freeAddress(t testing.TB, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// people can sign in with the password "<username>-pass".
var people = []string{"ada", "bob", "cleo", "dan", "erin", "finn"}

// server is the program in a folder of its own, with TLS of its own.
type server struct {
	issuer string
	*process
}

// startServer runs the program until the test ends, with these entries of
// applications.json and these settings.
func startServer(t testing.TB, applications []object, settings ...string) *server {
	t.Helper()
	prepare(t)
	dir, address := t.TempDir(), freeAddress(t, "localhost")
	_, port, _ := strings.Cut(address, ":")
	s := &server{issuer: "https://" + address}

	var users []object
	for i, name := range people {
		users = append(users, object{"id": strconv.Itoa(i + 1), "username": name, "password": name + "-pass", "displayName": strings.ToUpper(name[:1]) + name[1:]})
	}
	providers := []object{{"id": "test", "strategy": "test", "name": "Test", "credentialsNecessary": true, "options": object{"users": users}}}
	for name, value := range map[string]any{"providers.json": providers, "applications.json": applications} {
		text, err := json.Marshal(value)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(inShared("login-server"), "serve")
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NODE_ENV=test", "PORT=" + port, "BASE_URL=" + s.issuer + "/", "RATE_LIMIT_MAX=1000",
		"TLS_CERT_PATH=" + inShared("cert.pem"), "TLS_KEY_PATH=" + inShared("key.pem"),
		"SSL_CERT_FILE=" + inShared("ca.pem"), "SSL_CERT_DIR=" + dir, // for logout tokens
	}
	cmd.Env = append(cmd.Env, settings...)
	s.process = newProcess(cmd)
	cmd.Stderr = s.said
	s.process.start(t)
	t.Cleanup(func() {
		if err := s.stop(t, syscall.SIGTERM); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		for _, line := range s.said.lines() {
			if strings.Contains(line, "level=ERROR") {
				t.Errorf("log: %s", line)
			}
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", strings.Join(s.said.lines(), "\n"))
		}
	})
	s.until(t, "is ready", func(lines []string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "is ready at") })
	})
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

// process is a program that runs beside the test.
type process struct {
	cmd   *exec.Cmd
	said  *transcript
	ended chan struct{} // closed when it has ended with err
	err   error
}

func newProcess(cmd *exec.Cmd) *process {
	cmd.WaitDelay = patience
	return &process{cmd: cmd, said: newTranscript(), ended: make(chan struct{})}
}

func (p *process) start(t testing.TB) {
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
}

// stop sends a signal and returns how the process has ended.
func (p *process) stop(t testing.TB, signal syscall.Signal) error {
	t.Helper()
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Errorf("%s did not end %v after signal %v", p.cmd, patience, signal)
	}
	return p.err
}

// until waits for the process to write something.
func (p *process) until(t testing.TB, what string, said func(lines []string) bool) {
	t.Helper()
	for deadline := time.After(patience); !said(p.said.lines()); {
		select {
		case <-p.said.written:
		case <-p.ended:
			t.Fatalf("%s has ended before it %s: %v\n%s", p.cmd, what, p.err, strings.Join(p.said.lines(), "\n"))
		case <-deadline:
			t.Fatalf("%v were not enough for %s until it %s\n%s", patience, p.cmd, what, strings.Join(p.said.lines(), "\n"))
		}
	}
}

// transcript is what a process writes, by lines.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // has an element when there is something new
}

func newTranscript() *transcript { return &transcript{written: make(chan struct{}, 1)} }

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.written <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

// lines are those that are complete.
func (l *transcript) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := strings.Split(l.text.String(), "\n")
	return list[:len(list)-1]
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
