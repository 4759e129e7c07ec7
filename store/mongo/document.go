package mongo

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/store"
)

// A document is stored as the BSON of its JSON, with Doc.ID as its _id, and one more field
// with what the store has to know of it beside:
//
//	{ _id: "c0c1914a-…", uri: "https://…", name: "Ada", …,
//	  _meta: { v: <version>, u: [<unique keys>], k: [<look-up keys>], e: <expiry>, i: <place of _id> } }
//
// Empty lists are left out: a unique index would take them for a value. So is e where
// nothing expires, and i where the JSON has no field _id of its own.
//
// What the way to BSON and back would change, be it a space, is kept as text in the field
// _json, in the place of all others.
const (
	fieldID      = "_id"
	fieldMeta    = "_meta"
	fieldJSON    = "_json"
	fieldVersion = fieldMeta + ".v"
	fieldUnique  = fieldMeta + ".u"
	fieldKeys    = fieldMeta + ".k"
	fieldExpires = fieldMeta + ".e"
)

// meta is the field _meta.
type meta struct {
	Version int64          `bson:"v"`
	Unique  []string       `bson:"u,omitempty"`
	Keys    []string       `bson:"k,omitempty"`
	Expires *bson.DateTime `bson:"e,omitempty"`
	// Place is how many fields stand before _id in the JSON, if that has the field.
	// MongoDB moves it to the front.
	Place *int32 `bson:"i,omitempty"`
}

// expired tells whether the document does not exist any more at a time.
func (m meta) expired(now time.Time) bool {
	return m.Expires != nil && int64(*m.Expires) <= now.UnixMilli()
}

// maxNatural is how long a JSON text may be to be stored as BSON, which may need seven
// times the space; a document of MongoDB has 16 MiB at the most.
const maxNatural = 1 << 20

// maxDocument is how large a document can be, with its keys.
const maxDocument = 16 << 20

// encode makes the document that is stored.
func encode(doc store.Doc) (bson.Raw, error) {
	m := meta{Version: doc.Version, Unique: doc.Unique, Keys: doc.Keys}
	if !doc.Expires.IsZero() {
		expires := bson.DateTime(doc.Expires.UnixMilli())
		m.Expires = &expires
	}
	if raw := encodeNatural(doc, m); raw != nil {
		return raw, nil
	}
	var text any = string(doc.Data)
	if !utf8.Valid(doc.Data) {
		text = bson.Binary{Data: doc.Data} // no JSON either, but who reads it shall be the one to say so
	}
	raw, err := bson.Marshal(bson.D{{Key: fieldID, Value: doc.ID}, {Key: fieldJSON, Value: text}, {Key: fieldMeta, Value: m}})
	if err == nil && len(raw) > maxDocument {
		err = fmt.Errorf("%w: %d bytes with all keys, %d are allowed", store.ErrInvalid, len(raw), maxDocument)
	}
	return raw, err
}

// encodeNatural returns nil if the BSON would not give back the same JSON.
func encodeNatural(doc store.Doc, m meta) bson.Raw {
	if len(doc.Data) > maxNatural {
		return nil
	}
	fields, ok := parseObject(doc.Data)
	if !ok {
		return nil
	}
	stored := make(bson.D, 1, len(fields)+2)
	stored[0] = bson.E{Key: fieldID, Value: doc.ID}
	for i, field := range fields {
		switch field.Key {
		case fieldMeta, fieldJSON:
			return nil
		case fieldID:
			if field.Value != doc.ID {
				return nil
			}
			place := int32(i)
			m.Place = &place
		default:
			stored = append(stored, field)
		}
	}
	raw, err := bson.Marshal(append(stored, bson.E{Key: fieldMeta, Value: m}))
	if err != nil || len(raw) > maxDocument {
		return nil
	}
	if back, err := decode(raw); err != nil || !bytes.Equal(back.Data, doc.Data) {
		return nil
	}
	return raw
}

// errForeign is met where a document is not one of ours.
var errForeign = errors.New("the document was written by another program")

// decodeMeta reads _meta alone.
func decodeMeta(raw bson.Raw) (meta, error) {
	var m meta
	value, err := raw.LookupErr(fieldMeta, "v")
	if err != nil {
		return m, errForeign
	}
	// An operator's shell may have made another number of it.
	if _, ok := value.AsInt64OK(); !ok {
		return m, errForeign
	}
	if err := raw.Lookup(fieldMeta).Unmarshal(&m); err != nil {
		return m, spoilt{fmt.Errorf("decode %s: %w", fieldMeta, err)}
	}
	return m, nil
}

// decode reads a document of ours; errForeign if it is not.
func decode(raw bson.Raw) (store.Doc, error) {
	var doc store.Doc
	m, err := decodeMeta(raw)
	if err != nil {
		return doc, err
	}
	id, ok := raw.Lookup(fieldID).StringValueOK()
	if !ok {
		return doc, errForeign
	}
	doc = store.Doc{ID: id, Version: m.Version, Unique: m.Unique, Keys: m.Keys}
	if m.Expires != nil {
		doc.Expires = m.Expires.Time().UTC()
	}
	if text, err := raw.LookupErr(fieldJSON); err == nil {
		if s, ok := text.StringValueOK(); ok {
			doc.Data = []byte(s)
		} else if _, data, ok := text.BinaryOK(); ok {
			doc.Data = bytes.Clone(data)
		} else {
			return doc, spoilt{fmt.Errorf("decode %s: it is neither text nor bytes", fieldJSON)}
		}
		return doc, nil
	}
	if doc.Data, err = appendFields(make([]byte, 0, len(raw)), raw, m.Place); err != nil {
		return doc, spoilt{err}
	}
	return doc, nil
}
