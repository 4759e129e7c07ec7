package attempt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"login-server/store"
)

// A step is a sign-in of which the first factor is proved and the second is not: a record
// like that of an attempt, bound to its browser in the same way, with few tries.

const (
	// StepLife is how long somebody has to give the second factor.
	StepLife = 10 * time.Minute
	// StepTries is how many may be wrong before the sign-in has to begin anew.
	StepTries = 5
)

// stepRecord is a step as it is stored. Its id is the hash of what names it.
type stepRecord struct {
	Sealed  string    `json:"sealed"`
	Binding string    `json:"binding"` // as that of record
	Tries   int       `json:"tries,omitempty"`
	Began   time.Time `json:"began"`
}

// KeepStep writes a step down, binds it to the browser of the request, and returns what
// names it in addresses. value becomes JSON and is sealed.
func (b *Book) KeepStep(ctx context.Context, w http.ResponseWriter, r *http.Request, value any) (name string, err error) {
	text, err := b.o.Sealer.Seal(value)
	if err != nil {
		return "", fmt.Errorf("seal step: %w", err)
	}
	name, secret := random(), random()
	if _, err = b.steps.Insert(ctx, digest(name), stepRecord{Sealed: text, Binding: digest(secret), Began: b.o.Clock.Now()}); err != nil {
		return "", fmt.Errorf("keep step: %w", err)
	}
	b.bind(w, r, name, secret)
	return name, nil
}

// PeekStep reads a step into value without using it up. ErrUnknown if there is none or its
// time or tries are over, ErrBrowser if it is another browser's.
func (b *Book) PeekStep(ctx context.Context, r *http.Request, name string, value any) error {
	if !validKey(name) {
		return ErrUnknown
	}
	item, err := b.steps.Get(ctx, digest(name))
	if errors.Is(err, store.ErrNotFound) {
		return ErrUnknown
	}
	if err != nil {
		return fmt.Errorf("read step: %w", err)
	}
	return b.openStep(r, name, item.Value, value)
}

// TryStep is PeekStep that counts a try, before anybody knows whether it is right: however
// many are made at once, no more than StepTries are looked at. ErrUsed when there are none left.
func (b *Book) TryStep(ctx context.Context, r *http.Request, name string, value any) error {
	if !validKey(name) {
		return ErrUnknown
	}
	item, err := b.steps.Update(ctx, digest(name), func(s *stepRecord) error {
		switch {
		case !b.bound(r, name, s.Binding):
			return ErrBrowser
		case s.Tries >= StepTries:
			return ErrUsed
		}
		s.Tries++
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrUnknown
	case errors.Is(err, ErrBrowser), errors.Is(err, ErrUsed):
		return err
	case err != nil:
		return fmt.Errorf("count try of step: %w", err)
	}
	return b.openStep(r, name, item.Value, value)
}

// EndStep uses a step up: of any number of calls one returns nil, the others ErrUnknown.
func (b *Book) EndStep(ctx context.Context, name string) error {
	err := b.steps.Delete(ctx, digest(name))
	if errors.Is(err, store.ErrNotFound) {
		return ErrUnknown
	}
	return err
}

func (b *Book) openStep(r *http.Request, name string, s stepRecord, value any) error {
	switch {
	case !b.bound(r, name, s.Binding):
		return ErrBrowser
	case b.o.Clock.Now().Sub(s.Began) > StepLife:
		return ErrUnknown
	}
	if err := b.o.Sealer.Open(s.Sealed, value); err != nil {
		return ErrUnknown // sealed with a secret that is not in use any more
	}
	return nil
}
