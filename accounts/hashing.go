package accounts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"

	"login-server/hashing"
	"login-server/providers"
)

const (
	// patience is how long anybody is let wait for a hash, going by what hashes have taken
	// lately. Who would have to wait longer hears it at once, and comes again.
	patience = 5 * time.Second
	// maxWait ends a wait that has turned out longer.
	maxWait = 10 * time.Second
	// queuePerPlace is how many wait for each hash that is made at once, however quick
	// hashes are: each is a request that is kept open.
	queuePerPlace = 500
)

// hasher makes and compares hashes of passwords: so many at once as the operator allows, the
// others in the order in which they have come, and no more than can be served in a few
// seconds. So memory is bounded, and other requests find a processor.
type hasher struct {
	processes *hashing.Hasher

	mu              sync.Mutex
	places, running int
	queue           []*turn
	// took is how long a place is taken for a hash, as of late.
	took          time.Duration
	made, refused atomic.Uint64
}

// turn is that of somebody who waits.
type turn struct {
	come chan struct{} // closed when it has come
	// since is when it has come; whoever is woken late has kept the place waiting.
	since time.Time
}

// atOnce is how many hashes are made at once. One processor is left to everybody else: while
// all of them hash, the scheduler lets whoever waits for one have it after 10 ms, each time that
// a request needs it anew.
func atOnce(h providers.Hashing) int {
	if h.AtOnce > 0 {
		return h.AtOnce
	}
	return max(1, (runtime.GOMAXPROCS(0)-1)/int(max(1, h.Parallelism)))
}

// enter waits for one of so many places, which the caller has to leave. ErrBusy if that takes
// too long, or would.
func (h *hasher) enter(ctx context.Context, places int) (leave func(), err error) {
	// The times here are about processors, not about the clock of the installation.
	own := &turn{come: make(chan struct{})}
	h.mu.Lock()
	h.places = places
	if h.full(places) {
		h.mu.Unlock()
		h.refused.Add(1)
		return nil, ErrBusy
	}
	h.queue = append(h.queue, own)
	h.next()
	h.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case <-own.come:
		return func() { h.leave(own) }, nil
	case <-wait.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.queue, own)
	if i < 0 {
		return func() { h.leave(own) }, nil // it has come at the same moment
	}
	h.queue = slices.Delete(h.queue, i, i+1)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	h.refused.Add(1)
	return nil, ErrBusy
}

// full tells whether whoever comes now would have to wait too long. The caller has locked.
func (h *hasher) full(places int) bool {
	ahead := len(h.queue)
	return ahead >= places*queuePerPlace || h.took*time.Duration(ahead)/time.Duration(places) > patience
}

// knock is ErrBusy if enter would return that at once. Whoever asks before anything else costs
// a server that is busy as good as nothing.
func (h *hasher) knock(cost providers.Hashing) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.full(atOnce(cost)) {
		return nil
	}
	h.refused.Add(1)
	return ErrBusy
}

// next lets begin who may, the first first. The caller has locked.
func (h *hasher) next() {
	for h.running < h.places && len(h.queue) > 0 {
		first := h.queue[0]
		h.queue = h.queue[1:]
		h.running++
		first.since = time.Now()
		close(first.come)
	}
}

// leave gives back the place of a turn.
func (h *hasher) leave(t *turn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if took := time.Since(t.since); h.took == 0 {
		h.took = took
	} else {
		h.took += (took - h.took) / 8
	}
	h.running--
	h.next()
}

// hash makes the hash of a password that was checked.
func (h *hasher) hash(ctx context.Context, cost providers.Hashing, password string) (string, error) {
	leave, err := h.enter(ctx, atOnce(cost))
	if err != nil {
		return "", err
	}
	defer leave()
	h.made.Add(1)
	text, err := h.processes.Hash(params(cost), password)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return text, nil
}

// verify compares a password with a hash; without one it does the work of comparing with one
// of the present cost, and says no.
func (h *hasher) verify(ctx context.Context, cost providers.Hashing, hash, password string) (bool, error) {
	leave, err := h.enter(ctx, atOnce(cost))
	if err != nil {
		return false, err
	}
	defer leave()
	h.made.Add(1)
	known := hash != ""
	if !known {
		hash = dummy(cost)
	}
	ok, err := h.processes.Compare(hash, password)
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	return ok && known, nil
}

func params(cost providers.Hashing) argon2id.Params {
	return argon2id.Params{
		Memory: cost.MemoryKiB, Iterations: cost.Iterations, Parallelism: cost.Parallelism, SaltLength: saltSize, KeyLength: keySize,
	}
}

// Sizes in bytes, as RFC 9106, 3.1 and 4 have them.
const saltSize, keySize = 16, 32

// dummy is the hash of nothing, of some cost.
func dummy(cost providers.Hashing) string {
	var b [saltSize + keySize]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", cost.MemoryKiB, cost.Iterations, cost.Parallelism,
		base64.RawStdEncoding.EncodeToString(b[:saltSize]), base64.RawStdEncoding.EncodeToString(b[saltSize:]))
}

// outdated tells whether a hash is not what would be made today: of another cost, or of bcrypt.
func outdated(hash string, cost providers.Hashing) bool {
	return !strings.HasPrefix(hash, fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$", cost.MemoryKiB, cost.Iterations, cost.Parallelism))
}

// Hashes is how many hashes were made or compared since the start.
func (d *Desk) Hashes() uint64 { return d.hashes.made.Load() }

// HashesWaiting is how many wait for their turn.
func (d *Desk) HashesWaiting() int {
	d.hashes.mu.Lock()
	defer d.hashes.mu.Unlock()
	return len(d.hashes.queue)
}

// HashesRefused is how many were not made since the start, because too many waited.
func (d *Desk) HashesRefused() uint64 { return d.hashes.refused.Load() }
