//go:build unix

package testenv

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	// One that has ended and waits for its parent counts as gone, too.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestRedisServer(t *testing.T) {
	s := StartRedis(t)
	if err := s.ask(); err != nil {
		t.Fatal(err)
	}
	first := s.pid
	s.Kill()
	if err := s.ask(); err == nil {
		t.Error("a server that was killed answers")
	}
	s.Restart()
	if err := s.ask(); err != nil || s.pid == first {
		t.Errorf("after a restart: process %d, %v", s.pid, err)
	}
	s.Freeze()
	s.Kill()
	if !gone(s.pid) {
		t.Error("a frozen server was not killed")
	}
}

// TestRedisEndsWithItsProcess: whatever kills the tests ends the server they share.
func TestRedisEndsWithItsProcess(t *testing.T) {
	if os.Getenv("TESTENV_REDIS_CHILD") == "1" {
		program, _ := Find("redis-server")
		s, err := startRedis(program, "")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", s.pid)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is done with it
		return
	}
	Need(t, "redis-server")
	child := exec.Command(os.Args[0], "-test.run=^TestRedisEndsWithItsProcess$")
	child.Env = append(os.Environ(), "TESTENV_REDIS_CHILD=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var text string
	for buf := make([]byte, 256); !strings.Contains(text, "\n"); {
		n, err := out.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	pid, err := strconv.Atoi(strings.Fields(text)[1])
	if err != nil || gone(pid) {
		t.Fatalf("%q: %v", text, err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	for deadline := time.Now().Add(20 * time.Second); !gone(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redis-server, process %d, has outlived its test", pid)
		}
	}
}

func TestRedisIsShared(t *testing.T) {
	t.Setenv(RedisURL, "redis://example.test")
	if got := Redis(t); got != "redis://example.test" {
		t.Errorf("got %q", got)
	}
	t.Setenv(RedisURL, "")
	if a, b := Redis(t), Redis(t); a != b {
		t.Errorf("two servers: %s, %s", a, b)
	}
}
