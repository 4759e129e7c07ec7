// Package web translates between HTTP and the rooms below it: router, middleware,
// pages, JSON API and the WebSocket. It decides nothing itself.
//
// Routes live beside their handlers, one file per page or API group; Server.routes
// lists all of them. Handlers return errors, and one function makes status, body
// and log line of them (errors.go).
package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/redis/go-redis/v9"

	"login-server/accounts"
	"login-server/admin"
	"login-server/attempt"
	"login-server/audit"
	"login-server/backoff"
	"login-server/challenge"
	"login-server/clock"
	"login-server/config"
	"login-server/credential"
	"login-server/events"
	"login-server/geo"
	"login-server/hashing"
	"login-server/identity"
	"login-server/notify"
	"login-server/oidc"
	"login-server/picture"
	"login-server/providers"
	"login-server/session"
	"login-server/static"
	"login-server/store"
	"login-server/templates"
	"login-server/token"
)

// Deps are the rooms that the server translates for.
type Deps struct {
	Config *config.Config
	// Store is guarded: whether the database is away is asked of it.
	Store     *store.Guard
	Users     *identity.Directory
	Sessions  *session.Manager
	Tokens    *token.Manager
	Tickets   *token.Tickets
	Providers *providers.Set
	// Credentials are those of the accounts that live here.
	Credentials *credential.Book
	Bus         events.Bus
	// Heard tells whether Bus brings what other nodes say at this moment; nil: no other
	// process serves with this store.
	Heard func() bool
	// Nodes is how many processes serve with this store, as far as this one knows; nil: it is
	// the only one.
	Nodes func() int
	// Redis counts the rate limits of all nodes, as a client of events.OpenRedis, below the
	// name that is this installation's there; nil: each node counts its own.
	Redis     redis.UniversalClient
	RedisName string
	// Places are where addresses are; nil: unknown.
	Places *geo.Places
	// Audit is told what administrators change.
	Audit *audit.Book
	// Logouts are told of ends of sessions by Sessions; nil: clients hear of them later.
	Logouts *oidc.Logouts
	// Notify queues what is sent to people by mail and SMS.
	Notify *notify.Queue
	// Hasher makes hashes of passwords; nil: in this process.
	Hasher    *hashing.Hasher
	Templates *templates.Set
	Static    *static.Files
	Clock     clock.Clock
	Log       *slog.Logger
	// Version of the program, shown in /about.
	Version string
	// Dev serves the gallery of all pages.
	Dev bool
}

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	Deps
	// challenges tell people from programs.
	challenges *challenge.Book

	hub      *events.Hub
	sealer   *token.Sealer // of what pages carry around: flash messages, merge proofs
	attempts *attempt.Book
	passkeys *credential.Passkeys // nil where browsers offer none
	backoff  *backoff.Book
	desk     *accounts.Desk
	office   *admin.Office
	nonces   *token.Nonces // of what applications encrypt for us
	openid   *oidc.Provider
	limits   limits
	pictures *picture.Album
	maker    *picture.Maker
	uploads  uploads
	tokens   *tokenCache
	about    about
	offered  atomic.Pointer[offer]
	handler  http.Handler
	metrics  metrics
	ready    atomic.Bool
	keyTold  atomic.Value // the id of the key that clients were last told of
	counts   counts
	requests atomic.Uint64
	boot     string // tells the request ids of one run from those of another
}

