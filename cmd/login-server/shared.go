package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"login-server/clock"
	"login-server/cluster"
	"login-server/config"
	"login-server/events"
	"login-server/identity"
	"login-server/legacy"
	"login-server/store"
	"login-server/store/mongo"
	"login-server/store/sqlite"
)

// patience is how long a start may take without a word.
const patience = 3 * time.Second

// database is a store.Engine that notices when another process has written.
type database interface {
	store.Engine
	// Watch calls changed after another process has written, until ctx ends.
	Watch(ctx context.Context, changed func())
}

// openDatabase opens the embedded store, which is made where there is none, or the shared
// one. heard tells whether other processes hear of writes by themselves at this moment.
func openDatabase(ctx context.Context, cfg *config.Config, heard func() bool) (database, error) {
	if cfg.Shared() {
		options := mongo.Options{Heard: heard}
		if c := systemClock(); c.Off != 0 {
			options.Now = c.Now
		}
		return mongo.Open(ctx, cfg.MongoURI, cfg.MongoDatabase, options)
	}
	return sqlite.Open(ctx, databasePath(cfg), sqlite.Options{})
}

// databaseProblem is what the store says of itself, in the form of all problems.
func databaseProblem(cfg *config.Config, err error) error {
	if _, said := errors.AsType[*config.Problems](err); err == nil || said {
		return err
	}
	if cfg.Shared() {
		return mongoProblem(err)
	}
	path := databasePath(cfg)
	return problem(shown(path), "", strings.TrimPrefix(err.Error(), "open database "+path+": "), "restore it from a backup, or write another DATA_DIR")
}

// installation is the name, in Redis, of all that the processes on a store share: they hear of
// each other and count together there, and others that use the same Redis do not. Beside
// BASE_URL it has the database in it, for copies of an installation that are tried out.
func installation(cfg *config.Config) string {
	sum := sha256.Sum256([]byte(cfg.BaseURL.String() + "\x00" + cfg.MongoDatabase))
	return "login-server:" + hex.EncodeToString(sum[:6])
}

// openBus connects with Redis, which may be away: hints then stay in this process until it
// is back. Without REDIS_URL there is nobody to tell.
func (p *program) openBus() error {
	if p.cfg.RedisURL == "" {
		p.bus = &events.LocalBus{}
		return nil
	}
	client, err := events.OpenRedis(p.cfg.RedisURL)
	if err != nil {
		return redisProblem(err)
	}
	p.redis = client
	p.redisBus = events.NewRedisBus(client, events.RedisOptions{Channel: installation(p.cfg), Log: p.log})
	p.bus = p.redisBus
	return nil
}

func redisProblem(err error) error {
	return problem("", "REDIS_URL", err.Error(), "write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path/of/socket")
}

// closeBus says what there is left to say, and leaves.
func (p *program) closeBus() {
	if p.redisBus != nil {
		p.redisBus.Close()
		_ = p.redis.Close()
	}
}

// join makes this server a node among those that share its store.
func (s *server) join(ctx context.Context) error {
	if !s.cfg.Shared() {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	bus := ""
	if s.redis != nil {
		if u, err := url.Parse(s.cfg.RedisURL); err == nil { // without its password
			bus = u.Host + u.Path + " " + installation(s.cfg)
		}
	}
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	s.node, err = cluster.Join(ctx, s.store, cluster.Options{
		Name: net.JoinHostPort(host, port), BaseURL: s.cfg.BaseURL.String(), Secrets: s.cfg.SessionSecrets,
		Bus: bus, Version: version, SecretMoved: s.keysDue, Clock: s.clock, Log: s.log,
	})
	if e, ok := errors.AsType[*cluster.MismatchError](err); ok {
		settings := strings.Join(e.Settings, " and ")
		return problem("", settings, strings.TrimPrefix(e.Text(), settings+" "), e.Remedy())
	}
	return databaseProblem(s.cfg, err)
}

// newcomer refuses a server that has just made up its secret where an installation has been at
// work with another: were it the first to start, it would take the place of all others.
func (s *server) newcomer(ctx context.Context) error {
	if !s.cfg.Shared() {
		return nil
	}
	founded, err := cluster.Founded(ctx, s.store)
	if err != nil || !founded {
		return databaseProblem(s.cfg, err)
	}
	return problem("", "SESSION_SECRET", "is missing, and what is in the database was encrypted with one",
		"copy it from the other nodes, or from session.secret where this server has run; if it is lost, write a new one: everybody has to sign in again")
}

// living is what tells web how many nodes there are. It is nil with the embedded store.
func (s *server) living() func() int {
	if s.node == nil {
		return nil
	}
	return s.node.Living
}

// adopt makes the people of an older server, whose database this may have been, ours before
// anybody can sign in.
func (s *server) adopt(ctx context.Context) error {
	engine, shared := s.store.(*mongo.Engine)
	if !shared {
		return nil
	}
	slow := time.AfterFunc(patience, func() {
		s.log.Info("MongoDB makes indexes over the people who are there; with millions of them that takes some minutes")
	})
	err := engine.Prepare(ctx, identity.Kind)
	slow.Stop()
	if err != nil {
		return err
	}
	return legacy.AdoptInPlace(ctx, s.cfg.MongoURI, s.cfg.MongoDatabase, s.users, s.log)
}

// clockOff is by how much the clock is off in a build for a test of several nodes
// (-ldflags "-X main.clockOff=30s"); empty in all others.
var clockOff string

func systemClock() clock.System {
	off, _ := time.ParseDuration(clockOff)
	return clock.System{Off: off}
}

// heard tells whether other processes hear of what this one writes.
func (p *program) heard() bool { return p.redisBus != nil && p.redisBus.Connected() }

// mongoProblem says why MongoDB cannot be used.
func mongoProblem(err error) error {
	if e, ok := errors.AsType[*mongo.StartError](err); ok {
		return problem("", "MONGO_URI", e.Problem, e.Remedy)
	}
	return err
}

// otherNodes is what tells web whether it hears other nodes. It is nil with the embedded
// store, which has one server.
func (p *program) otherNodes() func() bool {
	if !p.cfg.Shared() {
		return nil
	}
	return p.heard
}
