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

	"login-server/config"
)

// limits are the rate limits of attempts to sign in with credentials: by address,
// and by account name at a provider, from wherever it is tried.
type limits struct {
	address, account *limiter.Limiter
	now              func() time.Time
}

func newLimits(cfg *config.Config, now func() time.Time) limits {
	rate := limiter.Rate{Period: cfg.RateLimitWindow, Limit: int64(cfg.RateLimitMax)}
	store := func(prefix string) limiter.Store {
		return memory.NewStoreWithOptions(limiter.StoreOptions{Prefix: prefix, CleanUpInterval: time.Minute})
	}
	return limits{address: limiter.New(store("address"), rate), account: limiter.New(store("account"), rate), now: now}
}

// credentials counts an attempt, or refuses it with the time to wait.
func (l limits) credentials(ctx context.Context, address, provider, username string) error {
	// The name is hashed: it may be long, and it may be a password typed into the wrong field.
	sum := sha256.Sum256([]byte(provider + "\x00" + strings.ToLower(username)))
	for _, check := range []struct {
		limiter *limiter.Limiter
		key     string
	}{{l.address, clientNetwork(address)}, {l.account, hex.EncodeToString(sum[:16])}} {
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
