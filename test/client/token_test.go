package client_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

// TestGoLibrary verifies tokens as a backend in Go does it: with golang-jwt and
// nothing but what /about says.
func TestGoLibrary(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			server, err := startClocked(t, map[string]string{"JWT_ALGORITHM": algorithm})
			if err != nil {
				t.Fatal(err)
			}
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
			verify := verifier(t, server)

			var anonymous struct{ Token string }
			getJSON(t, browser, server.url+"token", &anonymous)
			if claims, err := verify(anonymous.Token); err != nil || claims["user"] != nil {
				t.Errorf("token of nobody: %v, %v", claims, err)
			}

			res, err := browser.PostForm(server.url+"login/test", url.Values{"username": {"ada"}, "password": {"ada-pass"}})
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			var user map[string]any
			getJSON(t, browser, server.url+"currentUser", &user)

			var answer struct {
				Token     string
				ExpiresIn int
			}
			getJSON(t, browser, server.url+"token", &answer)
			claims, err := verify(answer.Token)
			if err != nil {
				t.Fatalf("token from GET /token: %v", err)
			}
			if id, _ := claims["sessionID"].(string); id == "" {
				t.Error("token from GET /token has no sessionID")
			}
			checkUser(t, claims, user)

			sent := socketToken(t, browser, server)
			if claims, err = verify(sent); err != nil {
				t.Fatalf("token from the socket: %v", err)
			}
			if _, ok := claims["sessionID"]; ok {
				t.Error("token from the socket, which goes to backends, has a sessionID")
			}
			checkUser(t, claims, user)

			head, rest, _ := strings.Cut(sent, ".")
			payload, signature, _ := strings.Cut(rest, ".")
			otherHead, otherRest, _ := strings.Cut(anonymous.Token, ".")
			otherPayload, _, _ := strings.Cut(otherRest, ".")
			for name, forged := range map[string]string{
				"another payload": head + "." + otherPayload + "." + signature,
				"no signature":    head + "." + payload + ".",
				"another header":  strings.ToUpper(otherHead) + "." + rest,
			} {
				if _, err := verify(forged); err == nil {
					t.Errorf("token with %s is taken", name)
				}
			}
			server.clock.Advance(time.Duration(answer.ExpiresIn)*time.Second + time.Second)
			if _, err := verify(sent); !errors.Is(err, jwt.ErrTokenExpired) {
				t.Errorf("token after its time: %v", err)
			}
		})
	}
}

// verifier asks /about once, as a backend does when it starts.
func verifier(t *testing.T, server *clocked) func(string) (jwt.MapClaims, error) {
	var about struct{ PublicKey, Algorithm string }
	getJSON(t, http.DefaultClient, server.url+"about", &about)
	parsers := map[string]func([]byte) (crypto.PublicKey, error){
		"RS": func(b []byte) (crypto.PublicKey, error) { return jwt.ParseRSAPublicKeyFromPEM(b) },
		"PS": func(b []byte) (crypto.PublicKey, error) { return jwt.ParseRSAPublicKeyFromPEM(b) },
		"ES": func(b []byte) (crypto.PublicKey, error) { return jwt.ParseECPublicKeyFromPEM(b) },
		"Ed": jwt.ParseEdPublicKeyFromPEM,
	}
	key, err := parsers[about.Algorithm[:2]]([]byte(about.PublicKey))
	if err != nil {
		t.Fatalf("publicKey of /about: %v", err)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{about.Algorithm}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(server.clock.Now))
	return func(token string) (jwt.MapClaims, error) {
		claims := jwt.MapClaims{}
		_, err := parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil })
		return claims, err
	}
}

func checkUser(t *testing.T, claims jwt.MapClaims, want map[string]any) {
	t.Helper()
	got, _ := claims["user"].(map[string]any)
	if got["uri"] != want["uri"] || got["name"] != "Ada" || got["usage"] != nil {
		t.Errorf("user in the token is %v, want %v without usage", got, want)
	}
	identities, _ := got["identities"].(map[string]any)
	linked, _ := identities["test"].(map[string]any)
	if linked["id"] != "1" || linked["uri"] != "https://example.org/people/ada" {
		t.Errorf("identities in the token are %v", identities)
	}
}

func getJSON(t *testing.T, client *http.Client, url string, v any) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", url, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// socketToken is the token that the WebSocket's greeting brings.
func socketToken(t *testing.T, browser *http.Client, server *clocked) string {
	t.Helper()
	// The dialer's client must not have a time limit; the context has one.
	conn, _, err := websocket.Dial(t.Context(), server.url, &websocket.DialOptions{HTTPClient: &http.Client{Jar: browser.Jar}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for {
		_, text, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var message struct {
			Type string
			Data json.RawMessage
		}
		if err := json.Unmarshal(text, &message); err != nil {
			t.Fatal(err)
		}
		if message.Type == "token" {
			var data struct{ Token string }
			if err := json.Unmarshal(message.Data, &data); err != nil {
				t.Fatal(err)
			}
			return data.Token
		}
	}
}
