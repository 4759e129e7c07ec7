package testenv

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// RedisURL is the variable with the URL of a Redis server for tests. Tests must not
// expect to be alone there, and use names of their own.
const RedisURL = "TEST_REDIS_URL"

// sharedRedis is held for as long as the process runs: the server ends when nobody holds
// its leash any more.
var sharedRedis struct {
	sync.Mutex
	server *RedisServer
}

// Redis returns the URL of a Redis server that all tests of this process share: that of
// TEST_REDIS_URL, or one that is started for them and ends with the process. Without either
// the test is skipped (see All).
func Redis(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(RedisURL); url != "" {
		return url
	}
	program := Need(t, "redis-server")
	sharedRedis.Lock()
	defer sharedRedis.Unlock()
	if sharedRedis.server == nil {
		s, err := startRedis(program, "") // nobody would remove a folder of its own
		if err != nil {
			t.Fatal(err)
		}
		sharedRedis.server = s
	}
	return sharedRedis.server.URL()
}

// RedisServer is a Redis server of one test, which may do with it what it likes.
type RedisServer struct {
	t       testing.TB
	program string
	dir     string
	port    int
	pid     int
	keeper  *exec.Cmd
	leash   io.Closer
}

// StartRedis starts a server that stores nothing, and ends it after the test.
// Without redis-server the test is skipped (see All).
func StartRedis(t testing.TB) *RedisServer {
	t.Helper()
	program, dir := Need(t, "redis-server"), t.TempDir()
	s, err := startRedis(program, dir)
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	t.Cleanup(s.kill)
	return s
}

// URL is that of the server, whether or not it runs.
func (s *RedisServer) URL() string { return "redis://" + s.addr() }

func (s *RedisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Socket is the path of the server's Unix socket.
func (s *RedisServer) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// Kill ends the server as a crash would.
func (s *RedisServer) Kill() {
	s.t.Helper()
	s.kill()
}

// Restart starts a server that was killed at the same port, empty.
func (s *RedisServer) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// startRedis starts a server at a free port.
func startRedis(program, dir string) (*RedisServer, error) {
	var err error
	for range 5 { // somebody else may take the port meanwhile
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		s := &RedisServer{program: program, dir: dir, port: l.Addr().(*net.TCPAddr).Port}
		_ = l.Close()
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// keep runs a server as long as somebody holds the other end of its input, which the
// kernel closes however a process ends. Its number is the first line of the output.
const keep = `"$@" </dev/null >/dev/null 2>&1 & echo $!; cat >/dev/null; kill -KILL $!; wait`

func (s *RedisServer) start() error {
	args := []string{"-c", keep, "sh", s.program, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--save", "", "--appendonly", "no"}
	if s.dir != "" {
		args = append(args, "--dir", s.dir, "--unixsocket", s.Socket())
	}
	keeper := exec.Command("/bin/sh", args...)
	leash, err := keeper.StdinPipe()
	if err != nil {
		return err
	}
	output, err := keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := keeper.Start(); err != nil {
		return err
	}
	s.keeper, s.leash = keeper, leash
	line, err := bufio.NewReader(output).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err == nil {
		err = s.await()
	}
	if err != nil {
		s.kill()
		return fmt.Errorf("start %s: %w", s.program, err)
	}
	return nil
}

// await returns when the server answers, and is the one that was started: another may have
// taken the port.
func (s *RedisServer) await() error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := s.ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		if ended(s.pid) {
			return fmt.Errorf("it has ended (%w)", err)
		}
		time.Sleep(5 * time.Millisecond) // it is asked again
	}
}

func (s *RedisServer) ask() error {
	conn, err := net.DialTimeout("tcp", s.addr(), time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "INFO server\r\n"); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if pid, ok := strings.CutPrefix(strings.TrimSpace(line), "process_id:"); ok {
			if pid != strconv.Itoa(s.pid) {
				return fmt.Errorf("port %d belongs to process %s", s.port, pid)
			}
			return nil
		}
	}
}

// kill ends the server, if it runs, and waits until it has gone.
func (s *RedisServer) kill() {
	if s.keeper == nil {
		return
	}
	_ = s.leash.Close()
	_ = s.keeper.Wait()
	s.keeper = nil
}
