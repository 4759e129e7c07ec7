// Package cluster holds tests of several nodes: real processes on one store and one bus,
// which are stopped, killed and cut off while people sign in and applications listen.
package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"login-server/internal/testenv"
	"login-server/internal/testprogram"
)

func TestMain(m *testing.M) {
	status := m.Run()
	testprogram.Remove()
	os.Exit(status)
}

// patience is how long anything may take before a test gives up: a machine that builds
// and tests other things may stand still for seconds.
const patience = 60 * time.Second

// secret is that of all nodes.
const secret = "SESSION_SECRET=5f0c9a7b1e3d4c2a8b6f0e1d2c3b4a59"

// cluster is some nodes, a balancer in front of them, and what they stand on behind
// proxies that can be cut.
type cluster struct {
	testing.TB
	mongo, redis *testenv.Proxy
	nodes        []*testprogram.Server
	front        *balancer
	env          []string
	files        testprogram.Files
}

// people is how many can sign in, as user0, user1 and so on.
const people = 64

// start starts n nodes, one after the other.
func start(t testing.TB, n int, env ...string) *cluster {
	t.Helper()
	mongo := testenv.Mongo(t)
	c := &cluster{TB: t}
	c.mongo = testenv.NewProxy(t, hostOf(t, mongo))
	c.redis = testenv.NewProxy(t, hostOf(t, testenv.Redis(t)))
	c.front = newBalancer(t)
	database := fmt.Sprintf("cluster-%d-%d", os.Getpid(), time.Now().UnixNano())
	c.env = append([]string{
		secret, "BASE_URL=" + c.front.base, "MONGO_URI=" + replaceHost(t, mongo, c.mongo.Addr(), database), "REDIS_URL=redis://" + c.redis.Addr(),
		"MONGO_DB=" + database, "RATE_LIMIT_MAX=1000000", "STOP_DELAY_SECONDS=1",
	}, env...)
	var users []map[string]string
	for i := range people {
		users = append(users, map[string]string{"id": fmt.Sprint(i), "username": fmt.Sprintf("user%d", i), "password": "password"})
	}
	c.files = testprogram.Files{
		"providers.json": []any{map[string]any{"id": "people", "strategy": "test", "name": "People", "credentialsNecessary": true, "options": map[string]any{"users": users}}},
		"applications.json": []any{map[string]any{
			"url": "https://app.example.org/", "name": "App", "client_id": "app", "client_secret": clientSecret,
			"redirect_uris": []string{"https://app.example.org/cb"}, "trusted": true,
		}},
	}
	for range n {
		c.add()
	}
	return c
}

const clientSecret = "a-secret-that-is-long-enough-to-be-one"

// add starts one more node and puts it behind the balancer.
func (c *cluster) add(env ...string) *testprogram.Server {
	c.Helper()
	node := testprogram.New(c)
	node.Env = append(node.Env, c.env...)
	node.Start(c, c.files, env...)
	c.nodes = append(c.nodes, node)
	c.front.add(fmt.Sprintf("127.0.0.1:%d", node.Port))
	return node
}

// at is the address of a node itself, beside the balancer.
func (c *cluster) at(node int) string { return fmt.Sprintf("http://localhost:%d/", c.nodes[node].Port) }

func hostOf(t testing.TB, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// replaceHost leads a connection string through a proxy; directly, because the members of
// a replica set name themselves.
func replaceHost(t testing.TB, uri, host, database string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	if u.User != nil && query.Get("authSource") == "" {
		query.Set("authSource", strings.Trim(u.Path, "/"))
	}
	query.Set("directConnection", "true")
	u.Host, u.Path, u.RawQuery = host, "/"+database, query.Encode()
	return u.String()
}

// until waits for something, and gives up after a while.
func (c *cluster) until(what string, holds func() bool) {
	c.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// balancer is what stands in front of nodes: it asks each of them for /readyz, gives a
// request to the next one that is ready, and to another one if there nobody listens.
type balancer struct {
	base  string
	mu    sync.Mutex
	nodes []*upstream
	next  atomic.Uint64
}

type upstream struct {
	addr  string
	ready atomic.Bool
	proxy *httputil.ReverseProxy
}

// attempts are what a request carries from node to node: who was asked, and its body.
type attempts struct {
	tried map[*upstream]bool
	body  []byte
}

type attemptsKey struct{}

func newBalancer(t testing.TB) *balancer {
	b := &balancer{}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	b.base = fmt.Sprintf("http://localhost:%d/", l.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: b, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(l) }()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		_ = server.Close()
	})
	go b.watch(ctx)
	return b
}

func (b *balancer) add(addr string) {
	target := &url.URL{Scheme: "http", Host: addr}
	u := &upstream{addr: addr}
	u.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		// A connection of its own for each request: whether it was accepted is then whether
		// the request may have been read.
		Transport:    &http.Transport{DisableKeepAlives: true},
		ErrorHandler: b.failed,
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	u.ready.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = append(b.nodes, u)
}

func (b *balancer) all() []*upstream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*upstream(nil), b.nodes...)
}

