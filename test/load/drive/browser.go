package drive

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
)

// browser is one that somebody is signed in in. A browser knows one host; behind the base
// URLs there is one, so its cookies go to all of them, whatever they are called.
type browser struct {
	user    User
	mu      sync.Mutex
	cookies map[string]string
}

func (b *browser) header() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pairs []string
	for name, value := range b.cookies {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "; ")
}

func (b *browser) take(cookies []*http.Cookie) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range cookies {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
}

// unexpected is an answer with another status than was wanted.
type unexpected struct {
	what   string
	status int
}

func (e unexpected) Error() string {
	return fmt.Sprintf("%s: %d %s", e.what, e.status, http.StatusText(e.status))
}

// request is one to any server; path is below its base URL.
type request struct {
	method, path, contentType, body string
	basic                           Client // if not empty
	want                            int
}

// do sends a request of a browser and returns the answer with its body, read to the end so
// that the connection is kept.
func (d *driver) do(ctx context.Context, b *browser, r request) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, d.base()+r.path, strings.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if b != nil {
		if cookies := b.header(); cookies != "" {
			req.Header.Set("Cookie", cookies)
		}
	}
	if r.basic.ID != "" {
		// Both halves are form-encoded first (RFC 6749, 2.3.1).
		req.SetBasicAuth(url.QueryEscape(r.basic.ID), url.QueryEscape(r.basic.Secret))
	}
	res, err := d.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, nil, err
	}
	if b != nil {
		b.take(res.Cookies())
	}
	if res.StatusCode != r.want {
		path, _, _ := strings.Cut(r.path, "?")
		return res, body, unexpected{r.method + " " + path, res.StatusCode}
	}
	return res, body, nil
}

const formType = "application/x-www-form-urlencoded"

// login signs somebody in in a new browser.
func (d *driver) login(ctx context.Context, u User) (*browser, error) {
	b := &browser{user: u, cookies: map[string]string{}}
	form := url.Values{"username": {u.Name}, "password": {u.Password}}.Encode()
	_, _, err := d.do(ctx, b, request{method: http.MethodPost, path: "/login/" + url.PathEscape(d.o.Provider), contentType: formType, body: form, want: http.StatusFound})
	if err == nil && len(b.cookies) == 0 {
		err = errors.New("a sign-in has left no cookie")
	}
	return b, err
}

// token asks for a token of the older API.
func (d *driver) token(ctx context.Context, b *browser) error {
	_, body, err := d.do(ctx, b, request{method: http.MethodGet, path: "/token", want: http.StatusOK})
	if err == nil && strings.Count(string(body), ".") != 2 {
		err = errors.New("GET /token has answered no token")
	}
	return err
}

// verifier of all code flows (RFC 7636): what is measured is not for keeping secrets.
const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// code goes through a whole code flow: a code at one server, its tokens at the next.
func (d *driver) code(ctx context.Context, b *browser) error {
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {d.o.Client.ID}, "response_type": {"code"}, "redirect_uri": {d.o.Client.RedirectURI}, "scope": {"openid"}, "state": {"load"}, "nonce": {"load"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	res, _, err := d.do(ctx, b, request{method: http.MethodGet, path: "/oauth/authorize?" + query.Encode(), want: http.StatusFound})
	if err != nil {
		return err
	}
	location, err := res.Location()
	if err != nil {
		return err
	}
	code := location.Query().Get("code")
	if code == "" {
		if e := location.Query().Get("error"); e != "" {
			return fmt.Errorf("the authorization endpoint answers the error %s", e)
		}
		return fmt.Errorf("the authorization endpoint leads to %s in the place of an answer", location.Path)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {d.o.Client.RedirectURI}, "code_verifier": {verifier}}
	_, body, err := d.do(ctx, nil, request{method: http.MethodPost, path: "/oauth/token", contentType: formType, body: form.Encode(), basic: d.o.Client, want: http.StatusOK})
	if err != nil {
		return err
	}
	var tokens struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	if err := json.Unmarshal(body, &tokens); err != nil || tokens.Access == "" || tokens.ID == "" {
		return errors.New("the token endpoint has answered no tokens")
	}
	return nil
}

// kind is an error without what differs from one to the next, so that they can be counted.
func kind(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "no answer in time"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error() // connection refused, connection reset by peer
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "connection closed in the place of an answer"
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err.Error() // without the address
	}
	return err.Error()
}
