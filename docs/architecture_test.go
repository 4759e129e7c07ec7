package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is what import paths of this module begin with.
const module = "login-server/"

// imports are all packages of this module by their directory, each with the packages of this
// module that it imports in files that are no tests.
func imports(t *testing.T) map[string]map[string]bool {
	t.Helper()
	packages := map[string]map[string]bool{}
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && name != ".." {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(file))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if packages[dir] == nil {
			packages[dir] = map[string]bool{}
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if of, ok := strings.CutPrefix(imported, module); ok {
				packages[dir][of] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// room is the room that a package stands in: the engines are rooms of the store.
func room(of string) string {
	if strings.HasPrefix(of, "store/") {
		return "store"
	}
	return of
}

// TestRooms: every package has a row in the table of rooms, and imports what that row says,
// no less and no more. So a new arrow between rooms is seen by who adds it, and by who reads the change.
func TestRooms(t *testing.T) {
	table := sections(documents(t)["docs/architecture.md"])["Rooms"]
	named := regexp.MustCompile("`([a-z/-]+)`")
	packages := imports(t)
	if len(packages) < 20 {
		t.Fatalf("found %d packages, which cannot be all", len(packages))
	}
	rows := map[string]string{} // what a room imports, as its row has it
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(cells[0], -1) {
			rows[m[1]] = strings.TrimSpace(cells[2])
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if strings.HasPrefix(dir, "test/") || strings.HasSuffix(dir, "test") || dir == "docs" {
			continue // a test, or what tests stand on
		}
		row, ok := rows[room(dir)]
		switch {
		case strings.HasPrefix(dir, "internal/") && dir != "internal/outbound":
			continue // what the last rows tell in words
		case !ok:
			t.Errorf("%s has no row in the table of rooms", dir)
			continue
		case row == "all" || row == "all but cmd":
			continue
		}
		got, said := map[string]bool{}, map[string]bool{}
		for of := range packages[dir] {
			if room(of) != room(dir) {
				got[room(of)] = true
			}
		}
		for name := range strings.SplitSeq(row, ", ") {
			if name != "–" {
				said[strings.Trim(name, "`")] = true
			}
		}
		if !maps.Equal(got, said) {
			t.Errorf("%s imports %v, its row in the table of rooms says %v", dir, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(said)))
		}
	}
	for name := range rows {
		if packages[name] == nil {
			t.Errorf("the table of rooms has %s, which is not there", name)
		}
	}
}
