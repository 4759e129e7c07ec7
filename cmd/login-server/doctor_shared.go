package main

import (
	"context"

	"login-server/store/mongo"
)

// sharedStore asks MongoDB.
func (e *examination) sharedStore(ctx context.Context) {
	const about = "store"
	if e.broken || e.Offline {
		return
	}
	engine, err := mongo.Open(ctx, e.cfg.MongoURI, e.cfg.MongoDatabase, mongo.Options{})
	if err != nil {
		e.problems(about, databaseProblem(e.cfg, err))
		return
	}
	defer engine.Close()
	e.ok(about, "MongoDB answers")
}
