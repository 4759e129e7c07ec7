package legacy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/config"
	"login-server/identity"
)

// person is one document of users.
type person struct {
	identity.Person
	key bson.RawValue // _id as it stands there
	// unusable says why nobody can be made of the document.
	unusable string
	// left tells what of the document cannot be taken, a sentence each.
	left []string
}

// maxDocument is how long a document of users may be, in bytes: a page of them is in memory
// at a time. What people have is a thousandth of that.
const maxDocument = 1 << 20

// parse reads a document of users, as lenient as it can be without guessing who somebody is.
func parse(doc bson.Raw) person {
	p := person{key: doc.Lookup("_id")}
	p.key.Value = bytes.Clone(p.key.Value) // doc is the cursor's
	if len(doc) > maxDocument {
		p.ID, p.unusable = shownID(p.key), "the document is larger than any account can be"
		p.key = bson.RawValue{}
		return p
	}
	switch p.key.Type {
	case bson.TypeString:
		p.ID = p.key.StringValue()
	case bson.TypeObjectID:
		id := p.key.ObjectID()
		p.ID, p.Created = hex.EncodeToString(id[:]), id.Timestamp().UTC()
	default:
		p.ID = shownID(p.key)
		p.unusable = "the _id is neither a text nor an ObjectId"
		return p
	}
	if missing(doc.Lookup("uri")) && missing(doc.Lookup("identities")) {
		// Other programs have a collection of this name, too. In place its documents would be lost.
		p.unusable = "has neither a URI nor identities, as every user of the older server has"
		return p
	}
	if uri, ok := p.text(doc.Lookup("uri"), "the URI"); ok {
		if err := config.SafeURI(uri); err != nil {
			p.leave("the URI %s; another one is made", err)
		} else {
			p.URI = uri
		}
	}
	p.Name, _ = p.text(doc.Lookup("name"), "the name")
	p.readIdentities(doc.Lookup("identities"))
	p.readMerged(doc.Lookup("merged"))
	return p
}

// shownID names somebody by an _id that cannot be an id here.
func shownID(key bson.RawValue) string {
	text := key.String()
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}

func (p *person) leave(format string, args ...any) {
	p.left = append(p.left, fmt.Sprintf(format, args...))
}

// missing tells that there is nothing: no field, or null.
func missing(v bson.RawValue) bool {
	return v.Type == 0 || v.Type == bson.TypeNull || v.Type == bson.TypeUndefined
}

// text returns a text that is not empty; what else there may be is left.
func (p *person) text(v bson.RawValue, what string) (string, bool) {
	text, ok := v.StringValueOK()
	if !ok && !missing(v) {
		p.leave("%s is no text", what)
	}
	return text, text != ""
}

func (p *person) readIdentities(v bson.RawValue) {
	if missing(v) {
		return
	}
	identities, ok := v.DocumentOK()
	if !ok {
		p.leave("the identities are not what they should be")
		return
	}
	elements, err := identities.Elements()
	if err != nil {
		p.leave("the identities cannot be read")
		return
	}
	for _, e := range elements {
		provider, v := e.Key(), e.Value()
		if missing(v) {
			continue // it was disconnected
		}
		fields, ok := v.DocumentOK()
		if !ok {
			p.leave("the identity at %.64q is not what it should be", provider)
			continue
		}
		id, ok := identityID(fields.Lookup("id"))
		if !ok {
			p.leave("the identity at %.64q has no usable id", provider)
			continue
		}
		i := identity.Identity{ID: id}
		i.URI, _ = p.text(fields.Lookup("uri"), fmt.Sprintf("the URI of %.64q", provider))
		i.Name, _ = p.text(fields.Lookup("name"), fmt.Sprintf("the name of %.64q", provider))
		i.Username, _ = p.text(fields.Lookup("username"), fmt.Sprintf("the user name of %.64q", provider))
		if i.URI != "" && config.SafeURI(i.URI) != nil {
			p.leave("the URI of %.64q cannot be used", provider)
			i.URI = ""
		}
		if p.Identities == nil {
			p.Identities = map[string]identity.Identity{}
		}
		p.Identities[provider] = i
	}
}

// maxExact is where doubles end that no other whole number could have been meant by: an id
// beyond it may be somebody else's.
const maxExact = 1 << 53

// identityID is the id as providers here give it: numbers are decimal.
func identityID(v bson.RawValue) (string, bool) {
	switch v.Type {
	case bson.TypeString:
		id := v.StringValue()
		return id, id != ""
	case bson.TypeInt32, bson.TypeInt64:
		return strconv.FormatInt(v.AsInt64(), 10), true
	case bson.TypeDouble:
		if f := v.Double(); f == math.Trunc(f) && math.Abs(f) < maxExact {
			return strconv.FormatInt(int64(f), 10), true
		}
	}
	return "", false
}

func (p *person) readMerged(v bson.RawValue) {
	if missing(v) {
		return
	}
	list, ok := v.ArrayOK()
	if !ok {
		p.leave("the merged URIs are no list")
		return
	}
	values, err := list.Values()
	if err != nil {
		p.leave("the merged URIs cannot be read")
		return
	}
	for _, v := range values {
		if missing(v) {
			continue
		}
		if uri, ok := p.text(v, "a merged URI"); ok {
			if err := config.SafeURI(uri); err != nil {
				p.leave("a merged URI %s", err)
				continue
			}
			p.Merged = append(p.Merged, uri)
		}
	}
}

// use adds a document of usages.
func (p *person) use(doc bson.Raw) {
	for _, field := range []struct {
		name string
		to   *time.Time
	}{{"created", &p.Created}, {"lastUsed", &p.LastUsed}} {
		v := doc.Lookup(field.name)
		if at, ok := date(v); ok {
			*field.to = at
		} else if !missing(v) {
			p.leave("the date %s of its usage cannot be read", field.name)
		}
	}
}

// date reads a time in one of the ways in which versions have written it: ISO text, date, or
// milliseconds since 1970.
func date(v bson.RawValue) (time.Time, bool) {
	var at time.Time
	switch v.Type {
	case bson.TypeString:
		var err error
		if at, err = time.Parse(time.RFC3339Nano, v.StringValue()); err != nil {
			if at, err = time.Parse(time.DateOnly, v.StringValue()); err != nil {
				return at, false
			}
		}
	case bson.TypeDateTime:
		at = time.UnixMilli(v.DateTime())
	case bson.TypeInt64:
		at = time.UnixMilli(v.Int64())
	case bson.TypeDouble:
		if f := v.Double(); math.Abs(f) <= maxExact { // false for NaN
			at = time.UnixMilli(int64(f))
		}
	default:
		return at, false
	}
	at = at.UTC()
	// There was no such server before; JSON ends with the year 9999.
	return at, at.Year() >= 2000 && at.Year() <= 9999
}
