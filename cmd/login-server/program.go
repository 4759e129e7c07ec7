package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"golang.org/x/net/publicsuffix"

	"login-server/audit"
	"login-server/clock"
	"login-server/config"
	"login-server/credential"
	"login-server/events"
	"login-server/identity"
	"login-server/notify"
	"login-server/oidc"
	"login-server/session"
	"login-server/store"
	"login-server/token"
)

const (
	// cacheSize is how many sessions, and how many accounts, are kept in memory.
	cacheSize = 100_000
	// cacheAge is how long a change that this process was not told of goes unseen.
	cacheAge = 5 * time.Second
)

// program is the rooms below web that every command needs: the people and their
// sessions, in the database.
type program struct {
	cfg      *config.Config
	log      *slog.Logger
	clock    clock.Clock
	store    database
	guard    *store.Guard          // the store, as all rooms use it
	redis    redis.UniversalClient // nil without REDIS_URL
	redisBus *events.RedisBus      // the same
	bus      events.Bus
	users    *identity.Directory
	sessions *session.Manager
	logouts  *oidc.Logouts
	audit    *audit.Book
	notify   *notify.Queue // nil as long as there is no secret to seal with
	// credentials of the accounts that live here. Commands that do not know the secrets can
	// neither open nor make what is sealed in them.
	credentials *credential.Book
	// listed are the entries of providers.json as they were last read.
	listed atomic.Pointer[[]config.Provider]
}

// databasePath is where the embedded store keeps everything.
func databasePath(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "login-server.db") }

// errNoDatabase: the server was not started yet.
var errNoDatabase = errors.New("there is no database yet")

// openData opens the database for a command, beside a running server or without
// one. There has to be one already: commands make nothing that the server would make.
func (a *app) openData(ctx context.Context) (*program, error) {
	cfg, _, err := config.Load(a.dir, a.env)
	if err != nil {
		return nil, err
	}
	if path := databasePath(cfg); !cfg.Shared() {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w (%s): the server makes it when it is started", errNoDatabase, shown(path))
		}
	}
	p, err := openProgram(ctx, cfg, a.logger(cfg.Verbosity), upstream{})
	if cfg.Shared() {
		err = config.Join(databaseProblem(cfg, err))
	}
	return p, err
}

// upstream is what the server needs to keep what providers hand on. Commands keep and
// show nothing of it.
type upstream struct {
	sealer  identity.Sealer
	exposes func(provider string) bool
}

