package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"login-server/config"
	"login-server/events"
	"login-server/static"
	"login-server/templates"
	"login-server/web"
)

const (
	// stopTimeout is how long requests may take to finish when the server stops.
	stopTimeout = 15 * time.Second
	// sweepEvery is how often expired documents are removed.
	sweepEvery = 10 * time.Minute
)

type serveCmd struct {
	Dev bool `help:"Development: read templates and static files anew for each page, and serve a gallery of all pages at /dev/gallery."`
}

// Run implements the command: it serves until ctx ends.
func (c serveCmd) Run(ctx context.Context, a *app) error {
	cfg, set, err := a.configure(nil)
	if err != nil {
		return err
	}
	log := a.logger(cfg.Verbosity)
	if c.Dev && cfg.Production() {
		return errors.New("--dev shows invented people and reads files at every request; it does not run with NODE_ENV=production")
	}
	// The port comes first: a second start must not touch what the first one uses.
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", cfg.Port))
	if err != nil {
		return fmt.Errorf("PORT: %d cannot be used: %w; stop what listens there, or set PORT to another number", cfg.Port, err)
	}
	defer listener.Close()
	p, err := a.open(ctx, cfg, set, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := p.close(); err != nil {
			log.Error("close database", "err", err)
		}
	}()

	files := static.New(static.Options{Dir: filepath.Join(cfg.Dir, "static"), Dev: c.Dev})
	pages, err := templates.New(templates.Options{Dir: filepath.Join(cfg.Dir, "templates"), Dev: c.Dev, Asset: files.Asset})
	if err != nil {
		return err
	}
	server, err := web.New(web.Deps{
		Config: cfg, Store: p.store, Users: p.users, Sessions: p.sessions, Tokens: p.tokens, Tickets: p.tickets,
		Providers: set, Bus: p.bus, Templates: pages, Static: files, Clock: p.clock, Log: log, Version: version, Dev: c.Dev,
	})
	if err != nil {
		return err
	}
	for _, made := range p.made {
		fmt.Fprintln(a.stderr, "Made", made)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go p.keepHouse(ctx)
	return p.serve(ctx, a, server, listener)
}

// serve answers requests until ctx ends, then lets those under way finish.
func (p *program) serve(ctx context.Context, a *app, server *web.Server, listener net.Listener) error {
	cfg := p.cfg
	main := newHTTPServer(server, p.log)
	reloadTLS := func() error { return nil }
	if cfg.TLSCertPath != "" {
		certificate, reload, err := certificate(cfg)
		if err != nil {
			return err
		}
		reloadTLS = reload
		main.TLSConfig = tlsConfig(certificate)
	}
	go p.reloadOnHangup(ctx, a, server, reloadTLS)

	failed := make(chan error, 2)
	if cfg.MetricsAddr != "" {
		metrics, err := net.Listen("tcp", cfg.MetricsAddr)
		if err != nil {
			return fmt.Errorf("METRICS_ADDR: %s cannot be used: %w; choose another address", cfg.MetricsAddr, err)
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", server.Metrics())
		side := newHTTPServer(mux, p.log)
		defer side.Close()
		go func() { failed <- side.Serve(metrics) }()
	}
	go func() {
		if main.TLSConfig != nil {
			failed <- main.ServeTLS(listener, "", "")
		} else {
			failed <- main.Serve(listener)
		}
	}()
	fmt.Fprintf(a.stderr, "Login Server %s is ready at %s\n", version, cfg.BaseURL)

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	p.log.Info("stopping")
	server.Drain()
	wait, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := main.Shutdown(wait); err != nil {
		return fmt.Errorf("requests did not finish within %s: %w", stopTimeout, err)
	}
	p.log.Info("stopped")
	return nil
}

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// tlsConfig allows TLS 1.3, and 1.2 with forward secrecy and authenticated
// encryption only.
func tlsConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificate,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// certificate loads the certificate of TLS_CERT_PATH; reload takes a renewed one.
func certificate(cfg *config.Config) (get func(*tls.ClientHelloInfo) (*tls.Certificate, error), reload func() error, err error) {
	var current atomic.Pointer[tls.Certificate]
	reload = func() error {
		pair, err := tls.LoadX509KeyPair(cfg.TLSCertPath, cfg.TLSKeyPath)
		if err != nil {
			return fmt.Errorf("TLS_CERT_PATH, TLS_KEY_PATH: %w; write a certificate and the key that belongs to it, as PEM", err)
		}
		current.Store(&pair)
		return nil
	}
	get = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }
	return get, reload, reload()
}

// reloadOnHangup reads keys, certificate and providers.json again on SIGHUP. What
// cannot be used is reported, and what was in use stays in use.
func (p *program) reloadOnHangup(ctx context.Context, a *app, server *web.Server, reloadTLS func() error) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		err := errors.Join(p.tokens.Reload(ctx), reloadTLS())
		cfg, warnings, loadErr := config.Load(a.dir, a.env)
		if loadErr == nil {
			var more []string
			more, loadErr = p.providers.Reload(cfg)
			warnings = append(warnings, more...)
		}
		for _, warning := range warnings {
			p.log.Warn(warning)
		}
		if err = errors.Join(err, loadErr, server.ProvidersChanged()); err != nil {
			p.log.Error("reload: what was in use stays in use", "err", err)
			continue
		}
		p.log.Info("reloaded keys, certificate and providers")
	}
}

// keepHouse does what nobody waits for: it finishes what a crash has left half
// done, removes what has expired, and notices when another process has written.
func (p *program) keepHouse(ctx context.Context) {
	go p.store.Watch(ctx, func() {
		if err := p.tokens.Reload(ctx); err != nil {
			p.log.Error("reload keys", "err", err)
		}
		p.bus.Publish(events.Hint{Everything: true})
	})
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if healed, err := p.users.Heal(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("heal accounts", "err", err)
		} else if healed > 0 {
			p.log.Info("healed accounts", "count", healed)
		}
		if _, err := p.store.Sweep(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("sweep expired documents", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
