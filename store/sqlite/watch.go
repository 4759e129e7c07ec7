package sqlite

import (
	"context"
	"time"
)

// watchEvery is how often Watch looks for writes of other processes.
const watchEvery = time.Second

// dataVersion is SQLite's count of changes that others have made to the file. It
// can only be compared on one connection, so it comes with the number of that.
type dataVersion struct {
	connection uint64
	version    int64
	err        error
}

// dataVersion asks the connection that all our own writes go through: what it
// has not written, another process has. It runs on the writer's goroutine.
func (e *Engine) dataVersion() dataVersion {
	if e.conn == nil {
		c, err := e.connect(context.Background())
		if err != nil {
			return dataVersion{err: err}
		}
		e.conn = c
	}
	v := dataVersion{connection: e.connects}
	v.err = e.conn.query("PRAGMA data_version", nil, &v.version)
	return v
}

// Watch calls changed after another process has written to the file, such as the
// command line beside a running server, until ctx ends. One call may stand for many
// writes. It notices a write within a second or so. It may also call changed when
// nothing was written, after a failure has cost the connection: who cannot know
// must assume.
func (e *Engine) Watch(ctx context.Context, changed func()) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	answers := make(chan dataVersion, 1)
	var last dataVersion
	for first := true; ; first = false {
		select {
		case e.polls <- answers:
		case <-ctx.Done():
			return
		case <-e.stopped:
			return
		}
		if now := <-answers; now.err == nil && now != last {
			last = now
			if !first {
				changed()
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		case <-e.stopped:
			return
		}
	}
}
