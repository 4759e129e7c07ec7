package oidc

import (
	"errors"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/session"
)

const (
	tvClient = `{"client_id": "tv", "name": "TV", "url": "https://tv.example.org/", "token_endpoint_auth_method": "none",
		"grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]}`
	boxClient = `{"client_id": "box", "name": "Box", "url": "https://box.example.org/", "client_secret": "` + secret + `", "scope": "openid",
		"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]}`
)

func (h *house) device(scope string) response {
	h.Helper()
	return h.call(PathDevice, "", form("client_id", "tv", "scope", scope)).want(h.T, 200, "")
}

func (h *house) poll(d response) response {
	h.Helper()
	return h.call(PathToken, "", form("grant_type", grantDevice, "client_id", "tv", "device_code", d.text("device_code")))
}

func (h *house) decideDevice(d response, allow bool, who *Person) bool {
	h.Helper()
	code, ok := UserCode(d.text("user_code"))
	if !ok {
		h.Fatalf("%q is no user code", d.text("user_code"))
	}
	done, err := h.DecideDevice(h.Context(), code, allow, who)
	if err != nil {
		h.Fatal(err)
	}
	return done
}

// Rule 27: from the code to the tokens, once.
func TestDevice(t *testing.T) {
	h := newHouse(t, tvClient, boxClient)
	ada := h.person("ada")
	d := h.device("openid profile offline_access unknown")
	if shape := regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`); !shape.MatchString(d.text("user_code")) {
		t.Errorf("user_code %q", d.text("user_code"))
	}
	if len(d.text("device_code")) != 43 || d.JSON["expires_in"] != 600.0 || d.JSON["interval"] != 5.0 || d.text("verification_uri") != issuer+"/device" ||
		d.text("verification_uri_complete") != issuer+"/device?user_code="+d.text("user_code") || d.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %s", d.Body)
	}
	h.poll(d).want(t, 400, "authorization_pending")
	code, _ := UserCode(d.text("user_code"))
	if a, ok, err := h.DeviceAsk(t.Context(), code); err != nil || !ok || a.Client.ClientID != "tv" || strings.Join(a.Scopes, " ") != "profile offline_access" {
		t.Errorf("asks for %+v, %v, %v", a, ok, err)
	}
	if !h.decideDevice(d, true, ada) {
		t.Fatal("nobody waits")
	}
	// Another client has nothing of it.
	h.call(PathToken, "box:"+secret, form("grant_type", grantDevice, "device_code", d.text("device_code"))).want(t, 400, "invalid_grant")
	got := h.poll(d).want(t, 200, "")
	if id := claims(t, got.text("id_token")); id["sub"] != ada.Account.ID || id["aud"] != "tv" || id["auth_time"] == nil {
		t.Errorf("ID Token %v", id)
	}
	if got.text("scope") != "openid profile offline_access" {
		t.Errorf("scope %q", got.text("scope"))
	}
	h.poll(d).want(t, 400, "invalid_grant")
	if h.decideDevice(d, false, ada) {
		t.Error("decided a second time")
	}
	// It is offline: the end of the session on the telephone is not that of the television.
	if err := h.sessions.SignOut(t.Context(), httptest.NewRecorder(), session.Visit{Handle: ada.Session.Handle, Session: &ada.Session}); err != nil {
		t.Fatal(err)
	}
	h.call(PathToken, "", form("grant_type", grantRefresh, "client_id", "tv", "refresh_token", got.text("refresh_token"))).want(t, 200, "")
	// What was allowed is known as a consent.
	if _, err := h.consents.Get(t.Context(), consentID(ada.Account.ID, "tv")); err != nil {
		t.Errorf("consent: %v", err)
	}
}

// Rule 27: slow_down, and each time the device has to wait longer, which is remembered.
func TestDevicePolling(t *testing.T) {
	h := newHouse(t, tvClient)
	d := h.device("openid")
	for _, step := range []struct {
		after time.Duration
		code  string
	}{
		{0, "authorization_pending"}, {5 * time.Second, "authorization_pending"}, {4 * time.Second, "slow_down"}, // 10 s from now on
		{9 * time.Second, "slow_down"},              // 15 s
		{15 * time.Second, "authorization_pending"}, // and not less again
		{14 * time.Second, "slow_down"}, {20 * time.Second, "authorization_pending"},
	} {
		h.clock.Advance(step.after)
		h.poll(d).want(t, 400, step.code)
	}
	h.clock.Advance(10 * time.Minute)
	h.poll(d).want(t, 400, "expired_token")
	if h.decideDevice(d, true, h.person("ada")) {
		t.Error("decided too late")
	}
	h.clock.Advance(deviceMemory)
	h.poll(d).want(t, 400, "invalid_grant")
}

func TestDeviceDenied(t *testing.T) {
	h := newHouse(t, tvClient)
	ada, d := h.person("ada"), h.device("openid")
	if !h.decideDevice(d, false, ada) || h.decideDevice(d, true, ada) {
		t.Error("the first answer holds")
	}
	h.poll(d).want(t, 400, "access_denied")
	if _, err := h.consents.Get(t.Context(), consentID(ada.Account.ID, "tv")); err == nil {
		t.Error("there is a consent")
	}
}

// Of many that ask at once with a device code that was allowed one gets tokens; of many
// that decide one does.
func TestDeviceAtOnce(t *testing.T) {
	h := newHouse(t, tvClient)
	ada, d := h.person("ada"), h.device("openid")
	var decided, won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if h.decideDevice(d, i%2 == 0, ada) {
				decided.Add(1)
			}
		})
	}
	wg.Wait()
	if decided.Load() != 1 {
		t.Fatalf("%d have decided", decided.Load())
	}
	d = h.device("openid")
	h.decideDevice(d, true, ada)
	for range 8 {
		wg.Go(func() {
			if h.poll(d).Status == 200 {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have tokens", won.Load())
	}
}

// Without offline_access a device's authorization is worth nothing after its session.
func TestDeviceAfterSession(t *testing.T) {
	h := newHouse(t, tvClient)
	ada, d := h.person("ada"), h.device("openid")
	h.decideDevice(d, true, ada)
	if err := h.sessions.SignOut(t.Context(), httptest.NewRecorder(), session.Visit{Handle: ada.Session.Handle, Session: &ada.Session}); err != nil {
		t.Fatal(err)
	}
	h.poll(d).want(t, 400, "invalid_grant")
}

// What was taken back before the device has asked for it is not given.
func TestDeviceWithdrawn(t *testing.T) {
	h := newHouse(t, tvClient)
	ada, d := h.person("ada"), h.device("openid")
	h.decideDevice(d, true, ada)
	if err := h.consents.Delete(t.Context(), consentID(ada.Account.ID, "tv")); err != nil {
		t.Fatal(err)
	}
	h.poll(d).want(t, 400, "invalid_grant")
}

func TestDeviceClients(t *testing.T) {
	h := newHouse(t, tvClient, boxClient, webClient)
	h.call(PathDevice, app, form("scope", "openid")).want(t, 400, "unauthorized_client")
	h.call(PathDevice, "", form("client_id", "box")).want(t, 401, "invalid_client")
	h.call(PathDevice, "", nil).want(t, 401, "invalid_client")
	h.call(PathDevice, "", form("client_id", "tv", "resource", "https://evil.example.com/")).want(t, 400, "invalid_target")
	h.call(PathDevice, "", form("client_id", "tv", "scope", "openid", "scope", "openid")).want(t, 400, "invalid_request")
	// What the client may not ask for, and what needs a refresh token, is left out.
	d := h.call(PathDevice, "box:"+secret, form("scope", "openid email offline_access")).want(t, 200, "")
	code, _ := UserCode(d.text("user_code"))
	if a, ok, err := h.DeviceAsk(t.Context(), code); err != nil || !ok || len(a.Scopes) > 0 {
		t.Errorf("asks for %v, %v, %v", a.Scopes, ok, err)
	}
}

// RFC 8628, 6.1: people write codes as they like.
func TestUserCode(t *testing.T) {
	for typed, want := range map[string]string{
		"BCDF-GHJK": "BCDFGHJK", "bcdfghjk": "BCDFGHJK", " b c d f – g.h_j k\n": "BCDFGHJK",
		"BCDF-GHJ": "", "BCDF-GHJKL": "", "BCDF-GHJA": "", "BCDF-GHJK1": "", "": "", "ＢＣＤＦＧＨＪＫ": "", strings.Repeat("-", 100) + "BCDFGHJK": "",
	} {
		got, ok := UserCode(typed)
		if ok != (want != "") || ok && (got != want || ShowUserCode(got) != "BCDF-GHJK") {
			t.Errorf("%q: got %q, %v", typed, got, ok)
		}
	}
	seen := map[byte]int{}
	for range 2000 {
		code := newUserCode()
		if got, ok := UserCode(code); !ok || got != code {
			t.Fatalf("made %q", code)
		}
		for i := range len(code) {
			seen[code[i]]++
		}
	}
	for i := range len(userCodeLetters) { // 800 expected; six standard deviations are 165
		if n := seen[userCodeLetters[i]]; n < 600 || n > 1000 {
			t.Errorf("%c comes %d times", userCodeLetters[i], n)
		}
	}
}

func FuzzUserCode(f *testing.F) {
	f.Add("bcdf-ghjk")
	f.Add("\xff\x00ÄÖ-1234")
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := UserCode(typed)
		if !ok {
			return
		}
		if again, ok := UserCode(ShowUserCode(code)); !ok || again != code || strings.Trim(code, userCodeLetters) != "" {
			t.Errorf("%q became %q and %q", typed, code, again)
		}
	})
}

// A device of an application that wants two factors gets nothing from one.
func TestDeviceStepUp(t *testing.T) {
	h := newHouse(t, strings.Replace(tvClient, `"client_id"`, `"require_mfa": true, "client_id"`, 1))
	h.able()
	ada, d := h.person("ada"), h.device("openid")
	code, _ := UserCode(d.text("user_code"))
	if _, err := h.DecideDevice(t.Context(), code, true, ada); !errors.Is(err, ErrStepUp) {
		t.Errorf("got %v", err)
	}
	h.poll(d).want(t, 400, "authorization_pending")
	if !h.decideDevice(d, true, elevated(ada, h.clock.Now())) {
		t.Fatal("nobody waits")
	}
	h.clock.Advance(5 * time.Second)
	if got := claims(t, h.poll(d).want(t, 200, "").text("id_token")); got["acr"] != "2" {
		t.Errorf("ID Token %v", got)
	}
	// To say no needs no second factor.
	if d = h.device("openid"); !h.decideDevice(d, false, ada) {
		t.Error("nobody waits")
	}
}
