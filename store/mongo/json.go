package mongo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxDepth is how deep objects and arrays may be nested; MongoDB takes 100 levels.
const maxDepth = 50

// parser reads JSON as encoding/json writes it, without spaces. It need not be strict in
// what it takes, for what does not come back the same is not stored that way: it only has
// to refuse what would come back the same and cannot be a field of MongoDB.
type parser struct {
	rest  []byte
	depth int
}

// parseObject returns the fields of a JSON object that can be fields of a document.
func parseObject(data []byte) (bson.D, bool) {
	p := parser{rest: data}
	value, ok := p.value()
	fields, isObject := value.(bson.D)
	return fields, ok && isObject && len(p.rest) == 0
}

// take tells whether the text goes on with s, and goes behind it.
func (p *parser) take(s string) bool {
	if len(p.rest) < len(s) || string(p.rest[:len(s)]) != s {
		return false
	}
	p.rest = p.rest[len(s):]
	return true
}

func (p *parser) value() (any, bool) {
	if len(p.rest) == 0 {
		return nil, false
	}
	switch p.rest[0] {
	case '{', '[':
		if p.depth == maxDepth {
			return nil, false
		}
		p.depth++
		defer func() { p.depth-- }()
		if p.take("{") {
			return p.object()
		}
		p.take("[")
		return p.array()
	case '"':
		return p.string()
	case 't':
		return true, p.take("true")
	case 'f':
		return false, p.take("false")
	case 'n':
		return nil, p.take("null")
	}
	return p.number()
}

func (p *parser) object() (bson.D, bool) {
	fields := bson.D{}
	if p.take("}") {
		return fields, true
	}
	var seen map[string]bool // of objects with many fields
	for {
		name, ok := p.string()
		if !ok || !p.take(":") {
			return nil, false
		}
		// The server or its tools read something into the first two; the third ends a name
		// in BSON.
		if name == "" || name[0] == '$' || strings.ContainsAny(name, ".\x00") {
			return nil, false
		}
		switch {
		case seen != nil:
			if seen[name] {
				return nil, false
			}
			seen[name] = true
		case slices.ContainsFunc(fields, func(f bson.E) bool { return f.Key == name }):
			return nil, false
		case len(fields) == 16:
			seen = map[string]bool{name: true}
			for _, f := range fields {
				seen[f.Key] = true
			}
		}
		value, ok := p.value()
		if !ok {
			return nil, false
		}
		fields = append(fields, bson.E{Key: name, Value: value})
		if p.take("}") {
			return fields, true
		}
		if !p.take(",") {
			return nil, false
		}
	}
}

func (p *parser) array() (bson.A, bool) {
	values := bson.A{}
	if p.take("]") {
		return values, true
	}
	for {
		value, ok := p.value()
		if !ok {
			return nil, false
		}
		values = append(values, value)
		if p.take("]") {
			return values, true
		}
		if !p.take(",") {
			return nil, false
		}
	}
}

func (p *parser) string() (string, bool) {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return "", false
	}
	escaped := false
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			quoted := p.rest[:i+1]
			p.rest = p.rest[i+1:]
			if !escaped {
				s := string(quoted[1:i])
				return s, utf8.ValidString(s)
			}
			var s string
			err := json.Unmarshal(quoted, &s)
			return s, err == nil
		}
	}
	return "", false
}

func (p *parser) number() (any, bool) {
	end := 0
	for end < len(p.rest) && strings.IndexByte("+-.0123456789Ee", p.rest[end]) >= 0 {
		end++
	}
	text := string(p.rest[:end])
	p.rest = p.rest[end:]
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n == int64(int32(n)) {
			return int32(n), true
		}
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// appendFields appends a document as a JSON object, without the fields that the store has
// added. _id is one of its fields only if place tells which.
func appendFields(dst []byte, raw bson.Raw, place *int32) ([]byte, error) {
	elements, err := raw.Elements()
	if err != nil {
		return nil, err
	}
	fields := make([]bson.RawElement, 0, len(elements))
	for _, element := range elements {
		switch element.Key() {
		case fieldID, fieldMeta, fieldJSON:
		default:
			fields = append(fields, element)
		}
	}
	if place != nil {
		for _, element := range elements {
			if element.Key() == fieldID {
				// An operator may have removed fields before it.
				fields = slices.Insert(fields, max(0, min(int(*place), len(fields))), element)
				break
			}
		}
	}
	return appendElements(dst, fields)
}

func appendElements(dst []byte, elements []bson.RawElement) ([]byte, error) {
	dst = append(dst, '{')
	for i, element := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendString(dst, element.Key()); err != nil {
			return nil, err
		}
		if dst, err = appendValue(append(dst, ':'), element.Value()); err != nil {
			return nil, fmt.Errorf("decode field %s: %w", element.Key(), err)
		}
	}
	return append(dst, '}'), nil
}

// appendValue appends the JSON of any value that parseObject makes, as encoding/json writes
// it, and of some that only an operator's shell makes.
func appendValue(dst []byte, value bson.RawValue) ([]byte, error) {
	switch value.Type {
	case bson.TypeString:
		return appendString(dst, value.StringValue())
	case bson.TypeInt32:
		return strconv.AppendInt(dst, int64(value.Int32()), 10), nil
	case bson.TypeInt64:
		return strconv.AppendInt(dst, value.Int64(), 10), nil
	case bson.TypeDouble:
		f := value.Double()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, errors.New("it is not a number")
		}
		return appendJSON(dst, f)
	case bson.TypeBoolean:
		return strconv.AppendBool(dst, value.Boolean()), nil
	case bson.TypeNull:
		return append(dst, "null"...), nil
	case bson.TypeEmbeddedDocument:
		elements, err := value.Document().Elements()
		if err != nil {
			return nil, err
		}
		return appendElements(dst, elements)
	case bson.TypeArray:
		values, err := value.Array().Values()
		if err != nil {
			return nil, err
		}
		dst = append(dst, '[')
		for i, v := range values {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendValue(dst, v); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case bson.TypeDateTime:
		return appendJSON(dst, value.Time().UTC().Format(time.RFC3339Nano))
	case bson.TypeObjectID:
		id := value.ObjectID()
		return appendString(dst, hex.EncodeToString(id[:]))
	}
	return nil, fmt.Errorf("JSON has no %s", value.Type)
}

// appendString is appendJSON, faster for strings that need no escapes.
func appendString(dst []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return appendJSON(dst, s)
		}
	}
	return append(append(append(dst, '"'), s...), '"'), nil
}

func appendJSON(dst []byte, value any) ([]byte, error) {
	text, err := json.Marshal(value)
	return append(dst, bytes.TrimSpace(text)...), err
}
