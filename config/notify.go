package config

import (
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// SMTP is the server that takes mails, and who they are from.
type SMTP struct {
	Host       string
	Port       int
	User, Pass string
	// TLS is "starttls", "tls" (from the first byte on) or "none".
	TLS           string
	From, ReplyTo mail.Address // ReplyTo may be empty
}

// SMS is how texts are sent to telephones: by Twilio, by a server of the operator, or not at
// all.
type SMS struct {
	// TwilioAccountSID and TwilioAuthToken are an account at Twilio; with them there is one of
	// TwilioFrom and TwilioService.
	TwilioAccountSID, TwilioAuthToken, TwilioFrom, TwilioService string
	// WebhookURL and WebhookSecret are a server of the operator.
	WebhookURL, WebhookSecret string
	// Prefixes are how numbers may begin ("+49").
	Prefixes []string
	PerDay   int
}

// tlsModes are the values of SMTP_TLS, with the usual port of each.
var tlsModes = map[string]int{"starttls": 587, "tls": 465, "none": 25}

// smtp reads the settings of mails. Without SMTP_HOST there are none.
func (l *loader) smtp(s settings) {
	pass, passName := l.secret("SMTP_PASS", s.SMTPPass, "SMTP_PASS_FILE", s.SMTPPassFile)
	if s.SMTPHost == "" {
		for _, given := range []struct{ name, value string }{
			{"SMTP_PORT", s.SMTPPort}, {"SMTP_USER", s.SMTPUser}, {passName, pass}, {"SMTP_TLS", s.SMTPTLS}, {"MAIL_FROM", s.MailFrom}, {"MAIL_REPLY_TO", s.MailReplyTo},
		} {
			if given.value != "" {
				l.problem("SMTP_HOST", "is missing beside "+given.name, "write the name of the mail server, or remove "+given.name)
				return
			}
		}
		return
	}
	m := &SMTP{Host: strings.TrimSpace(s.SMTPHost), User: s.SMTPUser, Pass: pass, TLS: "starttls"}
	if strings.ContainsAny(m.Host, "/@:?# ") && !strings.HasPrefix(m.Host, "[") {
		l.problem("SMTP_HOST", QuoteURL(m.Host)+" is not a host", "write the name or the address only, such as smtp.example.org, and the port into SMTP_PORT")
	}
	m.Host = strings.Trim(m.Host, "[]")
	if s.SMTPTLS != "" {
		m.TLS = l.oneOf("SMTP_TLS", s.SMTPTLS, []string{"starttls", "tls", "none"}, "starttls")
	}
	if m.Port = tlsModes[m.TLS]; s.SMTPPort != "" {
		m.Port = l.number("SMTP_PORT", s.SMTPPort, "a port", 1, 65535, m.Port)
	}
	if m.TLS == "none" && !Loopback(m.Host) {
		const text, remedy = "mails with codes in them would go over the network without encryption", "write starttls or tls; none is for a mail server on this machine"
		if l.cfg.Production() {
			l.problem("SMTP_TLS", text, remedy)
		} else {
			l.warn("SMTP_TLS", text, remedy)
		}
	}
	switch {
	case m.User == "" && pass != "":
		l.problem("SMTP_USER", "is missing beside "+passName, "write the name that the password belongs to, or remove both")
	case m.User != "" && pass == "" && !l.complained(passName):
		l.problem("SMTP_PASS", "is missing beside SMTP_USER", "write the password, or remove both")
	}
	if s.MailFrom == "" {
		l.problem("MAIL_FROM", "is missing beside SMTP_HOST", "write who mails are from, such as Login <login@example.org>")
	} else {
		m.From = l.mailbox("MAIL_FROM", s.MailFrom)
	}
	if s.MailReplyTo != "" {
		m.ReplyTo = l.mailbox("MAIL_REPLY_TO", s.MailReplyTo)
	}
	l.cfg.SMTP = m
}

// mailbox reads an address with or without a name.
func (l *loader) mailbox(name, value string) mail.Address {
	a, err := mail.ParseAddress(strings.TrimSpace(value))
	if err != nil || strings.ContainsFunc(a.Name+a.Address, isControl) || strings.Count(a.Address, "@") != 1 {
		l.problem(name, Quote(value)+" is not an address", "write Login <login@example.org>")
		return mail.Address{}
	}
	return *a
}

var (
	twilioAccount = regexp.MustCompile(`^AC[0-9a-f]{32}$`)
	twilioService = regexp.MustCompile(`^MG[0-9a-f]{32}$`)
	twilioToken   = regexp.MustCompile(`^[0-9A-Za-z]+$`)
	// twilioFrom is a number, a short code or a name.
	twilioFrom = regexp.MustCompile(`^(\+[1-9][0-9]{7,14}|[0-9]{3,8}|[A-Za-z0-9 ]{1,11})$`)
	prefix     = regexp.MustCompile(`^\+[1-9][0-9]{0,6}$`)
)

// sms reads the settings of SMS. With neither Twilio nor a webhook there are none.
func (l *loader) sms(s settings) {
	c := &l.cfg.SMS
	c.PerDay = l.number("SMS_PER_DAY", s.SMSPerDay, "a number of SMS", 1, 1_000_000, 200)
	token, tokenName := l.secret("TWILIO_AUTH_TOKEN", s.TwilioAuthToken, "TWILIO_AUTH_TOKEN_FILE", s.TwilioAuthTokenFile)
	secret, secretName := l.secret("SMS_WEBHOOK_SECRET", s.SMSWebhookSecret, "SMS_WEBHOOK_SECRET_FILE", s.SMSWebhookSecretFile)
	for item := range strings.SplitSeq(s.SMSPrefixes, ",") {
		item = strings.TrimSpace(item)
		switch {
		case item == "":
		case prefix.MatchString(item):
			c.Prefixes = append(c.Prefixes, item)
		case prefix.MatchString("+" + strings.TrimPrefix(item, "00")):
			l.problem("SMS_PREFIXES", Quote(item)+" does not begin with +", "write +"+strings.TrimPrefix(item, "00"))
		default:
			l.problem("SMS_PREFIXES", Quote(item)+" is not the prefix of a country", "write such as +49,+43,+41")
		}
	}
	twilio := s.TwilioAccountSID != "" || token != "" || s.TwilioFrom != "" || s.TwilioService != ""
	webhook := s.SMSWebhookURL != "" || secret != ""
	switch {
	case twilio && webhook:
		l.problem("SMS_WEBHOOK_URL", "is given together with Twilio", "remove the settings of one of them")
	case twilio:
		l.twilio(s, token, tokenName)
	case webhook:
		l.webhook(s, secret, secretName)
	case len(c.Prefixes) > 0:
		l.warn("SMS_PREFIXES", "is of no use, as no SMS can be sent", "set TWILIO_ACCOUNT_SID or SMS_WEBHOOK_URL")
	}
	if (twilio || webhook) && len(c.Prefixes) == 0 && !l.complained("SMS_PREFIXES") {
		l.problem("SMS_PREFIXES", "is missing: SMS to some countries cost a lot, and there are people who live on that", "write the prefixes of the countries that your people live in, such as +49,+43,+41")
	}
}

func (l *loader) twilio(s settings, token, tokenName string) {
	c := &l.cfg.SMS
	c.TwilioAccountSID, c.TwilioAuthToken, c.TwilioFrom, c.TwilioService = s.TwilioAccountSID, token, strings.TrimSpace(s.TwilioFrom), s.TwilioService
	switch {
	case c.TwilioAccountSID == "":
		l.problem("TWILIO_ACCOUNT_SID", "is missing beside the other settings of Twilio", "write the SID of your account, which begins with AC")
	case !twilioAccount.MatchString(c.TwilioAccountSID):
		l.problem("TWILIO_ACCOUNT_SID", "is not the SID of an account", "write AC and 32 hexadecimal digits, as the console of Twilio shows them")
	}
	switch {
	case token == "" && !l.complained(tokenName):
		l.problem(tokenName, "is missing beside TWILIO_ACCOUNT_SID", "write the token of your account")
	case token != "" && !twilioToken.MatchString(token):
		l.problem(tokenName, "is not a token of Twilio", "write it as the console of Twilio shows it, letters and digits only")
	}
	switch {
	case c.TwilioFrom == "" && c.TwilioService == "":
		l.problem("TWILIO_FROM", "is missing", "write a number of your account (+49…), or set TWILIO_MESSAGING_SERVICE_SID")
	case c.TwilioFrom != "" && c.TwilioService != "":
		l.problem("TWILIO_FROM", "is given together with TWILIO_MESSAGING_SERVICE_SID", "remove one of them")
	case c.TwilioFrom != "" && !twilioFrom.MatchString(c.TwilioFrom):
		l.problem("TWILIO_FROM", Quote(c.TwilioFrom)+" is neither a number nor a name of at most 11 letters and digits", "write such as +491511234567")
	case c.TwilioService != "" && !twilioService.MatchString(c.TwilioService):
		l.problem("TWILIO_MESSAGING_SERVICE_SID", Quote(c.TwilioService)+" is not the SID of a messaging service", "write MG and 32 hexadecimal digits")
	}
}

func (l *loader) webhook(s settings, secret, secretName string) {
	c := &l.cfg.SMS
	c.WebhookURL, c.WebhookSecret = s.SMSWebhookURL, secret
	u, err := url.Parse(s.SMSWebhookURL)
	switch {
	case s.SMSWebhookURL == "":
		l.problem("SMS_WEBHOOK_URL", "is missing beside "+secretName, "write where SMS are handed over, https://…")
	case err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.User != nil:
		l.problem("SMS_WEBHOOK_URL", QuoteURL(s.SMSWebhookURL)+" is not an http(s) URL without a password", "write https://sms.example.org/send")
	case u.Scheme == "http" && !Loopback(u.Hostname()):
		const text = "codes would go over the network without encryption"
		if l.cfg.Production() {
			l.problem("SMS_WEBHOOK_URL", text, "write https://…")
		} else {
			l.warn("SMS_WEBHOOK_URL", text, "write https://…")
		}
	}
	if len(secret) < minSecret && !l.complained(secretName) {
		l.problem(secretName, fmt.Sprintf("is missing or has less than %d characters", minSecret), "write one, as `openssl rand -hex 32` prints it")
	}
}
