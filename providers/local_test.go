package providers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"login-server/config"
	"login-server/hashing"
	"login-server/identity"
)

// Hashes of "secret", as other programs made them: bcryptjs ($2a$, $2b$), PHP ($2y$),
// and this one (argon2id, small for the tests). Those of the long ones are of 80
// letters x.
const (
	hash2b      = "$2b$04$h9aAGturaBe3nIUl8A8pZukNuebZsZHV2.L9rQbDRzkamS4ypB/.e"
	hashArgon2  = "$argon2id$v=19$m=1024,t=1,p=1$Effqt9W3exffHM7VZAGVTA$l5IViV+4QMe688IpjpjsoztAUtlQ6+vhB32smRDfPqI"
	hashLong    = "$2a$04$sKj9HWtPpQXDRKsRNYUiJe37eJfTaUSQwqVCHP9DLFGVjVxLWO5wO"
	longSecret  = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	wrongSecret = "Secret"
)

func localUsers() object {
	return object{"users": []object{
		{"username": "ada", "password": hash2b, "displayName": "Ada Lovelace", "uri": "https://example.org/ada", "id": "42"},
		{"username": "grace", "password": strings.Replace(hash2b, "$2b$", "$2a$", 1), "displayName": "Grace Hopper"},
		{"username": "hedy", "password": strings.Replace(hash2b, "$2b$", "$2y$", 1)},
		{"username": "Käthe O'Neil", "password": hashArgon2},
		{"username": "long", "password": hashLong},
	}}
}

func TestLocal(t *testing.T) {
	p, warnings := openWith(t, testDeps(), config.Provider{ID: "p", Strategy: "local", Name: "P", Template: "https://example.org/people/{id}"}, localUsers())
	if len(warnings) > 0 || !p.CredentialsNecessary {
		t.Errorf("%q, %v", warnings, p.CredentialsNecessary)
	}
	for _, want := range []identity.Profile{
		{Provider: "p", ID: "42", Username: "ada", Name: "Ada Lovelace", URI: "https://example.org/ada"},
		{Provider: "p", ID: "grace", Username: "grace", Name: "Grace Hopper", URI: "https://example.org/people/grace"},
		{Provider: "p", ID: "hedy", Username: "hedy", URI: "https://example.org/people/hedy"},
		{Provider: "p", ID: "Käthe O'Neil", Username: "Käthe O'Neil", URI: "https://example.org/people/K%C3%A4the%20O%27Neil"},
	} {
		if got := accepted(t, p, want.Username, "secret"); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		refused(t, p, want.Username, wrongSecret)
		refused(t, p, want.Username, hash2b)
	}
	for _, name := range []string{"nobody", "Ada", "42", "ada ", " ada", ""} {
		refused(t, p, name, "secret")
	}
}

// TestLongPasswords: bcrypt reads 72 bytes, as the older program did; argon2id all.
func TestLongPasswords(t *testing.T) {
	p := open(t, "local", localUsers())
	accepted(t, p, "long", longSecret)
	accepted(t, p, "long", longSecret[:72])
	refused(t, p, "long", longSecret[:71])
	refused(t, p, "Käthe O'Neil", "secret"+strings.Repeat("x", 100))
}

// TestUnknownUserCostsTheSame: every name, known or not, has one hash that it is
// compared with, and the unknown ones are spread over all of them. This is about the
// work done; a stopwatch would make a test that fails at random.
func TestUnknownUserCostsTheSame(t *testing.T) {
	p := open(t, "local", localUsers())
	l := p.Checker.(*guard).checker.(*local)
	used := map[int]bool{}
	for i := range 200 {
		name := strings.Repeat("n", i)
		first, known := l.hashFor(name)
		again, _ := l.hashFor(name)
		if known || first != again {
			t.Fatalf("%q: known %v, compared with %d and %d", name, known, first, again)
		}
		used[first] = true
	}
	if len(used) != len(l.users) {
		t.Errorf("unknown users are compared with %d of %d hashes", len(used), len(l.users))
	}
	// The password of that hash is no way in.
	refused(t, p, "nobody", "secret")
}

func TestLocalWaitsForAPlace(t *testing.T) {
	p := open(t, "local", localUsers())
	l := p.Checker.(*guard).checker.(*local)
	for range cap(l.hashing) {
		_ = l.hashing.acquire(t.Context())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Checker.Check(ctx, "ada", "secret"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNoUsers(t *testing.T) {
	refused(t, open(t, "local", object{"users": []object{}}), "ada", "secret")
}

func TestHashPassword(t *testing.T) {
	hash, err := HashPassword("secret")
	if err != nil || badHash(hash) != "" {
		t.Fatalf("%v, %s", err, badHash(hash))
	}
	for password, want := range map[string]bool{"secret": true, "Secret": false} {
		if ok, err := hashing.Compare(hash, password); ok != want || err != nil {
			t.Errorf("%q: %v, %v", password, ok, err)
		}
	}
}

func TestTestStrategy(t *testing.T) {
	p := open(t, "test", object{"users": []object{{"username": "testuser", "password": "testtest", "displayName": "A Test User"}}})
	want := identity.Profile{Provider: "p", ID: "testuser", Username: "testuser", Name: "A Test User"}
	if got := accepted(t, p, "testuser", "testtest"); got != want {
		t.Errorf("got %+v", got)
	}
	refused(t, p, "testuser", "test")
	refused(t, p, "nobody", "testtest")
}

// BenchmarkLocal beside BenchmarkHash shows what a check costs besides its hash.
func BenchmarkLocal(b *testing.B) {
	p := open(b, "local", localUsers())
	for b.Loop() {
		_, _ = p.Checker.Check(b.Context(), "ada", "secret")
	}
}

func BenchmarkHash(b *testing.B) {
	for b.Loop() {
		_, _ = hashing.Compare(hash2b, "secret")
	}
}
