package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"login-server/config"
	"login-server/events"
	"login-server/internal/testenv"
	"login-server/session"
)

// allowance is how many attempts these tests allow.
const allowance = 3

// countingNode is the limits of one node.
type countingNode struct {
	limits
	t testing.TB

	mu  sync.Mutex
	log bytes.Buffer
}

func (n *countingNode) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(p)
}

// logged counts the lines of a level.
func (n *countingNode) logged(level string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.log.String(), "level="+level)
}

func redisClient(t testing.TB, url string) *redis.Client {
	t.Helper()
	client, err := events.OpenRedis(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newCountingNode returns the limits of a node that is patient: a busy machine is no
// reason to give Redis up.
func newCountingNode(t testing.TB, url, installation string) *countingNode {
	t.Helper()
	return newCountingNodeWith(t, url, installation, 20*time.Second)
}

func newCountingNodeWith(t testing.TB, url, installation string, patience time.Duration) *countingNode {
	t.Helper()
	n := &countingNode{t: t}
	cfg := &config.Config{RateLimitWindow: time.Hour, RateLimitMax: allowance, SessionSecrets: []string{"a secret of these tests"}}
	n.limits = newLimits(cfg, newSharedCounts(redisClient(t, url), "login-server:"+installation, patience, slog.New(slog.NewTextHandler(n, nil))))
	return n
}

// try is an attempt to sign in; it tells whether it was allowed.
func (n *countingNode) try(address, name string) bool {
	n.t.Helper()
	err := n.credentials(n.t.Context(), address, "ldap", name)
	var refused *Error
	if err != nil && (!errors.As(err, &refused) || refused.RetryAfter < 1 || refused.RetryAfter > 3601) {
		n.t.Fatalf("an attempt failed: %v", err)
	}
	return err == nil
}

func (n *countingNode) allowed(want bool, address, name string) {
	n.t.Helper()
	if got := n.try(address, name); got != want {
		n.t.Errorf("%s from %s: allowed %v, want %v", name, address, got, want)
	}
}

// countsInRedis waits until the node counts in Redis.
func (n *countingNode) countsInRedis() {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); n.shared.inMemory(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatal("waited in vain for Redis to count")
		}
	}
}

func TestLimitsOfAllNodes(t *testing.T) {
	url, installation := testenv.Redis(t), uuid.NewString()
	a, b := newCountingNode(t, url, installation), newCountingNode(t, url, installation)
	a.allowed(true, "192.0.2.1", "one")
	b.allowed(true, "192.0.2.1", "two")
	a.allowed(true, "192.0.2.1", "three")
	b.allowed(false, "192.0.2.1", "four")
	a.allowed(false, "192.0.2.1", "four")

	// One account from many addresses, however it is spelt. The names are none that a digest
	// can have in it.
	a.allowed(true, "198.51.100.1", "Tom")
	b.allowed(true, "198.51.100.2", " tom")
	a.allowed(true, "198.51.100.3", "TOM")
	b.allowed(false, "198.51.100.4", "tom")
	b.allowed(true, "198.51.100.5", "kim")

	// The limits do not count each other's, and another installation counts for itself.
	if err := count(t.Context(), b.registrations, session.Network("192.0.2.1")); err != nil {
		t.Errorf("a registration, counted with attempts to sign in: %v", err)
	}
	newCountingNode(t, url, uuid.NewString()).allowed(true, "192.0.2.1", "one")

	client := redisClient(t, url)
	keys, err := client.Keys(t.Context(), "login-server:"+installation+":*").Result()
	if err != nil || len(keys) < 8 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	for _, key := range keys {
		if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s is kept for %v (%v)", key, ttl, err)
		}
		if lower := strings.ToLower(key); strings.Contains(lower, "tom") || strings.Contains(lower, "kim") {
			t.Errorf("somebody's name is in Redis: %s", key)
		}
	}
	for _, n := range []*countingNode{a, b} {
		if n.logged("WARN")+n.logged("INFO") != 0 {
			t.Errorf("log: %s", n.log.String())
		}
	}
}

