// Package cluster is how the nodes that share a store know of each other: who lives, and
// that all of them are the same installation. It decides nothing about requests.
//
// Each node keeps a document with its heartbeat. One more document says what the
// installation is: its BASE_URL, and which secret of SESSION_SECRET the things in the store
// are sealed with. A node that does not fit is refused while others live; when nobody does,
// its settings hold from then on. Every join writes that document by compare-and-swap, after
// the node's own: of two nodes that do not fit and begin at the same moment one is refused.
package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"login-server/clock"
	"login-server/store"
	"login-server/token"
)

const (
	// beatEvery is how often a node says that it lives, and looks at the others.
	beatEvery = 10 * time.Second
	// life is for how long a node lives after its last beat. Who has not seen that beat come
	// goes by the time in it, and adds token.Leeway for the clock of the node.
	life = 30 * time.Second
	// kept is for how long the document is there, so that a clock that is late is noticed.
	kept = 10 * time.Minute
	// beatTimeout is how long a beat may take.
	beatTimeout = 5 * time.Second
	// drift is how far the clocks of two nodes may be apart without a warning.
	drift = 5 * time.Second
)

// Options are what a node says of itself.
type Options struct {
	// Name is for people, such as that of the host; Address is where the node listens.
	Name, Address string
	BaseURL       string
	// Secrets are those of SESSION_SECRET: the first signs, all verify.
	Secrets []string
	// Bus tells one bus from another; empty for none. It is shown to nobody.
	Bus     string
	Version string
	// SecretMoved is called, by Run, when Secret has changed: what is sealed in the store is
	// to be sealed anew, before the secret from before is taken away. It may be nil.
	SecretMoved func()

	Clock clock.Clock
	Log   *slog.Logger
}

// beat is the document of a node.
type beat struct {
	Name    string   `json:"name"`
	Address string   `json:"address,omitempty"`
	BaseURL string   `json:"baseUrl"`
	Version string   `json:"version"`
	Secrets []string `json:"secrets"` // ids, see secretID
	Bus     string   `json:"bus,omitempty"`
	// Started and At are by the node's own clock.
	Started time.Time `json:"started"`
	At      time.Time `json:"at"`
	// Joined: its settings were found to fit. Before that it keeps nobody out.
	Joined bool `json:"joined"`
}

func beats(engine store.Engine) *store.Collection[beat] {
	return store.NewCollection(engine, "node", func(b beat) store.Index {
		return store.Index{Expires: b.At.Add(kept)}
	})
}

// fresh tells whether a node may live, by the time in its document. One that is far ahead of
// us is not believed: when it has died, nobody could start with other settings until then.
func (b beat) fresh(now time.Time) bool {
	age := now.Sub(b.At)
	return age < life+token.Leeway && age > -kept
}

// Node is this process among those on the store. It is safe for concurrent use.
type Node struct {
	// ID is that of this run of the process; another start has another.
	ID string

	o            Options
	beats        *store.Collection[beat]
	installation *store.Collection[installation]
	started      time.Time

	mu      sync.Mutex
	beaten  time.Time // when this node has last said that it lives
	salt    []byte
	secret  int // index into Options.Secrets of the one that all nodes share
	sights  map[string]*sight
	living  int
	failing bool            // the last beat has failed
	warned  map[string]bool // keys of what was wrong at the last look
}

// sight is what this node has seen of another one.
type sight struct {
	version int64
	at      time.Time // when its last beat was first seen, by our clock
	looked  time.Time // when it was last looked for
	clock   offset
}

// Join makes this process one of the nodes on a store. The error is a *MismatchError if it
// is another installation than the one that lives there.
func Join(ctx context.Context, engine store.Engine, o Options) (*Node, error) {
	if len(o.Secrets) == 0 || o.Clock == nil {
		return nil, errors.New("cluster: a node needs a secret and a clock")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	n := &Node{
		ID: hex.EncodeToString(id[:]), o: o, started: o.Clock.Now(),
		beats: beats(engine), installation: installations(engine),
		sights: map[string]*sight{}, warned: map[string]bool{}, living: 1,
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.join(ctx); err != nil {
		return nil, err
	}
	if err := n.look(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("look at the other nodes: %w", err), n.leave(ctx))
	}
	return n, nil
}

// Secret is the index into Options.Secrets of the secret with which what all nodes have to
// read is sealed: while SESSION_SECRET is changed node by node, not yet the first one.
func (n *Node) Secret() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.secret
}

// Living is how many nodes live, this one included, as of the last beat.
func (n *Node) Living() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.living
}

// Run beats until ctx ends.
func (n *Node) Run(ctx context.Context) {
	due := make(chan struct{}, 1)
	for {
		timer := n.o.Clock.AfterFunc(beatEvery, func() { due <- struct{}{} })
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-due:
			n.beat(ctx)
		}
	}
}

