package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"login-server/internal/testenv"
)

// patience is how long something may take to happen.
const patience = 20 * time.Second

type object = map[string]any

// program is the built login-server, shared by all tests.
var program struct {
	once sync.Once
	dir  string
	err  error
}

func executable(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "login-server-upstream-"); program.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", program.dir, "login-server/cmd/login-server").CombinedOutput()
		if err != nil {
			program.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "login-server")
}

// loginServer is the program, running in a folder of its own.
type loginServer struct {
	dir  string
	base string // BASE_URL
	*process
}

// newLoginServer chooses the address of a server, so that providers can be told of it
// before it starts.
func newLoginServer(t testing.TB) *loginServer {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &loginServer{dir: t.TempDir(), base: fmt.Sprintf("http://localhost:%d/", l.Addr().(*net.TCPAddr).Port)}
}

// callback is where a provider sends people back to.
func (s *loginServer) callback(provider string) string {
	return s.base + "login/" + provider + "/return"
}

// start runs the server until the test ends. It must get ready whether the providers
// answer or not.
func (s *loginServer) start(t testing.TB, providers []object, env ...string) {
	t.Helper()
	text, err := json.Marshal(providers)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "providers.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(strings.TrimSuffix(s.base, "/"), "localhost:")
	cmd := exec.Command(executable(t), "serve")
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "NODE_ENV=test", "PORT=" + port, "BASE_URL=" + s.base, "RATE_LIMIT_MAX=1000"}, env...)
	s.process = newProcess(cmd)
	cmd.Stderr = s.said
	s.process.start(t)
	t.Cleanup(func() { s.end(t) })
	s.until(t, "is ready", func(lines []string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "is ready at") })
	})
}

// end ends the server as systemd would. Nothing that a provider does is an error of ours.
func (s *loginServer) end(t testing.TB) {
	t.Helper()
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
}

// upstream is a server of an npm package, in a process of its own.
type upstream struct {
	script   string
	settings object
	issuer   string
	stdin    io.Writer
	errors   *transcript // standard error, of all its processes
	*process
}

// startUpstream runs a script of this folder until the test ends.
func startUpstream(t testing.TB, script string, settings object) *upstream {
	t.Helper()
	u := &upstream{script: script, settings: settings, errors: newTranscript()}
	u.start(t)
	t.Cleanup(func() {
		u.stop(t)
		if t.Failed() {
			t.Logf("%s %s:\n%s", u.script, u.issuer, strings.Join(slices.Concat(u.said.lines(), u.errors.lines()), "\n"))
		}
	})
	return u
}

// start starts the server, or starts it again at the same address with other keys.
func (u *upstream) start(t testing.TB) {
	t.Helper()
	settings, err := json.Marshal(u.settings)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.NeedNode(t, 20), u.script, string(settings))
	for _, variable := range os.Environ() {
		// With these, Node would behave as somebody wants it elsewhere.
		if !strings.HasPrefix(variable, "NODE_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	u.process = newProcess(cmd)
	cmd.Stdout, cmd.Stderr = u.said, u.errors
	if u.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	u.process.start(t)
	var ready struct{ Issuer string }
	u.hear(t, 0, &ready)
	u.issuer = ready.Issuer
	_, port, _ := strings.Cut(u.issuer, "127.0.0.1:")
	u.settings["port"] = json.Number(port)
}

// stop ends the server, if it runs. Its connections end with it.
func (u *upstream) stop(t testing.TB) {
	t.Helper()
	_ = u.process.stop(t, syscall.SIGKILL)
}

// hear reads what the server says in line n, counted from 0.
func (u *upstream) hear(t testing.TB, n int, value any) {
	t.Helper()
	u.until(t, "speaks", func(lines []string) bool { return len(lines) > n })
	if err := json.Unmarshal([]byte(u.said.lines()[n]), value); err != nil {
		t.Fatalf("%s says %q: %v", u.script, u.said.lines()[n], err)
	}
}

// asked is the authorization request that the server has heard last.
func (u *upstream) asked(t testing.TB) map[string]string {
	t.Helper()
	var message struct{ Authorization map[string]string }
	u.hear(t, len(u.said.lines())-1, &message)
	return message.Authorization
}

// tell sends the server a line, and waits until it has heard it.
func (u *upstream) tell(t testing.TB, order object) {
	t.Helper()
	before := len(u.said.lines())
	if err := json.NewEncoder(u.stdin).Encode(order); err != nil {
		t.Fatal(err)
	}
	u.hear(t, before, new(object))
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

// getJSON asks as an application does that nobody is signed in to.
func getJSON(t testing.TB, address string, value any) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", address, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(value); err != nil {
		t.Fatal(err)
	}
}
