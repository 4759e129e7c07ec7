// Package testenv finds the programs that tests of several rooms run against: real
// servers (slapd) and the client of another language (node).
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// All is the variable that makes a missing program a failure instead of a skipped
// test. Continuous integration sets it to 1, so that nothing is skipped for ever.
const All = "LOGIN_SERVER_TEST_ALL"

// systemDirs are where servers are installed, and often missing from the PATH of
// people who are not root.
var systemDirs = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// Need returns the path of a program. Without it the test is skipped, or fails when
// all programs are wanted (see All).
func Need(t testing.TB, program string) string {
	t.Helper()
	path, ok := Find(program)
	if ok {
		return path
	}
	const where = "%s is not installed (looked in PATH and %s)"
	if os.Getenv(All) == "1" {
		t.Fatalf(where+", and "+All+"=1 wants every test to run", program, strings.Join(systemDirs, ", "))
	}
	t.Skipf(where, program, strings.Join(systemDirs, ", "))
	return ""
}

// Find looks for a program in PATH and where servers are installed.
func Find(program string) (path string, ok bool) {
	if path, err := exec.LookPath(program); err == nil {
		return path, true
	}
	for _, dir := range systemDirs {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, true
		}
	}
	return "", false
}
