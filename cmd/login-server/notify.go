package main

import (
	"login-server/clock"
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
	o := notify.Options{
		Store: p.guard, Sealer: sealer, Clock: p.clock, Log: p.log, Dev: !cfg.Production(),
		Prefixes: cfg.SMS.Prefixes, SMSPerDay: cfg.SMS.PerDay,
	}
	if sender := mailSender(cfg, p.clock); sender != nil {
		o.Mail = sender
	}
	switch sms := cfg.SMS; {
	case sms.TwilioAccountSID != "":
		o.SMS = twilioSender(cfg, p.clock)
	case sms.WebhookURL != "":
		o.SMS = notify.NewWebhook(notify.WebhookOptions{URL: sms.WebhookURL, Secret: sms.WebhookSecret, Clock: p.clock})
	}
	return notify.New(o)
}

// mailSender is the mail server of the settings; nil where there is none.
func mailSender(cfg *config.Config, c clock.Clock) *notify.SMTP {
	if cfg.SMTP == nil {
		return nil
	}
	m := cfg.SMTP
	return notify.NewSMTP(notify.SMTPOptions{Host: m.Host, Port: m.Port, User: m.User, Pass: m.Pass, TLS: m.TLS, From: m.From, ReplyTo: m.ReplyTo, Clock: c})
}

// twilioSender is the account at Twilio of the settings.
func twilioSender(cfg *config.Config, c clock.Clock) *notify.Twilio {
	sms := cfg.SMS
	return notify.NewTwilio(notify.TwilioOptions{AccountSID: sms.TwilioAccountSID, AuthToken: sms.TwilioAuthToken, From: sms.TwilioFrom, MessagingServiceSID: sms.TwilioService, Clock: c})
}
