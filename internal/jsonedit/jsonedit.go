// Package jsonedit changes one place in a JSON text that people edit by hand, and
// leaves every other byte as it is: order, spacing, unknown members. What it adds
// looks like what stands around it.
package jsonedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound: the path leads to nothing.
var ErrNotFound = errors.New("not found")

// span is data[start:end].
type span struct{ start, end int }

// child is a member of an object or an item of a list.
type child struct {
	named bool // a member, called name
	name  string
	whole span // name and value
	value span
}

// Get returns the text of the value at path, which names members of objects
// (string) and items of lists (int).
func Get(data []byte, path ...any) ([]byte, error) {
	s, err := find(data, path)
	return data[s.start:s.end], err
}

// Set puts value, anything that marshals, in the place of the one at path. The last
// element of path may be new: it is then added at the end of the object or, if it is
// the number of items, of the list.
func Set(data []byte, value any, path ...any) ([]byte, error) {
	old, err := find(data, path)
	switch {
	case err == nil:
		text, err := marshal(value, indentAt(data, old.start), unit(data), newline(data))
		return splice(data, old, text), err
	case !errors.Is(err, ErrNotFound) || len(path) == 0:
		return nil, err
	}
	parent, err := find(data, path[:len(path)-1])
	if err != nil {
		return nil, err
	}
	return add(data, parent, path[len(path)-1], value)
}

// Remove takes the value at path out, with its name and one comma.
func Remove(data []byte, path ...any) ([]byte, error) {
	if len(path) == 0 {
		return nil, ErrNotFound
	}
	parent, err := find(data, path[:len(path)-1])
	if err != nil {
		return nil, err
	}
	list, err := children(data, parent)
	if err != nil {
		return nil, err
	}
	i := index(list, path[len(path)-1])
	switch {
	case i < 0:
		return nil, ErrNotFound
	case len(list) == 1:
		return splice(data, span{parent.start + 1, parent.end - 1}, nil), nil
	case i < len(list)-1:
		return splice(data, span{list[i].whole.start, list[i+1].whole.start}, nil), nil
	}
	return splice(data, span{list[i-1].whole.end, list[i].whole.end}, nil), nil
}

// add puts a new child at the end of an object or a list.
func add(data []byte, parent span, last, value any) ([]byte, error) {
	list, err := children(data, parent)
	if err != nil {
		return nil, err
	}
	name := ""
	switch key := last.(type) {
	case string:
		if data[parent.start] != '{' {
			return nil, fmt.Errorf("%q is no member of a list", key)
		}
		quoted, err := marshal(key, "", "", "")
		if err != nil {
			return nil, err
		}
		name = string(quoted) + ": "
	case int:
		if data[parent.start] != '[' || key != len(list) {
			return nil, ErrNotFound
		}
	}

	outer, nl := indentAt(data, parent.start), newline(data)
	inner, oneLine := outer+unit(data), false
	if len(list) > 0 {
		first := list[0].whole.start
		inner = indentAt(data, first)
		oneLine = len(bytes.TrimSpace(data[lineStart(data, first):first])) > 0
	}
	if oneLine {
		text, err := marshal(value, "", "", "")
		end := list[len(list)-1].whole.end
		return splice(data, span{end, end}, []byte(", "+name+string(text))), err
	}
	text, err := marshal(value, inner, unit(data), nl)
	if err != nil {
		return nil, err
	}
	added := nl + inner + name + string(text)
	if len(list) > 0 {
		end := list[len(list)-1].whole.end
		return splice(data, span{end, end}, []byte(","+added)), nil
	}
	return splice(data, span{parent.start + 1, parent.end - 1}, []byte(added+nl+outer)), nil
}

// find returns the place of the value at path.
func find(data []byte, path []any) (span, error) {
	at := span{0, len(data)}
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	at.start = len(data) - len(trimmed)
	at.end = at.start + len(bytes.TrimRight(trimmed, " \t\r\n"))
	if !json.Valid(data) {
		return at, errors.New("is no JSON")
	}
	for _, step := range path {
		list, err := children(data, at)
		if err != nil {
			return at, err
		}
		i := index(list, step)
		if i < 0 {
			return at, ErrNotFound
		}
		at = list[i].value
	}
	return at, nil
}

// index finds a child; of several members of one name the last counts, as it does
// for encoding/json.
func index(list []child, step any) int {
	switch step := step.(type) {
	case int:
		if step >= 0 && step < len(list) && !list[step].named {
			return step
		}
	case string:
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].named && list[i].name == step {
				return i
			}
		}
	}
	return -1
}

// children lists what an object or a list holds, with its places in data.
func children(data []byte, parent span) ([]child, error) {
	d := json.NewDecoder(bytes.NewReader(data[parent.start:parent.end]))
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := open.(json.Delim)
	if !ok {
		return nil, errors.New("is neither an object nor a list")
	}
	var list []child
	for d.More() {
		var c child
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			c.name, c.named = key.(string)
			c.whole.start = startOfString(data, parent.start+int(d.InputOffset()))
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		end := parent.start + int(d.InputOffset())
		c.value = span{end - len(raw), end}
		c.whole.end = end
		if delim == '[' {
			c.whole.start = c.value.start
		}
		list = append(list, c)
	}
	return list, nil
}

// startOfString is where the string begins that ends before end.
func startOfString(data []byte, end int) int {
	for i := end - 2; ; i-- {
		if data[i] != '"' {
			continue
		}
		slashes := 0
		for data[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

func splice(data []byte, at span, text []byte) []byte {
	out := make([]byte, 0, len(data)-(at.end-at.start)+len(text))
	out = append(out, data[:at.start]...)
	out = append(out, text...)
	return append(out, data[at.end:]...)
}

// marshal writes value the way it stands in a file: nothing escaped for HTML. Without
// a unit it is one line.
func marshal(value any, prefix, unit, nl string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if unit != "" {
		e.SetIndent(prefix, unit)
	}
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	text := bytes.TrimRight(b.Bytes(), "\n")
	if nl == "\r\n" {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte(nl))
	}
	return text, nil
}

func lineStart(data []byte, at int) int { return bytes.LastIndexByte(data[:at], '\n') + 1 }

// indentAt is the white space that begins the line of a place.
func indentAt(data []byte, at int) string {
	line := data[lineStart(data, at):at]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// unit is what one level is indented by: what the first indented line has.
func unit(data []byte) string {
	for line := range bytes.Lines(data) {
		if text := bytes.TrimLeft(line, " \t"); len(text) < len(line) && len(bytes.TrimSpace(text)) > 0 {
			return string(line[:len(line)-len(text)])
		}
	}
	return "  "
}

func newline(data []byte) string {
	if strings.Contains(string(data), "\r\n") {
		return "\r\n"
	}
	return "\n"
}
