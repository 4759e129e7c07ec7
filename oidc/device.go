package oidc

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"login-server/store"
)

// Device authorization (RFC 8628): a device without a browser shows a short code, somebody
// enters it on a page of this server and allows what the device asks for, and the device
// asks for tokens until then.

// PathVerify is the page where the code is entered.
const PathVerify = "/device"

const (
	deviceLife = 10 * time.Minute
	// deviceMemory is how long a device is told that it was too late.
	deviceMemory = 10 * time.Minute
	// deviceInterval is how long a device has to wait between two questions, and how much
	// longer each time it did not (RFC 8628, 3.5). In seconds.
	deviceInterval = 5
)

// userCodeLetters are those of user codes (RFC 8628, 6.1): no vowels, which make words,
// and none that looks like another. Eight of them are 34 bits.
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// device is one authorization of a device. Its id is the hash of the device code.
type device struct {
	// UserCode is a hash.
	UserCode  string    `json:"userCode"`
	Client    string    `json:"client"`
	Scope     []string  `json:"scope,omitempty"`
	Resources []string  `json:"resources,omitempty"`
	Expires   time.Time `json:"expires"`
	// Polled is when the device has asked last, Interval how many seconds it has to wait.
	Polled   time.Time `json:"polled,omitzero"`
	Interval int       `json:"interval"`
	// Denied, or Grant, which has no id yet, is what somebody has decided.
	Denied bool   `json:"denied,omitempty"`
	Grant  *grant `json:"grant,omitempty"`
}

func (d device) index() store.Index {
	i := store.Index{Unique: []string{d.UserCode}, Expires: d.Expires.Add(deviceMemory)}
	if d.Grant != nil {
		i.Keys = []string{keyUser(d.Grant.User)}
	}
	return i
}

// waits tells whether nobody has decided yet.
func (d *device) waits(now time.Time) bool {
	return now.Before(d.Expires) && !d.Denied && d.Grant == nil
}

// deviceAnswer is that of the device authorization endpoint (RFC 8628, 3.2).
type deviceAnswer struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"`
	Interval                int    `json:"interval"`
}

// Device serves the device authorization endpoint (RFC 8628, 3.1).
func (p *Provider) Device() http.HandlerFunc {
	return p.endpoint(http.StatusOK, func(ctx context.Context, c *Client, r *http.Request, form url.Values) (any, error) {
		if !c.allows(grantDevice) {
			return nil, fail("unauthorized_client", "This client is not registered for devices.")
		}
		resources, err := c.mayTarget(form["resource"])
		if err != nil {
			return nil, err
		}
		d := device{Client: c.ClientID, Resources: resources, Expires: p.o.Clock.Now().Add(deviceLife), Interval: deviceInterval}
		for _, name := range strings.Fields(form.Get("scope")) {
			usable := name != scopeOffline || c.allows(grantRefresh)
			if slices.Contains(scopes, name) && c.mayAsk(name) && usable && !slices.Contains(d.Scope, name) {
				d.Scope = append(d.Scope, name)
			}
		}
		if err := p.limited(r, c); err != nil {
			return nil, err
		}
		code := random()
		for {
			userCode := newUserCode()
			d.UserCode = hashSecret(userCode)
			_, err := p.devices.Insert(ctx, hashSecret(code), d)
			if errors.Is(err, store.ErrExists) {
				continue // somebody else has this user code
			}
			if err != nil {
				return nil, err
			}
			page, shown := p.o.Issuer+PathVerify, ShowUserCode(userCode)
			return deviceAnswer{
				DeviceCode: code, UserCode: shown, VerificationURI: page, VerificationURIComplete: page + "?user_code=" + shown,
				ExpiresIn: int64(deviceLife / time.Second), Interval: d.Interval,
			}, nil
		}
	})
}

func newUserCode() string {
	const fair = 256 - 256%len(userCodeLetters) // bytes from here on would prefer some letters
	code := make([]byte, 0, userCodeLength)
	for b := [1]byte{}; len(code) < userCodeLength; {
		if _, _ = rand.Read(b[:]); int(b[0]) < fair {
			code = append(code, userCodeLetters[int(b[0])%len(userCodeLetters)])
		}
	}
	return string(code)
}

// UserCode is what somebody has typed as a user code: case, spaces and whatever stands
// between the letters do not matter. False if it cannot be one.
func UserCode(typed string) (string, bool) {
	if len(typed) > 100 {
		return "", false
	}
	code := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		if strings.ContainsRune(userCodeLetters, r) {
			return r
		}
		if 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return '?' // mistyped, rather than left out
		}
		return -1
	}, typed)
	return code, len(code) == userCodeLength && !strings.Contains(code, "?")
}

// ShowUserCode is a user code as people read it: XXXX-XXXX.
func ShowUserCode(code string) string {
	return code[:userCodeLength/2] + "-" + code[userCodeLength/2:]
}

// DeviceAsk is what a device asks for.
type DeviceAsk struct {
	Client *Client
	// Scopes are those to consent to, without openid.
	Scopes []string
}

