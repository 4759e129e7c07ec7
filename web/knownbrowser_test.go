package web_test

import (
	"bytes"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"login-server/session"
)

// withPlaces gives the server a database in which 198.18.0.0/16 is in Lyon and 198.19.0.0/16
// in Norway, and has it believe what X-Forwarded-For says.
func withPlaces(t *testing.T) option {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for network, place := range map[string][2]mmdbtype.String{"198.18.0.0/16": {"FR", "Lyon"}, "198.19.0.0/16": {"NO", ""}} {
		_, prefix, err := net.ParseCIDR(network)
		if err == nil {
			err = w.Insert(prefix, mmdbtype.Map{
				"country": mmdbtype.Map{"iso_code": place[0]}, "city": mmdbtype.Map{"names": mmdbtype.Map{"en": place[1]}},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	path := filepath.Join(t.TempDir(), "places.mmdb")
	if _, err = w.WriteTo(&b); err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(o *options) {
		env("GEOIP_DB", path)(o)
		env("TRUSTED_PROXIES", "127.0.0.1")(o)
	}
}

// history is that of an account, latest first.
func (s *server) history(id string) []session.SignIn {
	s.t.Helper()
	entries, err := s.sessions.History(s.t.Context(), session.HistoryQuery{UserIDs: []string{id}})
	if err != nil {
		s.t.Fatal(err)
	}
	return entries
}

func TestSignInsHaveAPlaceAndABrowser(t *testing.T) {
	s := newServer(t, withPlaces(t))
	b := s.browser()
	b.header.Set("X-Forwarded-For", "198.18.0.7")
	b.open("login")
	if len(b.cookies()) != 1 {
		t.Errorf("a visit alone gives %d cookies, want that of the session", len(b.cookies()))
	}
	b.login("alpha", "ada")
	ada := b.user()
	b.open("sessions").want(200, "198.18.0.7, Lyon, France")
	b.submit("logout").want(302)
	s.clock.Advance(time.Second)
	b.login("alpha", "ada")
	s.clock.Advance(time.Second)
	other := s.browser()
	other.header.Set("X-Forwarded-For", "198.19.0.7")
	other.login("alpha", "ada")

	got := s.history(ada.ID)
	if len(got) != 3 {
		t.Fatalf("%d entries: %+v", len(got), got)
	}
	if got[2].Country != "FR" || got[2].City != "Lyon" || got[0].Country != "NO" || got[0].City != "" {
		t.Errorf("places: %+v", got)
	}
	if got[2].Device == "" || got[1].Device != got[2].Device || got[0].Device == got[1].Device {
		t.Errorf("browsers: %q, %q and %q; want the same twice, then another", got[2].Device, got[1].Device, got[0].Device)
	}
	if x, err := s.sessions.Get(t.Context(), got[0].Session); err != nil || x.UserID != ada.ID || x.Device != got[0].Device {
		t.Errorf("the session of the last: %+v, %v", x, err)
	}
	// The id of a browser is nobody's business but the person's own.
	b.open("sessions")
	if body := b.get("token").body; strings.Contains(body, got[1].Device) {
		t.Error("applications hear of the browser's id")
	}
}

func TestWhatIsNewAboutASignIn(t *testing.T) {
	s := newServer(t, withPlaces(t))
	b := s.browser()
	b.header.Set("X-Forwarded-For", "198.18.0.7")
	b.login("alpha", "ada")
	ada, err := s.users.Get(t.Context(), b.user().ID)
	if err != nil {
		t.Fatal(err)
	}
	want := func(what, address string, b *browser, newBrowser, newCountry bool) {
		t.Helper()
		r := httptest.NewRequest("POST", s.base+"login/alpha", nil)
		r.RemoteAddr = address + ":1234"
		for _, c := range b.cookies() {
			r.AddCookie(c)
		}
		gotBrowser, gotCountry, err := s.running.Load().WhatIsNew(httptest.NewRecorder(), r, ada)
		if err != nil || gotBrowser != newBrowser || gotCountry != newCountry {
			t.Errorf("%s: got %v, %v, %v; want %v, %v", what, gotBrowser, gotCountry, err, newBrowser, newCountry)
		}
	}
	want("of a new account nothing is", "198.19.0.7", s.browser(), false, false)
	s.clock.Advance(time.Hour)
	want("the same as ever", "198.18.9.9", b, false, false)
	want("a new browser", "198.18.0.7", s.browser(), true, false)
	want("a new country", "198.19.0.7", b, false, true)
	want("nowhere", "192.0.2.1", b, false, false)
	s.clock.Advance(91 * 24 * time.Hour)
	want("when no country is remembered", "198.19.0.7", b, false, false)
}

func TestRefusalOfADisabledAccount(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	ada := b.user()
	if _, err := s.users.SetDisabled(t.Context(), ada.ID, true); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Second)
	other := s.browser()
	other.submit("login/alpha", "username", "ada", "password", "wrong").want(302)
	other.submit("login/alpha", "username", "ada", "password", "ada-pw").want(302)
	got := s.history(ada.ID)
	// A wrong password for a name that somebody has typed is nobody's history.
	if len(got) != 2 || got[0].Result != session.ResultRefused || got[0].Reason != "disabled" || got[0].Session != "" || got[0].Device != "" {
		t.Errorf("history: %+v", got)
	}
}
