package main

import (
	"context"
	"runtime/debug"
	"time"

	"login-server/web"
)

// socketWave and hashWave are how many sockets more than before, and how many hashes of
// passwords, make a clean-up worth its while. A hash fills 64 MiB for a moment.
const (
	socketWave = 1000
	hashWave   = 20
)

// trimMemory gives memory back after a wave of new sockets, such as after a restart,
// when all clients come back at once: the requests that opened them leave more
// garbage than the sockets that stay; and after many have signed in with a password. An idle
// server would not collect it for minutes. It waits until the wave is over.
func trimMemory(ctx context.Context, server *web.Server) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	sockets, hashes := wave{least: socketWave}, wave{least: hashWave}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		newSockets := sockets.over(server.Hub().Stats().Sockets)
		if hashes.over(int(server.Hashes())) || newSockets {
			debug.FreeOSMemory()
		}
	}
}

// wave is a number that rises again and again, and may fall in between.
type wave struct {
	least           int // by how much it has to rise
	trimmed, before int // what it was after the last wave, and at the last look
}

// over tells whether the number has risen since the last wave, and has come to rest.
func (w *wave) over(now int) bool {
	over := now == w.before && now >= w.trimmed+w.least
	if over {
		w.trimmed = now
	}
	w.trimmed, w.before = min(w.trimmed, now), now
	return over
}
