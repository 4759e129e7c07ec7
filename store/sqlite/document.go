package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"login-server/store"
)

// never is the expires column of a document that stays.
const never = math.MaxInt64

func fromTime(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMilli()
}

func toTime(ms int64) time.Time {
	if ms == never {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// encodeKeys returns the column for a list of keys: NULL if there are none.
func encodeKeys(keys []string) (any, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(keys)
	return string(text), err
}

func decodeKeys(column []byte) ([]string, error) {
	if column == nil {
		return nil, nil
	}
	var keys []string
	if err := json.Unmarshal(column, &keys); err != nil {
		return nil, fmt.Errorf("decode keys: %w", err)
	}
	return keys, nil
}

// columns are what scanDoc reads.
const columns = "d.id, d.version, d.expires, d.unique_keys, d.lookup_keys, d.data"

// scanDoc reads one row; store.ErrNotFound if there is none.
func scanDoc(row interface{ Scan(...any) error }) (store.Doc, error) {
	var doc store.Doc
	var expires int64
	var unique, lookup []byte
	err := row.Scan(&doc.ID, &doc.Version, &expires, &unique, &lookup, &doc.Data)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Doc{}, store.ErrNotFound
	}
	if err != nil {
		return store.Doc{}, err
	}
	doc.Expires = toTime(expires)
	if doc.Unique, err = decodeKeys(unique); err != nil {
		return store.Doc{}, err
	}
	if doc.Keys, err = decodeKeys(lookup); err != nil {
		return store.Doc{}, err
	}
	return doc, nil
}
