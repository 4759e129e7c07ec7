package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"login-server/store"
)

// Kinds of a Pending. A code or a link of one kind is worth nothing for another.
const (
	PendingSignUp     = "signup"     // an address, before there is a credential
	PendingReset      = "reset"      // a new password
	PendingEmail      = "email"      // one more address
	PendingUndoEmail  = "undo-email" // the way back to a former primary address
	PendingUnlock     = "unlock"     // an end of the waiting after wrong passwords
	PendingPhone      = "phone"      // a number
	PendingLogin      = "login"      // a sign-in, or its second factor, by code
	PendingInvitation = "invitation" // a sign-up that somebody was asked to
	PendingNotMe      = "not-me"     // the end of a session that its owner does not know
)

const (
	// CodeTries is how many wrong codes a Pending takes.
	CodeTries = 5
	// codeDigits is how many digits a code has.
	codeDigits = 6
	// Resends is how often the message of a Pending can be sent again, and ResendAfter how
	// long after the last one.
	Resends     = 3
	ResendAfter = time.Minute
	// wrongPerDay is how many wrong codes are taken in a day for one address, number or
	// credential, over all that waits for them: who guesses all day finds a code with a chance
	// of 1 to 20,000. Links work all the same.
	wrongPerDay = 50
)

// Errors of what waits, possibly wrapped.
var (
	// ErrCode: the code is wrong.
	ErrCode = errors.New("wrong code")
	// ErrTries: so many codes were wrong that no other is looked at. What waits has to begin
	// anew, or the link be used.
	ErrTries = errors.New("too many wrong codes")
	// ErrResent: the message was sent as often as it can be.
	ErrResent = errors.New("sent too often")
)

// TooSoonError says that a message was sent a moment ago.
type TooSoonError struct {
	// RetryAfter is when it can be sent again.
	RetryAfter time.Duration
}

func (e *TooSoonError) Error() string {
	return fmt.Sprintf("sent a moment ago, again in %v", e.RetryAfter.Round(time.Second))
}

