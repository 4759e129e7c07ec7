package web_test

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"login-server/credential"
	"login-server/identity"
)

const adasNumber, adasAddress = "+4915112345678", "ada@example.org"

// withPhone makes an account that signs in with a phone, and has an address.
func (s *server) withPhone() (identity.Account, credential.Credential) {
	s.t.Helper()
	c, err := s.credentials.Create(s.t.Context(), func(c *credential.Credential) {
		c.Emails = []credential.Email{{Address: adasAddress, Primary: true, Verified: s.clock.Now()}}
		c.Phone = &credential.Phone{Number: adasNumber, Verified: s.clock.Now(), Factor: true, SignIn: true}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	a, _, err := s.users.SignIn(s.t.Context(), identity.Profile{Provider: "account", ID: c.ID, Name: "Ada"})
	if err != nil {
		s.t.Fatal(err)
	}
	return a, c
}

// smsCode is the code in the latest SMS to a number.
func (s *server) smsCode(number string) string {
	s.t.Helper()
	found := codeInSMS.FindStringSubmatch(s.sms(number).Text)
	if found == nil {
		s.t.Fatalf("no code in %q", s.sms(number).Text)
	}
	return found[1]
}

// sendPhoneCode asks for a code to sign in with.
func (b *browser) sendPhoneCode(number string) answer {
	b.server.t.Helper()
	return b.submit("login/account/phone", append(b.challengeFields("phone"), "number", number)...)
}

// phoneLogin signs in with a code by SMS.
func (b *browser) phoneLogin() answer {
	b.server.t.Helper()
	b.open("login/account/phone").want(200)
	at := b.sendPhoneCode(adasNumber).want(302).location()
	return b.submit(at, "code", b.server.smsCode(adasNumber))
}

func TestPhoneSignIn(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true, "phoneSignIn": true}`))
	s.withPhone()
	b := s.browser()
	b.open("login/account").want(200, "Sign in by phone")
	b.phoneLogin().leadsTo("/account")
	if got := b.user().Name; got != "Ada" {
		t.Errorf("%q is signed in", got)
	}
	s.clock.Advance(11 * time.Minute)

	// A number that nobody has: the same answers, and nothing is sent.
	answers := map[string][]string{}
	for _, number := range []string{adasNumber, "+4917098765432"} {
		other := s.browser()
		other.header.Set("X-Forwarded-For", "192.0.2.1")
		other.open("login/account/phone").want(200)
		writes := len(s.store.everWritten())
		first := other.sendPhoneCode(number).want(302)
		shown := other.open(first.location()).want(200, "is set up for signing in")
		wrong := other.submit(first.location(), "code", "00000x").want(302)
		wrote := len(s.store.everWritten()) - writes
		beside := other.open(wrong.location()).want(200, "not right")
		plain := func(a answer) string {
			return regexp.MustCompile(`[A-Za-z0-9_-]{22,}`).ReplaceAllString(strings.NewReplacer(number[1:], "N", url.QueryEscape(number), "N").Replace(a.location()+a.text()), "X")
		}
		answers[number] = []string{plain(first), plain(shown), plain(wrong), plain(beside), strconv.Itoa(wrote) + " writes"}
	}
	for i, known := range answers[adasNumber] {
		if unknown := answers["+4917098765432"][i]; known != unknown {
			t.Errorf("answer %d tells who is known:\n%s\n%s", i, known, unknown)
		}
	}
	if got := s.texts("+4917098765432"); len(got) != 0 {
		t.Errorf("somebody who is not known got %q", got[0].Text)
	}

	s.clock.Advance(25 * time.Hour)
	// The code is for the browser that has asked.
	asked := s.browser()
	asked.open("login/account/phone").want(200)
	at := asked.sendPhoneCode("+49 151 12345678").want(302).location()
	thief := s.browser()
	thief.open("login/account/phone").want(200)
	code := s.smsCode(adasNumber)
	thief.submit(at, "code", code).leadsTo("/login/account/phone")
	thief.get("currentUser").want(401)
	asked.submitFrom(evilOrigin, at, "code", code).want(403)
	asked.submit(at, "code", code).leadsTo("/account")
	thief.submit(at, "code", code).leadsTo("/login/account/phone")
	// The same phone is no second factor after itself.
	c, err := s.credentials.ByPhone(t.Context(), adasNumber)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.credentials.SetTwoStep(t.Context(), c.ID, true); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(11 * time.Minute)
	s.browser().phoneLogin().leadsTo("/account")
}

// No SMS is paid for that a program has asked for.
func TestPhoneSignInAsksAChallenge(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true, "phoneSignIn": true}`))
	s.withPhone()
	b := s.browser()
	b.open("login/account/phone").want(200, `data-challenge="work"`)
	b.submit("login/account/phone", "number", adasNumber).leadsTo("/login/account/phone")
	b.open("login/account/phone").want(200, `data-challenge="work"`, adasNumber[1:], "one more check")
	// Without a script it comes back with a picture, and the number is still there.
	at := b.submit("login/account/phone", "number", adasNumber, "challenge_id", b.open("login/account/phone").challenge().id, "challenge_kind", "work", "challenge_answer", "").want(302).location()
	b.open(at).want(200, `data-challenge="image"`, adasNumber[1:])
	if got := s.texts(adasNumber); len(got) != 0 {
		t.Errorf("%q was sent without an answer", got[0].Text)
	}
	fields := append(b.challengeFields("phone"), "number", adasNumber)
	sent := b.submit("login/account/phone", fields...).want(302).location()
	b.open(sent).want(200).wantNot("data-challenge")
	b.submit("login/account/phone", fields...).leadsTo("/login/account/phone") // once
	b.submit(sent, "code", s.smsCode(adasNumber)).leadsTo("/account")
}

