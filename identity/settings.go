package identity

import "context"

// Notices are what somebody wants to be written of. How one signs in is not among it: of
// changes there the person hears in any case.
type Notices struct {
	// SignInsOff: no mail when somebody signs in from a browser or country that is new.
	SignInsOff bool `json:"signInsOff,omitempty"`
}

// SetNotices changes what somebody is written of.
func (d *Directory) SetNotices(ctx context.Context, id string, n Notices) (Account, error) {
	return d.update(ctx, id, func(a *Account) error {
		a.Notices = n
		return nil
	})
}

// Language is that of mails to the person, as a BCP 47 tag: what they have chosen, else what
// a provider says; empty if nobody says anything.
func (a Account) Language() string {
	tag, _ := a.Known()["locale"].Value.(string)
	return tag
}

// ChosenLanguage is the language that was set here, by the person or an operator; empty if
// none was.
func (a Account) ChosenLanguage() string {
	tag, _ := a.Claims["locale"].Value.(string)
	return tag
}

// Picture is the address of the picture that was set here; empty if none was, or if what
// providers say of one is hidden.
func (a Account) Picture() string {
	address, _ := a.Claims["picture"].Value.(string)
	return address
}

// SetPicture sets the claim picture as SetClaims does; an empty address takes it back. It
// returns the address that was set before: of several calls at once each is told another, so
// that whoever has replaced a picture can remove it. One that has come with a merge is not
// told: the account that it is from gets it back when the merge is undone.
func (d *Directory) SetPicture(ctx context.Context, id string, by Source, address string) (a Account, before string, err error) {
	var value any
	if address != "" {
		if value, err = CheckClaim("picture", address); err != nil {
			return Account{}, "", err
		}
	}
	return d.replacePicture(ctx, id, func(a *Account) error {
		return a.setClaims(by, map[string]any{"picture": value})
	})
}

// RestorePicture takes back what was set or hidden here, so that the picture that providers
// say shows. It returns what SetPicture does.
func (d *Directory) RestorePicture(ctx context.Context, id string) (a Account, before string, err error) {
	return d.replacePicture(ctx, id, func(a *Account) error {
		delete(a.Claims, "picture")
		return nil
	})
}

func (d *Directory) replacePicture(ctx context.Context, id string, change func(*Account) error) (a Account, before string, err error) {
	a, err = d.update(ctx, id, func(a *Account) error {
		before = ""
		if a.Claims["picture"].From == "" {
			before = a.Picture()
		}
		return change(a)
	})
	if err != nil {
		before = ""
	}
	return a, before, err
}
