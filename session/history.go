package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"login-server/store"
)

// Results of sign-ins.
const (
	// ResultOK: the browser is signed in.
	ResultOK = "ok"
	// ResultRefused: what was to prove the identity did not, or the account is shut.
	ResultRefused = "refused"
	// ResultFactor: the second factor was wrong; the first had been right.
	ResultFactor = "factor_refused"
	// ResultLimited: nothing was checked, there had been too many attempts.
	ResultLimited = "limited"
)

const (
	// historyPeriod is how long the history is kept.
	historyPeriod = 90 * 24 * time.Hour
	// dailyRefusals is how many refusals of a day (UTC) an account's history lists; of
	// those beyond it has the number only.
	dailyRefusals = 200
)

// SignIn is one entry of somebody's history: a sign-in, or an attempt that was refused.
type SignIn struct {
	// ID names the entry, and orders entries by time. It is not in the document.
	ID string `json:"id,omitempty"`
	// UserID is the account that it was about.
	UserID   string    `json:"userId"`
	At       time.Time `json:"at"`
	Provider string    `json:"provider"`
	// Methods are those of Session; of a refusal, what was tried.
	Methods     []string `json:"methods,omitempty"`
	Application string   `json:"application,omitempty"`
	Address     string   `json:"address,omitempty"`
	UserAgent   string   `json:"userAgent,omitempty"`
	// Country, City and Device are those of Session.
	Country string `json:"country,omitempty"`
	City    string `json:"city,omitempty"`
	Device  string `json:"device,omitempty"`
	// Session is the handle of the session that came of it.
	Session string `json:"session,omitempty"`
	// Result is one of the constants above, and Reason a stable code of why, such as
	// "disabled"; empty for sign-ins.
	Result string `json:"result"`
	Reason string `json:"reason,omitempty"`
	// More: the entry stands for so many refusals of one day beyond those that are
	// listed. At is that of the latest; nothing else of them is known.
	More int `json:"more,omitempty"`
	// Slot counts the refusals of a day that are listed, from 1.
	Slot int `json:"slot,omitempty"`
}

// index has unique keys for the refusals of a day, so that there cannot be more of them
// than there are slots, however many come at once.
func (s SignIn) index() store.Index {
	i := store.Index{Keys: []string{keyUser(s.UserID)}, Expires: s.At.Add(historyPeriod)}
	switch {
	case s.Slot > 0:
		day := keyRefused(s.UserID, s.At)
		i.Keys = append(i.Keys, day)
		i.Unique = []string{fmt.Sprintf("%s:%d", day, s.Slot)}
	case s.Result == ResultOK && s.Country != "":
		i.Keys = append(i.Keys, keyPlaced(s.UserID), keyCountry(s.UserID, s.Country))
	}
	return i
}

func keyRefused(user string, at time.Time) string {
	return "refused:" + at.UTC().Format("20060102") + ":" + user
}

func keyPlaced(user string) string           { return "placed:" + user }
func keyCountry(user, country string) string { return "country:" + country + ":" + user }

// entryID begins with the time, so that the history is in its order.
func entryID(at time.Time, rest string) string {
	return at.UTC().Format("20060102T150405.000") + "-" + rest
}

func newEntryID(at time.Time) string {
	return entryID(at, base64.RawURLEncoding.EncodeToString(random(9)))
}

// noteSuccess adds a sign-in to the history, and returns the entry's id.
func (m *Manager) noteSuccess(ctx context.Context, handle string, l Login) (string, error) {
	now := m.now()
	item, err := m.history.Insert(ctx, newEntryID(now), SignIn{
		UserID: l.UserID, At: now, Provider: l.Provider, Methods: l.Methods, Application: l.Application,
		Address: l.Address, UserAgent: l.UserAgent, Country: l.Country, City: l.City, Device: l.Device,
		Session: handle, Result: ResultOK,
	})
	return item.ID, err
}

