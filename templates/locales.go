package templates

import (
	"errors"
	"fmt"
	"html"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

// fallback is the language of everything that is not translated.
const fallback = "en"

// Language is one that the pages are translated to.
type Language struct {
	Tag  string // BCP 47, such as "de"
	Name string // in itself, such as "Deutsch"
}

// catalog is all translations.
type catalog struct {
	languages  []Language
	matcher    language.Matcher
	localizers map[string]*i18n.Localizer
	messages   map[string]map[string]*i18n.Message // by language and id
}

// loadCatalog reads the embedded translations, then those of dir: a file there
// adds a language, or replaces single texts of one that is built in.
func loadCatalog(dir string) (*catalog, error) {
	c := &catalog{
		localizers: make(map[string]*i18n.Localizer),
		messages:   make(map[string]map[string]*i18n.Message),
	}
	bundle := i18n.NewBundle(language.MustParse(fallback))
	if err := c.read(bundle, embedded); err != nil {
		return nil, err
	}
	if dir != "" {
		if err := c.read(bundle, os.DirFS(dir)); err != nil {
			return nil, err
		}
	}
	var tags []language.Tag
	for _, tag := range bundle.LanguageTags() {
		lang := tag.String()
		if c.messages[lang] == nil || slices.Contains(tags, tag) {
			continue
		}
		tags = append(tags, tag)
		c.localizers[lang] = i18n.NewLocalizer(bundle, lang)
		name := lang
		if m := c.messages[lang]["language_name"]; m != nil {
			name = m.Other
		}
		c.languages = append(c.languages, Language{Tag: lang, Name: name})
	}
	// The matcher takes the first language when none fits; the fallback is first in the bundle.
	c.matcher = language.NewMatcher(tags)
	return c, nil
}

func (c *catalog) read(bundle *i18n.Bundle, files fs.FS) error {
	entries, err := fs.ReadDir(files, "locales")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || !isJSON(e.Name()) {
			continue
		}
		name := "locales/" + e.Name()
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("templates: %w", err)
		}
		file, err := bundle.ParseMessageFileBytes(text, e.Name())
		if err != nil {
			return fmt.Errorf("templates: %s: %w", name, err)
		}
		lang := file.Tag.String()
		if c.messages[lang] == nil {
			c.messages[lang] = make(map[string]*i18n.Message)
		}
		for _, m := range file.Messages {
			c.messages[lang][m.ID] = m
		}
	}
	return nil
}

// message is the text of id in lang, or else in the fallback language, or nil.
func (c *catalog) message(lang, id string) *i18n.Message {
	if m := c.messages[lang][id]; m != nil {
		return m
	}
	return c.messages[fallback][id]
}

// plain tells that a message has no plural forms.
func plain(m *i18n.Message) bool {
	return m.Zero == "" && m.One == "" && m.Two == "" && m.Few == "" && m.Many == ""
}

// text is the text of id in lang with args filled in. A number among args decides
// the plural form. An unknown id is its own text, so that a page still renders.
func (c *catalog) text(lang, id string, args map[string]any) string {
	m := c.message(lang, id)
	if m == nil {
		return id
	}
	if plain(m) && !strings.Contains(m.Other, "{{") {
		return m.Other
	}
	l := c.localizers[lang]
	if l == nil {
		l = c.localizers[fallback]
	}
	if args == nil {
		args = map[string]any{}
	}
	// On an error, such as a text missing in lang, there is still the fallback's text.
	text, _ := l.Localize(&i18n.LocalizeConfig{MessageID: id, TemplateData: args, PluralCount: count(args)})
	if text == "" {
		return id
	}
	return strings.ReplaceAll(text, "<no value>", "…")
}

// count is the number among args, if there is one: messages have at most one.
// Numbers that have been through JSON are floats.
func count(args map[string]any) any {
	for _, v := range args {
		switch n := v.(type) {
		case int, int64:
			return n
		case float64:
			return int64(n)
		}
	}
	return nil
}

// date writes a day in lang, such as "21 November 2026". Month names and their
// order are part of the translations.
func (c *catalog) date(lang string, t time.Time) string {
	t = t.UTC()
	return c.text(lang, "date", map[string]any{
		"Day":   strconv.Itoa(t.Day()),
		"Month": c.text(lang, "month_"+strconv.Itoa(int(t.Month())), nil),
		"Year":  strconv.Itoa(t.Year()),
	})
}

// timeElement writes a moment as a time element; the browser shows it in local
// time when scripts run. The zero time is a dash.
func (c *catalog) timeElement(lang string, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	return `<time datetime="` + t.Format(time.RFC3339) + `">` +
		html.EscapeString(c.date(lang, t)+", "+t.Format("15:04")) + ` UTC</time>`
}

// Text is the translation of id in lang, with args filled in.
func (s *Set) Text(lang, id string, args map[string]any) string {
	return s.current().text(lang, id, args)
}

// Languages are those that there are translations for, English first.
func (s *Set) Languages() []Language {
	return slices.Clone(s.current().languages)
}

// current is the catalogue to answer from; in development a broken file leaves
// the one that was read at the start.
func (s *Set) current() *catalog {
	if !s.options.Dev {
		return s.loaded.catalog
	}
	c, err := loadCatalog(s.options.Dir)
	if err != nil {
		return s.loaded.catalog
	}
	return c
}

// Language picks the best language that there are translations for: what the
// person has chosen, else what the browser asks for, else English.
func (s *Set) Language(choice, acceptLanguage string) string {
	if _, ok := s.loaded.localizers[choice]; ok && !s.options.Dev {
		return choice
	}
	if s.options.Dev {
		return s.current().best(choice, acceptLanguage)
	}
	return s.match.get(choice, acceptLanguage, s.loaded.best)
}

func (c *catalog) best(choice, acceptLanguage string) string {
	if _, ok := c.localizers[choice]; ok {
		return choice
	}
	_, i := language.MatchStrings(c.matcher, choice, acceptLanguage)
	return c.languages[i].Tag
}

// matchCache remembers answers: matching takes microseconds, and browsers send
// few different headers. It is emptied when full, so that nobody can grow it.
type matchCache struct {
	mu   sync.RWMutex
	best map[[2]string]string
}

const (
	longestHeader = 200 // of an Accept-Language that is looked at
	mostMatches   = 500
)

func (m *matchCache) get(choice, header string, match func(choice, header string) string) string {
	if len(choice) > longestHeader {
		choice = ""
	}
	if len(header) > longestHeader {
		header = header[:strings.LastIndexByte(header[:longestHeader], ',')+1]
	}
	key := [2]string{choice, header}
	m.mu.RLock()
	best, ok := m.best[key]
	m.mu.RUnlock()
	if ok {
		return best
	}
	best = match(choice, header)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.best == nil || len(m.best) >= mostMatches {
		m.best = make(map[[2]string]string)
	}
	m.best[key] = best
	return best
}
