package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/internal/outbound"
)

// TestMetadata: what a discovery document has to be.
func TestMetadata(t *testing.T) {
	field := func(name string, value any) func(*openIDProvider) {
		return func(o *openIDProvider) { o.metadata = func(m object) { m[name] = value } }
	}
	for _, tc := range []struct {
		name string
		op   func(*openIDProvider)
		want string // empty: signs in
	}{
		{"fine", func(*openIDProvider) {}, ""},
		{"of another issuer", field("issuer", "https://evil.example"), "another issuer"},
		{"of a longer issuer", func(o *openIDProvider) {
			o.metadata = func(m object) { m["issuer"] = o.issuer + "/evil" }
		}, "another issuer"},
		{"of an issuer with two slashes", func(o *openIDProvider) {
			o.metadata = func(m object) { m["issuer"] = o.issuer + "//" }
		}, "another issuer"},
		{"without issuer", field("issuer", nil), "no issuer"},
		{"a slash more, in ID Tokens too", func(o *openIDProvider) {
			o.metadata = func(m object) { m["issuer"] = o.issuer + "/" }
			o.claims = func(c object) { c["iss"] = o.issuer + "/" }
			o.answer = func(a object) { a["iss"] = o.issuer + "/" }
		}, ""},
		{"a slash more, but not in ID Tokens", func(o *openIDProvider) {
			o.metadata = func(m object) { m["issuer"] = o.issuer + "/" }
			o.answer = func(a object) { a["iss"] = o.issuer + "/" }
		}, "issued by a different provider"},
		{"without a token endpoint", field("token_endpoint", nil), "no usable token_endpoint"},
		{"without an authorization endpoint", field("authorization_endpoint", nil), "no usable authorization_endpoint"},
		{"without keys", field("jwks_uri", nil), "no usable jwks_uri"},
		{"a relative endpoint", field("token_endpoint", "/token"), "no usable token_endpoint"},
		{"a file", field("jwks_uri", "file:///etc/passwd"), "no usable jwks_uri"},
		{"an endpoint with a password", field("token_endpoint", "http://a:b@127.0.0.1/"), "no usable token_endpoint"},
		{"a broken UserInfo endpoint", field("userinfo_endpoint", "gopher://127.0.0.1/"), "no usable userinfo_endpoint"},
		{"no way to authenticate", field("token_endpoint_auth_methods_supported", []string{"tls_client_auth"}), "takes a secret in no way"},
		{"no keys", func(o *openIDProvider) { o.keys = nil }, "no key to verify"},
		{"only secret keys", func(o *openIDProvider) { o.keys = []object{{"kty": "oct", "k": "c2VjcmV0"}} }, "no key to verify"},
		{"keys in 169.254.169.254", field("jwks_uri", "http://169.254.169.254/latest/meta-data"), "inside"},
		{"keys in 0.0.0.0", field("jwks_uri", "http://0.0.0.0/"), "inside"},
		{"endpoint in 169.254.169.254", field("token_endpoint", "http://[::ffff:169.254.169.254]/"), "inside"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOpenIDProvider(t)
			tc.op(o)
			p := openOIDC(t, "oidc", o, nil)
			if tc.want == "" {
				entered(t, p, o)
				return
			}
			if err := keptOut(t, p, o, tc.want); errors.As(err, new(*UnavailableError)) {
				t.Errorf("taken for a failure that may pass: %v", err)
			}
		})
	}
	t.Run("the operator writes a slash that is not there", func(t *testing.T) {
		o := newOpenIDProvider(t)
		entered(t, openOIDC(t, "oidc", o, object{"issuer": o.issuer + "/"}), o)
	})
	t.Run("an issuer with a path", func(t *testing.T) {
		o := newOpenIDProvider(t)
		p := openOIDC(t, "oidc", o, object{"issuer": o.issuer + "/realms/main"})
		keptOut(t, p, o, "status 404")
		if n := o.count("/realms/main" + wellKnown); n != 1 {
			t.Errorf("the document was asked for %d times where it belongs", n)
		}
	})
}

