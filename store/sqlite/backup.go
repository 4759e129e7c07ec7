package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup copies the database to path, which must not exist yet. The copy is a
// database of its own that Open takes; it holds what had been answered when Backup
// began. It reads from one snapshot, so writers neither wait nor make it start again.
func (e *Engine) Backup(ctx context.Context, path string) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	if err := e.backup(ctx, path); err != nil {
		return fmt.Errorf("back up to %s: %w", path, e.explain(err))
	}
	return nil
}

func (e *Engine) backup(ctx context.Context, path string) (err error) {
	// SQLite takes an empty file for a new one. Making it here gives it its mode
	// and makes sure that nothing is written over.
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("the file exists already; choose another name")
	}
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()

	db, err := e.database("ro", 1)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
