package challenge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/challenge"
	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/token"
)

const secret = "the first secret of the tests"

// booth is a book on a real store, with a clock that stands still and work that is short.
type booth struct {
	*challenge.Book
	t      *testing.T
	clock  *clock.Fake
	engine store.Engine
}

func newBooth(t *testing.T) *booth {
	t.Helper()
	b := &booth{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	b.engine = teststore.Open(t, b.clock.Now)
	b.Book = b.book(secret)
	return b
}

// book is a book of the same installation on another node, or after a restart.
func (b *booth) book(secrets ...string) *challenge.Book {
	b.t.Helper()
	return challenge.New(challenge.Options{Store: b.engine, Sealer: b.sealer(secrets...), Clock: b.clock, Bits: 4})
}

func (b *booth) sealer(secrets ...string) *token.Sealer {
	b.t.Helper()
	s, err := token.NewSealer(secrets, "challenge")
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *booth) give(kind challenge.Kind, purpose string) challenge.Challenge {
	b.t.Helper()
	c, err := b.New(kind, "en", purpose)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// read is the answer to a picture or a recording, as only who has the secret reads it.
func (b *booth) read(c challenge.Challenge) string {
	b.t.Helper()
	var s struct {
		Answer string `json:"a"`
	}
	if err := b.sealer(secret).Open(c.ID, &s); err != nil || s.Answer == "" {
		b.t.Fatalf("no answer in %q: %v", c.ID, err)
	}
	return s.Answer
}

// spentIDs is how many ids the store has.
func (b *booth) spentIDs() int {
	b.t.Helper()
	n, err := b.engine.Count(b.t.Context(), "challenge", "")
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *booth) expect(want error, purpose, id, answer string) {
	b.t.Helper()
	if err := b.Spend(b.t.Context(), purpose, id, answer); !errors.Is(err, want) {
		b.t.Errorf("got %v, want %v", err, want)
	}
}

// solve does a proof of work as its documentation says.
func solve(p challenge.Puzzle) string {
	numbers := make([]string, p.Count)
	for i := range numbers {
		for n := 0; ; n++ {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s.%d.%d", p.Salt, i, n))
			if new(big.Int).SetBytes(sum[:]).BitLen() <= 256-p.Bits {
				numbers[i] = fmt.Sprint(n)
				break
			}
		}
	}
	return strings.Join(numbers, ",")
}

func TestWork(t *testing.T) {
	b := newBooth(t)
	c := b.give(challenge.Work, "signup")
	if c.Kind != challenge.Work || c.PNG != nil || c.WAV != nil || c.Work.Bits != 4 || !c.Expires.Equal(b.clock.Now().Add(challenge.Life)) {
		t.Errorf("got %+v", c)
	}
	if b.spentIDs() != 0 {
		t.Error("giving one out has cost a write")
	}
	b.expect(nil, "signup", c.ID, solve(c.Work))
	b.expect(challenge.ErrSpent, "signup", c.ID, solve(c.Work))
	// Nor on another node, or after a restart.
	if err := b.book(secret).Spend(t.Context(), "signup", c.ID, solve(c.Work)); !errors.Is(err, challenge.ErrSpent) {
		t.Errorf("at another book: got %v, want ErrSpent", err)
	}
}

func TestWorkIsDone(t *testing.T) {
	b := newBooth(t)
	whole := func(p challenge.Puzzle) []string { return strings.Split(solve(p), ",") }
	tests := []struct {
		what   string
		answer func(challenge.Puzzle) string
	}{
		{"nothing", func(challenge.Puzzle) string { return "" }},
		{"one piece missing", func(p challenge.Puzzle) string { return strings.Join(whole(p)[1:], ",") }},
		{"one piece more", func(p challenge.Puzzle) string { return solve(p) + ",0" }},
		{"the pieces in another order", func(p challenge.Puzzle) string {
			n := whole(p)
			n[0], n[1], n[2], n[3] = n[3], n[2], n[1], n[0]
			return strings.Join(n, ",")
		}},
		{"one piece for all", func(p challenge.Puzzle) string {
			return strings.TrimSuffix(strings.Repeat(whole(p)[0]+",", p.Count), ",")
		}},
		{"the work of another one", func(challenge.Puzzle) string { return solve(b.give(challenge.Work, "signup").Work) }},
		{"text in place of a number", func(p challenge.Puzzle) string { return "x" + solve(p) }},
		{"a number that JavaScript does not count to", func(p challenge.Puzzle) string { return "9007199254740993" + solve(p) }},
		{"10 MB", func(challenge.Puzzle) string { return strings.Repeat("1,", 5<<20) }},
	}
	for _, tc := range tests {
		t.Run(tc.what, func(t *testing.T) {
			c := b.give(challenge.Work, "signup")
			b.expect(challenge.ErrWrong, "signup", c.ID, tc.answer(c.Work))
			b.expect(challenge.ErrSpent, "signup", c.ID, solve(c.Work))
		})
	}
}

func TestSignsAreTyped(t *testing.T) {
	b := newBooth(t)
	for _, kind := range []challenge.Kind{challenge.Image, challenge.Audio} {
		for what, as := range map[string]func(string) string{
			"as it is":       func(s string) string { return s },
			"in lower case":  strings.ToLower,
			"with spaces":    func(s string) string { return " " + s[:2] + " " + s[2:] + "\t" },
			"in small parts": func(s string) string { return strings.Join(strings.Split(s, ""), "\u00a0") },
		} {
			t.Run(string(kind)+" "+what, func(t *testing.T) {
				c := b.give(kind, "reset")
				b.expect(nil, "reset", c.ID, as(b.read(c)))
				b.expect(challenge.ErrSpent, "reset", c.ID, as(b.read(c)))
			})
		}
		for _, wrong := range []string{"", " ", "AAAAA", strings.Repeat("A", 10<<20)} {
			c := b.give(kind, "reset")
			b.expect(challenge.ErrWrong, "reset", c.ID, wrong)
			b.expect(challenge.ErrSpent, "reset", c.ID, b.read(c)) // there is one guess
		}
	}
}

func TestWhatIsShown(t *testing.T) {
	b := newBooth(t)
	c := b.give(challenge.Image, "signup")
	picture, err := png.Decode(bytes.NewReader(c.PNG))
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size.X != 300 || size.Y != 100 {
		t.Errorf("the picture has %v pixels", size)
	}
	dark := 0
	for y := range 100 {
		for x := range 300 {
			if r, _, _, _ := picture.At(x, y).RGBA(); r < 0x4000 {
				dark++
			}
		}
	}
	if dark < 1000 || dark > 15000 {
		t.Errorf("%d of 30000 pixels are ink, nobody can read that", dark)
	}
	if len(c.PNG) > 16<<10 {
		t.Errorf("the picture has %d bytes", len(c.PNG))
	}
	for _, lang := range []string{"en", "de", "de-AT", "ja", "pl", "", "not a language"} {
		c, err := b.New(challenge.Audio, lang, "signup")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(c.WAV, []byte("RIFF")) || len(c.WAV) < 8000*8 || len(c.WAV) > 256<<10 {
			t.Errorf("%s: no recording of some seconds: %d bytes", lang, len(c.WAV))
		}
	}
	if _, err := b.New("riddle", "en", "signup"); err == nil {
		t.Error("a challenge of no kind was made")
	}
}

func TestNoTwoAreAlike(t *testing.T) {
	b := newBooth(t)
	answers, salts := map[string]bool{}, map[string]bool{}
	for range 100 {
		salts[b.give(challenge.Work, "signup").Work.Salt] = true
	}
	for range 20 {
		answers[b.read(b.give(challenge.Image, "signup"))] = true
	}
	if len(salts) != 100 || len(answers) < 19 {
		t.Errorf("%d of 100 salts and %d of 20 answers differ", len(salts), len(answers))
	}
}

func TestTheAnswerIsNotInSight(t *testing.T) {
	b := newBooth(t)
	c := b.give(challenge.Image, "signup")
	raw, err := base64.RawURLEncoding.DecodeString(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if answer := []byte(b.read(c)); bytes.Contains(raw, answer) || bytes.Contains(c.PNG, answer) {
		t.Error("the answer can be read in what is sent")
	}
}

func TestOneOfManyAtOnceIsLookedAt(t *testing.T) {
	b := newBooth(t)
	for name, kind := range map[string]challenge.Kind{"right answers": challenge.Work, "different guesses": challenge.Image} {
		t.Run(name, func(t *testing.T) {
			c := b.give(kind, "signup")
			answer := func(i int) string { return fmt.Sprintf("GUESS%d", i) }
			if kind == challenge.Work {
				right := solve(c.Work)
				answer = func(int) string { return right }
			}
			var looked, right atomic.Int32
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					switch err := b.book(secret).Spend(context.Background(), "signup", c.ID, answer(i)); {
					case err == nil:
						looked.Add(1)
						right.Add(1)
					case errors.Is(err, challenge.ErrWrong):
						looked.Add(1)
					case !errors.Is(err, challenge.ErrSpent):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if looked.Load() != 1 || (kind == challenge.Work) != (right.Load() == 1) {
				t.Errorf("%d of 16 were looked at, %d were right", looked.Load(), right.Load())
			}
		})
	}
}

func TestAnotherPurpose(t *testing.T) {
	b := newBooth(t)
	c := b.give(challenge.Work, "signup")
	b.expect(challenge.ErrExpired, "reset", c.ID, solve(c.Work))
	b.expect(challenge.ErrExpired, "", c.ID, solve(c.Work))
	if b.spentIDs() != 0 {
		t.Error("it was spent where it is worth nothing")
	}
	b.expect(nil, "signup", c.ID, solve(c.Work))
}

func TestLife(t *testing.T) {
	b := newBooth(t)
	c, late := b.give(challenge.Work, "signup"), b.give(challenge.Work, "signup")
	b.clock.Advance(challenge.Life - time.Millisecond)
	b.expect(nil, "signup", c.ID, solve(c.Work))
	b.clock.Advance(time.Millisecond)
	b.expect(challenge.ErrExpired, "signup", late.ID, solve(late.Work))
	if b.spentIDs() != 1 {
		t.Error("a challenge that has expired has cost a write")
	}
	// It is not forgotten before it has expired on every node.
	b.clock.Advance(2*token.Leeway - time.Millisecond)
	if b.spentIDs() != 1 {
		t.Error("forgotten while a node whose clock is behind would still take it")
	}
	b.clock.Advance(time.Millisecond)
	if b.spentIDs() != 0 {
		t.Error("still remembered when it is worth nothing any more")
	}
}

func TestIDsThatWereNotMadeHere(t *testing.T) {
	b := newBooth(t)
	c := b.give(challenge.Work, "signup")
	answer := solve(c.Work)
	foreign, err := token.NewSealer([]string{"another secret"}, "challenge")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := foreign.Seal(map[string]any{"i": "x", "k": "work", "p": "signup", "e": int64(1) << 60, "b": 0})
	if err != nil {
		t.Fatal(err)
	}
	changed := []byte(c.ID)
	changed[len(changed)/2] ^= 1
	for what, id := range map[string]string{
		"nothing": "", "text": "id", "a salt": c.Work.Salt, "one that another has sealed": forged,
		"one that was changed": string(changed), "one with an end": c.ID + "A", "10 MB": strings.Repeat("A", 10<<20),
	} {
		t.Run(what, func(t *testing.T) { b.expect(challenge.ErrExpired, "signup", id, answer) })
	}
	if b.spentIDs() != 0 {
		t.Errorf("%d ids that were not made here are in the store", b.spentIDs())
	}
	// When the secret is rotated those that are out stay good.
	if err := b.book("a new secret", secret).Spend(t.Context(), "signup", c.ID, answer); err != nil {
		t.Errorf("after the secret was rotated: %v", err)
	}
}

func TestStoreIsAway(t *testing.T) {
	b := newBooth(t)
	c := b.give(challenge.Work, "signup")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.Spend(ctx, "signup", c.ID, solve(c.Work))
	for _, verdict := range []error{nil, challenge.ErrWrong, challenge.ErrExpired, challenge.ErrSpent} {
		if errors.Is(err, verdict) {
			t.Errorf("got %v, which is a verdict on the answer", err)
		}
	}
}

func FuzzSpend(f *testing.F) {
	now := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	engine := teststore.Open(f, now.Now)
	sealer, err := token.NewSealer([]string{secret}, "challenge")
	if err != nil {
		f.Fatal(err)
	}
	b := challenge.New(challenge.Options{Store: engine, Sealer: sealer, Clock: now, Bits: 20})
	f.Add("1,2,3")
	f.Add(strings.Repeat("0,", 31) + "0")
	f.Fuzz(func(t *testing.T, answer string) {
		c, err := b.New(challenge.Work, "en", "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Spend(t.Context(), "fuzz", c.ID, answer); !errors.Is(err, challenge.ErrWrong) {
			t.Errorf("%q: %v, want ErrWrong", answer, err)
		}
	})
}

func BenchmarkSpend(b *testing.B) {
	now := clock.System{}
	engine := teststore.Open(b, now.Now)
	sealer, err := token.NewSealer([]string{secret}, "challenge")
	if err != nil {
		b.Fatal(err)
	}
	book := challenge.New(challenge.Options{Store: engine, Sealer: sealer, Clock: now, Bits: 1})
	for _, kind := range []challenge.Kind{challenge.Work, challenge.Image, challenge.Audio} {
		b.Run("new "+string(kind), func(b *testing.B) {
			for b.Loop() {
				if _, err := book.New(kind, "de", "bench"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Who asks for very many pictures at once gets some, and does not get all processors; a
// proof of work is for everybody all the time.
func TestManyPicturesAtOnce(t *testing.T) {
	b := newBooth(t)
	var drawn, busy atomic.Int32
	var wg sync.WaitGroup
	for range 400 {
		wg.Go(func() {
			switch _, err := b.New(challenge.Image, "en", "signup"); {
			case err == nil:
				drawn.Add(1)
			case errors.Is(err, challenge.ErrBusy):
				busy.Add(1)
			default:
				t.Error(err)
			}
			b.give(challenge.Work, "signup")
		})
	}
	wg.Wait()
	if drawn.Load() == 0 || busy.Load() == 0 {
		t.Errorf("%d were drawn, %d refused", drawn.Load(), busy.Load())
	}
	b.give(challenge.Image, "signup")
}
