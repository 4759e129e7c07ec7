package oidc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/config"
	"login-server/events"
	"login-server/store"
)

// registering is a house in which clients may register.
func registering(t *testing.T, who string) *house {
	t.Helper()
	h := newHouse(t, webClient)
	h.o.Registration, h.o.RegistrationLimit = who, 100
	mux := http.NewServeMux()
	for path, handler := range h.Endpoints() {
		mux.Handle(path, handler)
	}
	h.handler = mux
	return h
}

// send sends JSON to an endpoint, with a token if there is one.
func (h *house) send(method, path, token, body string) response {
	h.Helper()
	r := httptest.NewRequest(method, strings.TrimPrefix(path, issuer), strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return h.do(r)
}

func (h *house) register(body string) response {
	h.Helper()
	return h.send(http.MethodPost, PathRegister, "", body)
}

const minimal = `{"redirect_uris": ["https://app.example.org/cb"]}`

// Rule 35: what comes back, and what can be done with it.
func TestRegistration(t *testing.T) {
	h := registering(t, RegistrationOpen)
	got := h.register(`{"redirect_uris": ["https://app.example.org/cb"], "client_name": "Self", "logo_uri": "https://app.example.org/logo.png", "policy_uri": "https://app.example.org/#privacy", "unheard_of": {"a": 1}, "software_statement": "eyJ"}`).want(t, 201, "")
	for name, want := range map[string]any{
		"redirect_uris": []any{"https://app.example.org/cb"}, "client_name": "Self", "logo_uri": "https://app.example.org/logo.png", "policy_uri": "https://app.example.org/#privacy",
		"grant_types": []any{"authorization_code"}, "response_types": []any{"code"}, "token_endpoint_auth_method": "client_secret_basic",
		"application_type": "web", "subject_type": "public", "client_id_issued_at": float64(start.Unix()), "client_secret_expires_at": 0.0,
	} {
		if !reflect.DeepEqual(got.JSON[name], want) {
			t.Errorf("%s is %v, want %v", name, got.JSON[name], want)
		}
	}
	for _, name := range []string{"unheard_of", "software_statement", "client_secret_hash", "trusted", "access_token_format"} {
		if _, ok := got.JSON[name]; ok {
			t.Errorf("%s is in the answer", name)
		}
	}
	id, secret, token, uri := got.text("client_id"), got.text("client_secret"), got.text("registration_access_token"), got.text("registration_client_uri")
	if uri != issuer+PathRegister+"/"+id || len(secret) < 43 || len(token) < 43 || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %s", got.Body)
	}

	// It works: a person is asked for consent, the code is redeemed.
	ada := h.person("ada")
	step, err := h.Authorize(t.Context(), ask(id), ada)
	if err != nil || step.Ask == nil || step.Ask.Task != Consent || step.Ask.Client.Name != "Self" || step.Ask.Client.LogoURI == "" {
		t.Fatalf("got %+v, %v", step, err)
	}
	if step, err = h.Decide(t.Context(), step.Ask.Interaction, Consent, true, ada); err != nil {
		t.Fatal(err)
	}
	tokens := h.redeem(id+":"+secret, h.parameters(step).Get("code")).want(t, 200, "")
	userinfo := func() response {
		return h.send(http.MethodGet, PathUserInfo, tokens.text("access_token"), "")
	}
	userinfo().want(t, 200, "")

	// GET has the token again, and no secret: only its hash is known.
	shown := h.send(http.MethodGet, uri, token, "").want(t, 200, "")
	if _, ok := shown.JSON["client_secret"]; ok || shown.text("registration_access_token") != token || shown.text("registration_client_uri") != uri || shown.text("client_name") != "Self" {
		t.Errorf("GET: %s", shown.Body)
	}
	// PUT replaces: what is left out has its default again; the secret stays.
	changed := h.send(http.MethodPut, uri, token, `{"client_id": "`+id+`", "client_secret": "`+secret+`", "redirect_uris": ["https://app.example.org/other"], "token_endpoint_auth_method": "client_secret_post"}`).want(t, 200, "")
	if _, ok := changed.JSON["logo_uri"]; ok || changed.text("token_endpoint_auth_method") != "client_secret_post" || changed.JSON["client_secret"] != nil || changed.text("registration_access_token") != token {
		t.Errorf("PUT: %s", changed.Body)
	}
	if step, _ := h.Authorize(t.Context(), ask(id), ada); step.Refuse == nil {
		t.Error("the old redirect URI is still good")
	}
	h.call(PathToken, "", form("grant_type", "refresh_token", "refresh_token", "x", "client_id", id, "client_secret", secret)).want(t, 400, "unauthorized_client")
	// From no secret to one: it is in the answer, once.
	public := h.send(http.MethodPut, uri, token, `{"client_id": "`+id+`", "redirect_uris": ["https://app.example.org/other"], "token_endpoint_auth_method": "none"}`).want(t, 200, "")
	if public.JSON["client_secret"] != nil {
		t.Errorf("a public client with a secret: %s", public.Body)
	}
	again := h.send(http.MethodPut, uri, token, `{"client_id": "`+id+`", "redirect_uris": ["https://app.example.org/cb"]}`).want(t, 200, "")
	if again.text("client_secret") == "" || again.text("client_secret") == secret || again.JSON["client_secret_expires_at"] != 0.0 {
		t.Errorf("PUT: %s", again.Body)
	}

	// DELETE: client, tokens and consents are gone at once.
	userinfo().want(t, 200, "")
	gone := h.send(http.MethodDelete, uri, token, "")
	if gone.Status != 204 || len(gone.Body) > 0 {
		t.Errorf("DELETE: %d %s", gone.Status, gone.Body)
	}
	userinfo().want(t, 401, "invalid_token")
	h.send(http.MethodGet, uri, token, "").want(t, 401, "invalid_token")
	if step, _ := h.Authorize(t.Context(), ask(id), ada); step.Refuse == nil {
		t.Error("the client is still known")
	}
	if n, err := h.consents.Count(t.Context(), "client:"+id); n != 0 || err != nil {
		t.Errorf("%d consents are left, %v", n, err)
	}
	for item, err := range h.grants.All(t.Context(), store.Query{Key: "client:" + id}) {
		if err != nil || !item.Value.Revoked {
			t.Errorf("a grant is left: %+v, %v", item.Value, err)
		}
	}
}

