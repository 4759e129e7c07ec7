// Package events tells applications what happens to the sessions of their users:
// the event types, the bus between nodes, and the hub of open sockets.
//
// A message on the bus is a hint: it says which session or account has changed,
// never how. Whoever receives it reads the store and sends its sockets what they
// have not been shown yet, so a lost message is late, never lost.
package events

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// Types of events, as clients see them.
const (
	TypeOpen                 = "open"
	TypeAbout                = "about"
	TypeProviders            = "providers"
	TypeAuthenticated        = "authenticated"
	TypeLoggedIn             = "loggedIn"
	TypeLoggedOut            = "loggedOut"
	TypeUpdated              = "updated"
	TypeToken                = "token"
	TypeSessionAboutToExpire = "sessionAboutToExpire"
	TypePong                 = "pong"
	TypeError                = "error"
)

// frame is the text of one event.
func frame(now time.Time, kind string, data any) []byte {
	text, err := json.Marshal(struct {
		Type string `json:"type"`
		Date string `json:"date"`
		Data any    `json:"data"`
	}{kind, now.UTC().Format("2006-01-02T15:04:05.000Z"), data})
	if err != nil {
		panic(err) // data is ours and marshals
	}
	return text
}

// Hint says what has changed: one thing, but that a grant comes with its session.
type Hint struct {
	// Session is the handle of a session that began, ended or changed its user.
	Session string `json:"session,omitempty"`
	// Removed tells that the session was ended from elsewhere: its sockets are closed.
	Removed bool `json:"removed,omitempty"`
	// User is the id of an account that changed.
	User string `json:"user,omitempty"`
	// Grant and Client are the ids of what clients of the OpenID Provider were given, and of
	// such a client.
	Grant  string `json:"grant,omitempty"`
	Client string `json:"client,omitempty"`
	// Ticket is the id of a session ticket that was spent.
	Ticket string `json:"ticket,omitempty"`
	// Everything may have changed: hints were lost, or somebody else has written.
	Everything bool `json:"everything,omitempty"`
}

// Bus carries hints to every node, the sender's own included. It is safe for
// concurrent use; Publish never waits for a receiver.
type Bus interface {
	Publish(Hint)
	// Subscribe calls receive for every hint from now on, one after the other.
	Subscribe(receive func(Hint))
	// SocketsElsewhere counts the open sockets of each session that other nodes hold, as
	// far as they say so in a moment. It is for people to look at: nothing depends on it.
	SocketsElsewhere(ctx context.Context, sessions ...string) map[string]int
	// CountSockets says how this node counts its own when another asks.
	CountSockets(count func(sessions ...string) map[string]int)
}

// LocalBus is the bus of a single node.
type LocalBus struct {
	mu        sync.RWMutex
	receivers []func(Hint)
}

// Publish implements Bus: receivers run before it returns, and must be quick.
func (b *LocalBus) Publish(h Hint) {
	b.mu.RLock()
	receivers := b.receivers // what is added later is not in this slice
	b.mu.RUnlock()
	for _, receive := range receivers {
		receive(h)
	}
}

// Subscribe implements Bus.
func (b *LocalBus) Subscribe(receive func(Hint)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receivers = append(b.receivers, receive)
}

// SocketsElsewhere implements Bus: there are no other nodes.
func (b *LocalBus) SocketsElsewhere(context.Context, ...string) map[string]int { return nil }

// CountSockets implements Bus: nobody asks.
func (b *LocalBus) CountSockets(func(sessions ...string) map[string]int) {}
