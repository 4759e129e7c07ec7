package browser

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/runtime"

	"login-server/internal/testbrowser"
)

// caught is a mail at /dev/mail.
type caught struct {
	text  string
	links []string // to pages of the server
}

var sixDigits = regexp.MustCompile(`(?m)^\s*(\d{6})$`)

// code is what stands alone in a line of the mail.
func (m caught) code(t testing.TB) string {
	t.Helper()
	found := sixDigits.FindStringSubmatch(m.text)
	if found == nil {
		t.Fatalf("there is no code in\n%s", m.text)
	}
	return found[1]
}

// link is the one to a page.
func (m caught) link(t testing.TB, page string) string {
	t.Helper()
	for _, link := range m.links {
		if strings.Contains(link, page) {
			return link
		}
	}
	t.Fatalf("there is no link to %s in\n%s", page, m.text)
	return ""
}

// mail waits until the latest mail has a subject, and opens it as its page shows it.
func (b *tab) mail(s *server, subject string) caught {
	b.t.Helper()
	b.Until("a mail: "+subject, func() bool {
		b.visit(s.to("dev/mail"))
		return b.text("article h2") == subject
	})
	b.Shots("mails")
	b.follow("article h2 a")
	b.Shots("mail-" + strings.ReplaceAll(subject, " ", "-"))
	return caught{b.text("pre"), testbrowser.Get[[]string](b, `[...document.querySelectorAll("article li a")].map((a) => a.href)`)}
}

// another code of six digits.
func otherCode(code string) string {
	if code == "123456" {
		return "654321"
	}
	return "123456"
}

// choose puts a file into a field.
func (b *tab) choose(selector, file string) {
	b.t.Helper()
	field := testbrowser.Call(b, runtime.Evaluate, runtime.EvaluateParams{Expression: "document.querySelector(" + testbrowser.Quote(selector) + ")"}).Result
	testbrowser.Call(b, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{file}, ObjectID: field.ObjectID})
}

// begins waits until a field has the focus, which browsers give it when they draw the page.
func (b *tab) begins(id string) {
	b.t.Helper()
	b.UntilTrue(`document.activeElement?.id === ` + testbrowser.Quote(id))
}

// TestLifeOfAnAccount goes the way of somebody whose account lives here, from signing up with an
// e-mail address to deleting it.
func TestLifeOfAnAccount(t *testing.T) {
	const (
		address  = "grace.hopper@example.org"
		second   = "grace@navy.example"
		first    = "seven bees in a bonnet"
		password = "eleven moths in a relay"
	)
	s := startWithAccounts(t)
	b, mails := newTab(t, withScript), newTab(t, withScript)
	b.AllowStatus(422) // a form with a mistake in it
	signIn := func(password string) {
		t.Helper()
		b.visit(s.to("login/account"))
		b.fill("#username", address)
		b.fill("#password", password)
		b.follow("#login-submit")
	}

	// Signing up.
	b.visit(s.to("login"))
	b.follow(`a[href*="login/account"]`)
	b.follow("#signup-link")
	b.begins("email")
	b.reads("#name-hint", "what stands before the @")
	b.fill("#email", address)
	b.fill("#password", "password12345")
	b.follow("#signup-submit")
	b.reads("#password-error", "easy to guess")
	if got := b.value("#email"); got != address {
		t.Errorf("the address that was typed is %q now", got)
	}
	b.begins("password")
	b.fill("#password", first)
	b.follow("#signup-submit")
	b.reads("h1", "Check your mail")
	b.reads("", address)
	code := mails.mail(s, "Confirm your e-mail address").code(t)
	b.fill("#code", otherCode(code))
	b.follow("#code-submit")
	b.reads("#code-error", "not right")
	b.fill("#code", code[:3]+" "+code[3:])
	b.follow("#code-submit")
	b.At(s.to("account"))
	b.reads("", "Your account is ready")
	if got := b.value("#name"); got != "grace.hopper" {
		t.Errorf("without a name the account is called %q", got)
	}

	// Nobody is led back into forms that are over.
	b.back()
	b.visit(s.to("account"))
	b.reads("h1", "Account")

	// A password that is wrong, until the browser has work to do.
	b.signOut(s)
	signIn("not this one at all")
	for range 2 {
		b.reads("#form-error", "wrong")
		b.begins("password")
		if got := b.value("#username"); got != address {
			t.Errorf("after a wrong password the address is %q", got)
		}
		b.fill("#password", "not this one at all")
		b.follow("#login-submit")
	}
	if !b.has("[data-challenge=work]") {
		t.Error("three wrong passwords, and nothing else is asked")
	}
	b.fill("#password", first)
	b.follow("#login-submit")
	b.At(s.to("account"))

	// A password that is forgotten.
	b.signOut(s)
	b.visit(s.to("login/account"))
	b.follow("#reset-link")
	b.fill("#email", address)
	b.follow("#mail-submit")
	b.reads("h1", "Check your mail")
	b.visit(mails.mail(s, "Choose a new password").link(t, "reset"))
	b.reads("h1", "Choose a new password")
	b.fill("#password", password)
	b.follow("#password-submit")
	b.At(s.to("account"))
	b.reads("", "Your password was changed")
	mails.mail(s, "Your password was changed")

	// An app for one-time codes.
	b.visit(s.to("security"))
	b.follow("#security-app")
	key := b.text("#app-key")
	b.fill("#code", appCode(t, key, time.Now()))
	b.follow("#app-confirm")
	b.reads("h1", "Recovery codes")
	recovery := strings.Fields(b.text("#recovery-codes"))
	b.follow("#recovery-next")
	b.reads("#two-step-state", "On")
	mails.mail(s, "A way to sign in was added")
	b.signOut(s)
	signIn(first)
	b.reads("#form-error", "wrong") // the one before the reset
	signIn(password)
	b.reads("h1", "Second step")
	b.begins("code")
	b.click("#trust")
	b.fill("#code", appCode(t, key, time.Now().Add(30*time.Second)))
	b.follow("#factor-submit")
	b.At(s.to("account"))
	b.signOut(s)
	signIn(password)
	b.At(s.to("account"))

	// One more address. What is trusted now is no second factor for that: it is asked for.
	b.visit(s.to("security"))
	b.follow("#security-emails")
	b.reads("", "Second step", "protected by your second step")
	b.follow("#way-recovery")
	b.fill("#code", recovery[3])
	b.follow("#factor-submit")
	b.At(s.to("security/emails"))
	b.fill("#email", second)
	b.follow("#email-add")
	b.fill("#code", mails.mail(s, "Confirm your new e-mail address").code(t))
	b.follow("#code-submit")
	b.reads("", "The address was added", second)

	// A picture.
	file := filepath.Join(t.TempDir(), "me.png")
	me := image.NewRGBA(image.Rect(0, 0, 300, 200))
	for i := range 200 {
		me.Set(i, i, color.RGBA{200, 30, 30, 255})
	}
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(out, me); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	b.visit(s.to("account/profile"))
	b.choose("#picture", file)
	b.follow("#picture-upload")
	b.reads("", "Your picture has been saved")
	b.UntilTrue(`document.querySelector("header img.avatar")?.naturalWidth`)

	// What has happened, in words.
	b.visit(s.to("security"))
	b.reads(".history", "Signed in", "Refused", "password", "one-time code", "Chrome on Linux")

	// The end.
	b.follow(`a[href$="/delete"]`)
	b.follow("#delete-confirm")
	b.reads("", "Your account has been deleted")
	signIn(password)
	b.reads("#form-error", "wrong")
	b.visit(s.to("account"))
	b.At(s.to("login"))
}
