package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"login-server/store"
)

// Info is a node as operators see it.
type Info struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
	Version string `json:"version"`
	BaseURL string `json:"baseUrl"`
	// Started and Seen, its last beat, are by the node's own clock.
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"`
	// HasBus: hints reach it, and go from it, by a bus.
	HasBus bool `json:"bus"`

	bus     string
	secrets []string // ids, the first one signs
}

func infoOf(id string, b beat) Info {
	return Info{
		ID: id, Name: printable(b.Name), Address: printable(b.Address), Version: printable(b.Version), BaseURL: printable(b.BaseURL),
		Started: b.Started, Seen: b.At, HasBus: b.Bus != "", bus: b.Bus, secrets: b.Secrets,
	}
}

// String is how messages name a node.
func (i Info) String() string {
	name := i.Name
	if name == "" {
		name = i.ID[:min(8, len(i.ID))]
	}
	if i.Address != "" {
		name += " at " + i.Address
	}
	return name
}

// Members are the nodes that live, by name.
type Members []Info

// Nodes lists the nodes on a store that live at a time. One that was killed is among them
// until its beat is a minute old: half of that is for its clock, which may be late.
func Nodes(ctx context.Context, engine store.Engine, now time.Time) (Members, error) {
	var all Members
	for item, err := range beats(engine).All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		if item.Value.Joined && item.Value.fresh(now) {
			all = append(all, infoOf(item.ID, item.Value))
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	return all, nil
}

// Problems are what is missing for the nodes to work together, in whole sentences; now is
// the time at which they were listed.
func (m Members) Problems(now time.Time) []string {
	var problems []string
	for _, i := range m {
		if ahead := i.Seen.Sub(now); ahead > drift {
			problems = append(problems, fmt.Sprintf("the clock of %s is ahead, by %s or more; have it set by NTP", i, ahead.Truncate(time.Second)))
		}
	}
	return append(problems, missing(m)...)
}

// missing is what several nodes need to have in common, and have not.
func missing(all []Info) []string {
	all = slices.Clone(all) // so that a sentence is the same whoever says it
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	if len(all) < 2 {
		return nil
	}
	var problems []string
	var without []string
	buses := map[string]bool{}
	for _, i := range all {
		if i.bus == "" {
			without = append(without, i.String())
		} else {
			buses[i.bus] = true
		}
	}
	switch {
	case len(without) > 0:
		problems = append(problems, fmt.Sprintf("%d nodes share this database, and hints do not reach all of them: events come late, and rate limits are those of each node; set the same REDIS_URL for every node (missing: %s)",
			len(all), strings.Join(without, ", ")))
	case len(buses) > 1:
		problems = append(problems, fmt.Sprintf("%d nodes share this database, but not one Redis: events come late; set the same REDIS_URL for every node", len(all)))
	}
	for _, i := range all {
		var strangers []string
		for _, other := range all {
			if len(i.secrets) > 0 && !slices.Contains(other.secrets, i.secrets[0]) {
				strangers = append(strangers, other.String())
			}
		}
		if len(strangers) > 0 {
			problems = append(problems, fmt.Sprintf("%s signs cookies with a secret that %s cannot read: who is sent there has to sign in again; give all nodes both secrets, and change their order after that", i, strings.Join(strangers, ", ")))
		}
	}
	return problems
}

// printable is text out of the database as it can be shown: short, and no control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "…"
	}
	return s
}
