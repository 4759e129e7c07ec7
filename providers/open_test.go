package providers

import (
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"login-server/config"
)

var update = flag.Bool("update", false, "write the complaints that the program makes into testdata")

// testDeps: refusals do not wait, and requests reach only servers on this machine.
var testBase = &url.URL{Scheme: "https", Host: "login.example.org", Path: "/"}

func testDeps() Deps {
	return Deps{Version: "1.2.3", RefusalStep: -1, Transport: loopbackOnly{}}
}

type loopbackOnly struct{}

func (loopbackOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if !config.Loopback(r.URL.Hostname()) {
		panic("a test asks " + r.URL.Host)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// open opens one provider with these options and fails the test when it cannot.
func open(t testing.TB, strategy string, options any) *Provider {
	t.Helper()
	p, warnings := openWith(t, testDeps(), config.Provider{ID: "p", Strategy: strategy, Name: "P"}, options)
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	return p
}

func openWith(t testing.TB, deps Deps, cp config.Provider, options any) (*Provider, []string) {
	t.Helper()
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cp.Options, cp.File, cp.Entry = raw, "providers.json", 1
	set, warnings, err := Open(&config.Config{Env: "test", BaseURL: testBase, Dir: t.TempDir(), Providers: []config.Provider{cp}}, deps)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := set.Get(cp.ID)
	if !ok {
		t.Fatal("the provider is not there")
	}
	return p, warnings
}

type object = map[string]any

// TestComplaints compares what an operator reads about a providers.json in which
// every option of every strategy is wrong.
func TestComplaints(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile("testdata/wrong.json")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "providers.json", string(data), 0o644)
	write(t, dir, "plain.sh", "#!/bin/sh\n", 0o644)
	write(t, dir, "script.sh", "#!/bin/sh\n", 0o755)
	write(t, dir, "no.pem", "nothing\n", 0o644)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, warnings, err := Open(cfg, testDeps())
	if err == nil || set != nil {
		t.Fatalf("opened: %v", err)
	}
	got := strings.ReplaceAll(err.Error()+"\n\n"+strings.Join(warnings, "\n")+"\n", cfg.Dir, "$DIR")
	if *update {
		write(t, "testdata", "wrong.txt", got, 0o644)
	}
	want, err := os.ReadFile("testdata/wrong.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("complaints (-want +got):\n%s", diff)
	}
	if strings.Contains(got, "hunter2") || strings.Contains(got, "$2a$") {
		t.Errorf("a complaint shows a secret:\n%s", got)
	}
}

func write(t testing.TB, dir, name, data string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	// No process may be forked while the file is open for writing: the child would keep
	// it open for a moment, and to run it as a script is an error then (text file busy).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(data), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestShipped: the providers of a fresh clone open, and the documented names and
// passwords sign in.
func TestShipped(t *testing.T) {
	// Copied, so that a .env of whoever runs the tests has no say.
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "examples"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"providers.json": 0o644, "examples/login-script": 0o755} {
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, string(data), mode)
	}
	cfg, _, err := config.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, warnings, err := Open(cfg, testDeps())
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %q", err, warnings)
	}
	var ids []string
	for _, p := range set.All() {
		ids = append(ids, p.ID)
		if !p.CredentialsNecessary || !p.Demo {
			t.Errorf("%s: %+v", p.ID, p.Provider)
		}
	}
	if diff := cmp.Diff([]string{"local", "script"}, ids); diff != "" {
		t.Error(diff)
	}
	if _, ok := set.Get("github"); ok {
		t.Error("a disabled provider is there")
	}
	for id, name := range map[string]string{"local": "demo", "script": "script"} {
		p, _ := set.Get(id)
		profile, err := p.Checker.Check(t.Context(), name, name)
		if err != nil || profile.Username != name || profile.Provider != id {
			t.Errorf("%s: %+v, %v", id, profile, err)
		}
		refused(t, p, name, "wrong")
	}
}

// TestReload: users that were added come in, and a broken file changes nothing.
func TestReload(t *testing.T) {
	cfg := func(name string) *config.Config {
		users, _ := json.Marshal(object{"users": []object{{"username": name, "password": "secret"}}})
		return &config.Config{Env: "test", BaseURL: testBase, Providers: []config.Provider{{ID: "p", Strategy: "test", Name: "P", Options: users}}}
	}
	set, _, err := Open(cfg("ada"), testDeps())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Reload(cfg("grace")); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Reload(cfg("")); err == nil {
		t.Error("a user without a name was accepted")
	}
	p, _ := set.Get("p")
	refused(t, p, "ada", "secret")
	accepted(t, p, "grace", "secret")
}
