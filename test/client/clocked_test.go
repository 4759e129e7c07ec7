package client_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"login-server/audit"
	"login-server/clock"
	"login-server/config"
	"login-server/credential"
	"login-server/events"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/notify"
	"login-server/providers"
	"login-server/session"
	"login-server/static"
	"login-server/store"
	"login-server/templates"
	"login-server/token"
	"login-server/web"
)

// clocked is a server in this process whose clock stands still until a test moves
// it: the whole of web over a real store, wired as the program does it. Sessions
// live for days at least, so nothing else shows what happens at their end.
type clocked struct {
	url   string // base URL
	clock *clock.Fake
}

func startClocked(t *testing.T, settings map[string]string) (*clocked, error) {
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return nil, err
	}
	dir, environ := folder(t, settings)
	environ = append(environ, "PORT="+strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	cfg, _, err := config.Load(dir, environ)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	set, _, openErr := providers.Open(cfg, providers.Deps{Log: log, Version: "test"})
	if err := config.Join(err, openErr); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	engine := teststore.Open(t, clock.System{}.Now)
	c := &clocked{url: cfg.BaseURL.String(), clock: clock.NewFake(time.Now().Truncate(time.Millisecond))}
	handler, err := c.rooms(cfg, set, engine, log)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		handler.Drain()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, nil
}

// rooms wires what cmd/login-server wires.
func (c *clocked) rooms(cfg *config.Config, set *providers.Set, engine store.Engine, log *slog.Logger) (*web.Server, error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	cfg.SessionSecrets = []string{hex.EncodeToString(secret[:])}
	sealer, err := token.NewSealer(cfg.SessionSecrets, "upstream tokens")
	if err != nil {
		return nil, err
	}
	bus := &events.LocalBus{}
	now := c.clock.Now
	credentials, err := credential.NewBook(credential.Options{Store: engine, Clock: c.clock, NewID: uuid.NewString, Secrets: cfg.SessionSecrets})
	if err != nil {
		return nil, err
	}
	messages, err := token.NewSealer(cfg.SessionSecrets, notify.Purpose)
	if err != nil {
		return nil, err
	}
	queue, err := notify.New(notify.Options{Store: engine, Sealer: messages, Clock: c.clock, Log: log, Dev: true})
	if err != nil {
		return nil, err
	}
	users := identity.NewDirectory(engine, identity.Options{
		BaseURL: c.url, Now: now, NewID: uuid.NewString,
		Changed: func(ids ...string) {
			for _, id := range ids {
				bus.Publish(events.Hint{User: id})
			}
		},
		Sealer: sealer, Exposes: set.Exposes,
		CacheSize: 1000, CacheAge: 5 * time.Second,
	})
	sessions := session.NewManager(engine, session.Options{
		Cookie:    session.CookieOptions{Installation: c.url, Keys: [][]byte{token.DeriveKey(cfg.SessionSecrets[0], "session cookie")}},
		Lifetime:  time.Duration(cfg.CookieMaxDays) * 24 * time.Hour,
		Now:       now,
		Changed:   func(handle string, removed bool) { bus.Publish(events.Hint{Session: handle, Removed: removed}) },
		CacheSize: 1000, CacheAge: 5 * time.Second,
	})
	keySealer, err := token.NewSealer(cfg.SessionSecrets, token.KeysPurpose)
	if err != nil {
		return nil, err
	}
	tokens, err := token.NewManager(context.Background(), engine, token.Options{
		PrivateKeyPath: cfg.JWTPrivateKeyPath, PublicKeyPath: cfg.JWTPublicKeyPath,
		Algorithm: cfg.JWTAlgorithm, ExpiresIn: cfg.JWTExpiresIn, Now: now,
		Sealer: keySealer, Life: cfg.AccessTokenLife, PublishFor: cfg.KeyPublishFor, RotateEvery: cfg.KeyRotateEvery, Log: log,
	})
	if err != nil {
		return nil, err
	}
	tickets, err := token.NewTickets(engine, cfg.SessionSecrets, now)
	if err != nil {
		return nil, err
	}
	files := static.New(static.Options{})
	pages, err := templates.New(templates.Options{Asset: files.Asset})
	if err != nil {
		return nil, err
	}
	return web.New(web.Deps{
		Config: cfg, Store: store.NewGuard(engine, store.GuardOptions{}), Users: users, Sessions: sessions, Credentials: credentials, Tokens: tokens, Tickets: tickets,
		Providers: set, Bus: bus, Notify: queue, Audit: audit.NewBook(engine, now), Templates: pages, Static: files, Clock: c.clock, Log: log, Version: "test",
	})
}
