package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"login-server/internal/testenv"
	"login-server/internal/testprogram"
	"login-server/internal/teststore"
)

// TestStopWhileStarting: a MongoDB that says nothing does not keep a start from being ended,
// which is no failure.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := begin(t, site(t), []string{"MONGO_URI=mongodb://" + silent.Addr().String() + "/?serverSelectionTimeoutMS=60000", "SESSION_SECRET=0123456789abcdef0123456789abcdef"})
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.signal(syscall.SIGTERM)
	p.waitFor("stopped before it was ready")
	p.end(0)
}

// TestRedisAlone: a server with the embedded store and a Redis serves, and goes on when that
// is gone.
func TestRedisAlone(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	p := serve(t, site(t), "REDIS_URL="+redis.URL())
	p.browser().signIn("local", "demo", "demo")
	redis.Kill()
	p.waitFor("no connection through Redis")
	p.browser().signIn("local", "demo", "demo")
	if out := p.command("user", "list"); !strings.Contains(out, "local:demo") {
		t.Errorf("user list:\n%s", out)
	}
	p.signal(syscall.SIGTERM)
	p.end(0)
}

// TestBesideNodes: a node writes no files, says how many there are, hears what commands do,
// and lets nobody in who is another installation.
func TestBesideNodes(t *testing.T) {
	t.Parallel()
	uri, database := teststore.Database(t)
	env := []string{"MONGO_URI=" + uri, "MONGO_DB=" + database, "SESSION_SECRET=0123456789abcdef0123456789abcdef", "METRICS_TOKEN=0123456789abcdef"}
	first := serve(t, site(t), env...)
	b := first.browser()
	b.signIn("local", "demo", "demo")
	if out := first.command("session", "list"); !strings.Contains(out, "local") {
		t.Errorf("session list:\n%s", out)
	}
	if got := first.numbers(); !strings.Contains(got, "\nlogin_server_nodes 1\n") {
		t.Errorf("one node:\n%s", got)
	}

	other := begin(t, site(t), env) // at a port, and with a BASE_URL, of its own
	other.waitFor("  BASE_URL: is not that of the nodes on this database, which are at " + first.url)
	other.end(1)

	port := testprogram.FreePort(t, "localhost")
	second := serve(t, site(t), append(env, fmt.Sprintf("PORT=%d", port), "BASE_URL="+first.url)...)
	second.url = fmt.Sprintf("http://localhost:%d/", port)
	if got := second.numbers(); !strings.Contains(got, "\nlogin_server_nodes 2\n") {
		t.Errorf("two nodes:\n%s", got)
	}
	first.command("session", "remove", "--all", "--yes")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // it is asked again
		if status, _ := b.send(http.MethodGet, "currentUser", nil); status != http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a session that was removed lives on")
		}
	}
	for _, n := range []*process{first, second} {
		n.signal(syscall.SIGTERM)
		n.end(0)
		files, err := os.ReadDir(n.dir)
		if err != nil || len(files) != 1 {
			t.Errorf("files %v (%v), want providers.json only", files, err)
		}
	}
}

// numbers are the metrics of a server whose METRICS_TOKEN is 0123456789abcdef.
func (p *process) numbers() string {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+"metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer 0123456789abcdef")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		p.t.Fatalf("metrics: status %d, %v", answer.StatusCode, err)
	}
	return string(body)
}
