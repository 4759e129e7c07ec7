package web

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"login-server/templates"
)

func newNonce() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func validText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// contentPolicy is the Content-Security-Policy of all pages, but for the nonce.
// Browsers apply form-action to the redirect that follows a form, so it names
// every origin that a login may lead to.
func (s *Server) contentPolicy() string {
	targets := slices.Clone(s.Config.AllowedOrigins)
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
		"; connect-src 'self' " + socket + "; form-action 'self' " + clean(targets) +
		"; manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'"
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
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, nonce string, page any) {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer buffers.Put(b)
	if err := s.Templates.Render(b, page); err != nil {
		s.Log.Error("render page", "request_id", requestID(r), "err", err)
		http.Error(w, "Something went wrong. Request "+requestID(r), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h["Content-Type"] = htmlType
	h["Cache-Control"] = noStore
	h["Cross-Origin-Opener-Policy"] = referrer
	h["Content-Security-Policy"] = []string{strings.ReplaceAll(s.csp, "NONCE", nonce)}
	h["Content-Length"] = []string{strconv.Itoa(b.Len())}
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

var htmlType = []string{"text/html; charset=utf-8"}

const langCookie = "login-lang"

// language of the pages: the person's choice, else what the browser asks for.
func (s *Server) language(r *http.Request) string {
	choice := r.URL.Query().Get("lang")
	if choice == "" {
		if c, err := r.Cookie(langCookie); err == nil {
			choice = c.Value
		}
	}
	return s.Templates.Language(choice, r.Header.Get("Accept-Language"))
}

// layout is what all pages show. It uses up the messages that wait for the person.
func (s *Server) layout(w http.ResponseWriter, r *http.Request, v visitor) templates.Layout {
	l := templates.Layout{
		Title:      s.Config.Title,
		Lang:       s.language(r),
		Base:       s.base(),
		Nonce:      newNonce(),
		Path:       pathBelow(r),
		ImprintURL: s.Config.ImprintURL,
		PrivacyURL: s.Config.PrivacyURL,
		SourcesURL: s.Config.SourcesURL,
		Dev:        s.Config.Env == "development",
	}
	if v.account != nil {
		l.User = v.account.Name
	}
	if chosen := r.URL.Query().Get("lang"); chosen != "" {
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
	sealed, err := s.sealer.Seal(f)
	if err != nil || len(sealed) > 3800 {
		return // a message too large for a cookie is one that a page must do without
	}
	s.flashCookie(w, sealed, int(flashLife.Seconds()))
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
