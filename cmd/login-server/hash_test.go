package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A crowd that signs in has its passwords hashed by a process beside the server, which has
// nothing of the server's, and ends with it.
func TestPasswordsAreHashedBeside(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/task"); err != nil {
		t.Skip("only Linux tells at /proc which processes a process has started")
	}
	dir := site(t)
	err := os.WriteFile(filepath.Join(dir, "providers.json"), []byte(`[{"id": "account", "strategy": "account", "name": "Account",
		"options": {"hashing": {"memoryKiB": 8192, "iterations": 4}}}]`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, dir, "SESSION_SECRET=0123456789abcdef0123456789abcdef", "RATE_LIMIT_MAX=1000")
	// People sign in one after the other, some at a time, until we have seen enough.
	enough := make(chan struct{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-enough:
					return
				default:
				}
				name := fmt.Sprintf("person%d-%d@example.org", i, n)
				if status, _ := p.browser().send(http.MethodPost, "login/account", url.Values{"username": {name}, "password": {"not known here"}}); status != http.StatusFound && status != http.StatusServiceUnavailable {
					t.Errorf("status %d", status)
					return
				}
			}
		})
	}
	leave := sync.OnceFunc(func() { close(enough); all.Wait() })
	defer leave()
	var beside []string
	for deadline := time.Now().Add(20 * time.Second); len(beside) == 0; time.Sleep(time.Millisecond) {
		if beside = hashers(t, p.Process.Pid); len(beside) == 0 && time.Now().After(deadline) {
			t.Fatal("no process beside the server")
		}
	}
	for _, pid := range beside {
		if env, err := os.ReadFile(filepath.Join("/proc", pid, "environ")); err != nil || len(env) > 0 {
			t.Errorf("its environment is %q, %v", env, err)
		}
	}
	leave()
	p.signal(syscall.SIGKILL) // not even then is it left
	_ = p.Wait()
	for _, pid := range beside {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join("/proc", pid, "exe")); err != nil {
				break
			}
			if state, err := os.ReadFile(filepath.Join("/proc", pid, "stat")); err != nil || strings.Contains(string(state), ") Z ") {
				break // nobody has asked how it has ended
			}
			if time.Now().After(deadline) {
				t.Fatalf("process %s is left", pid)
			}
		}
	}
}

// hashers are the processes that hash among those that one has started.
func hashers(t *testing.T, pid int) (pids []string) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		list, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for _, child := range strings.Fields(string(list)) {
			line, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
			if words := strings.Split(strings.Trim(string(line), "\x00"), "\x00"); err == nil && len(words) == 2 && words[1] == "hash-passwords" {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
