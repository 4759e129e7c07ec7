package credential

import "context"

// SetPhone gives a credential a number that somebody has shown to be theirs, as a factor and,
// if signIn, as a way to sign in, in the place of the one before. ErrTaken if it is somebody
// else's. beside is that of RemovePhone.
func (b *Book) SetPhone(ctx context.Context, id, number string, signIn bool, beside int) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		now := b.o.Clock.Now()
		could := c.SignsIn()
		had := c.Phone != nil && c.Phone.Factor
		if c.Phone != nil && c.Phone.Number != number {
			c.Changed = now
		}
		c.gainFactor(had)
		c.Phone = &Phone{Number: number, Verified: now, Factor: true, SignIn: signIn}
		if could && beside == 0 && !c.SignsIn() {
			return ErrLast
		}
		return nil
	})
}

// RemovePhone takes the number away. beside is how many ways to sign in there are that are
// not in the credential: ErrLast if there would be none.
func (b *Book) RemovePhone(ctx context.Context, id string, beside int) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		if c.Phone == nil {
			return ErrNotFound
		}
		could := c.SignsIn()
		c.Phone = nil
		if could && beside == 0 && !c.SignsIn() {
			return ErrLast
		}
		c.loseFactor(b.o.Clock.Now())
		return nil
	})
}