// openInMemory opens an oidc provider whose issuer is at https://op.example.
func openInMemory(t *testing.T, c clock.Clock, log *slog.Logger) (*Set, *Provider, *openIDProvider) {
	t.Helper()
	o := makeOpenIDProvider()
	o.issuer, o.now = "https://op.example", c.Now
	set := openSet(t, Deps{Clock: c, Log: log, Transport: inMemory{t, map[string]http.Handler{"op.example": o}}}, oidcOptionsOf(o, nil))
	p, _ := set.Get("p")
	return set, p, o
}

func oidcConfig(t *testing.T, options object) *config.Config {
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Config{Env: "test", BaseURL: testBase, Providers: []config.Provider{{ID: "p", Strategy: "oidc", Name: "P", Options: raw}}}
}

func openSet(t *testing.T, deps Deps, options object) *Set {
	t.Helper()
	set, _, err := Open(oidcConfig(t, options), deps)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestEndpointsOutside: a document of a public issuer leads nowhere inside.
func TestEndpointsOutside(t *testing.T) {
	for _, host := range []string{
		"127.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "172.16.0.1", "192.168.1.1",
		"100.64.0.1", "169.254.169.254", "[fe80::1]", "[fd00::1]", "0.0.0.0", "[::]", "224.0.0.1", "255.255.255.255", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
	} {
		for _, name := range []string{"jwks_uri", "token_endpoint", "userinfo_endpoint"} {
			_, p, o := openInMemory(t, clock.NewFake(testTime), nil)
			o.metadata = func(m object) { m[name] = "https://" + host + "/" }
			o.claims = func(c object) { c["name"] = nil }
			if err := keptOut(t, p, o, errInside.Error()); errors.As(err, new(*UnavailableError)) {
				t.Errorf("taken for a failure that may pass: %v", err)
			}
		}
	}
	t.Run("not encrypted", func(t *testing.T) {
		_, p, o := openInMemory(t, clock.NewFake(testTime), nil)
		o.metadata = func(m object) { m["token_endpoint"] = "http://op.example/token" }
		keptOut(t, p, o, "no usable token_endpoint")
	})
	t.Run("where the operator wants it", func(t *testing.T) {
		o := makeOpenIDProvider()
		o.issuer = "https://op.example"
		hosts := map[string]http.Handler{"op.example": o, "10.0.0.1": o}
		set := openSet(t, Deps{Clock: clock.NewFake(testTime), Transport: inMemory{t, hosts}}, oidcOptionsOf(o, object{"tokenURL": "https://10.0.0.1/token"}))
		p, _ := set.Get("p")
		entered(t, p, o)
	})
}

// TestReach: names are judged by where they lead when they are dialed, before a
// connection is made.
func TestReach(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var connections atomic.Int32
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())

	outside := newReach(Deps{}, "https://op.example.org")
	// The transport is asked, so that it is its dialer that refuses.
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:"+port, nil)
	if resp, err := outside.next.RoundTrip(r); !errors.Is(err, errInside) {
		t.Errorf("%v, %v", resp, err)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	for _, g := range []*reach{newReach(Deps{}, "http://127.0.0.2"), newReach(Deps{}, "https://op.example.org", "http://localhost/token")} {
		// The listener says nothing and hangs up: that is an error, but none of the guard.
		if resp, err := g.next.RoundTrip(r); err == nil || errors.Is(err, errInside) {
			t.Errorf("%v, %v", resp, err)
		}
	}
	if connections.Load() == 0 {
		t.Error("no connection was made to where the operator wants it")
	}

	// As far inside as the issuer, and no further.
	for _, tc := range []struct {
		issuer, host string
		allowed      bool
	}{
		{"https://10.0.0.1", "10.0.0.2", true}, {"https://10.0.0.1", "127.0.0.1", false}, {"https://10.0.0.1", "169.254.169.254", false},
		{"http://localhost", "10.0.0.2", true}, {"http://localhost", "169.254.169.254", false},
		{"http://169.254.169.254", "169.254.169.254", true}, {"http://169.254.169.254", "127.0.0.1", false},
		{"https://8.8.8.8", "8.8.4.4", true}, {"https://8.8.8.8", "10.0.0.1", false},
	} {
		if err := newReach(Deps{}, tc.issuer).check(tc.host, "", outbound.Named(tc.host)); (err == nil) != tc.allowed {
			t.Errorf("%s names %s: %v", tc.issuer, tc.host, err)
		}
	}
}

// TestIssuerInside: an issuer whose name leads inside may name its neighbours, once it
// has answered from there.
func TestIssuerInside(t *testing.T) {
	o := newOpenIDProvider(t)
	address := strings.TrimPrefix(o.issuer, "http://")
	_, port, _ := net.SplitHostPort(address)
	o.issuer = "http://op.internal"
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	o.metadata = func(m object) { m["token_endpoint"] = "http://127.0.0.1:" + port + tokenPath }
	set := openSet(t, Deps{Clock: clock.NewFake(testTime), Transport: transport}, oidcOptionsOf(o, nil))
	p, _ := set.Get("p")
	entered(t, p, o)
}

func TestKeyRotation(t *testing.T) {
	c := clock.NewFake(testTime)
	_, p, o := openInMemory(t, c, nil)
	entered(t, p, o)

	rotate := func(kid, key string, publish bool) {
		o.set(func() {
			if publish {
				o.keys = []object{published(testKeys()[key], object{"kid": kid})}
			}
			o.idToken = func(claims object) string { return signedJWT(claims, "RS256", testKeys()[key], object{"kid": kid}) }
		})
	}
	c.Advance(time.Minute)
	rotate("b", "other", true)
	entered(t, p, o)
	if n := o.count(keysPath); n != 2 {
		t.Errorf("keys were asked for %d times, want 2", n)
	}
	// Keys that are made up do not make us ask each time, nor does one that comes soon after.
	rotate("made-up", "third", false)
	for range 5 {
		keptOut(t, p, o, `kid "made-up"`)
	}
	if n := o.count(keysPath); n != 2 {
		t.Errorf("keys were asked for %d times, want 2", n)
	}
	c.Advance(keysEvery)
	for range 5 {
		keptOut(t, p, o, `kid "made-up"`)
	}
	if n := o.count(keysPath); n != 3 {
		t.Errorf("keys were asked for %d times, want 3", n)
	}
	rotate("c", "third", true)
	keptOut(t, p, o, `kid "c"`)
	c.Advance(keysEvery)
	entered(t, p, o)
	// A key that was withdrawn is worth nothing any more.
	rotate("b", "other", false)
	keptOut(t, p, o, `kid "b"`)
}

// TestOneAtATime: however many people come at once, the provider is asked once, and
// whoever gives up does not take the answer from the others.
func TestOneAtATime(t *testing.T) {
	o := newOpenIDProvider(t)
	began, release := make(chan struct{}, 100), make(chan struct{})
	document := make(chan struct{})
	o.instead[keysPath] = func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-release
		sayJSON(w, 200, object{"keys": o.keys})
	}
	p := openOIDC(t, "oidc", o, nil)
	impatient, leave := context.WithCancel(t.Context())
	go func() {
		defer close(document)
		if _, err := p.Website.Begin(impatient, newLogin(p)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}()
	<-began
	leave()
	<-document
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := p.Website.Begin(t.Context(), newLogin(p)); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	all.Wait()
	if n := o.count(keysPath); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// unreachable answers for o while it is down.
type unreachable struct {
	http.RoundTripper
	down atomic.Bool
}

func (u *unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	if u.down.Load() {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	return u.RoundTripper.RoundTrip(r)
}

// TestDownAtStart: a provider that is down does not keep others from opening, says each
// cause once, and is in use when it is back.
func TestDownAtStart(t *testing.T) {
	o := makeOpenIDProvider()
	o.issuer = "https://op.example"
	network := &unreachable{RoundTripper: inMemory{t, map[string]http.Handler{"op.example": o}}}
	network.down.Store(true)
	var log bytes.Buffer
	set := openSet(t, Deps{Clock: clock.NewFake(testTime), Transport: network, Log: slog.New(slog.NewTextHandler(&log, nil))}, oidcOptionsOf(o, nil))
	p, _ := set.Get("p")
	for range 3 {
		if err := keptOut(t, p, o, "connection refused"); !errors.As(err, new(*UnavailableError)) {
			t.Errorf("not taken for a failure that may pass: %v", err)
		}
	}
	if h := p.Health(); h.Up || !h.Known {
		t.Errorf("health %+v", h)
	}
	if err := p.Prober.Probe(t.Context()); err == nil {
		t.Error("Probe: no error")
	}
	network.down.Store(false)
	entered(t, p, o)
	entered(t, p, o)
	if h := p.Health(); !h.Up {
		t.Errorf("health %+v", h)
	}
	if strings.Count(log.String(), "is not available") != 1 || strings.Count(log.String(), "available again") != 1 {
		t.Errorf("log:\n%s", &log)
	}
	// What is known stays in use.
	o.set(func() { o.instead[wellKnown] = http.NotFound })
	if err := p.Prober.Probe(t.Context()); err == nil {
		t.Error("Probe: no error")
	}
	entered(t, p, o)
	// Whoever mends one cause has to hear of the next.
	said := strings.Count(log.String(), "is not available")
	o.set(func() { o.keys = nil; delete(o.instead, wellKnown) })
	for range 2 {
		if err := p.Prober.Probe(t.Context()); err == nil {
			t.Error("Probe: no error")
		}
	}
	if strings.Count(log.String(), "is not available") != said+1 || !strings.Contains(log.String(), "there is no key") {
		t.Errorf("log:\n%s", &log)
	}
	o.set(func() { o.instead[wellKnown] = http.NotFound })
	if _, err := set.Reload(oidcConfig(t, oidcOptionsOf(o, object{"prompt": "login"}))); err != nil {
		t.Fatal(err)
	}
	again, _ := set.Get("p")
	if again == p {
		t.Fatal("the provider is the old one")
	}
	entered(t, again, o)
	if o.authURL.Get("prompt") != "login" {
		t.Error("the new option has no effect")
	}
	// But not for another issuer.
	if _, err := set.Reload(oidcConfig(t, oidcOptionsOf(o, object{"issuer": "https://op.example/other"}))); err != nil {
		t.Fatal(err)
	}
	again, _ = set.Get("p")
	keptOut(t, again, o, "status 404")
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, p, o := openInMemory(t, clock.System{}, nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { set.Run(ctx); close(ended) }()
		expect := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after) // the time of the bubble
			synctest.Wait()
			if got := o.count(wellKnown); got != want {
				t.Errorf("asked %d times, want %d", got, want)
			}
		}
		expect(0, 1)
		if h := p.Health(); !h.Up || !h.Known {
			t.Errorf("health %+v", h)
		}
		expect(freshFor-time.Second, 1)
		expect(time.Second, 2)

		o.set(func() { o.instead[wellKnown] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) } })
		expect(freshFor, 3)
		if h := p.Health(); h.Up {
			t.Errorf("health %+v", h)
		}
		entered(t, p, o)
		expect(5*time.Second, 4)
		expect(10*time.Second, 5)
		expect(20*time.Second, 6)
		expect(40*time.Second, 7)
		expect(80*time.Second, 8)
		expect(160*time.Second, 9)
		expect(5*time.Minute, 10)
		expect(5*time.Minute, 11)
		o.set(func() { delete(o.instead, wellKnown) })
		expect(5*time.Minute, 12)
		if h := p.Health(); !h.Up {
			t.Errorf("health %+v", h)
		}
		expect(freshFor-time.Second, 12)
		// After the next failure the waits are short again.
		o.set(func() { o.instead[wellKnown] = http.NotFound })
		expect(time.Second, 13)
		o.set(func() { delete(o.instead, wellKnown) })
		expect(firstRetry, 14)
		expect(freshFor-time.Second, 14)

		// What is fresh is not asked for again because the file was read.
		if _, err := set.Reload(oidcConfig(t, oidcOptionsOf(o, nil))); err != nil {
			t.Fatal(err)
		}
		expect(0, 14)
		if again, _ := set.Get("p"); !again.Health().Up {
			t.Error("that the provider is up is forgotten")
		}
		expect(time.Second, 15)
		// Another issuer is followed, and the old one is not asked any more.
		if _, err := set.Reload(oidcConfig(t, oidcOptionsOf(o, object{"issuer": "https://op.example/other"}))); err != nil {
			t.Fatal(err)
		}
		expect(time.Hour, 15)
		if n := o.count("/other" + wellKnown); n < 10 {
			t.Errorf("the new issuer was asked %d times", n)
		}
		stop()
		<-ended
		before := o.count("/other" + wellKnown)
		time.Sleep(time.Hour)
		synctest.Wait()
		if o.count("/other"+wellKnown) != before {
			t.Error("somebody asks after the end")
		}
	})
}
