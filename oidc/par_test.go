package oidc

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// push sends a request to the PAR endpoint and wants a request_uri.
func (h *house) push(basic string, values url.Values) string {
	h.Helper()
	return h.call(PathPush, basic, values).want(h.T, 201, "").text("request_uri")
}

// pushed is the authorization request for a request_uri.
func byURI(client, uri string) url.Values { return form("client_id", client, "request_uri", uri) }

func TestRule41Pushed(t *testing.T) {
	h := newHouse(t, webClient, secondClient, nativeClient)
	who := h.person("ada")
	got := h.call(PathPush, "app:"+secret, ask("app", "state", "pushed")).want(t, 201, "")
	uri := got.text("request_uri")
	if life, _ := got.JSON["expires_in"].(float64); life < 60 || life > 90 || got.Header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(uri, "urn:ietf:params:oauth:request_uri:") || len(uri) != len(pushedPrefix)+43 {
		t.Errorf("got %s, %v", got.Body, got.Header)
	}
	// What stands beside is ignored.
	request := ask("app", "state", "outside", "redirect_uri", "https://evil.example/", "scope", "email", "response_mode", "fragment")
	request.Set("request_uri", uri)
	first := h.asked(h.step(request, nil), SignIn).Interaction
	second := h.asked(h.step(byURI("app", uri), nil), SignIn).Interaction
	if first == second {
		t.Error("two that open it share what they do")
	}
	// From the login page on the hour of the login counts.
	h.clock.Advance(interactionLife - time.Minute)
	v := h.parameters(h.resume(second, h.again(who)))
	if v.Get("state") != "pushed" {
		t.Errorf("got %v", v)
	}
	h.redeem("app:"+secret, v.Get("code")).want(t, 200, "")
	// Then it is spent, for the other one too.
	h.refused(h.resume(first, h.again(who)), "invalid_request_uri")
	h.refused(h.step(byURI("app", uri), who), "invalid_request_uri")

	// A public client may push as well, and everybody with what they authenticate with.
	native := ask("native", "redirect_uri", "http://127.0.0.1:7/cb")
	if step := h.step(byURI("native", h.push("", native)), who); step.Answer == nil || !strings.HasPrefix(step.Answer.URL, "http://127.0.0.1:7/cb?code=") {
		t.Errorf("native: %+v", step)
	}
	if v := h.answered(byURI("app", h.push("app:"+secret, ask("app", "client_id", ""))), who); v.Get("code") == "" {
		t.Errorf("client_id in the header only: %v", v)
	}
}

func TestRule41Refused(t *testing.T) {
	h := newHouse(t, webClient, secondClient)
	who := h.person("ada")
	app := "app:" + secret
	uri := h.push(app, ask("app"))
	// Foreign, and of the same client still good then.
	h.refused(h.step(byURI("other", uri), who), "invalid_request_uri")
	h.refused(h.step(byURI("app", uri+"x"), who), "invalid_request_uri")
	h.refused(h.step(byURI("app", pushedPrefix), who), "invalid_request_uri")
	h.refused(h.step(byURI("app", pushedPrefix+strings.Repeat("x", 10_000)), who), "invalid_request_uri")
	h.refused(h.step(form("request_uri", uri), who), "invalid_client")
	h.clock.Advance(pushedLife - time.Second)
	id := h.asked(h.step(byURI("app", uri), nil), SignIn).Interaction
	h.clock.Advance(time.Second)
	h.refused(h.step(byURI("app", uri), who), "invalid_request_uri")
	if v := h.parameters(h.resume(id, h.again(who))); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}

	for name, tc := range map[string]struct {
		basic  string
		values url.Values
		status int
		code   string
	}{
		"nobody":          {"", form(), 401, "invalid_client"},
		"no secret":       {"", ask("app"), 401, "invalid_client"},
		"wrong secret":    {"app:wrong", ask("app"), 401, "invalid_client"},
		"another client":  {app, ask("other"), 400, "invalid_request"},
		"request_uri":     {app, ask("app", "request_uri", uri), 400, "invalid_request"},
		"redirect_uri":    {app, ask("app", "redirect_uri", "https://evil.example/"), 400, "invalid_request"},
		"no PKCE":         {app, ask("app", "code_challenge", "", "code_challenge_method", ""), 400, "invalid_request"},
		"response_type":   {app, ask("app", "response_type", "token"), 400, "unsupported_response_type"},
		"scope":           {app, ask("app", "resource", "https://r.example"), 400, "invalid_target"},
		"request":         {app, ask("app", "request", "x.y.z"), 400, "request_not_supported"},
		"a million bytes": {app, ask("app", "state", strings.Repeat("s", 1_000_000)), 413, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.call(PathPush, tc.basic, tc.values).want(t, tc.status, tc.code)
			if got.JSON["request_uri"] != nil || got.Header.Get("Location") != "" {
				t.Errorf("got %s", got.Body)
			}
		})
	}
	twice := ask("app")
	twice.Add("scope", "email")
	h.call(PathPush, app, twice).want(t, 400, "invalid_request")
}

