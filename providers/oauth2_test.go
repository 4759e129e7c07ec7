package providers

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

// What must be in no error: a client's secret, what proves a login, and what it brings.
const (
	oauthClient = "client-1"
	oauthSecret = "client secret/hunter2"
	oauthKey    = "api-key((hunter2"
	oauthToken  = "gho_token/hunter2"
)

// aLogin is a login as the web room makes it.
func aLogin(p *Provider) Login {
	return Login{State: "state-hunter2", Nonce: "nonce-hunter2", Verifier: oauth2.GenerateVerifier(), Callback: p.Callback, Locale: "en"}
}

// upstream is a provider of OAuth 2.0 as GitHub and Stack Exchange document theirs. The
// test plays the browser.
type upstream struct {
	t *testing.T
	*httptest.Server
	// form answers with a form instead of JSON, as both do unless told otherwise.
	form bool
	// token and profile take the place of the endpoints, when set.
	token, profile http.HandlerFunc
	// added is what authorization requests have besides what all have.
	added url.Values

	mu sync.Mutex
	// granted is the codes that nobody has redeemed.
	granted map[string]grant
	codes   int
}

type grant struct{ challenge, redirect string }

func newUpstream(t *testing.T, tokenPath string, profilePaths ...string) *upstream {
	u := &upstream{t: t, granted: map[string]grant{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+tokenPath, func(w http.ResponseWriter, r *http.Request) {
		if u.token != nil {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server see the client go
			u.token(w, r)
			return
		}
		u.redeem(w, r)
	})
	for _, path := range profilePaths {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { u.profile(w, r) })
	}
	u.Server = serve(t, mux.ServeHTTP)
	return u
}

// approve does what the person does at the provider: it checks the authorization
// request and returns the answer that the browser brings back.
func (u *upstream) approve(l Login, departure string, extra url.Values) url.Values {
	u.t.Helper()
	address, err := url.Parse(departure)
	if err != nil {
		u.t.Fatal(err)
	}
	query := address.Query()
	challenge := query.Get("code_challenge")
	want := url.Values{
		"response_type": {"code"}, "client_id": {oauthClient}, "redirect_uri": {l.Callback}, "state": {l.State},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(l.Verifier)}, "code_challenge_method": {"S256"},
	}
	maps.Copy(want, u.added)
	maps.Copy(want, extra)
	if diff := cmp.Diff(want, query); diff != "" {
		u.t.Errorf("authorization request (-want +got):\n%s", diff)
	}
	for _, secret := range []string{l.Verifier, l.Nonce, oauthSecret} {
		if strings.Contains(departure, secret) || strings.Contains(departure, url.QueryEscape(secret)) {
			u.t.Errorf("the browser is told a secret: %s", departure)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.codes++
	code := fmt.Sprintf("code-hunter2/%d", u.codes)
	u.granted[code] = grant{challenge, query.Get("redirect_uri")}
	return url.Values{"code": {code}, "state": {query.Get("state")}}
}

// redeem is the token endpoint. Refusals have status 200, as GitHub's have.
func (u *upstream) redeem(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" {
		u.t.Errorf("token request with query %q, Authorization %q", r.URL.RawQuery, r.Header.Get("Authorization"))
	}
	if accept := r.Header.Get("Accept"); accept != "application/json" {
		u.t.Errorf("token request with Accept %q", accept)
	}
	u.mu.Lock()
	code := r.PostFormValue("code")
	g, known := u.granted[code]
	delete(u.granted, code)
	u.mu.Unlock()
	answer := url.Values{"error_description": {"refused: " + code + " " + r.PostFormValue("client_secret") + " " + r.PostFormValue("code_verifier")}}
	switch {
	case r.PostFormValue("client_id") != oauthClient || r.PostFormValue("client_secret") != oauthSecret:
		answer.Set("error", "incorrect_client_credentials")
	case !known:
		answer.Set("error", "bad_verification_code")
	case g.redirect != r.PostFormValue("redirect_uri"):
		answer.Set("error", "redirect_uri_mismatch")
	case g.challenge != oauth2.S256ChallengeFromVerifier(r.PostFormValue("code_verifier")):
		answer.Set("error", "bad_verification_code")
	default:
		answer = url.Values{"access_token": {oauthToken}, "token_type": {"bearer"}, "scope": {""}}
	}
	if u.form {
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		_, _ = io.WriteString(w, answer.Encode())
		return
	}
	object := object{}
	for name := range answer {
		object[name] = answer.Get(name)
	}
	writeJSON(w, http.StatusOK, object)
}