// Rule 33, 35: the endpoint is there, and in the metadata, only when it is on.
func TestRegistrationOff(t *testing.T) {
	for _, who := range []string{"", RegistrationOff} {
		h := registering(t, who)
		if got := h.register(minimal); got.Status != 404 {
			t.Errorf("%q: got %d", who, got.Status)
		}
		if _, ok := h.metadata()["registration_endpoint"]; ok {
			t.Errorf("%q: it is in the metadata", who)
		}
	}
	if h := registering(t, RegistrationToken); h.metadata()["registration_endpoint"] != issuer+PathRegister {
		t.Error("it is not in the metadata")
	}
}

// Rules 14 and 36: what is refused, and why.
func TestRegistrationRefused(t *testing.T) {
	h := registering(t, RegistrationOpen)
	many := make([]string, maxURIs+1)
	for i := range many {
		many[i] = fmt.Sprintf("https://app.example.org/%d", i)
	}
	uris := func(list ...string) string { return jsonOf(object{"redirect_uris": list}) }
	const redirect, metadata = "invalid_redirect_uri", "invalid_client_metadata"
	with := func(more string) string { return `{"redirect_uris": ["https://app.example.org/cb"], ` + more + `}` }
	for _, tc := range []struct {
		body, code string
		status     int
	}{
		{uris("javascript:alert(1)"), redirect, 400}, {uris("data:text/html,x"), redirect, 400}, {uris("com.example.app:/cb"), redirect, 400},
		{uris("vbscript:x"), redirect, 400}, {uris("file:///etc/passwd"), redirect, 400}, {uris("https://app.example.org/cb#"), redirect, 400},
		{uris("https://app.example.org/cb#x"), redirect, 400}, {uris("http://app.example.org/cb"), redirect, 400}, {uris("https://*.example.org/"), redirect, 400},
		{uris("https://ada:secret@app.example.org/"), redirect, 400}, {uris("https://app.example.org\\@evil.example/"), redirect, 400}, {uris("//app.example.org/"), redirect, 400},
		{uris("https://app.example.org/ü"), redirect, 400}, {uris("https://:443/"), redirect, 400}, {uris("http://127.0.0.1.example.org/"), redirect, 400}, {uris(""), redirect, 400},
		{uris(), redirect, 400}, {`{}`, redirect, 400}, {uris(many...), redirect, 400}, {`{"redirect_uris": "https://app.example.org/"}`, redirect, 400}, {`{"redirect_uris": [1]}`, redirect, 400},
		{`{"application_type": "native", "redirect_uris": ["javascript:alert(1)"]}`, redirect, 400}, {`{"application_type": "native", "redirect_uris": ["myapp:/cb"]}`, redirect, 400},
		{``, metadata, 400}, {`[]`, metadata, 400}, {`null`, metadata, 400}, {`"x"`, metadata, 400}, {`{"a":`, metadata, 400}, {minimal + minimal, metadata, 400},
		{`{"x": "` + strings.Repeat("x", 10<<20) + `"}`, metadata, 413},
		{with(`"logo_uri": "javascript:alert(1)"`), metadata, 400}, {with(`"logo_uri": "http://app.example.org/"`), metadata, 400}, {with(`"policy_uri": "data:text/html,x"`), metadata, 400},
		{with(`"tos_uri": "https://app.example.org/\"onload="`), metadata, 400}, {with(`"initiate_login_uri": "http://localhost/"`), metadata, 400},
		{with(`"jwks_uri": "http://app.example.org/"`), metadata, 400}, {with(`"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}`), metadata, 400},
		{with(`"post_logout_redirect_uris": ["javascript:alert(1)"]`), metadata, 400}, {with(`"frontchannel_logout_uri": "https://other.example.org/"`), metadata, 400},
		{with(`"response_types": ["token"]`), metadata, 400}, {with(`"response_types": ["code id_token"]`), metadata, 400}, {with(`"grant_types": ["implicit"]`), metadata, 400},
		{with(`"grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"]`), metadata, 400}, {with(`"grant_types": ["client_credentials"], "response_types": ["code"]`), metadata, 400},
		{with(`"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"`), metadata, 400},
		{with(`"token_endpoint_auth_method": "private_key_jwt"`), metadata, 400}, {with(`"token_endpoint_auth_method": "tls_client_auth"`), metadata, 400},
		{with(`"id_token_signed_response_alg": "none"`), metadata, 400}, {with(`"request_object_signing_alg": "HS256"`), metadata, 400},
		{with(`"scope": "admin"`), metadata, 400}, {with(`"default_max_age": -1`), metadata, 400}, {with(`"client_name": "Bank\u202e"`), metadata, 400},
		{with(`"subject_type": "pairwise", "sector_identifier_uri": "http://app.example.org/"`), metadata, 400},
	} {
		if got := h.register(tc.body); got.Status != tc.status || got.text("error") != tc.code {
			t.Errorf("%.200s: got %d %s, want %d %s", tc.body, got.Status, got.Body, tc.status, tc.code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, PathRegister, strings.NewReader(minimal))
	r.Header.Set("Content-Type", "text/plain")
	h.do(r).want(t, 400, metadata)
	if n, err := h.clients.registry.stored.Count(t.Context(), ""); n != 0 || err != nil {
		t.Errorf("%d clients, %v", n, err)
	}
	// And what is fine (rule 36: nothing is narrower than it was asked for).
	for _, body := range []string{
		minimal, uris("http://localhost:8080/cb"), uris("http://[::1]/cb", "https://app.example.org/?a=b"), uris(many[1:]...),
		`{"application_type": "native", "redirect_uris": ["org.example.app:/cb", "http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"}`,
		`{"grant_types": ["client_credentials"]}`, with(`"logo_uri": null, "contacts": ["ada@example.org"]`), with(`"grant_types": ["authorization_code", "refresh_token"]`),
	} {
		h.register(body).want(t, 201, "")
	}
}

// Each name of the metadata is either for clients to choose, or for operators.
func TestRegistrationNames(t *testing.T) {
	v := reflect.TypeFor[config.Client]()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Field(i).Tag.Get("json"), ",")
		if slices.Contains(registrable, name) == slices.Contains(reserved, name) {
			t.Errorf("%s is in neither list, or in both", name)
		}
	}
}

