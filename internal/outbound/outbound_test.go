package outbound

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

func TestDepths(t *testing.T) {
	for address, want := range map[string]Depth{
		"8.8.8.8": Public, "2a00:1450:4001::1": Public, "100.128.0.1": Public, "172.32.0.1": Public, "64:ff9b::808:808": Public,
		"10.255.0.1": Private, "172.31.0.1": Private, "192.168.0.1": Private, "fd12::1": Private, "100.127.0.1": Private, "::ffff:10.0.0.1": Private,
		"127.1.2.3": Loopback, "::1": Loopback, "::ffff:127.0.0.1": Loopback, "64:ff9b::7f00:1": Loopback,
		"169.254.169.254": Special, "fe80::1%eth0": Special, "0.0.0.0": Special, "::": Special, "ff02::1": Special, "255.255.255.255": Special,
		"2001:db8::1": Special, "198.51.100.1": Special, "2002:a00:1::": Special,
	} {
		if got := DepthOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %d, want %d", address, got, want)
		}
	}
	for host, want := range map[string]Depth{"localhost": Loopback, "LOCALHOST.": Loopback, "a.localhost": Loopback, "127.0.0.1": Loopback, "example.org": Public} {
		if got := Named(host); got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
}

// TestInside: nobody has us ask servers inside, by address, by name or by a redirect;
// they are not even connected to.
func TestInside(t *testing.T) {
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/there", http.StatusFound)
		}
	}))
	defer inside.Close()
	u, _ := url.Parse(inside.URL)
	get := func(o Options, address string) error {
		_, err := Get(context.Background(), New(o), address, "*/*", 10)
		return err
	}
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "[fe80::1]", "0.0.0.0"} {
		if err := get(Options{}, "http://"+host+":"+u.Port()+"/"); !errors.Is(err, ErrInside) {
			t.Errorf("%s: %v", host, err)
		}
	}
	// The dialer does not believe names either, whoever let the URL pass.
	guard := New(Options{}).Transport.(*transport).next
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:"+u.Port(), nil)
	if _, err := guard.RoundTrip(r); !errors.Is(err, ErrInside) { //nolint:bodyclose // there is none
		t.Error(err)
	}
	// What the operator has written is one server, not all that are on its host.
	if err := get(Options{Trusted: []string{"http://127.0.0.1:1/"}}, inside.URL); !errors.Is(err, ErrInside) {
		t.Errorf("another port: %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Fatalf("asked %d times", n)
	}
	for _, o := range []Options{{Loopback: true}, {Trusted: []string{inside.URL + "/keys"}}} {
		if err := get(o, inside.URL); err != nil {
			t.Error(err)
		}
	}
	if err := get(Options{Loopback: true}, "http://10.0.0.1/"); !errors.Is(err, ErrInside) {
		t.Errorf("loopback only: %v", err)
	}
	if err := get(Options{Loopback: true}, inside.URL+"/away"); err == nil || !strings.Contains(err.Error(), "302") {
		t.Errorf("a redirect: %v", err)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestTooLong(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("12345")) }))
	defer s.Close()
	client := New(Options{Loopback: true})
	if _, err := Get(t.Context(), client, s.URL, "*/*", 4); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if body, err := Get(t.Context(), client, s.URL, "*/*", 5); err != nil || string(body) != "12345" {
		t.Errorf("%q, %v", body, err)
	}
}
