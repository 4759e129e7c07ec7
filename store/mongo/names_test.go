package mongo

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"login-server/store"
)

func TestCollectionNames(t *testing.T) {
	for kind, want := range map[string]string{
		"user":                 "users",
		"session":              "login_sessions",
		"signin":               "signins",
		"spent":                "spent_ids",
		"pushed request":       "pushed_requests",
		"initial access token": "initial_access_tokens",
		"node":                 "nodes",
	} {
		if got := collectionName(kind); got != want {
			t.Errorf("%q is kept in %q, want %q", kind, got, want)
		}
		if got := kindOf(want); got != kind {
			t.Errorf("%q has documents of kind %q, want %q", want, got, kind)
		}
	}
	for _, name := range []string{"sessions", "usages", changesName, "system.views", "fs.files", "s", "", "Users", "user"} {
		if isCollectionName(name) {
			t.Errorf("%q is taken for a collection of ours, of kind %q", name, kindOf(name))
		}
	}
}

// What operators see of the database has names that they can read.
func TestKindsOfTheProgramAreReadable(t *testing.T) {
	called := regexp.MustCompile(`NewCollection(?:\[\w+\])?\([\w.]+, "([^"]+)"`)
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range called.FindAllStringSubmatch(string(text), -1) {
			found++
			if name := collectionName(match[1]); digested.MatchString(name) {
				t.Errorf("%s: documents of kind %q would be in a collection %s", path, match[1], name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("only %d kinds were found", found)
	}
}

// Kinds are constants of this program. Should one ever be made of what others send, it
// must still not reach a collection of another.
func TestCollectionNamesAreApartAndValid(t *testing.T) {
	kinds := []string{
		"a", "as", "a s", "a_s", "a  s", " a", "a ", "A", "ab", "a b", "a-b", "a.b", "a\x00", "$a", "$cmd", "system.users", "system",
		"session", "login session", "login_session", "login_sessions", "sessio", "usage", "login change", "spent", "spent id",
		"é", "e\u0301", "\u212b", "Å", "user", "user\n", "users", "kind-", "admin.users", "..", strings.Repeat("x", 64), strings.Repeat("x", 65),
		strings.Repeat("x", store.MaxKey), strings.Repeat("é", store.MaxKey/2), collectionName("$a"),
	}
	seen := make(map[string]string)
	for _, kind := range kinds {
		name := collectionName(kind)
		if other, ok := seen[name]; ok && other != kind {
			t.Errorf("%.40q and %.40q are both kept in %q", kind, other, name)
		}
		seen[name] = kind
		// https://www.mongodb.com/docs/manual/reference/limits/, Naming Restrictions
		if name == "" || len(name) > 255-1-63 || strings.ContainsAny(name, "$\x00.") || strings.HasPrefix(name, "system.") || !utf8.ValidString(name) {
			t.Errorf("%.40q is kept in %q, which MongoDB does not take or keeps for itself", kind, name)
		}
		if name == "sessions" || name == "usages" || name == changesName {
			t.Errorf("%.40q is kept in %q, which is somebody else's", kind, name)
		}
		if !isCollectionName(name) {
			t.Errorf("%q is not known as a collection of ours", name)
		}
	}
}
