package providers

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// Waits after a failure double from the one to the other.
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
)

// Run keeps what OpenID Providers say of themselves fresh until ctx ends, so that no login
// has to wait for it and one that was down is in use again soon after it is back. It
// follows Reload. Logins work without it too.
func (s *Set) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s.keepFresh(ctx, s.current.Load())
	}
}

// keepFresh looks after the providers of g until ctx ends or others take their place.
func (s *Set) keepFresh(ctx context.Context, g *generation) {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for _, p := range g.list {
		if p.discovery != nil {
			all.Go(func() { s.keepProvider(ctx, p) })
		}
	}
	select {
	case <-ctx.Done():
	case <-s.reloaded:
	}
}

func (s *Set) keepProvider(ctx context.Context, p *Provider) {
	var wait time.Duration
	retry := firstRetry
	note := func(at time.Time, err error) {
		wait = freshFor
		if err != nil {
			wait, retry = retry, min(2*retry, lastRetry)
			if !errors.As(err, new(*UnavailableError)) {
				err = &UnavailableError{err} // nobody can sign in with what it says
			}
		} else {
			retry = firstRetry
		}
		p.health.note(at, err)
	}
	// What is known already was found out for a login, or before providers.json was read anew.
	if at, ok, err := p.discovery.latestAttempt(); ok {
		note(at, err)
		wait -= s.deps.Clock.Now().Sub(at)
	}
	for {
		if wait > 0 && !s.pause(ctx, wait) {
			return
		}
		err := p.discovery.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		note(s.deps.Clock.Now(), err)
	}
}

// pause waits for d; false means that ctx has ended.
func (s *Set) pause(ctx context.Context, d time.Duration) bool {
	over := make(chan struct{})
	timer := s.deps.Clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}