// watch asks which nodes are ready, ten times a second.
func (b *balancer) watch(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, u := range b.all() {
			res, err := client.Get("http://" + u.addr + "/readyz")
			if err == nil {
				_ = res.Body.Close()
			}
			u.ready.Store(err == nil && res.StatusCode == http.StatusOK)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ServeHTTP gives the request to the next node.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, _ := r.Context().Value(attemptsKey{}).(*attempts)
	if a == nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "half a request", http.StatusBadRequest)
			return
		}
		a = &attempts{map[*upstream]bool{}, body}
		r = r.WithContext(context.WithValue(r.Context(), attemptsKey{}, a))
	}
	r.Body = io.NopCloser(bytes.NewReader(a.body))
	nodes := b.all()
	for _, wanted := range []bool{true, false} { // who is not ready is better than nobody
		for range nodes {
			u := nodes[b.next.Add(1)%uint64(len(nodes))]
			if !a.tried[u] && u.ready.Load() == wanted {
				a.tried[u] = true
				u.proxy.ServeHTTP(w, r)
				return
			}
		}
	}
	http.Error(w, "no node", http.StatusBadGateway)
}

// failed tries another node if this one has not heard of the request.
func (b *balancer) failed(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		b.ServeHTTP(w, r)
		return
	}
	http.Error(w, "the node is gone", http.StatusBadGateway)
}

// person is somebody with a browser.
type person struct {
	name   string
	client *http.Client
	jar    http.CookieJar
}

func newPerson(name string) *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err)
	}
	return &person{name: name, jar: jar, client: &http.Client{
		Jar: jar, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends a request and returns the answer with its body.
func (p *person) do(method, address, contentType, body string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// signIn signs in at base, by name and password.
func (p *person) signIn(base string) error {
	form := url.Values{"username": {p.name}, "password": {"password"}}.Encode()
	res, body, err := p.do(http.MethodPost, base+"login/people", "application/x-www-form-urlencoded", form)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusFound {
		return fmt.Errorf("answered %d %s", res.StatusCode, title(body))
	}
	return nil
}

// title is that of a page, for messages.
func title(page string) string {
	_, rest, _ := strings.Cut(page, "<title>")
	text, _, _ := strings.Cut(rest, "</title>")
	return text
}

// user is what /currentUser says.
type user struct {
	ID   string `json:"_id"`
	Name string `json:"name"`
}

// current asks who is signed in; status is that of the answer.
func (p *person) current(base string) (u user, status int, err error) {
	res, body, err := p.do(http.MethodGet, base+"currentUser", "", "")
	if err != nil {
		return u, 0, err
	}
	if res.StatusCode == http.StatusOK {
		err = json.Unmarshal([]byte(body), &u)
	}
	return u, res.StatusCode, err
}

// rename changes the name; status is that of the answer.
func (p *person) rename(base, id, name string) (status int, err error) {
	res, _, err := p.do(http.MethodPatch, base+"users/"+id, "application/json", fmt.Sprintf(`{"name":%q}`, name))
	if err != nil {
		return 0, err
	}
	return res.StatusCode, nil
}

// event is what a socket was told, and when.
type event struct {
	Type string `json:"type"`
	Data struct {
		User *user `json:"user"`
	} `json:"data"`
	at time.Time
}

// listener is an application that listens, and comes back when its socket is closed.
type listener struct {
	events chan event
	opened atomic.Int64 // how often
	done   chan struct{}
	stop   context.CancelFunc
}

// listen opens a socket with the person's cookies at base.
func (p *person) listen(t testing.TB, base string) *listener {
	ctx, stop := context.WithCancel(context.Background())
	l := &listener{events: make(chan event, 1000), done: make(chan struct{}), stop: stop}
	t.Cleanup(func() { stop(); <-l.done })
	go func() {
		defer close(l.done)
		// As clients do, not at once, nor all at the same time.
		const first, longest = 500 * time.Millisecond, 5 * time.Second
		wait := first
		for {
			if l.hear(ctx, p, base) {
				wait = first
			} else {
				wait = min(2*wait, longest)
			}
			select {
			case <-time.After(wait/2 + rand.N(wait/2)):
			case <-ctx.Done():
				return
			}
		}
	}()
	return l
}

// hear is one socket, from its opening to its end; it tells whether anything was heard.
func (l *listener) hear(ctx context.Context, p *person, base string) (heard bool) {
	u, err := url.Parse(base)
	if err != nil {
		panic(err)
	}
	header := http.Header{}
	for _, c := range p.jar.Cookies(u) {
		header.Add("Cookie", c.Name+"="+c.Value)
	}
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(base, "http"), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		return false
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return heard
		}
		if !heard {
			l.opened.Add(1)
			heard = true
		}
		e := event{at: time.Now()}
		if json.Unmarshal(text, &e) == nil {
			select {
			case l.events <- e:
			default: // nobody reads them any more
			}
		}
	}
}

// next waits for an event of a type that suits.
func (l *listener) next(t testing.TB, kind string, suits func(event) bool) event {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-l.events:
			if e.Type == kind && (suits == nil || suits(e)) {
				return e
			}
		case <-timeout:
			t.Fatalf("no event %q within %s", kind, patience)
		}
	}
}
