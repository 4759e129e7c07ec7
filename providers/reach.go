package providers

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"login-server/internal/outbound"
)

// errInside: somebody else's document leads to an address that only we can reach.
var errInside = fmt.Errorf("%w, where the issuer is not", outbound.ErrInside)

// reach guards requests to endpoints that a discovery document names, so that whoever
// writes it cannot have us ask servers that only we can reach (server-side request
// forgery). It may name hosts as far inside as the issuer is itself, and those that the
// operator has written. A name is judged by the address that it leads to at the moment
// of dialing. Behind a proxy that is up to the proxy, except for addresses in the URL.
type reach struct {
	next    http.RoundTripper
	trusted map[string]bool
	allowed atomic.Int32 // outbound.Depth of the issuer
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
		g.locate(outbound.Named(u.Hostname()))
	}
	if g.next == nil {
		guard := &outbound.Guard{Check: g.check, DialTimeout: dialTimeout}
		t := newTransport(guard.Dial)
		t.Proxy = guard.Proxy
		g.next = t
	}
	return g
}

// locate takes note of where the issuer is.
func (g *reach) locate(d outbound.Depth) {
	if d == outbound.Special {
		d = outbound.Public // its neighbours are none of its business
	}
	g.allowed.Store(int32(d))
}

func (g *reach) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.check(r.URL.Hostname(), r.URL.Port(), outbound.Named(r.URL.Hostname())); err != nil {
		return nil, err
	}
	return g.next.RoundTrip(r)
}

func (g *reach) check(host, _ string, d outbound.Depth) error {
	if d != outbound.Public && d > outbound.Depth(g.allowed.Load()) && !g.trusted[strings.ToLower(host)] {
		return fmt.Errorf("%.100q %w", host, errInside)
	}
	return nil
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
			g.locate(outbound.DepthOf(a.AddrPort().Addr()))
		}
	}
}