// login signs in once.
func (u *upstream) login(ctx context.Context, p *Provider) (identity.Profile, error) {
	u.t.Helper()
	l := aLogin(p)
	d, err := p.Website.Begin(ctx, l)
	if err != nil {
		u.t.Fatal(err)
	}
	return u.finish(ctx, p, l, u.approve(l, d.URL, nil))
}

func (u *upstream) finish(ctx context.Context, p *Provider, l Login, answer url.Values) (identity.Profile, error) {
	u.t.Helper()
	profile, err := p.Website.Finish(ctx, l, answer)
	if err != nil {
		if profile != (identity.Profile{}) {
			u.t.Errorf("%v comes with a profile: %+v", err, profile)
		}
		secretless(u.t, err, l.Verifier, l.State, l.Nonce, answer.Get("code"))
		secretless(u.t, p.Health().Err, l.Verifier, l.State, l.Nonce, answer.Get("code"))
	}
	return profile, err
}

// secretless wants none of these in an error, nor what every login has.
func secretless(t *testing.T, err error, secrets ...string) {
	t.Helper()
	if err == nil {
		return
	}
	for _, secret := range append(secrets, oauthSecret, oauthKey, oauthToken, "hunter2") {
		if secret != "" && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), url.QueryEscape(secret))) {
			t.Errorf("%q is in the error %v", secret, err)
		}
	}
}

func wantUnavailable(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.As(err, new(*UnavailableError)) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an UnavailableError with %q", err, want)
	}
}

// wantPlain wants an error that is neither a refusal nor a failure that may pass.
func wantPlain(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || errors.As(err, new(*UnavailableError)) || errors.Is(err, ErrRefused) || errors.Is(err, ErrCancelled) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
	}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// compressed writes with gzip, whether it was asked for or not.
func compressed(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z := gzip.NewWriter(w)
	_, _ = z.Write(body)
	_ = z.Close()
}

// passing are those of badServers that may be well again in a minute.
var passing = map[string]bool{"500": true, "503 with HTML": true, "hangs up": true, "never answers": true, "never ends its answer": true}

// badUpstreams puts each of badServers first at the token endpoint, then at the profile.
func badUpstreams(t *testing.T, start func(*testing.T) (*upstream, *Provider)) {
	for _, bad := range badServers {
		for _, at := range []string{"token", "profile"} {
			t.Run(bad.name+" at the "+at+" endpoint", func(t *testing.T) {
				t.Parallel()
				u, p := start(t)
				ctx, handle := t.Context(), bad.handle
				if bad.want == "deadline exceeded" {
					ctx, handle = runsOut(t, handle)
				}
				if at == "token" {
					u.token = handle
				} else {
					u.profile = handle
				}
				_, err := u.login(ctx, p)
				if passing[bad.name] {
					wantUnavailable(t, err, "")
				} else {
					wantPlain(t, err, "")
				}
				if h := p.Health(); !h.Known || h.Up == passing[bad.name] {
					t.Errorf("health %+v", h)
				}
			})
		}
	}
	t.Run("down", func(t *testing.T) {
		u, p := start(t)
		l := aLogin(p)
		d, err := p.Website.Begin(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		answer := u.approve(l, d.URL, nil)
		u.Close()
		_, err = u.finish(t.Context(), p, l, answer)
		wantUnavailable(t, err, "connection refused")
		if err := p.Prober.Probe(t.Context()); err == nil {
			t.Error("Probe: no complaint")
		}
	})
	t.Run("the person goes away", func(t *testing.T) {
		u, p := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		u.profile = func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}
		if _, err := u.login(ctx, p); !errors.Is(err, context.Canceled) || errors.As(err, new(*UnavailableError)) {
			t.Errorf("got %v", err)
		}
		if h := p.Health(); h.Known {
			t.Errorf("health %+v", h)
		}
	})
}

