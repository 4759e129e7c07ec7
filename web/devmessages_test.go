package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"login-server/notify"
)

// ask asks for a path as a browser on this machine does, with other headers.
func (s *server) ask(path string, headers ...string) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.base+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	answer, err := (&http.Client{Transport: s.transport}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header
}

// In development mails and SMS can be looked at, and do nothing there.
func TestCaughtMessages(t *testing.T) {
	s := newServer(t)
	mail := notify.Mail{To: "ada@example.org", Name: "Ada <script>", Subject: "Hello <b>", Kind: "verify",
		Text: "Follow " + s.base + "signup?t=1 and not https://evil.example/", HTML: `<p style="color:red">Hi</p><script>alert(1)</script>"><img src=x>`}
	if err := s.notify.Mail(t.Context(), mail); err != nil {
		t.Fatal(err)
	}
	if err := s.notify.SMS(t.Context(), notify.SMS{To: "+491511234567", Text: "123456 is your <code>", Kind: "code"}); err != nil {
		t.Fatal(err)
	}
	if got := s.mail("ada@example.org"); got != mail {
		t.Errorf("got %+v, want %+v", got, mail)
	}
	if got := s.sms("+491511234567"); got.Text != "123456 is your <code>" {
		t.Errorf("got %+v", got)
	}
	status, list, _ := s.ask("dev/mail")
	id := s.notify.Catcher().Mails()[0].ID
	if status != http.StatusOK || !strings.Contains(list, "Hello &lt;b&gt;") || !strings.Contains(list, `href="/dev/mail/`+id+`"`) {
		t.Errorf("%d: %s", status, list)
	}
	status, page, header := s.ask("dev/mail/" + id)
	if status != http.StatusOK || !strings.Contains(page, `sandbox=""`) || strings.Contains(page, "<script") || strings.Contains(page, "<img") || strings.Contains(page, "Ada <") {
		t.Errorf("%d: %s", status, page)
	}
	if strings.Count(page, "<a href=\"http") != 1 || !strings.Contains(page, `<a href="`+s.base+`signup?t=1"`) {
		t.Errorf("other links than ours can be followed: %s", page)
	}
	if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
		t.Errorf("Content-Security-Policy: %s", csp)
	}
	if status, texts, _ := s.ask("dev/sms"); status != http.StatusOK || !strings.Contains(texts, "123456 is your &lt;code&gt;") {
		t.Errorf("%d: %s", status, texts)
	}
	if status, _, _ := s.ask("dev/mail/nothing"); status != http.StatusNotFound {
		t.Errorf("a mail that is not there: %d", status)
	}
}

// Codes are in there: nobody sees them from elsewhere.
func TestCaughtMessagesFromElsewhere(t *testing.T) {
	s := newServer(t, env("TRUSTED_PROXIES", "127.0.0.1,::1"))
	for _, headers := range [][]string{
		{"X-Forwarded-For", "203.0.113.7"},
		{"X-Forwarded-For", "127.0.0.1, 203.0.113.7"},
		{"Host", "rebound.example"},
		{"Origin", appOrigin},
		{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"},
		{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"},
	} {
		for _, path := range []string{"dev/mail", "dev/mail/x", "dev/sms"} {
			if status, body, _ := s.ask(path, headers...); status != http.StatusNotFound || strings.Contains(body, "Nothing was sent yet") {
				t.Errorf("%s with %q: %d", path, headers, status)
			}
		}
	}
	if status, _, _ := s.ask("dev/mail", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"); status != http.StatusOK {
		t.Errorf("typed into a browser: %d", status)
	}
	s = newServer(t, env("NODE_ENV", "production"), env("SESSION_SECRET", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"), env("BASE_URL", "https://login.example.org/"), func(o *options) { o.providers = "[]" })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.http.URL+"/dev/mail", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("in production: %d", answer.StatusCode)
	}
}
