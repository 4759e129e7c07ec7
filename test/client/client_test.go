// Package client_test shows that existing applications work unchanged: the published
// npm package gbv-login-client, in Node and in a browser, and libraries that verify
// tokens with nothing but the PEM from /about.
//
// What the tests need of npm is installed by "npm ci" in this folder. Without it,
// without Node or without Chromium the tests that need them are skipped.
package client_test

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"login-server/internal/testenv"
)

// needPackages wants what package-lock.json lists to be installed.
func needPackages(t *testing.T) {
	t.Helper()
	testenv.NeedPackages(t, ".", "gbv-login-client")
}

// ran is in the summary of node --test when there was something to run.
var ran = regexp.MustCompile(`(?m)^\S+ pass [1-9]`)

// TestNode runs the tests in client.test.mjs, which ask the manager for servers.
func TestNode(t *testing.T) {
	t.Parallel()
	node := testenv.Need(t, "node")
	needPackages(t)
	m := newManager(t)
	// The tests in the file have limits of their own; this one is for a file that hangs.
	cmd := exec.CommandContext(t.Context(), node, "--test", "--test-reporter=spec", "client.test.mjs")
	cmd.WaitDelay = time.Second
	for _, variable := range os.Environ() {
		// With these, Node would behave as somebody wants it elsewhere.
		if !strings.HasPrefix(variable, "NODE_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LOGIN_SERVER_MANAGER="+m.url)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	deadline := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer deadline.Stop()
	err := cmd.Run()
	if err != nil {
		t.Errorf("node --test: %v\n%s", err, &output)
	} else if !ran.Match(output.Bytes()) {
		t.Errorf("node --test has run no tests:\n%s", &output)
	} else if testing.Verbose() {
		t.Logf("%s", &output)
	}
}
