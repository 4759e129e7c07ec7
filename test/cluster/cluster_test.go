package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"login-server/internal/testprogram"
)

// Somebody who signs in on one node is signed in on all, sockets on all of them hear of
// everything at once, and an end of the session is an end everywhere.
func TestEverywhere(t *testing.T) {
	c := start(t, 3)
	ada := newPerson("user0")
	if err := ada.signIn(c.at(0)); err != nil {
		t.Fatal(err)
	}
	me, status, err := ada.current(c.at(2))
	if err != nil || status != http.StatusOK {
		t.Fatalf("on another node: %d, %v", status, err)
	}
	var sockets []*listener
	for i := range c.nodes {
		l := ada.listen(t, c.at(i))
		l.next(t, "loggedIn", nil)
		sockets = append(sockets, l)
	}

	// How long a change on any node takes to the sockets on each.
	var took []time.Duration
	for i := range 30 {
		name := fmt.Sprintf("Ada %d", i)
		began := time.Now()
		if status, err := ada.rename(c.at(i%3), me.ID, name); err != nil || status != http.StatusOK {
			t.Fatalf("renamed: %d, %v", status, err)
		}
		for _, l := range sockets {
			took = append(took, l.next(t, "updated", func(e event) bool { return e.Data.User.Name == name }).at.Sub(began))
		}
	}
	slices.Sort(took)
	median, last := took[len(took)/2], took[len(took)-1]
	t.Logf("from a request to `updated` on any of 3 nodes: median %s, last %s", median, last)
	if median > 100*time.Millisecond {
		t.Errorf("sockets hear of a change after %s (median), want at most 100ms", median)
	}

	// The sessions page of any node shows the sockets of all.
	_, page, err := ada.do(http.MethodGet, c.at(1)+"sessions", "", "")
	if err != nil || !strings.Contains(page, ">3<") && !strings.Contains(page, "3 ") {
		t.Errorf("the sessions page does not tell of 3 sockets: %v", err)
	}

	// Another browser of the same person ends this session, on a third node.
	phone := newPerson("user0")
	if err := phone.signIn(c.at(1)); err != nil {
		t.Fatal(err)
	}
	if res, body, err := phone.do(http.MethodDelete, c.at(2)+"sessions", "", ""); err != nil || res.StatusCode != http.StatusNoContent {
		t.Fatalf("ending other sessions: %v %s %v", res, body, err)
	}
	for i, l := range sockets {
		l.next(t, "loggedOut", nil)
		if _, status, err := ada.current(c.at(i)); err != nil || status != http.StatusUnauthorized {
			t.Errorf("node %d after the session was ended: %d, %v", i, status, err)
		}
	}

	// The command line is a process of its own.
	socket := phone.listen(t, c.at(0))
	socket.next(t, "loggedIn", nil)
	c.command("session", "remove", "--all", "--yes")
	socket.next(t, "loggedOut", nil)
	if _, status, err := phone.current(c.at(0)); err != nil || status != http.StatusUnauthorized {
		t.Errorf("after session remove --all: %d, %v", status, err)
	}
}

// command runs the program beside the nodes, with the settings of the first.
func (c *cluster) command(args ...string) string {
	c.Helper()
	cmd := exec.Command(testprogram.Executable(c), args...)
	cmd.Dir = c.nodes[0].Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "NODE_ENV=test"}, c.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// load is people who sign in, change their names and sign out again, all through the
// balancer, until it is stopped. What was answered is remembered.
type load struct {
	c        *cluster
	stop     chan struct{}
	wg       sync.WaitGroup
	logins   atomic.Int64
	mu       sync.Mutex
	failures map[string]int
	names    map[string]string // by account: the last name that was answered with 200
	browsers []*person         // of those who stay signed in
}

// loadPace is how often each of the people does so: a steady load, which leaves the machine
// to the nodes and to what else runs on it.
const loadPace = 100 * time.Millisecond

// startLoad has some people at it at the same time. Each keeps one browser signed in all
// along, and signs in and out in others.
func (c *cluster) startLoad(n int) *load {
	l := &load{c: c, stop: make(chan struct{}), failures: map[string]int{}, names: map[string]string{}}
	for i := range n {
		stays := newPerson(fmt.Sprintf("user%d", i))
		if err := stays.signIn(c.front.base); err != nil {
			c.Fatal(err)
		}
		l.browsers = append(l.browsers, stays)
		l.wg.Go(func() { l.work(stays) })
	}
	return l
}

