package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"login-server/cluster"
	"login-server/events"
	"login-server/store/mongo"
)

// sharedStore asks MongoDB, and lists who works on it.
func (e *examination) sharedStore(ctx context.Context) {
	const about = "store"
	if e.broken || e.Offline {
		e.info(about, "MongoDB, database %s: not asked", e.cfg.MongoDatabase)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	report, err := mongo.Inspect(ctx, e.cfg.MongoURI, e.cfg.MongoDatabase)
	if err != nil {
		e.problems(about, databaseProblem(e.cfg, err))
		return
	}
	e.ok(about, "MongoDB %s answers, a %s; database %s", report.Version, report.Topology, e.cfg.MongoDatabase)
	switch {
	case report.Volatile:
		e.warn(about, "MongoDB keeps everything in memory only (storage engine "+report.Engine+"): when it stops, all accounts are gone", "use one that writes to a disk")
	case !report.Redundant:
		e.info(about, "it is one server: while it is away nobody signs in. A replica set goes on without one of its members")
	}
	if report.Missing {
		e.info(about, "nothing is in the database yet; what is needed is made when the server starts")
		return
	}
	var held []string
	for _, c := range report.Collections {
		if c.Documents > 0 {
			held = append(held, fmt.Sprintf("%s %d", c.Name, c.Documents))
		}
	}
	e.info(about, "documents: %s", strings.Join(held, ", "))
	engine, err := mongo.Open(ctx, e.cfg.MongoURI, e.cfg.MongoDatabase, mongo.Options{})
	if err != nil {
		e.problems(about, databaseProblem(e.cfg, err))
		return
	}
	defer engine.Close()
	e.nodes(ctx, engine)
}

// nodes lists the servers that live on the store, and what they miss.
func (e *examination) nodes(ctx context.Context, engine *mongo.Engine) {
	const about = "nodes"
	now := time.Now()
	nodes, err := cluster.Nodes(ctx, engine, now)
	switch {
	case err != nil:
		e.problem(about, "cannot be listed: "+err.Error(), "look into the log of MongoDB")
		return
	case len(nodes) == 0:
		e.info(about, "none is running")
		return
	}
	for _, n := range nodes {
		e.ok(about, "%s: version %s, since %s, seen %s ago", n, n.Version, when(n.Started), now.Sub(n.Seen).Round(time.Second))
	}
	for _, problem := range nodes.Problems(now) {
		e.warn(about, problem, "see docs/scaling.md")
	}
}

// redis asks Redis whether it does what it is for.
func (e *examination) redis(ctx context.Context) {
	const about = "redis"
	if e.cfg.RedisURL == "" || e.broken {
		return
	}
	if !e.cfg.Shared() {
		e.info(about, "is of no use to a server with the embedded store: it is the only one there")
	}
	if e.Offline {
		e.info(about, "not asked")
		return
	}
	client, err := events.OpenRedis(e.cfg.RedisURL)
	if err != nil {
		e.problems(about, redisProblem(err))
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	health, err := events.CheckRedis(ctx, client, installation(e.cfg))
	if err != nil {
		e.problem(about, err.Error(), "start it, or correct REDIS_URL; until then nodes hear of each other's changes late, and each counts attempts for itself")
		return
	}
	version := ""
	if health.Version != "" {
		version = " " + health.Version
	}
	e.ok(about, "Redis%s answers within %s", version, health.RoundTrip.Round(10*time.Microsecond))
}

// shared says in words where things are kept.
func (e *examination) shared() string {
	store, bus, limits := "embedded (SQLite), for one server", "within the process", "in memory"
	if e.cfg.Shared() {
		store = "MongoDB, database " + e.cfg.MongoDatabase
	}
	if e.cfg.RedisURL != "" {
		bus, limits = "through Redis", "in Redis"
	}
	return fmt.Sprintf("store: %s; events: %s; limits: %s, %d attempts in %s", store, bus, limits, e.cfg.RateLimitMax, e.cfg.RateLimitWindow)
}
