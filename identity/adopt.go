package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"login-server/store"
)

// Person is somebody whose account was kept elsewhere, as Adopt takes them.
type Person struct {
	// ID stays what it is: tokens have carried it. So does URI, also one that does not begin
	// with the base URL, if the id is what it ends with; otherwise it is made as for new accounts.
	ID, URI string
	// Name may be empty; it is then made as for new accounts.
	Name string
	// Identities by provider. Their ids are what Profile.ID is for the same person.
	Identities map[string]Identity
	// Contested are those of them, by provider, that somebody else has there as well and is to
	// have here, by id. Older servers could give one identity to several people.
	Contested map[string]string
	// Merged are URIs of accounts that this one has absorbed.
	Merged []string
	// Created and LastUsed are zero when they are not known.
	Created, LastUsed time.Time
}

// Outcome is what has become of a Person.
type Outcome string

const (
	// Taken: there is an account of them now.
	Taken Outcome = "taken"
	// Updated: they were taken before, nothing has happened to their account here since, and
	// it is now as the source has it today.
	Updated Outcome = "updated"
	// Present: they have an account here already, which stays as it is.
	Present Outcome = "present"
	// Refused: they have none and get none.
	Refused Outcome = "refused"
)

// Adoption is what Adopt has done, or would do.
type Adoption struct {
	Outcome Outcome
	// Reason says why somebody was refused.
	Reason string
	// Left tells what of somebody was not taken, a sentence each.
	Left []string
}

