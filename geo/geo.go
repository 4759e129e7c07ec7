// Package geo tells where an address is, from a file in MaxMind's format (MaxMind DB
// File Format Specification 2.0) with cities or countries. Nobody is asked over the
// network, and without such a file everything is unknown.
package geo

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// ErrFormat: the file is no database of cities or countries.
var ErrFormat = errors.New("is no database of places")

// Place is where an address is, as far as the database knows: no more than a guess, and
// nothing to decide by alone. The zero value is unknown.
type Place struct {
	// Country is the code of ISO 3166-1 with two letters.
	Country string
	// CountryName and City are in the language that was asked for, or in English.
	CountryName string
	City        string
}

// Info tells what the database is.
type Info struct {
	// Type is as its maker calls it: "GeoLite2-City".
	Type  string
	Built time.Time
}

// Places is one database of places. It is safe for concurrent use; nil knows no place.
type Places struct {
	path string
	// current is replaced as a whole. It is in memory rather than mapped: to write over a
	// mapped file ends the program, and that is what a copy to its place does.
	current atomic.Pointer[maxminddb.Reader]
}

// Open reads the database at path. The error wraps that of the file system, or ErrFormat.
func Open(path string) (*Places, error) {
	p := &Places{path: path}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload reads the file again. If it cannot be used, what was in use stays in use.
func (p *Places) Reload() error {
	if p == nil {
		return nil
	}
	data, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !hasPlaces(db.Metadata.DatabaseType) {
		return fmt.Errorf("%w: it is of the type %q", ErrFormat, db.Metadata.DatabaseType)
	}
	p.current.Store(db)
	return nil
}

// hasPlaces tells whether records of a database are laid out as those of cities or
// countries: GeoLite2-City, GeoIP2-Country, GeoIP2-Enterprise, DBIP-City-Lite.
func hasPlaces(databaseType string) bool {
	for _, kind := range []string{"City", "Country", "Enterprise"} {
		if strings.Contains(databaseType, kind) {
			return true
		}
	}
	return false
}

// Info tells what the database is; zero for nil.
func (p *Places) Info() Info {
	if p == nil {
		return Info{}
	}
	m := p.current.Load().Metadata
	return Info{Type: m.DatabaseType, Built: m.BuildTime().UTC()}
}

// record is what is read of a database.
type record struct {
	Country struct {
		Code  string            `maxminddb:"iso_code"`
		Names map[string]string `maxminddb:"names"`
	} `maxminddb:"country"`
	City struct {
		Names map[string]string `maxminddb:"names"`
	} `maxminddb:"city"`
}

// Of tells where an address is, with names in a language (BCP 47). Addresses that are
// not on the internet, and those that the database does not know, are nowhere.
func (p *Places) Of(address, lang string) Place {
	ip, err := netip.ParseAddr(address)
	if p == nil || err != nil {
		return Place{}
	}
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return Place{}
	}
	var r record
	if err := p.current.Load().Lookup(ip).Decode(&r); err != nil {
		return Place{} // a damaged record must not keep anybody from signing in
	}
	return Place{Country: r.Country.Code, CountryName: named(r.Country.Names, lang), City: named(r.City.Names, lang)}
}

// named is a name in a language, in its base language, or in English.
func named(names map[string]string, lang string) string {
	base, _, _ := strings.Cut(lang, "-")
	for _, l := range []string{lang, base, "en"} {
		if name := names[l]; name != "" {
			return name
		}
	}
	return ""
}
