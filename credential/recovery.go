package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
)

const (
	// recoveryCodes is how many somebody is given, and recoverySize how many characters of five
	// bits each has.
	recoveryCodes = 10
	recoverySize  = 10
	// recoveryLow is how few are left when somebody is told to make new ones.
	recoveryLow = 2
	// recoveryAlphabet has no letters that look like others (Crockford's base32).
	recoveryAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
)

// RenewRecovery gives a credential recovery codes in the place of those it has. They are in
// no other place than the answer.
func (b *Book) RenewRecovery(ctx context.Context, id string) ([]string, Credential, error) {
	if len(b.keys) == 0 {
		return nil, Credential{}, errNoSecret
	}
	codes := make([]string, recoveryCodes)
	hashes := make([]RecoveryCode, recoveryCodes)
	for i := range codes {
		var letters [recoverySize]byte
		_, _ = rand.Read(letters[:])
		for j, x := range letters {
			letters[j] = recoveryAlphabet[x%byte(len(recoveryAlphabet))] // 32 divides 256
		}
		code := string(letters[:])
		codes[i] = code[:recoverySize/2] + "-" + code[recoverySize/2:]
		hashes[i].Hash = hashRecovery(b.keys[0], id, code)
	}
	c, err := b.Update(ctx, id, func(c *Credential) error {
		if len(c.Recovery) > 0 {
			c.Changed = b.o.Clock.Now()
		}
		c.Recovery = hashes
		return nil
	})
	if err != nil {
		return nil, c, err
	}
	return codes, c, nil
}

// TryRecovery uses up a recovery code. Of any number of calls with one code one succeeds.
func (b *Book) TryRecovery(ctx context.Context, id, typed string) (Credential, error) {
	code := recoveryCode(typed)
	return b.Update(ctx, id, func(c *Credential) error {
		for _, key := range b.keys {
			hash := hashRecovery(key, id, code)
			for i, r := range c.Recovery {
				if r.Used.IsZero() && hmac.Equal(r.Hash, hash) {
					c.Recovery = slices.Clone(c.Recovery)
					c.Recovery[i].Used = b.o.Clock.Now()
					return nil
				}
			}
		}
		return ErrCode
	})
}

// RecoveryLeft is how many recovery codes were not used yet.
func (c Credential) RecoveryLeft() int {
	n := 0
	for _, r := range c.Recovery {
		if r.Used.IsZero() {
			n++
		}
	}
	return n
}

// RecoveryLow tells whether it is time for new recovery codes.
func (c Credential) RecoveryLow() bool { return c.RecoveryLeft() <= recoveryLow }

// recoveryCode is a code as it was made: people type groups, capitals, and letters for the
// digits that look like them.
func recoveryCode(typed string) string {
	return strings.NewReplacer("o", "0", "i", "1", "l", "1").Replace(strings.ToLower(compact(typed)))
}

func hashRecovery(key []byte, id, code string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("recovery\x00" + id + "\x00" + code))
	return mac.Sum(nil)
}

// gainFactor turns on that a second factor is asked for, with the first that was set up for
// that alone. had tells that this one only takes the place of another.
func (c *Credential) gainFactor(had bool) {
	if !had && c.TOTP == nil && (c.Phone == nil || !c.Phone.Factor) {
		c.TwoStep = true
	}
}

// loseFactor is called when a factor was taken away. Without any, none is asked for, and
// there is nothing for recovery codes to stand in for.
func (c *Credential) loseFactor(now time.Time) {
	if c.Changed = now; len(c.Factors()) == 0 {
		c.TwoStep, c.Recovery = false, nil
	}
}

// SetTwoStep says whether every sign-in asks for a second factor; ErrNotFound if there is
// none to ask for.
func (b *Book) SetTwoStep(ctx context.Context, id string, on bool) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		if on && len(c.Factors()) == 0 {
			return ErrNotFound
		}
		c.TwoStep = on
		return nil
	})
}

// ResetFactors takes away all that a second factor can be given with, for somebody who has
// lost it: the app, the recovery codes and the phone number as a factor. Passkeys are a way
// to sign in and stay, but nothing asks for a second step any more.
func (b *Book) ResetFactors(ctx context.Context, id string) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		c.TOTP, c.Recovery, c.TwoStep = nil, nil, false
		if c.Phone != nil {
			phone := *c.Phone
			phone.Factor = false
			c.Phone = &phone
			if !phone.SignIn {
				c.Phone = nil
			}
		}
		c.Changed = b.o.Clock.Now()
		return nil
	})
}

// Distrust voids all trust in browsers that was given so far, and sign-ins half done.
func (b *Book) Distrust(ctx context.Context, id string) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		c.Changed = b.o.Clock.Now()
		return nil
	})
}
