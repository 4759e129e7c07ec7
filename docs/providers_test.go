package docs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"login-server/config"
	"login-server/providers"
)

// sections are the parts of a document below headings of the second degree, by heading;
// what stands above the first is below "".
func sections(text string) map[string]string {
	parts := map[string]string{}
	name := ""
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if heading, ok := strings.CutPrefix(line, "## "); ok && !fenced {
			name = strings.TrimSpace(heading)
			continue
		}
		parts[name] += line
	}
	return parts
}

var codeBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// code are the blocks of code in a language.
func code(text, language string) []string {
	var blocks []string
	for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

const sharedOptions = "Websites of other providers"

// headingOf is the heading of a strategy: those of goth share one.
func headingOf(strategy string) string {
	if strings.HasPrefix(strategy, "goth:") {
		return "goth:NAME"
	}
	return strategy
}

// TestOptionsDocumented: providers.md has a section for each strategy, which explains
// each of its options.
func TestOptionsDocumented(t *testing.T) {
	parts := sections(documents(t)["docs/providers.md"])
	for strategy, options := range providers.OptionNames() {
		section, ok := parts[headingOf(strategy)]
		if !ok {
			t.Errorf("docs/providers.md has no section %q", strategy)
			continue
		}
		shared := ""
		if slices.Contains(options, "clientID") {
			shared = parts[sharedOptions]
		}
		for _, name := range options {
			if !strings.Contains(section, "`"+name) && !strings.Contains(section, `"`+name+`"`) && !strings.Contains(shared, "`"+name+"`") {
				t.Errorf("docs/providers.md, %s: nothing about the option %s", strategy, name)
			}
		}
	}
}

// opened opens providers as the server does, in a folder with the examples of the
// repository and a key for Apple.
func opened(t *testing.T, list []byte, env ...string) (warnings []string, err error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("../examples")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "providers.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "AuthKey_KEY1234567.p8"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(dir, append([]string{"BASE_URL=https://login.example.org/", "SESSION_SECRET=a secret for this test"}, env...))
	if err != nil {
		return nil, err
	}
	_, warnings, err = providers.Open(cfg, providers.Deps{})
	return warnings, err
}

// TestProviderExamples: what providers.md and scripts.md show as entry of providers.json
// can be copied as it is.
func TestProviderExamples(t *testing.T) {
	shown := map[string]bool{}
	texts := documents(t)
	for _, block := range append(code(texts["docs/providers.md"], "json"), code(texts["docs/scripts.md"], "json")...) {
		var entries []json.RawMessage
		if strings.HasPrefix(block, "{") {
			entries = append(entries, json.RawMessage(block))
		} else if err := json.Unmarshal([]byte(block), &entries); err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
		for _, entry := range entries {
			var about struct {
				Strategy string `json:"strategy"`
			}
			if err := json.Unmarshal(entry, &about); err != nil {
				t.Errorf("%v in\n%s", err, entry)
			}
			if about.Strategy == "" {
				continue // a part of an entry
			}
			shown[about.Strategy] = true
			env := "NODE_ENV=production"
			if about.Strategy == "test" {
				env = "NODE_ENV=test"
			}
			if warnings, err := opened(t, slices.Concat([]byte("["), entry, []byte("]")), env); err != nil || len(warnings) > 0 {
				t.Errorf("%v %q for\n%s", err, warnings, entry)
			}
		}
	}
	for strategy := range providers.OptionNames() {
		if !shown[strategy] && headingOf(strategy) == strategy {
			t.Errorf("docs/providers.md has no example for %s", strategy)
		}
	}
}

// TestShippedProviders: the entries that providers.json has for later are ready for the
// credentials, and for nothing else.
func TestShippedProviders(t *testing.T) {
	text, err := os.ReadFile("../providers.json")
	if err != nil {
		t.Fatal(err)
	}
	if warnings, err := opened(t, text, "NODE_ENV=development"); err != nil || len(warnings) > 0 {
		t.Errorf("as it is: %v %q", err, warnings)
	}
	var list []map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var ids []string
	list = slices.DeleteFunc(list, func(p map[string]any) bool { return p["disabled"] != true })
	for _, p := range list {
		ids = append(ids, p["id"].(string))
		options := p["options"].(map[string]any)
		if got := slices.Sorted(maps.Keys(options)); !slices.Equal(got, []string{"clientID", "clientSecret"}) {
			t.Errorf("%s has the options %v", p["id"], got)
		}
		for name, value := range options {
			if value != "" {
				t.Errorf("%s: %s is not empty", p["id"], name)
			}
		}
		delete(p, "disabled")
	}
	if want := []string{"github", "orcid", "google"}; !slices.Equal(ids, want) {
		t.Fatalf("disabled are %v, want %v", ids, want)
	}
	enabled := func() []byte {
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	_, err = opened(t, enabled(), "NODE_ENV=production")
	for _, id := range ids {
		if err == nil || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "https://login.example.org/login/"+id+"/return") {
			t.Errorf("enabled without credentials, nobody tells what to register for %s: %v", id, err)
		}
	}
	for _, p := range list {
		p["options"] = map[string]any{"clientID": "id", "clientSecret": "secret"}
	}
	if warnings, err := opened(t, enabled(), "NODE_ENV=production"); err != nil || len(warnings) > 0 {
		t.Errorf("with credentials: %v %q", err, warnings)
	}
}

// TestScriptsShown: the programs in scripts.md are those in examples/script, which are
// tested.
func TestScriptsShown(t *testing.T) {
	text := documents(t)["docs/scripts.md"]
	for file, language := range map[string]string{"login.sh": "bash", "login.py": "python", "login.mjs": "js"} {
		program, err := os.ReadFile("../examples/script/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(code(text, language), string(program)) {
			t.Errorf("docs/scripts.md does not show examples/script/%s as it is", file)
		}
	}
}

// TestAddingAStrategy: the strategy that providers.md adds compiles in its place, with
// the line in the table, and its test passes.
func TestAddingAStrategy(t *testing.T) {
	blocks := code(sections(documents(t)["docs/providers.md"])["Adding a strategy"], "go")
	if len(blocks) != 3 {
		t.Fatalf("found %d blocks of Go, want the strategy, its line and its test", len(blocks))
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	overlay := func(name, text string) {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, "providers", name)] = file
	}
	table, err := os.ReadFile("../providers/open.go")
	if err != nil {
		t.Fatal(err)
	}
	const before = "\t\"github\":"
	if bytes.Count(table, []byte(before)) != 1 {
		t.Fatalf("the table in open.go has %d lines with %q", bytes.Count(table, []byte(before)), before)
	}
	overlay("acme.go", blocks[0])
	overlay("open.go", strings.Replace(string(table), before, blocks[1]+before, 1))
	overlay("acme_test.go", blocks[2])
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", file, "-run", "^TestAcme", "-v", "./providers")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestAcme")) {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}
