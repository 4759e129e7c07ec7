package credential

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// One-time codes of an app (RFC 6238) are what all apps can do: six digits of HMAC-SHA-1, of
// a step of 30 seconds.
const (
	totpPeriod = 30 * time.Second
	// totpDrift is how many steps the clock of a device may be off (RFC 6238, 5.2).
	totpDrift = 1
	// totpSecretSize in bytes is what RFC 4226, 4 recommends.
	totpSecretSize = 20
	// enrolmentLife is how long somebody may take to set up an app.
	enrolmentLife = 30 * time.Minute
)

// Enrolment is an app for one-time codes that somebody is setting up. Nothing is stored of
// it before they have shown that it works.
type Enrolment struct {
	// Secret is what the app has to know, in base32.
	Secret string
	// URL is all that it has to know (otpauth), for a QR code.
	URL string
	// Sealed is what ReadTOTP makes the same of.
	Sealed string
}

// sealedSecret is a secret of one-time codes as it is sealed. For tells what for, so that
// none can take the place of another: a credential, or an account that enrols.
type sealedSecret struct {
	For     string `json:"for"`
	Secret  []byte `json:"secret"`
	Expires int64  `json:"expires,omitempty"`
}

func forCredential(id string) string     { return "credential " + id }
func forEnrolment(account string) string { return "enrolment " + account }

// NewTOTP begins to set up an app of an account. The app shows issuer and name.
func (b *Book) NewTOTP(account, issuer, name string) (Enrolment, error) {
	secret := make([]byte, totpSecretSize)
	_, _ = rand.Read(secret) // never fails: it ends the program instead
	return b.enrolment(sealedSecret{For: forEnrolment(account), Secret: secret, Expires: b.o.Clock.Now().Add(enrolmentLife).Unix()}, issuer, name)
}

// ReadTOTP returns the enrolment of an account again, or ErrNotFound if it is another
// account's or took too long.
func (b *Book) ReadTOTP(account, issuer, name, sealed string) (Enrolment, error) {
	var s sealedSecret
	if b.sealer == nil || b.sealer.Open(sealed, &s) != nil || s.For != forEnrolment(account) || b.o.Clock.Now().Unix() > s.Expires {
		return Enrolment{}, ErrNotFound
	}
	return b.enrolment(s, issuer, name)
}

func (b *Book) enrolment(s sealedSecret, issuer, name string) (Enrolment, error) {
	sealed, err := b.seal(s)
	if err != nil {
		return Enrolment{}, err
	}
	// A colon parts issuer and name in the label.
	noColon := strings.NewReplacer(":", "")
	key, err := totp.Generate(totp.GenerateOpts{Issuer: noColon.Replace(issuer), AccountName: noColon.Replace(name), Secret: s.Secret, SecretSize: totpSecretSize})
	if err != nil {
		return Enrolment{}, fmt.Errorf("one-time codes: %w", err)
	}
	return Enrolment{Secret: key.Secret(), URL: key.URL(), Sealed: sealed}, nil
}

func (b *Book) seal(value any) (string, error) {
	if b.sealer == nil {
		return "", errNoSecret
	}
	return b.sealer.Seal(value)
}

// AddTOTP gives a credential the app that was set up, once a code shows that it works, in the
// place of the one before. ErrCode if it does not.
func (b *Book) AddTOTP(ctx context.Context, id string, e Enrolment, code string) (Credential, error) {
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil {
		return Credential{}, fmt.Errorf("one-time codes: %w", err)
	}
	sealed, err := b.seal(sealedSecret{For: forCredential(id), Secret: secret})
	if err != nil {
		return Credential{}, err
	}
	return b.Update(ctx, id, func(c *Credential) error {
		now := b.o.Clock.Now()
		step, err := matchStep(secret, code, now, 0)
		if err != nil {
			return err
		}
		if c.TOTP != nil {
			c.Changed = now
		}
		c.gainFactor(c.TOTP != nil)
		c.TOTP = &TOTP{Secret: sealed, Added: now, Step: step}
		return nil
	})
}

// TryTOTP takes a code of the app: ErrCode if it is none or was used before, ErrTries after
// fifty wrong ones in a day, with which somebody guesses one with a chance of 1 to 6,000. Of any
// number of calls with one code one succeeds.
func (b *Book) TryTOTP(ctx context.Context, id, code string) (Credential, error) {
	counted := Pending{Credential: id}
	if err := b.spendTry(ctx, counted); err != nil {
		return Credential{}, err
	}
	c, err := b.takeTOTP(ctx, id, code)
	if err != nil {
		return c, err
	}
	return c, b.returnTry(ctx, counted)
}

func (b *Book) takeTOTP(ctx context.Context, id, code string) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		if c.TOTP == nil {
			return ErrCode
		}
		var s sealedSecret
		if b.sealer == nil || b.sealer.Open(c.TOTP.Secret, &s) != nil || s.For != forCredential(id) {
			return errors.New("credential: the secret of one-time codes cannot be opened: SESSION_SECRET is another one")
		}
		now := b.o.Clock.Now()
		step, err := matchStep(s.Secret, code, now, c.TOTP.Step)
		if err != nil {
			return err
		}
		// Sealed anew: with the secret that is in use by now.
		if c.TOTP.Secret, err = b.seal(s); err != nil {
			return err
		}
		c.TOTP.Step, c.TOTP.Used = step, now
		return nil
	})
}

// RemoveTOTP takes the app away; ErrNotFound if there is none.
func (b *Book) RemoveTOTP(ctx context.Context, id string) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		if c.TOTP == nil {
			return ErrNotFound
		}
		c.TOTP = nil
		c.loseFactor(b.o.Clock.Now())
		return nil
	})
}

// matchStep finds the time step of a code, later than last.
func matchStep(secret []byte, code string, now time.Time, last int64) (int64, error) {
	if code = compact(code); len(code) != otp.DigitsSix.Length() {
		return 0, ErrCode
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	current := now.Unix() / int64(totpPeriod/time.Second)
	for step := current - totpDrift; step <= current+totpDrift; step++ {
		if step <= last {
			continue
		}
		ok, err := hotp.ValidateCustom(code, uint64(step), text, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, fmt.Errorf("one-time codes: %w", err)
		}
		if ok {
			return step, nil
		}
	}
	return 0, ErrCode
}

// compact is a code as it was typed or pasted, without spaces and hyphens.
func compact(typed string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) {
			return -1
		}
		return r
	}, typed[:min(len(typed), 64)])
}
