package notify

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// send asks for an SMS, and tells how long to wait; 0 when it was queued.
func (w *world) send(q *Queue, to, network string) time.Duration {
	w.t.Helper()
	err := q.SMS(w.t.Context(), SMS{To: to, Text: "123456", Kind: "code", Network: network})
	if limited, ok := errors.AsType[*ErrLimited](err); ok {
		if limited.RetryAfter <= 0 {
			w.t.Errorf("limited for %v", limited.RetryAfter)
		}
		return limited.RetryAfter
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return 0
}

// A number gets three in ten minutes and six in a day, whoever asks.
func TestLimitPerNumber(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	for i := range 3 {
		if wait := w.send(q, "+491511234567", fmt.Sprint("network ", i)); wait != 0 {
			t.Fatalf("the number %d has to wait for %v", i+1, wait)
		}
	}
	if wait := w.send(q, "+491511234567", "another"); wait != 10*time.Minute {
		t.Errorf("the fourth waits for %v", wait)
	}
	// A restart, or another node, begins nothing anew.
	if wait := w.send(w.open(), "+491511234567", ""); wait != 10*time.Minute {
		t.Errorf("after a restart it waits for %v", wait)
	}
	w.clock.Advance(10 * time.Minute)
	for range 3 {
		if wait := w.send(q, "+491511234567", ""); wait != 0 {
			t.Fatalf("ten minutes later it has to wait for %v", wait)
		}
	}
	w.clock.Advance(time.Hour)
	if wait := w.send(q, "+491511234567", ""); wait != 24*time.Hour-70*time.Minute {
		t.Errorf("the seventh of the day waits for %v", wait)
	}
	w.clock.Advance(23 * time.Hour)
	if wait := w.send(q, "+491511234567", ""); wait != 0 {
		t.Errorf("the next day it waits for %v", wait)
	}
	if n := q.Counts()[Result{ChannelSMS, "code", ResultLimited}]; n != 2 {
		t.Errorf("%d are counted as limited", n)
	}
}

// Pumping: numbers that follow one another, one network that asks for many, all day long.
func TestPumping(t *testing.T) {
	w := newWorld(t)
	q := w.open(func(o *Options) { o.SMSPerDay = 40 })
	sent := 0
	for i := range 500 { // one range, a network each
		if w.send(q, fmt.Sprintf("+49151123%04d", i), fmt.Sprint(i)) == 0 {
			sent++
		}
		w.clock.Advance(time.Minute)
	}
	if sent != perRange[1].most {
		t.Errorf("%d SMS to a range in a day, want %d", sent, perRange[1].most)
	}
	w.clock.Advance(24 * time.Hour)
	sent = 0
	for i := range 500 { // one network, any number
		if w.send(q, fmt.Sprintf("+49%09d", 151_000_000+i*10_000), "203.0.113.0/24") == 0 {
			sent++
		}
		w.clock.Advance(time.Minute)
	}
	if sent != perNetwork[1].most {
		t.Errorf("%d SMS for a network in a day, want %d", sent, perNetwork[1].most)
	}
	w.clock.Advance(24 * time.Hour)
	sent = 0
	for i := range 500 { // everybody
		if w.send(q, fmt.Sprintf("+49%09d", 251_000_000+i*10_000), fmt.Sprint(i)) == 0 {
			sent++
		}
		w.clock.Advance(time.Minute)
	}
	if sent != 30 {
		t.Errorf("%d SMS to strangers in a day, want 30", sent)
	}
}

// Strangers ask for codes to a number, to its neighbours and to everybody: who has proved one
// factor gets the code for the second all the same, and no more of them than a number gets.
func TestStrangersKeepNobodyOut(t *testing.T) {
	w := newWorld(t)
	q := w.open(func(o *Options) { o.SMSPerDay = 20 })
	for i := range 100 {
		w.send(q, "+491511234567", "203.0.113.0/24")
		w.send(q, fmt.Sprintf("+49151123%04d", i), fmt.Sprint(i))
		w.send(q, fmt.Sprintf("+49%09d", 151_000_000+i*10_000), fmt.Sprint(i))
	}
	proven := func() error {
		return q.SMS(t.Context(), SMS{To: "+491511234567", Text: "123456", Kind: "factor", Network: "203.0.113.0/24", Proven: true})
	}
	for i := range perNumber[0].most {
		if err := proven(); err != nil {
			t.Fatalf("code %d for the owner: %v", i+1, err)
		}
	}
	if err := proven(); !errors.As(err, new(*ErrLimited)) {
		t.Errorf("one more: %v", err)
	}
	sent := 0
	for i := range 100 {
		if q.SMS(t.Context(), SMS{To: fmt.Sprintf("+49%09d", 251_000_000+i*10_000), Text: "123456", Kind: "factor", Proven: true}) == nil {
			sent++
		}
	}
	if sent != 20-forStrangers(20)-perNumber[0].most {
		t.Errorf("%d more in that day", sent)
	}
}

// A network that asks too often uses up nothing of the numbers it asks for.
func TestLimitOfOthers(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	for i := range perNetwork[0].most {
		w.send(q, fmt.Sprintf("+4915%d1234567", i), "203.0.113.0/24")
	}
	for range 10 {
		if w.send(q, "+491631234567", "203.0.113.0/24") == 0 {
			t.Fatal("the network is not limited")
		}
	}
	if wait := w.send(q, "+491631234567", "198.51.100.0/24"); wait != 0 {
		t.Errorf("its owner has to wait for %v", wait)
	}
}

// Of many at once as many come through as are allowed.
func TestLimitAtOnce(t *testing.T) {
	w := newWorld(t)
	queues := []*Queue{w.open(), w.open()}
	var sent atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if queues[i%2].SMS(t.Context(), SMS{To: "+491511234567", Text: "123456", Kind: "code"}) == nil {
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	if got := sent.Load(); int(got) != perNumber[0].most {
		t.Errorf("%d are queued, want %d", got, perNumber[0].most)
	}
}

// Where no SMS go to is asked before anything is counted or queued.
func TestReachable(t *testing.T) {
	w := newWorld(t)
	q := w.open(func(o *Options) { o.Prefixes = []string{"+49", "+44", "+1212"} })
	for number, want := range map[string]bool{
		"+491511234567":      true,
		"+447911123456":      true,
		"+12125550123":       true,
		"+13105550123":       false, // not among the prefixes
		"+33612345678":       false,
		"+4990012345678":     false, // premium
		"+491805123456":      false,
		"+447012345678":      false,
		"+881612345678":      false, // satellite
		"491511234567":       false,
		"+49":                false,
		"":                   false,
		"+49151123456789012": false,
		"+49151\r\n12345":    false,
		"+٤٩١٥١١٢٣٤٥":        false,
	} {
		err := q.SMS(t.Context(), SMS{To: number, Text: "123456", Kind: "code"})
		if (err == nil) != want || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", number, err)
		}
	}
	if n := w.documents(); n != 3 {
		t.Errorf("%d are queued, want 3", n)
	}
	// Without prefixes there is no country, but in development.
	q = w.open(func(o *Options) { o.Prefixes = nil })
	if err := q.SMS(t.Context(), SMS{To: "+491511234567", Text: "123456"}); !errors.Is(err, ErrAddress) {
		t.Errorf("without prefixes: %v", err)
	}
}

// Numbers that belong to nobody here cost nothing, so they use up nothing of what others
// may get in a day; for who asks the limits look the same.
func TestDecoysUseUpNothing(t *testing.T) {
	w := newWorld(t)
	q := w.open(func(o *Options) { o.SMSPerDay = 20 })
	for i := range 100 {
		err := q.SMS(t.Context(), SMS{To: fmt.Sprintf("+49%09d", 151_000_000+i*10_000), Text: "123456", Kind: "login", Network: fmt.Sprint(i), Decoy: true})
		if err != nil {
			t.Fatalf("decoy %d: %v", i, err)
		}
	}
	sent := 0
	for i := range 100 {
		if w.send(q, fmt.Sprintf("+49%09d", 251_000_000+i*10_000), fmt.Sprint(i)) == 0 {
			sent++
		}
	}
	if sent != forStrangers(20) {
		t.Errorf("%d SMS after decoys, want %d", sent, forStrangers(20))
	}
	err := q.SMS(t.Context(), SMS{To: "+491721234567", Text: "123456", Kind: "login", Decoy: true})
	if !errors.As(err, new(*ErrLimited)) {
		t.Errorf("a decoy when nobody gets any: %v", err)
	}
}
