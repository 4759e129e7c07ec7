package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// messages asks the mail server and Twilio whether they would take something.
func (e *examination) messages(ctx context.Context) {
	if e.broken {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*e.Timeout)
	defer cancel()
	e.mail(ctx)
	e.sms(ctx)
}

// missing is what is there without a setting.
func (e *examination) missing(setting, path string) string {
	if e.cfg.Production() {
		return "not set, and none is sent (" + setting + ")"
	}
	return fmt.Sprintf("not set; it is shown at %s%s instead (%s)", e.cfg.BaseURL, path, setting)
}

func (e *examination) mail(ctx context.Context) {
	const about = "mail"
	sender := mailSender(e.cfg, systemClock())
	if sender == nil {
		e.info(about, "%s", e.missing("SMTP_HOST", "dev/mail"))
		return
	}
	m := e.cfg.SMTP
	server := net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	if e.Offline {
		e.info(about, "%s: not asked", server)
		return
	}
	if err := sender.Check(ctx); err != nil {
		e.problem(about, server+" cannot be used: "+err.Error(), "correct SMTP_HOST, SMTP_PORT, SMTP_TLS, SMTP_USER or SMTP_PASS, or look there what is wrong")
		return
	}
	how := map[string]string{"starttls": "encrypted (STARTTLS)", "tls": "encrypted (TLS)", "none": "not encrypted"}[m.TLS]
	if m.User != "" {
		how += ", authenticated as " + m.User
	}
	e.ok(about, "%s answers, %s; mails are from %s", server, how, m.From.Address)
}

func (e *examination) sms(ctx context.Context) {
	const about = "sms"
	limits := fmt.Sprintf("to %s, at most %d a day", strings.Join(e.cfg.SMS.Prefixes, ", "), e.cfg.SMS.PerDay)
	switch sms := e.cfg.SMS; {
	case sms.WebhookURL != "":
		e.info(about, "by a webhook, which is not asked; %s", limits)
	case sms.TwilioAccountSID == "":
		e.info(about, "%s", e.missing("TWILIO_ACCOUNT_SID or SMS_WEBHOOK_URL", "dev/sms"))
	case e.Offline:
		e.info(about, "by Twilio: not asked; %s", limits)
	default:
		if err := twilioSender(e.cfg, systemClock()).Check(ctx); err != nil {
			e.problem(about, "Twilio cannot be used: "+err.Error(), "correct TWILIO_ACCOUNT_SID or TWILIO_AUTH_TOKEN, or look into the console of Twilio")
			return
		}
		e.ok(about, "Twilio knows the account; %s", limits)
	}
}
