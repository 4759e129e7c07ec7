// Package challenge tells people from programs that try what a person would not: a
// proof of work, which a browser does by itself in about a second and which makes a
// million attempts expensive, and for who has no JavaScript, or does not want to wait, a
// picture or a recording with signs to type.
//
// A challenge is its id: what it asks for is sealed in there, so that giving one out
// costs no write, and nobody but this server can read the answer. It is good for one
// purpose, for [Life], and once: whatever was answered, its id is noted in the store
// before the answer is looked at. The same picture cannot be asked for again, so that
// neither several guesses at it nor several noises over it can be had.
package challenge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"strconv"
	"strings"
	"time"

	"login-server/clock"
	"login-server/store"
	"login-server/token"
)

// ErrBusy of New: more pictures and recordings are wanted than are made in reasonable time.
var ErrBusy = errors.New("too many pictures and recordings at once")

// Errors of Spend. All other errors mean that the store could not be asked.
var (
	// ErrWrong: the answer is wrong, and the challenge is spent.
	ErrWrong = errors.New("wrong answer to the challenge")
	// ErrExpired: it is too old, or none of this server's for this purpose.
	ErrExpired = errors.New("the challenge has expired")
	// ErrSpent: it was answered before, or is by another request at this moment.
	ErrSpent = errors.New("the challenge was answered before")
)

// Kind is how a challenge is answered.
type Kind string

// The kinds of challenges.
const (
	Work  Kind = "work"
	Image Kind = "image"
	Audio Kind = "audio"
)

// Life is how long there is to answer a challenge.
const Life = 10 * time.Minute

const (
	// puzzles are how many pieces a proof of work has: the time that one takes varies by as
	// much as it lasts, that of 32 by less than a fifth.
	puzzles = 32
	// defaultBits makes half a million hashes of the pieces together; docs/architecture.md
	// says how long browsers take for them.
	defaultBits = 14
	// mostWaiting is how many pictures and recordings are made or wait for it at once. Each
	// takes some ten milliseconds, on one processor of two.
	mostWaiting = 50
	// maxID and maxAnswer are how long what is sent to us may be to be looked at, in bytes.
	// An id has some 250, the answer to a proof of work some 200.
	maxID, maxAnswer = 1024, 1024
	idSize           = 16
)

// Puzzle is what a proof of work asks for: for each i from 0 to Count-1 a number n, so
// that the SHA-256 of the text "Salt.i.n", with i and n in decimal, begins with Bits
// zero bits. The answer is these numbers in that order, with commas between them.
type Puzzle struct {
	Salt        string
	Bits, Count int
}

// Challenge is what a browser is given to answer.
type Challenge struct {
	// ID is sent back with the answer.
	ID      string
	Kind    Kind
	Expires time.Time
	// Work is that of a proof of work, PNG the picture of an image, WAV the recording of an
	// audio challenge.
	Work     Puzzle
	PNG, WAV []byte
}

// sealed is what is in the id of a challenge.
type sealed struct {
	ID      string `json:"i"`
	Kind    Kind   `json:"k"`
	Purpose string `json:"p"`
	Expires int64  `json:"e"` // Unix milliseconds
	// Answer is what is drawn or spoken; Bits are those of a proof of work, whose salt is ID.
	Answer string `json:"a,omitempty"`
	Bits   int    `json:"b,omitempty"`
}

// spent is a challenge that was answered; its id is that of the challenge.
type spent struct {
	Expires time.Time `json:"expires"`
}

// Options are what a Book needs.
type Options struct {
	Store store.Engine
	// Sealer has a purpose of its own.
	Sealer *token.Sealer
	Clock  clock.Clock
	// Bits is how many zero bits each piece of a proof of work asks for; 0 means 14.
	// Another bit doubles the work.
	Bits int
}

// Book gives out challenges and takes answers. It is safe for concurrent use, and so
// are several of them on one store.
type Book struct {
	o     Options
	spent *store.Collection[spent]
	// waiting has one for each picture and recording that is wanted, making for each that is
	// being made: whoever asks for many from everywhere takes half of the processors, not all.
	waiting, making chan struct{}
}

