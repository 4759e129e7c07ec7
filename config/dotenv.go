package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

const maxSettingsFile = 256 << 10

// assignment is the beginning of a line that sets a name, as godotenv reads it.
var assignment = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.]+)[ \t]*[=:][ \t]*(.*)$`)

// expanded is what godotenv takes for a variable outside of single quotes.
var expanded = regexp.MustCompile(`(?:^|[^\\])\$\{?[A-Z0-9_]`)

// readDotEnv reads .env without touching the process environment. No file is no
// problem: everything has a default or can come from the environment.
func (l *loader) readDotEnv(known []string) map[string]string {
	const file = ".env"
	add := func(field, text, remedy string) {
		l.problems = append(l.problems, Problem{File: file, Field: field, Text: text, Remedy: remedy})
	}
	data, err := os.ReadFile(filepath.Join(l.dir, file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		add("", "cannot be read ("+Reason(err)+")", "correct it")
		return nil
	case len(data) > maxSettingsFile:
		add("", "is larger than 256 KiB", "keep only settings in it")
		return nil
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	values, err := godotenv.Unmarshal(text)
	if err != nil {
		// The error of godotenv quotes the rest of the file, secrets included.
		add(fmt.Sprintf("line %d", brokenLine(text)), "is not NAME=value", "correct it, or put # before a comment")
		return nil
	}

	seen := map[string]bool{}
	for _, m := range assignment.FindAllStringSubmatch(text, -1) {
		name, value := m[1], m[2]
		if _, ok := values[name]; !ok {
			continue // a line within a quoted value
		}
		if seen[name] {
			l.warnings = append(l.warnings, Problem{File: file, Field: name, Text: "is given twice, the last one counts", Remedy: "remove one of them"}.String())
		}
		seen[name] = true
		if !strings.HasPrefix(value, "'") && slices.Contains(known, name) && expanded.MatchString(value) {
			l.warnings = append(l.warnings, Problem{File: file, Field: name, Text: "$ begins the name of a variable and is replaced", Remedy: "put the value in single quotes to keep it"}.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if slices.Contains(known, name) {
			continue
		}
		if near, ok := Nearest(name, known); ok {
			add(Printable(name), "is not known", "did you mean "+near+"?")
			continue
		}
		l.warnings = append(l.warnings, Problem{File: file, Field: Printable(name), Text: "is not known and has no effect", Remedy: "remove it"}.String())
	}
	return values
}

// brokenLine is the first line at which text stops being readable: the line after
// the longest run of whole lines that godotenv reads.
func brokenLine(text string) int {
	lines := strings.SplitAfter(text, "\n")
	for n := len(lines) - 1; n > 0; n-- {
		if _, err := godotenv.Unmarshal(strings.Join(lines[:n], "")); err == nil {
			return n + 1
		}
	}
	return 1
}
