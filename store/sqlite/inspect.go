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
	"time"
)

// Report is what Inspect has found in a database file.
type Report struct {
	// Missing: there is no file, or nothing in it; Open would make the database.
	Missing bool
	// Bytes is the size of the file and of the log beside it.
	Bytes int64
	// Schema is the version of the file, Known the one that Open would bring it up to.
	Schema, Known int
	// Damage is what SQLite's quick check complains about; nil when the file is sound.
	Damage []string
	// Written is when the file or its log was last written to.
	Written time.Time
}

// Inspect looks at the database file at path, also while a server is using it, and
// writes nothing: no file is made, none is upgraded. An error means that Open would
// fail as well; what Open would say of a file that is not for us, the error says.
func Inspect(ctx context.Context, path string) (Report, error) {
	report, err := inspect(ctx, path)
	if err != nil {
		return report, fmt.Errorf("open database %s: %w", path, err)
	}
	return report, nil
}

func inspect(ctx context.Context, path string) (Report, error) {
	report := Report{Known: len(migrations)}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		report.Missing = true
		return report, nil
	case err != nil:
		return report, err
	case !info.Mode().IsRegular():
		return report, errors.New("is not a file")
	}
	report.Bytes, report.Written = info.Size(), info.ModTime()
	log, err := os.Stat(path + "-wal")
	inUse := err == nil
	if inUse {
		report.Bytes += log.Size()
		if log.ModTime().After(report.Written) {
			report.Written = log.ModTime()
		}
	}

	e := &Engine{busyTimeout: time.Second}
	if e.path, err = filepath.Abs(path); err != nil {
		return report, err
	}
	query := url.Values{"mode": {"ro"}}
	if !inUse {
		// A database that nobody has open has no log; SQLite would make one even for
		// reading, unless it is told that the file does not change.
		query.Set("immutable", "1")
	}
	db, err := sql.Open("sqlite", e.address(query))
	if err != nil {
		return report, err
	}
	defer db.Close()
	raw, err := db.Conn(ctx)
	if err != nil {
		return report, e.explain(err)
	}
	defer raw.Close()
	c := &conn{Conn: raw}
	if report.Schema, err = c.schemaVersion(ctx); err != nil {
		return report, e.explain(err)
	}
	if report.Schema == 0 {
		report.Missing = true
		return report, nil
	}
	rows, err := raw.QueryContext(ctx, "PRAGMA quick_check(10)")
	if err != nil {
		return report, e.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return report, e.explain(err)
		}
		if line != "ok" {
			report.Damage = append(report.Damage, line)
		}
	}
	return report, e.explain(rows.Err())
}