// New returns the server of the rooms in d, with its hub of sockets.
func New(d Deps) (*Server, error) {
	s := &Server{Deps: d, boot: newNonce()[:6], pictures: picture.NewAlbum(d.Store, d.Clock.Now), maker: picture.NewMaker()}
	var err error
	if s.sealer, err = token.NewSealer(d.Config.SessionSecrets, "pages"); err != nil {
		return nil, err
	}
	private, err := token.NewSealer(d.Config.SessionSecrets, "login attempt")
	if err != nil {
		return nil, err
	}
	s.attempts = attempt.NewBook(attempt.Options{
		Store: d.Store, Clock: d.Clock, Sealer: private, Life: d.Config.LoginAttemptLife,
		Cookie: d.Sessions.CookieName() + "-at", Secure: d.Config.BaseURL.Scheme == "https",
	})
	asked, err := token.NewSealer(d.Config.SessionSecrets, "challenge")
	if err != nil {
		return nil, err
	}
	s.challenges = challenge.New(challenge.Options{Store: d.Store, Sealer: asked, Clock: d.Clock, Bits: d.Config.ChallengeBits})
	s.backoff = backoff.New(backoff.Options{Store: d.Store, Clock: d.Clock, Key: token.DeriveKey(d.Config.SessionSecrets[0], "backoff")})
	s.desk = accounts.New(accounts.Options{
		Credentials: d.Credentials, Users: d.Users, Sessions: d.Sessions, Local: d.Providers.Local, Backoff: s.backoff,
		Notify: d.Notify, Templates: d.Templates, Audit: d.Audit, BaseURL: d.Config.BaseURL.String(), Title: d.Config.Title, Hasher: d.Hasher, Clock: d.Clock, Log: d.Log,
	})
	if s.passkeys, err = s.newPasskeys(); err != nil {
		return nil, err
	}
	if s.nonces, err = token.NewNonces(d.Store, d.Config.SessionSecrets, d.Clock.Now); err != nil {
		return nil, err
	}
	if err := checkReservedIDs(d.Config); err != nil {
		return nil, err
	}
	if err := s.offerProviders(); err != nil {
		return nil, err
	}
	if s.openid, err = s.newOpenID(); err != nil {
		return nil, err
	}
	s.office = s.newOffice()
	var shared *sharedCounts
	if d.Redis != nil {
		if d.RedisName == "" {
			return nil, errors.New("web: Redis is given without the name of the installation there")
		}
		shared = newSharedCounts(d.Redis, d.RedisName, redisPatience, d.Log)
	}
	s.limits = newLimits(d.Config, shared)
	s.tokens = newTokenCache(d.Clock.Now, d.Tokens, d.Tickets, d.Heard)
	s.about.server = s
	eventTickets, err := token.NewEventTickets(d.Store, d.Config.SessionSecrets, d.Clock.Now)
	if err != nil {
		return nil, err
	}
	marks, err := token.NewSealer(d.Config.SessionSecrets, events.MarksPurpose)
	if err != nil {
		return nil, err
	}
	s.hub = events.NewHub(events.Options{
		Sessions: d.Sessions, Users: d.Users, Tokens: d.Tokens, Tickets: d.Tickets,
		Grants: s.openid, EventTickets: eventTickets, Marks: marks,
		Heard: d.Heard, Clock: d.Clock, Log: d.Log,
		About:       func() json.RawMessage { return s.about.get(context.Background()) },
		Providers:   func() json.RawMessage { return json.RawMessage(`{"providers":` + string(s.offered.Load().json) + `}`) },
		WarnBefore:  d.Config.ExpiryWarningThreshold,
		CheckEvery:  d.Config.ExpiryWarningInterval,
		IdleTimeout: d.Config.SocketIdleTimeout,
		PerSession:  d.Config.MaxSocketsPerSession,
		PerAddress:  d.Config.MaxSocketsPerAddress,
	}, d.Bus)
	d.Bus.Subscribe(s.hear)
	s.metrics = s.newMetrics()
	s.handler = s.middleware(s.routes())
	s.ready.Store(true)
	s.keyTold.Store(d.Tokens.KeyID())
	s.followKeys()
	return s, nil
}

// offer is what is derived from the providers; it is replaced as a whole.
type offer struct {
	json json.RawMessage // the answer of GET /providers
	csp  string          // of all pages, but for the nonce
	kept *keptPages
}

