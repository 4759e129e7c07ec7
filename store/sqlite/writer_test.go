package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	modernc "modernc.org/sqlite"

	"login-server/store"
)

// hold keeps the writer busy with a batch of one until release is called, so
// that what is sent meanwhile becomes the next batch.
func hold(t *testing.T, e *Engine) (release func()) {
	t.Helper()
	entered, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- e.write(t.Context(), "hold", "test", func(*conn) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	return func() {
		t.Helper()
		close(leave)
		if err := <-done; err != nil {
			t.Errorf("the write that held the writer: %v", err)
		}
	}
}

// queue sends writes to a writer that is held and returns when they wait for it.
func queue(e *Engine, writes ...func() error) (wait func() []error) {
	errs := make([]error, len(writes))
	var wg sync.WaitGroup
	for i, f := range writes {
		waiting := len(e.writes)
		wg.Go(func() { errs[i] = f() })
		for len(e.writes) == waiting {
			runtime.Gosched()
		}
	}
	return func() []error {
		wg.Wait()
		return errs
	}
}

func insert(ctx context.Context, e *Engine, id string) func() error {
	return func() error {
		_, err := e.Insert(ctx, "kind", store.Doc{ID: id, Data: []byte(`{}`)})
		return err
	}
}

func wantIDs(t *testing.T, e *Engine, want ...string) {
	t.Helper()
	docs, err := e.Find(t.Context(), "kind", store.Query{})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, len(docs))
	for i, doc := range docs {
		got[i] = doc.ID
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the database has %q, want %q", got, want)
	}
}

func TestWritesShareCommits(t *testing.T) {
	e := openFile(t, tempFile(t), Options{})
	release := hold(t, e)
	before := e.Stats()
	writes := make([]func() error, 100)
	for i := range writes {
		writes[i] = insert(t.Context(), e, fmt.Sprint(i))
	}
	wait := queue(e, writes...)
	release()
	for _, err := range wait() {
		if err != nil {
			t.Error(err)
		}
	}
	after := e.Stats()
	if writes, commits := after.Writes-before.Writes, after.Commits-before.Commits; writes != 101 || commits != 2 {
		t.Errorf("%d writes took %d commits, want 101 and 2: the one that held the writer, and the rest", writes, commits)
	}
}

func TestALoneWriteIsCommittedAtOnce(t *testing.T) {
	e := openFile(t, tempFile(t), Options{})
	for i := range 10 {
		mustInsert(t, e, fmt.Sprint(i))
	}
	if got := e.Stats(); got != (Stats{Writes: 10, Commits: 10}) {
		t.Errorf("got %+v, want 10 writes in 10 commits", got)
	}
}

func TestAFailureStaysAlone(t *testing.T) {
	e := openFile(t, tempFile(t), Options{})
	mustInsert(t, e, "taken")
	broken := errors.New("broken")
	fail := func(f func(*conn) error) func() error {
		return func() error {
			return e.write(t.Context(), "insert", "kind", func(c *conn) error {
				if err := c.insert("kind", store.Doc{ID: "half", Version: 1, Unique: []string{"u"}}, 0); err != nil {
					return err
				}
				return f(c)
			})
		}
	}
	release := hold(t, e)
	ended, end := context.WithCancel(t.Context())
	wait := queue(e,
		insert(t.Context(), e, "1"),
		insert(t.Context(), e, "taken"),
		insert(t.Context(), e, "2"),
		fail(func(*conn) error { return broken }),
		insert(t.Context(), e, "3"),
		fail(func(*conn) error { panic("so broken") }),
		insert(t.Context(), e, "4"),
		fail(func(c *conn) error { return c.exec("INSERT INTO documents (n) VALUES (NULL)") }),
		insert(ended, e, "5"),
		insert(t.Context(), e, "6"),
	)
	end()
	before := e.Stats()
	release()
	for i, err := range wait() {
		var ok bool
		switch i {
		case 1:
			ok = errors.Is(err, store.ErrExists)
		case 3:
			ok = errors.Is(err, broken)
		case 5:
			ok = err != nil && strings.Contains(err.Error(), "so broken")
		case 7:
			ok = err != nil && strings.Contains(err.Error(), "NOT NULL constraint failed")
		case 8:
			ok = errors.Is(err, context.Canceled)
		default:
			ok = err == nil
		}
		if !ok {
			t.Errorf("write %d: got error %v", i, err)
		}
	}
	wantIDs(t, e, "1", "2", "3", "4", "6", "taken")
	if got := e.Stats().Writes - before.Writes; got != 6 {
		t.Errorf("%d writes are counted, want 6", got)
	}
	if _, err := e.GetUnique(t.Context(), "kind", "u"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a write that failed has left its unique key: %v", err)
	}
}

