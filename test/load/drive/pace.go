package drive

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errNotBegun is what becomes of an operation that was due while all workers were busy,
// and still were when the time was over. To leave it out would be to leave out the worst.
var errNotBegun = errors.New("not begun in time")

// outcome is one operation.
type outcome struct {
	took time.Duration
	err  error
}

// pace has workers do something for a time, and waits for the last to end. Without a rate
// each begins again as soon as it has ended. With one, operation i is due at i/rate from the
// start, and how long it takes counts from then: when the servers stall, those that are
// due meanwhile have to wait, as people would, although no worker was there to send them.
func pace(ctx context.Context, work Work, d time.Duration, do func(ctx context.Context, worker int) error) []outcome {
	begin := time.Now()
	end := begin.Add(d)
	var due atomic.Int64
	outcomes := make([][]outcome, work.Workers)
	var wg sync.WaitGroup
	for worker := range work.Workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				from := time.Now()
				if work.Rate > 0 {
					from = begin.Add(time.Duration(float64(due.Add(1)-1) / work.Rate * float64(time.Second)))
				}
				if !from.Before(end) {
					return
				}
				if sleep(ctx, time.Until(from)); ctx.Err() != nil {
					return
				}
				err := errNotBegun
				if time.Now().Before(end) {
					err = do(ctx, worker)
				}
				if ctx.Err() != nil {
					return // it was interrupted
				}
				outcomes[worker] = append(outcomes[worker], outcome{time.Since(from), err})
			}
		})
	}
	wg.Wait()
	var all []outcome
	for _, list := range outcomes {
		all = append(all, list...)
	}
	return all
}