// beat says that this node lives, and looks at the others.
func (n *Node) beat(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	n.mu.Lock()
	before := n.secret
	err := n.renew(limited)
	if err == nil {
		err = n.look(limited)
	}
	switch failed := n.failing; {
	case ctx.Err() != nil: // the server stops
	case err == nil && failed:
		n.failing = false
		n.o.Log.Info("this node is one of its installation again", "node", n.ID)
	case err != nil && !failed:
		n.failing = true
		if _, ok := errors.AsType[*MismatchError](err); ok {
			n.o.Log.Error("this node does not fit to the others any more; stop it", "err", err)
		} else {
			n.o.Log.Warn("the other nodes cannot be told that this one lives", "err", err)
		}
	}
	moved := n.secret != before
	n.mu.Unlock()
	if moved && n.o.SecretMoved != nil {
		n.o.SecretMoved()
	}
}

// renew writes the heartbeat. Who was frozen for longer than it lives joins anew.
func (n *Node) renew(ctx context.Context) error {
	now := n.o.Clock.Now()
	if now.Sub(n.beaten) >= life {
		return n.join(ctx)
	}
	_, err := n.beats.Update(ctx, n.ID, func(b *beat) error {
		*b = n.present(true)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return n.join(ctx)
	}
	if err == nil {
		n.beaten = now
	}
	return err
}

// present is this node's document of now.
func (n *Node) present(joined bool) beat {
	b := beat{
		Name: n.o.Name, Address: n.o.Address, BaseURL: n.o.BaseURL, Version: n.o.Version, Bus: n.o.Bus,
		Started: n.started, At: n.o.Clock.Now(), Joined: joined,
	}
	if n.salt != nil {
		b.Secrets = n.secretIDs()
	}
	return b
}

// look reads the installation and all nodes: it notices who lives, whose clock is off and
// what is wrong, and has the common secret moved on when all nodes sign with another one.
func (n *Node) look(ctx context.Context) error {
	now := n.o.Clock.Now()
	others, err := n.others(ctx)
	if err != nil {
		return err
	}
	all := []Info{infoOf(n.ID, n.present(true))}
	seen := map[string]*sight{}
	var problems []problem
	for _, item := range others {
		s := n.sights[item.ID]
		switch {
		case s == nil:
			s = &sight{version: item.Version, at: now}
			s.clock.first(item.Value.At, now)
			if !item.Value.fresh(now) {
				s.at = now.Add(-life) // it is dead, unless it beats
			}
		case s.version != item.Version:
			s.clock.narrow(item.Value.At, s.looked, now)
			s.version, s.at = item.Version, now
		}
		s.looked = now
		seen[item.ID] = s
		if now.Sub(s.at) >= life {
			continue
		}
		info := infoOf(item.ID, item.Value)
		all = append(all, info)
		if text := s.clock.problem(); text != "" {
			problems = append(problems, problem{"clock of " + item.ID, fmt.Sprintf("the clock of %s %s; have both set by NTP", info, text)})
		}
	}
	n.sights, n.living = seen, len(all)
	for _, text := range missing(all) {
		problems = append(problems, problem{text, text})
	}
	n.warn(problems)
	return n.settle(ctx, all)
}

// others are the documents of all other nodes that have joined.
func (n *Node) others(ctx context.Context) ([]store.Item[beat], error) {
	var others []store.Item[beat]
	for item, err := range n.beats.All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		if item.ID != n.ID && item.Value.Joined {
			others = append(others, item)
		}
	}
	return others, nil
}

// problem is a warning, with what makes it the same as the one of the last look.
type problem struct{ key, text string }

// warn logs what was not wrong at the last look.
func (n *Node) warn(problems []problem) {
	before := n.warned
	n.warned = map[string]bool{}
	for _, p := range problems {
		if !before[p.key] {
			n.o.Log.Warn(p.text)
		}
		n.warned[p.key] = true
	}
}

// Leave takes the node out, before the process ends: who starts next with other settings is
// not kept waiting.
func (n *Node) Leave(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leave(ctx)
}

func (n *Node) leave(ctx context.Context) error {
	err := n.beats.Delete(ctx, n.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// offset is between which bounds a node's clock is ahead of ours; what is behind is negative.
type offset struct {
	low, high time.Duration
	bounded   bool // high is known
}

// first is for a beat of which nobody knows how old it is.
func (o *offset) first(at, seen time.Time) { *o = offset{low: at.Sub(seen)} }

// narrow is for a beat that was written after the last look, and seen at this one.
func (o *offset) narrow(at, looked, seen time.Time) {
	low, high := at.Sub(seen), at.Sub(looked)
	if low > o.low {
		o.low = low
	}
	if !o.bounded || high < o.high {
		o.high, o.bounded = high, true
	}
	if o.low > o.high { // one of the clocks was set
		o.low, o.high = low, high
	}
}

// problem says by how much the clock is off, at the least; empty if it may be right.
func (o *offset) problem() string {
	const unit = time.Second
	switch {
	case o.low > drift:
		return fmt.Sprintf("is ahead of this node's, by %s or more", o.low.Truncate(unit))
	case o.bounded && o.high < -drift:
		return fmt.Sprintf("is behind this node's, by %s or more", (-o.high).Truncate(unit))
	}
	return ""
}

// secretIDs are the ids of Options.Secrets.
func (n *Node) secretIDs() []string {
	ids := make([]string, len(n.o.Secrets))
	for i, secret := range n.o.Secrets {
		ids[i] = secretID(n.salt, secret)
	}
	return slices.Clip(ids)
}