// New returns the book of an installation.
func New(o Options) *Book {
	if o.Bits == 0 {
		o.Bits = defaultBits
	}
	return &Book{
		o:       o,
		waiting: make(chan struct{}, mostWaiting),
		making:  make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		spent: store.NewCollection(o.Store, "challenge", func(s spent) store.Index {
			return store.Index{Expires: s.Expires}
		}),
	}
}

// New returns a challenge of a kind for a purpose, such as "signup". lang is the language
// of an audio challenge as BCP 47 tag; one that no recordings are in is English. ErrBusy.
func (b *Book) New(kind Kind, lang, purpose string) (Challenge, error) {
	s := sealed{ID: random(), Kind: kind, Purpose: purpose, Expires: b.o.Clock.Now().Add(Life).UnixMilli()}
	c := Challenge{Kind: kind, Expires: time.UnixMilli(s.Expires).UTC()}
	var err error
	switch kind {
	case Work:
		s.Bits = b.o.Bits
		c.Work = s.puzzle()
	case Image:
		s.Answer = signs(letters, pictureLength)
		c.PNG, err = b.inTurn(func() ([]byte, error) { return draw(s.Answer) })
	case Audio:
		s.Answer = signs(digits, recordingLength)
		c.WAV, err = b.inTurn(func() ([]byte, error) { return speak(s.Answer, lang) })
	default:
		err = fmt.Errorf("no kind of challenge: %q", kind)
	}
	if err != nil {
		return Challenge{}, fmt.Errorf("make challenge: %w", err)
	}
	if c.ID, err = b.o.Sealer.Seal(s); err != nil {
		return Challenge{}, fmt.Errorf("seal challenge: %w", err)
	}
	return c, nil
}

// inTurn makes a picture or a recording once others are done, or returns ErrBusy.
func (b *Book) inTurn(draw func() ([]byte, error)) ([]byte, error) {
	select {
	case b.waiting <- struct{}{}:
		defer func() { <-b.waiting }()
	default:
		return nil, ErrBusy
	}
	b.making <- struct{}{}
	defer func() { <-b.making }()
	return draw()
}

// Spend takes the answer to the challenge of an id: nil if it is right. However often,
// from wherever and at once it is called for one id, one call looks at the answer and
// the others get ErrSpent. Only ids that were made here cost a write.
func (b *Book) Spend(ctx context.Context, purpose, id, answer string) error {
	var s sealed
	if len(id) > maxID || b.o.Sealer.Open(id, &s) != nil || s.Purpose != purpose {
		return ErrExpired
	}
	if b.o.Clock.Now().UnixMilli() >= s.Expires {
		return ErrExpired
	}
	// Noted for longer than it lives on the node whose clock is the last.
	_, err := b.spent.Insert(ctx, s.ID, spent{Expires: time.UnixMilli(s.Expires).UTC().Add(2 * token.Leeway)})
	switch {
	case errors.Is(err, store.ErrExists):
		return ErrSpent
	case err != nil:
		return fmt.Errorf("note challenge: %w", err)
	}
	if len(answer) > maxAnswer || !s.answered(answer) {
		return ErrWrong
	}
	return nil
}

// answered tells whether an answer is right.
func (s sealed) answered(answer string) bool {
	if s.Kind == Work {
		return s.puzzle().solved(answer)
	}
	return subtle.ConstantTimeCompare([]byte(typed(answer)), []byte(s.Answer)) == 1
}

func (s sealed) puzzle() Puzzle { return Puzzle{Salt: s.ID, Bits: s.Bits, Count: puzzles} }

// solved checks an answer, with a hash for each piece up to the first that is wrong.
func (p Puzzle) solved(answer string) bool {
	numbers := strings.Split(answer, ",")
	if len(numbers) != p.Count {
		return false
	}
	for i, number := range numbers {
		if _, err := strconv.ParseUint(number, 10, 53); err != nil || !p.fits(i, number) {
			return false
		}
	}
	return true
}

// fits tells whether a number solves piece i.
func (p Puzzle) fits(i int, number string) bool {
	sum := sha256.Sum256([]byte(p.Salt + "." + strconv.Itoa(i) + "." + number))
	zeros := 0
	for _, b := range sum {
		zeros += bits.LeadingZeros8(b)
		if b != 0 {
			break
		}
	}
	return zeros >= p.Bits
}

func random() string {
	b := make([]byte, idSize)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