// Note adds an attempt that was refused to the history of the account UserID, which
// the caller is certain of: a name that somebody has typed is not enough. ID, At, More
// and Slot are set here. Of one day 200 are kept, and of those beyond their number: who
// tries again and again can neither fill the store nor push out of sight what was before.
func (m *Manager) Note(ctx context.Context, s SignIn) error {
	if s.UserID == "" || s.Result == "" || s.Result == ResultOK {
		return errors.New("session: a refusal has an account, and a result that says so")
	}
	s.ID, s.At, s.More, s.Session = "", m.now(), 0, ""
	listed, err := m.history.Count(ctx, keyRefused(s.UserID, s.At))
	if err != nil {
		return err
	}
	id := newEntryID(s.At)
	for s.Slot = listed + 1; s.Slot <= dailyRefusals; s.Slot++ {
		if _, err := m.history.Insert(ctx, id, s); !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return m.countRefusal(ctx, s.UserID, s.At)
}

// countRefusal counts one that is not listed. The entry stands at the beginning of the
// day, below what is listed of it.
func (m *Manager) countRefusal(ctx context.Context, user string, at time.Time) error {
	sum := sha256.Sum256([]byte(user))
	id := entryID(at.UTC().Truncate(24*time.Hour), "more-"+base64.RawURLEncoding.EncodeToString(sum[:]))
	_, err := m.history.Upsert(ctx, id, func(s *SignIn) error {
		s.UserID, s.Result = user, ResultRefused
		s.At, s.More = at, s.More+1
		return nil
	})
	return err
}

// HistoryQuery asks for a page of the history of one person.
type HistoryQuery struct {
	// UserIDs are the account and those that it has absorbed.
	UserIDs []string
	// Before is the ID of the last entry of the page before; empty for the first.
	Before string
	// Limit is how many entries to return at the most, up to 1000; 0 means all.
	Limit int
}

// History returns entries of the history, newest first.
func (m *Manager) History(ctx context.Context, q HistoryQuery) ([]SignIn, error) {
	var entries []SignIn
	for _, id := range q.UserIDs {
		wanted := store.Query{Key: keyUser(id), After: q.Before, Descending: true, Limit: q.Limit}
		find := m.history.Find
		if q.Limit == 0 {
			find = m.wholeHistory
		}
		found, err := find(ctx, wanted)
		if err != nil {
			return nil, err
		}
		for _, item := range found {
			item.Value.ID, item.Value.Slot = item.ID, 0
			entries = append(entries, item.Value)
		}
	}
	slices.SortFunc(entries, func(a, b SignIn) int { return strings.Compare(b.ID, a.ID) })
	if q.Limit > 0 && len(entries) > q.Limit {
		entries = entries[:q.Limit]
	}
	return entries, nil
}

// wholeHistory is all that q describes, page by page.
func (m *Manager) wholeHistory(ctx context.Context, q store.Query) ([]store.Item[SignIn], error) {
	var items []store.Item[SignIn]
	for item, err := range m.history.All(ctx, q) {
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// SignedInFrom tells whether the history of the accounts has a sign-in from a country,
// and whether it has one from a country that is known at all.
func (m *Manager) SignedInFrom(ctx context.Context, country string, userIDs ...string) (there, anywhere bool, err error) {
	for _, id := range userIDs {
		for key, found := range map[string]*bool{keyCountry(id, country): &there, keyPlaced(id): &anywhere} {
			items, err := m.history.Find(ctx, store.Query{Key: key, Limit: 1})
			if err != nil {
				return false, false, err
			}
			*found = *found || len(items) > 0
		}
	}
	return there, anywhere, nil
}

// DeleteHistory removes the history of accounts.
func (m *Manager) DeleteHistory(ctx context.Context, userIDs ...string) error {
	for _, id := range userIDs {
		for item, err := range m.history.All(ctx, store.Query{Key: keyUser(id)}) {
			if err != nil {
				return err
			}
			if err := m.history.Delete(ctx, item.ID); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return nil
}
