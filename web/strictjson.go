package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays of a call may stand in each other.
const maxDepth = 8

// readObject reads a JSON object whose members are fields of into, and nothing else: what is
// misspelt, comes twice, also with letters of another case, or is not known is refused and not
// left out. Otherwise two programs that look at a request could see two.
func readObject(data []byte, into any) error {
	members, err := membersOf(data)
	if err != nil {
		return err
	}
	known := fieldNames(into)
	for _, name := range members {
		if !slices.Contains(known, name) {
			return &Error{Status: 400, Code: "unknown_field", Message: "The call has no field of this name.", Field: name[:min(len(name), 50)]}
		}
	}
	if err := json.Unmarshal(data, into); err != nil {
		e := badRequest("A field has not the type that it should have.", err)
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			e.Field = wrong.Field
		}
		return e
	}
	return nil
}

// fieldNames are the members that readObject takes.
func fieldNames(into any) []string {
	var names []string
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

var errNoObject = badRequest("The request is not a JSON object.", nil)

// membersOf returns the names of the members of the object that data is. Objects in it are
// checked as well.
func membersOf(data []byte) ([]string, error) {
	if !utf8.Valid(data) {
		return nil, badRequest("The request is not valid UTF-8.", nil)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errNoObject
	}
	members, err := readMembers(d, 1)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errNoObject
	}
	return members, nil
}

// readMembers reads an object up to its end, after its beginning.
func readMembers(d *json.Decoder, depth int) (names []string, err error) {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errNoObject
		}
		if folded := strings.ToLower(name); seen[folded] {
			return nil, &Error{Status: 400, Code: "duplicate_field", Message: "A field comes twice.", Field: name[:min(len(name), 50)]}
		} else {
			seen[folded] = true
		}
		names = append(names, name)
		if err := readValue(d, depth); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNoObject
	}
	return names, nil
}

func readValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return errNoObject
	}
	begin, ok := token.(json.Delim)
	switch {
	case !ok:
		return nil
	case depth == maxDepth:
		return badRequest("The request is nested too deep.", nil)
	case begin == '{':
		_, err = readMembers(d, depth+1)
		return err
	}
	for d.More() {
		if err := readValue(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errNoObject
	}
	return nil
}
