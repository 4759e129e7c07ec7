package main

import (
	"login-server/config"
	"login-server/notify"
	"login-server/token"
)

// openNotify opens the queue of mails and SMS. A command has none before the first start of
// the server has made the secret.
func openNotify(cfg *config.Config, p *program) (*notify.Queue, error) {
	if missing, err := readSecret(cfg); missing || err != nil {
		return nil, err
	}
	sealer, err := token.NewSealer(cfg.SessionSecrets, notify.Purpose)
	if err != nil {
		return nil, err
	}
	return notify.New(notify.Options{
		Store: p.guard, Sealer: sealer, Clock: p.clock, Log: p.log, Dev: !cfg.Production(),
	})
}
