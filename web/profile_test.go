package web_test

import (
	"strings"
	"testing"
	"time"

	"login-server/identity"
)

// claims are what is known of who is signed in, by name.
func (b *browser) claims() map[string]identity.Claim {
	b.server.t.Helper()
	a, err := b.server.users.Get(b.server.t.Context(), b.user().ID)
	if err != nil {
		b.server.t.Fatal(err)
	}
	return a.Known()
}

// Rule 31: people have room for what they want to say of themselves, see who it is from,
// and take it back.
func TestProfilePage(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.open("account/profile").leadsTo("/login")
	b.submit("account/profile", "nickname", "x").leadsTo("/login")
	b.submit("account/profile/restore", "claim", "nickname").leadsTo("/login")
	b.login("alpha", "ada")
	b.open("account").want(200, `href="/account/profile"`)
	b.open("account/profile").want(200, "Your profile", `name="given_name"`, `name="country"`, "From Alpha.").wantNot("Not verified", `name="formatted"`)

	b.submit("account/profile", "given_name", " Ada ", "email", "ada@example.org", "preferred_username", "ada",
		"street_address", "Platz 1\r\nHaus 2", "country", "DE", "email_verified", "true", "updated_at", "7", "sub", "x").leadsTo("/account/profile")
	b.open("account/profile").want(200, "Your profile has been saved.", `value="Ada"`, "From you.", "Not verified", "Platz 1\nHaus 2</textarea>")
	got := b.claims()
	if got["given_name"].Value != "Ada" || got["email_verified"].Value != false || got["preferred_username"].Source != identity.SourceProvider {
		t.Errorf("claims: %v", got)
	}
	if address, _ := got["address"].Value.(map[string]any); address["street_address"] != "Platz 1\nHaus 2" || address["country"] != "DE" || len(address) != 2 {
		t.Errorf("address: %v", address)
	}

	// Nothing is saved with a mistake in it, and what was typed is still there.
	for _, tc := range []struct{ field, typed, message string }{
		{"email", "ada", "This is not an e-mail address."},
		{"website", "javascript:alert(1)", "Please enter an address that begins with https://"},
		{"birthdate", "yesterday", "Please enter a date such as"},
		{"zoneinfo", "Mars", "This time zone is not known."},
		{"locale", "!", "This language is not known."},
		{"phone_number", "<b>", "Please enter the number with its country"},
		{"nickname", strings.Repeat("x", 201), "This is too long."},
		{"biography", strings.Repeat("x", 501), "This is too long."},
		{"biography", "</textarea><b>\x07", "This contains characters that cannot be displayed."},
		{"street_address", "a\x07b", "This contains characters that cannot be displayed."},
		{"country", strings.Repeat("x", 2000), "This is too long."},
	} {
		s.run(tc.field, func(t *testing.T) {
			b.submit("account/profile", "gender", "<i>", tc.field, tc.typed).want(422, tc.message, `id="`+tc.field+`-error"`, `value="&lt;i&gt;"`).wantNot("<b>", "<i>")
			if _, set := b.claims()["gender"]; set {
				t.Error("half of it was saved")
			}
		})
	}

	// Taken back by leaving it empty; what a provider says stays away until it is wanted.
	b.submit("account/profile", "given_name", "", "street_address", "", "country", "", "preferred_username", "")
	got = b.claims()
	for _, name := range []string{"given_name", "address", "preferred_username"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is still there", name)
		}
	}
	if _, ok := got["email"]; !ok {
		t.Error("a field that was not in the form was taken back")
	}
	b.open("account/profile").want(200, "Alpha says: ada", `id="restore-preferred_username"`)
	b.submit("account/profile/restore", "claim", "preferred_username").leadsTo("/account/profile")
	b.submit("account/profile/restore", "claim", "email").leadsTo("/account/profile") // nobody offers another
	if got = b.claims(); got["preferred_username"].Value != "ada" || got["email"].Value != "ada@example.org" {
		t.Errorf("claims: %v", got)
	}
	// The data has it, the older API has not.
	b.open("account/data").want(200, `"email":{`, "ada@example.org")
	b.get("currentUser").want(200).wantNot("ada@example.org")
	if a := b.submitFrom(evilOrigin+"/", "account/profile", "nickname", "Eve"); a.status != 403 {
		t.Errorf("from another site: %d", a.status)
	}
}

const connectedApplications = `[{"url": "https://app.example.org/", "name": "App", "client_id": "app", "client_secret": "a-secret-that-is-long-enough",
	"redirect_uris": ["https://app.example.org/cb"], "logo_uri": "https://pictures.example.net/logo.svg",
	"policy_uri": "https://app.example.org/privacy", "tos_uri": "https://app.example.org/terms"}]`

const connectedRequest = "oauth/authorize?client_id=app&response_type=code&redirect_uri=https%3A%2F%2Fapp.example.org%2Fcb&scope=openid%20email" +
	"&state=s&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"

// hidden is the value of a hidden field of a page.
func hidden(t *testing.T, a answer, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(a.body), `name="`+name+`" value="`)
	value, _, _ := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("there is no field %s", name)
	}
	return value
}

