package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"login-server/internal/teststore"
)

// TestWithoutTheSecretOfBefore: a server that makes up its secret does not take the place of the
// nodes of before, also when none of them runs. It may begin an installation, and go on with it.
func TestWithoutTheSecretOfBefore(t *testing.T) {
	t.Parallel()
	uri, database := teststore.Database(t)
	env := []string{"MONGO_URI=" + uri, "MONGO_DB=" + database}
	run := func(dir string, env ...string) {
		p := serve(t, dir, env...)
		p.signal(syscall.SIGTERM)
		p.end(0)
	}
	first := site(t)
	run(first, env...)
	run(first, env...)

	second := site(t)
	p := begin(t, second, env)
	p.waitFor("SESSION_SECRET: is missing, and what is in the database was encrypted with one")
	p.end(1)
	if _, err := os.Stat(filepath.Join(second, "data", "session.secret")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the secret that was made up is kept: %v", err)
	}
	p = begin(t, second, env)
	p.waitFor("SESSION_SECRET: is missing")
	p.end(1)
	run(first, env...)
	run(second, append(env, "SESSION_SECRET=0123456789abcdef0123456789abcdef")...) // when it is lost
}
