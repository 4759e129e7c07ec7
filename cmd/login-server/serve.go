package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"login-server/config"
	"login-server/events"
)

const (
	// stopTimeout is how long requests may take to finish when the server stops.
	stopTimeout = 15 * time.Second
	// farewell is how long sockets may take to answer the close frame.
	farewell = 5 * time.Second
	// sweepEvery is how often expired documents are removed.
	sweepEvery = 10 * time.Minute
	// lookEvery is how often the server looks whether files that it can take over
	// while it runs have changed.
	lookEvery = 2 * time.Second
)

type serveCmd struct {
	Dev bool `help:"Development: read templates and static files anew for each page, and serve a gallery of all pages at /dev/gallery."`
}

// Help implements kong.HelpProvider.
func (serveCmd) Help() string {
	return `The first start makes the data folder with the database and a generated secret, and the key pair, and says so. If anything is wrong with the settings, all of it is listed and nothing is made.

Files: keys, TLS certificate and providers.json are read again within seconds of a change, and on SIGHUP; what cannot be used is logged, and what was in use stays in use. For .env and applications.json restart the server.

Signals: SIGTERM or SIGINT lets requests finish (after STOP_DELAY_SECONDS) and tells sockets to come back later; a second one ends the server at once.

Examples:

  login-server
  login-server --dir /etc/login-server
  NODE_ENV=production BASE_URL=https://login.example.org/ login-server serve`
}

// Run implements the command: it serves until ctx ends.
func (c serveCmd) Run(ctx context.Context, a *app) error {
	s, err := a.start(ctx, c.Dev)
	switch {
	case errors.Is(err, context.Canceled):
		a.logger("").Info("stopped before it was ready")
		return nil
	case err != nil:
		return err
	}
	defer s.close()
	return s.serve(ctx)
}

// serve answers requests until ctx ends, then lets those under way finish.
func (s *server) serve(ctx context.Context) error {
	// What goes on beside requests does so for as long as they are answered: a node that
	// retires has to hear of removed sessions, too, and to be known to live.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	go s.keepHouse(background)
	go trimMemory(background, s.web)
	go s.followFiles(background, hangup)
	go s.providers.Run(background)
	go s.tendKeys(background)
	if s.node != nil {
		go s.node.Run(background)
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		s.web.TellLogouts(background)
	}()
	delivered := make(chan struct{})
	go func() {
		defer close(delivered)
		s.notify.Run(background)
	}()
	// The database is closed after this.
	defer func() { stop(); <-told; <-delivered }()

	failed := make(chan error, 2)
	main := newHTTPServer(s.web, s.log)
	if s.metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", s.web.Metrics())
		side := newHTTPServer(mux, s.log)
		defer side.Close()
		go func() { failed <- side.Serve(s.metrics) }()
	}
	if s.certificate != nil {
		main.TLSConfig = s.certificate.tlsConfig()
		go func() { failed <- main.ServeTLS(s.listener, "", "") }()
	} else {
		go func() { failed <- main.Serve(s.listener) }()
	}
	s.announce()

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.log.Info("stopping")
	s.retire(failed)
	stop()
	// No new connections first: a socket that is sent away comes back at once.
	stopped := make(chan error, 1)
	wait, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	go func() { stopped <- main.Shutdown(wait) }()
	s.web.Drain()
	s.waitForSockets()
	if err := <-stopped; err != nil {
		return fmt.Errorf("requests did not finish within %s: %w", stopTimeout, err)
	}
	s.log.Info("stopped")
	return nil
}

// retire goes on answering until those who ask /readyz must have noticed, or the server
// cannot answer any more.
func (s *server) retire(failed <-chan error) {
	if s.cfg.StopDelay == 0 {
		return
	}
	s.web.Retire()
	select {
	case <-time.After(s.cfg.StopDelay):
	case <-failed:
	}
}

