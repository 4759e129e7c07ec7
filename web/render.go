package web

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"login-server/identity"
	"login-server/templates"
)

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func validText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// contentPolicy is the Content-Security-Policy of all pages, but for the nonce.
// Browsers apply form-action to every redirect that follows a form. A login leads
// to an application, and some applications lead on to another host: were that not
// allowed, the form would just do nothing. Where a login may lead is decided in
// redirectTarget; here only a step from https down to http is limited to what is listed.
func (s *Server) contentPolicy() string {
	targets := append(slices.Clone(s.Config.AllowedOrigins), s.Config.BaseURL.Scheme+":")
	for _, app := range s.Config.Applications {
		targets = append(targets, originOf(app.URL))
	}
	images := []string{"data:"}
	for _, p := range s.Providers.All() {
		images = append(images, originOf(p.Image))
	}
	socket := strings.Replace(s.Config.Origin(), "http", "ws", 1)
	clean := func(list []string) string {
		slices.Sort(list)
		list = slices.Compact(list)
		return strings.TrimSpace(strings.Join(slices.DeleteFunc(list, func(o string) bool { return o == "" }), " "))
	}
	return "default-src 'none'; script-src 'nonce-NONCE'; style-src 'nonce-NONCE' 'self'; img-src 'self' " + clean(images) +
		"; media-src data:; connect-src 'self' " + socket + "; form-action 'self' " + clean(targets) +
		"; manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'"
}

