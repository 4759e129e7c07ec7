package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"login-server/store"
)

// What a provider gave to act there in a person's name (Profile.Upstream) opens
// somebody's account elsewhere. It is dropped after the login unless an operator
// wants applications to have it. Then it is sealed before it is stored, moves with
// its identity, and is opened for one purpose: the tokens of the account. User and
// Identity have no place for it, so nothing that shows people can show it.

// maxUpstream is how many bytes Profile.Upstream may have: every token carries it.
const maxUpstream = 16 << 10

// Sealer encrypts values, so that only this server can read them.
type Sealer interface {
	// Seal returns value, as JSON, encrypted.
	Seal(value any) (string, error)
	// Open decrypts what Seal has made, and fails for everything else.
	Open(sealed string, value any) error
}

// upstream is what is sealed. It names its identity: beside another one it is worth
// nothing.
type upstream struct {
	Provider string                     `json:"provider"`
	ID       string                     `json:"id"`
	Fields   map[string]json.RawMessage `json:"fields"`
}

// upstreamFields reads Profile.Upstream; nil when there is nothing in it. Tokens show
// the fields beside those of the identity, and some readers of JSON do not mind the
// case of names, so none of them may be called like one of those in any case.
func (p Profile) upstreamFields() (map[string]json.RawMessage, error) {
	if p.Upstream == "" {
		return nil, nil
	}
	// No error may quote it.
	bad := func(why string) error {
		return fmt.Errorf("%w: provider %.64q hands on %s", ErrProfile, p.Provider, why)
	}
	if len(p.Upstream) > maxUpstream {
		return nil, bad(fmt.Sprintf("more than %d bytes", maxUpstream))
	}
	var fields map[string]json.RawMessage
	if !utf8.ValidString(p.Upstream) || json.Unmarshal([]byte(p.Upstream), &fields) != nil || fields == nil {
		return nil, bad("something else than a JSON object")
	}
	for name := range fields {
		for _, own := range []string{"id", "uri", "name", "username"} {
			if strings.EqualFold(name, own) {
				return nil, bad("a field called " + own)
			}
		}
	}
	return fields, nil
}

// seal returns what is kept of a profile's Upstream; empty when that is nothing.
func (d *Directory) seal(p Profile) (string, error) {
	fields, err := p.upstreamFields()
	if err != nil || len(fields) == 0 || d.sealer == nil || !d.exposes(p.Provider) {
		return "", err
	}
	return d.sealer.Seal(upstream{Provider: p.Provider, ID: p.ID, Fields: fields})
}

// keepUpstream notes what came with a sign-in in place of what came before; empty is
// nothing.
func (a *Account) keepUpstream(provider, sealed string) {
	if sealed == "" {
		delete(a.Upstream, provider)
		return
	}
	if a.Upstream == nil {
		a.Upstream = map[string]string{}
	}
	a.Upstream[provider] = sealed
}

// renew keeps what came when a person who is signed in to another account has proved
// the identity of a profile: if the two are merged, it comes along.
func (d *Directory) renew(ctx context.Context, id string, p Profile, sealed string) (Account, error) {
	return d.update(ctx, id, func(a *Account) error {
		if !a.has(p.Provider, p.ID) {
			return ErrNotLinked
		}
		a.keepUpstream(p.Provider, sealed)
		return nil
	})
}

// exposed opens what applications are given of an account, by provider. What cannot
// be opened any more, because SESSION_SECRET was replaced, is left out until the next
// sign-in brings it again.
func (d *Directory) exposed(a Account) map[string]map[string]json.RawMessage {
	if len(a.Upstream) == 0 || d.sealer == nil {
		return nil
	}
	var all map[string]map[string]json.RawMessage
	for provider, sealed := range a.Upstream {
		var u upstream
		if !d.exposes(provider) || d.sealer.Open(sealed, &u) != nil || u.Provider != provider || !a.has(provider, u.ID) {
			continue
		}
		if all == nil {
			all = map[string]map[string]json.RawMessage{}
		}
		all[provider] = u.Fields
	}
	return all
}

// Exposed lists, in alphabetical order, the providers at which applications can act in
// the person's name, by what they find in the account's tokens.
func (d *Directory) Exposed(a Account) []string {
	return slices.Sorted(maps.Keys(d.exposed(a)))
}

// Claims returns what the tokens of an account say of the person, as JSON, when that
// is more than its User: what providers gave to act in the person's name stands in
// the identities. It is nil for all others, whose tokens carry the User. It is for
// tokens only.
func (d *Directory) Claims(a Account) ([]byte, error) {
	exposed := d.exposed(a)
	if exposed == nil {
		return nil, nil
	}
	user := a.User()
	identities := make(map[string]any, len(user.Identities))
	for provider, own := range user.Identities {
		if fields, ok := exposed[provider]; ok {
			identities[provider] = own.with(fields)
		} else {
			identities[provider] = own
		}
	}
	return json.Marshal(struct {
		User
		Identities map[string]any `json:"identities"` // in place of the User's
	}{user, identities})
}

// with returns the identity with more fields, none of which takes the place of its own.
func (i Identity) with(fields map[string]json.RawMessage) map[string]any {
	all := make(map[string]any, len(fields)+4)
	for name, value := range fields {
		all[name] = value
	}
	all["id"] = i.ID
	for name, value := range map[string]string{"uri": i.URI, "name": i.Name, "username": i.Username} {
		if value != "" {
			all[name] = value
		}
	}
	return all
}

// forgetUpstream drops what is not handed on any more.
func (d *Directory) forgetUpstream(ctx context.Context, item store.Item[Account]) (bool, error) {
	unwanted := func(provider, _ string) bool { return !d.exposes(provider) }
	left := maps.Clone(item.Value.Upstream)
	maps.DeleteFunc(left, unwanted)
	if d.sealer == nil || len(left) == len(item.Value.Upstream) {
		return false, nil
	}
	_, err := d.update(ctx, item.ID, func(a *Account) error {
		maps.DeleteFunc(a.Upstream, unwanted)
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
