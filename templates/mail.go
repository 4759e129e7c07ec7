package templates

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"
)

// Mail is a mail to somebody, before it is words. All mails share the frame in mail.html
// and mail.txt; what each says are the texts mail_KIND_subject, …_text (paragraphs), …_action (of
// the link) and …_note in the locales.
type Mail struct {
	Lang string
	// Title and URL are those of the installation; URL is BASE_URL.
	Title, URL string
	// Kind is one of MailKinds.
	Kind string
	// Args are what MailKinds asks for: text, whole numbers and times. Text in them is
	// somebody's choice: see harmless.
	Args map[string]any
	// Code and Link are what it is about; the kind has one of them, both or none. Link is a page
	// below URL.
	Code, Link string
}

// MailKind says what a kind of mail needs.
type MailKind struct {
	Args       []string
	Code, Link bool
}

// MailKinds are all kinds of mails.
var MailKinds = map[string]MailKind{
	// Proof of an address: to sign up, for another address, to sign in.
	"verify":           {[]string{"Minutes"}, true, true},
	"email_change_new": {[]string{"Minutes"}, true, true},
	// Somebody has tried to sign up with an address that has an account already.
	"exists":     {nil, false, true},
	"invitation": {[]string{"Name", "Days"}, false, true},
	// The way back.
	"reset":  {[]string{"Minutes"}, true, true},
	"unlock": {[]string{"Minutes"}, false, true},
	// What has changed. The link leads to where it can be undone.
	"password_changed": {nil, false, true},
	"email_change_old": {[]string{"Address", "Days"}, false, true},
	"email_removed":    {[]string{"Days"}, false, true},
	"email_changed":    {[]string{"Address"}, false, false},
	"email_added":      {[]string{"Address"}, false, true},
	"factor_added":     {[]string{"Factor"}, false, true},
	"factor_removed":   {[]string{"Factor"}, false, true},
	"passkey_copied":   {[]string{"Factor"}, false, true},
	"recovery_used":    {[]string{"Left"}, false, true},
	"signed_out":       {nil, false, true},
	"factors_reset":    {nil, false, true},
	"new_device":       {[]string{"Time", "Browser", "Place"}, false, true},
}

// mailFrames are the two forms of all mails.
type mailFrames struct {
	html *template.Template
	text *texttemplate.Template
}

// framed is what the frames show.
type framed struct {
	Lang, Title, URL, Subject string
	Paragraphs, Notes         []string
	Code                      string
	Link, Action, LinkHint    string
	Footer                    string
}

// parseMail reads the frames. Whatever is wrong with a file of the operator shows now.
func parseMail(files fs.FS) (mailFrames, error) {
	var f mailFrames
	page, err := fs.ReadFile(files, "mail.html")
	if err == nil {
		f.html, err = template.New("mail.html").Parse(string(page))
	}
	if err != nil {
		return f, fmt.Errorf("templates: %w", err)
	}
	plain, err := fs.ReadFile(files, "mail.txt")
	if err == nil {
		f.text, err = texttemplate.New("mail.txt").Funcs(texttemplate.FuncMap{"wrap": wrap}).Parse(string(plain))
	}
	if err != nil {
		return f, fmt.Errorf("templates: %w", err)
	}
	_, _, err = f.fill(framed{Paragraphs: []string{"x"}, Notes: []string{"x"}, Code: "x", Link: "https://example.org/"})
	return f, err
}

func (f mailFrames) fill(x framed) (text, html string, err error) {
	var page, plain bytes.Buffer
	if err := f.html.Execute(&page, x); err != nil {
		return "", "", fmt.Errorf("templates: %w", err)
	}
	if err := f.text.Execute(&plain, x); err != nil {
		return "", "", fmt.Errorf("templates: %w", err)
	}
	return plain.String(), page.String(), nil
}

