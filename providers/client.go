package providers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"login-server/config"
)

const (
	clientTimeout = 10 * time.Second
	dialTimeout   = 5 * time.Second
	maxAnswer     = 1 << 20
)

// Errors of requests that libraries make for us.
var (
	errLongAnswer = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	errRedirect   = errors.New("the answer is a redirect, which is not followed")
)

// newClient makes the client for all providers that are asked over HTTP. It follows
// no redirect: what is sent are passwords and codes, and they go where the operator
// said. It reads no more than maxAnswer bytes of an answer, and no longer than
// clientTimeout.
func newClient(deps Deps) *http.Client {
	next := deps.Transport
	if next == nil {
		next = newTransport((&net.Dialer{Timeout: dialTimeout}).DialContext)
	}
	return clientOver(next, deps.Version)
}

func newTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = dial
	t.TLSHandshakeTimeout = 5 * time.Second
	t.ResponseHeaderTimeout = clientTimeout
	t.MaxResponseHeaderBytes = 64 << 10
	t.MaxIdleConnsPerHost = 8
	return t
}

func clientOver(next http.RoundTripper, version string) *http.Client {
	return &http.Client{
		Timeout:       clientTimeout,
		Transport:     &agent{next: next, name: "login-server/" + cmp.Or(version, "dev")},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// agent names us in every request, before what the User-Agent says already.
type agent struct {
	next http.RoundTripper
	name string
}

func (a *agent) RoundTrip(r *http.Request) (*http.Response, error) {
	if asked, ok := r.Context().Value(askedKey{}).(*atomic.Bool); ok {
		asked.Store(true)
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", strings.TrimSpace(a.name+" "+r.Header.Get("User-Agent")))
	resp, err := a.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	// Nobody follows it, and net/http would quote one that it cannot read.
	resp.Header.Del("Location")
	resp.Body = &boundedBody{resp.Body, maxAnswer}
	return resp, nil
}

type askedKey struct{}

// watched returns a context that notices whether a request was made with it.
func watched(ctx context.Context) (_ context.Context, asked func() bool) {
	b := new(atomic.Bool)
	return context.WithValue(ctx, askedKey{}, b), b.Load
}

// boundedBody fails once more has been read than anybody has to say. Libraries read
// answers to their end.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errLongAnswer
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return n, errLongAnswer
	}
	return n, err
}

// ask is request for those who want only status and body of the answer.
func ask(ctx context.Context, client *http.Client, method, address, contentType string, body io.Reader, header http.Header) (status int, answer []byte, err error) {
	resp, answer, err := request(ctx, client, method, address, contentType, body, header)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, answer, nil
}

// request sends a request and returns the answer, whatever the status, with its body
// read and closed. Neither the query, nor the body sent, nor the answer is part of an
// error: they can hold a password or a token. Errors of the connection are a *url.Error.
func request(ctx context.Context, client *http.Client, method, address, contentType string, body io.Reader, header http.Header) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, nil, fmt.Errorf("make request: %w", unqueried(err))
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, nil, unqueried(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, &url.Error{Op: "read answer of", URL: withoutQuery(address), Err: err}
	}
	return resp, answer, nil
}

// unqueried takes the query out of the URL that an error of net/http or net/url shows.
func unqueried(err error) error {
	if op, ok := errors.AsType[*url.Error](err); ok {
		op.URL = withoutQuery(op.URL)
	}
	return err
}

// text is a JSON text or a number. Ids that are numbers keep every digit: 2^53+1
// must not become the id of somebody else.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	switch {
	case string(data) == "null":
		return nil
	case len(data) > 0 && data[0] == '"':
		return json.Unmarshal(data, (*string)(t))
	case len(data) > 0 && (data[0] == '-' || data[0] >= '0' && data[0] <= '9'):
		*t = text(data)
		return nil
	}
	return errors.New("neither a text nor a number")
}

// serverURL checks an option that is the URL of another server, and tells whether it
// can be used.
func (e *entry) serverURL(field, value, example string) bool {
	if value == "" {
		e.problem(field, "is missing", "write a URL such as "+example)
		return false
	}
	u, err := url.Parse(value)
	switch {
	case !strings.Contains(value, "://"):
		e.problem(field, config.QuoteURL(value)+" has no scheme", "write https://"+strings.TrimLeft(value, "/"))
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		e.problem(field, config.QuoteURL(value)+" is not an http(s) URL", "write a URL such as "+example)
	case u.User != nil:
		e.problem(field, "contains a user name or a password", "remove it")
	case u.Fragment != "":
		e.problem(field, config.QuoteURL(value)+" has a fragment", "remove everything from # on")
	case u.Scheme == "http" && !config.Loopback(u.Hostname()):
		e.warn(field, config.QuoteURL(value)+" is not encrypted: passwords and tokens can be read on their way", "write https://…")
		return true
	default:
		return true
	}
	return false
}

// baseURL is serverURL for an option to which paths and queries are added.
func (e *entry) baseURL(field, value, example string) bool {
	if !e.serverURL(field, value, example) {
		return false
	}
	if strings.Contains(value, "?") {
		e.problem(field, config.QuoteURL(value)+" has a query", "remove everything from ? on")
		return false
	}
	return true
}