// A name may be a password that was typed into the wrong field. Nobody finds it by hashing what
// it might be.
func TestLimitsHideNames(t *testing.T) {
	url, installation := testenv.Redis(t), uuid.NewString()
	newCountingNode(t, url, installation).allowed(true, "192.0.2.1", "hunter2")
	keys, err := redisClient(t, url).Keys(t.Context(), "login-server:"+installation+":account:*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	_, key, _ := strings.Cut(keys[0], ":account:")
	for _, guess := range []string{"hunter2", "ldap\x00hunter2"} {
		if sum := sha256.Sum256([]byte(guess)); key == "" || strings.Contains(key, hex.EncodeToString(sum[:8])) {
			t.Errorf("the key in Redis is the hash of %q: %s", guess, keys[0])
		}
	}
}

// TestLimitsManyAtOnce: of many attempts on two nodes no more than allowed get through.
func TestLimitsManyAtOnce(t *testing.T) {
	url, installation := testenv.Redis(t), uuid.NewString()
	a, b := newCountingNode(t, url, installation), newCountingNode(t, url, installation)
	var mu sync.Mutex
	var wg sync.WaitGroup
	through := 0
	for i := range 40 {
		wg.Go(func() {
			if []*countingNode{a, b}[i%2].try(fmt.Sprintf("192.0.2.%d", i), "ada") {
				mu.Lock()
				defer mu.Unlock()
				through++
			}
		})
	}
	wg.Wait()
	if through != allowance {
		t.Errorf("%d attempts came through, want %d", through, allowance)
	}
}

// TestLimitsWithoutRedis: Redis crashes and comes back. Meanwhile each node counts for
// itself; no attempt fails by it.
func TestLimitsWithoutRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	a, b := newCountingNode(t, server.URL(), "i"), newCountingNode(t, server.URL(), "i")
	a.allowed(true, "192.0.2.1", "before")
	server.Kill()
	for _, n := range []*countingNode{a, b} {
		for i := range allowance {
			n.allowed(true, "192.0.2.1", fmt.Sprint("meanwhile ", i))
		}
		n.allowed(false, "192.0.2.1", "meanwhile")
		if n.logged("WARN") != 1 || !n.shared.inMemory() {
			t.Errorf("one line in the log is wanted:\n%s", n.log.String())
		}
	}
	server.Restart() // it has forgotten all, the scripts of the limiter, too
	for _, n := range []*countingNode{a, b} {
		n.countsInRedis()
		if n.logged("WARN") != 1 || n.logged("INFO") != 1 {
			t.Errorf("one line for each change is wanted:\n%s", n.log.String())
		}
	}
	a.allowed(true, "192.0.2.1", "after")
	b.allowed(true, "192.0.2.1", "after")
	a.allowed(true, "192.0.2.1", "after")
	b.allowed(false, "192.0.2.1", "after all")
}

func TestLimitsWhenScriptsAreGone(t *testing.T) {
	server := testenv.StartRedis(t)
	a := newCountingNode(t, server.URL(), "i")
	a.allowed(true, "192.0.2.1", "x")
	if err := redisClient(t, server.URL()).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	a.allowed(true, "192.0.2.1", "y")
	a.allowed(true, "192.0.2.1", "z")
	a.allowed(false, "192.0.2.1", "zz")
	if a.logged("WARN") != 0 {
		t.Errorf("log: %s", a.log.String())
	}
}

// TestLimitsOfFrozenRedis: only the first waits for a Redis that says nothing.
func TestLimitsOfFrozenRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	a := newCountingNodeWith(t, server.URL(), "i", redisPatience)
	server.Freeze()
	start := time.Now()
	a.allowed(true, "192.0.2.1", "first")
	if took := time.Since(start); took < redisPatience || took > 20*redisPatience {
		t.Errorf("the first waited %v, want about %v", took, redisPatience)
	}
	start = time.Now()
	const others = 50
	for i := range others {
		a.try(fmt.Sprintf("198.51.100.%d", i), "x")
	}
	if took := time.Since(start); took > others/5*redisPatience {
		t.Errorf("%d others waited %v together", others, took)
	}
	server.Thaw()
	a.countsInRedis()
	if a.logged("WARN") != 1 || a.logged("INFO") != 1 {
		t.Errorf("one line for each change is wanted:\n%s", a.log.String())
	}
}

// TestLimitsBeginWithoutRedis: the program starts, and Redis joins later.
func TestLimitsBeginWithoutRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Kill()
	a := newCountingNode(t, server.URL(), "i")
	if a.logged("WARN") != 1 {
		t.Errorf("no warning: %s", a.log.String())
	}
	a.allowed(true, "192.0.2.1", "x")
	server.Restart()
	a.countsInRedis()
	b := newCountingNode(t, server.URL(), "i")
	for range allowance {
		b.allowed(true, "192.0.2.2", uuid.NewString())
	}
	a.allowed(false, "192.0.2.2", "x")
}

