package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"text/tabwriter"
	"time"

	"login-server/config"
)

// writeLine writes one thing as a line of JSON.
func writeLine(w io.Writer, thing any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(thing)
}

// done says that something was done: text for people, thing with --json.
func (a *app) done(thing any, format string, args ...any) error {
	if a.json {
		return writeLine(a.stdout, thing)
	}
	_, err := fmt.Fprintf(a.stdout, format+"\n", args...)
	return err
}

// list writes things as a table, or with --json as one line each, while they come.
// Without any, it says so to people.
func list[T any](a *app, things iter.Seq2[T, error], none string, titles []string, row func(T) []string) error {
	if a.json {
		for thing, err := range things {
			if err != nil {
				return err
			}
			if err := writeLine(a.stdout, thing); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	empty := true
	for thing, err := range things {
		if err != nil {
			return err
		}
		if empty {
			fmt.Fprintln(w, strings.Join(titles, "\t"))
			empty = false
		}
		cells := row(thing)
		for i, cell := range cells {
			cells[i] = cellText(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if empty {
		fmt.Fprintln(w, none)
	}
	return w.Flush()
}

// details writes names and values below each other.
func details(w io.Writer, pairs ...[2]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(tw, "%s\t%s\n", p[0], cellText(p[1]))
		}
	}
	return tw.Flush()
}

// cellText keeps what others have chosen, such as the name of a browser, from
// moving the cursor, and a table from growing without end.
func cellText(s string) string {
	if s == "" {
		return "-"
	}
	return config.Printable(s)
}

// when is a time for people, in their time zone.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}

// count is a number with its noun: "1 session", "2 sessions".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value, i = value/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}
