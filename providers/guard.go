package providers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"login-server/config"
	"login-server/identity"
)

// MaxUsername is how many bytes a user name may have.
const MaxUsername = 512

const (
	maxPassword = 1024 // bytes: nobody types more, and each one is hashed or sent on
	maxShown    = 200  // characters of a name and of a reason
)

// guard is the Checker that others see. What cannot be right is refused before the
// strategy is asked: an empty password above all, which a directory would take for an
// anonymous bind that succeeds (RFC 4513, 5.1.2).
type guard struct {
	checker  Checker
	provider *Provider
	log      *slog.Logger
	step     time.Duration
	now      func() time.Time
}

func (g *guard) Check(ctx context.Context, username, password string) (identity.Profile, error) {
	if username == "" || password == "" || len(username) > MaxUsername || len(password) > maxPassword ||
		!utf8.ValidString(username) || !utf8.ValidString(password) ||
		strings.ContainsFunc(username, unicode.IsControl) || strings.ContainsRune(password, 0) {
		return identity.Profile{}, ErrRefused
	}
	if err := ctx.Err(); err != nil {
		return identity.Profile{}, err
	}
	start := time.Now()
	profile, err := g.checker.Check(ctx, username, password)
	g.note(err)
	if err != nil {
		if errors.Is(err, ErrRefused) {
			if _, ok := errors.AsType[*RefusedError](err); !ok && err != ErrRefused {
				g.log.WarnContext(ctx, "credentials refused with a cause", "provider", g.provider.ID, "err", err)
			}
			if err := pace(ctx, start, g.step); err != nil {
				return identity.Profile{}, err
			}
		}
		return identity.Profile{}, err
	}
	return complete(profile, g.provider)
}

// note remembers whether the provider could be asked: whoever refuses has answered.
func (g *guard) note(err error) {
	if err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, context.Canceled) {
		err = &UnavailableError{err}
	}
	g.provider.health.note(g.now(), err)
}

// complete gives a profile what every one has to have, and makes what stands in it fit
// to be shown.
func complete(profile identity.Profile, p *Provider) (identity.Profile, error) {
	profile.Provider = p.ID
	profile.Name, profile.Username = clean(profile.Name), clean(profile.Username)
	if profile.ID == "" || len(profile.ID) > identity.MaxID || !utf8.ValidString(profile.ID) || strings.ContainsFunc(profile.ID, unicode.IsControl) {
		return identity.Profile{}, fmt.Errorf("%s: the id it vouches for is empty, too long or unprintable", p.ID)
	}
	if profile.URI == "" {
		profile.URI = expand(p.Template, profile)
	}
	if !p.ExposeUpstreamToken {
		profile.Upstream = ""
	}
	return profile, nil
}

// pace lets a refusal take a whole number of steps since start. How long a directory
// or a program takes to refuse depends on whether the user exists and cannot be made
// equal from here; rounded up, the difference disappears unless it crosses a step.
// Nobody who signs in waits for this.
func pace(ctx context.Context, start time.Time, step time.Duration) error {
	if step <= 0 {
		return nil
	}
	timer := time.NewTimer(step - time.Since(start)%step)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// clean makes a text of another program fit to be shown: one line, no control or
// direction-changing characters, not too long.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxShown {
		s = string(runes[:maxShown-1]) + "…"
	}
	return s
}

var placeholder = regexp.MustCompile(`\{(id|username|name)\}`)

// expand builds the URI of an identity. Values are escaped, so that none can leave
// its place in the URI; one that is missing, or that would be a dot segment however
// it is escaped, gives no URI at all.
func expand(template string, p identity.Profile) string {
	if template == "" {
		return ""
	}
	values := map[string]string{"id": p.ID, "username": p.Username, "name": p.Name}
	escape, missing := url.PathEscape, false
	var b strings.Builder
	last := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(template, -1) {
		literal, value := template[last:m[0]], values[template[m[2]:m[3]]]
		if strings.ContainsAny(literal, "?#") {
			escape = url.QueryEscape
		}
		missing = missing || value == "" || value == "." || value == ".."
		b.WriteString(literal)
		b.WriteString(escape(value))
		last = m[1]
	}
	b.WriteString(template[last:])
	if missing || config.SafeURI(b.String()) != nil {
		return ""
	}
	return b.String()
}

// slots bounds how many of something run at once.
type slots chan struct{}

func (s slots) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for one of %d places: %w", cap(s), ctx.Err())
	}
}

func (s slots) release() { <-s }
