package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"login-server/store"
)

// maxBatch is how many writes share one commit at the most.
const maxBatch = 256

// write is one change on its way to the writer's goroutine.
type write struct {
	ctx  context.Context
	run  func(*conn) error // may run a second time, when what the first has done is undone
	done chan error        // holds one answer
	// state is waiting until the writer starts it or the caller gives it up,
	// whoever is first. Once it is started the caller stays to the end, so that
	// an error of ctx means that nothing was written, and that run has no use for
	// the caller's data any more.
	state atomic.Int32
}

const (
	waiting = iota
	started
	abandoned
)

// write has run executed by the writer's goroutine and returns once it is durable.
func (e *Engine) write(ctx context.Context, what, kind string, run func(*conn) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	w := &write{ctx: ctx, run: run, done: make(chan error, 1)}
	select {
	case e.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return e.failed(what, kind, err)
	case <-ctx.Done():
		if w.state.CompareAndSwap(waiting, abandoned) {
			return ctx.Err()
		}
		return e.failed(what, kind, <-w.done)
	}
}

// runWriter is the writer's goroutine, from Open to Close.
func (e *Engine) runWriter() {
	defer close(e.stopped)
	batch := make([]*write, 0, maxBatch)
	for {
		select {
		case w, ok := <-e.writes:
			if !ok {
				return
			}
			// A write that others are about to keep company is not committed without them: who is
			// ready to run runs first. On an idle machine there is nobody, and nothing waits.
			runtime.Gosched()
			batch = e.gather(append(batch[:0], w))
			e.commit(batch)
			clear(batch) // keeps no document in memory
		case answer := <-e.polls:
			answer <- e.dataVersion()
		}
	}
}

// gather adds the writes that have come meanwhile. It waits for none: the sync of the
// disk is what gives company the time to come.
func (e *Engine) gather(batch []*write) []*write {
	for len(batch) < maxBatch {
		select {
		case w, ok := <-e.writes:
			if !ok {
				return batch
			}
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// commit executes a batch in one transaction and answers every write in it.
// Nobody is told of success before the commit has succeeded.
func (e *Engine) commit(batch []*write) {
	results := make([]error, len(batch))
	changed, err := e.transact(batch, results)
	if err != nil {
		// What state the connection is in is anybody's guess: the next batch gets a new one.
		e.disconnect()
	} else if changed > 0 {
		e.written.Add(uint64(changed))
		e.committed.Add(1)
	}
	for i, w := range batch {
		if err != nil {
			w.done <- err
		} else {
			w.done <- results[i]
		}
	}
}

// transact returns how many writes of the batch succeeded; what became of each
// is in results. If it returns an error none of them has been written.
func (e *Engine) transact(batch []*write, results []error) (changed int, err error) {
	// Not the callers' contexts: one that ends in the middle of a statement would
	// roll back the transaction of them all.
	ctx := context.Background()
	if e.conn == nil {
		if e.conn, err = e.connect(ctx); err != nil {
			return 0, err
		}
	}
	c := e.conn
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return 0, err
	}
	for i, w := range batch {
		if results[i] = w.ctx.Err(); results[i] == nil && !w.state.CompareAndSwap(waiting, started) {
			results[i] = context.Canceled // the caller has given it up; nobody listens
		}
	}
	// Most writes succeed, and a savepoint has SQLite copy each page before it is changed.
	// So the batch is tried without; when one of it fails, all begins anew with one for each.
	changed, failure := c.runAll(batch, results)
	if failure != nil {
		if err := c.exec("ROLLBACK"); err != nil {
			// SQLite has rolled back everything, because the disk is full for example.
			return 0, fmt.Errorf("%w (%w)", failure, err)
		}
		if err := c.exec("BEGIN IMMEDIATE"); err != nil {
			return 0, err
		}
		if changed, err = c.runEach(batch, results); err != nil {
			return 0, err
		}
	}
	return changed, c.exec("COMMIT")
}

// runAll executes the writes of a batch that have no result yet, up to the first that
// fails, whose error it returns: then all of them have to be rolled back.
func (c *conn) runAll(batch []*write, results []error) (changed int, err error) {
	for i, w := range batch {
		if results[i] != nil {
			continue
		}
		if err := protect(w.run, c); err != nil {
			return 0, err
		}
		changed++
	}
	return changed, nil
}

// runEach executes the writes of a batch that have no result yet, each in a savepoint
// of its own, so that one can fail without the others.
func (c *conn) runEach(batch []*write, results []error) (changed int, err error) {
	for i, w := range batch {
		if results[i] != nil {
			continue
		}
		if err := c.exec("SAVEPOINT one"); err != nil {
			return 0, err
		}
		if results[i] = protect(w.run, c); results[i] == nil {
			changed++
		} else if err := c.exec("ROLLBACK TO one"); err != nil {
			return 0, fmt.Errorf("%w (%w)", results[i], err) // as above
		}
		if err := c.exec("RELEASE one"); err != nil {
			return 0, err
		}
	}
	return changed, nil
}

// protect makes an error of a panic, which would end the writer and with it the server.
func protect(run func(*conn) error, c *conn) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return run(c)
}

// conn is a connection with its prepared statements, for use by one goroutine at a time.
type conn struct {
	*sql.Conn
	statements map[string]*sql.Stmt
}

func (e *Engine) connect(ctx context.Context) (*conn, error) {
	c, err := e.writer.Conn(ctx)
	if err != nil {
		return nil, e.explain(err)
	}
	e.connects++
	return &conn{Conn: c, statements: make(map[string]*sql.Stmt)}, nil
}

// disconnect closes the writer's connection and rolls back what it has left
// open. Nothing can be done about errors here: none of it may have worked before.
func (e *Engine) disconnect() {
	if e.conn == nil {
		return
	}
	_ = e.conn.exec("ROLLBACK")
	// Package sql does not close the statements of a single connection with it,
	// and SQLite keeps the file, and its locks, until the last of them is closed.
	for _, s := range e.conn.statements {
		_ = s.Close()
	}
	_ = e.conn.Raw(func(any) error { return driver.ErrBadConn }) // does not go back to the pool
	e.conn = nil
}

func (c *conn) statement(query string) (*sql.Stmt, error) {
	if s, ok := c.statements[query]; ok {
		return s, nil
	}
	s, err := c.PrepareContext(context.Background(), query)
	if err == nil {
		c.statements[query] = s
	}
	return s, err
}

// exec executes a statement.
func (c *conn) exec(query string, args ...any) error {
	_, err := c.changes(query, args...)
	return err
}

// changes executes a statement, and tells whether it has changed anything.
func (c *conn) changes(query string, args ...any) (bool, error) {
	s, err := c.statement(query)
	if err != nil {
		return false, err
	}
	result, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// query reads the one row of a query, or returns store.ErrNotFound.
func (c *conn) query(query string, args []any, dest ...any) error {
	s, err := c.statement(query)
	if err != nil {
		return err
	}
	err = s.QueryRowContext(context.Background(), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	return err
}
