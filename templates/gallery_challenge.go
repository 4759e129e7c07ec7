package templates

// challengeExamples are a form with a challenge in each state. Pictures and recordings
// are put in where the gallery is served.
func challengeExamples(page func(func(*CredentialsPage)) *CredentialsPage, german func(Layout) Layout) []Example {
	asking := func(kind, problem string) func(*CredentialsPage) {
		return func(p *CredentialsPage) {
			p.Username = "ada"
			// So much work that the gallery shows it under way.
			p.Challenge = &Challenge{ID: "sealed", Kind: kind, Salt: "c2FsdA", Bits: 32, Count: 32, Source: "challenge?for=login",
				ImageURL: "login/my-ldap?challenge=image", AudioURL: "login/my-ldap?challenge=audio"}
			switch kind {
			case "image":
				p.Challenge.Image = "iVBORw0KGgo="
			case "audio":
				p.Challenge.Audio = "UklGRg=="
			}
			if problem != "" {
				p.Challenge.Error = &FieldError{Field: "challenge", Message: Message{Kind: "error", ID: problem}}
				p.Error = p.Challenge.Error
			}
		}
	}
	inGerman := func(kind, problem string) *CredentialsPage {
		p := page(asking(kind, problem))
		p.Layout = german(p.Layout)
		return p
	}
	return []Example{
		{"challenge", "Challenge, the browser works", page(func(p *CredentialsPage) {
			asking("work", "")(p)
			p.Error = &FieldError{Message: Message{Kind: "error", ID: "credentials_refused"}}
		})},
		{"challenge-done", "Challenge, the browser has worked", page(func(p *CredentialsPage) {
			asking("work", "")(p)
			p.Challenge.Bits = 1
		})},
		{"challenge-missing", "Challenge, not answered", page(asking("image", "challenge_missing"))},
		{"challenge-image", "Challenge, a picture", page(asking("image", ""))},
		{"challenge-wrong", "Challenge, a picture, wrong", page(asking("image", "challenge_wrong"))},
		{"challenge-audio", "Challenge, a recording", page(asking("audio", ""))},
		{"challenge-expired", "Challenge, expired", page(asking("work", "challenge_expired"))},
		{"challenge-wait", "Too many attempts, waiting", page(func(p *CredentialsPage) {
			asking("work", "")(p)
			p.Error = &FieldError{Message: Message{Kind: "error", ID: "attempts_wait", Args: map[string]any{"Minutes": 4}}}
		})},
		{"challenge-german", "Challenge, the browser works, German", inGerman("work", "challenge_expired")},
		{"challenge-image-german", "Challenge, a picture, German", inGerman("image", "challenge_wrong")},
		{"challenge-audio-german", "Challenge, a recording, German", inGerman("audio", "challenge_missing")},
	}
}
