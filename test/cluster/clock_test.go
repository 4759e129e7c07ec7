package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/internal/testenv"
	"login-server/internal/testprogram"
)

// A node whose clock is half a minute off makes nothing that the others do not take, and
// takes all that they make.
func TestClockOff(t *testing.T) {
	for _, off := range []string{"30s", "-30s"} {
		t.Run(off, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "login-server")
			out, err := exec.Command(testenv.Need(t, "go"), "build", "-o", program, "-ldflags", "-X main.clockOff="+off, "login-server/cmd/login-server").CombinedOutput()
			if err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			c := start(t, 0)
			// The one that is off makes the keys, and the other one joins; then it is the other
			// way round for everything else.
			wrong := testprogram.New(t)
			wrong.Path = program
			wrong.Env = append(wrong.Env, c.env...)
			wrong.Start(t, c.files)
			c.nodes = append(c.nodes, wrong)
			c.add()
			for _, way := range []struct {
				name     string
				from, to int
			}{{"from the one that is off", 0, 1}, {"to it", 1, 0}} {
				t.Run(way.name, func(t *testing.T) { c.passes(t, c.at(way.from), c.at(way.to)) })
			}
		})
	}
}

// passes has everything that one node gives taken by the other.
func (c *cluster) passes(t *testing.T, from, to string) {
	ada := newPerson("user1")
	if err := ada.signIn(from); err != nil {
		t.Fatal(err)
	}
	if _, status, err := ada.current(to); err != nil || status != http.StatusOK {
		t.Errorf("the session: %d, %v", status, err)
	}

	// Tokens verify with the keys and in the time of the other, and open a socket there.
	var token struct{ Token string }
	ada.json(t, http.MethodGet, from+"token", nil, nil, &token)
	verify(t, to, token.Token)
	socket := dial(t, to)
	if err := socket.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"authenticate","token":%q}`, token.Token)); err != nil {
		t.Fatal(err)
	}
	await(t, socket, "loggedIn")

	// A code of one is redeemed at the other, and so on around.
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {"https://app.example.org/cb"}, "scope": {"openid offline_access session_events"},
		"state": {"s"}, "nonce": {"n"}, "max_age": {"600"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	res, body, err := ada.do(http.MethodGet, from+"oauth/authorize?"+query.Encode(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	location, err := url.Parse(res.Header.Get("Location"))
	if err != nil || location.Query().Get("code") == "" {
		t.Fatalf("authorize: %s %q %.300s", res.Status, location, body)
	}
	var tokens struct {
		Access  string `json:"access_token"`
		ID      string `json:"id_token"`
		Refresh string `json:"refresh_token"`
	}
	app := newPerson("")
	basic := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("app:"+clientSecret))}}
	app.json(t, http.MethodPost, to+"oauth/token", basic, url.Values{
		"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {"https://app.example.org/cb"}, "code_verifier": {verifier},
	}, &tokens)
	verify(t, from, tokens.ID)
	for _, node := range []string{from, to} {
		var info struct{ Sub string }
		app.json(t, http.MethodGet, node+"oauth/userinfo", http.Header{"Authorization": {"Bearer " + tokens.Access}}, nil, &info)
		var inspected struct{ Active bool }
		app.json(t, http.MethodPost, node+"oauth/introspect", basic, url.Values{"token": {tokens.Access}}, &inspected)
		if info.Sub == "" || !inspected.Active {
			t.Errorf("an access token at %s: %+v, %+v", node, info, inspected)
		}
	}
	if tokens.Refresh != "" {
		app.json(t, http.MethodPost, from+"oauth/token", basic, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}}, &tokens)
		verify(t, to, tokens.ID)
	}
	// A ticket for a socket lives for half a minute.
	var ticket struct{ Ticket string }
	app.json(t, http.MethodPost, from+"events/ticket", http.Header{"Authorization": {"Bearer " + tokens.Access}}, url.Values{}, &ticket)
	await(t, dial(t, to+"?ticket="+url.QueryEscape(ticket.Ticket)), "loggedIn")
}

// json sends a form, or nothing, and reads a JSON answer with status 200.
func (p *person) json(t *testing.T, method, address string, header http.Header, form url.Values, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, req.URL.Path, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// verify verifies a token as an application would that knows a node's keys, and has the
// right time.
func verify(t *testing.T, node, token string) {
	t.Helper()
	set, err := jwk.Fetch(t.Context(), node+".well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	_, err = jwt.Parse(token, func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		key, ok := set.LookupKeyID(kid)
		if !ok {
			return nil, fmt.Errorf("no key %q among those of %s", kid, node)
		}
		var raw any
		return raw, key.Raw(&raw)
	}, jwt.WithLeeway(0))
	if err != nil {
		t.Errorf("a token does not verify with the keys of %s: %v", node, err)
	}
}

func dial(t *testing.T, address string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(address, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// await reads until an event of a type comes.
func await(t *testing.T, conn *websocket.Conn, kind string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("no event %q: %v; heard %.200q", kind, err, seen)
		}
		var e struct{ Type string }
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		if e.Type == kind {
			return
		}
		seen = append(seen, string(text))
	}
}
