package providers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"login-server/config"
)

// depth is how far inside an address is.
type depth int32

const (
	public   depth = iota
	private        // in use inside of networks
	loopback       // this machine
	special        // what nobody has a server on: link-local (metadata of clouds), multicast, reserved
)

// errInside: somebody else's document leads to an address that only we can reach.
var errInside = errors.New("leads to an address inside, where the issuer is not")

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

func depthOf(a netip.Addr) depth {
	a = a.Unmap().WithZone("")
	switch {
	case nat64.Contains(a):
		b := a.As16()
		return depthOf(netip.AddrFrom4([4]byte(b[12:])))
	case a.IsLoopback():
		return loopback
	case a.IsPrivate(), sharedSpace.Contains(a):
		return private
	case !a.IsGlobalUnicast():
		return special
	}
	for _, p := range specialPrefixes {
		if p.Contains(a) {
			return special
		}
	}
	return public
}

// named is how far inside a host is that is written as an address. Names are looked up
// when they are dialed, and until then count as public.
func named(host string) depth {
	if a, err := netip.ParseAddr(host); err == nil {
		return depthOf(a)
	}
	if config.Loopback(strings.ToLower(strings.TrimSuffix(host, "."))) {
		return loopback
	}
	return public
}

// reach guards requests to endpoints that a discovery document names, so that whoever
// writes it cannot have us ask servers that only we can reach (server-side request
// forgery). It may name hosts as far inside as the issuer is itself, and those that the
// operator has written. A name is judged by the address that it leads to at the moment
// of dialing. Behind a proxy that is up to the proxy, except for addresses in the URL.
type reach struct {
	next    http.RoundTripper
	trusted map[string]bool
	allowed atomic.Int32 // depth of the issuer
	proxies sync.Map     // host:port of those in use
}

// newReach returns the guard for an issuer; operator is what other URLs its operator has written.
func newReach(deps Deps, issuer string, operator ...string) *reach {
	g := &reach{next: deps.Transport, trusted: map[string]bool{}}
	for _, address := range append(operator, issuer) {
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			g.trusted[strings.ToLower(u.Hostname())] = true
		}
	}
	if u, err := url.Parse(issuer); err == nil {
		g.locate(named(u.Hostname()))
	}
	if g.next == nil {
		t := newTransport(g.dial)
		t.Proxy = g.proxy
		g.next = t
	}
	return g
}

// locate takes note of where the issuer is.
func (g *reach) locate(d depth) {
	if d == special {
		d = public // its neighbours are none of its business
	}
	g.allowed.Store(int32(d))
}

func (g *reach) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.check(r.URL.Hostname(), named(r.URL.Hostname())); err != nil {
		return nil, err
	}
	return g.next.RoundTrip(r)
}

func (g *reach) check(host string, d depth) error {
	if d != public && d > depth(g.allowed.Load()) && !g.trusted[strings.ToLower(host)] {
		return fmt.Errorf("%.100q %w", host, errInside)
	}
	return nil
}

// dial connects to host:port if none of the rules is against the address that the host has.
func (g *reach) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	if _, ok := g.proxies.Load(address); !ok {
		d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return fmt.Errorf("%.100q %w", resolved, errInside)
			}
			return g.check(host, depthOf(a.Addr()))
		}
	}
	return d.DialContext(ctx, network, address)
}

// proxy is http.ProxyFromEnvironment. The operator's proxy may be anywhere.
func (g *reach) proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if u != nil {
		port := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
		g.proxies.Store(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)), true)
	}
	return u, err
}

// locating returns a context for a request to the issuer itself, and what to call when
// the answer has turned out to be good: the address that has answered is then the
// issuer's. That a name merely leads somewhere does not put the issuer there.
func (g *reach) locating(ctx context.Context, address string) (_ context.Context, located func()) {
	var remote atomic.Pointer[net.TCPAddr]
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if a, ok := c.Conn.RemoteAddr().(*net.TCPAddr); ok {
			remote.Store(a)
		}
	}}
	return httptrace.WithClientTrace(ctx, trace), func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return
		}
		proxy, err := http.ProxyFromEnvironment(r)
		if a := remote.Load(); a != nil && proxy == nil && err == nil {
			g.locate(depthOf(a.AddrPort().Addr()))
		}
	}
}
