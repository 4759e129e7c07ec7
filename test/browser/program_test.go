package browser

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// program is the built login-server, shared by all tests.
var program builtProgram

type builtProgram struct {
	once      sync.Once
	dir, path string
	err       error
}

func (p *builtProgram) build(t testing.TB) string {
	t.Helper()
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "login-server-browser-"); p.err != nil {
			return
		}
		p.path = filepath.Join(p.dir, "login-server")
		out, err := exec.Command("go", "build", "-o", p.path, "login-server/cmd/login-server").CombinedOutput()
		if err != nil {
			p.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.path
}

func (p *builtProgram) remove() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// People who can sign in, at each provider with the same name and password.
const (
	ada, adaPassword = "ada", "correct horse"
	bob, bobPassword = "bob", "battery staple"
)

// server is one running login-server in a folder of its own.
type server struct {
	t       testing.TB
	dir     string
	port    int
	env     []string
	args    []string
	base    string // BASE_URL
	process *exec.Cmd
	log     *logBuffer
}

// options say how a server differs from the usual one.
type options struct {
	base    string   // BASE_URL, when there is a proxy in front
	port    int      // chosen when 0
	origins []string // ALLOWED_ORIGINS
	apps    map[string]string
	env     []string
	dev     bool
}

// start runs a server until the test ends.
func start(t testing.TB, o options) *server {
	t.Helper()
	path := program.build(t)
	s := &server{t: t, dir: t.TempDir(), port: o.port, base: o.base}
	if s.port == 0 {
		s.port = freePort(t)
	}
	if s.base == "" {
		s.base = fmt.Sprintf("http://localhost:%d/", s.port)
	}
	s.writeSettings(o.apps)
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "NODE_ENV=test", fmt.Sprintf("PORT=%d", s.port), "BASE_URL=" + s.base,
		"RATE_LIMIT_MAX=1000", "ALLOWED_ORIGINS=" + strings.Join(o.origins, ","),
		"IMPRINT_URL=https://example.org/imprint", "PRIVACY_URL=https://example.org/privacy",
	}, o.env...)
	s.args = []string{path, "serve"}
	if o.dev {
		s.args = append(s.args, "--dev")
	}
	s.run()
	t.Cleanup(s.stop)
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// writeSettings writes providers.json and applications.json.
func (s *server) writeSettings(apps map[string]string) {
	s.t.Helper()
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			s.t.Fatal(err)
		}
		return string(h)
	}
	script := "#!/bin/sh\ncase \"$USERNAME/$PASSWORD\" in\n" +
		"'" + ada + "/" + adaPassword + `') echo '{"id":"s-ada","name":"Ada of the Script","username":"ada"}';;` + "\n" +
		"'" + bob + "/" + bobPassword + `') echo '{"id":"s-bob","name":"Bob of the Script","username":"bob"}';;` + "\n" +
		`*) echo '{"message":"The script does not know you."}';;` + "\nesac\n"
	if err := os.WriteFile(filepath.Join(s.dir, "who.sh"), []byte(script), 0o755); err != nil {
		s.t.Fatal(err)
	}
	type user struct {
		Username    string `json:"username"`
		Password    string `json:"password"`
		DisplayName string `json:"displayName,omitempty"`
	}
	type object = map[string]any
	s.writeJSON("providers.json", []object{
		{"id": "test", "strategy": "test", "name": "Test", "credentialsNecessary": true, "template": "https://example.org/{username}",
			"options": object{"users": []user{{ada, adaPassword, "Ada Lovelace"}, {bob, bobPassword, "Bob"}}}},
		{"id": "local", "strategy": "local", "name": "Library", "credentialsNecessary": true,
			"options": object{"users": []user{{ada, hash(adaPassword), "Ada at the Library"}, {bob, hash(bobPassword), ""}}}},
		{"id": "script", "strategy": "script", "name": "Script", "credentialsNecessary": true,
			"options": object{"script": "./who.sh"}},
	})
	list := []object{}
	for address, name := range apps {
		list = append(list, object{"url": address, "name": name})
	}
	s.writeJSON("applications.json", list)
}

func (s *server) writeJSON(name string, value any) {
	s.t.Helper()
	text, err := json.Marshal(value)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, name), text, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// logBuffer keeps what the program says, and tells when it is ready.
type logBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
	done  bool
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if !l.done && strings.Contains(l.text.String(), "is ready at") {
		l.done = true
		close(l.ready)
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run starts the process and waits until it answers.
func (s *server) run() {
	s.t.Helper()
	s.log = &logBuffer{ready: make(chan struct{})}
	s.process = exec.Command(s.args[0], s.args[1:]...)
	s.process.Dir, s.process.Env, s.process.Stderr = s.dir, s.env, s.log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.log.ready:
	case <-time.After(2 * patience):
		s.t.Fatalf("the server does not get ready:\n%s", s.log)
	}
}

// stop ends the process as systemd would.
func (s *server) stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- s.process.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			s.t.Errorf("the server ended with: %v\n%s", err, s.log)
		}
	case <-time.After(2 * patience):
		_ = s.process.Process.Kill()
		s.t.Errorf("the server does not stop:\n%s", s.log)
	}
	s.process = nil
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "level=ERROR") {
			s.t.Errorf("log: %s", line)
		}
	}
}

// restart stops the server and starts it again with the same data.
func (s *server) restart() {
	s.t.Helper()
	s.stop()
	s.run()
}

// to is the address of a page.
func (s *server) to(path string) string { return s.base + path }

// proxied starts a server below /login/ with a reverse proxy in front, which may
// strip that path, as nginx does with a slash behind proxy_pass, or leave it.
func proxied(t testing.TB, strip bool, o options) *server {
	t.Helper()
	o.port = freePort(t)
	target, err := url.Parse(fmt.Sprintf("http://localhost:%d", o.port))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetXForwarded()
		r.SetURL(target)
		if strip {
			return // the Host is that of the server behind
		}
		r.Out.Host = r.In.Host
	}}
	var handler http.Handler = proxy
	if strip {
		handler = http.StripPrefix("/login", proxy)
	}
	mux := http.NewServeMux()
	mux.Handle("/login/", handler)
	mux.HandleFunc("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	o.base = strings.Replace(front.URL, "127.0.0.1", "localhost", 1) + "/login/"
	o.env = append(o.env, "TRUSTED_PROXIES=127.0.0.1,::1")
	return start(t, o)
}

// site serves pages that are not ours: an application, or an attacker's website.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]string // by path; one that begins with http redirects there
	seen  []string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{pages: map[string]string{"/": "<h1>Application</h1>"}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.URL.RequestURI())
		body, ok := s.pages[r.URL.Path]
		s.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if strings.HasPrefix(body, "http") {
			http.Redirect(w, r, body, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		out := bufio.NewWriter(w)
		defer out.Flush()
		fmt.Fprintf(out, "<!doctype html><html lang=en><link rel=icon href='data:,'><title>Page</title><body>%s", body)
	}))
	t.Cleanup(s.Close)
	return s
}

// at is the origin of the site under another host name.
func (s *site) at(host string) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	return "http://" + host + ":" + port
}

// page adds one to the site.
func (s *site) page(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = body
}