func TestAFailedCommitFailsAll(t *testing.T) {
	e := openFile(t, tempFile(t), Options{})
	mustInsert(t, e, "before")
	err := e.write(t.Context(), "prepare", "test", func(c *conn) error {
		return c.Raw(func(c any) error {
			c.(modernc.HookRegisterer).RegisterCommitHook(func() int32 { return 1 })
			return nil
		})
	})
	if err == nil {
		t.Fatal("the commit did not fail")
	}
	// That one failed already, and with it went the connection and its hook.
	mustInsert(t, e, "between")

	release := hold(t, e)
	wait := queue(e,
		insert(t.Context(), e, "1"),
		func() error {
			return e.write(t.Context(), "prepare", "test", func(c *conn) error {
				return c.Raw(func(c any) error {
					c.(modernc.HookRegisterer).RegisterCommitHook(func() int32 { return 1 })
					return nil
				})
			})
		},
		insert(t.Context(), e, "2"),
	)
	before := e.Stats().Commits
	release()
	for i, err := range wait() {
		if err == nil {
			t.Errorf("write %d is reported as written", i)
		}
	}
	if got := e.Stats().Commits - before; got != 1 {
		t.Errorf("%d commits are counted, want 1", got)
	}
	mustInsert(t, e, "after")
	wantIDs(t, e, "after", "before", "between")
}

func TestDiskFull(t *testing.T) {
	path := tempFile(t)
	e := openFile(t, path, Options{})
	mustInsert(t, e, "before")
	err := e.write(t.Context(), "prepare", "test", func(c *conn) error {
		var pages int
		if err := c.query("PRAGMA page_count", nil, &pages); err != nil {
			return err
		}
		return c.query(fmt.Sprintf("PRAGMA max_page_count = %d", pages+2), nil, &pages)
	})
	if err != nil {
		t.Fatal(err)
	}
	release := hold(t, e)
	wait := queue(e, insert(t.Context(), e, "small"), func() error {
		_, err := e.Insert(t.Context(), "kind", store.Doc{ID: "large", Data: make([]byte, 1<<20)})
		return err
	})
	release()
	errs := wait()
	if errs[1] == nil || !strings.Contains(errs[1].Error(), "database or disk is full") {
		t.Errorf("Insert into a full database: got %v", errs[1])
	}
	_, err = e.Get(t.Context(), "kind", "small")
	if written := err == nil; written != (errs[0] == nil) {
		t.Errorf("the write beside it: got error %v, but Get says %v", errs[0], err)
	}
	mustInsert(t, e, "after")
	checkFile(t, path)
}

func TestAnotherProcessWrites(t *testing.T) {
	path := tempFile(t)
	e := openFile(t, path, Options{BusyTimeout: time.Millisecond})
	other, err := openRaw(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	err = insert(t.Context(), e, "1")()
	if want := "insert kind: another process has kept the database locked for 1ms: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s…", err, want)
	}
	if _, err := e.Count(t.Context(), "kind", ""); err != nil {
		t.Errorf("reading meanwhile: %v", err)
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	mustInsert(t, e, "2")
	wantIDs(t, e, "2")
}

func TestWaitsForAnotherProcess(t *testing.T) {
	path := tempFile(t)
	e := openFile(t, path, Options{BusyTimeout: time.Minute})
	other, err := openRaw(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	patient := make(chan error)
	go func() { patient <- insert(t.Context(), e, "patient")() }()
	// One that gives up is let go at once, and what it wanted does not happen later.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := insert(ctx, e, "impatient")(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-patient; err != nil {
		t.Error(err)
	}
	wantIDs(t, e, "patient")
}

func TestCloseWaitsForWrites(t *testing.T) {
	path := tempFile(t)
	e := openFile(t, path, Options{})
	release := hold(t, e)
	wait := queue(e, insert(t.Context(), e, "1"), insert(t.Context(), e, "2"))
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	for e.calls.TryRLock() { // fails once Close waits
		e.calls.RUnlock()
		runtime.Gosched()
	}
	release()
	for _, err := range wait() {
		if err != nil {
			t.Errorf("a write that Close found under way: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := insert(t.Context(), e, "3")(); !errors.Is(err, ErrClosed) {
		t.Errorf("Insert after Close: got %v, want %v", err, ErrClosed)
	}
	wantIDs(t, openFile(t, path, Options{}), "1", "2")
}
