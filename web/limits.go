package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"login-server/config"
	"login-server/oidc"
	"login-server/session"
	"login-server/token"
)

// limits are the rate limits of attempts to sign in: with credentials by address, and
// by account name at a provider that is elsewhere, from wherever it is tried; on a provider's
// pages by address.
// Clients that register themselves are counted by address, too.
//
// They count in the time of the machine, or of Redis: the limiter has no clock of its own.
type limits struct {
	address, account, departures, registrations *limiter.Limiter
	// shared is where all nodes count together; nil: each counts for itself.
	shared *sharedCounts
	// names is the key that names of accounts are hashed with.
	names []byte
}

// departuresPerAttempt is how many times as often as with a password somebody may set
// out to a provider's pages: nothing can be guessed there, but each time is a write.
const departuresPerAttempt = 6

// newLimits returns the limits of cfg, counted in shared, which may be nil.
func newLimits(cfg *config.Config, shared *sharedCounts) limits {
	rate := limiter.Rate{Period: cfg.RateLimitWindow, Limit: int64(cfg.RateLimitMax)}
	store := func(prefix string) limiter.Store {
		own := memory.NewStoreWithOptions(limiter.StoreOptions{Prefix: prefix, CleanUpInterval: time.Minute})
		if shared == nil {
			return own
		}
		return &sharedStore{sharedCounts: shared, prefix: prefix, own: own}
	}
	departures := limiter.Rate{Period: rate.Period, Limit: rate.Limit * departuresPerAttempt}
	registrations := rate
	if cfg.ClientRegistration == oidc.RegistrationToken {
		registrations = departures // nobody can guess the token
	}
	return limits{
		address: limiter.New(store("address"), rate), account: limiter.New(store("account"), rate),
		departures: limiter.New(store("departures"), departures), registrations: limiter.New(store("registrations"), registrations),
		shared: shared,
		names:  token.DeriveKey(cfg.SessionSecrets[0], "rate limits"),
	}
}

// credentials counts an attempt, or refuses it with the time to wait.
func (l limits) credentials(ctx context.Context, address, provider, username string) error {
	// The name is hashed: it may be long, and it may be a password typed into the
	// wrong field. The hash has a key: who can read Redis must not be able to guess.
	mac := hmac.New(sha256.New, l.names)
	mac.Write([]byte(provider + "\x00" + spelling(username)))
	if err := count(ctx, l.address, session.Network(address)); err != nil {
		return err
	}
	return count(ctx, l.account, hex.EncodeToString(mac.Sum(nil)[:16]))
}

// here counts an attempt at an account that lives here, by address alone. What is tried
// at one account from many addresses is for package backoff: a limit by its name would let
// anybody keep the owner out.
func (l limits) here(ctx context.Context, address string) error {
	return count(ctx, l.address, session.Network(address))
}

// departure counts a login that sets out to a provider's pages, or refuses it.
func (l limits) departure(ctx context.Context, address string) error {
	return count(ctx, l.departures, session.Network(address))
}

// code counts a code or link that was sent to somebody and comes back, by address.
func (l limits) code(r *http.Request) error {
	return count(r.Context(), l.departures, "code "+session.Network(clientAddress(r)))
}

// limitRegistrations counts clients that are registered from an address, before anything
// of the request is read.
func (s *Server) limitRegistrations(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := count(r.Context(), s.limits.registrations, session.Network(clientAddress(r)))
		if e, ok := errors.AsType[*Error](err); ok {
			w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"error":"temporarily_unavailable","error_description":"Too many clients are registered from this address."}`))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// limitPublic counts what clients that have no secret leave behind, by address.
func (s *Server) limitPublic(r *http.Request) error {
	err := count(r.Context(), s.limits.departures, "client "+session.Network(clientAddress(r)))
	if errors.As(err, new(*Error)) {
		return &oidc.Error{Code: "temporarily_unavailable", Description: "There are too many requests from this address.", Status: http.StatusTooManyRequests}
	}
	return err
}

// count counts one for key, or refuses it with the time to wait.
func count(ctx context.Context, limiter *limiter.Limiter, key string) error {
	state, err := limiter.Get(ctx, key)
	if err != nil {
		return err
	}
	if state.Reached {
		wait := int(max(1, state.Reset-time.Now().Unix()))
		return &Error{Status: http.StatusTooManyRequests, Code: "rate_limited", Message: "Too many attempts.", RetryAfter: wait}
	}
	return nil
}

// spelling is what is counted of a name: directories take many spellings for one
// (RFC 4518; some ignore accents), so whatever they may ignore is left out. That two
// names share a limit now and then is better than that one name has several.
func spelling(username string) string {
	seen := strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) || r == '\u1806' || r == '\ufffc' {
			return -1
		}
		return r
	}, norm.NFKD.String(truncate(username, 1024))) // longer ones nobody has
	return strings.Join(strings.Fields(cases.Fold().String(seen)), " ")
}
