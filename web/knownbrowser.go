package web

import (
	"context"
	"net/http"
	"slices"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"login-server/credential"
	"login-server/geo"
	"login-server/identity"
	"login-server/session"
)

const (
	// newcomer is how long an account is so new that every browser and country would be.
	newcomer = 15 * time.Minute
)

// arrival is where a sign-in comes from, and what of it is new for the account.
type arrival struct {
	device string
	place  geo.Place
	// newBrowser: this one has not signed in to the account in the last 400 days, or has lost
	// its cookies. newCountry: of the countries that the history knows of the last 90 days
	// this is none. Of an account that was made just now nothing is new.
	newBrowser, newCountry bool
}

// bind signs the browser in to an account. Every sign-in, of whatever strategy, comes
// through here once nothing is missing any more.
func (s *Server) bind(w http.ResponseWriter, r *http.Request, v session.Visit, account identity.Account, d destination, p proof) (session.Session, error) {
	from, err := s.rememberBrowser(w, r, account)
	if err != nil {
		return session.Session{}, err
	}
	began, err := s.Sessions.SignIn(r.Context(), w, v, s.loginOf(r, account.ID, from, d, p))
	if err == nil && (from.newBrowser || from.newCountry) {
		s.tellSignIn(r.Context(), account, began)
	}
	return began, err
}

// bindMore is bind for who proves one more identity while they are signed in: their session
// gets another secret, and stays what it was otherwise. Whoever finds an open browser could
// link an identity of their own: that proves nothing of whose account it is, and no second factor.
// Who proves one that is theirs already has signed in once more, with what they have given now.
func (s *Server) bindMore(w http.ResponseWriter, r *http.Request, v visitor, account identity.Account, d destination, p proof) (session.Session, error) {
	from, err := s.rememberBrowser(w, r, account)
	if err != nil {
		return session.Session{}, err
	}
	if own := v.account.Identities[p.profile.Provider]; own.ID == p.profile.ID {
		return s.Sessions.SignIn(r.Context(), w, v.Visit, s.loginOf(r, account.ID, from, d, p))
	}
	l := s.loginOf(r, account.ID, from, d, p.more(v.Session))
	l.AuthTime = v.Session.AuthTime
	if !slices.Contains(p.methods, session.MethodMFA) {
		l.Elevated = v.Session.Elevated
	}
	return s.Sessions.SignIn(r.Context(), w, v.Visit, l)
}

// rememberBrowser notes, in the browser, that it signs in to an account, and tells what
// is new about that. It is to be called before the sign-in is in the history.
func (s *Server) rememberBrowser(w http.ResponseWriter, r *http.Request, account identity.Account) (arrival, error) {
	ids, err := s.Users.IDs(r.Context(), account)
	if err != nil {
		return arrival{}, err
	}
	b := s.browserOf(w, r)
	from := arrival{device: b.ID, place: s.Places.Of(clientAddress(r), "en")}
	if s.Clock.Now().Sub(account.Created) >= newcomer {
		from.newBrowser = !b.Known(ids...)
		if from.newCountry, err = s.newCountry(r.Context(), from.place.Country, ids); err != nil {
			return from, err
		}
	}
	b.SignedIn(account.ID)
	return from, s.Sessions.SaveBrowser(w, b)
}

// newCountry tells whether nobody has signed in to the accounts from a country before. As
// long as no country at all is known of them, which is so when GEOIP_DB was set a moment
// ago, none is new.
func (s *Server) newCountry(ctx context.Context, country string, ids []string) (bool, error) {
	if country == "" {
		return false, nil
	}
	there, anywhere, err := s.Sessions.SignedInFrom(ctx, country, ids...)
	return anywhere && !there, err
}

// browserOf tells what the browser is known for. What the answer sets already counts more
// than what the request has brought.
func (s *Server) browserOf(w http.ResponseWriter, r *http.Request) session.Browser {
	for _, line := range w.Header()["Set-Cookie"] {
		if set, err := http.ParseSetCookie(line); err == nil && set.Name == s.Sessions.BrowserCookie() {
			r = r.Clone(r.Context())
			r.Header.Set("Cookie", set.Name+"="+set.Value)
		}
	}
	return s.Sessions.Browser(r)
}

// trustBrowser has the browser spared the second factor of an account for some time. It
// is for who has just given that factor here, and to be called before the answer is written.
func (s *Server) trustBrowser(w http.ResponseWriter, r *http.Request, account identity.Account, life time.Duration) error {
	b := s.browserOf(w, r)
	b.Trust(account.ID, life)
	return s.Sessions.SaveBrowser(w, b)
}

// trusted tells whether the browser need not give the second factor of somebody's account.
func (s *Server) trusted(r *http.Request, a identity.Account, c credential.Credential) (bool, error) {
	ids, err := s.Users.IDs(r.Context(), a)
	if err != nil {
		return false, err
	}
	return s.Sessions.Browser(r).Trusted(c.Changed, ids...), nil
}

// noteRefusal adds to an account's history that somebody was not let in: with one of the
// session's results, and a stable code of why. The caller is certain of the account, and
// the person is answered the same whether this succeeds or not.
func (s *Server) noteRefusal(w http.ResponseWriter, r *http.Request, account identity.Account, d destination, p proof, result, reason string) {
	from := arrival{place: s.Places.Of(clientAddress(r), "en")}
	if b := s.Sessions.Browser(r); !b.New {
		from.device = b.ID
	}
	l := s.loginOf(r, account.ID, from, d, p)
	err := s.Sessions.Note(r.Context(), session.SignIn{
		UserID: l.UserID, Provider: l.Provider, Methods: l.Methods, Application: l.Application,
		Address: l.Address, UserAgent: l.UserAgent, Country: l.Country, City: l.City, Device: l.Device,
		Result: result, Reason: reason,
	})
	if err != nil {
		s.Log.Warn("a refused sign-in is not in the history", "request_id", requestID(w), "user", account.ID, "err", err)
	}
}

// refuseDisabled notes that somebody was turned down whose account is shut. They have proved
// who they are, so it is certain whose history it belongs to.
func (s *Server) refuseDisabled(w http.ResponseWriter, r *http.Request, d destination, p proof) {
	owner, err := s.Users.Owner(r.Context(), p.profile.Provider, p.profile.ID)
	if err == nil && owner.Disabled {
		s.noteRefusal(w, r, owner, d, p, session.ResultRefused, "disabled")
	}
}

// place says in words where something came from: "Lyon, France".
func (s *Server) place(lang, country, city string) string {
	if country == "" {
		return city
	}
	name := country
	if region, err := language.ParseRegion(country); err == nil {
		if regions := display.Regions(language.Make(lang)); regions != nil {
			name = regions.Name(region)
		}
	}
	if city == "" {
		return name
	}
	return city + ", " + name
}