// Attack: a client makes itself what only operators make it, by any spelling, at the
// first registration or later.
func TestRegistrationPrivileges(t *testing.T) {
	h := registering(t, RegistrationOpen)
	const more = `"trusted": true, "Trusted": true, "TRUSTED": true, "fapi": true, "require_pkce": false, "resources": ["https://api.example.org/"], "origins": ["https://evil.example"],
		"client_secret": "known-to-everybody-known", "client_secret_hash": ["x"], "client_secret_file": "/etc/passwd", "CLIENT_ID": "app", "scope": "openid admin"`
	got := h.register(`{"redirect_uris": ["https://app.example.org/cb"], "client_id": "app", `+more+`}`).want(t, 201, "")
	id, token, uri := got.text("client_id"), got.text("registration_access_token"), got.text("registration_client_uri")
	harmless := func() {
		t.Helper()
		item, err := h.clients.registry.stored.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		m := item.Value.Client
		if m.Trusted || m.FAPI || m.RequirePKCE != nil || m.Resources != nil || m.Origins != nil || m.ClientSecret != "" || m.ClientSecretHash != nil || m.ClientSecretFile != "" || m.ClientID != id || m.Scope != "openid" {
			t.Errorf("it has got more than it may: %+v", m)
		}
		if id == "app" || len(id) != 22 {
			t.Errorf("client_id %q", id)
		}
		if c, err := h.clients.get(t.Context(), id); err != nil || c.hasSecret("known-to-everybody-known") {
			t.Errorf("the secret was the client's choice, %v", err)
		}
	}
	harmless()
	// PUT: the client_id has to be its own, and so has the secret.
	h.send(http.MethodPut, uri, token, `{"redirect_uris": ["https://app.example.org/cb"], "client_id": "app"}`).want(t, 400, "invalid_client_metadata")
	h.send(http.MethodPut, uri, token, `{"redirect_uris": ["https://app.example.org/cb"]}`).want(t, 400, "invalid_client_metadata")
	h.send(http.MethodPut, uri, token, `{"redirect_uris": ["https://app.example.org/cb"], "client_id": "`+id+`", `+more+`}`).want(t, 400, "invalid_client_metadata")
	h.send(http.MethodPut, uri, token, `{"redirect_uris": ["https://app.example.org/cb"], "client_id": "`+id+`", "registration_access_token": "x"}`).want(t, 400, "invalid_client_metadata")
	h.send(http.MethodPut, uri, token, `{"redirect_uris": ["https://app.example.org/cb"], "client_id": "`+id+`", `+strings.Replace(more, `"client_secret"`, `"-"`, 1)+`}`).want(t, 200, "")
	harmless()

	// Another client's token, none, or one in the query opens nothing; nor does a client of
	// applications.json, or one of the command line.
	other := h.register(minimal).want(t, 201, "")
	if _, _, err := h.clients.registry.Add(t.Context(), "CLI", "", config.Client{ClientID: "cli", RedirectURIs: []string{"https://cli.example.org/"}}, false); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		for _, tc := range [][2]string{
			{uri, other.text("registration_access_token")}, {uri, ""}, {uri + "?access_token=" + token, ""}, {uri, got.text("client_secret")}, {uri + "x", token},
			{issuer + PathRegister + "/app", token}, {issuer + PathRegister + "/cli", token}, {issuer + PathRegister + "/cli", ""},
		} {
			if a := h.send(method, tc[0], tc[1], minimal).want(t, 401, "invalid_token"); !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate is %q", a.Header.Get("WWW-Authenticate"))
			}
		}
	}
	h.send(http.MethodGet, uri, token, "").want(t, 200, "")
}

