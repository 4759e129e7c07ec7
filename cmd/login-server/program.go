package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/publicsuffix"

	"login-server/clock"
	"login-server/config"
	"login-server/events"
	"login-server/identity"
	"login-server/providers"
	"login-server/session"
	"login-server/store/sqlite"
	"login-server/token"
)

const (
	// cacheSize is how many sessions, and how many accounts, are kept in memory.
	cacheSize = 100_000
	// cacheAge is how long a change that this process was not told of goes unseen.
	cacheAge = 5 * time.Second
)

// program is all rooms below web, wired together.
type program struct {
	cfg       *config.Config
	log       *slog.Logger
	clock     clock.Clock
	store     *sqlite.Engine
	bus       *events.LocalBus
	users     *identity.Directory
	sessions  *session.Manager
	tokens    *token.Manager
	tickets   *token.Tickets
	providers *providers.Set
	// made lists what was created because it was missing, for the operator.
	made []string
}

// configure reads the three files; every problem in them comes at once.
func (a *app) configure(log *slog.Logger) (*config.Config, *providers.Set, error) {
	cfg, warnings, err := config.Load(a.dir, a.env)
	if log == nil {
		log = a.logger(cfg.Verbosity)
	}
	set, more, openErr := providers.Open(cfg, providers.Deps{Log: log, Version: version})
	for _, warning := range append(warnings, more...) {
		log.Warn(warning)
	}
	return cfg, set, config.Join(err, openErr)
}

// databasePath is where the embedded store keeps everything.
func databasePath(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "login-server.db") }

// open makes what is missing (data folder, secret, key pair) and opens the rooms.
func (a *app) open(ctx context.Context, cfg *config.Config, set *providers.Set, log *slog.Logger) (*program, error) {
	p := &program{cfg: cfg, log: log, clock: clock.System{}, bus: &events.LocalBus{}, providers: set}
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("DATA_DIR: %s cannot be made: %w; make its parent writable or choose another folder", cfg.DataDir, err)
		}
		p.made = append(p.made, cfg.DataDir+" (database and secrets)")
	}
	if err := p.secret(); err != nil {
		return nil, err
	}
	made, err := token.EnsureKeys(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, cfg.JWTAlgorithm)
	if err != nil {
		return nil, err
	}
	if made {
		p.made = append(p.made, cfg.JWTPrivateKeyPath+" and "+cfg.JWTPublicKeyPath+" (RSA key pair)")
	}
	if p.store, err = sqlite.Open(ctx, databasePath(cfg), sqlite.Options{}); err != nil {
		return nil, err
	}
	if err := p.rooms(ctx); err != nil {
		return nil, errors.Join(err, p.store.Close())
	}
	return p, nil
}

// secret takes the generated secret from the data folder, or makes it, when the
// settings have none.
func (p *program) secret() error {
	if len(p.cfg.SessionSecrets) > 0 {
		return nil
	}
	path := filepath.Join(p.cfg.DataDir, "session.secret")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		var b [32]byte
		_, _ = rand.Read(b[:])
		data = []byte(hex.EncodeToString(b[:]) + "\n")
		err = writeSecret(path, data)
		if err == nil {
			p.made = append(p.made, path+" (SESSION_SECRET)")
		}
	}
	if err != nil {
		return fmt.Errorf("SESSION_SECRET: %w; set it in .env or make %s writable", err, p.cfg.DataDir)
	}
	for secret := range strings.SplitSeq(strings.TrimSpace(string(data)), ",") {
		if secret = strings.TrimSpace(secret); len(secret) < 16 {
			return fmt.Errorf("SESSION_SECRET: %s holds a secret of less than 16 characters; remove the file to have one made", path)
		}
		p.cfg.SessionSecrets = append(p.cfg.SessionSecrets, secret)
	}
	return nil
}

// writeSecret writes a new file; one that is there already is kept.
func writeSecret(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func (p *program) rooms(ctx context.Context) error {
	var err error
	cfg, now := p.cfg, p.clock.Now
	p.users = identity.NewDirectory(p.store, identity.Options{
		BaseURL: cfg.BaseURL.String(), Now: now, NewID: uuid.NewString,
		Changed: func(ids ...string) {
			for _, id := range ids {
				p.bus.Publish(events.Hint{User: id})
			}
		},
		CacheSize: cacheSize, CacheAge: cacheAge,
	})
	keys := make([][]byte, len(cfg.SessionSecrets))
	for i, secret := range cfg.SessionSecrets {
		keys[i] = token.DeriveKey(secret, "session cookie")
	}
	p.sessions = session.NewManager(p.store, session.Options{
		Cookie: session.CookieOptions{
			Installation: cfg.BaseURL.String(),
			Secure:       cfg.BaseURL.Scheme == "https",
			CrossSite:    crossSite(cfg),
			Keys:         keys,
		},
		Lifetime: time.Duration(cfg.CookieMaxDays) * 24 * time.Hour,
		Now:      now,
		Changed: func(handle string, removed bool) {
			p.bus.Publish(events.Hint{Session: handle, Removed: removed})
		},
		CacheSize: cacheSize, CacheAge: cacheAge,
	})
	p.tokens, err = token.NewManager(ctx, p.store, token.Options{
		PrivateKeyPath: cfg.JWTPrivateKeyPath, PublicKeyPath: cfg.JWTPublicKeyPath,
		Algorithm: cfg.JWTAlgorithm, ExpiresIn: cfg.JWTExpiresIn, Now: now,
	})
	if err != nil {
		return err
	}
	p.tickets, err = token.NewTickets(p.store, cfg.SessionSecrets, now)
	return err
}

// crossSite tells whether an allowed origin belongs to another site than BASE_URL,
// so that browsers send the cookie with its requests only if it says so.
func crossSite(cfg *config.Config) bool {
	own := siteOf(cfg.BaseURL.Hostname())
	for _, origin := range cfg.AllowedOrigins {
		_, host, _ := strings.Cut(origin, "://")
		if i := strings.LastIndex(host, ":"); i > strings.LastIndex(host, "]") {
			host = host[:i]
		}
		if !strings.HasPrefix(origin, "https:") || siteOf(host) != own {
			return true
		}
	}
	return false
}

// siteOf is the registrable domain of a host, or the host itself.
func siteOf(host string) string {
	site, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return site
}

// close releases the database.
func (p *program) close() error { return p.store.Close() }
