package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"login-server/store"
	"login-server/store/storetest"
)

func TestEngine(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.Engine {
		return openFile(t, tempFile(t), Options{Now: now})
	})
}

func tempFile(t testing.TB) string { return filepath.Join(t.TempDir(), "test.db") }

func openFile(t testing.TB, path string, options Options) *Engine {
	t.Helper()
	e, err := Open(t.Context(), path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

// openRaw opens a file with nothing but the driver.
func openRaw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func mustInsert(t testing.TB, e store.Engine, id string) {
	t.Helper()
	if _, err := e.Insert(t.Context(), "kind", store.Doc{ID: id, Data: []byte(`{}`)}); err != nil {
		t.Fatalf("Insert %s: %v", id, err)
	}
}

func TestReopen(t *testing.T) {
	// What means something in a URL means nothing in a path.
	path := filepath.Join(t.TempDir(), "a b?mode=memory&c=%41#d'é.db")
	e := openFile(t, path, Options{})
	mustInsert(t, e, "1")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("after Close the directory has %v, %v; want the database alone", entries, err)
	}
	e = openFile(t, path, Options{})
	if _, err := e.Get(t.Context(), "kind", "1"); err != nil {
		t.Errorf("Get after reopening: %v", err)
	}
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	path := tempFile(t)
	mustInsert(t, openFile(t, path, Options{}), "1")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", filepath.Base(path)+suffix, info.Mode())
		}
	}
}

func TestDurability(t *testing.T) {
	e := openFile(t, tempFile(t), Options{})
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
		var got string
		err := e.write(t.Context(), "read", pragma, func(c *conn) error {
			return c.query("PRAGMA "+pragma, nil, &got)
		})
		if err != nil || got != want {
			t.Errorf("PRAGMA %s of the writer: got %s, %v; want %s", pragma, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	write := func(content string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	ours := func(statements string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := openFile(t, path, Options{}).Close(); err != nil {
				t.Fatal(err)
			}
			mustExec(t, openRaw(t, path), statements)
		}
	}
	tests := []struct {
		name    string
		path    string
		prepare func(t *testing.T, path string)
		want    string
	}{
		{"no directory", "none/test.db", nil, "the directory DIR/none does not exist; create it, or choose another path"},
		{"file for directory", "file/test.db", func(t *testing.T, path string) { write("")(t, filepath.Dir(path)) }, "not a directory"},
		{"directory for file", "test.db", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "unable to open database file"},
		{"short text", "test.db", write("hello"), "the file is not a database"},
		{"long text", "test.db", write(strings.Repeat("hello\n", 5000)), "the file is not a database"},
		{"another program", "test.db", func(t *testing.T, path string) {
			mustExec(t, openRaw(t, path), "CREATE TABLE t (a)")
		}, "the file is a database of another program; choose another path"},
		{"another program's mark", "test.db", ours("PRAGMA application_id = 7"), "the file is a database of another program; choose another path"},
		{"newer version", "test.db", ours("PRAGMA user_version = 99"),
			"the file was written by a newer version of login-server (schema version 99, this one knows 1); " +
				"start that version, or restore a backup from before the upgrade"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tc.path)
			if tc.prepare != nil {
				tc.prepare(t, path)
			}
			before, _ := os.ReadFile(path)
			e, err := Open(t.Context(), path, Options{})
			if err == nil {
				e.Close()
				t.Fatal("Open succeeds")
			}
			want := "open database " + path + ": "
			if got := err.Error(); !strings.HasPrefix(got, want) || !strings.Contains(got, strings.ReplaceAll(tc.want, "DIR", dir)) {
				t.Errorf("got %q, want %q", got, want+tc.want)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file that was refused has been changed")
			}
		})
	}
}

