package templates

import (
	"fmt"
	"html"
	"html/template"
	"net/url"
	"regexp"
	"strings"
	"text/template/parse"
	"time"
)

// binder makes templates of one language, below one base.
//
// Templates call {{T "id" "Key" value …}} for a text, with the id as a constant.
// bind puts the text in its place in the parsed template: a text without
// placeholders becomes part of the HTML around it, and
//
//	{{T "continue_to" "Application" .Application}}
//
// with the text "Continue to {{.Application}}" becomes
//
//	Continue to {{.Application}}
//
// which html/template then escapes like everything else. Only texts with plural
// forms are left to be looked up when the page is rendered. {{lang}}, {{base}} and
// {{asset "name"}} become part of the HTML likewise.
type binder struct {
	catalog *catalog
	variant
	path func(name string) string // of a static file, below base
}

// variant is what templates are bound to, apart from the texts.
type variant struct{ lang, base string }

// funcs are the functions that templates may call.
func (b *binder) funcs() template.FuncMap {
	return template.FuncMap{
		// T is a text by its constant id, with keys and values to fill in.
		"T": func(id string, args ...any) (string, error) {
			named, err := pairs(args)
			if err != nil {
				return "", fmt.Errorf("text %q: %w", id, err)
			}
			return b.catalog.text(b.lang, id, named), nil
		},
		// message is the text of a Message.
		"message": func(m Message) string { return b.catalog.text(b.lang, m.ID, m.Args) },
		// errorText is the title, text or action of an error page.
		"errorText": b.errorText,
		// base is Layout.Base; lang is the language of the page, and languages are all there are.
		"base":      func() string { return b.base },
		"lang":      func() string { return b.lang },
		"languages": func() []Language { return b.catalog.languages },
		// inLanguage is the path of the page in another language.
		"inLanguage": b.inLanguage,
		// asset is the path of a static file.
		"asset": b.asset,
		// icon is the picture of a provider.
		"icon": b.icon,
		// at is a path below base, unless it is a full one already.
		"at": b.at,
		// link is the address if it is one that a person may be sent to, else "".
		"link": link,
		// appLink is the same, and allows the schemes of applications on a device.
		"appLink": appLink,
		// otpauth is the address that opens an app for one-time codes; picture is a drawing (SVG) of
		// our own.
		"otpauth": otpauth,
		"picture": func(svg []byte) template.HTML { return template.HTML(svg) },
		// time is a time element, date a day in words.
		"time": func(t time.Time) template.HTML { return template.HTML(b.catalog.timeElement(b.lang, t)) },
		// initial is the first letter of a name.
		"initial": initial,
		// list is names with commas.
		"list": func(names []string) string { return strings.Join(names, ", ") },
	}
}

// bind puts texts and asset paths in the place of the calls for them, in t and
// all templates that belong to it.
func (b *binder) bind(t *template.Template) error {
	for _, t := range t.Templates() {
		if t.Tree == nil {
			continue
		}
		if err := b.list(t.Tree.Root); err != nil {
			return fmt.Errorf("templates: %s: %w", t.Tree.ParseName, err)
		}
	}
	return nil
}

