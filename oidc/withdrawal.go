package oidc

import (
	"context"
	"errors"
	"time"

	"login-server/store"
)

// withdrawal says that what a client was allowed has been taken back, by a person or for
// everybody. The grants that are stored then are revoked one by one. This is for those that
// nobody can find, because a code carries them or they are just being written: without its
// mark they are void.
type withdrawal struct {
	User   string `json:"user,omitempty"` // or everybody
	Client string `json:"client"`
	// Mark is another one each time, so that no clocks have to be compared.
	Mark  string    `json:"mark"`
	Until time.Time `json:"until"`
}

// everybody stands in place of an account's id where what all have allowed is taken back.
const everybody = ""

// withdrawalLife is longer than any grant lives: REFRESH_TOKEN_MAX_DAYS is 3,650 at most.
const withdrawalLife = 3660 * 24 * time.Hour

func withdrawalID(user, client string) string { return user + " " + client }

func (w withdrawal) index() store.Index {
	i := store.Index{Expires: w.Until, Keys: []string{keyClient(w.Client)}}
	if w.User != everybody {
		i.Keys = append(i.Keys, keyUser(w.User))
	}
	return i
}

// withdraw makes void what a client was given before, stored or not.
func withdraw(ctx context.Context, withdrawals *store.Collection[withdrawal], user, client string, now time.Time) error {
	_, err := withdrawals.Upsert(ctx, withdrawalID(user, client), func(w *withdrawal) error {
		*w = withdrawal{User: user, Client: client, Mark: randomName(8), Until: now.Add(withdrawalLife)}
		return nil
	})
	return err
}

// marks are those of the latest withdrawals of a client, by a person and for everybody; empty
// where there were none.
type marks [2]string

// marksOf returns the marks as memory has them: for five seconds they may be older ones.
func (p *Provider) marksOf(ctx context.Context, user, client string) (m marks, err error) {
	for i, user := range []string{user, everybody} {
		m[i], err = p.marks.Get(ctx, withdrawalID(user, client), func(ctx context.Context, id string) (string, error) {
			item, err := p.withdrawals.Get(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				return "", nil
			}
			return item.Value.Mark, err
		})
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// forgetMarks has marksOf ask the store.
func (p *Provider) forgetMarks(user, client string) {
	p.marks.Forget(withdrawalID(user, client))
	p.marks.Forget(withdrawalID(everybody, client))
}

// withdrawn tells whether a grant was taken back since it was given. Memory may say that it
// was not; that it was, only the store says.
func (p *Provider) withdrawn(ctx context.Context, g grant) (bool, error) {
	known, err := p.marksOf(ctx, g.User, g.Client)
	if err == nil && known.void(g.Marks) {
		p.forgetMarks(g.User, g.Client)
		known, err = p.marksOf(ctx, g.User, g.Client)
	}
	return err == nil && known.void(g.Marks), err
}

// void tells whether what was given with older marks is void. Where there is no mark nothing
// was taken back.
func (m marks) void(older marks) bool {
	return m[0] != "" && m[0] != older[0] || m[1] != "" && m[1] != older[1]
}
