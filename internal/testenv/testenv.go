// Package testenv finds what tests of several rooms run against: real servers (slapd),
// browsers, and programs in other languages with their packages (node).
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// All is the variable that makes a missing program a failure instead of a skipped
// test. Continuous integration sets it to 1, so that nothing is skipped for ever. With 0
// tests run as where nothing is installed, whatever is.
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
	missing(t, "%s is not installed (looked in PATH and %s)", program, strings.Join(systemDirs, ", "))
	return ""
}

// NeedNode is Need for Node.js, of this major version or a later one.
func NeedNode(t testing.TB, major int) string {
	t.Helper()
	path := Need(t, "node")
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", path, err)
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if got, err := strconv.Atoi(first); err != nil || got < major {
		missing(t, "%s is version %s, too old: %d is wanted", path, strings.TrimSpace(string(version)), major)
	}
	return path
}

// NeedPackages wants the packages to be installed that a folder's package.json names: one
// of them stands for all.
func NeedPackages(t testing.TB, folder, one string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(folder, "node_modules", one, "package.json")); err != nil {
		missing(t, "npm packages are missing (run npm ci in the folder of this test): %v", err)
	}
}

// NeedChromium is Need for the browser, by whatever name it has.
func NeedChromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, ok := Find(name); ok {
			return path
		}
	}
	return Need(t, "chromium")
}

// missing ends the test as Need says.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(All) == "1" {
		t.Fatalf(format+", and "+All+"=1 wants every test to run", args...)
	}
	t.Skipf(format, args...)
}

// Find looks for a program in PATH and where servers are installed.
func Find(program string) (path string, ok bool) {
	if os.Getenv(All) == "0" {
		return "", false
	}
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
