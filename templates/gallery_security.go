package templates

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
	return []Example{
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
		{"factor-passkey", "Second step: passkey", factor(out("factor"), "passkey", func(p *FactorPage) { p.Passkey = PasskeyForm{For: "factor", Begin: "factor/passkey/begin", Action: "factor/passkey", TrustDays: 30} })},
		{"factor-step-up", "Second step: of somebody signed in", factor(in("factor"), "totp", func(p *FactorPage) { asked(p); p.StepUp = true; p.TrustDays = 0 })},
		{"factor-setup", "Second step: to be set up", factor(in("factor"), "", setup)},
		{"factor-setup-client", "Second step: to be set up, for an application, German", factor(german(in("factor")), "", func(p *FactorPage) { setup(p); asked(p) })},
		{"factor-setup-none", "Second step: none offered", factor(in("factor"), "", func(p *FactorPage) { setup(p); p.Setup = nil })},
	}
}
