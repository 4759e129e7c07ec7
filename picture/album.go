package picture

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"login-server/store"
)

// Kept is a picture in the store.
type Kept struct {
	// Owner is the id of the account that it was uploaded to.
	Owner string    `json:"owner"`
	Made  time.Time `json:"made"`
	Type  string    `json:"type"`
	Large []byte    `json:"large"`
	Small []byte    `json:"small"`
}

// Item is a picture and its id: 128 random bits as hexadecimal digits.
type Item struct {
	ID string
	Kept
}

// Album keeps pictures. It does not know which of them an account shows: that is for the
// account to say, and what no account names is not shown to anybody.
type Album struct {
	pictures *store.Collection[Kept]
	now      func() time.Time
}

// NewAlbum returns the pictures in engine.
func NewAlbum(engine store.Engine, now func() time.Time) *Album {
	return &Album{
		pictures: store.NewCollection(engine, "picture", func(k Kept) store.Index { return store.Index{Keys: []string{keyOwner(k.Owner)}} }),
		now:      now,
	}
}

func keyOwner(account string) string { return "owner:" + account }

// Keep stores a picture and returns its id.
func (a *Album) Keep(ctx context.Context, owner string, p Picture) (string, error) {
	var random [16]byte
	_, _ = rand.Read(random[:])
	id := hex.EncodeToString(random[:])
	_, err := a.pictures.Insert(ctx, id, Kept{Owner: owner, Made: a.now(), Type: p.Type, Large: p.Large, Small: p.Small})
	return id, err
}

// ValidID tells whether an id could be that of a picture.
func ValidID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == 16 && hex.EncodeToString(raw) == id
}

// Get returns a picture, or store.ErrNotFound.
func (a *Album) Get(ctx context.Context, id string) (Kept, error) {
	if !ValidID(id) {
		return Kept{}, store.ErrNotFound
	}
	item, err := a.pictures.Get(ctx, id)
	return item.Value, err
}

// Delete removes a picture of an owner. One that is not there, or is somebody else's, is
// left alone without an error.
func (a *Album) Delete(ctx context.Context, owner, id string) error {
	kept, err := a.Get(ctx, id)
	if err == nil && kept.Owner == owner {
		err = a.pictures.Delete(ctx, id)
	}
	return gone(err)
}

// Of returns the pictures of accounts.
func (a *Album) Of(ctx context.Context, owners ...string) ([]Item, error) {
	var items []Item
	for _, owner := range owners {
		for item, err := range a.pictures.All(ctx, store.Query{Key: keyOwner(owner)}) {
			if err != nil {
				return nil, err
			}
			items = append(items, Item{ID: item.ID, Kept: item.Value})
		}
	}
	return items, nil
}

// DeleteOf removes the pictures of accounts, but for those that keep is true of; nil keeps
// none.
func (a *Album) DeleteOf(ctx context.Context, keep func(Item) bool, owners ...string) error {
	items, err := a.Of(ctx, owners...)
	if err != nil {
		return err
	}
	for _, item := range items {
		if keep != nil && keep(item) {
			continue
		}
		if err := gone(a.pictures.Delete(ctx, item.ID)); err != nil {
			return err
		}
	}
	return nil
}

// gone takes it for done that somebody else was faster.
func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// path is where pictures are below the address of the server.
const path = "pictures/"

// Address is that of a picture, at the server with the address base.
func Address(base, id string) string { return base + path + id }

// ID is the id in the address of a picture at the server with the address base; empty if it
// is another address.
func ID(base, address string) string {
	id, ok := strings.CutPrefix(address, base+path)
	if !ok || !ValidID(id) {
		return ""
	}
	return id
}
