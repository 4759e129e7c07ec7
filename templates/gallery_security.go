package templates

import (
	"strings"
	"time"
)

// securityExamples are the pages of second factors, and of what one's sign-in is made of.
func securityExamples(layout Layout) []Example {
	in := func(path string, messages ...Message) Layout {
		l := layout
		l.Path, l.User, l.Messages = path, "Ada Lovelace", messages
		return l
	}
	out := func(path string, messages ...Message) Layout {
		l := in(path, messages...)
		l.User = ""
		return l
	}
	german := func(l Layout) Layout {
		l.Lang = "de"
		return l
	}
	wrong := func(field, id string, args ...any) *FieldError {
		m := map[string]any{}
		for i := 0; i < len(args); i += 2 {
			m[args[i].(string)] = args[i+1]
		}
		return &FieldError{Field: field, Message: Message{Kind: "error", ID: id, Args: m}}
	}
	client := &Client{ID: "c", Name: "Cocoda", Host: "cocoda.example.org", Logo: "https://cocoda.example.org/logo.svg"}
	day := func(d, hour, minute int) time.Time {
		return time.Date(2026, time.November, d, hour, minute, 0, 0, time.UTC)
	}
	number := "+49 ••• 78"
	ways := []FactorWay{{"passkey", "factor?way=passkey"}, {"totp", "factor?way=totp"}, {"sms", "factor?way=sms"}, {"recovery", "factor?way=recovery"}}
	but := func(name string) []FactorWay {
		var other []FactorWay
		for _, w := range ways {
			if w.Name != name {
				other = append(other, w)
			}
		}
		return other
	}
	factor := func(l Layout, way string, change func(*FactorPage)) *FactorPage {
		p := &FactorPage{Layout: l, Way: way, Other: but(way), Action: "factor?way=" + way, Number: number, TrustDays: 30, Cancel: "login"}
		if change != nil {
			change(p)
		}
		return p
	}
	setup := func(p *FactorPage) {
		p.StepUp, p.Other, p.Setup, p.Cancel = true, nil, ways[:3], "security"
	}
	asked := func(p *FactorPage) {
		p.Application, p.Client, p.Decline, p.Request = "Cocoda", client, "oauth/continue", "r"
	}
	browser := func(at int, result string, methods ...string) SignIn {
		x := SignIn{At: day(at, 9, 12), Provider: "E-mail", Address: "192.0.2.17", Place: "Lyon, France", Browser: "Firefox on Linux", Application: "Cocoda", Result: result}
		for _, m := range methods {
			x.Methods = append(x.Methods, Message{ID: "method_" + m})
		}
		return x
	}
	security := func(l Layout, change func(*SecurityPage)) *SecurityPage {
		p := &SecurityPage{
			Layout: l, Local: true, Emails: []string{"ada@example.org", "ada.lovelace@university.example"}, Password: &PasswordState{Set: day(2, 8, 0)}, Passkeys: 2,
			TOTP: &AppState{Added: day(3, 9, 0), Used: day(20, 17, 3)}, Phone: &PhoneState{Number: number, Verified: day(3, 9, 5)}, Recovery: &RecoveryState{Left: 9},
			Factors: true, TwoStep: true, TrustDays: 30, Identities: []string{"E-mail", "GitHub", "ORCID"}, Applications: 2,
			Sessions: []Session{
				{Handle: "s1", Current: true, Application: "Cocoda", Browser: "Firefox on Linux", Address: "192.0.2.17", Place: "Lyon, France", Provider: "E-mail", Created: day(20, 9, 12), LastUsed: day(21, 10, 0), Expires: day(28, 10, 0), Sockets: 2},
				{Handle: "s2", Browser: "Safari on iPhone", Address: "2001:db8::17", Provider: "GitHub", Created: day(19, 9, 12), LastUsed: day(20, 10, 0), Expires: day(27, 10, 0)},
			},
			History: []SignIn{browser(20, "ok", "pwd", "otp"), browser(19, "factor_refused", "pwd", "otp"), browser(18, "limited", "pwd"), browser(17, "refused", "pwd"), browser(16, "ok", "passkey"),
				{At: day(15, 1, 0), Result: "refused", More: 312}},
			Older: "security?before=x#history",
		}
		p.Offered.Emails, p.Offered.Password, p.Offered.Passkeys, p.Offered.TOTP, p.Offered.Phone = true, true, true, true, true
		if change != nil {
			change(p)
		}
		return p
	}
	nothing := func(p *SecurityPage) {
		p.Emails, p.Password, p.Passkeys, p.TOTP, p.Phone, p.Recovery = nil, nil, 0, nil, nil, nil
		p.Factors, p.TwoStep, p.Identities, p.Applications, p.Older = false, false, []string{"GitHub"}, 0, ""
		p.Sessions, p.History = p.Sessions[:1], p.History[:1]
	}
	app := func(l Layout, change func(*AppPage)) *AppPage {
		p := &AppPage{Layout: l, Action: "security/app", Picture: []byte(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="#fff" d="M0 0h8v8H0z"/><path d="M2 2h4v4H2z"/></svg>`),
			URL: "otpauth://totp/Login%20Server:ada?secret=JBSWY3DPEHPK3PXP", Key: "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP", Sealed: "x", Cancel: "security"}
		if change != nil {
			change(p)
		}
		return p
	}
	codes := []string{"k7x2m-9qfw4", "3bn8d-hy5tc", "w0gz6-r4vjp", "p9e1s-x7km2", "fd4q8-bn3hw", "y6tc0-g5zrv", "j2pe9-s1xk7", "m4qfd-8wbn3", "h0ytc-6gz5r", "vjp2e-9s1xk"}
	return []Example{
		{"security", "Security", security(in("security", Message{Kind: "success", ID: "security_turned_on"}), nil)},
		{"security-long", "Security, long names", security(german(in("security")), func(p *SecurityPage) {
			p.User = strings.Repeat("Wolfeschlegelsteinhausenbergerdorff", 6)[:200]
			p.Emails = []string{strings.Repeat("lovelace", 8) + "@" + strings.Repeat("mathematical-institute.", 8) + "example.org"}
			p.Identities = []string{p.User, "E-mail"}
			for i := range p.Sessions {
				p.Sessions[i].Application, p.Sessions[i].Browser, p.Sessions[i].Place, p.Sessions[i].Provider = p.User, p.User, p.User, p.User
			}
			for i := range p.History {
				p.History[i].Application, p.History[i].Browser, p.History[i].Place, p.History[i].Provider = p.User, p.User, p.User, p.User
			}
		})},
		{"security-rtl", "Security, names from right to left", security(in("security"), func(p *SecurityPage) {
			p.User = "محمد بن موسى الخوارزمي"
			p.Identities = []string{"بيت الحكمة", "E-mail"}
			for i := range p.Sessions {
				p.Sessions[i].Application, p.Sessions[i].Place, p.Sessions[i].Provider = "حساب", "بغداد", "بيت الحكمة"
			}
			for i := range p.History {
				p.History[i].Application, p.History[i].Place, p.History[i].Provider = "حساب", "بغداد", "بيت الحكمة"
			}
		})},
		{"security-german", "Security, German", security(german(in("security")), func(p *SecurityPage) { p.Recovery = &RecoveryState{Left: 1, Low: true}; p.Trusted = true })},
		{"security-empty", "Security, of somebody new", security(in("security"), nothing)},
		{"security-off", "Security, second step turned off", security(in("security", Message{Kind: "error", ID: "security_last"}), func(p *SecurityPage) {
			p.TwoStep = false
			p.Recovery = nil
			p.Phone.SignIn = true
			p.Newest = "security"
		})},
		{"security-elsewhere", "Security, no accounts here", security(in("security"), func(p *SecurityPage) {
			nothing(p)
			p.Local = false
			p.Offered = struct{ Password, Emails, Passkeys, TOTP, Phone bool }{}
		})},
		{"app", "App for one-time codes", app(in("security/app"), nil)},
		{"app-wrong", "App for one-time codes, wrong code, German", app(german(in("security/app")), func(p *AppPage) { p.Replaces = true; p.Error = wrong("code", "factor_wrong_totp") })},
		{"phone", "Phone", &PhonePage{Layout: in("security/phone"), Action: "security/phone", SignIn: true, Cancel: "security"}},
		{"phone-wrong", "Phone, no number, German", &PhonePage{Layout: german(in("security/phone")), Action: "security/phone", Number: "0151 1234", Error: wrong("number", "phone_invalid"), Cancel: "security"}},
		{"phone-sent", "Phone, code sent", &PhonePage{Layout: in("security/phone"), Action: "security/phone", Number: number, Sent: true, Error: wrong("code", "factor_wrong_sms"), Cancel: "security"}},
		{"recovery", "Recovery codes", &RecoveryPage{Layout: in("security/recovery"), Action: "security/recovery", Next: "security"}},
		{"recovery-renew", "Recovery codes, to be replaced", &RecoveryPage{Layout: german(in("security/recovery")), Left: 1, Action: "security/recovery", Next: "security"}},
		{"recovery-shown", "Recovery codes, shown", &RecoveryPage{Layout: in("security/recovery"), Codes: codes, Left: 10, Next: "security"}},
		{"phone-login", "Sign in by phone", &PhoneLoginPage{Layout: out("login/account/phone"), Action: "login/account/phone", Back: "login/account", Application: "Cocoda",
			Challenge: &Challenge{ID: "sealed", Kind: "work", Salt: "c2FsdA", Bits: 32, Count: 32, Source: "challenge?for=phone", ImageURL: "login/account/phone?challenge=image", AudioURL: "login/account/phone?challenge=audio"}}},
		{"phone-login-wrong", "Sign in by phone, no number, German", &PhoneLoginPage{Layout: german(out("login/account/phone")), Action: "login/account/phone", Back: "login/account", Number: "0151", Error: wrong("number", "phone_invalid")}},
		{"phone-login-sent", "Sign in by phone, code sent", &PhoneLoginPage{Layout: out("login/account/phone"), Action: "login/account/phone", Back: "login/account", Number: "+4915112345678", Sent: true, Error: wrong("code", "factor_wrong_sms")}},
		{"notme", "A sign-in that was not me", &NotMePage{Layout: out("security/not-me"), Action: "security/not-me", Browser: "Firefox on Linux", Place: "Lyon, France (192.0.2.17)", At: day(20, 3, 4)}},
		{"notme-done", "A sign-in that was not me, ended, German", &NotMePage{Layout: german(out("security/not-me")), Done: true}},
		{"factor-totp", "Second step: app", factor(out("factor"), "totp", nil)},
		{"factor-totp-wrong", "Second step: app, wrong code", factor(out("factor"), "totp", func(p *FactorPage) { p.Error = wrong("code", "factor_wrong_totp") })},
		{"factor-totp-only", "Second step: app, nothing else", factor(out("factor"), "totp", func(p *FactorPage) { p.Other = nil; p.TrustDays = 0 })},
		{"factor-totp-client", "Second step: app, for an application", factor(out("factor"), "totp", asked)},
		{"factor-totp-german", "Second step: app, German", factor(german(out("factor")), "totp", func(p *FactorPage) { asked(p); p.Error = wrong("code", "factor_tries") })},
		{"factor-wait", "Second step: has to wait", factor(out("factor"), "totp", func(p *FactorPage) { p.Error = wrong("code", "factor_wait", "Seconds", 60) })},
		{"factor-sms", "Second step: phone", factor(out("factor"), "sms", nil)},
		{"factor-sms-limited", "Second step: phone, too many messages", factor(out("factor"), "sms", func(p *FactorPage) { p.Error = wrong("code", "sms_limited", "Minutes", 10) })},
		{"factor-sms-sent", "Second step: phone, code sent", factor(out("factor"), "sms", func(p *FactorPage) { p.Sent = true })},
		{"factor-sms-soon", "Second step: phone, too soon", factor(german(out("factor")), "sms", func(p *FactorPage) { p.Sent = true; p.Error = wrong("code", "sms_soon", "Seconds", 42) })},
		{"factor-recovery", "Second step: recovery code", factor(out("factor"), "recovery", nil)},
		{"factor-recovery-wrong", "Second step: recovery code, wrong, German", factor(german(out("factor")), "recovery", func(p *FactorPage) { p.Error = wrong("code", "factor_wrong_recovery") })},
		{"factor-passkey", "Second step: passkey", factor(out("factor"), "passkey", func(p *FactorPage) {
			p.Passkey = &PasskeyForm{For: "factor", Begin: "factor/passkey/begin", Action: "factor/passkey", TrustDays: 30}
		})},
		{"factor-step-up", "Second step: of somebody signed in", factor(in("factor"), "totp", func(p *FactorPage) { asked(p); p.StepUp = true; p.TrustDays = 0 })},
		{"factor-setup", "Second step: to be set up", factor(in("factor"), "", setup)},
		{"factor-setup-client", "Second step: to be set up, for an application, German", factor(german(in("factor")), "", func(p *FactorPage) { setup(p); asked(p) })},
		{"factor-setup-none", "Second step: none offered", factor(in("factor"), "", func(p *FactorPage) { setup(p); p.Setup = nil })},
	}
}
