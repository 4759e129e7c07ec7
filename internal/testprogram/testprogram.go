// Package testprogram runs the program as tests of the whole need it: built once for all
// tests of a package, in a folder of its own, with the files and the environment that a
// test gives it, until the test ends. What other programs a test runs beside it are a
// [Process] too.
//
// Where tests run on a shared store (internal/teststore), so does the program: each on a
// database of its own, with a Redis.
package testprogram

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"login-server/internal/testenv"
	"login-server/internal/teststore"
)

// built is the program, shared by all tests.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// Executable is the path of the program, which the first call builds.
func Executable(t testing.TB) string {
	t.Helper()
	goTool := testenv.Need(t, "go")
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "login-server-test-"); built.err != nil {
			return
		}
		out, err := exec.Command(goTool, "build", "-o", built.dir, "login-server/cmd/login-server").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "login-server")
}

// Remove removes what Executable has built. It belongs at the end of TestMain.
func Remove() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// FreePort is one that nobody listens at on a host. It goes into the settings of others
// before somebody does.
func FreePort(t testing.TB, host string) int {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Files are written before the program starts, by their names. A text is written as it is,
// one that begins with #! may be executed; anything else is written as JSON.
type Files = map[string]any

// Server is the program. Its fields may be changed until it starts.
type Server struct {
	Dir  string // where it runs
	Port int
	Base string   // BASE_URL
	Args []string // of the command line
	Env  []string // beside what Run says; of two values of a variable, the later counts
	// Process is the one that runs, or has run last.
	*Process

	// Path is that of the program; New chooses the one of Executable.
	Path string
}

// New chooses the address of a server, so that others can be told of it before it starts.
func New(t testing.TB) *Server {
	t.Helper()
	port := FreePort(t, "localhost")
	return &Server{
		Dir: t.TempDir(), Port: port, Base: fmt.Sprintf("http://localhost:%d/", port), Args: []string{"serve"},
		Env: append(storeSettings(t), "NODE_ENV=test", "RATE_LIMIT_MAX=1000"), Path: Executable(t),
	}
}

// storeSettings say where the program keeps what has to last. What is in the database is
// there as long as the test, however often the program is started.
func storeSettings(t testing.TB) []string {
	t.Helper()
	if !teststore.Shared() {
		return nil
	}
	uri, database := teststore.Database(t)
	return []string{"MONGO_URI=" + uri, "MONGO_DB=" + database, "REDIS_URL=" + testenv.Redis(t)}
}

// Start writes files, and runs the server until the test ends.
func (s *Server) Start(t testing.TB, files Files, env ...string) {
	t.Helper()
	s.Env = append(s.Env, env...)
	t.Cleanup(func() { s.End(t) })
	if err := errors.Join(s.Write(files), s.Run()); err != nil {
		t.Fatal(err)
	}
}

// Write writes files into the server's folder.
func (s *Server) Write(files Files) error {
	for name, value := range files {
		text, mode := []byte(nil), os.FileMode(0o600)
		switch v := value.(type) {
		case string:
			text = []byte(v)
		case []byte:
			text = v
		default:
			var err error
			if text, err = json.Marshal(v); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if strings.HasPrefix(string(text), "#!") {
			mode = 0o700
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), text, mode); err != nil {
			return err
		}
	}
	return nil
}

// Run starts the server, or starts it again with the same data, and waits until it answers.
// Unlike Start it may be called where a test must not end: in other goroutines.
func (s *Server) Run() error {
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Dir = s.Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "PORT=" + strconv.Itoa(s.Port), "BASE_URL=" + s.Base}, s.Env...)
	p := NewProcess(cmd)
	cmd.Stdout, cmd.Stderr = p.Said, p.Said
	if err := p.Start(); err != nil {
		return err
	}
	s.Process = p
	return p.Until("is ready", func(lines []string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "is ready at") })
	})
}

// End ends the server as systemd would, and looks for errors in its log: none of what tests
// do is an error of ours.
func (s *Server) End(t testing.TB) {
	t.Helper()
	if s.Process == nil {
		return
	}
	if err := s.Stop(syscall.SIGTERM); err != nil {
		t.Errorf("the server ended with: %v", err)
	}
	for _, line := range s.Said.Lines() {
		if strings.Contains(line, "level=ERROR") {
			t.Errorf("log: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("log of the server:\n%s", s.Said)
	}
}

// Restart ends the server and starts it again with the same data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.End(t)
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
}
