// Package docs checks what can be checked of the documents.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are all Markdown files of the repository, by their path from its root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.Join("docs", path)] = string(text)
		}
	}
	return texts
}

var (
	link    = regexp.MustCompile(`(?:\]\(|src(?:set)?=")([^)"\s]+)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+?) *$`)
	fence   = regexp.MustCompile("(?s)```.*?```")
	unheard = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the fragments that the headings of a document answer to on GitHub.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		plain := unheard.ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

// TestLinks: what a document links to within the repository is there, headings included.
func TestLinks(t *testing.T) {
	texts := documents(t)
	for from, text := range texts {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // another host
			}
			to := from
			if target != "" {
				to = filepath.Join(filepath.Dir(from), target)
			}
			if _, err := os.Stat(filepath.Join("..", to)); err != nil {
				t.Errorf("%s links to %s, which is not there", from, m[1])
				continue
			}
			if fragment != "" && !slices.Contains(anchors(texts[to]), fragment) {
				t.Errorf("%s links to %s, but %s has no such heading", from, m[1], to)
			}
		}
	}
}

// TestSettingsDocumented: configuration.md explains every setting of .env.example.
func TestSettingsDocumented(t *testing.T) {
	example, err := os.ReadFile("../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	text := documents(t)["docs/configuration.md"]
	names := regexp.MustCompile(`(?m)^# ?([A-Z][A-Z_]+)=`).FindAllStringSubmatch(string(example), -1)
	if len(names) < 20 {
		t.Fatalf("found %d settings in .env.example, which cannot be all", len(names))
	}
	for _, m := range names {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("docs/configuration.md does not mention %s", m[1])
		}
	}
}

// TestCodesAndEventsDocumented: api.md explains every error code and event type
// that openapi.yaml lists, which in turn is checked against the server.
func TestCodesAndEventsDocumented(t *testing.T) {
	spec, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := documents(t)["docs/api.md"]
	names := 0
	for _, list := range regexp.MustCompile(`(?s)enum: \[([a-zA-Z_,\s]+)\]`).FindAllStringSubmatch(string(spec), -1) {
		if !strings.Contains(list[1], "bad_request") && !strings.Contains(list[1], "loggedIn") {
			continue
		}
		for name := range strings.SplitSeq(list[1], ",") {
			names++
			if name = strings.TrimSpace(name); !strings.Contains(text, "`"+name+"`") {
				t.Errorf("docs/api.md does not mention %s", name)
			}
		}
	}
	if names < 20 {
		t.Fatalf("found %d error codes and events in openapi.yaml, which cannot be all", names)
	}
}

// TestMetrics: what operators are told to watch is there.
func TestMetrics(t *testing.T) {
	paths, err := filepath.Glob("../web/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, "_test.go") {
			source.Write(text)
		}
	}
	named := regexp.MustCompile("`login_server_([a-z_]+)")
	found := 0
	for from, text := range documents(t) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			found++
			if !strings.Contains(source.String(), `"login_server_`+m[1]+`"`) && !strings.Contains(source.String(), `gauge("`+m[1]+`"`) {
				t.Errorf("%s: there is no metric login_server_%s", from, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no document names a metric")
	}
}
