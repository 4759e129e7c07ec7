package web

import (
	"testing"

	"login-server/config"
	"login-server/oidc"
)

// Pages show the host that an answer goes to, and nothing that a client could have chosen
// to look like somebody else.
func TestHostsOfClients(t *testing.T) {
	bank := "https://bank.example.org/"
	for _, c := range []struct{ redirect, want string }{
		{"https://app.example.org/cb", "app.example.org"}, {"http://127.0.0.1:4711/cb", "127.0.0.1:4711"},
		{"org.nosy.app://bank.example.org/cb", "org.nosy.app:"}, {"org.nosy.app:/bank.example.org", "org.nosy.app:"},
	} {
		for _, registered := range []bool{true, false} {
			view := clientOf(&oidc.Ask{Client: &oidc.Client{Client: config.Client{ClientID: "c"}, URL: bank, Registered: registered}, RedirectURI: c.redirect})
			if view.Host != c.want {
				t.Errorf("%s: %q, want %q", c.redirect, view.Host, c.want)
			}
		}
	}
	// Its own address is the word of whoever has registered it, or of the operator.
	if view := clientView(&oidc.Client{URL: bank, Registered: true}); view.Host != "" {
		t.Errorf("registered: %q", view.Host)
	}
	if view := clientView(&oidc.Client{URL: bank}); view.Host != "bank.example.org" {
		t.Errorf("listed: %q", view.Host)
	}
}