func TestOpenTogether(t *testing.T) {
	for range 10 {
		path := tempFile(t)
		// There before: closing the file that Open makes would release the locks of
		// the others, which belong to the process. Between processes that is not so.
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				e, err := Open(t.Context(), path, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				defer e.Close()
				if _, err := e.Insert(t.Context(), "kind", store.Doc{ID: fmt.Sprint(i), Data: []byte(`{}`)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n, err := openFile(t, path, Options{}).Count(t.Context(), "kind", ""); n != 4 || err != nil {
			t.Fatalf("Count: got %d, %v; want 4", n, err)
		}
	}
}

func TestQueriesUseIndexes(t *testing.T) {
	path := tempFile(t)
	openFile(t, path, Options{})
	db := openRaw(t, path)
	for _, query := range append(slices.Clone(readQueries), replaceWithSameKeys) {
		if query == queryPing {
			continue
		}
		args := make([]any, strings.Count(query, "?"))
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			byExpiry := strings.Contains(step, "documents_expires") && query != queryCount && query != queryNextKind
			if !strings.HasPrefix(step, "SEARCH") || byExpiry {
				t.Errorf("%s\n\tdoes this: %s", query, step)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := tempFile(t)
		server, command := openFile(t, path, Options{}), openFile(t, path, Options{})
		changes := 0
		ctx, cancel := context.WithCancel(t.Context())
		go server.Watch(ctx, func() { changes++ })
		want := func(when string, n int) {
			t.Helper()
			time.Sleep(watchEvery)
			synctest.Wait()
			if changes != n {
				t.Errorf("%s: changed has been called %d times, want %d", when, changes, n)
			}
		}
		want("nothing written", 0)
		mustInsert(t, server, "own")
		want("own write", 0)
		mustInsert(t, command, "1")
		want("write of another", 1)
		want("nothing more", 1)
		mustInsert(t, command, "2")
		mustInsert(t, server, "own2")
		mustInsert(t, command, "3")
		want("writes of both", 2)
		if err := command.Backup(t.Context(), path+".backup"); err != nil {
			t.Fatal(err)
		}
		if _, err := command.Get(t.Context(), "kind", "own"); err != nil {
			t.Error(err)
		}
		want("reads of another", 2)
		cancel()
		mustInsert(t, command, "4")
		want("end of ctx", 2)

		ended := make(chan struct{})
		go func() {
			defer close(ended)
			server.Watch(t.Context(), func() {})
		}()
		synctest.Wait()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
}

func TestBackup(t *testing.T) {
	path := tempFile(t)
	e := openFile(t, path, Options{})
	const before = 200
	for i := range before {
		mustInsert(t, e, fmt.Sprintf("%05d", i))
	}
	// One writer goes on, so a consistent copy has no gap in its numbers.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := before; ctx.Err() == nil; i++ {
			d := store.Doc{ID: fmt.Sprintf("%05d", i), Data: make([]byte, 10000), Unique: []string{fmt.Sprint(i)}, Keys: []string{"late"}}
			if _, err := e.Insert(t.Context(), "kind", d); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 5 {
		target := fmt.Sprint(path, ".backup", i)
		if err := e.Backup(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(target)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("the backup has mode %v, want 0600", info.Mode())
		}
		copied := openFile(t, target, Options{})
		n, err := copied.Count(t.Context(), "kind", "")
		if err != nil || n < before {
			t.Errorf("the backup has %d documents, %v; want at least the %d from before", n, err, before)
		}
		last, err := copied.Find(t.Context(), "kind", store.Query{Descending: true, Limit: 1})
		if err != nil || len(last) != 1 || last[0].ID != fmt.Sprintf("%05d", n-1) {
			t.Errorf("the last of %d documents in the backup is %v, %v", n, last, err)
		}
		checkFile(t, target)
	}
	cancel()
	wg.Wait()
}

func TestBackupRefuses(t *testing.T) {
	path := tempFile(t)
	e := openFile(t, path, Options{})
	mustInsert(t, e, "1")
	dir := filepath.Dir(path)

	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := e.Backup(t.Context(), taken)
	if want := "back up to " + taken + ": the file exists already; choose another name"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if content, err := os.ReadFile(taken); string(content) != "precious" {
		t.Errorf("the file that was there has been changed: %q, %v", content, err)
	}
	if err := e.Backup(t.Context(), path); err == nil {
		t.Error("Backup over the database itself succeeds")
	}
	if err := e.Backup(t.Context(), filepath.Join(dir, "none", "x")); err == nil {
		t.Error("Backup into a directory that does not exist succeeds")
	}
	mustInsert(t, e, "2")
}

func TestBackupLeavesNoHalfFile(t *testing.T) {
	path := tempFile(t)
	target := path + ".backup"
	e := openFile(t, path, Options{})
	for i := range 20 {
		if _, err := e.Insert(t.Context(), "kind", store.Doc{ID: fmt.Sprint(i), Data: make([]byte, 100_000)}); err != nil {
			t.Fatal(err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Backup(cancelled, target); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup with a cancelled context: got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	// Damage in the middle is met when half of the copy is written.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 100_000), 1_000_000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	err = openFile(t, path, Options{}).Backup(t.Context(), target)
	if want := "back up to " + target + ": the file is damaged; restore it from a backup: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s…", err, want)
	}
	left, err := filepath.Glob(target + "*")
	if err != nil || len(left) != 0 {
		t.Errorf("backups that failed leave %v, %v", left, err)
	}
}

// checkFile looks for anything half-written: every document's keys are in the
// key tables, and nothing else is.
func checkFile(t *testing.T, path string) {
	t.Helper()
	db := openRaw(t, path)
	for query, want := range map[string]string{
		"PRAGMA integrity_check": "ok",
		`SELECT count(*) FROM (
			SELECT d.kind, value, d.id FROM documents d, json_each(unique_keys) EXCEPT SELECT kind, key, id FROM unique_keys)`: "0",
		`SELECT count(*) FROM (
			SELECT kind, key, id FROM unique_keys EXCEPT SELECT d.kind, value, d.id FROM documents d, json_each(unique_keys))`: "0",
		`SELECT count(*) FROM (
			SELECT d.kind, value, d.id FROM documents d, json_each(lookup_keys) EXCEPT SELECT kind, key, id FROM lookup_keys)`: "0",
		`SELECT count(*) FROM (
			SELECT kind, key, id FROM lookup_keys EXCEPT SELECT d.kind, value, d.id FROM documents d, json_each(lookup_keys))`: "0",
	} {
		var got string
		if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s\n\tgot %s, %v; want %s", query, got, err, want)
		}
	}
}
