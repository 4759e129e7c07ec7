package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/crypto/bcrypt"
)

// process is the whole program, running.
type process struct {
	*exec.Cmd
	t   *testing.T
	dir string
	url string // of the server, with trailing slash

	mu    sync.Mutex
	lines []string
	wrote chan struct{} // closed and replaced at each line
}

// begin starts the program in a folder, with settings beside those of the folder.
func begin(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), "login-server", args...), t: t, dir: dir, wrote: make(chan struct{})}
	p.Dir = dir
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "PORT=0", "TZ=UTC", "GORACE=" + noSleep}, env...)
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			close(p.wrote)
			p.wrote = make(chan struct{})
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-read
		_ = p.Wait()
		if t.Failed() {
			t.Logf("the program wrote:\n%s", strings.Join(p.lines, "\n"))
		}
	})
	return p
}

// serve starts the server and waits until it is ready.
func serve(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	p := begin(t, dir, env)
	line := p.waitFor("is ready at ")
	_, p.url, _ = strings.Cut(line, "is ready at ")
	return p
}

// waitFor returns the first line with a text in it.
func (p *process) waitFor(text string) string {
	p.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		lines, wrote := p.lines, p.wrote
		p.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return line
			}
		}
		select {
		case <-wrote:
		case <-deadline:
			p.t.Fatalf("the program did not write %q", text)
		}
	}
}

