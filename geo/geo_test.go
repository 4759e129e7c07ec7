package geo_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"login-server/geo"
)

var built = time.Date(2026, 2, 24, 0, 0, 0, 0, time.UTC)

// place is a record as City databases have them.
func place(code string, country, city map[string]string) mmdbtype.Map {
	names := func(in map[string]string) mmdbtype.Map {
		m := mmdbtype.Map{}
		for lang, name := range in {
			m[mmdbtype.String(lang)] = mmdbtype.String(name)
		}
		return m
	}
	m := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code), "names": names(country)}}
	if city != nil {
		m["city"] = mmdbtype.Map{"names": names(city)}
	}
	return m
}

// write makes a database of a type with these networks.
func write(t *testing.T, path, kind string, networks map[string]mmdbtype.DataType) {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: kind, BuildEpoch: built.Unix(), RecordSize: 24, IncludeReservedNetworks: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for network, record := range networks {
		_, prefix, err := net.ParseCIDR(network)
		if err == nil {
			err = w.Insert(prefix, record)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	goettingen = place("DE", map[string]string{"en": "Germany", "de": "Deutschland"}, map[string]string{"en": "Göttingen"})
	lyon       = place("FR", map[string]string{"en": "France", "de": "Frankreich", "pt-BR": "França"}, map[string]string{"en": "Lyon", "de": "Lyon"})
	norway     = place("NO", map[string]string{"en": "Norway"}, nil)
)

func TestOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "city.mmdb")
	write(t, path, "GeoLite2-City", map[string]mmdbtype.DataType{
		"134.76.0.0/16": goettingen, "2001:638:60f::/48": goettingen, "80.10.0.0/16": lyon, "193.156.0.0/16": norway,
		"10.0.0.0/8": lyon, "127.0.0.0/8": lyon, "fd00::/8": lyon, "fe80::/10": lyon,
		"198.51.100.0/24": mmdbtype.String("no record at all"),
	})
	places, err := geo.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		address, lang string
		want          geo.Place
	}{
		{"134.76.12.34", "en", geo.Place{Country: "DE", CountryName: "Germany", City: "Göttingen"}},
		{"134.76.12.34", "de", geo.Place{Country: "DE", CountryName: "Deutschland", City: "Göttingen"}},
		{"134.76.12.34", "de-AT", geo.Place{Country: "DE", CountryName: "Deutschland", City: "Göttingen"}},
		{"80.10.1.1", "pt-BR", geo.Place{Country: "FR", CountryName: "França", City: "Lyon"}},
		{"80.10.1.1", "xx", geo.Place{Country: "FR", CountryName: "France", City: "Lyon"}},
		{"80.10.1.1", "", geo.Place{Country: "FR", CountryName: "France", City: "Lyon"}},
		{"::ffff:134.76.12.34", "en", geo.Place{Country: "DE", CountryName: "Germany", City: "Göttingen"}},
		{"2001:638:60f::1", "en", geo.Place{Country: "DE", CountryName: "Germany", City: "Göttingen"}},
		{"193.156.1.1", "de", geo.Place{Country: "NO", CountryName: "Norway"}},
		// Not known, not on the internet, damaged, or no address.
		{"192.0.2.1", "en", geo.Place{}},
		{"10.1.2.3", "en", geo.Place{}},
		{"127.0.0.1", "en", geo.Place{}},
		{"fd00::1", "en", geo.Place{}},
		{"fe80::1%eth0", "en", geo.Place{}},
		{"198.51.100.7", "en", geo.Place{}},
		{"localhost", "en", geo.Place{}},
		{"", "en", geo.Place{}},
	} {
		if got := places.Of(tc.address, tc.lang); got != tc.want {
			t.Errorf("Of(%q, %q): got %+v, want %+v", tc.address, tc.lang, got, tc.want)
		}
	}
	if got, want := places.Info(), (geo.Info{Type: "GeoLite2-City", Built: built}); got != want {
		t.Errorf("Info: got %+v, want %+v", got, want)
	}
}

func TestNoDatabase(t *testing.T) {
	var places *geo.Places
	if got := places.Of("134.76.12.34", "en"); got != (geo.Place{}) {
		t.Errorf("got %+v", got)
	}
	if got := places.Info(); got != (geo.Info{}) {
		t.Errorf("Info: %+v", got)
	}
	if err := places.Reload(); err != nil {
		t.Errorf("Reload: %v", err)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	text, asn := filepath.Join(dir, "text.mmdb"), filepath.Join(dir, "asn.mmdb")
	if err := os.WriteFile(text, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, asn, "GeoLite2-ASN", nil)
	for path, want := range map[string]error{filepath.Join(dir, "missing"): fs.ErrNotExist, text: geo.ErrFormat, asn: geo.ErrFormat} {
		if p, err := geo.Open(path); !errors.Is(err, want) || p != nil {
			t.Errorf("%s: got %v, %v; want %v", filepath.Base(path), p, err, want)
		}
	}
}

// TestReload replaces the file while others look up, also by one that cannot be used.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	write(t, path, "GeoLite2-Country", map[string]mmdbtype.DataType{"134.76.0.0/16": goettingen})
	places, err := geo.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := places.Of("134.76.12.34", "en").Country; got != "DE" && got != "FR" {
					t.Errorf("while it is replaced: %q", got)
					return
				}
			}
		})
	}
	write(t, path, "GeoLite2-Country", map[string]mmdbtype.DataType{"134.76.0.0/16": lyon})
	if err := places.Reload(); err != nil {
		t.Error(err)
	}
	if got := places.Of("134.76.12.34", "en").Country; got != "FR" {
		t.Errorf("after a new file: %q, want FR", got)
	}
	if err := os.WriteFile(path, []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := places.Reload(); !errors.Is(err, geo.ErrFormat) {
		t.Errorf("a file that is none: %v", err)
	}
	if got := places.Of("134.76.12.34", "en").Country; got != "FR" {
		t.Errorf("after a file that is none: %q, want FR as before", got)
	}
	close(stop)
	wg.Wait()
}
