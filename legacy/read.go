package legacy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// pageSize is how many people are in memory at a time.
const pageSize = 256

// pages reads the users that the older server has written, in the order of their ids. With
// details everything is read, else what tells who they are.
func (s *Source) pages(ctx context.Context, details bool) iter.Seq2[[]person, error] {
	return func(yield func([]person, error) bool) {
		// The index of foreign has _id behind it, and _id one of its own: whichever MongoDB takes,
		// it should have nothing to sort. If it thinks otherwise it may do so on disk.
		o := options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetBatchSize(pageSize).SetAllowDiskUse(true)
		if !details {
			o.SetProjection(bson.D{{Key: "uri", Value: 1}, {Key: "identities", Value: 1}})
		}
		opening, opened := context.WithTimeout(ctx, requestTimeout)
		cursor, err := s.db.Collection(usersName).Find(opening, foreign, o)
		opened()
		if err != nil {
			yield(nil, fmt.Errorf("read users: %w", err))
			return
		}
		defer func() {
			closing, closed := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
			defer closed()
			_ = cursor.Close(closing) // the server forgets it after a while anyway
		}()
		for more := true; more; {
			var page []person
			if page, more, err = readPage(ctx, cursor); err != nil {
				yield(nil, fmt.Errorf("read users: %w", err))
				return
			}
			if details {
				if err := s.addUsages(ctx, page); err != nil {
					yield(nil, fmt.Errorf("read usages: %w", err))
					return
				}
			}
			if len(page) > 0 && !yield(page, nil) {
				return
			}
		}
	}
}

func readPage(ctx context.Context, cursor *mongo.Cursor) (page []person, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for len(page) < pageSize {
		if !cursor.Next(ctx) {
			return page, false, cursor.Err()
		}
		page = append(page, parse(cursor.Current))
	}
	return page, true, nil
}

// addUsages looks up when each of a page was made and last signed in.
func (s *Source) addUsages(ctx context.Context, page []person) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var ids bson.A
	at := map[string]int{} // index in page
	for i, p := range page {
		if p.unusable != "" {
			continue
		}
		at[p.ID] = i
		ids = append(ids, p.key)
		if p.key.Type != bson.TypeString {
			ids = append(ids, p.ID) // the one may be an ObjectId, and the other a text
		}
	}
	if len(ids) == 0 {
		return nil
	}
	cursor, err := s.db.Collection(usagesName).Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	if err != nil {
		return err
	}
	defer cursor.Close(ctx)
	for cursor.Next(ctx) {
		key := cursor.Current.Lookup("_id")
		id, text := key.StringValueOK()
		if oid, ok := key.ObjectIDOK(); ok {
			id, text = hex.EncodeToString(oid[:]), true
		}
		if i, ok := at[id]; ok && text { // a symbol of BSON is found by the same text
			page[i].use(cursor.Current)
		}
	}
	return cursor.Err()
}

// claim is an identity of somebody.
type claim struct{ provider, id string }

// contest finds the identities that several people have, and tells who of them keeps each:
// the one who was used last.
//
// That takes a look at all before the first is taken. In memory are eight bytes for each
// identity, and the few that several have.
func (s *Source) contest(ctx context.Context) (map[claim]string, error) {
	seed := maphash.MakeSeed()
	short := func(c claim) uint64 { return maphash.Comparable(seed, c) }
	var all []uint64
	for page, err := range s.pages(ctx, false) {
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			for c := range p.claims() {
				all = append(all, short(c))
			}
		}
	}
	slices.Sort(all)
	several := map[uint64]bool{}
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			several[all[i]] = true
		}
	}
	all = nil
	if len(several) == 0 {
		return nil, nil
	}

	type holder struct {
		id       string
		lastUsed time.Time
	}
	holders := map[claim][]holder{}
	for page, err := range s.pages(ctx, true) {
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			for c := range p.claims() {
				if several[short(c)] {
					holders[c] = append(holders[c], holder{p.ID, p.LastUsed})
				}
			}
		}
	}
	winners := map[claim]string{}
	for c, list := range holders {
		if len(list) > 1 {
			winners[c] = slices.MaxFunc(list, func(a, b holder) int {
				if order := a.lastUsed.Compare(b.lastUsed); order != 0 {
					return order
				}
				return strings.Compare(b.id, a.id) // the smaller id, so that it is always the same
			}).id
		}
	}
	return winners, nil
}

func (p person) claims() iter.Seq[claim] {
	return func(yield func(claim) bool) {
		for provider, i := range maps.All(p.Identities) {
			if p.unusable == "" && !yield(claim{provider, i.ID}) {
				return
			}
		}
	}
}

// dropLiving takes those URIs from a page that are the URI of somebody else who is a user:
// tokens would give one person's things to another.
func (s *Source) dropLiving(ctx context.Context, page []person) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// They are looked for by id, with which a URI ends: by itself it has no index there.
	var ids bson.A
	look := func(uri string) {
		id := uri[strings.LastIndexByte(uri, '/')+1:]
		ids = append(ids, id)
		if oid, err := bson.ObjectIDFromHex(id); err == nil {
			ids = append(ids, oid)
		}
	}
	for _, p := range page {
		if !strings.HasSuffix(p.URI, "/"+p.ID) {
			look(p.URI)
		}
		for _, uri := range p.Merged {
			look(uri)
		}
	}
	living := map[string]string{} // ids by URI
	for part := range slices.Chunk(ids, 1000) {
		cursor, err := s.db.Collection(usersName).Find(ctx, append(slices.Clone(foreign), bson.E{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}),
			options.Find().SetProjection(bson.D{{Key: "uri", Value: 1}}))
		if err != nil {
			return fmt.Errorf("read users: %w", err)
		}
		for cursor.Next(ctx) {
			if p := parse(cursor.Current); p.unusable == "" && strings.HasSuffix(p.URI, "/"+p.ID) {
				living[p.URI] = p.ID
			}
		}
		if err := errors.Join(cursor.Err(), cursor.Close(ctx)); err != nil {
			return fmt.Errorf("read users: %w", err)
		}
	}
	for i := range page {
		p := &page[i]
		if id, lives := living[p.URI]; lives && id != p.ID {
			p.leave("the URI %s is that of %s; another one is made", p.URI, id)
			p.URI = ""
		}
		p.Merged = slices.DeleteFunc(p.Merged, func(uri string) bool {
			id, lives := living[uri]
			if lives = lives && id != p.ID; lives {
				p.leave("the merged URI %s is that of %s, who is a user still", uri, id)
			}
			return lives
		})
	}
	return nil
}