// Pending is something that waits for the answer to a mail or an SMS: a code, typed in the
// browser that it began in, or a link. It has proved nothing, and changes nothing of a
// credential, until then.
type Pending struct {
	// ID names it in addresses of pages. It opens nothing.
	ID   string `json:"_id"`
	Kind string `json:"kind"`
	// Credential is whose it is, and Account that person's account; each may be empty: of
	// somebody new, and of somebody who is not known here and must not notice.
	Credential string `json:"credential,omitempty"`
	Account    string `json:"account,omitempty"`
	// Email or Number is where the message goes.
	Email  string `json:"email,omitempty"`
	Number string `json:"number,omitempty"`
	// Decoy: nobody is sent its code and its link, and no code is right. It looks like any other.
	Decoy bool `json:"decoy,omitempty"`
	// Sealed is what was begun with it; see Payload.
	Sealed string `json:"sealed,omitempty"`
	// Language of the person, and Continue where they wanted to go: the query of a page on
	// the way.
	Language string `json:"language,omitempty"`
	Continue string `json:"continue,omitempty"`

	// Code is an HMAC of the code, with this Pending in it. Link and Binding are SHA-256 in
	// hex: of the link's secret, and of what the browser holds that it began in.
	Code    []byte `json:"code,omitempty"`
	Link    string `json:"link,omitempty"`
	Binding string `json:"binding,omitempty"`
	// Tries is how many codes were looked at, Resent how often the message was sent again.
	Tries   int       `json:"tries,omitempty"`
	Resent  int       `json:"resent,omitempty"`
	Sent    time.Time `json:"sent"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// Issued is a Pending with its secrets, which nobody can read from it afterwards.
type Issued struct {
	Pending
	// Code has six digits. Secret is that of the link.
	Code, Secret string
	// Browser is what the browser keeps that it began in; see Bound. Empty after a Resend.
	Browser string
}

// tally counts wrong codes of a day, or mails to an address.
type tally struct {
	Count   int       `json:"count"`
	Expires time.Time `json:"expires"`
}

func (b *Book) openPending() {
	b.pending = store.NewCollection(b.o.Store, "pending", indexPending)
	b.tallies = store.NewCollection(b.o.Store, "pending count", func(t tally) store.Index { return store.Index{Expires: t.Expires} })
}

func indexPending(p Pending) store.Index {
	ix := store.Index{Expires: p.Expires}
	if p.Link != "" {
		ix.Unique = append(ix.Unique, "link:"+p.Link)
	}
	if p.Credential != "" {
		ix.Keys = append(ix.Keys, keyPendingOf(p.Kind, p.Credential))
	}
	return ix
}

func keyPendingOf(kind, credential string) string { return "of:" + kind + ":" + credential }

// Begin writes down what waits from now on, for life. p has its kind, whose it is and where
// the message goes; the rest is set here. payload becomes JSON and is sealed; it may be nil.
func (b *Book) Begin(ctx context.Context, p Pending, payload any, life time.Duration) (Issued, error) {
	now := b.o.Clock.Now()
	p.ID, p.Sent, p.Created, p.Expires = random(), now, now, now.Add(life)
	i := Issued{Pending: p, Browser: random()}
	i.Binding = digest(i.Browser)
	if payload != nil {
		if b.sealer == nil {
			return Issued{}, errNoSecret
		}
		var err error
		if i.Sealed, err = b.sealer.Seal(sealedPayload{i.ID, payload}); err != nil {
			return Issued{}, fmt.Errorf("seal what waits: %w", err)
		}
	}
	if err := b.issue(&i); err != nil {
		return Issued{}, err
	}
	if _, err := b.pending.Insert(ctx, i.ID, i.Pending); err != nil {
		return Issued{}, fmt.Errorf("keep what waits: %w", err)
	}
	return i, nil
}

// errNoSecret: see Options.Secrets.
var errNoSecret = errors.New("there is no secret to seal or hash with")

// issue gives it another code and another link.
func (b *Book) issue(i *Issued) error {
	if len(b.keys) == 0 {
		return errNoSecret
	}
	i.Code, i.Secret = newCode(), random()
	i.Pending.Code = codeHash(b.keys[0], i.Pending, i.Code)
	i.Link = digest(i.Secret)
	return nil
}

// sealedPayload keeps a payload from being worth anything in another Pending.
type sealedPayload struct {
	ID      string `json:"i"`
	Payload any    `json:"p"`
}

// Payload reads what a Pending was begun with into value, a pointer.
func (b *Book) Payload(p Pending, value any) error {
	if b.sealer == nil {
		return errNoSecret
	}
	sealed := sealedPayload{Payload: value}
	if err := b.sealer.Open(p.Sealed, &sealed); err != nil {
		return ErrNotFound // sealed with a secret that is not in use any more
	}
	if sealed.ID != p.ID {
		return ErrNotFound
	}
	return nil
}

// Pending returns what waits under an id, or ErrNotFound.
func (b *Book) Pending(ctx context.Context, kind, id string) (Pending, error) {
	if !wellFormed(id) {
		return Pending{}, ErrNotFound
	}
	item, err := b.pending.Get(ctx, id)
	if err == nil && item.Value.Kind != kind {
		err = ErrNotFound
	}
	if err != nil {
		return Pending{}, err
	}
	return item.Value, nil
}

// Bound tells whether a browser that keeps a secret is the one in which it began.
func (p Pending) Bound(secret string) bool {
	return secret != "" && p.Binding != "" && subtle.ConstantTimeCompare([]byte(digest(secret)), []byte(p.Binding)) == 1
}

// Resend makes another code and another link for the same record; those before are worth
// nothing any more, and tries are not given back. ErrNotFound, ErrResent, or *TooSoonError.
func (b *Book) Resend(ctx context.Context, kind, id string) (Issued, error) {
	var i Issued
	if _, err := b.Pending(ctx, kind, id); err != nil {
		return i, err
	}
	now := b.o.Clock.Now()
	_, err := b.pending.Update(ctx, id, func(p *Pending) error {
		wait := p.Sent.Add(ResendAfter).Sub(now)
		switch {
		case p.Resent >= Resends:
			return ErrResent
		case wait > 0:
			return &TooSoonError{RetryAfter: wait}
		}
		p.Resent++
		p.Sent = now
		i = Issued{Pending: *p}
		if err := b.issue(&i); err != nil {
			return err
		}
		*p = i.Pending
		return nil
	})
	return i, err
}

// TryCode compares a code, and counts the try first: however many are made at once, no more
// than CodeTries are looked at. The Pending goes on; who acts on the answer calls End first.
// ErrNotFound, ErrCode or ErrTries. Who calls it knows that the browser is the one that it began in.
func (b *Book) TryCode(ctx context.Context, kind, id, code string) (Pending, error) {
	p, err := b.Pending(ctx, kind, id)
	if err != nil {
		return Pending{}, err
	}
	if err := b.spendTry(ctx, p); err != nil {
		return Pending{}, err
	}
	if p, err = b.countTry(ctx, id); err != nil {
		return Pending{}, err
	}
	code = digits(code)
	for _, key := range b.keys {
		if len(p.Code) > 0 && hmac.Equal(codeHash(key, p, code), p.Code) && !p.Decoy {
			return p, b.returnTry(ctx, p)
		}
	}
	if p.Tries >= CodeTries {
		return Pending{}, ErrTries
	}
	return Pending{}, ErrCode
}

// CountTry counts a try of something else that belongs to a Pending, such as a password, as
// one at its code, before it is looked at. ErrNotFound or ErrTries.
func (b *Book) CountTry(ctx context.Context, p Pending) error {
	_, err := b.countTry(ctx, p.ID)
	return err
}

func (b *Book) countTry(ctx context.Context, id string) (Pending, error) {
	item, err := b.pending.Update(ctx, id, func(p *Pending) error {
		if p.Tries >= CodeTries {
			return ErrTries
		}
		p.Tries++
		return nil
	})
	return item.Value, err
}

// Sham writes something that nobody reads and that is gone in a minute: for who is not
// known, where somebody who is has something noted.
func (b *Book) Sham(ctx context.Context) error {
	_, err := b.tallies.Insert(ctx, random(), tally{Expires: b.o.Clock.Now().Add(time.Minute)})
	return err
}

// subject is whom codes are counted for.
func (p Pending) subject() string {
	switch {
	case p.Email != "":
		return digest("email:" + Fold(p.Email))
	case p.Number != "":
		return digest("phone:" + p.Number)
	}
	return digest("credential:" + p.Credential)
}

// spendTry counts a code of the day before it is looked at; returnTry takes that back.
func (b *Book) spendTry(ctx context.Context, p Pending) error {
	return b.spend(ctx, p.subject(), wrongPerDay, 24*time.Hour)
}

// spend counts one, or returns ErrTries if there were so many since the first.
func (b *Book) spend(ctx context.Context, id string, most int, in time.Duration) error {
	_, err := b.tallies.Upsert(ctx, id, func(t *tally) error {
		if t.Count >= most {
			return ErrTries
		}
		if t.Count++; t.Expires.IsZero() {
			t.Expires = b.o.Clock.Now().Add(in)
		}
		return nil
	})
	return err
}

func (b *Book) returnTry(ctx context.Context, p Pending) error {
	_, err := b.tallies.Update(ctx, p.subject(), func(t *tally) error {
		t.Count = max(0, t.Count-1)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// ByLink returns what a link's secret belongs to, or ErrNotFound. It changes nothing:
// programs that look at mails open links. Who acts on it calls End first.
func (b *Book) ByLink(ctx context.Context, kind, secret string) (Pending, error) {
	if !wellFormed(secret) {
		return Pending{}, ErrNotFound
	}
	item, err := b.pending.GetUnique(ctx, "link:"+digest(secret))
	if err == nil && item.Value.Kind != kind {
		err = ErrNotFound
	}
	if err != nil {
		return Pending{}, err
	}
	return item.Value, nil
}

// Exchange makes another link of a code that was right, and returns its secret. Code and
// link of before are worth nothing any more: of two who have them, one gets the next. ErrNotFound if
// somebody else was faster.
func (b *Book) Exchange(ctx context.Context, p Pending) (secret string, err error) {
	secret = random()
	_, err = b.pending.Update(ctx, p.ID, func(now *Pending) error {
		if now.Link != p.Link || len(now.Code) == 0 {
			return ErrNotFound
		}
		now.Code, now.Link = nil, digest(secret)
		return nil
	})
	return secret, err
}

// End takes a Pending away. Of any number of calls one returns nil, and may act on what was
// proved; all others get ErrNotFound.
func (b *Book) End(ctx context.Context, p Pending) error { return b.pending.Delete(ctx, p.ID) }

// Withdraw ends all of a kind that waits for a credential.
func (b *Book) Withdraw(ctx context.Context, kind, credential string) error {
	for item, err := range b.pending.All(ctx, store.Query{Key: keyPendingOf(kind, credential)}) {
		if err != nil {
			return err
		}
		if err := b.pending.Delete(ctx, item.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// Waiting lists what of a kind waits for a credential.
func (b *Book) Waiting(ctx context.Context, kind, credential string) ([]Pending, error) {
	var all []Pending
	for item, err := range b.pending.All(ctx, store.Query{Key: keyPendingOf(kind, credential)}) {
		if err != nil {
			return nil, err
		}
		all = append(all, item.Value)
	}
	slices.SortFunc(all, func(x, y Pending) int { return x.Created.Compare(y.Created) })
	return all, nil
}

// CountMail counts a mail of a kind to an address, in whichever spelling, and tells whether
// it is among the first so many in the time that begins with the first of them. Of any number
// of calls at once no more are.
func (b *Book) CountMail(ctx context.Context, kind, address string, most int, in time.Duration) (bool, error) {
	err := b.spend(ctx, digest("mail:"+kind+":"+Fold(address)), most, in)
	if errors.Is(err, ErrTries) {
		return false, nil
	}
	return err == nil, err
}

// codeHash binds a code to one Pending, its kind and its person.
func codeHash(key []byte, p Pending, code string) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{p.Kind, p.ID, p.Credential, code} {
		fmt.Fprintf(mac, "%d:%s,", len(part), part)
	}
	return mac.Sum(nil)
}

// newCode returns six random digits.
func newCode() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return fmt.Sprintf("%0*d", codeDigits, n)
}

// digits is a code as people type it: with spaces or dashes in it. What is too long is none.
func digits(code string) string {
	if len(code) > 4*codeDigits {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\u00a0' {
			return -1
		}
		return r
	}, strings.TrimSpace(code))
}

// random returns 256 random bits in 43 characters that are safe in addresses.
func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// wellFormed tells whether something can be what random has returned.
func wellFormed(secret string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	return err == nil && len(b) == 32
}

func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
