package main

import (
	"context"
	"runtime/debug"
	"time"

	"login-server/web"
)

// socketWave is how many sockets more than before make a clean-up worth its while.
const socketWave = 1000

// trimMemory gives memory back after a wave of new sockets, such as after a restart,
// when all clients come back at once: the requests that opened them leave more
// garbage than the sockets that stay, and an idle server would not collect it for
// minutes. It waits until the wave is over.
func trimMemory(ctx context.Context, server *web.Server) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	trimmed, before := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := server.Hub().Stats().Sockets
		if now == before && now >= trimmed+socketWave {
			debug.FreeOSMemory()
			trimmed = now
		}
		trimmed, before = min(trimmed, now), now
	}
}
