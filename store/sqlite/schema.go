package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// applicationID marks our files in their header ("lgin").
const applicationID = 0x6c67696e

// migrations lead from an empty file to the present schema; PRAGMA user_version
// tells how many of them a file has seen. One that was released is never changed.
var migrations = []string{
	// The key columns of documents are JSON arrays, as the caller gave them; the
	// two other tables are their index. A document that never expires has the
	// greatest integer, so that "expires > now" is all that needs to be asked.
	// data stands last, so that the rest is read without it.
	`
CREATE TABLE documents (
	n           INTEGER PRIMARY KEY,
	kind        TEXT NOT NULL,
	id          TEXT NOT NULL,
	version     INTEGER NOT NULL,
	expires     INTEGER NOT NULL,
	unique_keys TEXT,
	lookup_keys TEXT,
	data        BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX documents_id ON documents (kind, id);
CREATE INDEX documents_expires ON documents (kind, expires);
CREATE TABLE unique_keys (
	kind TEXT NOT NULL,
	key  TEXT NOT NULL,
	id   TEXT NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE lookup_keys (
	kind TEXT NOT NULL,
	key  TEXT NOT NULL,
	id   TEXT NOT NULL,
	PRIMARY KEY (kind, key, id)
) STRICT, WITHOUT ROWID;
`,
}

// prepareFile prepares the file and waits while another process does. SQLite's own
// waiting is not enough: it answers at once where two that switch the same file to WAL
// mode would wait for each other.
func (e *Engine) prepareFile(ctx context.Context) error {
	deadline := time.Now().Add(e.busyTimeout)
	for {
		err := e.conn.prepareFile(ctx)
		if code(err) != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// prepareFile checks that the file is ours, or empty, and brings it up to date.
func (c *conn) prepareFile(ctx context.Context) error {
	version, err := c.schemaVersion(ctx)
	if err != nil {
		return err // before anything has been written: the file may be somebody else's
	}
	var mode string
	if err := c.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system does not allow SQLite's write-ahead log (journal mode is %q)", mode)
	}
	if version == len(migrations) {
		return nil
	}

	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := c.migrate(ctx); err != nil {
		_, failed := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return errors.Join(err, failed)
	}
	_, err = c.ExecContext(ctx, "COMMIT")
	return err
}

// migrate asks for the version again: another process may have been faster.
func (c *conn) migrate(ctx context.Context) error {
	version, err := c.schemaVersion(ctx)
	if err != nil {
		return err
	}
	for i, migration := range migrations[version:] {
		if _, err := c.ExecContext(ctx, migration); err != nil {
			return fmt.Errorf("upgrade to schema version %d: %w", version+i+1, err)
		}
	}
	_, err = c.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations)))
	return err
}

// schemaVersion tells how many migrations the file has seen, or why it is not for us.
func (c *conn) schemaVersion(ctx context.Context) (int, error) {
	var application, version, tables int
	err := c.QueryRowContext(ctx, `
SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
FROM pragma_application_id, pragma_user_version`).Scan(&application, &version, &tables)
	switch {
	case err != nil:
		return 0, err
	case application == 0 && version == 0 && tables == 0:
		return 0, nil
	case application != applicationID:
		return 0, errors.New("the file is a database of another program; choose another path")
	case version > len(migrations):
		return 0, fmt.Errorf("the file was written by a newer version of login-server (schema version %d, this one knows %d); "+
			"start that version, or restore a backup from before the upgrade", version, len(migrations))
	}
	return version, nil
}
