package browser

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

// appCode is what an app for one-time codes shows at a time (RFC 6238).
func appCode(t testing.TB, key string, at time.Time) string {
	t.Helper()
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(key, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

// TestSecondStep sets up an app for one-time codes and signs in with it, also without
// JavaScript: a form is a form.
func TestSecondStep(t *testing.T) {
	for name, who := range map[string]person{"with a script": withScript, "without": {accept: "en-GB"}} {
		t.Run(name, func(t *testing.T) {
			s := startWithAccounts(t)
			b := newTab(t, who)
			signIn := func() {
				b.visit(s.to("login/test"))
				b.fill("#username", ada)
				b.fill("#password", adaPassword)
				b.follow("#login-submit")
			}
			signIn()
			b.visit(s.to("security"))
			b.Shots("security")
			b.follow("#security-app")
			key := b.text("#app-key")
			if who.script {
				b.Shots("app")
			}
			b.fill("#code", appCode(t, key, time.Now()))
			b.follow("#app-confirm")
			b.reads("h1", "Recovery codes")
			recovery := strings.Fields(b.text("#recovery-codes"))
			b.follow("#recovery-next")
			b.At(s.to("security"))
			b.reads("#two-step-state", "On")

			b.signOut(s)
			signIn()
			b.reads("h1", "Second step")
			if who.script {
				b.Shots("factor")
			}
			b.fill("#code", "000 00x")
			b.follow("#factor-submit")
			b.reads("#code-error", "not right")
			// The code of the set-up was used; that of the next step is good already.
			b.click("#trust")
			b.fill("#code", appCode(t, key, time.Now().Add(30*time.Second)))
			b.follow("#factor-submit")
			b.At(s.to("account"))

			b.signOut(s)
			signIn() // trusted
			b.At(s.to("account"))
			b.visit(s.to("security"))
			b.reads("", "This browser is not asked")
			b.follow("#distrust") // trust is no second factor: it is asked for now
			b.reads("h1", "Second step")
			b.follow("#way-recovery")
			b.fill("#code", strings.ToUpper(recovery[0]))
			b.follow("#factor-submit")
			b.follow("#distrust")
			b.reads("", "No browser is trusted any more", "9 codes left", "Second step refused")
		})
	}
}