// Rules 36 and 47: who asks is shown with logo, policy and terms, in words and with ids
// that stay; rule 11: ui_locales is a wish; rule 21: one can say no everywhere.
func TestPagesForClients(t *testing.T) {
	s := newServer(t, applications(connectedApplications))
	b := s.browser()
	login := b.open(connectedRequest + "&ui_locales=fr-CA+de&login_hint=ada%22%3E%3Cb%3E").want(302).location()
	login = b.open(login).want(302).location()
	page := b.open(login).want(200, `lang="de"`, "Weiter mit Alpha", `id="client-logo"`, `src="https://pictures.example.net/logo.svg"`,
		`id="client-policy"`, `href="https://app.example.org/privacy"`, `id="client-tos"`, "app.example.org")
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "img-src 'self' https://pictures.example.net ") {
		t.Errorf("policy of the login page: %s", csp)
	}
	if csp := b.open("login").header.Get("Content-Security-Policy"); strings.Contains(csp, "pictures.example.net") {
		t.Errorf("policy of another login page: %s", csp)
	}
	_, query, _ := strings.Cut(login, "?")
	b.open("login/alpha?"+query).want(200, `lang="de"`, `id="client-logo"`, `value="ada&#34;&gt;&lt;b&gt;"`)
	// The person's own choice counts more.
	b.open("login?lang=en&"+query).want(200, `lang="en"`, "Sign in")
	b.open(login).want(200, `lang="en"`, "Sign in to continue to App")

	next := b.submit("login/alpha?"+query, "username", "ada", "password", "ada-pw").want(302).location()
	consent := b.open(next).want(200, `id="consent-allow"`, `id="consent-deny"`, `id="client-logo"`, "see your e-mail address", "The address, and whether it has been verified.",
		"You are signed in as Ada.", `id="consent-other"`, "app.example.org").wantNot("see your name")
	if csp := consent.header.Get("Content-Security-Policy"); !strings.Contains(csp, "img-src 'self' https://pictures.example.net ") || !strings.Contains(csp, "form-action 'self' https://app.example.org ") {
		t.Errorf("policy of the consent page: %s", csp)
	}
	to := b.submit("oauth/continue", "request", hidden(t, consent, "request"), "person", hidden(t, consent, "person"), "decision", "allow").want(302).location()
	if !strings.HasPrefix(to, "https://app.example.org/cb?code=") {
		t.Errorf("sent to %s", to)
	}

	// It is on the account page from now on, with its logo, and in the data.
	account := b.open("account").want(200, "Connected applications", "App", "see your e-mail address", `src="https://pictures.example.net/logo.svg"`)
	if csp := account.header.Get("Content-Security-Policy"); !strings.Contains(csp, "https://pictures.example.net") {
		t.Errorf("policy of the account page: %s", csp)
	}
	b.open("account/data").want(200, `"client_id":"app"`, `"email"`)

	// A fresh sign-in says who it is for and can be declined.
	s.clock.Advance(time.Minute)
	login = b.open(b.open(connectedRequest + "&prompt=login").want(302).location()).want(302).location()
	page = b.open(login).want(200, "Confirm that it is you", "Sign in again to continue to App. You are signed in as Ada.", `id="login-cancel"`)
	to = b.submit("oauth/continue", "request", hidden(t, page, "request"), "person", hidden(t, page, "person"), "task", "login", "decision", "deny").want(302).location()
	if !strings.HasPrefix(to, "https://app.example.org/cb?") || !strings.Contains(to, "error=access_denied") || !strings.Contains(to, "state=s") || strings.Contains(to, "code=") {
		t.Errorf("declined: sent to %s", to)
	}
	b.get("currentUser").want(200)

	// Somebody else's page cannot say no, or disconnect.
	page = b.open(b.open(b.open(connectedRequest + "&prompt=login").want(302).location()).want(302).location())
	request := hidden(t, page, "request")
	if a := b.submitFrom(evilOrigin+"/", "oauth/continue", "task", "login", "decision", "deny", "request", request, "person", hidden(t, page, "person")); a.status != 403 {
		t.Errorf("from another site: %d", a.status)
	}
	if a := b.submitFrom(evilOrigin+"/", "account/applications/disconnect", "client", "app"); a.status != 403 {
		t.Errorf("from another site: %d", a.status)
	}
	b.open("account").want(200, "Connected applications")
	b.submit("account/applications/disconnect", "client", "app").leadsTo("/account")
	b.open("account").want(200, "App is no longer connected to your account.").wantNot("Connected applications")
	b.submit("account/applications/disconnect", "client", "app").leadsTo("/account")
	b.open(connectedRequest).want(302) // asks again
	if n := s.documents("consent"); n != 0 {
		t.Errorf("%d consents are left", n)
	}
}

func TestDeleteTakesApplicationsAlong(t *testing.T) {
	s := newServer(t, applications(connectedApplications))
	b := s.browser()
	b.login("alpha", "ada")
	consent := b.open(b.open(connectedRequest).want(302).location()).want(200)
	b.submit("oauth/continue", "request", hidden(t, consent, "request"), "person", hidden(t, consent, "person"), "decision", "allow").want(302)
	b.submit("delete").leadsTo("/login")
	for _, kind := range []string{"consent", "grant"} {
		if n := s.documents(kind); n != 0 {
			t.Errorf("%d documents of kind %s are left", n, kind)
		}
	}
}
