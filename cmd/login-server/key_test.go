package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"login-server/store/mongo"
	"login-server/token"
)

// makeMainKey makes the key of JWT_ALGORITHM in the database of MONGO_URI, as a node does
// that starts with SESSION_SECRET.
func makeMainKey(ts *testscript.TestScript, _ bool, _ []string) {
	ctx := context.Background()
	uri, err := url.Parse(ts.Getenv("MONGO_URI"))
	ts.Check(err)
	engine, err := mongo.Open(ctx, uri.String(), strings.TrimPrefix(uri.Path, "/"), mongo.Options{})
	ts.Check(err)
	defer func() { ts.Check(engine.Close()) }()
	sealer, err := token.NewSealer([]string{ts.Getenv("SESSION_SECRET")}, token.KeysPurpose)
	ts.Check(err)
	_, err = token.NewManager(ctx, engine, token.Options{Algorithm: "RS256", ExpiresIn: 2 * time.Minute, Sealer: sealer, Now: time.Now})
	ts.Check(err)
}