// end waits for the program and compares its exit status.
func (p *process) end(want int) {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case err := <-done:
		if got := p.ProcessState.ExitCode(); got != want {
			p.t.Errorf("exit status %d (%v), want %d", got, err, want)
		}
	case <-time.After(20 * time.Second):
		p.t.Fatal("the program does not end")
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// command runs another command on the same data and returns what it writes.
func (p *process) command(args ...string) string {
	p.t.Helper()
	c := exec.CommandContext(p.t.Context(), "login-server", args...)
	c.Dir, c.Env = p.dir, p.Env
	out, err := c.CombinedOutput()
	if err != nil {
		p.t.Fatalf("login-server %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// browser keeps cookies and follows no redirect.
type testBrowser struct {
	http.Client
	t *testing.T
	p *process
}

func (p *process) browser() *testBrowser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return &testBrowser{t: p.t, p: p, Client: http.Client{
		Jar:           jar,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// send returns status and body.
func (b *testBrowser) send(method, path string, form url.Values) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// signIn signs in and checks that it has worked.
func (b *testBrowser) signIn(provider, username, password string) {
	b.t.Helper()
	b.send(http.MethodGet, "login/"+provider, nil)
	b.send(http.MethodPost, "login/"+provider, url.Values{"username": {username}, "password": {password}})
	if status, body := b.send(http.MethodGet, "currentUser", nil); status != http.StatusOK {
		b.t.Fatalf("not signed in: %d %s", status, body)
	}
}

// events opens a WebSocket with the browser's cookies.
func (b *testBrowser) events() *eventSocket {
	b.t.Helper()
	c, _, err := websocket.Dial(b.t.Context(), "ws"+strings.TrimPrefix(b.p.url, "http"), &websocket.DialOptions{HTTPClient: &b.Client})
	if err != nil {
		b.t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	b.t.Cleanup(func() { _ = c.CloseNow() })
	return &eventSocket{b.t, c}
}

type eventSocket struct {
	t *testing.T
	c *websocket.Conn
}

// until reads events up to one of a type, and returns its data.
func (s *eventSocket) until(kind string) string {
	s.t.Helper()
	for {
		text, err := s.next()
		if err != nil {
			s.t.Fatalf("waiting for %s: %v", kind, err)
		}
		var event struct {
			Type string
			Data json.RawMessage
		}
		if err := json.Unmarshal(text, &event); err != nil {
			s.t.Fatal(err)
		}
		if event.Type == kind {
			return string(event.Data)
		}
	}
}

func (s *eventSocket) next() ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, text, err := s.c.Read(ctx)
	return text, err
}

// closing reads to the end and returns the code of the close frame.
func (s *eventSocket) closing() websocket.StatusCode {
	s.t.Helper()
	for {
		if _, err := s.next(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

// site makes a folder with one local provider, in which demo has the password demo.
func site(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("demo"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "providers.json"), fmt.Sprintf(
		`[ { "id": "local", "strategy": "local", "name": "Local", "demo": true, "options": { "users": [ { "username": "demo", "password": %q } ] } } ]`, hash))
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFirstStartToTheEnd(t *testing.T) {
	t.Parallel()
	dir := site(t)
	p := serve(t, dir)
	for _, line := range []string{
		"Made data" + string(filepath.Separator) + " (database and secret)",
		"Made " + filepath.Join("data", "session.secret") + " (SESSION_SECRET; who has it can read cookies)",
		"Made private.key (signs tokens)",
		"Made public.key (verifies them)",
	} {
		if got := p.waitFor(line); got != line {
			t.Errorf("got %q, want %q", got, line)
		}
	}
	p.waitFor("Sign in with demo / demo; add people with: login-server provider local add")

	b := p.browser()
	b.signIn("local", "demo", "demo")
	_, body := b.send(http.MethodGet, "currentUser", nil)
	if !strings.Contains(body, `"name":"demo@local"`) {
		t.Errorf("got %s", body)
	}
	socket := b.events()
	socket.until("loggedIn")

	// A request that is under way when the signal comes is answered.
	late := slowRequest(t, p)
	p.signal(syscall.SIGTERM)
	if code := socket.closing(); code != websocket.StatusGoingAway {
		t.Errorf("close frame with code %d, want %d", code, websocket.StatusGoingAway)
	}
	if status := late(); status != http.StatusForbidden && status != http.StatusFound && status != http.StatusOK {
		t.Errorf("the request under way was answered with %d", status)
	}
	p.end(0)

	// The second start makes nothing, and everybody is still signed in.
	again := serve(t, dir, "PORT="+portOf(t, p.url))
	if status, _ := b.send(http.MethodGet, "currentUser", nil); status != http.StatusOK {
		t.Errorf("after a restart currentUser answers %d", status)
	}
	again.mu.Lock()
	defer again.mu.Unlock()
	for _, line := range again.lines {
		if strings.HasPrefix(line, "Made") {
			t.Errorf("second start: %s", line)
		}
	}
}

// slowRequest begins a request whose body is not complete until the function it
// returns is called, which tells the status of the answer.
func slowRequest(t *testing.T, p *process) func() int {
	t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	const form = "username=nobody&password=nothing"
	if _, err := fmt.Fprintf(c, "POST /login/local HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", u.Host, len(form)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	// The server asks for the rest: it has begun with the request.
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return func() int {
		if _, err := io.WriteString(c, form); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := serve(t, site(t))
	slowRequest(t, p) // would keep the server for 15 seconds
	p.signal(syscall.SIGTERM)
	p.waitFor("stopping")
	p.signal(syscall.SIGTERM)
	p.end(interrupted)
}

func TestOneServerPerDataFolder(t *testing.T) {
	t.Parallel()
	p := serve(t, site(t))
	second := begin(t, p.dir, nil)
	second.waitFor(fmt.Sprintf(`DATA_DIR: "data" is used by another server (process %d, %s); stop that one, or give this one a folder of its own`, p.Process.Pid, p.url))
	second.end(1)

	if out := p.command("doctor"); !strings.Contains(out, fmt.Sprintf("runs (process %d, %s)", p.Process.Pid, p.url)) {
		t.Errorf("doctor does not see the server:\n%s", out)
	}
	// The lock ends with the process, however that ends.
	p.signal(syscall.SIGKILL)
	p.end(-1)
	serve(t, p.dir)
}

// TestCommandsBesideTheServer: what the command line does, open sockets hear.
func TestCommandsBesideTheServer(t *testing.T) {
	t.Parallel()
	p := serve(t, site(t))
	b := p.browser()
	b.signIn("local", "demo", "demo")
	socket := b.events()
	socket.until("token")

	p.command("user", "set", "local:demo", "--name", "Somebody Else")
	if data := socket.until("updated"); !strings.Contains(data, "Somebody Else") {
		t.Errorf("updated: got %s", data)
	}
	if out := p.command("session", "list"); !strings.Contains(out, "Somebody Else") {
		t.Errorf("session list:\n%s", out)
	}
	if out := p.command("backup", "copy.db"); !strings.Contains(out, "Wrote copy.db") {
		t.Errorf("backup:\n%s", out)
	}
	p.command("session", "remove", "--user", "local:demo")
	socket.until("loggedOut")
	if status, _ := b.send(http.MethodGet, "currentUser", nil); status != http.StatusUnauthorized {
		t.Errorf("after session remove: %d", status)
	}
	b.signIn("local", "demo", "demo")
	socket = b.events()
	socket.until("token")
	p.command("user", "delete", "local:demo", "--yes")
	socket.until("loggedOut")
	if status, _ := b.send(http.MethodGet, "account", nil); status != http.StatusFound {
		t.Errorf("after user delete: %d", status)
	}
}

// TestFilesAreTakenOver: people and keys change without a restart.
func TestFilesAreTakenOver(t *testing.T) {
	t.Parallel()
	p := serve(t, site(t))
	b := p.browser()
	add := exec.CommandContext(t.Context(), "login-server", "provider", "local", "add", "ada", "--password-stdin")
	add.Dir, add.Env, add.Stdin = p.dir, p.Env, strings.NewReader("correct horse\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.signal(syscall.SIGHUP)
	p.waitFor("read keys, certificate and providers again")
	b.signIn("local", "ada", "correct horse")

	// Without a signal it takes a few seconds.
	p.command("key", "rotate", "--yes")
	kid := p.command("key", "show", "--json")
	var key struct{ PublicKey string }
	if err := json.Unmarshal([]byte(kid), &key); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		var about struct{ PublicKey string }
		_, body := b.send(http.MethodGet, "about", nil)
		if err := json.Unmarshal([]byte(body), &about); err != nil {
			t.Fatal(err)
		}
		if about.PublicKey == key.PublicKey {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new key is not in /about")
		}
		// The server looks at its files by the clock of the machine.
		time.Sleep(50 * time.Millisecond)
	}

	// What is broken is reported, and what was in use stays in use.
	write(t, filepath.Join(p.dir, "providers.json"), `[ { "id": "local" }, ]`)
	p.signal(syscall.SIGHUP)
	p.waitFor(`cannot be taken over, what was in use stays in use" problem="providers.json: line 1, column 22: a comma stands before`)
	p.browser().signIn("local", "ada", "correct horse")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := site(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certify(t, dir, "localhost"))
	p := begin(t, dir, []string{"TLS_CERT_PATH=cert.pem", "TLS_KEY_PATH=key.pem", "METRICS_ADDR=127.0.0.1:0"})
	_, address, _ := strings.Cut(p.waitFor("is ready at "), "is ready at ")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	answer, err := client.Get(strings.Replace(address, "http:", "https:", 1) + "about")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.TLS.Version != tls.VersionTLS13 {
		t.Errorf("got %s, TLS %x", answer.Status, answer.TLS.Version)
	}
	// A cipher without forward secrecy is refused.
	old := &tls.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}
	if c, err := tls.Dial("tcp", "localhost:"+portOf(t, address), old); err == nil {
		c.Close()
		t.Error("a cipher suite without forward secrecy was accepted")
	}
}

// certify writes cert.pem and key.pem of a host and returns the certificate.
func certify(t *testing.T, dir, host string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "cert.pem"), string(cert))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return cert
}

// BenchmarkStart measures from the start of the process to the first answer, with
// existing keys and data.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "providers.json"), []byte(`[ { "id": "local", "strategy": "local", "name": "Local" } ]`), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		b.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	start := func() {
		p := exec.CommandContext(b.Context(), "login-server")
		p.Dir, p.Env = dir, []string{fmt.Sprintf("PORT=%d", port)}
		if err := p.Start(); err != nil {
			b.Fatal(err)
		}
		for {
			answer, err := client.Get(fmt.Sprintf("http://localhost:%d/about", port))
			if err == nil {
				answer.Body.Close()
				break
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				b.Fatal(err)
			}
			time.Sleep(500 * time.Microsecond)
		}
		b.StopTimer()
		_ = p.Process.Signal(syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	start() // makes keys and data
	for b.Loop() {
		start()
	}
}
