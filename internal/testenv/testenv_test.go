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
	r = record(t, func(t testing.TB) { path = Need(t, program) })
	return r, path
}

// record runs something that may end a test.
func record(t *testing.T, run func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r
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
	t.Setenv(All, "")
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

func TestNeedNode(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv(All, "")
	program := filepath.Join(dir, "node")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho v20.1.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for major, skipped := range map[int]bool{18: false, 20: false, 21: true, 100: true} {
		var path string
		r := record(t, func(t testing.TB) { path = NeedNode(t, major) })
		if r.skipped != skipped || r.failed || !skipped && path != program {
			t.Errorf("%d: skipped %v, failed %v, path %q", major, r.skipped, r.failed, path)
		}
	}
	t.Setenv(All, "1")
	if r := record(t, func(t testing.TB) { NeedNode(t, 21) }); !r.failed {
		t.Error("an old version did not fail the test although all are wanted")
	}
}

func TestNeedPackages(t *testing.T) {
	t.Setenv(All, "")
	dir := t.TempDir()
	if r := record(t, func(t testing.TB) { NeedPackages(t, dir, "left-pad") }); !r.skipped {
		t.Error("missing packages did not skip the test")
	}
	if err := os.MkdirAll(filepath.Join(dir, "node_modules", "left-pad"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node_modules", "left-pad", "package.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := record(t, func(t testing.TB) { NeedPackages(t, dir, "left-pad") }); r.skipped || r.failed {
		t.Error("packages that are installed were not found")
	}
}

func TestNeedChromium(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	program := filepath.Join(dir, "google-chrome")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := NeedChromium(t); got != program {
		t.Errorf("got %q, want %q", got, program)
	}
}

func TestFindNothing(t *testing.T) {
	t.Setenv(All, "")
	if _, ok := Find("go"); !ok {
		t.Error("the program that runs this test is not found")
	}
	t.Setenv(All, "0")
	if path, ok := Find("go"); ok {
		t.Errorf("found %s, as if it were installed", path)
	}
}