func (l *load) fail(what string, status int, err error) {
	text := fmt.Sprintf("%s: %d", what, status)
	if err != nil {
		text = fmt.Sprintf("%s: %v", what, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures[text]++
}

func (l *load) work(stays *person) {
	base := l.c.front.base
	me, status, err := stays.current(base)
	if err != nil || status != http.StatusOK {
		l.fail("currentUser", status, err)
		return
	}
	pace := time.NewTicker(loadPace)
	defer pace.Stop()
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		case <-pace.C:
		}
		visit := newPerson(stays.name)
		if err := visit.signIn(base); err != nil {
			l.fail("login", 0, err)
		} else {
			l.logins.Add(1)
			if got, status, err := visit.current(base); err != nil || status != http.StatusOK || got.ID != me.ID {
				l.fail("currentUser after login", status, err)
			}
		}
		name := fmt.Sprintf("%s %d %d", stays.name, i, rand.Int32())
		switch status, err := stays.rename(base, me.ID, name); {
		case err == nil && status == http.StatusOK:
			l.mu.Lock()
			l.names[me.ID] = name
			l.mu.Unlock()
		default:
			// It may have been written: what it was before counts no more.
			l.mu.Lock()
			delete(l.names, me.ID)
			l.mu.Unlock()
			l.fail("rename", status, err)
		}
	}
}

// end stops the load and checks that nobody was signed out and nothing answered is missing.
func (l *load) end() map[string]int {
	l.c.Helper()
	close(l.stop)
	l.wg.Wait()
	// Nobody is signed out, and names are what was answered last: at once, or when a hint that
	// was lost is made up for.
	for _, p := range l.browsers {
		var got user
		l.c.until(p.name+" has the name that was answered", func() bool {
			u, status, err := p.current(l.c.front.base)
			if status == http.StatusUnauthorized {
				l.c.Fatalf("%s was signed out", p.name)
			}
			got = u
			want, ok := l.names[u.ID]
			return err == nil && status == http.StatusOK && (!ok || u.Name == want)
		})
		if got.ID == "" {
			l.c.Errorf("%s is nobody", p.name)
		}
	}
	l.c.Logf("%d logins; failures: %v", l.logins.Load(), l.failures)
	return l.failures
}

// more waits until some more logins have gone through.
func (l *load) more(n int64) {
	l.c.Helper()
	from := l.logins.Load()
	l.c.until("more logins", func() bool { return l.logins.Load() >= from+n })
}

// refused waits until some requests more have failed.
func (l *load) refused(n int) {
	l.c.Helper()
	l.c.until("refusals", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		sum := 0
		for _, times := range l.failures {
			sum += times
		}
		return sum >= n
	})
}

// A node that is killed takes nothing with it but the requests it was just at.
func TestKilledNode(t *testing.T) {
	c := start(t, 3)
	load := c.startLoad(8)
	ada := newPerson("user60")
	if err := ada.signIn(c.at(0)); err != nil {
		t.Fatal(err)
	}
	var sockets []*listener
	for range 30 {
		l := ada.listen(t, c.front.base)
		l.next(t, "loggedIn", nil)
		sockets = append(sockets, l)
	}
	load.more(20)
	killed := c.nodes[1]
	if err := killed.Stop(syscall.SIGKILL); err != nil {
		t.Log(err) // it was killed
	}
	killed.Process = nil // nothing to end any more
	load.more(40)
	failures := load.end()
	for what, times := range failures {
		if !strings.Contains(what, "502") || times > 8 { // those that it had begun to answer, and had not
			t.Errorf("%d times: %s", times, what)
		}
	}

	// Everybody who was on it has come back elsewhere, and hears what happens now.
	me, _, err := ada.current(c.front.base)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := ada.rename(c.at(0), me.ID, "After"); err != nil || status != http.StatusOK {
		t.Fatalf("renamed: %d, %v", status, err)
	}
	after := func(e event) bool { return e.Data.User != nil && e.Data.User.Name == "After" }
	for _, l := range sockets {
		timeout := time.After(patience)
		for heard := false; !heard; {
			select {
			case e := <-l.events: // updated, or loggedIn of one that came back later
				heard = after(e)
			case <-timeout:
				t.Fatal("a socket has not heard of what came after")
			}
		}
	}
}

// everywhere signs somebody in on the first node, with a socket on each.
func (c *cluster) everywhere(name string) (p *person, me user, sockets []*listener) {
	c.Helper()
	p = newPerson(name)
	if err := p.signIn(c.at(0)); err != nil {
		c.Fatal(err)
	}
	me, _, err := p.current(c.at(0))
	if err != nil {
		c.Fatal(err)
	}
	for i := range c.nodes {
		l := p.listen(c, c.at(i))
		l.next(c, "loggedIn", nil)
		sockets = append(sockets, l)
	}
	return p, me, sockets
}

// Without Redis nothing fails, and events arrive all the same: later, or when it is back.
func TestRedisAway(t *testing.T) {
	c := start(t, 3)
	ada, me, sockets := c.everywhere("user61")
	load := c.startLoad(4)
	for round, logins := range []int64{300, 30, 30} { // the first time for some ten seconds
		c.redis.Cut()
		load.more(logins)
		away := fmt.Sprintf("Away %d", round)
		if status, err := ada.rename(c.at(round), me.ID, away); err != nil || status != http.StatusOK {
			t.Fatalf("renamed without Redis: %d, %v", status, err)
		}
		load.more(30)
		c.redis.Restore()
		for _, l := range sockets {
			l.next(t, "updated", func(e event) bool { return e.Data.User.Name == away })
		}
	}
	if failures := load.end(); len(failures) > 0 {
		t.Errorf("without Redis requests failed: %v", failures)
	}
	for i, l := range sockets {
		if n := l.opened.Load(); n != 1 {
			t.Errorf("the socket on node %d was opened %d times", i, n)
		}
	}
}

