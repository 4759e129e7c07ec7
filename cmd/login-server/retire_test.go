package main

import (
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// TestRetiringServer: while a server goes on answering before it stops, what others write counts
// there as before.
func TestRetiringServer(t *testing.T) {
	t.Parallel()
	p := serve(t, site(t), "STOP_DELAY_SECONDS=300")
	b := p.browser()
	b.signIn("local", "demo", "demo")
	socket := b.events()
	socket.until("loggedIn")
	p.signal(syscall.SIGTERM)
	p.waitFor("stopping")
	p.command("session", "remove", "--all", "--yes")
	socket.until("loggedOut")
	_ = socket.c.Close(websocket.StatusNormalClosure, "")
}
