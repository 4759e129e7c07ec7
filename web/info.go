package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/providers"
	"login-server/store"
	"login-server/templates"
)

// mountInfo are the answers that are the same for everybody, and the pages that explain.
func (s *Server) mountInfo(r chi.Router) {
	r.Get("/about", s.api(s.getAbout))
	r.Get("/providers", s.api(s.getProviders))
	r.Get("/help", s.page(s.help))
	r.Get("/api", s.page(s.apiPage))
}

// getAbout serves GET /about, with 200 even when the database is away (ok: 0).
func (s *Server) getAbout(w http.ResponseWriter, r *http.Request) error {
	writeBody(w, s.about.get(r.Context()))
	return nil
}

// getProviders serves GET /providers.
func (s *Server) getProviders(w http.ResponseWriter, _ *http.Request) error {
	writeBody(w, s.offered.Load().json)
	return nil
}

// publicProvider is a provider as clients see it.
type publicProvider struct {
	ID                   string `json:"id"`
	Strategy             string `json:"strategy"`
	Name                 string `json:"name"`
	CredentialsNecessary bool   `json:"credentialsNecessary"`
	Image                string `json:"image,omitempty"`
	URL                  string `json:"url,omitempty"`
	LoginURL             string `json:"loginURL"`
}

func (s *Server) publicProviders() (json.RawMessage, error) {
	list := []publicProvider{}
	for _, p := range s.Providers.All() {
		list = append(list, publicProvider{
			ID: p.ID, Strategy: p.Strategy, Name: p.Name, CredentialsNecessary: p.CredentialsNecessary,
			Image: s.image(p), URL: p.URL, LoginURL: s.Config.BaseURL.String() + "login/" + url.PathEscape(p.ID),
		})
	}
	return json.Marshal(list)
}

// image is the absolute URL of a provider's picture: the one in the file, or one
// among the static files that is named after the provider. Without either it is
// empty, and pages show the icon of the strategy.
func (s *Server) image(p *providers.Provider) string {
	image := p.Image
	if image == "" {
		for _, ending := range []string{".svg", ".png", ".jpg"} {
			if s.Static.Has(p.ID + ending) {
				image = "static/" + p.ID + ending
				break
			}
		}
	}
	if image == "" || strings.HasPrefix(image, "http://") || strings.HasPrefix(image, "https://") {
		return image
	}
	return s.Config.BaseURL.String() + strings.TrimPrefix(image, "/")
}

// about keeps the answer of GET /about ready: counting is not for every request.
type about struct {
	server *Server
	// stale: the counts have changed. Not under mu, for whoever says so must not wait
	// for a count.
	stale atomic.Bool

	mu       sync.Mutex
	body     []byte
	made     time.Time
	counted  int // accounts and sessions, the last time
	counting bool
	renewals int // of what it says besides counts
}

const (
	// aboutAge is how long /about may not know of a database that has gone away, and
	// of what another process has written.
	aboutAge = time.Second
	// quickCount is how many accounts and sessions are counted while a request waits.
	quickCount = 20_000
)

// touch notes that the counts have changed.
func (a *about) touch() { a.stale.Store(true) }

// get returns the answer. On a large store, where counting takes its time, it
// returns the last one and counts in the background.
func (a *about) get(ctx context.Context) []byte {
	now := a.server.Clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.body != nil && !a.stale.Load() && now.Sub(a.made) < aboutAge || a.counting {
		return a.body
	}
	a.stale.Store(false)
	if a.body != nil && a.counted > quickCount {
		a.counting = true
		renewals := a.renewals
		go func() {
			body, counted := a.server.makeAbout(context.Background())
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.counting = false; renewals == a.renewals { // else it may tell the former key
				a.body, a.counted, a.made = body, counted, now
			}
		}()
		return a.body
	}
	a.renewLocked(ctx, now)
	return a.body
}

func (a *about) renewLocked(ctx context.Context, now time.Time) {
	a.body, a.counted = a.server.makeAbout(context.WithoutCancel(ctx))
	a.made = now
}

// renew makes the answer anew at once, after what it says besides counts has changed.
func (a *about) renew(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.renewals++
	a.renewLocked(ctx, a.server.Clock.Now())
}

