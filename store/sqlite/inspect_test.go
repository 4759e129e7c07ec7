package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustClose(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// names lists the files in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestInspectWritesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	report, err := Inspect(t.Context(), path)
	if err != nil || !report.Missing || len(names(t, dir)) != 0 {
		t.Fatalf("no file: got %+v, %v, files %v", report, err, names(t, dir))
	}

	e := openFile(t, path, Options{})
	mustInsert(t, e, "id")
	report, err = Inspect(t.Context(), path)
	if err != nil || report.Missing || report.Schema != report.Known || report.Damage != nil || report.Bytes == 0 {
		t.Errorf("in use: got %+v, %v", report, err)
	}
	mustClose(t, e)

	before := names(t, dir)
	report, err = Inspect(t.Context(), path)
	if err != nil || report.Schema != report.Known || report.Damage != nil || report.Written.IsZero() {
		t.Errorf("at rest: got %+v, %v", report, err)
	}
	if after := names(t, dir); len(after) != len(before) {
		t.Errorf("files before %v, after %v", before, after)
	}
}

func TestInspectTellsWhatIsWrong(t *testing.T) {
	for _, tc := range []struct{ name, spoil, want string }{
		{"another file", "text", "the file is not a database"},
		{"another program", "PRAGMA application_id = 1", "a database of another program"},
		{"a newer version", "PRAGMA user_version = 1000", "written by a newer version of login-server (schema version 1000, this one knows"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tempFile(t)
			if tc.spoil == "text" {
				if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				mustClose(t, openFile(t, path, Options{}))
				mustExec(t, openRaw(t, path), tc.spoil)
			}
			if _, err := Inspect(t.Context(), path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestInspectFindsDamage(t *testing.T) {
	path := tempFile(t)
	mustClose(t, openFile(t, path, Options{}))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The first page holds the schema; behind it lie the tables, one page each.
	for i := len(data) / 2; i < len(data); i++ {
		data[i] = 0xff
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := Inspect(t.Context(), path)
	if err == nil && len(report.Damage) == 0 {
		t.Errorf("got %+v, want damage", report)
	}
}
