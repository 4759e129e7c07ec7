package testenv

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that notes how it ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.skipped = true; runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; runtime.Goexit() }

func need(t *testing.T, program string) (r *recorder, path string) {
	r = &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		path = Need(r, program)
	}()
	<-done
	return r, path
}

func TestNeed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv(All, "")
	program := filepath.Join(dir, "some-server")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, path := need(t, "some-server"); path != program {
		t.Errorf("got %q, want %q", path, program)
	}
	if r, _ := need(t, "no-such-server"); !r.skipped || r.failed {
		t.Error("a missing program did not skip the test")
	}
	t.Setenv(All, "1")
	if r, _ := need(t, "no-such-server"); !r.failed || r.skipped {
		t.Error("a missing program did not fail the test although all are wanted")
	}
}

func TestFindLooksBeyondPath(t *testing.T) {
	old := systemDirs
	t.Cleanup(func() { systemDirs = old })
	systemDirs = []string{t.TempDir()}
	t.Setenv("PATH", t.TempDir())
	program := filepath.Join(systemDirs[0], "slapd")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if path, ok := Find("slapd"); !ok || !strings.HasSuffix(path, "/slapd") {
		t.Errorf("got %q, %v", path, ok)
	}
}
