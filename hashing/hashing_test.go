package hashing

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
)

// The last argument makes this program what a Hasher starts: one that works, one that ends at
// the first question, and one that never answers.
const works, ends, hangs = "works", "ends", "hangs"

func TestMain(m *testing.M) {
	switch os.Args[len(os.Args)-1] {
	case works:
		if err := Work(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case ends:
		_, _ = os.Stdin.Read(make([]byte, 1))
	case hangs:
		select {}
	default:
		os.Exit(m.Run())
	}
}

var cheap = argon2id.Params{Memory: 8192, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// newHasher returns one with processes, which has heard a question a moment ago.
func newHasher(t *testing.T, command ...string) (*Hasher, *bytes.Buffer) {
	t.Helper()
	if command == nil { // not empty, which is for none
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		command = []string{self, works}
	}
	var log bytes.Buffer
	h := New(command, slog.New(slog.NewTextHandler(&log, nil)))
	h.last = time.Now()
	t.Cleanup(h.Close)
	return h, &log
}

// waiting are the processes that have nothing to do.
func (h *Hasher) waiting() []*process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*process(nil), h.idle...)
}

const password = "kettle moss harbour 9 – ä\u2028\n\"\\"

func TestHash(t *testing.T) {
	for name, command := range map[string][]string{
		"here":         {},
		"a process":    nil,
		"not started":  {filepath.Join(t.TempDir(), "missing")},
		"another one":  {"/bin/echo", "not an answer"},
		"one that has": {"/bin/echo", "{}"}, // nothing to say
	} {
		t.Run(name, func(t *testing.T) {
			h, log := newHasher(t, command...)
			hash, err := h.Hash(cheap, password)
			if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=8192,t=1,p=1$") {
				t.Fatalf("got %q, %v", hash, err)
			}
			for typed, want := range map[string]bool{password: true, password + " ": false, "": false} {
				if same, err := h.Compare(hash, typed); err != nil || same != want {
					t.Errorf("%q: got %v, %v", typed, same, err)
				}
			}
			if same, err := h.Compare("$argon2id$v=19$broken", password); err == nil || same {
				t.Errorf("a hash that is none: got %v, %v", same, err)
			}
			if again, err := h.Hash(cheap, password); err != nil || again == hash {
				t.Errorf("twice the same hash, or %v", err)
			}
			const odd = "\xff\xfe" // no text
			if hash, err = h.Hash(cheap, odd); err != nil {
				t.Fatal(err)
			}
			if same, err := Compare(hash, odd); err != nil || !same {
				t.Errorf("bytes that are no text: got %v, %v", same, err)
			}
			// One line when processes fail, and none as long as they do not.
			fails := len(command) > 0
			if n := strings.Count(log.String(), "level=WARN"); fails && n != 1 || !fails && n != 0 {
				t.Errorf("%d warnings:\n%s", n, log)
			}
			if beside := len(h.idle); (command == nil) != (beside == 1) {
				t.Errorf("%d processes", beside)
			}
		})
	}
}

// One process answers one question after the other, and is used again.
func TestProcessIsKept(t *testing.T) {
	h, log := newHasher(t)
	for range 3 {
		if _, err := h.Hash(cheap, password); err != nil {
			t.Fatal(err)
		}
	}
	rest := h.waiting()
	if len(rest) != 1 || log.Len() > 0 {
		t.Fatalf("%d processes, %s", len(rest), log)
	}
	first := rest[0].cmd.Process.Pid
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			own := fmt.Sprint(password, i)
			hash, err := h.Hash(cheap, own)
			if err != nil {
				t.Error(err)
				return
			}
			if same, err := h.Compare(hash, own); err != nil || !same {
				t.Errorf("somebody else's answer, or %v", err)
			}
		})
	}
	all.Wait()
	rest = h.waiting()
	if len(rest) < 1 || len(rest) > 6 || !slices.ContainsFunc(rest, func(p *process) bool { return p.cmd.Process.Pid == first }) {
		t.Errorf("%d processes, without the first", len(rest))
	}
	h.Close()
	for _, p := range rest {
		<-p.ended
	}
	if len(h.waiting()) > 0 {
		t.Error("processes are left")
	}
	if _, err := h.Hash(cheap, password); err != nil {
		t.Errorf("after the end: %v", err)
	}
	if len(h.waiting()) > 0 {
		t.Error("a process was started after the end")
	}
}

