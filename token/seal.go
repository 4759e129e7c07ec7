package token

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"login-server/store"
)

// DeriveKey derives the 32-byte key of one purpose from a secret (HKDF with
// SHA-256, RFC 5869). Keys of different purposes tell nothing about each other.
func DeriveKey(secret, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "login-server "+purpose, 32)
	if err != nil {
		panic(err) // only for lengths that SHA-256 cannot give
	}
	return key
}

// Sealer encrypts values for one purpose, so that only this server can read them
// and a value made for one purpose is worth nothing for another.
type Sealer struct{ aeads []cipher.AEAD }

// NewSealer returns the sealer of a purpose: the first secret seals, all open.
func NewSealer(secrets []string, purpose string) (*Sealer, error) {
	s := &Sealer{}
	for _, secret := range secrets {
		block, err := aes.NewCipher(DeriveKey(secret, purpose))
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		s.aeads = append(s.aeads, aead)
	}
	if len(s.aeads) == 0 {
		return nil, errors.New("no secret to seal with")
	}
	return s, nil
}

// Seal encrypts value, as JSON, into a string that is safe in URLs.
func (s *Sealer) Seal(value any) (string, error) { return s.seal(value, 0) }

// seal is Seal with another secret than the first.
func (s *Sealer) seal(value any, secret int) (string, error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	aead := s.aeads[secret]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	_, _ = rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, nil)), nil
}

// Open decrypts what Seal has made; ErrInvalid for everything else.
func (s *Sealer) Open(sealed string, value any) error {
	_, err := s.open(sealed, value)
	return err
}

// open is Open, and tells which of the secrets it was.
func (s *Sealer) open(sealed string, value any) (secret int, err error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return 0, fmt.Errorf("%w: not sealed here", ErrInvalid)
	}
	for i, aead := range s.aeads {
		if len(data) < aead.NonceSize() {
			break
		}
		plain, err := aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], nil)
		if err != nil {
			continue
		}
		if err := json.Unmarshal(plain, value); err != nil {
			return 0, fmt.Errorf("%w: sealed something else: %w", ErrInvalid, err)
		}
		return i, nil
	}
	return 0, fmt.Errorf("%w: not sealed here", ErrInvalid)
}

// TicketLife is how long the sessionID in a token can be redeemed.
const TicketLife = time.Minute

// Ticket says which session a socket may join. It works once.
type Ticket struct {
	// Handle of the session.
	Handle string `json:"h"`
	// Binding changes with the session's secret, so that a ticket from before a
	// sign-in is worth nothing after it; empty for an anonymous session.
	Binding string `json:"b,omitempty"`
	// Opens is what else the ticket is good for, in the words of who made it.
	Opens string `json:"o,omitempty"`
	// ID tells tickets apart, and Expires ends them (Unix milliseconds).
	ID      string `json:"i"`
	Expires int64  `json:"e"`
}

// Tickets makes and redeems the sessionID of tokens, or tickets to hear events with.
type Tickets struct {
	sealer *Sealer
	spent  *store.Collection[spentTicket]
	life   time.Duration
	now    func() time.Time

	// here are the tickets that were spent on this node, or of which others have said so,
	// with their expiry. Those of anonymous sessions, which open nothing worth a write, are
	// noted nowhere else.
	mu    sync.Mutex
	here  map[string]int64
	swept int64
}

type spentTicket struct {
	Expires time.Time `json:"expires"`
}

// EventTicketLife is how long a ticket from POST /events/ticket can be redeemed. It
// stands in a URL, which others may come to see.
const EventTicketLife = 30 * time.Second

// NewTickets returns the tickets of the server with these secrets.
func NewTickets(engine store.Engine, secrets []string, now func() time.Time) (*Tickets, error) {
	return newTickets(engine, secrets, "session ticket", TicketLife, now)
}

// NewEventTickets returns the tickets of POST /events/ticket. Neither kind is worth
// anything in place of the other.
func NewEventTickets(engine store.Engine, secrets []string, now func() time.Time) (*Tickets, error) {
	return newTickets(engine, secrets, "event ticket", EventTicketLife, now)
}

