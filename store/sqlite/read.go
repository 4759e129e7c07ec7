package sqlite

import (
	"context"
	"errors"
	"fmt"

	"login-server/store"
)

// Every query is a look-up in an index; TestQueriesUseIndexes keeps it so.
// CROSS JOIN makes SQLite start with the table on the left, and + keeps it from
// going by expiry where it should go by id.
const (
	queryPing      = "SELECT user_version FROM pragma_user_version"
	queryGet       = "SELECT " + columns + " FROM documents d WHERE kind = ? AND id = ? AND +expires > ?"
	queryGetUnique = "SELECT " + columns + " FROM unique_keys u CROSS JOIN documents d ON d.kind = u.kind AND d.id = u.id" +
		" WHERE u.kind = ? AND u.key = ? AND +d.expires > ?"

	queryFind          = "SELECT " + columns + " FROM documents d WHERE kind = ? AND id > ? AND +expires > ? ORDER BY id LIMIT ?"
	queryFindDown      = "SELECT " + columns + " FROM documents d WHERE kind = ? AND +expires > ? ORDER BY id DESC LIMIT ?"
	queryFindDownAfter = "SELECT " + columns + " FROM documents d WHERE kind = ? AND id < ? AND +expires > ? ORDER BY id DESC LIMIT ?"

	withKey               = "SELECT " + columns + " FROM lookup_keys k CROSS JOIN documents d ON d.kind = k.kind AND d.id = k.id WHERE k.kind = ? AND k.key = ?"
	queryFindKey          = withKey + " AND k.id > ? AND +d.expires > ? ORDER BY k.id LIMIT ?"
	queryFindKeyDown      = withKey + " AND +d.expires > ? ORDER BY k.id DESC LIMIT ?"
	queryFindKeyDownAfter = withKey + " AND k.id < ? AND +d.expires > ? ORDER BY k.id DESC LIMIT ?"

	queryCount    = "SELECT count(*) FROM documents WHERE kind = ? AND expires > ?"
	queryCountKey = "SELECT count(*) FROM lookup_keys k CROSS JOIN documents d ON d.kind = k.kind AND d.id = k.id" +
		" WHERE k.kind = ? AND k.key = ? AND +d.expires > ?"

	// queryNextKind goes through the kinds for Sweep.
	queryNextKind = "SELECT min(kind) FROM documents WHERE kind > ?"
)

var readQueries = []string{
	queryPing, queryGet, queryGetUnique,
	queryFind, queryFindDown, queryFindDownAfter, queryFindKey, queryFindKeyDown, queryFindKeyDownAfter,
	queryCount, queryCountKey, queryNextKind,
}

// Get implements store.Engine.
func (e *Engine) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	return e.one(ctx, queryGet, kind, id)
}

// GetUnique implements store.Engine.
func (e *Engine) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	return e.one(ctx, queryGetUnique, kind, key)
}

func (e *Engine) one(ctx context.Context, query, kind, key string) (store.Doc, error) {
	if err := store.CheckKeys(kind, key); err != nil {
		return store.Doc{}, err
	}
	if err := e.enter(ctx); err != nil {
		return store.Doc{}, err
	}
	defer e.leave()
	doc, err := scanDoc(e.queries[query].QueryRowContext(ctx, kind, key, e.now().UnixMilli()))
	return doc, e.failed("read", kind, err)
}

// Find implements store.Engine.
func (e *Engine) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	if err := store.CheckKeys(kind); err != nil {
		return nil, err
	}
	args := []any{kind}
	if q.Key != "" {
		if err := store.CheckKeys(q.Key); err != nil {
			return nil, err
		}
		args = append(args, q.Key)
	}
	if q.After != "" {
		if err := store.CheckKeys(q.After); err != nil {
			return nil, err
		}
	}
	if q.After != "" || !q.Descending {
		args = append(args, q.After) // ascending, every id is greater than the empty string
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	args = append(args, e.now().UnixMilli(), min(limit, 1000))

	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.leave()
	docs, err := e.find(ctx, findQuery(q), args)
	return docs, e.failed("find", kind, err)
}

func findQuery(q store.Query) string {
	switch {
	case q.Key == "" && !q.Descending:
		return queryFind
	case q.Key == "" && q.After == "":
		return queryFindDown
	case q.Key == "":
		return queryFindDownAfter
	case !q.Descending:
		return queryFindKey
	case q.After == "":
		return queryFindKeyDown
	default:
		return queryFindKeyDownAfter
	}
}

func (e *Engine) find(ctx context.Context, query string, args []any) ([]store.Doc, error) {
	rows, err := e.queries[query].QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var docs []store.Doc
	for rows.Next() {
		doc, err := scanDoc(rows)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, rows.Err()
}

// Count implements store.Engine.
func (e *Engine) Count(ctx context.Context, kind, key string) (int, error) {
	query, args := queryCount, []any{kind}
	if key != "" {
		query, args = queryCountKey, []any{kind, key}
	}
	for _, arg := range args {
		if err := store.CheckKeys(arg.(string)); err != nil {
			return 0, err
		}
	}
	if err := e.enter(ctx); err != nil {
		return 0, err
	}
	defer e.leave()
	var count int
	err := e.queries[query].QueryRowContext(ctx, append(args, e.now().UnixMilli())...).Scan(&count)
	return count, e.failed("count", kind, err)
}

// failed tells what was tried when err was met; the errors of package store and
// of contexts stay as they are. It never names an id: some are secrets.
func (e *Engine) failed(what, kind string, err error) error {
	switch {
	case err == nil, errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrExists), errors.Is(err, store.ErrConflict),
		errors.Is(err, ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%s %s: %w", what, kind, e.explain(err))
}