// Without MongoDB people are told to come back, sockets stay open, and when it is there
// again everything is as it was answered.
func TestMongoAway(t *testing.T) {
	c := start(t, 3)
	ada, me, sockets := c.everywhere("user62")
	load := c.startLoad(4)
	load.more(10)
	c.mongo.Cut()
	guest := newPerson("user63")
	for i := range c.nodes {
		c.until("503 for a login", func() bool {
			res, body, err := guest.do(http.MethodPost, c.at(i)+"login/people", "application/x-www-form-urlencoded", "username=user63&password=password")
			if err != nil || res.StatusCode != http.StatusServiceUnavailable {
				return false
			}
			if res.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			for _, inside := range []string{"mongo", "127.0.0.1", "connection", "server selection"} {
				if strings.Contains(strings.ToLower(body), inside) {
					t.Errorf("the page tells of %q", inside)
				}
			}
			return true
		})
		c.until("/about says so", func() bool {
			_, body, err := guest.do(http.MethodGet, c.at(i)+"about", "", "")
			return err == nil && strings.Contains(body, `"ok":0`)
		})
		c.until("/readyz says so", func() bool {
			res, _, err := guest.do(http.MethodGet, c.at(i)+"readyz", "", "")
			return err == nil && res.StatusCode == http.StatusServiceUnavailable
		})
	}
	load.refused(300) // for some ten seconds
	c.mongo.Restore()
	for i := range c.nodes {
		c.until("/about says that it is back", func() bool {
			_, body, err := guest.do(http.MethodGet, c.at(i)+"about", "", "")
			return err == nil && strings.Contains(body, `"ok":1`)
		})
	}
	load.more(20)
	for what := range load.end() {
		if !strings.Contains(what, "503") {
			t.Errorf("failed otherwise: %s", what)
		}
	}
	if status, err := ada.rename(c.at(1), me.ID, "Back"); err != nil || status != http.StatusOK {
		t.Fatalf("renamed: %d, %v", status, err)
	}
	for i, l := range sockets {
		l.next(t, "updated", func(e event) bool { return e.Data.User.Name == "Back" })
		if n := l.opened.Load(); n != 1 {
			t.Errorf("the socket on node %d was opened %d times", i, n)
		}
	}
	c.quiet()
}

// quiet lets the nodes' logs have errors: the database was away.
func (c *cluster) quiet() {
	for _, n := range c.nodes {
		if err := n.Stop(syscall.SIGTERM); err != nil {
			c.Errorf("the node ended with: %v", err)
		}
		n.Process = nil
	}
}

// A new version comes node by node while thousands listen and people sign in: no login
// fails, and all sockets are there afterwards.
func TestRollingRestart(t *testing.T) {
	const sockets = 2000
	c := start(t, 3)
	load := c.startLoad(3)
	var all []*listener
	for i := range 50 {
		p := newPerson(fmt.Sprintf("user%d", 10+i))
		if err := p.signIn(c.front.base); err != nil {
			t.Fatal(err)
		}
		for range sockets / 50 {
			all = append(all, p.listen(t, c.front.base))
		}
	}
	opened := func() (once int) {
		for _, l := range all {
			if l.opened.Load() > 0 {
				once++
			}
		}
		return once
	}
	c.until("all sockets are open", func() bool { return opened() == sockets })
	for i, node := range c.nodes {
		node.End(t)
		if err := node.Run(); err != nil {
			t.Fatal(err)
		}
		c.until("the balancer has it back", func() bool { return c.front.all()[i].ready.Load() })
		load.more(10)
	}
	if failures := load.end(); len(failures) > 0 {
		t.Errorf("requests failed during a rolling restart: %v", failures)
	}
	// All are back: each hears of a change of its person.
	for i := range 50 {
		p := newPerson(fmt.Sprintf("user%d", 10+i))
		if err := p.signIn(c.front.base); err != nil {
			t.Fatal(err)
		}
		me, _, err := p.current(c.front.base)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := p.rename(c.front.base, me.ID, "Rolled"); err != nil || status != http.StatusOK {
			t.Fatalf("renamed: %d, %v", status, err)
		}
	}
	for _, l := range all {
		timeout := time.After(patience)
		for heard := false; !heard; {
			select {
			case e := <-l.events:
				heard = e.Data.User != nil && e.Data.User.Name == "Rolled"
			case <-timeout:
				t.Fatal("a socket has not come back")
			}
		}
	}
}