// Mail writes a mail. An error means that it is not what its kind asks for, or leads to
// somewhere else than this installation: a mistake of the program.
func (s *Set) Mail(m Mail) (subject, text, html string, err error) {
	kind, ok := MailKinds[m.Kind]
	switch {
	case !ok:
		return "", "", "", fmt.Errorf("templates: there is no mail %q", m.Kind)
	case kind.Code != (m.Code != ""), kind.Link != (m.Link != ""):
		return "", "", "", fmt.Errorf("templates: mail %s: code or link are missing, or not wanted", m.Kind)
	case m.Link != "" && !below(m.Link, m.URL):
		return "", "", "", fmt.Errorf("templates: mail %s: its link leads elsewhere", m.Kind)
	}
	views, err := s.views()
	if err != nil {
		return "", "", "", err
	}
	lang := m.Lang
	if _, ok := views.localizers[lang]; !ok {
		lang = fallback
	}
	args := map[string]any{"Title": m.Title}
	for _, name := range kind.Args {
		value, ok := m.Args[name]
		if !ok {
			return "", "", "", fmt.Errorf("templates: mail %s: %s is missing", m.Kind, name)
		}
		switch v := value.(type) {
		case string:
			args[name] = harmless(v)
		case time.Time:
			args[name] = views.date(lang, v) + ", " + v.UTC().Format("15:04") + " UTC"
		default: // as text: none of these texts has plural forms
			args[name] = fmt.Sprint(v)
		}
	}
	say := func(part string) string { return views.catalog.text(lang, "mail_"+part, args) }
	x := framed{
		Lang: lang, Title: m.Title, URL: m.URL, Code: m.Code, Link: m.Link,
		Subject:    oneLine(say(m.Kind + "_subject")),
		Paragraphs: strings.Split(say(m.Kind+"_text"), "\n\n"),
		Footer:     say("footer"),
	}
	if m.Link != "" {
		x.Action, x.LinkHint = say(m.Kind+"_action"), say("link_hint")
	}
	if views.message(lang, "mail_"+m.Kind+"_note") != nil {
		x.Notes = strings.Split(say(m.Kind+"_note"), "\n\n")
	}
	text, html, err = views.mail.fill(x)
	return x.Subject, text, html, err
}

// SMS is a text to a telephone that holds a code.
type SMS struct {
	Lang, Title string
	// Host is that of BASE_URL, without a port: browsers hand the code only to its pages.
	Host, Code string
}

// maxSMSTitle is how many characters of the installation's name are in an SMS, which costs
// by its length.
const maxSMSTitle = 40

// SMS writes the text. Its last line is how browsers find the code (the format of
// origin-bound one-time codes, as WebOTP reads it).
func (s *Set) SMS(m SMS) string {
	title := []rune(oneLine(m.Title))
	if len(title) > maxSMSTitle {
		title = append(title[:maxSMSTitle-1], '…')
	}
	return s.Text(m.Lang, "sms_code", map[string]any{"Code": m.Code, "Title": string(title)}) + "\n\n@" + m.Host + " #" + m.Code
}

// below tells whether a link is a page below base, and nothing that only looks so.
func below(link, base string) bool {
	to, err := url.Parse(link)
	if err != nil || (to.Scheme != "https" && to.Scheme != "http") || to.User != nil {
		return false
	}
	return strings.HasPrefix(link, strings.TrimSuffix(base, "/")+"/")
}

// maxValue is how many characters of a value are in a mail.
const maxValue = 80

// harmless is a text that somebody has chosen, a name or an address, in a form that can do
// no harm in a mail to somebody else: one short line without quotation marks (the words
// around it have some), without characters that change the direction of others, and without anything
// that a mail program would make a link of. "visit evil.example" becomes "visit evil. example".
func harmless(text string) string {
	runes := []rune(oneLine(text))
	if len(runes) > maxValue {
		runes = append(runes[:maxValue-1], '…')
	}
	var b strings.Builder
	for i, r := range runes {
		next := ' '
		if i+1 < len(runes) {
			next = runes[i+1]
		}
		switch {
		case strings.ContainsRune("\"“”„‟«»‹›", r):
			b.WriteRune('\'')
		case r == '<' || r == '>':
			b.WriteRune(' ')
		case r == '@':
			b.WriteString(" @ ")
		case strings.ContainsRune(".。．｡․", r) && unicode.IsLetter(next), r == ':' && next == '/':
			b.WriteRune(r)
			b.WriteRune(' ')
		default:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// oneLine is a text without control characters and invisible ones.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.Join(strings.Fields(text), " ")
}

// lineWidth is how many characters a line of text has (RFC 5322, 2.1.1: 78 at the most).
const lineWidth = 72

// wrap breaks a paragraph into lines. Words that are longer stay whole.
func wrap(text string) string {
	var lines []string
	var line []rune
	for _, word := range strings.Fields(text) {
		w := []rune(word)
		if len(line) > 0 && len(line)+1+len(w) > lineWidth {
			lines, line = append(lines, string(line)), nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		line = slices.Concat(line, w)
	}
	return strings.Join(append(lines, string(line)), "\n")
}
