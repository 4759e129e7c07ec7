package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const maxListFile = 16 << 20

// shown is a path as the operator wrote it, more or less: relative to the working
// directory when it lies in it.
func (l *loader) shown(path string) string {
	if rel, err := filepath.Rel(l.dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// readList reads a file that holds a JSON list and returns the text of its entries.
// found is false when there is no such file.
func (l *loader) readList(path string) (entries []json.RawMessage, found bool) {
	file := l.shown(path)
	add := func(field, text, remedy string) {
		l.problems = append(l.problems, Problem{File: file, Field: field, Text: text, Remedy: remedy})
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false
	case err != nil:
		add("", "cannot be read ("+Reason(err)+")", "let this program read it")
		return nil, true
	case len(data) > maxListFile:
		add("", "is larger than 16 MiB", "keep only the list in it")
		return nil, true
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if p, bad := checkSyntax(data); bad {
		add(p.Field, p.Text, p.Remedy)
		return nil, true
	}
	if err := json.Unmarshal(data, &entries); err != nil || bytes.TrimSpace(data)[0] != '[' {
		add("", "is not a list", "write [ … ] around the entries")
		return nil, true
	}
	return entries, true
}

// providerID is what can stand in a path, in a file name and in a JSON object of
// identities without being escaped.
var providerID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (l *loader) providers() {
	c := l.cfg
	entries, found := l.readList(c.ProvidersPath)
	if !found {
		text, remedy := Quote(l.shown(c.ProvidersPath))+" does not exist: nobody could sign in", "write the file, the README shows an example"
		if c.Production() {
			l.problem("PROVIDERS_PATH", text, remedy)
		} else {
			l.warn("PROVIDERS_PATH", text, remedy)
		}
		return
	}
	file := l.shown(c.ProvidersPath)
	ids := map[string]int{} // in lower case → entry
	for i, raw := range entries {
		p := Provider{File: file, Entry: i + 1}
		bad := Decode(raw, "", &p)
		add := func(field, text, remedy string) { bad = append(bad, Problem{Field: field, Text: text, Remedy: remedy}) }
		given := func(field string) bool {
			return slices.ContainsFunc(bad, func(b Problem) bool { return b.Field == field })
		}
		switch {
		case given("id") || bytes.TrimSpace(raw)[0] != '{':
		case p.ID == "":
			add("id", "is missing", "write a short name that is used in URLs")
		case !providerID.MatchString(p.ID) || len(p.ID) > 64:
			add("id", Quote(p.ID)+" cannot stand in a URL", "write letters, digits, dots, dashes and underscores, at most 64, a letter or a digit first")
		default:
			lower := strings.ToLower(p.ID)
			if first, double := ids[lower]; double {
				add("id", fmt.Sprintf("%s is also the id of entry %d", Quote(p.ID), first), "write another id")
			} else {
				ids[lower] = i + 1
			}
		}
		if p.Strategy == "" && !given("strategy") && bytes.TrimSpace(raw)[0] == '{' {
			add("strategy", "is missing", `write how people prove who they are, such as "local" or "ldapauth"`)
		}
		switch {
		case given("name") || bytes.TrimSpace(raw)[0] != '{':
		case strings.TrimSpace(p.Name) == "":
			add("name", "is missing", "write the name that people see on the login page")
		case len(p.Name) > 200 || strings.ContainsFunc(p.Name, isControl):
			add("name", "is longer than 200 bytes or has control characters", "write a short name")
		}
		if p.Template != "" {
			if text, remedy := checkTemplate(p.Template); text != "" {
				add("template", text, remedy)
			}
		}
		if p.Image != "" && !goodImage(p.Image) {
			add("image", QuoteURL(p.Image)+" is neither an http(s) URL nor a path below static/", "write https://… or static/"+p.suggestedImage())
		}
		if p.URL != "" {
			if _, err := strictURL(p.URL); err != nil {
				add("url", QuoteURL(p.URL)+" "+err.Error(), "write https://…")
			}
		}
		if p.Demo && !p.Disabled && c.Production() {
			add("demo", "everybody knows how to sign in with a demo provider, so that it cannot run in production", `remove the entry, or write "disabled": true`)
		}
		for _, b := range bad {
			l.problems = append(l.problems, p.Problem(b.Field, b.Text, b.Remedy))
		}
		c.Providers = append(c.Providers, p)
	}
	if !slices.ContainsFunc(c.Providers, func(p Provider) bool { return !p.Disabled }) && len(l.problems) == 0 {
		l.warnings = append(l.warnings, Problem{File: file, Text: "no provider is enabled: nobody can sign in", Remedy: `remove "disabled" from one`}.String())
	}
}

// Problem is a complaint about this entry.
func (p Provider) Problem(field, text, remedy string) Problem {
	entry := fmt.Sprintf("entry %d", p.Entry)
	if p.ID != "" {
		entry = fmt.Sprintf("%s (entry %d)", Printable(p.ID), p.Entry)
	}
	return Problem{File: p.File, Entry: entry, Field: field, Text: text, Remedy: remedy}
}

func (p Provider) suggestedImage() string {
	if providerID.MatchString(p.ID) {
		return p.ID + ".svg"
	}
	return "name.svg"
}

var staticImage = regexp.MustCompile(`^static(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`)

func goodImage(image string) bool {
	if staticImage.MatchString(image) {
		return true
	}
	_, err := strictURL(image)
	return err == nil
}

// TemplateFields are the placeholders of a template.
var TemplateFields = []string{"id", "username", "name"}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// checkTemplate: a template begins with a scheme of its own, so that no user name
// can choose one.
func checkTemplate(template string) (text, remedy string) {
	for _, m := range placeholder.FindAllStringSubmatch(template, -1) {
		if !slices.Contains(TemplateFields, m[1]) {
			return "has the unknown placeholder " + Quote(m[0]), didYouMean(m[1], TemplateFields, "write {id}, {username} or {name}")
		}
	}
	plain := placeholder.ReplaceAllString(template, "x")
	switch {
	case strings.ContainsAny(plain, "{}"):
		return Quote(template) + " has a brace without its other half", "write {id}, {username} or {name}"
	case plain == template:
		return Quote(template) + " has no placeholder: everybody would get the same URI", "write {id} into it"
	case strings.HasPrefix(template, "{"):
		return Quote(template) + " begins with a placeholder", "write a scheme first, such as https://"
	}
	if err := SafeURI(plain); err != nil {
		return Quote(template) + " " + err.Error(), "write https://…/{id}"
	}
	return "", ""
}

// SafeURI tells what is wrong with the URI of an identity. Any scheme may name
// somebody (cbs:123, urn:…), except those that a browser would execute or open
// from the disk when somebody clicks.
func SafeURI(uri string) error {
	if uri == "" || len(uri) > maxURL || strings.ContainsFunc(uri, func(r rune) bool { return isControl(r) || r == ' ' || r == '\\' || r == '"' || r == '<' || r == '>' }) {
		return errors.New("has spaces, control characters or quotes in it")
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return errors.New("is not a URI")
	case u.Scheme == "":
		return errors.New("has no scheme")
	}
	switch u.Scheme {
	case "javascript", "data", "vbscript", "blob", "file", "filesystem", "view-source", "about":
		return errors.New("has the dangerous scheme " + u.Scheme + ":")
	case "http", "https":
		if u.Host == "" {
			return errors.New("has no host")
		}
		if u.User != nil {
			return errors.New("contains a user name or a password")
		}
	}
	return nil
}

func (l *loader) applications(given bool) {
	c := l.cfg
	entries, found := l.readList(c.ApplicationsPath)
	if !found {
		if given {
			l.problem("APPLICATIONS_PATH", Quote(l.shown(c.ApplicationsPath))+" does not exist", "write the path of a file, or remove the setting")
		}
		return
	}
	file := l.shown(c.ApplicationsPath)
	for i, raw := range entries {
		app := Application{File: file, Entry: i + 1, Dir: c.Dir}
		bad := Decode(raw, "", &app)
		if len(bad) == 0 {
			if app.URL == "" {
				bad = append(bad, Problem{Field: "url", Text: "is missing", Remedy: "write the URL under which the application runs"})
			} else if u, err := strictURL(app.URL); err != nil {
				remedy := "write https://…"
				if !strings.Contains(app.URL, ":") {
					remedy = "write https://" + strings.TrimLeft(app.URL, "/")
				}
				bad = append(bad, Problem{Field: "url", Text: QuoteURL(app.URL) + " " + err.Error(), Remedy: remedy})
			} else if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
				bad = append(bad, Problem{Field: "url", Text: QuoteURL(app.URL) + " has a query or a fragment", Remedy: "write only scheme, host and path"})
			} else {
				app.URL = u.String()
			}
			switch {
			case app.Name != "" && app.ClientName != "" && app.Name != app.ClientName:
				bad = append(bad, Problem{Field: "client_name", Text: "is not the same as name", Remedy: "remove one of them"})
			case app.Name == "":
				app.Name = app.ClientName
			}
			switch {
			case strings.TrimSpace(app.Name) == "":
				bad = append(bad, Problem{Field: "name", Text: "is missing", Remedy: "write the name that people know the application by"})
			case len(app.Name) > 200 || strings.ContainsFunc(app.Name, isControl):
				bad = append(bad, Problem{Field: "name", Text: "is longer than 200 bytes or has control characters", Remedy: "write a short name"})
			}
		}
		for _, b := range bad {
			l.problems = append(l.problems, app.Problem(b.Field, b.Text, b.Remedy))
		}
		if len(bad) > 0 {
			// Keep the places of the others: problems of the order are found all the same.
			c.Applications = append(c.Applications, Application{Name: app.Name})
			continue
		}
		u, _ := strictURL(app.URL)
		for j, earlier := range c.Applications {
			switch {
			case earlier.URL == app.URL:
				l.problems = append(l.problems, app.Problem("url", fmt.Sprintf("is also the url of entry %d", j+1), "remove one of them"))
			case earlier.URL != "" && under(u, earlier.URL):
				l.warnings = append(l.warnings, app.Problem("url",
					fmt.Sprintf("is hidden by entry %d, whose url is less specific and comes first", j+1), "put this entry before it").String())
			}
		}
		c.Applications = append(c.Applications, app)
	}
	c.Applications = slices.DeleteFunc(c.Applications, func(a Application) bool { return a.URL == "" })
}