func (b *binder) list(l *parse.ListNode) error {
	if l == nil {
		return nil
	}
	nodes := make([]parse.Node, 0, len(l.Nodes))
	for _, n := range l.Nodes {
		var err error
		switch n := n.(type) {
		case *parse.IfNode:
			err = b.branch(&n.BranchNode)
		case *parse.RangeNode:
			err = b.branch(&n.BranchNode)
		case *parse.WithNode:
			err = b.branch(&n.BranchNode)
		case *parse.ActionNode:
			bound, err := b.action(n)
			if err != nil {
				return err
			}
			nodes = append(nodes, bound...)
			continue
		}
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	l.Nodes = nodes
	return nil
}

func (b *binder) branch(n *parse.BranchNode) error {
	if err := b.list(n.List); err != nil {
		return err
	}
	return b.list(n.ElseList)
}

// action returns what stands in the place of an action: itself, unless it is a
// single call of T, asset, base or lang with constants.
func (b *binder) action(n *parse.ActionNode) ([]parse.Node, error) {
	keep := []parse.Node{n}
	if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 {
		return keep, nil
	}
	args := n.Pipe.Cmds[0].Args
	name, ok := args[0].(*parse.IdentifierNode)
	if !ok {
		return keep, nil
	}
	switch name.Ident {
	case "lang":
		return []parse.Node{text(n, b.lang)}, nil
	case "base":
		return []parse.Node{text(n, b.base)}, nil
	}
	if name.Ident != "T" && name.Ident != "asset" {
		return keep, nil
	}
	if len(args) < 2 {
		return nil, fmt.Errorf("line %d: %s: id is missing", n.Line, n)
	}
	id, ok := args[1].(*parse.StringNode)
	if !ok {
		return nil, fmt.Errorf("line %d: %s: id is not a constant", n.Line, n)
	}
	if name.Ident == "asset" {
		return []parse.Node{text(n, b.asset(id.Text))}, nil
	}
	m := b.catalog.message(b.lang, id.Text)
	if m == nil {
		return nil, fmt.Errorf("line %d: there is no text %q", n.Line, id.Text)
	}
	if !plain(m) {
		return keep, nil
	}
	return b.fill(n, m.Other, args[2:])
}

// placeholder is where a text is filled in.
var placeholder = regexp.MustCompile(`{{\s*\.(\w+)\s*}}`)

// fill makes nodes of a text and the keys and values to put into it.
func (b *binder) fill(n *parse.ActionNode, message string, args []parse.Node) ([]parse.Node, error) {
	values := make(map[string]parse.Node)
	for i := 0; i+1 < len(args); i += 2 {
		key, ok := args[i].(*parse.StringNode)
		if !ok {
			return nil, fmt.Errorf("line %d: %s: key is not a constant", n.Line, n)
		}
		values[key.Text] = args[i+1]
	}
	var nodes []parse.Node
	end := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(message, -1) {
		value, ok := values[message[at[2]:at[3]]]
		if !ok {
			return nil, fmt.Errorf("line %d: %s: nothing given for %s", n.Line, n, message[at[0]:at[1]])
		}
		nodes = append(nodes, text(n, message[end:at[0]]))
		action := n.Copy().(*parse.ActionNode)
		action.Pipe.Cmds[0].Args = []parse.Node{value.Copy()}
		nodes = append(nodes, action)
		end = at[1]
	}
	return append(nodes, text(n, message[end:])), nil
}

// text is HTML text in the place of n. It is escaped for text and for quoted
// attributes, the only places where templates may have texts.
func text(n parse.Node, s string) parse.Node {
	return &parse.TextNode{NodeType: parse.NodeText, Pos: n.Position(), Text: []byte(html.EscapeString(s))}
}

// errorText is a text of an error page: part is "title", "text" or "action". A
// code that has no texts reads like an error of the person or of the server.
func (b *binder) errorText(p ErrorPage, part string) string {
	code := p.Code
	if b.catalog.message(b.lang, "error_"+code+"_title") == nil {
		code = "internal"
		if p.Status >= 400 && p.Status < 500 {
			code = "bad_request"
		}
	}
	return b.catalog.text(b.lang, "error_"+code+"_"+part, nil)
}

// icons are the built-in pictures, by strategy; those of the library goth by the name
// of its provider.
var icons = map[string]string{
	"account":         "account.svg",
	"apple":           "apple.svg",
	"azuread":         "microsoft.svg",
	"azureadv2":       "microsoft.svg",
	"cbs":             "cbs.svg",
	"discord":         "discord.svg",
	"easydb":          "easydb.svg",
	"github":          "github.svg",
	"gitlab":          "gitlab.svg",
	"google":          "google.svg",
	"ldapauth":        "ldap.svg",
	"local":           "local.svg",
	"mediawiki":       "mediawiki.svg",
	"microsoft":       "microsoft.svg",
	"microsoftonline": "microsoft.svg",
	"oidc":            "oidc.svg",
	"orcid":           "orcid.svg",
	"passkey":         "passkey.svg",
	"script":          "script.svg",
	"stackexchange":   "stackexchange.svg",
	"test":            "test.svg",
}

// icon is the address of a provider's picture: its own, or the one of its strategy.
func (b *binder) icon(p Provider) string {
	if link(p.Image) != "" || p.Image != "" && !strings.ContainsRune(p.Image, ':') {
		return b.at(p.Image)
	}
	if p.ID == "wikidata" {
		return b.asset("wikidata.svg")
	}
	name, ok := icons[strings.TrimPrefix(p.Strategy, "goth:")]
	if !ok {
		name = "default.svg"
	}
	return b.asset(name)
}

// asset is the path of a static file.
func (b *binder) asset(name string) string { return b.base + b.path(name) }

// at is path below base. A path from the root and a whole address stay as they are.
func (b *binder) at(path string) string {
	if strings.HasPrefix(path, "/") || strings.Contains(path, ":") {
		return path
	}
	return b.base + path
}

// link is s if it is a web address that a person may follow, else "". Addresses
// come from profiles of other servers.
func link(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return s
}

// inLanguage is the page at path below base, with its language chosen by the
// query. Whatever path is, the link stays below base.
func (b *binder) inLanguage(path, lang string) string {
	path = strings.TrimLeft(path, `/\`)
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == '\\' }) {
		path = ""
	}
	path, query, _ := strings.Cut(path, "?")
	var kept strings.Builder
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair != "" && pair != "lang" && !strings.HasPrefix(pair, "lang=") {
			kept.WriteString(pair)
			kept.WriteByte('&')
		}
	}
	return b.base + path + "?" + kept.String() + "lang=" + lang
}

// initial is the first letter of a name, for the round picture beside it.
func initial(name string) string {
	for _, r := range name {
		return strings.ToUpper(string(r))
	}
	return ""
}

// pairs makes a map of keys and values that follow each other.
func pairs(args []any) (map[string]any, error) {
	named := make(map[string]any, len(args)/2)
	for i := 0; i+1 < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok {
			return nil, fmt.Errorf("key %v is not a string", args[i])
		}
		named[key] = args[i+1]
	}
	return named, nil
}

// appLink is an address that link allows, or one whose scheme is a reverse domain name,
// which no browser gives a meaning of its own (RFC 8252, 7.1); otherwise empty.
func appLink(address string) template.URL {
	if link(address) != "" {
		return template.URL(address)
	}
	if u, err := url.Parse(address); err != nil || !strings.Contains(u.Scheme, ".") {
		return ""
	}
	return template.URL(address)
}

func otpauth(address string) template.URL {
	if u, err := url.Parse(address); err != nil || u.Scheme != "otpauth" {
		return ""
	}
	return template.URL(address)
}
