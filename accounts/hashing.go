package accounts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"

	"login-server/providers"
)

const (
	// queuePerPlace is how many wait for each hash that is made at once, and maxWait how long
	// any of them does.
	queuePerPlace = 100
	maxWait       = 10 * time.Second
)

// hasher makes and compares hashes of passwords: so many at once as the operator allows, the
// others in the order in which they have come, and no more than can be served in a few
// seconds. So memory is bounded, and other requests find a processor.
type hasher struct {
	mu      sync.Mutex
	running int
	queue   []chan struct{} // closed when it is their turn
	made    atomic.Uint64
}

// atOnce is how many hashes are made at once.
func atOnce(h providers.Hashing) int {
	if h.AtOnce > 0 {
		return h.AtOnce
	}
	return runtime.GOMAXPROCS(0)
}

// enter waits for a place; leave gives it back. ErrBusy if too many wait, or it takes too long.
func (h *hasher) enter(ctx context.Context, places int) error {
	h.mu.Lock()
	if h.running < places && len(h.queue) == 0 {
		h.running++
		h.mu.Unlock()
		return nil
	}
	if len(h.queue) >= places*queuePerPlace {
		h.mu.Unlock()
		return ErrBusy
	}
	turn := make(chan struct{})
	h.queue = append(h.queue, turn)
	h.mu.Unlock()

	// This is about processors, not about the clock of the installation.
	wait, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case <-turn:
		return nil
	case <-wait.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, other := range h.queue {
		if other == turn {
			h.queue = append(h.queue[:i:i], h.queue[i+1:]...)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrBusy
		}
	}
	return nil // its turn has come at the same moment
}

func (h *hasher) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) > 0 {
		close(h.queue[0])
		h.queue = h.queue[1:]
		return
	}
	h.running--
}

// hash makes the hash of a password that was checked.
func (h *hasher) hash(ctx context.Context, cost providers.Hashing, password string) (string, error) {
	if err := h.enter(ctx, atOnce(cost)); err != nil {
		return "", err
	}
	defer h.leave()
	h.made.Add(1)
	text, err := argon2id.CreateHash(password, params(cost))
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return text, nil
}

// verify compares a password with a hash; without one it does the work of comparing with one
// of the present cost, and says no.
func (h *hasher) verify(ctx context.Context, cost providers.Hashing, hash, password string) (bool, error) {
	if err := h.enter(ctx, atOnce(cost)); err != nil {
		return false, err
	}
	defer h.leave()
	h.made.Add(1)
	known := hash != ""
	if !known {
		hash = dummy(cost)
	}
	ok, err := providers.VerifyPassword(hash, password)
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	return ok && known, nil
}

func params(cost providers.Hashing) *argon2id.Params {
	return &argon2id.Params{
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
