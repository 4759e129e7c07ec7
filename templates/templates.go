// Package templates is what people see: the pages as html/template files, their
// translations, and the view models that the web room fills in.
//
// A page is a struct of pages.go; its type decides which file renders it
// (LoginPage is login.html). All pages share layout.html and parts.html. Files are
// embedded in the binary; one of the same name in [Options.Dir] takes its place.
//
// Translations are in locales/LANGUAGE.json, in the format of go-i18n. They are
// bound into the templates when these are parsed, once for each page and language that
// somebody asks for, so that rendering looks nothing up; see bind.go. Adding a language
// is adding a file.
package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"sync"
)

//go:embed *.html mail.txt locales/*.json
var embedded embed.FS

// Options say where templates come from and how they refer to static files.
type Options struct {
	// Dir is a folder with files that override the embedded ones; it may not exist.
	Dir string
	// Dev reads templates and translations anew for each page.
	Dev bool
	// Asset is the path of a static file below Layout.Base, with a hash of its
	// content in the query: "static/app.css?v=ab12". Nil means without a hash.
	Asset func(name string) string
}

// Set is all pages in all languages. It is safe for concurrent use.
type Set struct {
	options Options
	files   fs.FS
	loaded  *views // what New has read; with Dev only the fallback
	match   matchCache
}

// views is one reading of the files.
type views struct {
	*catalog
	base func(variant) (*pages, error)
	mail mailFrames

	mu       sync.RWMutex
	variants map[variant]*pages
}

// pages are the templates of the pages in one variant, each parsed when it is first asked for.
type pages struct {
	files  fs.FS
	binder *binder
	base   *template.Template // what all pages share; never executed itself

	mu     sync.RWMutex
	parsed map[reflect.Type]*template.Template
}

// mostVariants are kept: one server has a single base, so this is for tests.
const mostVariants = 100

// pageFiles names the template of each page.
var pageFiles = map[reflect.Type]string{
	reflect.TypeFor[LoginPage]():          "login.html",
	reflect.TypeFor[CredentialsPage]():    "credentials.html",
	reflect.TypeFor[DepartPage]():         "depart.html",
	reflect.TypeFor[ConsentPage]():        "consent.html",
	reflect.TypeFor[ChoosePage]():         "choose.html",
	reflect.TypeFor[DevicePage]():         "device.html",
	reflect.TypeFor[FormPostPage]():       "formpost.html",
	reflect.TypeFor[LeavePage]():          "leave.html",
	reflect.TypeFor[AccountPage]():        "account.html",
	reflect.TypeFor[ProfilePage]():        "profile.html",
	reflect.TypeFor[PasskeysPage]():       "passkeys.html",
	reflect.TypeFor[PasskeyAddPage]():     "passkeyadd.html",
	reflect.TypeFor[PasskeySignUpPage]():  "passkeysignup.html",
	reflect.TypeFor[MergePage]():          "merge.html",
	reflect.TypeFor[SessionsPage]():       "sessions.html",
	reflect.TypeFor[DeletePage]():         "delete.html",
	reflect.TypeFor[LogoutPage]():         "logout.html",
	reflect.TypeFor[ConfirmPage]():        "confirm.html",
	reflect.TypeFor[HelpPage]():           "help.html",
	reflect.TypeFor[APIPage]():            "api.html",
	reflect.TypeFor[ErrorPage]():          "error.html",
	reflect.TypeFor[FactorPage]():         "factor.html",
	reflect.TypeFor[SecurityPage]():       "security.html",
	reflect.TypeFor[AppPage]():            "app.html",
	reflect.TypeFor[PhonePage]():          "phone.html",
	reflect.TypeFor[RecoveryPage]():       "recovery.html",
	reflect.TypeFor[PhoneLoginPage]():     "phonelogin.html",
	reflect.TypeFor[NotMePage]():          "notme.html",
	reflect.TypeFor[SignInPage]():         "signin.html",
	reflect.TypeFor[SignUpPage]():         "signup.html",
	reflect.TypeFor[CodePage]():           "code.html",
	reflect.TypeFor[LinkPage]():           "maillink.html",
	reflect.TypeFor[AskMailPage]():        "askmail.html",
	reflect.TypeFor[PasswordPage]():       "password.html",
	reflect.TypeFor[EmailsPage]():         "emails.html",
	reflect.TypeFor[AdminPage]():          "admin.html",
	reflect.TypeFor[AdminPeoplePage]():    "adminpeople.html",
	reflect.TypeFor[AdminPersonPage]():    "adminperson.html",
	reflect.TypeFor[AdminConfirmPage]():   "adminconfirm.html",
	reflect.TypeFor[AdminInvitePage]():    "admininvite.html",
	reflect.TypeFor[AdminClientsPage]():   "adminclients.html",
	reflect.TypeFor[AdminClientPage]():    "adminclient.html",
	reflect.TypeFor[AdminMessagesPage]():  "adminmessages.html",
	reflect.TypeFor[AdminProvidersPage](): "adminproviders.html",
	reflect.TypeFor[AdminAuditPage]():     "adminaudit.html",
}

// shared are the files that every page is parsed with.
var shared = []string{"layout.html", "parts.html", "passkey.html", "adminparts.html"}

// New reads all templates and translations. The error names the file that cannot
// be used, which can only be one of Options.Dir.
func New(o Options) (*Set, error) {
	if o.Asset == nil {
		o.Asset = func(name string) string { return "static/" + name }
	}
	s := &Set{options: o, files: overlay(o.Dir)}
	loaded, err := s.load()
	if err != nil {
		return nil, err
	}
	if err := s.check(loaded); err != nil {
		return nil, err
	}
	s.loaded = loaded
	return s, nil
}