// Rule 1, 35: initial access tokens. Of many at once as many win as it has uses.
func TestInitialTokens(t *testing.T) {
	h := registering(t, RegistrationToken)
	registry := h.clients.registry
	h.register(minimal).want(t, 401, "invalid_token")
	made, token, err := registry.AddToken(t.Context(), 3, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	post := func(token, body string) response { return h.send(http.MethodPost, PathRegister, token, body) }
	for _, wrong := range []string{"x", made.ID + ".", made.ID, made.ID + "." + random(), token + "x", strings.Repeat("x", 10_000)} {
		post(wrong, minimal).want(t, 401, "invalid_token")
	}
	post(token, `{}`).want(t, 400, "invalid_redirect_uri") // does not count
	var wins, losses atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			switch post(token, minimal).Status {
			case 201:
				wins.Add(1)
			case 401:
				losses.Add(1)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 3 || losses.Load() != 9 {
		t.Errorf("%d registered and %d were refused, want 3 and 9", wins.Load(), losses.Load())
	}
	// It ends with its time, or when it is removed.
	_, token, _ = registry.AddToken(t.Context(), 3, time.Hour)
	post(token, minimal).want(t, 201, "")
	h.clock.Advance(time.Hour)
	post(token, minimal).want(t, 401, "invalid_token")
	made, token, _ = registry.AddToken(t.Context(), 3, time.Hour)
	if err := registry.RemoveToken(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	post(token, minimal).want(t, 401, "invalid_token")
	if doc, err := h.engine.Get(t.Context(), "initial access token", made.ID); err == nil || bytes.Contains(doc.Data, []byte(token)) {
		t.Errorf("got %s, %v", doc.Data, err)
	}
}

func TestRegistrationLimit(t *testing.T) {
	h := registering(t, RegistrationOpen)
	h.o.RegistrationLimit = 2
	first := h.register(minimal).want(t, 201, "")
	h.register(minimal).want(t, 201, "")
	h.register(minimal).want(t, 503, "temporarily_unavailable")
	if got := h.send(http.MethodDelete, first.text("registration_client_uri"), first.text("registration_access_token"), ""); got.Status != 204 {
		t.Fatalf("DELETE: %d", got.Status)
	}
	h.register(minimal).want(t, 201, "")
}

// Rule 36: what is at sector_identifier_uri has to have all redirect URIs in it, and is
// not asked for inside.
func TestSectorIdentifier(t *testing.T) {
	h := registering(t, RegistrationOpen)
	var body atomic.Value
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(body.Load().(string)))
	}))
	defer server.Close()
	ask := func(path string) response {
		return h.register(`{"redirect_uris": ["https://a.example.org/cb", "https://b.example.org/cb"], "subject_type": "pairwise", "sector_identifier_uri": "` + server.URL + path + `"}`)
	}
	body.Store(`["https://a.example.org/cb", "https://b.example.org/cb", "https://c.example.org/"]`)
	ask("/").want(t, 400, "invalid_client_metadata")
	if n := asked.Load(); n != 0 {
		t.Errorf("a server inside was asked %d times", n)
	}
	h.o.HTTP = server.Client()
	h.o.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	got := ask("/").want(t, 201, "")
	if got.text("sector_identifier_uri") == "" || got.text("subject_type") != "pairwise" {
		t.Errorf("got %s", got.Body)
	}
	ask("/away").want(t, 400, "invalid_client_metadata")
	for _, bad := range []string{`["https://a.example.org/cb"]`, `{}`, `["https://a.example.org/cb", "https://B.example.org/cb"]`, `<html>`, `[` + strings.Repeat(" ", maxSector) + `]`} {
		body.Store(bad)
		if got := ask("/"); got.Status != 400 || got.text("error") != "invalid_client_metadata" || strings.Contains(string(got.Body), "<html") {
			t.Errorf("%.50s: got %d %s", bad, got.Status, got.Body)
		}
	}
}

