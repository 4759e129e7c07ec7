package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
)

// Problem is one complaint about what an operator has written. It names the place
// and the way out, and never shows a secret.
type Problem struct {
	// File is the file as the operator knows it (.env, providers.json), or
	// "environment" for a variable of the process.
	File string
	// Entry names the entry of a list: "my-ldap (entry 3)". May be empty.
	Entry string
	// Field is the setting, or the path to it within the entry: options.server.url.
	Field string
	// Text says what was found and why it cannot stay.
	Text string
	// Remedy says what to write instead, as a command: "write 30". May be empty.
	Remedy string
}

// String is one line: file: entry: field: text; remedy.
func (p Problem) String() string {
	var parts []string
	for _, part := range []string{p.File, p.Entry, p.Field, p.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	line := strings.Join(parts, ": ")
	if p.Remedy != "" {
		line += "; " + p.Remedy
	}
	return line
}

// Problems is everything that keeps the server from starting, in the order of the
// files. It is the only error that Load and providers.Open return.
type Problems struct{ Problems []Problem }

// Error is the whole message as it stands on the terminal, one line per problem.
func (e *Problems) Error() string {
	noun := "problems"
	if len(e.Problems) == 1 {
		noun = "problem"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "login-server: %d %s, not started", len(e.Problems), noun)
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		b.WriteString(p.String())
	}
	return b.String()
}

// Join makes one *Problems of what several rooms found, so that an operator sees
// all of it at once. Errors of another type become problems of their own; nil is
// left out, and nothing but nil gives nil.
func Join(errs ...error) error {
	var all []Problem
	for _, err := range errs {
		if err == nil {
			continue
		}
		if ps, ok := errors.AsType[*Problems](err); ok {
			all = append(all, ps.Problems...)
			continue
		}
		all = append(all, Problem{Text: err.Error()})
	}
	return problemsOrNil(all)
}

// problemsOrNil keeps a nil *Problems from becoming an error that is not nil.
func problemsOrNil(list []Problem) error {
	if len(list) == 0 {
		return nil
	}
	return &Problems{Problems: list}
}

// Quote shows a value that is no secret: shortened, in quotes, without characters
// that could move a terminal's cursor.
func Quote(value string) string {
	const limit = 80
	runes := []rune(strings.ToValidUTF8(value, "�"))
	if len(runes) > limit {
		runes = append(runes[:limit], '…')
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range runes {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// QuoteURL is Quote for a value that should be a URL: what may be a user name and a
// password in it is left out.
func QuoteURL(value string) string {
	if at := strings.LastIndexByte(value, '@'); at >= 0 {
		scheme := ""
		if i := strings.Index(value, "//"); i >= 0 && i < at {
			scheme = value[:i+2]
		}
		value = scheme + "…" + value[at:]
	}
	return Quote(value)
}

// Reason is what the system says, without the path that the message has already.
func Reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f || 0x80 <= r && r < 0xa0 }

// Nearest is the candidate that somebody who wrote name has probably meant, if there
// is one: equal but for case, dashes and underscores, one or two letters away, or the
// only one that begins with name.
func Nearest(name string, candidates []string) (string, bool) {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	best, bestDistance := "", 3
	short := plain(name)
	var longer []string
	for _, c := range candidates {
		if len(short) >= 4 && strings.HasPrefix(plain(c), short) {
			longer = append(longer, c)
		}
		if d := distance(short, plain(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	// In short names two letters are another word.
	if bestDistance > 2 || bestDistance == 2 && len(short) < 6 || bestDistance == 1 && len(short) < 3 {
		best = ""
	}
	if best == "" && len(longer) == 1 {
		best = longer[0]
	}
	return best, best != ""
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) > 3 || len(y)-len(x) > 3 {
		return 4 // far enough for Nearest, and long input stays cheap
	}
	before, prev, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(y)]
}

// didYouMean is the remedy for an unknown name.
func didYouMean(name string, candidates []string, otherwise string) string {
	if near, ok := Nearest(name, candidates); ok {
		return "did you mean " + near + "?"
	}
	return otherwise
}