// DeviceAsk tells what the device asks for that shows a user code, which UserCode has
// returned; false if none does.
func (p *Provider) DeviceAsk(ctx context.Context, userCode string) (DeviceAsk, bool, error) {
	item, err := p.devices.GetUnique(ctx, hashSecret(userCode))
	if errors.Is(err, store.ErrNotFound) || err == nil && !item.Value.waits(p.o.Clock.Now()) {
		return DeviceAsk{}, false, nil
	}
	if err != nil {
		return DeviceAsk{}, false, err
	}
	c, err := p.clients.get(ctx, item.Value.Client)
	if errors.Is(err, errUnknownClient) {
		return DeviceAsk{}, false, nil
	}
	if err != nil {
		return DeviceAsk{}, false, err
	}
	return DeviceAsk{Client: c, Scopes: (&request{Scope: item.Value.Scope}).consentScopes()}, true, nil
}

// errDecided: a device is not waiting for somebody's decision any more.
var errDecided = errors.New("the device waits no more")

// ErrStepUp: the client lets nobody in without a second factor, and none was given.
var ErrStepUp = errors.New("a second factor is missing")

// DecideDevice takes the decision of a person about the device that shows a user code.
// False if none does that waits for one; ErrStepUp if the person has to give a second
// factor before allowing it.
func (p *Provider) DecideDevice(ctx context.Context, userCode string, allow bool, who *Person) (bool, error) {
	item, err := p.devices.GetUnique(ctx, hashSecret(userCode))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c, err := p.clients.get(ctx, item.Value.Client)
	if errors.Is(err, errUnknownClient) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := p.o.Clock.Now()
	if !item.Value.waits(now) {
		return false, nil
	}
	if allow && c.RequireMFA && !who.Session.MultiFactor() {
		return false, ErrStepUp
	}
	var known marks
	if allow {
		p.forgetMarks(who.Account.ID, c.ClientID) // or older ones would void what is allowed now
		if known, err = p.marksOf(ctx, who.Account.ID, c.ClientID); err != nil {
			return false, err
		}
		// Before the device can see it: it is listed with what else the person has allowed, and
		// without it the device gets nothing, so that it can be taken back at any time.
		if err := p.consented(ctx, who, &request{client: c, Scope: item.Value.Scope}); err != nil {
			return false, err
		}
	}
	_, err = p.devices.Update(ctx, item.ID, func(d *device) error {
		if !d.waits(now) {
			return errDecided
		}
		if d.Denied = !allow; allow {
			d.Grant = &grant{
				Client: c.ClientID, User: who.Account.ID, Subject: p.subject(c, who.Account.ID),
				Session: who.Session.Handle, SessionBegan: who.Session.Created, Offline: slices.Contains(d.Scope, scopeOffline),
				Scope: d.Scope, Resources: d.Resources, AuthTime: who.Session.AuthTime, ACR: acrOf(who.Session, nil), AMR: amrOf(who.Session),
				Marks: known, Created: now,
			}
		}
		return nil
	})
	if errors.Is(err, errDecided) || errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// redeemDevice answers a device that asks for its tokens (RFC 8628, 3.4 and 3.5).
func (p *Provider) redeemDevice(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	given := form.Get("device_code")
	if given == "" {
		return nil, invalidRequest("The device_code is missing.")
	}
	unknown := invalidGrant("The device_code is unknown, or was used before.")
	id := hashSecret(given)
	item, err := p.devices.Get(ctx, id)
	if err != nil {
		return nil, grantError(err, unknown)
	}
	d, now := item.Value, p.o.Clock.Now()
	switch {
	case d.Client != c.ClientID:
		return nil, unknown
	case !now.Before(d.Expires):
		return nil, fail("expired_token", "The device_code has expired.")
	case d.Denied:
		return nil, fail("access_denied", "The person has said no.")
	case d.Grant == nil:
		return nil, p.polled(ctx, id, now, unknown)
	}
	g := d.Grant
	g.ID, g.Expires = p.newGrantID(), now.Add(minRemembered)
	if err := p.inForce(ctx, *g); err != nil {
		return nil, goneOr(err, unknown)
	}
	if _, err := p.consents.Get(ctx, consentID(g.User, c.ClientID)); err != nil {
		return nil, grantError(err, unknown) // it was taken back
	}
	if g.KeyThumbprint, err = p.proofOf(ctx, r, c, "", ""); err != nil {
		return nil, err
	}
	if c.allows(grantRefresh) {
		g.Refresh = &refresh{Seed: random(), Since: []time.Time{now}}
	}
	if err := p.logouts.joins(ctx, c, g); err != nil {
		return nil, err
	}
	return p.answerTokens(ctx, c, g, g.Scope, g.Resources, func() error {
		// Of two at once one takes it. What is lost after that costs a new authorization.
		if _, err := p.devices.Take(ctx, id); err != nil {
			return grantError(err, unknown)
		}
		return p.inserting(ctx, g)()
	})
}

// polled notes that a device has asked too early for tokens, and returns what it is told.
func (p *Provider) polled(ctx context.Context, id string, now time.Time, unknown *Error) error {
	var answer *Error
	_, err := p.devices.Update(ctx, id, func(d *device) error {
		answer = fail("authorization_pending", "Nobody has decided yet.")
		if now.Sub(d.Polled) < time.Duration(d.Interval)*time.Second {
			d.Interval += deviceInterval
			answer = fail("slow_down", "The device asks more often than every %d seconds.", d.Interval-deviceInterval)
		}
		d.Polled = now
		return nil
	})
	if err != nil {
		return grantError(err, unknown)
	}
	return answer
}
