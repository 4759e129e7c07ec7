package client_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"login-server/internal/testenv"
)

// providersJSON lets people in by both ways that need no other server. The password
// of local/erin is that of the demo user of the shipped providers.json: "demo".
const providersJSON = `[
  {"id": "test", "strategy": "test", "name": "Test", "credentialsNecessary": true,
   "template": "https://example.org/people/{username}",
   "options": {"users": [
     {"id": "1", "username": "ada", "password": "ada-pass", "displayName": "Ada"},
     {"id": "2", "username": "bob", "password": "bob-pass", "displayName": "Bob"},
     {"id": "3", "username": "cleo", "password": "cleo-pass", "displayName": "Cleo"},
     {"id": "4", "username": "dan", "password": "dan-pass", "displayName": "Dan"},
     {"id": "5", "username": "finn", "password": "finn-pass", "displayName": "Finn"},
     {"id": "6", "username": "gil", "password": "gil-pass", "displayName": "Gil"}
   ]}},
  {"id": "local", "strategy": "local", "name": "Local", "credentialsNecessary": true,
   "options": {"users": [
     {"username": "erin", "password": "$2a$10$/vjlhNDH9vWv.AtxooyHU.7QVDZD./WcDQhdQfU/gKavYQaMO6B2O", "displayName": "Erin"}
   ]}}
]`

// folder makes what a server is started in, with a key pair that fits its
// JWT_ALGORITHM.
func folder(t *testing.T, settings map[string]string) (dir string, environ []string) {
	dir = t.TempDir()
	write(t, filepath.Join(dir, "providers.json"), []byte(providersJSON))
	writeKeys(t, dir, settings["JWT_ALGORITHM"])
	all := map[string]string{"NODE_ENV": "test", "RATE_LIMIT_MAX": "1000"}
	for name, value := range settings {
		all[name] = value
	}
	for name, value := range all {
		environ = append(environ, name+"="+value)
	}
	return dir, environ
}

func write(t *testing.T, path string, data []byte) {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Error(err)
	}
}

// rsaKey is made once: that is what takes time.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func writeKeys(t *testing.T, dir, algorithm string) {
	var key crypto.Signer
	var err error
	switch algorithm {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsaKey()
	}
	if err != nil {
		t.Error(err)
		return
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Error(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "private.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	write(t, filepath.Join(dir, "public.key"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

// build compiles the program once for all tests.
var build struct {
	once   sync.Once
	dir    string
	err    error
	output []byte
}

func TestMain(m *testing.M) {
	status := m.Run()
	if build.dir != "" {
		_ = os.RemoveAll(build.dir)
	}
	os.Exit(status)
}

func executable(t *testing.T) string {
	t.Helper()
	goTool := testenv.Need(t, "go")
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "login-server-"); build.err != nil {
			return
		}
		build.output, build.err = exec.Command(goTool, "build", "-o", filepath.Join(build.dir, "login-server"), "login-server/cmd/login-server").CombinedOutput()
	})
	if build.err != nil {
		t.Fatalf("build the program: %v\n%s", build.err, build.output)
	}
	return filepath.Join(build.dir, "login-server")
}

// program is the real program, running in a folder of its own.
type program struct {
	path    string
	dir     string
	environ []string
	url     string // base URL
	cmd     *exec.Cmd
	log     *logFile
	exited  chan struct{}
}

// logFile is what the program has written; it is shown when a test fails.
type logFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startProgram starts the program on a free port and waits until it answers.
func startProgram(t *testing.T, settings map[string]string) (*program, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &program{path: executable(t), url: fmt.Sprintf("http://localhost:%d/", port), log: &logFile{}}
	p.dir, p.environ = folder(t, settings)
	p.environ = append(p.environ, "PORT="+strconv.Itoa(port), "PATH="+os.Getenv("PATH"))
	t.Cleanup(func() {
		_ = p.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.url, p.log)
		}
	})
	return p, p.start()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (p *program) start() error {
	p.cmd = exec.Command(p.path, "--dir", p.dir)
	p.cmd.Env, p.cmd.Dir = p.environ, p.dir
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(p.cmd)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if res, err := http.Get(p.url + "about"); err == nil {
			_ = res.Body.Close()
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the program has ended: %s", p.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("the program does not answer at %s: %s", p.url, p.log)
}

// stop ends the program with a signal and waits for it.
func (p *program) stop(signal syscall.Signal) error {
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("the program has not ended 20 s after signal %v", signal)
	}
}

// manager starts servers for tests in another language, and moves their clocks:
//
//	POST /start    {"settings": {…}}                 the real program, answers {"id", "url"}
//	POST /start    {"settings": {…}, "clock": true}  a server in this process whose clock stands still
//	POST /restart  {"id", "signal": "KILL"}          end the program, start it again on the same data
//	POST /advance  {"id", "minutes"}                 move the clock
type manager struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	programs map[string]*program
	clocked  map[string]*clocked
}

func newManager(t *testing.T) *manager {
	executable(t) // before anybody waits for it
	m := &manager{t: t, programs: map[string]*program{}, clocked: map[string]*clocked{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /start", m.serve(m.start))
	mux.HandleFunc("POST /restart", m.serve(m.restart))
	mux.HandleFunc("POST /advance", m.serve(m.advance))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// order is what is asked of the manager.
type order struct {
	ID       string            `json:"id"`
	Settings map[string]string `json:"settings"`
	Clock    bool              `json:"clock"`
	Signal   string            `json:"signal"`
	Minutes  int               `json:"minutes"`
}

func (m *manager) serve(do func(order) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o order
		err := json.NewDecoder(r.Body).Decode(&o)
		var answer any
		if err == nil {
			answer, err = do(o)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (m *manager) start(o order) (any, error) {
	var url string
	var err error
	var p *program
	var c *clocked
	if o.Clock {
		c, err = startClocked(m.t, o.Settings)
	} else {
		p, err = startProgram(m.t, o.Settings)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id := strconv.Itoa(len(m.programs) + len(m.clocked) + 1)
	if p != nil {
		m.programs[id], url = p, p.url
	} else {
		m.clocked[id], url = c, c.url
	}
	return map[string]string{"id": id, "url": url}, nil
}

func (m *manager) restart(o order) (any, error) {
	m.mu.Lock()
	p := m.programs[o.ID]
	m.mu.Unlock()
	signal, ok := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM}[o.Signal]
	if p == nil || !ok {
		return nil, fmt.Errorf("cannot restart %+v", o)
	}
	if err := p.stop(signal); err != nil {
		return nil, err
	}
	return map[string]string{}, p.start()
}

func (m *manager) advance(o order) (any, error) {
	m.mu.Lock()
	c := m.clocked[o.ID]
	m.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("cannot advance %+v", o)
	}
	c.clock.Advance(time.Duration(o.Minutes) * time.Minute)
	return map[string]string{}, nil
}