// waitForSockets waits until all sockets have answered the close frame; the end of
// the process would take it from those who have not read it yet.
func (s *server) waitForSockets() {
	deadline := time.After(farewell)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.web.Hub().Stats().Sockets > 0 {
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
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

// certificate is that of TLS_CERT_PATH, which can be renewed while the server runs.
type certificate struct {
	cfg     *config.Config
	current atomic.Pointer[tls.Certificate]
}

func loadCertificate(cfg *config.Config) (*certificate, error) {
	c := &certificate{cfg: cfg}
	return c, c.reload()
}

func (c *certificate) reload() error {
	pair, err := tls.LoadX509KeyPair(c.cfg.TLSCertPath, c.cfg.TLSKeyPath)
	if err != nil {
		return problem("", "TLS_CERT_PATH", err.Error(), "write a PEM certificate and the private key that belongs to it")
	}
	c.current.Store(&pair)
	return nil
}

// tlsConfig allows TLS 1.3, and 1.2 with forward secrecy and authenticated
// encryption only.
func (c *certificate) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// followFiles reads keys, certificate and providers.json again on SIGHUP and when
// they have changed. A file that somebody is still writing is left until it has
// stayed the same for a while, so that two halves of a key pair are read together.
func (s *server) followFiles(ctx context.Context, hangup <-chan os.Signal) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := s.inUse; ; {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			s.inUse = s.stamps()
			s.reload(ctx)
		case <-tick.C:
			now := s.stamps()
			if now != s.inUse && now == last {
				s.inUse = now
				s.reload(ctx)
			}
			last = now
		}
	}
}

// stamp tells one state of a file from the next.
type stamp struct {
	size     int64
	modified time.Time
}

// stamps are those of all files that reload reads.
type stamps [6]stamp

func (s *server) stamps() (all stamps) {
	for i, path := range []string{s.cfg.ProvidersPath, s.cfg.JWTPrivateKeyPath, s.cfg.JWTPublicKeyPath, s.cfg.TLSCertPath, s.cfg.TLSKeyPath, s.cfg.GeoIPPath} {
		if info, err := os.Stat(path); err == nil {
			all[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return all
}

// reload reads the files again. What cannot be used is reported, and what was in
// use stays in use.
func (s *server) reload(ctx context.Context) {
	errs := []error{keyProblem(s.cfg, s.tokens.Reload(ctx))}
	if s.certificate != nil {
		errs = append(errs, s.certificate.reload())
	}
	errs = append(errs, placesProblem(s.cfg, s.places.Reload()))
	cfg, warnings, err := config.Load(s.app.dir, s.app.env)
	if err == nil {
		var more []string
		more, err = s.web.ReloadProviders(cfg)
		warnings = append(warnings, more...)
		if err == nil {
			s.listed.Store(&cfg.Providers)
		}
		s.keysDue() // one to encrypt with may be missing
	}
	for _, warning := range warnings {
		s.log.Warn(warning)
	}
	problems, failed := errors.AsType[*config.Problems](config.Join(append(errs, err)...))
	if !failed {
		s.log.Info("read keys, certificate and providers again")
		return
	}
	for _, p := range problems.Problems {
		s.log.Error("cannot be taken over, what was in use stays in use", "problem", p.String())
	}
}

// keepHouse does what nobody waits for: it finishes what a crash has left half
// done, removes what has expired, and notices when another process has written.
func (s *server) keepHouse(ctx context.Context) {
	go s.store.Watch(ctx, func() {
		s.keysDue()
		s.notify.Look()
		s.web.LookAgain()
	})
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if healed, err := s.users.Heal(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("heal accounts", "err", err)
		} else if healed > 0 {
			s.log.Info("healed accounts", "count", healed)
		}
		if _, err := s.guard.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("sweep expired documents", "err", err)
		}
		s.pruneAudit(ctx)
		s.keysDue()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pruneAudit removes what the audit log need not have any more.
func (s *server) pruneAudit(ctx context.Context) {
	if s.cfg.AuditPeriod == 0 {
		return
	}
	gone, err := s.audit.Prune(ctx, s.clock.Now().Add(-s.cfg.AuditPeriod))
	if err != nil && ctx.Err() == nil {
		s.log.Error("prune the audit log", "err", err)
	} else if gone > 0 {
		s.log.Info("pruned the audit log", "entries", gone)
	}
}

// keysDue has tendKeys look at the keys.
func (s *server) keysDue() {
	select {
	case s.keysMoved <- struct{}{}:
	default: // it is about to look
	}
}

// tendKeys reads the keys in the store again whenever they may have changed, and makes the
// next ones when it is time.
func (s *server) tendKeys(ctx context.Context) {
	s.bus.Subscribe(func(h events.Hint) {
		if h.Everything {
			s.keysDue()
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.keysMoved:
		}
		if err := errors.Join(s.tokens.Refresh(ctx), s.tokens.Tend(ctx)); err != nil && ctx.Err() == nil {
			s.log.Error("tend signing keys", "err", err)
		}
	}
}