// Somebody alone is not worth a process; and one that has nothing to do ends.
func TestNoProcessForOne(t *testing.T) {
	h, _ := newHasher(t)
	h.last = time.Time{}
	if _, err := h.Hash(cheap, password); err != nil {
		t.Fatal(err)
	}
	if n := len(h.waiting()); n > 0 {
		t.Fatalf("%d processes", n)
	}
	h.last = time.Now()
	if _, err := h.Hash(cheap, password); err != nil {
		t.Fatal(err)
	}
	rest := h.waiting()
	if len(rest) != 1 {
		t.Fatalf("%d processes", len(rest))
	}
	rest[0].timer.Reset(0)
	<-rest[0].ended
	h.last = time.Now()
	if _, err := h.Hash(cheap, password); err != nil {
		t.Fatal(err)
	}
	if now := h.waiting(); len(now) != 1 || now[0] == rest[0] {
		t.Errorf("%d processes, the one that has ended among them", len(now))
	}
}

// A process that ends in the middle of a question takes no answer with it, nor does one that
// does not answer; and for some time there are no others.
func TestProcessFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{ends, hangs} {
		t.Run(kind, func(t *testing.T) {
			h, log := newHasher(t, self, kind)
			if kind == hangs {
				h.patience = 100 * time.Millisecond
			}
			if _, err := h.Hash(cheap, password); err != nil {
				t.Fatal(err)
			}
			h.patience = answerWithin
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings: %s", n, log)
			}
			h.command[1] = works
			h.last = time.Now()
			if _, err := h.Hash(cheap, password); err != nil || len(h.waiting()) > 0 {
				t.Errorf("after a failure: %v, %d processes", err, len(h.waiting()))
			}
			h.failed, h.last = time.Now().Add(-restFor-time.Second), time.Now()
			if _, err := h.Hash(cheap, password); err != nil || len(h.waiting()) != 1 || !strings.Contains(log.String(), "again") {
				t.Errorf("when they work again: %v, %d processes, %s", err, len(h.waiting()), log)
			}
		})
	}
}

func TestProcessIsKilled(t *testing.T) {
	h, log := newHasher(t)
	if _, err := h.Hash(cheap, password); err != nil {
		t.Fatal(err)
	}
	killed := h.waiting()[0]
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-killed.ended // of itself: nobody has asked it anything
	h.last = time.Now()
	hash, err := h.Hash(cheap, password)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := h.Compare(hash, password); err != nil || !same {
		t.Errorf("got %v, %v", same, err)
	}
	if strings.Contains(log.String(), "kettle") {
		t.Errorf("the log tells the password: %s", log)
	}
	if now := h.waiting(); len(now) != 1 || now[0] == killed {
		t.Errorf("%d processes", len(now))
	}
}

// What a process does not need it does not have, and all others go before it.
func TestProcessIsApart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells of a process at /proc")
	}
	t.Setenv("SESSION_SECRET", "of the server")
	h, _ := newHasher(t)
	if _, err := h.Hash(cheap, password); err != nil {
		t.Fatal(err)
	}
	pid := h.waiting()[0].cmd.Process.Pid
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) > 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, thread := range threads {
		data, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(rest); fields[2] != fmt.Sprint(pid) || fields[16] != fmt.Sprint(niceness) { // proc_pid_stat(5): pgrp, nice
			t.Errorf("%s: group %s, niceness %s", thread, fields[2], fields[16])
		}
	}
}

func TestWork(t *testing.T) {
	var out bytes.Buffer
	if err := Work(strings.NewReader(""), &out); err != nil || out.Len() > 0 {
		t.Errorf("nothing asked: %v %s", err, &out)
	}
	if err := Work(strings.NewReader("{"), &out); err == nil {
		t.Error("half a question is taken for none")
	}
}
