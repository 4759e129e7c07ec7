package providers

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"login-server/identity"
)

func TestORCID(t *testing.T) {
	const iD = "0000-0002-1825-0097"
	for _, tc := range []struct {
		name, issuer, env string
		options           object
		warning           bool
	}{
		{"production", orcidIssuer, "production", nil, false},
		{"sandbox in production", orcidSandboxIssuer, "production", object{"sandbox": true}, false},
		{"development", orcidSandboxIssuer, "development", nil, true},
		{"sandbox in development", orcidSandboxIssuer, "development", object{"sandbox": true}, false},
		{"no sandbox in development", orcidIssuer, "development", object{"sandbox": false}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, o, warnings := genuine(t, "orcid", tc.issuer, tc.env, tc.options)
			if got := strings.Contains(strings.Join(warnings, "\n"), "sandbox.orcid.org"); got != tc.warning {
				t.Errorf("warnings %q", warnings)
			}
			o.method = clientSecretPost
			o.keys = []object{published(testKeys()["RS256"], object{"kid": "a", "use": "sig"})}
			o.claims = func(c object) { c["sub"], c["name"], c["preferred_username"] = iD, nil, nil }
			o.tokenAnswer = func(a object) { a["orcid"], a["name"] = iD, "Josiah Carberry" }
			want := identity.Profile{Provider: "p", ID: iD, Name: "Josiah Carberry"}
			if diff := cmp.Diff(want, entered(t, p, o)); diff != "" {
				t.Error(diff)
			}
			if got := o.authURL.Get("scope"); got != "openid" {
				t.Errorf("scope %q", got)
			}
			o.tokenAnswer = nil
			o.claims = func(c object) { c["sub"], c["name"], c["given_name"] = "https://orcid.org/"+iD, nil, "Josiah" }
			if got := entered(t, p, o); got.ID != iD || got.Name != "Josiah" {
				t.Errorf("%+v", got)
			}
			o.claims = func(c object) { c["sub"], c["name"] = iD, nil } // kept private
			if got := entered(t, p, o); got.ID != iD || got.Name != "" {
				t.Errorf("%+v", got)
			}
			o.claims = func(c object) { c["sub"] = "0000-0002-1825-0098" }
			keptOut(t, p, o, "not an ORCID iD")
			if o.count(userPath) != 0 {
				t.Error("UserInfo was asked")
			}
		})
	}
	t.Run("another issuer", func(t *testing.T) {
		o := newOpenIDProvider(t)
		if got := entered(t, openOIDC(t, "orcid", o, nil), o); got.ID != "248289761001" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("only RS256", func(t *testing.T) {
		o := newOpenIDProvider(t)
		o.algorithm = "PS256"
		o.keys = []object{published(testKeys()["PS256"], object{"kid": "a"})}
		keptOut(t, openOIDC(t, "orcid", o, nil), o, "unexpected signature algorithm")
	})
}

func TestBareORCID(t *testing.T) {
	for id, want := range map[string]string{
		"0000-0002-1825-0097": "0000-0002-1825-0097", "0000-0001-5109-3700": "0000-0001-5109-3700", "0000-0002-1694-233X": "0000-0002-1694-233X",
		"https://orcid.org/0000-0002-1694-233X": "0000-0002-1694-233X", "https://sandbox.orcid.org/0000-0002-1694-233X": "0000-0002-1694-233X",
		"0000-0002-1694-2330": "", "0000-0002-1694-233x": "", "0000-0002-1825-0079": "", "0000000218250097": "", "http://orcid.org/0000-0002-1825-0097": "",
		"0000-0002-1825-0097\n": "", "https://evil.example/0000-0002-1825-0097": "", "": "",
	} {
		if got := bareORCID(id); got != want {
			t.Errorf("%q: got %q, want %q", id, got, want)
		}
	}
}
