package templates

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// example is a mail of a kind with everything that the kind asks for.
func example(kind, lang string) Mail {
	m := Mail{Lang: lang, Title: "Test Login", URL: "https://login.example.org/", Kind: kind, Args: map[string]any{
		"Minutes": 30, "Days": 7, "Left": 1, "Name": "Ada", "Address": "ada@example.org", "Factor": "Passkey", "Browser": "Firefox on Linux",
		"Place": "Göttingen", "Time": time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC),
	}}
	if MailKinds[kind].Code {
		m.Code = "123456"
	}
	if MailKinds[kind].Link {
		m.Link = "https://login.example.org/x?t=secret&more"
	}
	return m
}

func TestMails(t *testing.T) {
	s := newSet(t, Options{})
	used := map[string]bool{"mail_footer": true, "mail_link_hint": true}
	for kind, needs := range MailKinds {
		for _, part := range []string{"subject", "text", "action", "note"} {
			used["mail_"+kind+"_"+part] = part != "action" || needs.Link
		}
		for _, lang := range []string{"en", "de", "xx"} {
			subject, text, page, err := s.Mail(example(kind, lang))
			if err != nil {
				t.Fatal(err)
			}
			if subject == "" || strings.Contains(subject, "_") || strings.Contains(text+page, "mail_") || strings.Contains(text+page, "…") || strings.Contains(text+page, "no value") {
				t.Errorf("%s (%s) is not complete: %s\n%s", kind, lang, subject, text)
			}
			if has := strings.Contains(text, "123456") && strings.Contains(page, "123456"); has != needs.Code {
				t.Errorf("%s: the code is there: %t", kind, has)
			}
			if has := strings.Contains(text, "/x?t=secret&more\n") && strings.Contains(page, `href="https://login.example.org/x?t=secret&amp;more"`); has != needs.Link {
				t.Errorf("%s: the link is there: %t", kind, has)
			}
			for line := range strings.Lines(text) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > lineWidth && !strings.Contains(line, "https://") {
					t.Errorf("%s: a line of %d characters: %s", kind, n, line)
				}
			}
		}
	}
	for id := range s.loaded.messages[fallback] {
		if strings.HasPrefix(id, "mail_") && !used[id] {
			t.Errorf("no mail uses the text %q", id)
		}
	}
}

// A mail loads nothing, has no form and no script, and links to its installation only.
func TestMailLoadsNothing(t *testing.T) {
	s := newSet(t, Options{})
	for kind := range MailKinds {
		_, _, page, err := s.Mail(example(kind, "en"))
		if err != nil {
			t.Fatal(err)
		}
		z := html.NewTokenizer(strings.NewReader(page))
		for z.Next() != html.ErrorToken {
			tok := z.Token()
			if slices.Contains([]string{"script", "img", "link", "form", "input", "iframe", "object", "base", "svg"}, tok.Data) {
				t.Errorf("%s has a <%s>", kind, tok.Data)
			}
			for _, a := range tok.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "src" || strings.Contains(a.Val, "url(") || a.Key == "href" && !strings.HasPrefix(a.Val, "https://login.example.org/") {
					t.Errorf("%s: %s=%q", kind, a.Key, a.Val)
				}
			}
		}
	}
}

// Whoever chooses a name puts no link, no markup and no line into somebody's mail.
func TestMailNames(t *testing.T) {
	s := newSet(t, Options{})
	for name, want := range map[string]string{
		"Ada Lovelace":                "Ada Lovelace",
		"J. R. R. Tolkien":            "J. R. R. Tolkien",
		"Firefox 120.0, 203.0.113.7":  "Firefox 120.0, 203.0.113.7",
		"visit evil.example":          "visit evil. example",
		"https://evil.example/x?y":    "https: //evil. example/x?y",
		"evil。example":                "evil。 example",
		"ben@evil.example":            "ben @ evil. example",
		`<a href="//evil">click</a>`:  "a href='//evil' click /a",
		"Ada” – your code: “1":        "Ada' – your code: '1",
		"Ada\r\nBcc: ben@example.org": "Ada Bcc: ben @ example. org",
		"\u202eada\u2066\x00\ufeff":   "ada",
		"{{.Title}} {{printf `x`}}":   "{{. Title}} {{printf `x`}}",
		"\xff\xfe":                    "",
		strings.Repeat("a", 10<<20):   strings.Repeat("a", maxValue-1) + "…",
	} {
		if got := harmless(name); got != want {
			t.Errorf("%.40q became %.200q, want %q", name, got, want)
		}
		m := example("invitation", "en")
		m.Args["Name"] = name
		subject, text, page, err := s.Mail(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{subject, text, page} {
			if strings.Contains(part, "evil.example") || strings.Contains(part, "//evil\"") || strings.Contains(part, "\nBcc:") || strings.Contains(part, "<a href=\"//") || len(part) > 10_000 {
				t.Errorf("%.40q: %.2000s", name, part)
			}
		}
		if strings.Count(page, "<a ") != 2 {
			t.Errorf("%.40q: %d links", name, strings.Count(page, "<a "))
		}
	}
}

// What is no mail of this installation is a mistake, and none is written.
func TestMailMistakes(t *testing.T) {
	s := newSet(t, Options{})
	for what, change := range map[string]func(*Mail){
		"kind":     func(m *Mail) { m.Kind = "spam" },
		"argument": func(m *Mail) { m.Args = maps.Clone(m.Args); delete(m.Args, "Minutes") },
		"code":     func(m *Mail) { m.Code = "" },
		"link":     func(m *Mail) { m.Link = "" },
		"host":     func(m *Mail) { m.Link = "https://login.example.org.evil.example/" },
		"user":     func(m *Mail) { m.Link = "https://login.example.org@evil.example/" },
		"scheme":   func(m *Mail) { m.Link = "javascript:https://login.example.org/" },
		"relative": func(m *Mail) { m.Link = "/reset" },
	} {
		m := example("verify", "en")
		change(&m)
		if _, text, _, err := s.Mail(m); err == nil || text != "" {
			t.Errorf("a mail with another %s is written", what)
		}
	}
}

func TestSMS(t *testing.T) {
	s := newSet(t, Options{})
	if got, want := s.SMS(SMS{"en", "Test Login", "login.example.org", "123456"}), "123456 is your code for Test Login. It is valid for 5 minutes.\n\n@login.example.org #123456"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.SMS(SMS{"de", strings.Repeat("Ein langer Name\n", 10), "login.example.org", "123456"}); utf8.RuneCountInString(got) > 160 || strings.Count(got, "\n") != 2 {
		t.Errorf("got %q", got)
	}
}
