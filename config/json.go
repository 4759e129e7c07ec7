package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Decode reads one JSON object into the struct that into points to, more strictly
// than encoding/json: names count letter by letter, a name that the struct does not
// have and one that is given twice are problems, and a value of another type is a
// problem that says which type was found. It reports all of them. Only Field (path
// and the name below it), Text and Remedy of the problems are set, and no value is
// ever shown, because it may be a secret. null is the same as leaving it out.
func Decode(raw json.RawMessage, path string, into any) []Problem {
	return decode(raw, path, reflect.ValueOf(into).Elem())
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func decode(raw json.RawMessage, path string, v reflect.Value) []Problem {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		v.Set(reflect.New(v.Type().Elem()))
		return decode(raw, path, v.Elem())
	case reflect.PointerTo(v.Type()).Implements(unmarshaler):
	case v.Kind() == reflect.Struct:
		return decodeObject(raw, path, v)
	case v.Kind() == reflect.Slice:
		return decodeList(raw, path, v)
	}
	if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
		return []Problem{wrongType(raw, path, v.Type())}
	}
	return nil
}

func decodeObject(raw json.RawMessage, path string, v reflect.Value) []Problem {
	if raw[0] != '{' {
		return []Problem{wrongType(raw, path, v.Type())}
	}
	fields := map[string][]int{}
	var names []string
	for _, f := range reflect.VisibleFields(v.Type()) { // those of embedded structs too
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || name == "" {
			continue
		}
		fields[name] = f.Index
		names = append(names, name)
	}

	var problems []Problem
	seen := map[string]bool{}
	err := members(raw, func(name string, value json.RawMessage) {
		field := join(path, name)
		index, known := fields[name]
		switch {
		case !known:
			problems = append(problems, Problem{Field: field, Text: "is not known here",
				Remedy: didYouMean(name, names, "remove it (known: "+strings.Join(slices.Sorted(slices.Values(names)), ", ")+")")})
		case seen[name]:
			problems = append(problems, Problem{Field: field, Text: "is given twice", Remedy: "remove one of them"})
		default:
			problems = append(problems, decode(value, field, v.FieldByIndex(index))...)
		}
		seen[name] = true
	})
	if err != nil {
		problems = append(problems, wrongType(raw, path, v.Type()))
	}
	return problems
}

func decodeList(raw json.RawMessage, path string, v reflect.Value) []Problem {
	var items []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return []Problem{wrongType(raw, path, v.Type())}
	}
	var problems []Problem
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		problems = append(problems, decode(item, fmt.Sprintf("%s (entry %d)", path, i+1), list.Index(i))...)
	}
	v.Set(list)
	return problems
}

// members calls f for every member of a JSON object in the order of the text;
// encoding/json alone would hide a name that is given twice.
func members(raw json.RawMessage, f func(name string, value json.RawMessage)) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		f(key.(string), value)
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return Printable(name)
	}
	return path + "." + Printable(name)
}

// Printable is a name out of a file without characters that disturb a terminal, and
// not longer than a name needs to be.
func Printable(name string) string {
	q := Quote(name)
	return q[1 : len(q)-1]
}

// wrongType says which JSON type stands there and how the wanted one is written.
func wrongType(raw json.RawMessage, path string, want reflect.Type) Problem {
	found := "is a number"
	if len(raw) > 0 {
		switch raw[0] {
		case '"':
			found = "is a text"
		case '{':
			found = "is an object"
		case '[':
			found = "is a list"
		case 't', 'f':
			found = "is " + string(raw)
		case 'n':
			found = "is null"
		}
	}
	remedy := "write an object: { … }"
	if want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	switch want.Kind() {
	case reflect.String:
		remedy = `write a text in quotes: "…"`
	case reflect.Bool:
		remedy = "write true or false, without quotes"
	case reflect.Slice:
		remedy = "write a list: [ … ]"
	case reflect.Int, reflect.Int64, reflect.Float64:
		remedy = "write a number, without quotes"
		if found == "is a number" {
			found = "is not a whole number in range"
		}
	}
	return Problem{Field: path, Text: found, Remedy: remedy}
}

// checkSyntax finds the first place at which data is no JSON, as a problem whose
// Field is the place for the eye: "line 4, column 3".
func checkSyntax(data []byte) (Problem, bool) {
	if !utf8.Valid(data) {
		offset := 0
		for offset < len(data) {
			r, size := utf8.DecodeRune(data[offset:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			offset += size
		}
		return Problem{Field: place(data, offset), Text: "is not UTF-8", Remedy: "save the file as UTF-8"}, true
	}
	d := json.NewDecoder(bytes.NewReader(data))
	var value json.RawMessage
	err := d.Decode(&value)
	if err == nil {
		// Something after the value: Decode alone would not look there.
		end := int(d.InputOffset())
		rest := data[end:]
		trimmed := bytes.TrimLeft(rest, " \t\r\n")
		if len(trimmed) == 0 {
			return Problem{}, false
		}
		at := end + len(rest) - len(trimmed)
		return Problem{Field: place(data, at), Text: "something stands after the end of the list", Remedy: "remove it"}, true
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return Problem{Field: place(data, 0), Text: "the file is empty", Remedy: "write [] for an empty list"}, true
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return Problem{Field: place(data, len(data)), Text: "the file ends in the middle", Remedy: "close every quote, { and ["}, true
	}
	at := len(data)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = int(syntax.Offset) - 1 // Offset counts the offending byte
	}
	at = min(max(at, 0), len(data))
	text, remedy := hint(data, at, err)
	return Problem{Field: place(data, at), Text: text, Remedy: remedy}, true
}

// hint recognises what people get wrong in JSON by hand.
func hint(data []byte, at int, err error) (text, remedy string) {
	before := bytes.TrimRight(data[:at], " \t\r\n")
	var last, found byte
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	if at < len(data) {
		found = data[at]
	}
	switch {
	case last == ',' && (found == ']' || found == '}'):
		return fmt.Sprintf("a comma stands before %q", string(found)), "remove the comma"
	case (last == '"' || last == '}' || last == ']' || last == 'e' || last == 'l') && (found == '"' || found == '{' || found == '['):
		return fmt.Sprintf("a comma is missing before %s", string(found)), "write the comma"
	case found == '/' || found == '#':
		return "JSON has no comments", "remove it"
	case found == '\'':
		return "JSON has no single quotes", `write "`
	case found == '\n' || found == '\r':
		return "a text does not end on its line", `close it with "`
	}
	return "is no JSON (" + strings.TrimPrefix(err.Error(), "json: ") + ")", "correct it"
}

// place is position for people.
func place(data []byte, offset int) string {
	line, column := position(data, offset)
	return fmt.Sprintf("line %d, column %d", line, column)
}

// position is the line and the column, both from 1, of the byte at offset; columns
// count characters, as editors do. len(data) is a valid offset: just behind the end.
func position(data []byte, offset int) (line, column int) {
	head := data[:offset]
	line = 1 + bytes.Count(head, []byte{'\n'})
	column = 1 + utf8.RuneCount(head[bytes.LastIndexByte(head, '\n')+1:])
	return line, column
}