type aboutBody struct {
	Title          string            `json:"title"`
	Env            string            `json:"env"`
	Version        string            `json:"version"`
	BaseURL        string            `json:"baseUrl"`
	URLs           map[string]string `json:"urls"`
	AllowedDomains []string          `json:"allowedDomains"`
	PublicKey      string            `json:"publicKey"`
	Algorithm      string            `json:"algorithm"`
	CookieMaxDays  int               `json:"cookieMaxDays"`
	Statistics     statistics        `json:"statistics"`
	OK             int               `json:"ok"`
}

type statistics struct {
	UserCount           int            `json:"userCount"`
	UserCountByProvider map[string]int `json:"userCountByProvider"`
	SessionCount        int            `json:"sessionCount"`
}

// makeAbout returns the answer of GET /about, and how much was counted for it.
func (s *Server) makeAbout(ctx context.Context) ([]byte, int) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body := aboutBody{
		Title: s.Config.Title, Env: s.Config.Env, Version: s.Version, BaseURL: s.Config.BaseURL.String(),
		URLs:           map[string]string{"imprint": s.Config.ImprintURL, "privacy": s.Config.PrivacyURL, "sources": s.Config.SourcesURL},
		AllowedDomains: s.Config.AllowedOrigins,
		PublicKey:      s.Tokens.PublicPEM(),
		Algorithm:      s.Tokens.Algorithm(),
		CookieMaxDays:  s.Config.CookieMaxDays,
		OK:             1,
	}
	var err error
	if body.Statistics, err = s.statistics(ctx); err != nil {
		body.OK = 0
		if !errors.Is(err, store.ErrAway) {
			s.Log.Warn("count for /about", "err", err)
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("about: %v", err)) // strings and numbers
	}
	return text, body.Statistics.UserCount + body.Statistics.SessionCount
}

const (
	// slowCount is how long counting may take and be repeated at any time. What takes longer
	// rests for restFactor times as long, so that a database with millions of people has
	// other things to do, too.
	slowCount  = 500 * time.Millisecond
	restFactor = 20
)

// counts are the latest statistics, where counting takes its time.
type counts struct {
	mu     sync.Mutex
	latest statistics
	until  time.Time // from when on to count again
}

// statistics counts, or returns what was counted a while ago. The error is that of the
// database, and not that there is too much to count.
func (s *Server) statistics(ctx context.Context) (statistics, error) {
	if err := s.Store.Ping(ctx); err != nil {
		return statistics{UserCountByProvider: map[string]int{}}, err
	}
	begin := s.Clock.Now()
	s.counts.mu.Lock()
	latest, until := s.counts.latest, s.counts.until
	s.counts.mu.Unlock()
	if begin.Before(until) {
		return latest, nil
	}
	st, err := s.count(ctx)
	took := s.Clock.Now().Sub(begin)
	if err != nil && ctx.Err() != nil && s.Store.Ping(ctx) == nil {
		s.Log.Warn("there is too much to count for /about, which says what it was before", "after", took)
		st, err = latest, nil
		if st.UserCountByProvider == nil {
			st.UserCountByProvider = map[string]int{}
		}
	}
	if err == nil && took > slowCount {
		s.counts.mu.Lock()
		defer s.counts.mu.Unlock()
		s.counts.latest, s.counts.until = st, begin.Add(took+restFactor*took)
	}
	return st, err
}

func (s *Server) count(ctx context.Context) (statistics, error) {
	st := statistics{UserCountByProvider: map[string]int{}}
	var err error
	if st.UserCount, err = s.Users.Count(ctx, ""); err != nil {
		return st, err
	}
	for _, p := range s.Providers.All() {
		if st.UserCountByProvider[p.ID], err = s.Users.Count(ctx, p.ID); err != nil {
			return st, err
		}
	}
	st.SessionCount, err = s.Sessions.Count(ctx)
	return st, err
}

// help serves GET /help.
func (s *Server) help(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	page := templates.HelpPage{Layout: s.layout(w, r, v), CookieDays: s.Config.CookieMaxDays}
	for _, app := range s.Config.Applications {
		page.Applications = append(page.Applications, templates.Application{Name: app.Name, URL: app.URL})
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// apiPage serves GET /api: a live demonstration.
func (s *Server) apiPage(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	base := s.Config.BaseURL.String()
	page := templates.APIPage{Layout: s.layout(w, r, v), BaseURL: base, WebSocketURL: strings.Replace(base, "http", "ws", 1)}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}
