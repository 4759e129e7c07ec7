// Package sqlite is the embedded store.Engine: one file, no server.
//
// All writes of a process go through one goroutine with one connection
// (writer.go), which answers concurrent writes with one commit, hence one sync
// of the disk. Reads run beside it on a pool of read-only connections; in WAL
// mode neither waits for the other. Several processes may use the same file,
// such as the command line beside a running server.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	modernc "modernc.org/sqlite" // registers "sqlite" with database/sql
	sqlite3 "modernc.org/sqlite/lib"

	"login-server/store"
)

var _ store.Engine = (*Engine)(nil)

// ErrClosed is what every method returns after Close.
var ErrClosed = errors.New("the database is closed")

// Options of Open; the zero value is good for a server.
type Options struct {
	// Now is the clock that expiry goes by; nil is time.Now.
	Now func() time.Time
	// Readers is how many connections read at the same time; 0 is twice the processors, at least 4.
	Readers int
	// BusyTimeout is how long to wait while another process writes; 0 is five seconds.
	BusyTimeout time.Duration
}

// Stats counts since Open. Writes divided by Commits is how many writes share a sync of the disk.
type Stats struct {
	// Writes is how many calls have changed the database.
	Writes uint64
	// Commits is how many transactions they took.
	Commits uint64
}

// Engine is a store.Engine in a file. Open returns one.
type Engine struct {
	path        string
	now         func() time.Time
	busyTimeout time.Duration

	readers *sql.DB
	queries map[string]*sql.Stmt // of readers, by text; complete before the first use

	writer             *sql.DB
	writes             chan *write
	polls              chan chan<- dataVersion
	stopped            chan struct{} // closed when the writer's goroutine has ended
	conn               *conn         // the goroutine's own; nil after a failure
	connects           uint64        // the goroutine's own
	written, committed atomic.Uint64

	// calls is held for reading by every call under way, and taken by Close.
	calls  sync.RWMutex
	closed bool
}

// Open opens the database at path and creates or upgrades it where necessary.
// The directory must exist. A file that belongs to something else, or to a
// newer version of this program, is refused and left as it is.
func Open(ctx context.Context, path string, options Options) (*Engine, error) {
	e, err := open(ctx, path, options)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return e, nil
}

func open(ctx context.Context, path string, options Options) (_ *Engine, err error) {
	e := &Engine{
		now:         options.Now,
		busyTimeout: options.BusyTimeout,
		queries:     make(map[string]*sql.Stmt),
		writes:      make(chan *write, maxBatch),
		polls:       make(chan chan<- dataVersion),
		stopped:     make(chan struct{}),
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.busyTimeout == 0 {
		e.busyTimeout = 5 * time.Second
	}
	if options.Readers == 0 {
		options.Readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if e.path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := create(e.path); err != nil {
		return nil, err
	}

	if e.writer, err = e.database("rw", 1); err != nil {
		return nil, err
	}
	if e.readers, err = e.database("ro", options.Readers); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			e.readers.Close()
			e.writer.Close()
		}
	}()
	if e.conn, err = e.connect(ctx); err != nil {
		return nil, err
	}
	if err := e.prepareFile(ctx); err != nil {
		return nil, e.explain(err)
	}
	for _, query := range readQueries {
		if e.queries[query], err = e.readers.PrepareContext(ctx, query); err != nil {
			return nil, e.explain(err)
		}
	}
	go e.runWriter()
	return e, nil
}

// create makes an empty file, readable by nobody else, where there is none.
// SQLite gives the files that it puts beside it the same mode. A file that exists is
// not opened: closing it would release the locks that this process has on it.
func create(path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist; create it, or choose another path", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(dir))
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // which cannot sync a directory, and need not
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// database describes a pool of connections; it opens none yet.
func (e *Engine) database(mode string, connections int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", e.address(url.Values{"mode": {mode}}))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// address is how the driver is told which file to open, and how.
func (e *Engine) address(query url.Values) string {
	path := filepath.ToSlash(e.path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/data/x.db is file:///C:/data/x.db
	}
	// A misspelt "column" is an error, not a string.
	query.Set("_dqs", "0")
	query["_pragma"] = []string{
		fmt.Sprintf("busy_timeout(%d)", max(1, e.busyTimeout.Milliseconds())),
		// The default of WAL mode may lose the last commits with the power.
		"synchronous(FULL)",
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return dsn.String()
}

// code is SQLite's primary result code of an error; SQLITE_OK if the error is not SQLite's.
func code(err error) int {
	failure, ok := errors.AsType[*modernc.Error](err)
	if !ok {
		return sqlite3.SQLITE_OK
	}
	return failure.Code() & 0xff // the rest is the extended code
}

// explain says in the operator's words what SQLite's error means.
func (e *Engine) explain(err error) error {
	switch code(err) {
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("another process has kept the database locked for %s: %w", e.busyTimeout, err)
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("the file is not a database: %w", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged; restore it from a backup: %w", err)
	}
	return err
}

// enter is called at the begin of a method that needs the database, leave at its end.
func (e *Engine) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.calls.RLock()
	if e.closed {
		e.calls.RUnlock()
		return ErrClosed
	}
	return nil
}

func (e *Engine) leave() { e.calls.RUnlock() }

// Ping implements store.Engine.
func (e *Engine) Ping(ctx context.Context) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	var version int
	return e.explain(e.queries[queryPing].QueryRowContext(ctx).Scan(&version))
}

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	return Stats{Writes: e.written.Load(), Commits: e.committed.Load()}
}

// Close waits for the calls under way and releases the file. A second call does nothing.
func (e *Engine) Close() error {
	e.calls.Lock()
	defer e.calls.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	close(e.writes)
	<-e.stopped
	// The writer goes last: the last connection folds the log into the file, which a reader cannot.
	err := e.readers.Close()
	e.disconnect()
	return errors.Join(err, e.writer.Close())
}
