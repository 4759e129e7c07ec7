package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"login-server/store"
)

// newVersion is random, so that a document which was deleted and inserted again
// does not have a version that somebody has read before. 53 bits also survive a
// client that takes every number for a float64.
func newVersion() int64 { return 1 + rand.Int64N(1<<53-1) }

// Insert implements store.Engine.
func (e *Engine) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := doc.Check(kind); err != nil {
		return 0, err
	}
	doc.Version = newVersion()
	err := e.write(ctx, "insert", kind, func(c *conn) error {
		return c.insert(kind, doc, e.now().UnixMilli())
	})
	if err != nil {
		return 0, err
	}
	return doc.Version, nil
}

// insert writes first and looks when that fails, because most ids are new. If a unique key
// turns out to be taken the row is there already: the writer rolls back what has failed.
func (c *conn) insert(kind string, doc store.Doc, now int64) error {
	fresh, err := c.insertRow(kind, doc)
	if err != nil {
		return err
	}
	if !fresh { // there is one with this id, which gives way when it has expired
		held, err := c.entry(kind, doc.ID)
		if err != nil {
			return err
		}
		if held.expires > now {
			return store.ErrExists
		}
		if err := c.remove(kind, held); err != nil {
			return err
		}
		if _, err := c.insertRow(kind, doc); err != nil {
			return err
		}
	}
	if err := c.claim(kind, doc.ID, doc.Unique, now); err != nil {
		return err
	}
	return c.addLookup(kind, doc.ID, doc.Keys)
}

// insertRow is insert without the keys; false if the id is taken.
func (c *conn) insertRow(kind string, doc store.Doc) (bool, error) {
	unique, lookup, err := keyColumns(doc)
	if err != nil {
		return false, err
	}
	return c.changes("INSERT INTO documents (kind, id, version, expires, unique_keys, lookup_keys, data) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO NOTHING",
		kind, doc.ID, doc.Version, fromTime(doc.Expires), unique, lookup, blob(doc.Data))
}