// TestLimitsOfReadOnlyRedis: a Redis that answers and counts nothing is no Redis, and no
// reason for a line in the log each second.
func TestLimitsOfReadOnlyRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	client := redisClient(t, server.URL())
	a := newCountingNode(t, server.URL(), "i")
	if err := client.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	a.allowed(true, "192.0.2.1", "x")
	probed := func() time.Time {
		a.shared.mu.Lock()
		defer a.shared.mu.Unlock()
		return a.shared.next
	}
	first := probed()
	for deadline := time.Now().Add(20 * time.Second); !probed().After(first); time.Sleep(time.Millisecond) {
		if !a.shared.inMemory() || time.Now().After(deadline) {
			t.Fatal("it is not probed, or believed")
		}
	}
	if a.logged("WARN") != 1 || a.logged("INFO") != 0 {
		t.Errorf("log: %s", a.log.String())
	}
}

// TestLimitsOfImpatientClients: who hangs up is counted, and Redis is not blamed.
func TestLimitsOfImpatientClients(t *testing.T) {
	a := newCountingNode(t, testenv.Redis(t), uuid.NewString())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range allowance {
		if err := a.credentials(ctx, "192.0.2.1", "ldap", uuid.NewString()); err != nil {
			t.Error(err)
		}
	}
	a.allowed(false, "192.0.2.1", "x")
	if a.shared.inMemory() {
		t.Error("Redis was given up")
	}
}

// TestRedisMetrics: what operators see of the bus.
func TestRedisMetrics(t *testing.T) {
	client := redisClient(t, testenv.Redis(t))
	bus := events.NewRedisBus(client, events.RedisOptions{Channel: uuid.NewString()})
	defer bus.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(busNumbers{bus})
	numbers := func() string {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range families {
			for _, m := range f.GetMetric() {
				all = append(all, fmt.Sprint(f.GetName(), m.GetLabel(), m.GetGauge().GetValue()+m.GetCounter().GetValue()))
			}
		}
		return strings.Join(all, "\n")
	}
	bus.Publish(events.Hint{User: "ada"})
	for deadline := time.Now().Add(20 * time.Second); !bus.Connected() || bus.Stats().Published == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for the bus: %s", numbers())
		}
	}
	got := numbers()
	for _, want := range []string{"login_server_bus_connected[] 1", `value:"published"] 1`, `value:"received"] 0`, `value:"dropped"] 0`, `value:"invalid"] 0`, "interruptions_total[] 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("the numbers lack %q:\n%s", want, got)
		}
	}
	bus.Close()
	if got := numbers(); !strings.Contains(got, "login_server_bus_connected[] 0") {
		t.Errorf("after the end:\n%s", got)
	}
}

// TestServerWithRedis: the server counts in Redis, under a name of the installation, and
// tells operators when it cannot.
func TestServerWithRedis(t *testing.T) {
	redis := testenv.StartRedis(t)
	client := redisClient(t, redis.URL())
	bus := events.NewRedisBus(client, events.RedisOptions{Channel: "c"})
	defer bus.Close()
	server := openAPIServer(t, func(d *Deps) { d.Redis, d.RedisName, d.Bus = client, "login-server:here", bus })
	metrics := func() string {
		w := httptest.NewRecorder()
		server.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	shows := func(lines ...string) {
		t.Helper()
		for _, line := range lines {
			for deadline := time.Now().Add(20 * time.Second); !strings.Contains(metrics(), line+"\n"); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("waited in vain for %q", line)
				}
			}
		}
	}
	shows("login_server_bus_connected 1", "login_server_limits_in_memory 0")
	pattern := "login-server:here:address:*"
	for deadline := time.Now().Add(20 * time.Second); ; {
		_ = server.limits.credentials(t.Context(), "192.0.2.2", "local", "ada") // a busy machine may need several
		keys, err := client.Keys(t.Context(), pattern).Result()
		if err == nil && len(keys) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("keys %v, %v", keys, err)
		}
	}
	redis.Kill()
	if err := server.limits.credentials(t.Context(), "192.0.2.1", "local", "bea"); err != nil {
		t.Error(err)
	}
	shows("login_server_limits_in_memory 1", "login_server_bus_connected 0", "login_server_bus_interruptions_total 1")
	redis.Restart()
	shows("login_server_limits_in_memory 0", "login_server_bus_connected 1")

	server = openAPIServer(t)
	if got := metrics(); strings.Contains(got, "login_server_bus") || strings.Contains(got, "limits_in_memory") {
		t.Error("numbers of Redis without Redis")
	}
}
