package web_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"login-server/credential"
)

// What somebody gets of themselves has what they sign in with here, and nothing that opens anything.
func TestDownloadCredential(t *testing.T) {
	s := newServer(t, withAccounts(`{}`))
	b, device := s.browser(), s.authenticator()
	b.login("alpha", "ada")
	b.open("account/data").want(200).wantNot(`"credential"`)
	b.setUpApp()
	b.addPasskey(device, "Key").want(302)
	kept, err := s.credentials.Update(t.Context(), b.credential().ID, func(c *credential.Credential) error {
		c.Emails = []credential.Email{{Address: adaMail, Primary: true, Verified: s.clock.Now()}}
		c.Password = &credential.Password{Hash: "$argon2id$v=19$hash-of-a-password", Set: s.clock.Now()}
		c.Phone = &credential.Phone{Number: "+4915112345678", Verified: s.clock.Now(), Factor: true}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page := b.open("account/data").want(200)
	var data struct {
		Credential struct {
			ID            string
			Emails        []struct{ Address string }
			PasswordSet   time.Time
			Passkeys      []struct{ Name string }
			App           struct{ Added time.Time }
			RecoveryCodes int
			Phone         struct{ Number string }
			TwoStep       bool
		}
	}
	page.json(&data)
	got := data.Credential
	if got.ID != kept.ID || len(got.Emails) != 1 || got.Emails[0].Address != adaMail || !got.PasswordSet.Equal(kept.Password.Set) ||
		len(got.Passkeys) != 1 || got.Passkeys[0].Name != "Key" || !got.App.Added.Equal(kept.TOTP.Added) || got.RecoveryCodes != 10 ||
		got.Phone.Number != "+4915112345678" || !got.TwoStep {
		t.Errorf("got %+v of %s", got, page.body)
	}
	page.wantNot(kept.Password.Hash, kept.TOTP.Secret, base64.StdEncoding.EncodeToString(kept.Passkeys[0].Record), base64.StdEncoding.EncodeToString(kept.Recovery[0].Hash))
	var whole map[string]json.RawMessage
	page.json(&whole)
	for _, word := range []string{"hash", "secret", "record"} {
		if strings.Contains(strings.ToLower(string(whole["credential"])), word) {
			t.Errorf("the credential says %s: %s", word, whole["credential"])
		}
	}
}
