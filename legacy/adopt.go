package legacy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"login-server/identity"
)

// Result is what has become of one document of users.
type Result struct {
	// ID is the person's, or what stands in its place.
	ID   string
	Name string
	identity.Adoption
}

// Summary counts results. Partly are those taken or updated of whom something was left.
type Summary struct {
	Taken, Updated, Present, Refused int
	Partly                           int
}

// People is how many there were.
func (s Summary) People() int { return s.Taken + s.Updated + s.Present + s.Refused }

// Options are how people are taken over.
type Options struct {
	// DryRun: nothing is written.
	DryRun bool
	// Report is told what becomes of each, in the order of ids; nil is allowed. Its error
	// ends everything.
	Report func(Result) error

	// inPlace: the accounts are in the source itself.
	inPlace bool
}

// writers is how many people of a page are written at a time: the embedded store makes one
// commit of what comes together.
const writers = 32

// Adopt takes over everybody who can be. It may be ended at any time and repeated.
//
// Summary counts up to where an error has ended it: one of a database, or of Report.
func (s *Source) Adopt(ctx context.Context, users *identity.Directory, o Options) (Summary, error) {
	var sum Summary
	winners, err := s.contest(ctx)
	if err != nil {
		return sum, err
	}
	for page, err := range s.pages(ctx, true) {
		if err != nil {
			return sum, err
		}
		if err := s.dropLiving(ctx, page); err != nil {
			return sum, err
		}
		results, err := s.adoptPage(ctx, page, winners, users, o)
		for _, r := range results {
			sum.add(r)
			if o.Report != nil {
				if err := o.Report(r); err != nil {
					return sum, err
				}
			}
		}
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func (s *Summary) add(r Result) {
	switch r.Outcome {
	case identity.Taken:
		s.Taken++
	case identity.Updated:
		s.Updated++
	case identity.Present:
		s.Present++
	case identity.Refused:
		s.Refused++
	}
	if len(r.Left) > 0 {
		s.Partly++
	}
}

// adoptPage takes over the people of a page. With an error, results are those before the
// first that failed.
func (s *Source) adoptPage(ctx context.Context, page []person, winners map[claim]string, users *identity.Directory, o Options) (results []Result, err error) {
	results = make([]Result, len(page))
	failures := make([]error, len(page))
	free := make(chan struct{}, writers)
	var wg sync.WaitGroup
	for i, p := range page {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			results[i], failures[i] = s.adopt(ctx, p, winners, users, o)
		})
	}
	wg.Wait()
	for i, err := range failures {
		if err != nil {
			return results[:i], fmt.Errorf("take over %s: %w", page[i].ID, err)
		}
	}
	return results, nil
}

func (s *Source) adopt(ctx context.Context, p person, winners map[claim]string, users *identity.Directory, o Options) (Result, error) {
	r := Result{ID: p.ID, Name: p.Name}
	if p.unusable != "" {
		r.Outcome, r.Reason = identity.Refused, p.unusable
		return r, nil
	}
	for c := range p.claims() {
		if winner := winners[c]; winner != "" && winner != p.ID {
			if p.Contested == nil {
				p.Contested = map[string]string{}
			}
			p.Contested[c.provider] = winner
		}
	}
	var err error
	if r.Adoption, err = users.Adopt(ctx, p.Person, o.DryRun); err != nil {
		return r, err
	}
	switch r.Outcome {
	case identity.Taken, identity.Updated:
		r.Left = append(p.left, r.Left...)
	case identity.Refused:
		return r, nil
	}
	if o.inPlace && !o.DryRun && p.key.Type != bson.TypeString {
		// Their account has the same id as text, and so has not replaced this document. Left
		// here it would be looked at at each start, and outlive the account.
		_, err = s.db.Collection(usersName).DeleteOne(ctx, append(bson.D{{Key: "_id", Value: p.key}}, foreign...))
	}
	return r, err
}

// AdoptInPlace takes over the people of the older server whose database is that of this one
// by now; it comes before anything is answered. Where none are left it is one look in an
// index. Several nodes may do it at once, and be killed in the middle of it: who is taken is
// one write, and the rest is for the next start.
//
// users has to keep its accounts in that database. Who is refused stays there as they are,
// unseen by anybody, and is reported at each start.
func AdoptInPlace(ctx context.Context, uri, database string, users *identity.Directory, log *slog.Logger) error {
	s, err := Open(ctx, uri, database)
	if err != nil {
		return err
	}
	defer s.Close()
	if some, err := s.any(ctx); err != nil || !some {
		return err
	}
	log.InfoContext(ctx, "people of the older server are taken over")
	sum, err := s.Adopt(ctx, users, Options{inPlace: true, Report: func(r Result) error {
		if r.Outcome == identity.Refused {
			log.WarnContext(ctx, "not taken over", "user_id", r.ID, "reason", r.Reason)
		} else if len(r.Left) > 0 {
			log.WarnContext(ctx, "not taken over completely", "user_id", r.ID, "reason", strings.Join(r.Left, "; "))
		}
		return nil
	}})
	if err != nil {
		log.WarnContext(ctx, "not all people of the older server are taken over yet; the next start goes on", "people", sum.Taken+sum.Updated)
		return err
	}
	log.InfoContext(ctx, "taken over", "people", sum.Taken+sum.Updated, "here_already", sum.Present, "refused", sum.Refused, "not_completely", sum.Partly)
	return nil
}

// any tells whether there is anybody to take over.
func (s *Source) any(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := s.db.Collection(usersName).FindOne(ctx, foreign).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	return err == nil, err
}