func newTickets(engine store.Engine, secrets []string, purpose string, life time.Duration, now func() time.Time) (*Tickets, error) {
	sealer, err := NewSealer(secrets, purpose)
	if err != nil {
		return nil, err
	}
	return &Tickets{
		sealer: sealer,
		spent: store.NewCollection(engine, "ticket", func(s spentTicket) store.Index {
			return store.Index{Expires: s.Expires}
		}),
		life: life,
		now:  now,
		here: map[string]int64{},
	}, nil
}

// Mint returns the ticket of a session.
func (t *Tickets) Mint(handle, binding string) (string, error) {
	return t.MintFor(handle, binding, "")
}

// MintFor returns the ticket of a session that is good for something else as well.
func (t *Tickets) MintFor(handle, binding, opens string) (string, error) {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return t.sealer.Seal(Ticket{
		Handle: handle, Binding: binding, Opens: opens,
		ID: base64.RawURLEncoding.EncodeToString(id), Expires: t.now().Add(t.life).UnixMilli(),
	})
}

// Peek returns what a ticket says without spending it; ErrInvalid if it was not
// made here, or on a node whose clock differs by Leeway, or has expired.
func (t *Tickets) Peek(sealed string) (Ticket, error) {
	var ticket Ticket
	if err := t.sealer.Open(sealed, &ticket); err != nil {
		return Ticket{}, err
	}
	if t.now().Add(-Leeway).UnixMilli() >= ticket.Expires {
		return Ticket{}, fmt.Errorf("%w: the session ticket has expired", ErrInvalid)
	}
	return ticket, nil
}

// Spend makes a ticket worthless: of any number of calls for it one returns nil,
// the others ErrInvalid.
func (t *Tickets) Spend(ctx context.Context, ticket Ticket) error {
	used := fmt.Errorf("%w: the session ticket was used before", ErrInvalid)
	if !t.spendHere(ticket) {
		return used
	}
	if ticket.Binding == "" {
		return nil
	}
	// It is remembered for longer than it lives on the node whose clock is the last, for
	// those who have looked at it before.
	_, err := t.spent.Insert(ctx, ticket.ID, spentTicket{Expires: time.UnixMilli(ticket.Expires).UTC().Add(2*Leeway + TicketLife)})
	if errors.Is(err, store.ErrExists) {
		return used
	}
	return err
}

// ticketID is the length of the id of a ticket.
const ticketID = 22

// maxHeard is how many tickets are remembered at the most of which others say that they were
// spent, in some three minutes: whoever can write to the bus could fill our memory.
const maxHeard = 1 << 18

// SpentElsewhere takes note of a ticket that another node has spent. If there are too many, one
// may be handed out once more; it opens nothing.
func (t *Tickets) SpentElsewhere(id string) {
	if len(id) != ticketID {
		return
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweepLocked(now.UnixMilli())
	if _, known := t.here[id]; !known && len(t.here) < maxHeard {
		t.here[id] = now.Add(t.life).UnixMilli()
	}
}

// IsSpent tells whether a ticket was spent, as far as this node knows; if it may not have
// heard, the store is asked.
func (t *Tickets) IsSpent(ctx context.Context, ticket Ticket, heard bool) bool {
	t.mu.Lock()
	_, spent := t.here[ticket.ID]
	t.mu.Unlock()
	if spent || heard {
		return spent
	}
	if ticket.Binding == "" {
		return true // the store knows nothing of those
	}
	_, err := t.spent.Get(ctx, ticket.ID)
	return !errors.Is(err, store.ErrNotFound)
}

func (t *Tickets) spendHere(ticket Ticket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweepLocked(t.now().UnixMilli())
	if _, spent := t.here[ticket.ID]; spent {
		return false
	}
	t.here[ticket.ID] = ticket.Expires
	return true
}

// sweepLocked forgets, once in a while, the tickets that have expired.
func (t *Tickets) sweepLocked(now int64) {
	if now-t.swept <= TicketLife.Milliseconds() {
		return
	}
	t.swept = now
	for id, expires := range t.here {
		if expires+(Leeway+TicketLife).Milliseconds() <= now {
			delete(t.here, id)
		}
	}
}