func TestPhoneSignInTurnedOff(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true}`))
	s.withPhone()
	b := s.browser()
	b.open("login/account").want(200).wantNot("phone-link")
	b.open("login/account/phone").want(404)
	b.submit("login/account/phone", "number", adasNumber).want(404)
	b.open("login/alpha/phone").want(404)
}

func TestNotMe(t *testing.T) {
	s := newServer(t, withAccounts(`{"phone": true, "phoneSignIn": true}`))
	a, _ := s.withPhone()
	b := s.browser()
	b.phoneLogin().leadsTo("/account")
	s.clock.Advance(time.Hour)
	b.submit("logout").want(302)
	b.phoneLogin().leadsTo("/account")
	if got := s.mails(adasAddress); len(got) != 0 {
		t.Fatalf("a browser that is known: %q", got[0].Subject)
	}
	s.clock.Advance(time.Hour)
	thief := s.browser()
	thief.header.Set("User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0")
	thief.header.Set("Host", "evil.example")
	thief.phoneLogin().leadsTo("/account")
	mail := s.mail(adasAddress)
	if !strings.Contains(mail.Text, "Firefox on Windows") || !strings.Contains(mail.Text, "127.0.0.1") {
		t.Errorf("the mail says %q", mail.Text)
	}
	link := regexp.MustCompile(regexp.QuoteMeta(s.base) + `security/not-me\?key=[A-Za-z0-9_-]{43}`).FindString(mail.Text)
	if link == "" {
		t.Fatalf("no link in %q", mail.Text)
	}
	// Programs that look at mails spend nothing.
	for range 3 {
		s.browser().get(link).want(200, "Was this not you?", "Firefox on Windows")
		s.browser().send("HEAD", link, nil, "").want(200)
	}
	thief.user()
	owner := s.browser()
	owner.submitFrom(evilOrigin, link).want(403)
	at := owner.submit(link).want(302).location()
	if !strings.HasPrefix(at, "/reset/new?key=") {
		t.Errorf("it leads to %s", at)
	}
	thief.get("currentUser").want(401)
	b.user() // the owner's own session stays until the new password is chosen
	owner.open(at).want(200, "new password")
	owner.submit(link).want(400, "no longer works")
	owner.open(link).want(400)
	s.browser().open("security/not-me?key=x").want(400)

	// Who does not want to hear of it does not.
	if _, err := s.users.SetNotices(t.Context(), a.ID, identity.Notices{SignInsOff: true}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Hour)
	s.browser().phoneLogin().leadsTo("/account")
	if got := s.mails(adasAddress); len(got) != 1 {
		t.Errorf("%d mails, want the first only", len(got))
	}
}
