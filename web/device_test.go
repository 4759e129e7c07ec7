package web_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"login-server/oidc"
)

const deviceApplications = `[
	{"url": "https://tv.example.org/", "name": "The TV", "client_id": "tv", "token_endpoint_auth_method": "none",
		"grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]}
]`

type deviceAnswer struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	Interval   int
}

// device begins an authorization.
func (s *server) device() deviceAnswer {
	s.t.Helper()
	var d deviceAnswer
	s.browser().submitProgram(oidc.PathDevice, "client_id", "tv", "scope", "openid profile").want(200).json(&d)
	return d
}

// submitProgram posts a form as a program does: no cookies, no Origin.
func (b *browser) submitProgram(path string, fields ...string) answer {
	b.server.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	return b.send("POST", strings.TrimPrefix(path, "/"), headers("Content-Type", "application/x-www-form-urlencoded"), values.Encode())
}

func (s *server) poll(d deviceAnswer) (answer, map[string]any) {
	s.t.Helper()
	got := s.browser().submitProgram(oidc.PathToken, "client_id", "tv", "device_code", d.DeviceCode,
		"grant_type", "urn:ietf:params:oauth:grant-type:device_code")
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		s.t.Fatal(err)
	}
	return got, body
}

var personField = regexp.MustCompile(`name="person" value="([^"]*)"`)

func personOn(a answer) string {
	if m := personField.FindStringSubmatch(a.body); m != nil {
		return m[1]
	}
	return ""
}

// Rule 27 and 47: somebody enters the code as they like to write it, signs in, sees the
// code again, and allows.
func TestDevicePage(t *testing.T) {
	s := newServer(t, applications(deviceApplications))
	d := s.device()
	if d.URI != s.base+"device" || d.Complete != d.URI+"?user_code="+d.UserCode {
		t.Fatalf("got %+v", d)
	}
	b := s.browser()
	b.open("device").want(200, `id="device-code"`, `id="device-submit"`)
	typed := strings.ToLower(strings.ReplaceAll(d.UserCode, "-", " "))
	b.submit("device", "user_code", typed).leadsTo("/device?user_code=" + d.UserCode)
	login := b.open("device?user_code=" + d.UserCode).want(302).location()
	if want := "/login?" + (url.Values{"redirect_uri": {d.Complete}}).Encode(); login != want {
		t.Fatalf("leads to %s, want %s", login, want)
	}
	b.submit("login/alpha?"+strings.TrimPrefix(login, "/login?"), "username", "ada", "password", "ada-pw").leadsTo(d.Complete)

	page := b.open("device?user_code="+d.UserCode).want(200, "The TV", d.UserCode, "only if you see this code", `id="consent-allow"`, "see your name and profile")
	if _, body := s.poll(d); body["error"] != "authorization_pending" {
		t.Errorf("looking at the page has decided: %v", body)
	}
	b.submit("device", "user_code", d.UserCode, "person", personOn(page), "decision", "allow").want(200, `id="device-done"`)
	if _, body := s.poll(d); body["access_token"] == nil || body["id_token"] == nil || body["refresh_token"] == nil {
		t.Errorf("after the person has allowed: %v", body)
	}
	if got, body := s.poll(d); got.status != 400 || body["error"] != "invalid_grant" {
		t.Errorf("a second time: %d %v", got.status, body)
	}
	b.open("device?user_code="+d.UserCode).want(400, "unknown or too old")
}

func TestDevicePageDenied(t *testing.T) {
	s := newServer(t, applications(deviceApplications))
	d, b := s.device(), s.browser()
	b.login("alpha", "ada")
	page := b.open("device?user_code=" + d.UserCode).want(200)
	b.submit("device", "user_code", d.UserCode, "person", personOn(page), "decision", "deny").want(200, `id="device-done"`)
	if _, body := s.poll(d); body["error"] != "access_denied" {
		t.Errorf("got %v", body)
	}
}

// What another site posts, what was shown to somebody else, and what is posted without
// having signed in decides nothing.
func TestDevicePageAttacks(t *testing.T) {
	s := newServer(t, applications(deviceApplications))
	d, ada, ben := s.device(), s.browser(), s.browser()
	ada.login("alpha", "ada")
	ben.login("alpha", "ben")
	person := personOn(ada.open("device?user_code=" + d.UserCode).want(200))
	fields := []string{"user_code", d.UserCode, "person", person, "decision", "allow"}
	for _, origin := range []string{evilOrigin, appOrigin} {
		ada.submitFrom(origin, "device", fields...).want(403)
	}
	ben.submit("device", fields...).leadsTo("/device?user_code=" + d.UserCode)
	s.browser().submit("device", fields...).leadsTo("/device?user_code=" + d.UserCode)
	s.browser().submit("device", "user_code", d.UserCode, "person", "", "decision", "allow").leadsTo("/device?user_code=" + d.UserCode)
	if _, body := s.poll(d); body["error"] != "authorization_pending" {
		t.Errorf("somebody has decided: %v", body)
	}
	// Not framed, and what was typed is text.
	got := ada.open("device?user_code=" + url.QueryEscape(`"><script>alert(1)</script>`)).want(400).wantNot("<script>alert")
	if !strings.Contains(got.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Error("the page can be framed")
	}
}

// Rule 27: codes cannot be tried one after the other.
func TestDeviceCodesAreLimited(t *testing.T) {
	s := newServer(t, applications(deviceApplications), env("RATE_LIMIT_MAX", "2"))
	d, b := s.device(), s.browser()
	for range 12 {
		b.open("device?user_code=BBBB-BBBB").want(400)
	}
	b.open("device?user_code=" + d.UserCode).want(429)
	b.submit("device", "user_code", d.UserCode, "decision", "allow").want(429)
	// What is not one is not looked for, and says so.
	b.open("device?user_code=AAAA").want(400)
}

func TestDeviceQR(t *testing.T) {
	s := newServer(t, applications(deviceApplications))
	got := s.browser().get("device/qr.svg?user_code=bcdf-ghjk").want(200, "<svg")
	if got.header.Get("Content-Type") != "image/svg+xml" || got.header.Get("Content-Security-Policy") != "default-src 'none'" {
		t.Errorf("got %v", got.header)
	}
	// The upper left finder pattern (ISO/IEC 18004, 5.3.3.1): seven dark modules, then a
	// dark one on either side of five light ones.
	for _, run := range []string{"M4 4h7v1H4z", "M4 5h1v1H4z", "M10 5h1v1H10z", "M6 6h3v1H6z"} {
		if !strings.Contains(got.body, run) {
			t.Errorf("%s is missing", run)
		}
	}
	s.browser().get("device/qr.svg?user_code=%3Cscript%3E").want(400)
}

// Whoever has proved nothing cannot fill the store.
func TestDocumentsOfPublicClientsAreLimited(t *testing.T) {
	s := newServer(t, applications(deviceApplications), env("RATE_LIMIT_MAX", "2"))
	last := answer{}
	for range 100 {
		if last = s.browser().submitProgram(oidc.PathDevice, "client_id", "tv", "scope", "openid"); last.status != 200 {
			break
		}
	}
	if last.want(429); !strings.Contains(last.body, `"error":"temporarily_unavailable"`) || !strings.Contains(last.header.Get("Cache-Control"), "no-store") {
		t.Errorf("got %s, %v", last.body, last.header)
	}
}