func TestRule41Required(t *testing.T) {
	h := newHouse(t, strings.Replace(webClient, `"trusted": true`, `"trusted": true, "require_pushed_authorization_requests": true`, 1))
	who := h.person("ada")
	v := h.told(h.step(ask("app"), who), "invalid_request")
	if v.Has("code") || v.Get("state") != "the state" {
		t.Errorf("got %v", v)
	}
	h.refused(h.step(ask("app", "redirect_uri", "https://evil.example/"), who), "invalid_request")
	if v := h.answered(byURI("app", h.push("app:"+secret, ask("app"))), who); v.Get("code") == "" {
		t.Errorf("got %v", v)
	}
}

func TestPushedOnce(t *testing.T) {
	h := newHouse(t, webClient)
	who := h.person("ada")
	uri := h.push("app:"+secret, ask("app"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := 0
	for range 8 {
		wg.Go(func() {
			step, err := h.Authorize(t.Context(), byURI("app", uri), who)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case step.Answer != nil:
				codes++
			}
		})
	}
	wg.Wait()
	if codes != 1 {
		t.Errorf("%d have a code of one request", codes)
	}
	// A no spends it too.
	h = newHouse(t, askingClient)
	who = h.person("ada")
	uri = h.push("asking:"+secret, ask("asking"))
	a := h.asked(h.step(byURI("asking", uri), who), Consent).Interaction
	b := h.asked(h.step(byURI("asking", uri), who), Consent).Interaction
	h.told(h.decide(a, Consent, false, who), "access_denied")
	h.refused(h.decide(b, Consent, true, who), "invalid_request_uri")
}

func TestPushedObject(t *testing.T) {
	h := newHouse(t, objectClient(`, "require_signed_request_object": true`))
	who := h.person("ada")
	h.call(PathPush, "app:"+secret, ask("app")).want(t, 400, "invalid_request")
	h.call(PathPush, "app:"+secret, form("request", "x.y.z")).want(t, 400, "invalid_request_object")
	h.call(PathPush, "app:"+secret, form("request", signObject(t, objectOf("redirect_uri", "https://evil.example/")))).want(t, 400, "invalid_request")
	uri := h.push("app:"+secret, form("request", signObject(t, objectOf("state", "inner")), "state", "outer"))
	if v := h.answered(byURI("app", uri), who); v.Get("code") == "" || v.Get("state") != "inner" {
		t.Errorf("got %v", v)
	}
}

// TestPushedKey: dpop_jkt binds the code to a key (RFC 9449, 10).
func TestPushedKey(t *testing.T) {
	h := newHouse(t, webClient)
	code := h.answered(byURI("app", h.push("app:"+secret, ask("app", "dpop_jkt", challenge))), h.person("ada")).Get("code")
	if got := h.redeem("app:"+secret, code); got.Status == 200 {
		t.Errorf("without a proof: %s", got.Body)
	}
	h.call(PathPush, "app:"+secret, ask("app", "dpop_jkt", "x")).want(t, 400, "invalid_request")
}