// A client that signs with its secret gets one that this server can tell again, and does
// not keep.
func TestRegisteredSecretJWT(t *testing.T) {
	h := registering(t, RegistrationOpen)
	got := h.register(`{"grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_jwt", "token_endpoint_auth_signing_alg": "HS512"}`).want(t, 201, "")
	c, err := h.clients.get(t.Context(), got.text("client_id"))
	if err != nil || c.ClientSecret != got.text("client_secret") || len(c.ClientSecret) < minSecret["HS512"] {
		t.Fatalf("got %+v, %v", c, err)
	}
	doc, err := h.engine.Get(t.Context(), "client", c.ClientID)
	if err != nil || bytes.Contains(doc.Data, []byte(c.ClientSecret)) {
		t.Errorf("the secret is stored: %s, %v", doc.Data, err)
	}
}

// No secret and no token is stored or logged as it is.
func TestRegistrationSecrets(t *testing.T) {
	h := registering(t, RegistrationOpen)
	var log bytes.Buffer
	h.o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	got := h.register(minimal).want(t, 201, "")
	uri, token, id := got.text("registration_client_uri"), got.text("registration_access_token"), got.text("client_id")
	h.send(http.MethodPut, uri, token, `{"client_id": "`+id+`", "redirect_uris": ["https://app.example.org/cb"]}`).want(t, 200, "")
	h.send(http.MethodPut, uri, token+"x", `{}`).want(t, 401, "invalid_token")
	doc, err := h.engine.Get(t.Context(), "client", id)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{got.text("client_secret"), token} {
		if strings.Contains(log.String(), secret) || bytes.Contains(doc.Data, []byte(secret)) {
			t.Errorf("a secret is in %s or %s", &log, doc.Data)
		}
	}
	if !strings.Contains(log.String(), "client="+id) {
		t.Errorf("nothing about it in the log: %s", &log)
	}
	m := config.Client{ClientID: "app", ClientSecret: secret}
	log.Reset()
	h.o.Log.Info("a client", "client", m, "entry", config.Application{Client: m}, "complete", &Client{Client: m})
	if strings.Contains(log.String(), secret) {
		t.Errorf("a secret is in the log: %s", &log)
	}
}

