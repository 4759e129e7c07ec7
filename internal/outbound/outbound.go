// Package outbound makes requests to addresses that others have chosen: endpoints in a
// discovery document, the jwks_uri of a client, where it wants to be told of a logout.
// Whoever chooses them must not have us ask servers that only we can reach (server-side
// request forgery). A name is judged by the address that it leads to at the moment of
// dialing. Behind a proxy that is up to the proxy, except for addresses in the URL.
package outbound

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"login-server/config"
)

// Depth is how far inside an address is.
type Depth int32

const (
	Public   Depth = iota
	Private        // in use inside of networks
	Loopback       // this machine
	Special        // what nobody has a server on: link-local (metadata of clouds), multicast, reserved
)

// ErrInside: an address that somebody else has chosen is one that only we can reach.
var ErrInside = errors.New("leads to an address inside")

// ErrTooLong: an answer has more bytes than anybody needs.
var ErrTooLong = errors.New("the answer is too long")

// Prefixes of which netip does not know what they are for (IANA special-purpose registries).
var (
	sharedSpace     = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	nat64           = netip.MustParsePrefix("64:ff9b::/96")  // RFC 6052: an IPv4 address in the last 32 bits
	specialPrefixes = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
		netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
	}
)

// DepthOf is how far inside an address is.
func DepthOf(a netip.Addr) Depth {
	a = a.Unmap().WithZone("")
	switch {
	case nat64.Contains(a):
		b := a.As16()
		return DepthOf(netip.AddrFrom4([4]byte(b[12:])))
	case a.IsLoopback():
		return Loopback
	case a.IsPrivate(), sharedSpace.Contains(a):
		return Private
	case !a.IsGlobalUnicast():
		return Special
	}
	for _, p := range specialPrefixes {
		if p.Contains(a) {
			return Special
		}
	}
	return Public
}

// Named is how far inside a host is that is written as an address. Names are looked up
// when they are dialed, and until then count as public.
func Named(host string) Depth {
	if a, err := netip.ParseAddr(host); err == nil {
		return DepthOf(a)
	}
	if config.Loopback(strings.ToLower(strings.TrimSuffix(host, "."))) {
		return Loopback
	}
	return Public
}

// Guard stands before the dialer of a transport.
type Guard struct {
	// Check tells whether a server may be asked that is so far inside: nil if it may. It
	// has the name by which it was asked for, and the port or "".
	Check func(host, port string, d Depth) error
	// DialTimeout; 0 is none.
	DialTimeout time.Duration

	proxies sync.Map // host:port of those in use
}

// Dial connects to host:port if Check is not against the address that the host has.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: g.DialTimeout}
	if _, ok := g.proxies.Load(address); !ok {
		d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return fmt.Errorf("%.100q %w", resolved, ErrInside)
			}
			return g.Check(host, port, DepthOf(a.Addr()))
		}
	}
	return d.DialContext(ctx, network, address)
}

// Proxy is http.ProxyFromEnvironment. The operator's proxy may be anywhere.
func (g *Guard) Proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if u != nil {
		port := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
		g.proxies.Store(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)), true)
	}
	return u, err
}

// Options of a client.
type Options struct {
	// Loopback allows this machine, for development.
	Loopback bool
	// Trusted are addresses that the operator has written: their servers may be anywhere.
	Trusted []string
	// Timeout of a whole request; 0 is 5 s.
	Timeout time.Duration
	// Version of this program, for the User-Agent.
	Version string
}

// New returns a client that asks public servers only. It does not follow redirects.
func New(o Options) *http.Client {
	timeout := cmp.Or(o.Timeout, 5*time.Second)
	t := &transport{loopback: o.Loopback, trusted: map[string]bool{}, agent: "login-server/" + cmp.Or(o.Version, "dev")}
	for _, address := range o.Trusted {
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			t.trusted[authority(u)] = true
		}
	}
	guard := &Guard{Check: t.check, DialTimeout: timeout}
	next := http.DefaultTransport.(*http.Transport).Clone()
	next.DialContext, next.Proxy = guard.Dial, guard.Proxy
	next.TLSHandshakeTimeout, next.ResponseHeaderTimeout = timeout, timeout
	next.MaxResponseHeaderBytes = 64 << 10
	next.MaxIdleConnsPerHost = 2
	t.next = next
	return &http.Client{
		Transport: t, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type transport struct {
	next     http.RoundTripper
	loopback bool
	trusted  map[string]bool // host:port
	agent    string
}

func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func (t *transport) check(host, port string, d Depth) error {
	if d == Public || d == Loopback && t.loopback || t.trusted[net.JoinHostPort(strings.ToLower(host), port)] {
		return nil
	}
	return fmt.Errorf("%.100q %w", host, ErrInside)
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	// Asked here as well as by the dialer, which does not see what a proxy is asked for.
	host, port, err := net.SplitHostPort(authority(r.URL))
	if err == nil {
		err = t.check(host, port, Named(host))
	}
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", t.agent)
	return t.next.RoundTrip(r)
}

// Get asks for a document of no more than limit bytes. Any status but 200 is an error.
func Get(ctx context.Context, client *http.Client, address, accept string, limit int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%.200s answered %d", address, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%.200s: %w", address, ErrTooLong)
	}
	return body, nil
}
