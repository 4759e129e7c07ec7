package testenv

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and a server that it reaches by TCP, and is the network
// that fails between them.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // what follows
	cut     bool
	frozen  bool
	mute    bool
	links   map[*link]bool
}

// link is one connection of a client, and the one to the server that belongs to it.
type link struct {
	client, server net.Conn
	closed         bool
}

// NewProxy starts a proxy for a server at target (host:port). It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: listener, links: make(map[*link]bool)}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// NewProxyURL is NewProxy for a server that a URL names, and returns that URL with the
// proxy in the place of the server.
func NewProxyURL(t testing.TB, server string) (p *Proxy, through string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	p = NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// Addr is where clients connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks all connections, with what is on its way, and every new one as soon as it is made.
func (p *Proxy) Cut() {
	p.set(func() {
		p.cut = true
		for l := range p.links {
			p.close(l)
		}
	})
}

// Freeze lets nothing through in either direction; connections stay open.
func (p *Proxy) Freeze() { p.set(func() { p.frozen = true }) }

// HoldAnswers lets nothing of what the server sends through to the clients, but what they
// send through to the server. A Cut loses the answers.
func (p *Proxy) HoldAnswers() { p.set(func() { p.mute = true }) }

// Restore ends Cut, Freeze and HoldAnswers. What was held goes its way.
func (p *Proxy) Restore() { p.set(func() { p.cut, p.frozen, p.mute = false, false, false }) }

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(client) })
	}
}

func (p *Proxy) connect(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
	p.mu.Lock()
	p.links[l] = true
	if p.cut {
		p.close(l)
	}
	p.mu.Unlock()
	p.running.Go(func() { p.pump(l, client, server, func() bool { return p.frozen }) })
	p.pump(l, server, client, func() bool { return p.frozen || p.mute })
}

// pump carries what is sent in one direction, and closes both when there is no more.
func (p *Proxy) pump(l *link, from, to net.Conn, held func() bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for held() && !l.closed {
			p.changed.Wait()
		}
		p.mu.Unlock()
		_, failed := to.Write(buffer[:n])
		if err != nil || failed != nil {
			p.set(func() { p.close(l) })
			return
		}
	}
}

// close breaks a connection; mu is held.
func (p *Proxy) close(l *link) {
	l.closed = true
	_ = l.client.Close()
	_ = l.server.Close()
	delete(p.links, l)
}