// Rule 22: secrets overlap while they rotate, and end when they are to.
func TestSecretRotation(t *testing.T) {
	h := newHouse(t)
	registry := h.clients.registry
	_, first, err := registry.Add(t.Context(), "Service", "", config.Client{ClientID: "service", GrantTypes: []string{grantCredentials}}, false)
	if err != nil {
		t.Fatal(err)
	}
	good := func(secret string, want bool) {
		t.Helper()
		h.Forget(events.Hint{Everything: true})
		got := h.call(PathToken, "service:"+secret, form("grant_type", "client_credentials"))
		if (got.Status == 200) != want {
			t.Errorf("got %d %s, want good: %v", got.Status, got.Body, want)
		}
	}
	good(first, true)
	second, err := registry.NewSecret(t.Context(), "service", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	good(first, true)
	good(second, true)
	h.clock.Advance(time.Hour - time.Second)
	good(first, true)
	h.clock.Advance(time.Second)
	good(first, false)
	good(second, true)
	third, err := registry.NewSecret(t.Context(), "service", 0)
	if err != nil {
		t.Fatal(err)
	}
	good(second, false)
	good(third, true)
	if _, err := registry.NewSecret(t.Context(), "nobody", 0); err != ErrNoClient {
		t.Errorf("got %v", err)
	}
	for range maxSecrets - 1 {
		if _, err := registry.NewSecret(t.Context(), "service", time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := registry.NewSecret(t.Context(), "service", time.Hour); err != ErrManySecrets {
		t.Errorf("got %v", err)
	}
	// A client without one has none to replace.
	if _, _, err := registry.Add(t.Context(), "Public", "", config.Client{ClientID: "public", TokenEndpointAuthMethod: authNone, RedirectURIs: []string{"https://app.example.org/"}}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.NewSecret(t.Context(), "public", 0); err != ErrNoSecret {
		t.Errorf("got %v", err)
	}
}

// FuzzRegistration: whatever is sent, what is registered can be read again, and is
// nothing that only operators give.
func FuzzRegistration(f *testing.F) {
	for _, body := range []string{minimal, `{}`, `{"redirect_uris": ["x"], "trusted": true}`, `{"jwks": {"keys": []}, "default_max_age": 1e3}`, `{"redirect_uris": null, "scope": 5}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, PathRegister, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		m, _, err := readRegistration(r)
		if err == nil {
			err = m.settle()
		}
		if err != nil {
			if e := asError(err); e.Status >= 500 || e.Code == "server_error" || e.Description != describe(e.Description) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if m.Trusted || m.FAPI || m.Resources != nil || m.Origins != nil || m.ClientID != "" || m.ClientSecret != "" || m.ClientSecretHash != nil || m.ClientSecretFile != "" {
			t.Fatalf("%q: %+v", body, m)
		}
		m.ClientID = "x"
		s := storedClient{Name: m.ClientName, Client: m.Client}
		c, bad := s.client(start, nil, false)
		if len(bad) == 0 && slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return checkRedirectURI(uri, c.ApplicationType) != "" }) {
			t.Fatalf("%q: %v", body, c.RedirectURIs)
		}
		if _, err := json.Marshal(s); err != nil {
			t.Fatal(err)
		}
	})
}