// policyOrigin is the form of the origins that a policy may be widened by. Addresses of
// clients come from whoever registers them, and hosts may have semicolons in them, which
// begin another directive.
var policyOrigin = regexp.MustCompile(`^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)

// picturable tells whether pages may show the picture at an address of a client.
func picturable(raw string) bool { return policyOrigin.MatchString(originOf(raw)) }

// policyFor widens the policy of pages for one that is about clients: by the origins of
// their logos, and by where a form is led on to with the answer, if any.
func policyFor(policy, answer string, logos []string) string {
	for _, logo := range logos {
		if picturable(logo) {
			policy = strings.Replace(policy, "img-src 'self' ", "img-src 'self' "+originOf(logo)+" ", 1)
		}
	}
	target := originOf(answer)
	if u, err := url.Parse(answer); err == nil && u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" {
		target = strings.ToLower(u.Scheme) + ":" // of a native application (RFC 8252, 7.1)
	} else if !policyOrigin.MatchString(target) {
		return policy
	}
	return strings.Replace(policy, "form-action 'self' ", "form-action 'self' "+target+" ", 1)
}

// renderFor answers with a page that is about clients; see policyFor.
func (s *Server) renderFor(w http.ResponseWriter, nonce string, page any, answer string, logos ...string) {
	s.renderUnder(w, http.StatusOK, policyFor(s.policy(nonce), answer, logos), page)
}

func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// render answers with a page. Nothing is written if its template fails.
func (s *Server) render(w http.ResponseWriter, status int, nonce string, page any) {
	s.renderUnder(w, status, s.policy(nonce), page)
}

// renderUnder is render with another Content-Security-Policy than that of all pages.
func (s *Server) renderUnder(w http.ResponseWriter, status int, policy string, page any) {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer buffers.Put(b)
	if err := s.Templates.Render(b, page); err != nil {
		s.renderFailed(w, err)
		return
	}
	s.writeWithPolicy(w, status, policy, b.Bytes())
}

// policy is the Content-Security-Policy of all pages, with the nonce of one.
func (s *Server) policy(nonce string) string {
	return strings.ReplaceAll(s.offered.Load().csp, "NONCE", nonce)
}

// renderFailed answers when a template cannot be executed, not even that of the error page.
func (s *Server) renderFailed(w http.ResponseWriter, err error) {
	s.Log.Error("render page", "request_id", requestID(w), "err", err)
	http.Error(w, "Something went wrong. Request "+requestID(w), http.StatusInternalServerError)
}

func (s *Server) writePage(w http.ResponseWriter, status int, nonce string, body []byte) {
	s.writeWithPolicy(w, status, s.policy(nonce), body)
}

func (s *Server) writeWithPolicy(w http.ResponseWriter, status int, policy string, body []byte) {
	h := w.Header()
	h["Content-Type"] = htmlType
	h["Cache-Control"] = noStore
	// No Cross-Origin-Opener-Policy: applications open /login in a window and close it
	// when they hear loggedIn, for which they must keep hold of it.
	h["Content-Security-Policy"] = []string{policy}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// maxKept is how many rendered pages are kept, and maxKeptKey how long the key of
// one may be.
const (
	maxKept    = 256
	maxKeptKey = 512
)

// keptPages are pages that look the same to everybody who comes with the same key,
// but for the nonce.
type keptPages struct {
	mu    sync.Mutex
	pages *simplelru.LRU[string, [][]byte] // cut where the nonce goes
	mark  string                           // the nonce they were rendered with; nobody else knows it
}

func newKeptPages() *keptPages {
	pages, _ := simplelru.NewLRU[string, [][]byte](maxKept, nil) // fails for sizes below one only
	return &keptPages{pages: pages, mark: newNonce()}
}

// renderKept answers with the page of a key. page makes it with the nonce it is
// given, and is called only if it is not kept.
func (s *Server) renderKept(w http.ResponseWriter, key string, page func(nonce string) any) {
	k := s.offered.Load().kept
	if s.Dev || len(key) > maxKeptKey {
		nonce := newNonce()
		s.render(w, http.StatusOK, nonce, page(nonce))
		return
	}
	k.mu.Lock()
	parts, ok := k.pages.Get(key)
	k.mu.Unlock()
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer buffers.Put(b)
	if !ok {
		if err := s.Templates.Render(b, page(k.mark)); err != nil {
			s.renderFailed(w, err)
			return
		}
		parts = bytes.Split(bytes.Clone(b.Bytes()), []byte(k.mark))
		k.mu.Lock()
		k.pages.Add(key, parts)
		k.mu.Unlock()
		b.Reset()
	}
	nonce := newNonce()
	for i, part := range parts {
		if i > 0 {
			b.WriteString(nonce)
		}
		b.Write(part)
	}
	s.writePage(w, http.StatusOK, nonce, b.Bytes())
}

var htmlType = []string{"text/html; charset=utf-8"}

const langCookie = "login-lang"

// chosenLanguage is what the switch on the page was set to.
func chosenLanguage(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get("lang")
}

// language of the pages: what was chosen in this browser, else the person's choice wherever
// they are, which may be empty, else what the browser asks for.
func (s *Server) language(r *http.Request, chosen string) string {
	choice := chosenLanguage(r)
	if choice == "" {
		if c, err := r.Cookie(langCookie); err == nil {
			choice = c.Value
		}
	}
	if choice == "" {
		choice = chosen
	}
	return s.Templates.Language(choice, r.Header.Get("Accept-Language"))
}

// forgetLanguage takes back what was chosen in this browser.
func (s *Server) forgetLanguage(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{
		Name: langCookie, Path: s.base(), MaxAge: -1,
		HttpOnly: true, Secure: s.Config.BaseURL.Scheme == "https", SameSite: http.SameSiteLaxMode,
	})
}

// speak lets a page answer in the languages that a client asks for (ui_locales), unless
// the person has chosen one in this browser.
func (s *Server) speak(r *http.Request, l *templates.Layout, locales string) {
	if _, err := r.Cookie(langCookie); err == nil || locales == "" || chosenLanguage(r) != "" {
		return
	}
	l.Lang = s.Templates.Language(strings.Join(strings.Fields(locales), ","), l.Lang)
}

// layout is what all pages show. It uses up the messages that wait for the person.
func (s *Server) layout(w http.ResponseWriter, r *http.Request, v visitor) templates.Layout {
	l := templates.Layout{
		Title:      s.Config.Title,
		Lang:       s.language(r, ""),
		Base:       s.base(),
		Nonce:      newNonce(),
		Path:       pathBelow(r),
		ImprintURL: s.Config.ImprintURL,
		PrivacyURL: s.Config.PrivacyURL,
		SourcesURL: s.Config.SourcesURL,
		Dev:        s.Config.Env == "development",
	}
	if v.account != nil {
		l.User, l.Admin = v.account.Name, v.account.Has(identity.RoleAdmin)
		l.Lang = s.language(r, v.account.ChosenLanguage())
		l.Picture, _ = s.picturePaths(*v.account)
	}
	if chosenLanguage(r) != "" {
		http.SetCookie(w, &http.Cookie{
			Name: langCookie, Value: l.Lang, Path: s.base(), MaxAge: int((365 * 24 * time.Hour).Seconds()),
			HttpOnly: true, Secure: s.Config.BaseURL.Scheme == "https", SameSite: http.SameSiteLaxMode,
		})
	}
	return l
}

// pathBelow is the path and query of the page below Base, without the choice of language.
func pathBelow(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if r.URL.RawQuery == "" {
		return path
	}
	query := r.URL.Query()
	query.Del("lang")
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// flash is what one page leaves for the next, in a sealed cookie that lives a few minutes.
type flash struct {
	Messages []templates.Message   `json:"m,omitempty"`
	Field    *templates.FieldError `json:"f,omitempty"`
	// Input is what was typed, to be filled in again; never a password.
	Input   string `json:"i,omitempty"`
	Expires int64  `json:"e"`
}

const flashLife = 5 * time.Minute

func (s *Server) flashName() string { return s.Sessions.CookieName() + "-note" }

func (s *Server) setFlash(w http.ResponseWriter, f flash) {
	f.Expires = s.Clock.Now().Add(flashLife).Unix()
	for range 2 {
		sealed, err := s.sealer.Seal(f)
		if err == nil && len(sealed) <= 3800 {
			s.flashCookie(w, sealed, int(flashLife.Seconds()))
			return
		}
		f.Input = "" // too large for a cookie: what was typed has to be typed again
	}
}

func (s *Server) flashCookie(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: s.flashName(), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.Config.BaseURL.Scheme == "https", SameSite: http.SameSiteLaxMode,
	})
}

// takeFlash returns what the page before has left, once.
func (s *Server) takeFlash(w http.ResponseWriter, r *http.Request) flash {
	var f flash
	c, err := r.Cookie(s.flashName())
	if err != nil || !isDocument(r) {
		return f
	}
	s.flashCookie(w, "", -1)
	if s.sealer.Open(c.Value, &f) != nil || s.Clock.Now().Unix() > f.Expires {
		return flash{}
	}
	return f
}

func note(kind, id string, args map[string]any) flash {
	return flash{Messages: []templates.Message{{Kind: kind, ID: id, Args: args}}}
}

// redirect sends the browser on to a page below Base or to a checked absolute URL.
func redirect(w http.ResponseWriter, target string) error {
	w.Header().Set("Location", target)
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusFound)
	return nil
}

// redirectNoting sends the browser on and leaves a message for the page it arrives at.
func (s *Server) redirectNoting(w http.ResponseWriter, target string, f flash) error {
	s.setFlash(w, f)
	return redirect(w, target)
}

// provider is a provider as pages show it.
func (s *Server) provider(id, query string) templates.Provider {
	p, ok := s.Providers.Get(id)
	if !ok { // linked in former times, not offered any more
		return templates.Provider{ID: id, Name: id}
	}
	view := templates.Provider{ID: p.ID, Name: p.Name, Strategy: p.Strategy, Image: s.image(p), LoginURL: s.path("login/" + p.ID)}
	if query != "" {
		view.LoginURL += "?" + query
	}
	return view
}

// providerName is how a provider is called in messages.
func (s *Server) providerName(id string) string { return s.provider(id, "").Name }

func (s *Server) providerNames(ids []string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = s.providerName(id)
	}
	return strings.Join(names, ", ")
}
