package client_test

import (
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
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"login-server/internal/testprogram"
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

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.End()
	testprogram.Remove()
	os.Exit(code)
}

// startProgram starts the real program, in a folder of its own, and waits until it answers.
// It may be called in other goroutines than the test's.
func startProgram(t *testing.T, settings map[string]string) (*testprogram.Server, error) {
	s := testprogram.New(t)
	dir, environ := folder(t, settings)
	s.Dir, s.Args, s.Env = dir, []string{"--dir", dir}, append(s.Env, environ...)
	t.Cleanup(func() { s.End(t) })
	return s, s.Run()
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
	programs map[string]*testprogram.Server
	clocked  map[string]*clocked
}

func newManager(t *testing.T) *manager {
	testprogram.New(t) // builds it, and tells what is missing, before anybody waits for it
	m := &manager{t: t, programs: map[string]*testprogram.Server{}, clocked: map[string]*clocked{}}
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
	var p *testprogram.Server
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
		m.programs[id], url = p, p.Base
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
	if err := p.Stop(signal); err != nil {
		return nil, err
	}
	return map[string]string{}, p.Run()
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
