package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"
	"golang.org/x/text/unicode/norm"

	"login-server/config"
	"login-server/session"
)

// limits are the rate limits of attempts to sign in with credentials: by address,
// and by account name at a provider, from wherever it is tried.
//
// They count in the time of the machine: the limiter has no clock of its own.
type limits struct{ address, account *limiter.Limiter }

func newLimits(cfg *config.Config) limits {
	rate := limiter.Rate{Period: cfg.RateLimitWindow, Limit: int64(cfg.RateLimitMax)}
	store := func(prefix string) limiter.Store {
		return memory.NewStoreWithOptions(limiter.StoreOptions{Prefix: prefix, CleanUpInterval: time.Minute})
	}
	return limits{address: limiter.New(store("address"), rate), account: limiter.New(store("account"), rate)}
}

// credentials counts an attempt, or refuses it with the time to wait.
func (l limits) credentials(ctx context.Context, address, provider, username string) error {
	// Directories take many spellings for one name; so does the limit. The name is
	// hashed: it may be long, and it may be a password typed into the wrong field.
	name := strings.Join(strings.Fields(strings.ToLower(norm.NFKC.String(username))), " ")
	sum := sha256.Sum256([]byte(provider + "\x00" + name))
	for _, check := range []struct {
		limiter *limiter.Limiter
		key     string
	}{{l.address, session.Network(address)}, {l.account, hex.EncodeToString(sum[:16])}} {
		state, err := check.limiter.Get(ctx, check.key)
		if err != nil {
			return err
		}
		if state.Reached {
			wait := int(max(1, state.Reset-time.Now().Unix()))
			return &Error{Status: http.StatusTooManyRequests, Code: "rate_limited", Message: "Too many attempts.", RetryAfter: wait}
		}
	}
	return nil
}