// TestTokenAnswers: what token endpoints answer, and what is made of it.
func TestTokenAnswers(t *testing.T) {
	const form, plain, js, page = "application/x-www-form-urlencoded", "text/plain", "application/json", "text/html"
	for _, tc := range []struct {
		name, contentType string
		status            int
		body              string
		token             string // "" is an error
		want              string
	}{
		{"JSON", js, 200, `{"access_token":"T","token_type":"bearer"}`, "T", ""},
		{"JSON as text", plain, 200, ` {"access_token":"T"}`, "T", ""},
		{"JSON as a page", page, 200, `{"access_token":"T"}`, "T", ""},
		{"form", form, 200, "access_token=T%2F&expires=86400", "T/", ""},
		{"form as text", plain, 200, "access_token=T&expires=86400\n", "T", ""},
		{"form as a page", page, 200, "access_token=T", "T", ""},
		{"form as JSON", js, 200, "access_token=T", "T", ""},
		{"error with status 200", js, 200, `{"error":"bad_verification_code","error_description":"The code is wrong."}`, "", `status 200, error "bad_verification_code" "The code is wrong."`},
		{"error beside a token", js, 200, `{"access_token":"T","error":"bad_verification_code"}`, "", `error "bad_verification_code"`},
		{"error as a form", form, 200, "error=bad_verification_code&error_description=no", "", `error "bad_verification_code" "no"`},
		{"error as a form, as a page", page, 200, "error=bad_verification_code", "", `error "bad_verification_code"`},
		{"token with status 400", js, 400, `{"access_token":"T"}`, "", "status 400"},
		{"as Facebook", js, 400, `{"error":{"type":"OAuthException","message":"client_id is wrong"}}`, "", `status 400, error "OAuthException" "client_id is wrong"`},
		{"as Facebook with status 200", js, 200, `{"error":{"type":"OAuthException"},"access_token":"T"}`, "", "not as documented"},
		{"description that repeats what was sent", js, 400, `{"error":"CODE","error_description":"CODE SECRET"}`, "", `error "…" "… …"`},
		{"token that is a number", js, 200, `{"access_token":1234567890}`, "", "not as documented"},
		{"token that is empty", js, 200, `{"access_token":""}`, "", "no access_token"},
		{"broken escape", form, 200, "access_token=secret%zz", "", "not as documented"},
		{"page", page, 200, "<html>access_token=T", "", "not as documented"},
		{"page with status 403", page, 403, "<html>", "", "status 403"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tc.contentType)
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, strings.NewReplacer("CODE", r.PostFormValue("code"), "SECRET", r.PostFormValue("client_secret")).Replace(tc.body))
			})
			o := oauthOptions{ClientID: oauthClient, ClientSecret: oauthSecret, TokenURL: s.URL}
			f := o.flow(&entry{opening: &opening{cfg: &config.Config{BaseURL: testBase}, client: newClient(testDeps())}}, oauth2.AuthStyleInParams)
			got, err := f.exchange(t.Context(), Login{Verifier: "verifier"}, url.Values{"code": {"code-hunter2"}})
			if tc.token != "" {
				if err != nil || got.AccessToken != tc.token {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			wantPlain(t, err, tc.want)
			secretless(t, err, "1234567890", "%zz")
		})
	}
}

