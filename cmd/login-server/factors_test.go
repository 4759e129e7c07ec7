package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"

	"login-server/clock"
	"login-server/credential"
	"login-server/identity"
	"login-server/store/sqlite"
)

// giveFactor gives somebody an app for one-time codes and recovery codes: factor PROVIDER:ID.
func giveFactor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: factor provider:id")
	}
	ctx := context.Background()
	engine, err := sqlite.Open(ctx, filepath.Join(ts.MkAbs("data"), "login-server.db"), sqlite.Options{})
	ts.Check(err)
	defer func() { ts.Check(engine.Close()) }()
	book, err := credential.NewBook(credential.Options{Store: engine, Clock: clock.System{}, NewID: uuid.NewString, Secrets: []string{"0123456789abcdef0123456789abcdef"}})
	ts.Check(err)
	users := identity.NewDirectory(engine, identity.Options{BaseURL: "http://localhost:3004/", CacheSize: 10, Now: time.Now, NewID: uuid.NewString})
	provider, id, _ := strings.Cut(args[0], ":")
	owner, err := users.Owner(ctx, provider, id)
	ts.Check(err)
	c, err := book.Create(ctx, func(*credential.Credential) {})
	ts.Check(err)
	e, err := book.NewTOTP(owner.ID, "Test", "ada")
	ts.Check(err)
	code, err := totp.GenerateCode(e.Secret, time.Now())
	ts.Check(err)
	_, err = book.AddTOTP(ctx, c.ID, e, code)
	ts.Check(err)
	_, _, err = book.RenewRecovery(ctx, c.ID)
	ts.Check(err)
	_, err = users.Link(ctx, owner.ID, identity.Profile{Provider: "account", ID: c.ID, Name: "Ada"})
	ts.Check(err)
}