// Replace implements store.Engine.
func (e *Engine) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := doc.Check(kind); err != nil {
		return 0, err
	}
	version := newVersion()
	err := e.write(ctx, "replace", kind, func(c *conn) error {
		return c.replace(kind, doc, version, e.now().UnixMilli())
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// replaceWithSameKeys compares keys as they are written, so that their order counts; the +
// keeps the index of expiry out of it.
const replaceWithSameKeys = "UPDATE documents SET version = ?1, expires = ?2, data = ?3" +
	" WHERE kind = ?4 AND id = ?5 AND version = ?6 AND +expires > ?7 AND unique_keys IS ?8 AND lookup_keys IS ?9"

func (c *conn) replace(kind string, doc store.Doc, version, now int64) error {
	unique, lookup, err := keyColumns(doc)
	if err != nil {
		return err
	}
	// Most keep their keys. Of the others, and of those that fail, the row says what to do.
	if done, err := c.changes(replaceWithSameKeys, version, fromTime(doc.Expires), blob(doc.Data), kind, doc.ID, doc.Version, now, unique, lookup); done || err != nil {
		return err
	}
	old, err := c.entry(kind, doc.ID)
	switch {
	case err != nil:
		return err
	case old.expires <= now:
		return store.ErrNotFound
	case old.version != doc.Version:
		return store.ErrConflict
	}
	if !slices.Equal(old.unique, doc.Unique) {
		if err := c.removeUnique(kind, without(old.unique, doc.Unique)); err != nil {
			return err
		}
		if err := c.claim(kind, doc.ID, without(doc.Unique, old.unique), now); err != nil {
			return err
		}
	}
	if !slices.Equal(old.lookup, doc.Keys) {
		if err := c.removeLookup(kind, doc.ID, without(old.lookup, doc.Keys)); err != nil {
			return err
		}
		if err := c.addLookup(kind, doc.ID, without(doc.Keys, old.lookup)); err != nil {
			return err
		}
	}
	return c.exec("UPDATE documents SET version = ?, expires = ?, unique_keys = ?, lookup_keys = ?, data = ? WHERE n = ?",
		version, fromTime(doc.Expires), unique, lookup, blob(doc.Data), old.n)
}

// Delete implements store.Engine.
func (e *Engine) Delete(ctx context.Context, kind, id string) error {
	if err := store.CheckKeys(kind, id); err != nil {
		return err
	}
	return e.write(ctx, "delete", kind, func(c *conn) error {
		return c.delete(kind, id, e.now().UnixMilli())
	})
}

func (c *conn) delete(kind, id string, now int64) error {
	old, err := c.entry(kind, id)
	if err != nil {
		return err
	}
	if old.expires <= now {
		return store.ErrNotFound
	}
	return c.remove(kind, old)
}

// Take implements store.Engine.
func (e *Engine) Take(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := store.CheckKeys(kind, id); err != nil {
		return store.Doc{}, err
	}
	var doc store.Doc
	err := e.write(ctx, "take", kind, func(c *conn) error {
		now := e.now().UnixMilli()
		s, err := c.statement(queryGet)
		if err != nil {
			return err
		}
		if doc, err = scanDoc(s.QueryRowContext(context.Background(), kind, id, now)); err != nil {
			return err
		}
		return c.delete(kind, id, now)
	})
	if err != nil {
		return store.Doc{}, err
	}
	return doc, nil
}

// sweepBatch is how many documents one write of Sweep removes: little enough for
// the writes of others not to notice.
const sweepBatch = 100

// Sweep implements store.Engine.
func (e *Engine) Sweep(ctx context.Context) (int, error) {
	total := 0
	kind, err := e.nextKind(ctx, "")
	for ; err == nil && kind != ""; kind, err = e.nextKind(ctx, kind) {
		for swept := sweepBatch; swept == sweepBatch; total += swept {
			swept = 0
			if err := e.write(ctx, "sweep", kind, func(c *conn) (err error) {
				swept, err = c.sweep(kind, e.now().UnixMilli())
				return err
			}); err != nil {
				return total, err
			}
		}
	}
	return total, err
}

func (e *Engine) nextKind(ctx context.Context, after string) (string, error) {
	if err := e.enter(ctx); err != nil {
		return "", err
	}
	defer e.leave()
	var kind *string
	err := e.queries[queryNextKind].QueryRowContext(ctx, after).Scan(&kind)
	if err != nil || kind == nil {
		return "", e.failed("list", "kinds", err)
	}
	return *kind, nil
}

func (c *conn) sweep(kind string, now int64) (int, error) {
	s, err := c.statement("SELECT id FROM documents WHERE kind = ? AND expires <= ? LIMIT ?")
	if err != nil {
		return 0, err
	}
	rows, err := s.QueryContext(context.Background(), kind, now, sweepBatch)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	for _, id := range ids {
		old, err := c.entry(kind, id)
		if err != nil {
			return 0, err
		}
		if err := c.remove(kind, old); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// entry is a row of documents without its data, expired or not.
type entry struct {
	n, version, expires int64
	id                  string
	unique, lookup      []string
}

func (c *conn) entry(kind, id string) (entry, error) {
	old := entry{id: id}
	var unique, lookup []byte
	err := c.query("SELECT n, version, expires, unique_keys, lookup_keys FROM documents WHERE kind = ? AND id = ?", []any{kind, id},
		&old.n, &old.version, &old.expires, &unique, &lookup)
	if err != nil {
		return entry{}, err
	}
	if old.unique, err = decodeKeys(unique); err != nil {
		return entry{}, err
	}
	old.lookup, err = decodeKeys(lookup)
	return old, err
}

// remove deletes a document with its keys.
func (c *conn) remove(kind string, old entry) error {
	if err := c.removeUnique(kind, old.unique); err != nil {
		return err
	}
	if err := c.removeLookup(kind, old.id, old.lookup); err != nil {
		return err
	}
	return c.exec("DELETE FROM documents WHERE n = ?", old.n)
}

// claim gives unique keys to a document; an expired document that has one is removed.
func (c *conn) claim(kind, id string, keys []string, now int64) error {
	for _, key := range keys {
		var holder string
		err := c.query("SELECT id FROM unique_keys WHERE kind = ? AND key = ?", []any{kind, key}, &holder)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		case holder == id:
			continue // the list names it twice
		default:
			old, err := c.entry(kind, holder)
			if err != nil {
				return err
			}
			if old.expires > now {
				return store.ErrExists
			}
			if err := c.remove(kind, old); err != nil {
				return err
			}
		}
		if err := c.exec("INSERT INTO unique_keys (kind, key, id) VALUES (?, ?, ?)", kind, key, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) removeUnique(kind string, keys []string) error {
	for _, key := range keys {
		if err := c.exec("DELETE FROM unique_keys WHERE kind = ? AND key = ?", kind, key); err != nil {
			return err
		}
	}
	return nil
}

// lookupChunk is how many look-up keys are written with one statement.
const lookupChunk = 8

// addLookup gives look-up keys to a document.
func (c *conn) addLookup(kind, id string, keys []string) error {
	for some := range slices.Chunk(keys, lookupChunk) {
		args := []any{kind, id}
		for _, key := range some {
			args = append(args, key)
		}
		if err := c.exec(insertLookup[len(some)], args...); err != nil {
			return err
		}
	}
	return nil
}

// insertLookup[n] is the statement for n look-up keys of one document.
var insertLookup = func() (queries [lookupChunk + 1]string) {
	for n := 1; n < len(queries); n++ {
		queries[n] = "INSERT OR IGNORE INTO lookup_keys (kind, id, key) VALUES (?1, ?2, ?3)"
		for i := 1; i < n; i++ {
			queries[n] += fmt.Sprintf(", (?1, ?2, ?%d)", i+3)
		}
	}
	return queries
}()

func (c *conn) removeLookup(kind, id string, keys []string) error {
	for _, key := range keys {
		if err := c.exec("DELETE FROM lookup_keys WHERE kind = ? AND key = ? AND id = ?", kind, key, id); err != nil {
			return err
		}
	}
	return nil
}

func keyColumns(doc store.Doc) (unique, lookup any, err error) {
	if unique, err = encodeKeys(doc.Unique); err != nil {
		return nil, nil, err
	}
	lookup, err = encodeKeys(doc.Keys)
	return unique, lookup, err
}

// without returns the keys that are not among others.
func without(keys, others []string) []string {
	var rest []string
	for _, key := range keys {
		if !slices.Contains(others, key) {
			rest = append(rest, key)
		}
	}
	return rest
}

// blob keeps nil from becoming NULL.
func blob(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