// TestFetch: the token goes in a header, and nothing of the address's query is told.
func TestFetch(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+oauthToken {
			t.Errorf("Authorization %q", r.Header.Get("Authorization"))
		}
		switch r.URL.Path {
		case "/ok":
			writeJSON(w, 200, object{"id": 9007199254740993})
		case "/redirect":
			// net/http quotes a Location that it cannot read.
			w.Header().Set("Location", "http://%zz/?access_token="+r.URL.Query().Get("access_token"))
			w.WriteHeader(http.StatusFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		default:
			w.WriteHeader(401)
		}
	})
	client := newClient(testDeps())
	var user struct {
		ID text `json:"id"`
	}
	query := "?access_token=" + url.QueryEscape(oauthToken)
	if err := fetch(t.Context(), client, s.URL+"/ok"+query, oauthToken, &user); err != nil || user.ID != "9007199254740993" {
		t.Errorf("got %q, %v", user.ID, err)
	}
	for path, want := range map[string]string{"/redirect": "redirect", "/cut": "unexpected EOF", "/other": s.URL + "/other: status 401"} {
		err := fetch(t.Context(), client, s.URL+path+query, oauthToken, &user)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		secretless(t, err)
	}
	s.Close()
	err := fetch(t.Context(), client, s.URL+"/ok"+query, oauthToken, &user)
	wantUnavailable(t, unavailable(err), "connection refused")
	secretless(t, err)
	err = fetch(t.Context(), client, "http://%zz/"+query, oauthToken, &user)
	wantPlain(t, unavailable(err), "make request")
	secretless(t, err)
}

func TestCounted(t *testing.T) {
	for id, want := range map[text]bool{"1": true, "9007199254740993": true, "": false, "0": false, "007": false, "-1": false, "1.0": false, "1e3": false, "ada": false, " 1": false, "１": false} {
		if counted(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestScopeList(t *testing.T) {
	for raw, want := range map[string][]string{
		`["user:email","read:user"]`: {"user:email", "read:user"}, `"user:email read:user"`: {"user:email", "read:user"}, `"user:email,read:user"`: {"user:email", "read:user"}, `""`: {}, `[]`: {},
	} {
		var s scopeList
		if err := s.UnmarshalJSON([]byte(raw)); err != nil || !cmp.Equal([]string(s), want) {
			t.Errorf("%s: %q, %v", raw, s, err)
		}
	}
	for _, raw := range []string{`5`, `{}`, `[1]`, `true`} {
		if err := new(scopeList).UnmarshalJSON([]byte(raw)); err == nil {
			t.Errorf("%s is accepted", raw)
		}
	}
}

// TestBoundedBody: an answer of the greatest length is read to its end, one byte more is
// an error, however it is read and however small it was on its way.
func TestBoundedBody(t *testing.T) {
	for _, size := range []int{1, 7, 4096} {
		b := &boundedBody{io.NopCloser(strings.NewReader(strings.Repeat("x", 8000))), 8000}
		got, err := io.ReadAll(onlyRead{b, size})
		if err != nil || len(got) != 8000 {
			t.Errorf("by %d: %d bytes, %v", size, len(got), err)
		}
		b = &boundedBody{io.NopCloser(strings.NewReader(strings.Repeat("x", 8001))), 8000}
		if _, err := io.ReadAll(onlyRead{b, size}); !errors.Is(err, errLongAnswer) {
			t.Errorf("by %d: one byte too many: %v", size, err)
		}
		if n, err := b.Read(make([]byte, size)); n != 0 || !errors.Is(err, errLongAnswer) {
			t.Errorf("by %d: once more: %d, %v", size, n, err)
		}
	}
	for length, want := range map[int]error{maxAnswer: nil, maxAnswer + 1: errLongAnswer, 4 << 20: errLongAnswer} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			compressed(w, 200, bytes.Repeat([]byte(" "), length))
		})
		status, body, err := ask(t.Context(), newClient(testDeps()), http.MethodGet, s.URL, "", nil, nil)
		if want == nil && (err != nil || status != 200 || len(body) != length) || !errors.Is(err, want) {
			t.Errorf("%d bytes: %d, %d bytes, %v", length, status, len(body), err)
		}
	}
}

// onlyRead reads a few bytes at once.
type onlyRead struct {
	r    io.Reader
	size int
}

func (o onlyRead) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), o.size)]) }

// withClock is testDeps with a clock that a test moves.
func withClock(c *clock.Fake) Deps {
	deps := testDeps()
	deps.Clock = c
	return deps
}