// personID is what can be in the path of a URL and the subject of a token (OpenID Connect
// Core, 2: at most 255 ASCII characters) as it is.
var personID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$`)

// maxAccountURI is how long the URI of an account may be: after a merge it is a look-up key.
const maxAccountURI = 1000

// Adopt makes an account of somebody who had one elsewhere, with the id and the URI they
// had. It is one write, so that it is done or not, and may be repeated and run in several
// processes at once: who has been taken is Present from then on.
//
// Here counts more than there. An account that was used or changed here since stays as it
// is, and an identity that another account here has stays with that one: the person is taken
// without it, or refused if nothing else is left to sign in with. Who was taken and has
// deleted their account here since is not taken again.
//
// With dryRun nothing is written. An error says that the store failed, not that somebody
// could not be taken.
func (d *Directory) Adopt(ctx context.Context, p Person, dryRun bool) (Adoption, error) {
	if reason := p.check(); reason != "" {
		return Adoption{Outcome: Refused, Reason: reason}, nil
	}
	for {
		item, err := d.accounts.Get(ctx, p.ID)
		here := err == nil
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return Adoption{}, err
		case here && item.Value.Deleted:
			return deletedHere, nil
		case here && !item.Value.untouched():
			return Adoption{Outcome: Present}, nil
		case !here:
			switch _, err := d.departed.Get(ctx, p.ID); {
			case err == nil:
				return deletedHere, nil
			case !errors.Is(err, ErrNotFound):
				return Adoption{}, err
			}
		}
		a, left, err := d.adopted(ctx, p, item.Value)
		if err != nil {
			return Adoption{}, err
		}
		done := Adoption{Outcome: Taken, Left: left}
		switch lost := len(a.Identities) == 0 && len(p.Identities) > 0; {
		case here && (lost || a.Adopted == item.Value.Adopted):
			return Adoption{Outcome: Present}, nil
		case lost:
			return Adoption{Outcome: Refused, Reason: strings.Join(left, "; ")}, nil
		case here:
			done.Outcome = Updated
		}
		if dryRun {
			return done, nil
		}
		if here {
			item.Value = a
			_, err = d.accounts.Replace(ctx, item)
		} else {
			_, err = d.accounts.Insert(ctx, p.ID, a)
		}
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) || errors.Is(err, ErrNotFound) {
			continue // another process takes them too, or somebody has just come by one of the identities
		}
		d.wrote(p.ID)
		if errors.Is(err, store.ErrInvalid) {
			return Adoption{Outcome: Refused, Reason: "the account would be larger than any can be"}, nil
		}
		if err != nil {
			return Adoption{}, err
		}
		return done, nil
	}
}

var deletedHere = Adoption{Outcome: Refused, Reason: "the account was deleted here after it had been taken over"}

// check says what makes a person impossible as an account; what of them can be left out is no
// matter here.
func (p Person) check() string {
	switch {
	case !personID.MatchString(p.ID):
		return "the id has characters that no id may have, or is too long"
	case len(p.URI) > maxAccountURI || !utf8.ValidString(p.URI):
		return "the URI is too long"
	}
	return ""
}

// adopted makes the account of a person. before is the one that was made of them at an
// earlier time, or empty.
func (d *Directory) adopted(ctx context.Context, p Person, before Account) (a Account, left []string, err error) {
	a = Account{
		ID: p.ID, URI: p.URI, Name: p.name(),
		Identities: map[string]Identity{}, Merged: []string{},
		Created: p.Created.UTC().Truncate(time.Millisecond), LastUsed: p.LastUsed.UTC().Truncate(time.Millisecond),
	}
	if a.URI != "" && !strings.HasSuffix(a.URI, "/"+a.ID) {
		// It is that of somebody else, or would be some day. With the id at its end none is.
		left = append(left, fmt.Sprintf("the URI %s does not end with the id; another one is made", a.URI))
		a.URI = ""
	}
	if a.URI == "" {
		a.URI = d.baseURL + "users/" + a.ID
	}
	// What is not known must not change from one time to the next.
	for _, other := range []time.Time{before.Created, a.LastUsed, d.now()} {
		if a.Created.IsZero() {
			a.Created = other
		}
	}
	for _, other := range []time.Time{before.LastUsed, a.Created} {
		if a.LastUsed.IsZero() {
			a.LastUsed = other
		}
	}
	for _, provider := range slices.Sorted(maps.Keys(p.Identities)) {
		profile := p.profile(provider)
		if !utf8.ValidString(provider) || profile.check() != nil {
			left = append(left, fmt.Sprintf("the identity at %.64q has no usable id", provider))
			continue
		}
		owner, err := d.Owner(ctx, provider, profile.ID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return a, nil, err
		}
		free, winner := err != nil, p.Contested[provider]
		switch {
		case owner.ID == p.ID, free && winner == "":
			a.Identities[provider] = profile.identity()
		case free, owner.ID == winner:
			left = append(left, fmt.Sprintf("%s:%s is also that of %s, who has it from now on", provider, profile.ID, winner))
		default:
			left = append(left, fmt.Sprintf("%s:%s belongs to account %s here", provider, profile.ID, owner.ID))
		}
	}
	seen := map[string]bool{a.URI: true}
	for _, uri := range p.Merged {
		if seen[uri] {
			continue
		}
		seen[uri] = true
		if uri == "" || len(uri) > maxAccountURI || !utf8.ValidString(uri) {
			left = append(left, "a merged URI is empty or too long")
			continue
		}
		other, err := d.byURI(ctx, uri)
		switch {
		case errors.Is(err, ErrNotFound):
			a.Merged = append(a.Merged, uri)
		case err != nil:
			return a, nil, err
		default:
			left = append(left, fmt.Sprintf("the merged URI %s is that of account %s", uri, other.ID))
		}
	}
	a.Adopted = a.digest()
	return a, left, nil
}

// byURI returns the live account whose own URI it is, or ErrNotFound. It counts on that a URI
// ends with the id.
func (d *Directory) byURI(ctx context.Context, uri string) (Account, error) {
	i := strings.LastIndexByte(uri, '/')
	if i < 0 || !personID.MatchString(uri[i+1:]) {
		return Account{}, ErrNotFound
	}
	item, err := d.accounts.Get(ctx, uri[i+1:])
	if a := item.Value; err == nil && (a.Deleted || a.MergedInto != "" || a.URI != uri) {
		err = ErrNotFound
	}
	return item.Value, err
}

func (p Person) profile(provider string) Profile {
	i := p.Identities[provider]
	return Profile{Provider: provider, ID: i.ID, URI: i.URI, Name: i.Name, Username: i.Username}
}

// name is how the account is called: as the person is, else as one of their identities says.
func (p Person) name() string {
	if name := displayed(p.Name); name != "" {
		return name
	}
	inOrder := slices.Sorted(maps.Keys(p.Identities))
	for _, provider := range inOrder {
		if name := displayed(p.Identities[provider].Name); name != "" {
			return name
		}
	}
	for _, provider := range inOrder {
		if profile := p.profile(provider); profile.check() == nil {
			return profile.accountName()
		}
	}
	return p.ID
}

// digest is the account in short, but for the digest itself.
func (a Account) digest() string {
	a.Adopted = ""
	text, err := json.Marshal(a)
	if err != nil {
		return "" // then it is none that an account can have, and the account counts as touched
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// untouched tells that the account is just as it was taken over.
func (a Account) untouched() bool { return a.Adopted != "" && a.Adopted == a.digest() }

// depart notes that an account that was taken over is deleted, before it is: where it came
// from it may still be. Only the id is kept.
func (d *Directory) depart(ctx context.Context, id string) error {
	item, err := d.accounts.Get(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && item.Value.Adopted == "" {
		return nil
	}
	if err == nil {
		_, err = d.departed.Insert(ctx, id, departed{})
	}
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
}

// departed stands for somebody who is not to be taken over again.
type departed struct{}