// ReloadProviders takes over the providers of cfg, which was read anew, and tells the
// clients of its sockets what they see of it. After an error everything stays as it
// was. Warnings are lines for the log.
func (s *Server) ReloadProviders(cfg *config.Config) (warnings []string, err error) {
	if err := checkReservedIDs(cfg); err != nil {
		return nil, err
	}
	exposing := s.exposing()
	if warnings, err = s.Providers.Reload(cfg); err != nil {
		return warnings, err
	}
	if !slices.Equal(exposing, s.exposing()) {
		s.hub.ClaimsChanged()
	}
	before := s.offered.Load().json
	if err := s.offerProviders(); err != nil {
		return warnings, err
	}
	if !bytes.Equal(before, s.offered.Load().json) {
		s.hub.ProvidersChanged()
	}
	return warnings, nil
}

// exposing lists the providers whose tokens are handed on to applications.
func (s *Server) exposing() []string {
	var ids []string
	for _, p := range s.Providers.All() {
		if p.ExposeUpstreamToken {
			ids = append(ids, p.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// offerProviders makes the server show the providers as they are now.
func (s *Server) offerProviders() error {
	list, err := s.publicProviders()
	if err != nil {
		return err
	}
	s.offered.Store(&offer{json: list, csp: s.contentPolicy(), kept: newKeptPages()})
	return nil
}

// KeysChanged makes the server, and the clients of its sockets, use the key pair
// that Tokens has loaded since.
func (s *Server) KeysChanged() {
	s.keyTold.Store(s.Tokens.KeyID())
	s.about.renew(context.Background())
	s.hub.KeysChanged()
}

// hear takes a hint, after the hub.
func (s *Server) hear(h events.Hint) {
	s.about.touch()
	if h.Everything {
		s.openid.Logouts().Look()
	}
}

// LookAgain makes this node, and no other, read anew what it has in memory and shows:
// another process has written to the store, which each node notices by itself.
func (s *Server) LookAgain() {
	everything := events.Hint{Everything: true}
	s.hub.Hear(everything)
	s.hear(everything)
}

// followKeys notices that another key signs by now: of the keys in the store each begins at
// its time, and no node says so to the others.
func (s *Server) followKeys() {
	s.Clock.AfterFunc(time.Second, func() {
		if !s.ready.Load() {
			return
		}
		if s.Tokens.KeyID() != s.keyTold.Load() {
			s.KeysChanged()
		}
		s.followKeys()
	})
}

// Hub is the hub of the server's sockets.
func (s *Server) Hub() *events.Hub { return s.hub }

// Hashes is how many passwords of accounts that live here were hashed since the start.
func (s *Server) Hashes() uint64 { return s.desk.Hashes() }

// TellLogouts tells clients of ends of sessions until ctx ends.
func (s *Server) TellLogouts(ctx context.Context) { s.openid.TellLogouts(ctx) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Retire makes /readyz answer that no more requests are wanted; they are answered all the
// same.
func (s *Server) Retire() { s.ready.Store(false) }

// Drain makes /readyz answer that no more requests are wanted, and lets all
// sockets go, so that they connect to whatever answers next.
func (s *Server) Drain() {
	s.ready.Store(false)
	s.hub.Close()
}

// routes is the whole routing table.
func (s *Server) routes() chi.Router {
	r := chi.NewRouter()
	// Clients of the older program ask for /login/ and /logout/.
	r.Use(middleware.StripSlashes, middleware.GetHead)
	r.NotFound(s.notFound)
	r.MethodNotAllowed(s.methodNotAllowed(r))

	s.mountEvents(r) // GET / as WebSocket, else to /account or /login
	s.mountEventStream(r)
	s.mountLogin(r)
	s.mountChallenge(r)
	s.mountAccounts(r)
	s.mountFederation(r)
	s.mountOAuth(r)
	s.mountDevice(r)
	s.mountAccount(r)
	s.mountPictures(r)
	s.mountMessages(r)
	s.mountFactor(r)
	s.mountSecurity(r)
	s.mountNotMe(r)
	s.mountPhoneLogin(r)
	s.mountMerge(r)
	s.mountPasskeys(r)
	s.mountSessions(r)
	s.mountLeave(r)
	s.mountInfo(r)
	s.mountUsers(r)
	s.mountToken(r)
	s.mountAPI(r)
	s.mountAdmin(r)
	s.mountHealth(r)
	s.mountStatic(r)
	if s.Dev {
		s.mountGallery(r)
	}
	return r
}

// base is the path of BASE_URL, with trailing slash.
func (s *Server) base() string { return s.Config.BaseURL.Path }

// path is the path of a page as browsers see it.
func (s *Server) path(rest string) string { return s.base() + rest }

// roots are the first path segments that routes begin with.
var roots = map[string]bool{
	"login": true, "account": true, "merge": true, "sessions": true, "logout": true, "disconnect": true,
	"delete": true, "help": true, "api": true, "about": true, "providers": true, "currentUser": true,
	"users": true, "token": true, "healthz": true, "readyz": true, "metrics": true, "static": true,
	".well-known": true, "oauth": true, "events": true, "device": true, "dev": true,
	"signup": true, "reset": true, "unlock": true, "factor": true, "security": true, "admin": true, "pictures": true, "challenge": true, "favicon.ico": true, "lang": true,
}

// checkReservedIDs refuses ids of providers that would make a path ambiguous when
// the server is mounted below /login/: is /login/help the help page or a provider?
func checkReservedIDs(cfg *config.Config) error {
	if cfg.BaseURL.Path != "/login/" {
		return nil
	}
	var problems []config.Problem
	for _, p := range cfg.Providers {
		if roots[p.ID] && !p.Disabled {
			problems = append(problems, p.Problem("id", fmt.Sprintf("%q is also a page of the server, and the path of BASE_URL is /login/", p.ID), "choose another id"))
		}
	}
	if problems == nil {
		return nil
	}
	return &config.Problems{Problems: problems}
}

// mounted lets the server answer below the path of BASE_URL as well as without it,
// so that it works behind a proxy that strips that path and behind one that does not.
func (s *Server) mounted(next http.Handler) http.Handler {
	base := s.base()
	if base == "/" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, below := strings.CutPrefix(r.URL.Path, base)
		// In RFC 8414, 3.1 the path of the issuer stands after the well-known one.
		if path, ok := strings.CutSuffix(r.URL.Path, strings.TrimSuffix(base, "/")); ok && (path == oidc.PathServer || path == oidc.PathConfiguration) {
			rest, below = strings.TrimPrefix(path, "/"), true
		}
		if r.URL.Path+"/" == base && !roots[strings.Trim(base, "/")] {
			rest, below = "", true
		}
		if first, _, _ := strings.Cut(rest, "/"); below && (rest == "" || roots[first]) {
			u := *r.URL
			u.Path = "/" + rest
			// The base has nothing that could be escaped; RawPath is a hint that may go.
			raw, ok := strings.CutPrefix(u.RawPath, base)
			if u.RawPath = ""; ok {
				u.RawPath = "/" + raw
			}
			r2 := *r
			r2.URL = &u
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}

// visitor is who a request comes from.
type visitor struct {
	session.Visit
	// account of who is signed in; nil otherwise.
	account *identity.Account
}

// visitor reads the request's cookie. An error means that the store is away.
func (s *Server) visitor(r *http.Request) (visitor, error) {
	visit, err := s.Sessions.Visit(r)
	if err != nil {
		return visitor{}, fmt.Errorf("read session: %w", err)
	}
	v := visitor{Visit: visit}
	if visit.Session == nil {
		return v, nil
	}
	account, err := s.Users.Get(r.Context(), visit.Session.UserID)
	switch {
	case isNotFound(err), err == nil && account.Disabled:
		// The account was deleted, or disabled; its sessions are about to be ended.
		return visitor{Visit: session.Visit{Stale: true}}, nil
	case err != nil:
		return visitor{}, fmt.Errorf("read account: %w", err)
	}
	v.account = &account
	return v, nil
}
