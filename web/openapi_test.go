package web

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"login-server/clock"
	"login-server/config"
	"login-server/credential"
	"login-server/events"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/notify"
	"login-server/providers"
	"login-server/session"
	"login-server/static"
	"login-server/store"
	"login-server/templates"
	"login-server/token"
)

func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("docs/openapi.yaml: %v", err)
	}
	return doc
}

// openAPIServer is a server with every route that a production server can have,
// on a store of its own, and one user: ada, with the password secret.
func openAPIServer(t *testing.T, adjust ...func(*Deps)) *Server {
	t.Helper()
	dir := t.TempDir()
	list := `[{"id": "test", "strategy": "test", "name": "Test", "options": {"users": [{"username": "ada", "password": "secret", "displayName": "Ada"}]}}]`
	if err := os.WriteFile(filepath.Join(dir, "providers.json"), []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(dir, []string{"NODE_ENV=test", "METRICS_TOKEN=0123456789abcdef", "CLIENT_REGISTRATION=open", "SESSION_SECRET=fixed secret of this test"})
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := providers.Open(cfg, providers.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	now := clock.System{}.Now
	engine := teststore.Open(t, now)
	if _, err := token.EnsureKeys(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, cfg.JWTAlgorithm); err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewManager(t.Context(), engine, token.Options{
		PrivateKeyPath: cfg.JWTPrivateKeyPath, PublicKeyPath: cfg.JWTPublicKeyPath, Algorithm: cfg.JWTAlgorithm, ExpiresIn: cfg.JWTExpiresIn, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	tickets, err := token.NewTickets(engine, cfg.SessionSecrets, now)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := credential.NewBook(credential.Options{Store: engine, Clock: clock.System{}, NewID: uuid.NewString, Secrets: cfg.SessionSecrets})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := token.NewSealer(cfg.SessionSecrets, notify.Purpose)
	if err != nil {
		t.Fatal(err)
	}
	queue, err := notify.New(notify.Options{Store: engine, Sealer: messages, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	files := static.New(static.Options{})
	pages, err := templates.New(templates.Options{Asset: files.Asset})
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{
		Config: cfg, Store: store.NewGuard(engine, store.GuardOptions{}), Providers: set, Credentials: credentials, Notify: queue, Tokens: tokens, Tickets: tickets, Bus: &events.LocalBus{},
		Users: identity.NewDirectory(engine, identity.Options{BaseURL: cfg.BaseURL.String(), Now: now, NewID: uuid.NewString, CacheSize: 100, CacheAge: time.Second}),
		Sessions: session.NewManager(engine, session.Options{
			Cookie:   session.CookieOptions{Keys: [][]byte{token.DeriveKey(cfg.SessionSecrets[0], "session cookie")}, State: true},
			Lifetime: time.Hour, Now: now, CacheSize: 100, CacheAge: time.Second,
		}),
		Templates: pages, Static: files, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Version: "test",
	}
	for _, change := range adjust {
		change(&deps)
	}
	server, err := New(deps)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// TestOpenAPIRoutes: what the router serves is documented, and what is documented
// is served.
func TestOpenAPIRoutes(t *testing.T) {
	doc := loadOpenAPI(t)
	var served, documented []string
	err := chi.Walk(openAPIServer(t).routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+strings.Replace(route, "/*", "/{file}", 1))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(documented)
	for _, route := range served {
		if !slices.Contains(documented, route) {
			t.Errorf("%s is served, but not in docs/openapi.yaml", route)
		}
	}
	for _, route := range documented {
		if !slices.Contains(served, route) {
			t.Errorf("%s is in docs/openapi.yaml, but not served", route)
		}
	}
}

// TestOpenAPIAnswers: the answers have the statuses, headers and bodies that are documented.
func TestOpenAPIAnswers(t *testing.T) {
	doc := loadOpenAPI(t)
	// A page is a text like any other.
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	server := httptest.NewServer(openAPIServer(t))
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

	// call sends a request and checks the answer against the operation of path, in
	// which {name} stands for anything.
	call := func(method, path, url string, header http.Header, body string, want int) []byte {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range header {
			r.Header[name] = values
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("%s %s: got %d, want %d: %s", method, url, resp.StatusCode, want, answer)
		}
		item := doc.Paths.Value(path)
		input := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{
				Request: r,
				Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)},
			},
			Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(answer)),
			Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
		}
		if err := openapi3filter.ValidateResponse(t.Context(), input); err != nil {
			t.Errorf("%s %s does not answer as docs/openapi.yaml says: %v", method, url, err)
		}
		return answer
	}
	get := func(path string, want int) []byte { t.Helper(); return call("GET", path, path, nil, "", want) }
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	elsewhere := http.Header{"Origin": {"https://elsewhere.example"}}

	// Signed out.
	get("/about", 200)
	get("/providers", 200)
	get("/.well-known/jwks.json", 200)
	get("/healthz", 200)
	get("/readyz", 200)
	get("/help", 200)
	get("/api", 200)
	get("/", 302)
	get("/favicon.ico", 302)
	for _, kind := range []string{"work", "image", "audio"} {
		call("GET", "/challenge", "/challenge?for=signup&kind="+kind, nil, "", 200)
	}
	call("GET", "/challenge", "/challenge", nil, "", 400)
	get("/metrics", 401)
	call("GET", "/metrics", "/metrics", http.Header{"Authorization": {"Bearer 0123456789abcdef"}}, "", 200)
	call("GET", "/static/{file}", "/static/app.css", nil, "", 200)
	call("HEAD", "/static/{file}", "/static/app.css", nil, "", 200)
	get("/users", 403)
	get("/currentUser", 401)
	get("/token", 200)
	call("DELETE", "/sessions", "/sessions", nil, "", 401)
	call("PATCH", "/users/{id}", "/users/x", nil, "{}", 401)
	call("GET", "/users/{id}", "/users/x", nil, "", 404)
	call("GET", "/", "/", http.Header{"Upgrade": {"websocket"}, "Origin": {"https://elsewhere.example"}}, "", 403)
	for _, page := range []string{"/account", "/account/data", "/sessions", "/delete", "/merge"} {
		resp, err := client.Get(server.URL + page)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		item := doc.Paths.Value(page).Get
		if item.Responses.Status(resp.StatusCode) == nil {
			t.Errorf("GET %s signed out: %d is not in docs/openapi.yaml", page, resp.StatusCode)
		}
	}

	// Signing in.
	get("/login", 200)
	call("GET", "/login", "/login?redirect_uri=https://elsewhere.example/", nil, "", 400)
	call("GET", "/login/{provider}", "/login/nobody", nil, "", 404)
	call("GET", "/login/{provider}", "/login/test", nil, "", 200)
	call("POST", "/login/{provider}", "/login/test", elsewhere, "", 403)
	call("POST", "/login/{provider}", "/login/test", form, "username=ada&password=secret", 302)

	// Signed in.
	get("/login", 302)
	get("/account", 200)
	get("/sessions", 200)
	get("/delete", 200)
	get("/token", 200)
	get("/logout", 200)
	var data struct {
		Account struct {
			ID string `json:"_id"`
		}
		Sessions []struct{ Handle string }
	}
	if err := json.Unmarshal(get("/account/data", 200), &data); err != nil || len(data.Sessions) != 1 {
		t.Fatalf("got %d sessions, want 1: %v", len(data.Sessions), err)
	}
	get("/currentUser", 200)
	user, own := "/users/{id}", "/users/"+data.Account.ID
	call("GET", user, own, nil, "", 200)
	call("PATCH", user, own, nil, `{"name": "Ada L."}`, 200)
	call("PATCH", user, own, nil, `{"name": ""}`, 422)
	call("PATCH", user, own, nil, `{}`, 422)
	call("PATCH", user, own, nil, `no JSON`, 400)
	call("PATCH", user, own, nil, strings.Repeat(" ", maxBody+1), 413)
	call("PATCH", user, "/users/x", nil, `{"name": "Ada"}`, 403)
	call("PATCH", user, own, elsewhere, `{"name": "Ada"}`, 403)
	call("POST", "/account/name", "/account/name", form, "name=Ada", 302)
	call("GET", "/disconnect/{provider}", "/disconnect/test", nil, "", 200)
	call("POST", "/disconnect/{provider}", "/disconnect/test", nil, "", 302)
	call("DELETE", "/sessions/{id}", "/sessions/x", nil, "", 422)
	call("DELETE", "/sessions", "/sessions", nil, "", 204)
	call("POST", "/sessions/remove-others", "/sessions/remove-others", nil, "", 302)
	call("DELETE", "/sessions/{id}", "/sessions/"+data.Sessions[0].Handle, nil, "", 204)
	get("/currentUser", 401)
	call("POST", "/logout", "/logout", nil, "", 302)

	// Too many attempts.
	for range 9 {
		call("POST", "/login/{provider}", "/login/test", form, "username=ada&password=wrong", 302)
	}
	call("POST", "/login/{provider}", "/login/test", form, "username=ada&password=wrong", 429)
}