// check shows whatever is wrong with a file of the operator now and not on a page: it parses
// all pages in all languages, and executes them, for what html/template does not see before.
// The embedded files need no check, tests do it.
func (s *Set) check(loaded *views) error {
	over, ok := s.files.(overlayFS)
	if !ok {
		return nil
	}
	own, err := fs.Glob(over.over, "*.html")
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	texts, err := fs.Glob(over.over, "locales/*.json")
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	if len(own)+len(texts) == 0 {
		return nil
	}
	for _, l := range loaded.languages {
		pages, err := loaded.get(variant{lang: l.Tag, base: "/"})
		if err != nil {
			return err
		}
		for typ := range pageFiles {
			t, err := pages.get(typ)
			if err != nil {
				return err
			}
			err = t.ExecuteTemplate(io.Discard, "layout", reflect.New(typ).Interface())
			if _, ok := errors.AsType[*template.Error](err); ok {
				return fmt.Errorf("templates: %w", err)
			}
		}
	}
	return nil
}

// views returns what to render with: the files as they are now in development,
// and what New has read otherwise.
func (s *Set) views() (*views, error) {
	if s.options.Dev {
		return s.load()
	}
	return s.loaded, nil
}

func (s *Set) load() (*views, error) {
	c, err := loadCatalog(s.options.Dir)
	if err != nil {
		return nil, err
	}
	mail, err := parseMail(s.files)
	if err != nil {
		return nil, err
	}
	return &views{
		catalog:  c,
		mail:     mail,
		base:     func(v variant) (*pages, error) { return s.base(c, v) },
		variants: make(map[variant]*pages),
	}, nil
}

// get returns the pages of a variant.
func (v *views) get(which variant) (*pages, error) {
	v.mu.RLock()
	found, ok := v.variants[which]
	v.mu.RUnlock()
	if ok {
		return found, nil
	}
	made, err := v.base(which)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if other, ok := v.variants[which]; ok {
		return other, nil
	}
	if len(v.variants) < mostVariants {
		v.variants[which] = made
	}
	return made, nil
}

// base reads what all pages of a variant share, with translations and paths bound into it.
func (s *Set) base(c *catalog, v variant) (*pages, error) {
	p := &pages{
		files:  s.files,
		binder: &binder{catalog: c, variant: v, path: s.options.Asset},
		parsed: make(map[reflect.Type]*template.Template),
	}
	p.base = template.New("layout").Funcs(p.binder.funcs())
	if _, err := p.base.ParseFS(p.files, shared...); err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	return p, p.binder.bind(p.base)
}

// get returns the template of a page.
func (p *pages) get(typ reflect.Type) (*template.Template, error) {
	p.mu.RLock()
	t, ok := p.parsed[typ]
	p.mu.RUnlock()
	if ok {
		return t, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.parsed[typ]; ok {
		return t, nil
	}
	t, err := p.base.Clone()
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	if _, err := t.ParseFS(p.files, pageFiles[typ]); err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	if err := p.binder.bind(t); err != nil {
		return nil, err
	}
	p.parsed[typ] = t
	return t, nil
}

// buffers are reused between pages; a page is a few kilobytes.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const largestPooled = 64 << 10

// Render executes the template of page, chosen by its type, in the language of
// its Layout. The page may be a struct or a pointer to one. It is written to w as
// a whole; nothing is written on error.
func (s *Set) Render(w io.Writer, page any) error {
	v := reflect.ValueOf(page)
	if v.Kind() != reflect.Pointer {
		// Templates reach the fields of a pointer without copying the struct.
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p
	}
	typ := v.Type().Elem()
	if _, ok := pageFiles[typ]; !ok {
		return fmt.Errorf("templates: no page for %T", page)
	}
	views, err := s.views()
	if err != nil {
		return err
	}
	l := v.Interface().(common).Common()
	which := variant{lang: l.Lang, base: l.Base}
	if _, ok := views.localizers[which.lang]; !ok {
		which.lang = fallback
	}
	pages, err := views.get(which)
	if err != nil {
		return err
	}
	t, err := pages.get(typ)
	if err != nil {
		return err
	}
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	defer func() {
		if buf.Cap() <= largestPooled {
			buffers.Put(buf)
		}
	}()
	if err := t.ExecuteTemplate(buf, "layout", v.Interface()); err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	_, err = w.Write(buf.Bytes())
	return err
}

// common is what every page has by embedding Layout.
type common interface{ Common() *Layout }

// overlay is the embedded files with those of dir laid over them.
func overlay(dir string) fs.FS {
	if dir == "" {
		return embedded
	}
	return overlayFS{over: os.DirFS(dir), under: embedded}
}

// overlayFS opens a file of over, and of under when over does not have it.
// Folders are merged.
type overlayFS struct{ over, under fs.FS }

func (o overlayFS) Open(name string) (fs.File, error) {
	f, err := o.over.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return o.under.Open(name)
	}
	return f, err
}

func (o overlayFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.under, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	over, err := fs.ReadDir(o.over, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range over {
		entries = slices.DeleteFunc(entries, func(u fs.DirEntry) bool { return u.Name() == e.Name() })
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int {
		if a.Name() < b.Name() {
			return -1
		}
		return 1
	})
	return entries, nil
}

// isJSON tells a file of translations from what else lies in a folder.
func isJSON(name string) bool { return path.Ext(name) == ".json" }
