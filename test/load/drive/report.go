package drive

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is what a run has measured.
type Report struct {
	// Seconds is how long it was, until the last operation had ended.
	Seconds    float64      `json:"seconds"`
	Operations []*Operation `json:"operations"`
	Sockets    *Sockets     `json:"sockets,omitempty"`

	renames *Operation
}

// Operation is what became of one kind of them.
type Operation struct {
	Name string `json:"name"`
	// Done is how many have succeeded, and Failed how many have not, by kind of error.
	Done      int            `json:"done"`
	PerSecond float64        `json:"perSecond"`
	Failed    map[string]int `json:"failed,omitempty"`
	// Latency is of those that have succeeded. At a steady rate it counts from when each
	// was due, not from when a worker came to it.
	Latency Latency `json:"latency"`
}

// Failures is how many have failed.
func (o *Operation) Failures() (n int) {
	for _, count := range o.Failed {
		n += count
	}
	return n
}

// Sockets is what became of sockets and of what they should hear.
type Sockets struct {
	// Wanted is how many there should be, and Open how many there were at the end.
	Wanted int `json:"wanted"`
	Open   int `json:"open"`
	// Closed is how often one was closed that nobody wanted closed, by reason; Returned how
	// often one was opened again, and Refused how often that has failed.
	Closed   map[string]int `json:"closed,omitempty"`
	Returned int            `json:"returned"`
	Refused  map[string]int `json:"refused,omitempty"`
	// Expected is how often a socket should hear of a change, each of each one of its account
	// that was answered with success, and Heard how often one has, if only after it came
	// back. Late is from the asking until the message.
	Expected int     `json:"expected"`
	Heard    int     `json:"heard"`
	Late     Latency `json:"late"`
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// latencyOf sorts times and takes the percentiles of them, by nearest rank: each is a time
// that was measured.
func latencyOf(times []time.Duration) Latency {
	if len(times) == 0 {
		return Latency{}
	}
	slices.Sort(times)
	at := func(percent int) float64 {
		rank := (len(times)*percent + 99) / 100
		return float64(times[max(rank, 1)-1].Microseconds()) / 1000
	}
	return Latency{at(50), at(90), at(99), at(100)}
}

// from counts outcomes.
func (o *Operation) from(outcomes []outcome) {
	var times []time.Duration
	o.Failed = map[string]int{}
	for _, x := range outcomes {
		if x.err != nil {
			o.Failed[kind(x.err)]++
			continue
		}
		times = append(times, x.took)
	}
	o.Done, o.Latency = len(times), latencyOf(times)
}

// String is the report as a text of some lines.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %9s %9s %8s %10s %10s %10s %10s\n", "", "done", "per s", "failed", "p50 ms", "p90 ms", "p99 ms", "max ms")
	for _, o := range r.Operations {
		fmt.Fprintf(&b, "%-8s %9d %9.1f %8d %s\n", o.Name, o.Done, o.PerSecond, o.Failures(), o.Latency)
		counts(&b, o.Failed)
	}
	if s := r.Sockets; s != nil {
		closed := 0
		for _, n := range s.Closed {
			closed += n
		}
		fmt.Fprintf(&b, "%-8s %9d of %d open, %d closed, %d came back\n", "sockets", s.Open, s.Wanted, closed, s.Returned)
		counts(&b, s.Closed)
		counts(&b, s.Refused)
		if s.Expected > 0 {
			fmt.Fprintf(&b, "%-8s %9d of %d %17s %s\n", "heard", s.Heard, s.Expected, "late:", s.Late)
		}
	}
	return b.String()
}

func (l Latency) String() string {
	return fmt.Sprintf("%10.1f %10.1f %10.1f %10.1f", l.P50, l.P90, l.P99, l.Max)
}

// counts writes what was counted, the most frequent first.
func counts(b *strings.Builder, of map[string]int) {
	names := slices.SortedFunc(maps.Keys(of), func(x, y string) int {
		return cmp.Or(cmp.Compare(of[y], of[x]), strings.Compare(x, y))
	})
	for _, name := range names {
		fmt.Fprintf(b, "  %8d times: %s\n", of[name], name)
	}
}