// openProgram opens the database, which is made where there is none.
func openProgram(ctx context.Context, cfg *config.Config, log *slog.Logger, u upstream) (*program, error) {
	p := &program{cfg: cfg, log: log, clock: systemClock()}
	p.listed.Store(&cfg.Providers)
	if err := p.openBus(); err != nil {
		return nil, err
	}
	var err error
	if p.store, err = openDatabase(ctx, cfg, p.heard); err != nil {
		p.closeBus()
		return nil, err
	}
	p.guard = store.NewGuard(p.store, store.GuardOptions{Now: p.clock.Now, Log: log})
	p.credentials, err = credential.NewBook(credential.Options{Store: p.guard, Clock: p.clock, NewID: uuid.NewString, Secrets: cfg.SessionSecrets})
	if err != nil {
		return nil, err
	}
	p.users = identity.NewDirectory(p.guard, identity.Options{
		BaseURL: cfg.BaseURL.String(), Now: p.clock.Now, NewID: uuid.NewString,
		Changed: func(ids ...string) {
			for _, id := range ids {
				p.bus.Publish(events.Hint{User: id})
			}
		},
		Released: p.released,
		Sealer:   u.sealer, Exposes: u.exposes,
		CacheSize: cacheSize, CacheAge: cacheAge,
	})
	p.logouts = oidc.NewLogouts(p.guard, p.clock, log)
	p.audit = audit.NewBook(p.guard, p.clock.Now)
	p.sessions = session.NewManager(p.guard, session.Options{
		Cookie:   cookieOptions(cfg),
		Lifetime: time.Duration(cfg.CookieMaxDays) * 24 * time.Hour,
		Now:      p.clock.Now,
		Changed: func(handle string, removed bool) {
			p.bus.Publish(events.Hint{Session: handle, Removed: removed})
		},
		Ended:     p.logouts.Ended,
		CacheSize: cacheSize, CacheAge: cacheAge,
	})
	if p.notify, err = openNotify(cfg, p); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// released removes what an identity that nobody has any more was proved with, if it was
// one of the accounts that live here. A failure leaves it, and somebody who still knows the
// password has another account with it.
func (p *program) released(ctx context.Context, provider, id string) {
	for _, entry := range *p.listed.Load() {
		if entry.ID == provider && entry.Strategy == "account" {
			if err := p.credentials.Delete(ctx, id); err != nil {
				p.log.Warn("the credential of an identity that is gone was not removed", "credential", id, "err", err)
			}
		}
	}
}

// close releases the database, and then the bus: while that is there, nobody has to be told
// of writes through the database.
func (p *program) close() error {
	defer p.closeBus()
	return p.store.Close()
}

// cookieOptions are what the settings say of cookies.
func cookieOptions(cfg *config.Config) session.CookieOptions {
	keys := make([][]byte, len(cfg.SessionSecrets))
	for i, secret := range cfg.SessionSecrets {
		keys[i] = token.DeriveKey(secret, "session cookie")
	}
	return session.CookieOptions{
		Installation: cfg.BaseURL.String(),
		Secure:       cfg.BaseURL.Scheme == "https",
		CrossSite:    len(crossSites(cfg)) > 0,
		Keys:         keys,
		State:        true,
	}
}

// crossSites are the allowed origins of other sites than that of BASE_URL: browsers
// send the cookie with their requests only if it says so.
func crossSites(cfg *config.Config) []string {
	var others []string
	own := siteOf(cfg.BaseURL.Hostname())
	for _, origin := range cfg.AllowedOrigins {
		scheme, host, _ := strings.Cut(origin, "://")
		if i := strings.LastIndex(host, ":"); i > strings.LastIndex(host, "]") {
			host = host[:i]
		}
		// An origin without encryption is another site, whatever its host.
		if scheme != cfg.BaseURL.Scheme || siteOf(strings.Trim(host, "[]")) != own {
			others = append(others, origin)
		}
	}
	return others
}

// siteOf is the registrable domain of a host, or the host itself.
func siteOf(host string) string {
	site, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return site
}

// secretPath is where a generated SESSION_SECRET is kept.
func secretPath(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "session.secret") }

// readSecret takes the secrets from the data folder when the settings have none;
// missing tells that it has none either.
func readSecret(cfg *config.Config) (missing bool, err error) {
	if len(cfg.SessionSecrets) > 0 {
		return false, nil
	}
	path := secretPath(cfg)
	problem := func(text, remedy string) error {
		return &config.Problems{Problems: []config.Problem{{File: shown(path), Text: text, Remedy: remedy}}}
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), lacksFolder(err):
		return true, nil
	case err != nil:
		return false, problem("cannot be read ("+config.Reason(err)+")", "let this program read it, or set SESSION_SECRET")
	}
	for secret := range strings.SplitSeq(strings.TrimSpace(string(data)), ",") {
		if secret = strings.TrimSpace(secret); len(secret) < 16 {
			cfg.SessionSecrets = nil
			return false, problem("holds a secret of less than 16 characters", "remove the file: another one is made, and everybody has to sign in again")
		}
		cfg.SessionSecrets = append(cfg.SessionSecrets, secret)
	}
	return false, nil
}

// lacksFolder tells that a path leads through something that is no folder; what is
// wrong with that is said elsewhere.
func lacksFolder(err error) bool {
	e, ok := errors.AsType[*fs.PathError](err)
	return ok && strings.Contains(e.Err.Error(), "not a directory")
}

// makeSecret generates a secret and keeps it in the data folder.
func makeSecret(cfg *config.Config) error {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	secret := hex.EncodeToString(b[:])
	f, err := os.OpenFile(secretPath(cfg), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(secret + "\n")
	cfg.SessionSecrets = []string{secret}
	return errors.Join(err, f.Sync(), f.Close())
}
