package testenv

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"
)

// lineServer answers each line with the same line, and tells of those that it has got.
func lineServer(t *testing.T) (addr string, got <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	lines := make(chan string, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for s := bufio.NewScanner(conn); s.Scan(); {
					lines <- s.Text()
					_, _ = fmt.Fprintln(conn, s.Text())
				}
			}()
		}
	}()
	return listener.Addr().String(), lines
}

// lineClient is a connection through the proxy.
type lineClient struct {
	t *testing.T
	net.Conn
	answers *bufio.Scanner
}

func dialProxy(t *testing.T, p *Proxy) *lineClient {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &lineClient{t: t, Conn: conn, answers: bufio.NewScanner(conn)}
}

func (c *lineClient) send(line string) { _, _ = fmt.Fprintln(c, line) }

func (c *lineClient) want(line string) {
	c.t.Helper()
	if !c.answers.Scan() || c.answers.Text() != line {
		c.t.Errorf("got %q, %v; want %q", c.answers.Text(), c.answers.Err(), line)
	}
}

func (c *lineClient) wantBroken() {
	c.t.Helper()
	if c.answers.Scan() {
		c.t.Errorf("got %q over a connection that was cut", c.answers.Text())
	}
}

func TestProxy(t *testing.T) {
	addr, got := lineServer(t)
	p := NewProxy(t, addr)
	c := dialProxy(t, p)
	c.send("hello")
	c.want("hello")
	<-got

	p.HoldAnswers()
	c.send("heard")
	if line := <-got; line != "heard" {
		t.Errorf("the server got %q", line)
	}
	p.Restore()
	c.want("heard")

	p.Freeze()
	c.send("late")
	other := dialProxy(t, p)
	other.send("later")
	select {
	case line := <-got:
		t.Errorf("%q came through what is frozen", line)
	default:
	}
	p.Restore()
	c.want("late")
	other.want("later")

	p.Cut()
	c.wantBroken()
	dialProxy(t, p).wantBroken()
	p.Restore()
	c = dialProxy(t, p)
	c.send("again")
	c.want("again")
	p.HoldAnswers()
	c.send("unanswered")
	p.Cut()
	c.wantBroken()
}
