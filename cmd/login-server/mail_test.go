package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"login-server/clock"
	"login-server/notify"
	"login-server/store/sqlite"
	"login-server/token"
)

// refusing is a mail server that takes nothing.
type refusing struct{}

func (refusing) Connect(context.Context) (notify.MailConnection, error) { return refusing{}, nil }

func (refusing) Send(context.Context, string, notify.Mail) error {
	return &notify.Refusal{Text: "550 no such user", Permanent: true}
}

func (refusing) Close() {}

// queueMails puts three mails into the database: one that was refused, one that waits, and a decoy.
func queueMails(ts *testscript.TestScript, _ bool, _ []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	engine, err := sqlite.Open(ctx, ts.MkAbs("data/login-server.db"), sqlite.Options{})
	ts.Check(err)
	defer func() { ts.Check(engine.Close()) }()
	sealer, err := token.NewSealer([]string{"0123456789abcdef0123456789abcdef"}, notify.Purpose)
	ts.Check(err)
	queue, err := notify.New(notify.Options{Store: engine, Sealer: sealer, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Mail: refusing{}})
	ts.Check(err)
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); queue.Run(running) }()
	ts.Check(queue.Mail(ctx, notify.Mail{To: "ada@example.org", Subject: "Your code", Text: "123456", Kind: "verify"}))
	for failed := 0; failed == 0; time.Sleep(time.Millisecond) {
		stats, err := queue.Stats(ctx, notify.ChannelMail)
		ts.Check(err)
		failed = stats.Failed
	}
	stop()
	<-done
	ts.Check(queue.Mail(ctx, notify.Mail{To: "ben@example.org", Subject: "Your code", Text: "123456", Kind: "reset"}))
	ts.Check(queue.Mail(ctx, notify.Mail{To: "nobody@example.org", Subject: "Your code", Text: "123456", Kind: "reset", Decoy: true}))
}
