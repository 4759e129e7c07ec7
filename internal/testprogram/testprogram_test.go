package testprogram

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"login-server/internal/testenv"
	"login-server/internal/teststore"
)

func TestMain(m *testing.M) {
	code := m.Run()
	Remove()
	os.Exit(code)
}

// TestServer starts the program, asks it, and starts it again where it was.
func TestServer(t *testing.T) {
	t.Parallel()
	s := New(t)
	s.Start(t, Files{"providers.json": []any{}}, "TITLE=Ours", "TITLE=Ours, later")
	title := func() string {
		answer, err := http.Get(s.Base + "about")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var about struct{ Title string }
		if err := json.NewDecoder(answer.Body).Decode(&about); err != nil {
			t.Fatal(err)
		}
		return about.Title
	}
	first := title()
	if first != "Ours, later" {
		t.Errorf("the title is %q", first)
	}
	// Nobody believes that the program has run on another store when it has not.
	if _, err := os.Stat(filepath.Join(s.Dir, "data", "login-server.db")); os.IsNotExist(err) != teststore.Shared() {
		t.Errorf("a file of SQLite: %v; a shared store: %v", err, teststore.Shared())
	}
	s.Restart(t)
	if again := title(); again != first {
		t.Errorf("after it was started again, the title is %q", again)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	s := &Server{Dir: t.TempDir()}
	if err := s.Write(Files{"a.sh": "#!/bin/sh\n", "b.json": []int{1}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		mode os.FileMode
		text string
	}{"a.sh": {0o700, "#!/bin/sh\n"}, "b.json": {0o600, "[1]"}} {
		text, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(s.Dir, name))
		if err != nil || info.Mode() != want.mode || string(text) != want.text {
			t.Errorf("%s: mode %v (%v), %q", name, info.Mode(), err, text)
		}
	}
}

// TestProcess: what it says is heard, and how it ends is told apart.
func TestProcess(t *testing.T) {
	t.Parallel()
	shell := testenv.Need(t, "sh")
	begin := func(script string) *Process {
		p := NewProcess(exec.Command(shell, "-c", script))
		p.Cmd.Stdout = p.Said
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := begin("echo one; echo two; exec sleep 60")
	if err := p.Until("counts", func(lines []string) bool { return slices.Equal(lines, []string{"one", "two"}) }); err != nil {
		t.Error(err)
	}
	if err := p.Stop(syscall.SIGKILL); err != nil {
		t.Errorf("killed: %v", err)
	}
	if err := begin("exec sleep 60").Stop(syscall.SIGTERM); err == nil {
		t.Error("that a signal has ended it, which it should have heeded, is no error")
	}
	p = begin("echo one; exit 3")
	err := p.Until("counts", func(lines []string) bool { return len(lines) > 1 })
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "one") {
		t.Errorf("a process that has ended too early: %v", err)
	}
}
