package config

import (
	"net/mail"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	someAccount = "TWILIO_ACCOUNT_SID=AC0123456789abcdef0123456789abcdef\nTWILIO_AUTH_TOKEN=Tr0ub4dor\n"
	someWebhook = "SMS_WEBHOOK_URL=https://sms.example.org/send\nSMS_WEBHOOK_SECRET=0f1e2d3c4b5a6978\n"
	someServer  = "SMTP_HOST=smtp.example.org\nMAIL_FROM='Login <login@example.org>'\n"
)

func TestSMTP(t *testing.T) {
	from := mail.Address{Name: "Login", Address: "login@example.org"}
	for dotEnv, want := range map[string]*SMTP{
		"":         nil,
		someServer: {Host: "smtp.example.org", Port: 587, TLS: "starttls", From: from},
		someServer + "SMTP_TLS=tls\nSMTP_USER=u\nSMTP_PASS=p\nMAIL_REPLY_TO=help@example.org": {Host: "smtp.example.org", Port: 465, TLS: "tls", User: "u", Pass: "p", From: from, ReplyTo: mail.Address{Address: "help@example.org"}},
		"SMTP_HOST=[::1]\nSMTP_TLS=none\nSMTP_PORT=1025\nMAIL_FROM=a@b":                       {Host: "::1", Port: 1025, TLS: "none", From: mail.Address{Address: "a@b"}},
	} {
		cfg, _ := loadText(t, dotEnv)
		if diff := cmp.Diff(want, cfg.SMTP); diff != "" {
			t.Errorf("%q (-want +got):\n%s", dotEnv, diff)
		}
	}
}

func TestSMS(t *testing.T) {
	cfg, _ := loadText(t, someAccount+"TWILIO_FROM=+491511234567\nSMS_PREFIXES=+49, +43\nSMS_PER_DAY=10")
	want := SMS{TwilioAccountSID: "AC0123456789abcdef0123456789abcdef", TwilioAuthToken: "Tr0ub4dor", TwilioFrom: "+491511234567", Prefixes: []string{"+49", "+43"}, PerDay: 10}
	if diff := cmp.Diff(want, cfg.SMS); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	cfg, _ = loadText(t, someWebhook+"SMS_PREFIXES=+49")
	want = SMS{WebhookURL: "https://sms.example.org/send", WebhookSecret: "0f1e2d3c4b5a6978", Prefixes: []string{"+49"}, PerDay: 200}
	if diff := cmp.Diff(want, cfg.SMS); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each complaint names its setting, and none a secret.
func TestNotifyProblems(t *testing.T) {
	production := "NODE_ENV=production\nBASE_URL=https://login.example.org/\nIMPRINT_URL=https://example.org/\nPRIVACY_URL=https://example.org/\n"
	for dotEnv, fields := range map[string]string{
		"SMTP_USER=u":      "SMTP_HOST",
		"MAIL_FROM=a@b.c":  "SMTP_HOST",
		"SMTP_PASS=Tr0ub4": "SMTP_HOST",
		"SMTP_HOST=smtp":   "MAIL_FROM",
		"SMTP_HOST=smtp://u:Tr0ub4@x/\nMAIL_FROM=a@b.c":                                                   "SMTP_HOST",
		someServer + "SMTP_TLS=ssl":                                                                       "SMTP_TLS",
		someServer + "SMTP_PORT=0":                                                                        "SMTP_PORT",
		someServer + "SMTP_USER=u":                                                                        "SMTP_PASS",
		someServer + "SMTP_PASS=Tr0ub4":                                                                   "SMTP_USER",
		someServer + "MAIL_REPLY_TO=nobody":                                                               "MAIL_REPLY_TO",
		"SMTP_HOST=smtp\nMAIL_FROM=Login":                                                                 "MAIL_FROM",
		production + someServer + "SMTP_TLS=none":                                                         "SMTP_TLS",
		someAccount + "TWILIO_FROM=+491511234567":                                                         "SMS_PREFIXES",
		someAccount + "SMS_PREFIXES=+49":                                                                  "TWILIO_FROM",
		someAccount + "SMS_PREFIXES=0049\nTWILIO_FROM=Login":                                              "SMS_PREFIXES",
		someAccount + "SMS_PREFIXES=+\nTWILIO_FROM=Login":                                                 "SMS_PREFIXES",
		someAccount + "SMS_PREFIXES=+49\nTWILIO_FROM=evil&To=1":                                           "TWILIO_FROM",
		someAccount + "SMS_PREFIXES=+49\nTWILIO_MESSAGING_SERVICE_SID=x":                                  "TWILIO_MESSAGING_SERVICE_SID",
		"TWILIO_FROM=+491511234567\nTWILIO_AUTH_TOKEN=Tr0ub4\nSMS_PREFIXES=+49":                           "TWILIO_ACCOUNT_SID",
		"TWILIO_ACCOUNT_SID=AC1\nTWILIO_AUTH_TOKEN=Tr0ub4\nSMS_PREFIXES=+49":                              "TWILIO_ACCOUNT_SID TWILIO_FROM",
		someAccount + someWebhook + "SMS_PREFIXES=+49":                                                    "SMS_WEBHOOK_URL",
		"SMS_WEBHOOK_URL=ftp://x/\nSMS_WEBHOOK_SECRET=Tr0ub4\nSMS_PREFIXES=+49":                           "SMS_WEBHOOK_URL SMS_WEBHOOK_SECRET",
		"SMS_WEBHOOK_SECRET=Tr0ub4Tr0ub4Tr0ub4\nSMS_PREFIXES=+49":                                         "SMS_WEBHOOK_URL",
		production + "SMS_WEBHOOK_URL=http://x/\nSMS_WEBHOOK_SECRET=Tr0ub4Tr0ub4Tr0ub4\nSMS_PREFIXES=+49": "SMS_WEBHOOK_URL",
		"SMS_PER_DAY=0": "SMS_PER_DAY",
	} {
		dir := t.TempDir()
		write(t, dir, "providers.json", "[]")
		write(t, dir, ".env", dotEnv)
		_, _, err := Load(dir, nil)
		if err == nil {
			t.Errorf("%q is taken", dotEnv)
			continue
		}
		var got []string
		for _, p := range err.(*Problems).Problems {
			got = append(got, p.Field)
		}
		if want := strings.Fields(fields); !slices.Equal(got, want) {
			t.Errorf("%q: complains about %v, want %v: %v", dotEnv, got, want, err)
		}
		if strings.Contains(err.Error(), "Tr0ub4") {
			t.Errorf("%q: the complaint quotes a secret: %v", dotEnv, err)
		}
	}
}
