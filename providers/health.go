package providers

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Health is what is known of a provider's other side from the latest time that it
// was asked.
type Health struct {
	// Up: it has answered, be it with a refusal. Known: it was asked at all.
	Up, Known bool
	// At is when it was asked, and Since from when on Up has been what it is.
	At, Since time.Time
	// Err is why it is not up.
	Err error
}

type health struct {
	mu     sync.Mutex
	latest Health
}

// note remembers how asking the other side went.
func (h *health) note(now time.Time, err error) {
	var down *UnavailableError
	if errors.Is(err, context.Canceled) {
		return // by us
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	up := !errors.As(err, &down)
	if !h.latest.Known || h.latest.Up != up {
		h.latest.Since = now
	}
	h.latest.Known, h.latest.Up, h.latest.At, h.latest.Err = true, up, now, nil
	if !up {
		h.latest.Err = down
	}
}

// Health tells how the provider was when it was last asked.
func (p *Provider) Health() Health {
	p.health.mu.Lock()
	defer p.health.mu.Unlock()
	return p.health.latest
}
