package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"login-server/store"
	"login-server/token"
)

const (
	// CeremonyLife is how long somebody has to use an authenticator.
	CeremonyLife = 5 * time.Minute
	// MaxPasskeys is how many somebody may have.
	MaxPasskeys = 20
	// maxPasskeyID is how many bytes the credential id of an authenticator may have. WebAuthn
	// allows 1023 (Level 3, 7.1, step 25); those of discoverable credentials are far shorter.
	maxPasskeyID = 512
)

// Errors of Passkeys, possibly wrapped.
var (
	// ErrNoPasskeys: browsers offer none at the address of this server.
	ErrNoPasskeys = errors.New("no passkeys are possible at this address")
	// ErrCeremony: it is not one of this browser, has expired, or was finished before.
	ErrCeremony = errors.New("no such ceremony")
	// ErrPasskey: the answer of the authenticator proves nothing. What is wrapped with it is
	// for the log.
	ErrPasskey = errors.New("passkey refused")
	// ErrCloned: it is good, but its counter has gone back: there may be a copy of its key.
	ErrCloned = errors.New("passkey may have been copied")
	// ErrMany: there are MaxPasskeys already.
	ErrMany = errors.New("too many passkeys")
)

// Passkeys asks authenticators of one Relying Party and verifies what they answer (WebAuthn
// Level 3, 7.1 and 7.2). What has to be remembered in between travels, sealed, through the
// browser, so that asking costs no write. It is safe for concurrent use.
type Passkeys struct {
	book   *Book
	rp     *webauthn.WebAuthn
	sealer *token.Sealer
	spent  *store.Collection[spent]
}

// spent is a ceremony that was finished.
type spent struct {
	Until time.Time `json:"until"`
}

// Passkeys returns what verifies the passkeys of a server called name at an address: its host
// is the Relying Party's id, its origin the only one that is taken. ErrNoPasskeys if that is
// an IP address, or not encrypted and not localhost: browsers offer no WebAuthn there.
func (b *Book) Passkeys(name string, base *url.URL) (*Passkeys, error) {
	host := base.Hostname()
	if net.ParseIP(host) != nil || base.Scheme != "https" && host != "localhost" {
		return nil, fmt.Errorf("%w: %s", ErrNoPasskeys, base.Host)
	}
	rp, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: name, RPOrigins: []string{base.Scheme + "://" + base.Host},
		// Who made an authenticator makes no difference here, so nobody is asked to tell.
		AttestationPreference: protocol.PreferNoAttestation,
		// Some password managers tell more than they were asked. Nothing of it is used.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Timeout: CeremonyLife, TimeoutUVD: CeremonyLife},
			Registration: webauthn.TimeoutConfig{Timeout: CeremonyLife, TimeoutUVD: CeremonyLife},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	sealer, err := token.NewSealer(b.o.Secrets, "passkey ceremonies")
	if err != nil {
		return nil, err
	}
	return &Passkeys{
		book: b, rp: rp, sealer: sealer,
		spent: store.NewCollection(b.o.Store, "passkey answer", func(s spent) store.Index {
			return store.Index{Expires: s.Until}
		}),
	}, nil
}

// Purposes of ceremonies: none can be finished as another.
const (
	toSignIn = "sign in"
	toFactor = "second factor"
	toAdd    = "add"
	toSignUp = "sign up"
)

// ceremony is what is remembered of a question to an authenticator.
type ceremony struct {
	ID      string               `json:"id"`
	Purpose string               `json:"purpose"`
	Bond    string               `json:"bond"` // its digest
	Until   time.Time            `json:"until"`
	Session webauthn.SessionData `json:"session"`
}

// Ceremony is a question to an authenticator.
type Ceremony struct {
	// Options are the argument of navigator.credentials.get or create, in the form of
	// PublicKeyCredentialRequestOptionsJSON or PublicKeyCredentialCreationOptionsJSON.
	Options any `json:"options"`
	// Sealed has to come back with the answer.
	Sealed string `json:"ceremony"`
}

func (k *Passkeys) keep(c ceremony, bond string, session *webauthn.SessionData, options any) (Ceremony, error) {
	if c.ID == "" {
		c.ID = random()
	}
	c.Bond, c.Session, c.Until = digest(bond), *session, k.book.o.Clock.Now().Add(CeremonyLife)
	sealed, err := k.sealer.Seal(c)
	return Ceremony{Options: options, Sealed: sealed}, err
}

// resume opens a ceremony that came back with an answer.
func (k *Passkeys) resume(sealed, purpose, bond string) (ceremony, error) {
	var c ceremony
	if k.sealer.Open(sealed, &c) != nil || c.Purpose != purpose || c.Bond != digest(bond) || !k.book.o.Clock.Now().Before(c.Until) {
		return c, ErrCeremony
	}
	return c, nil
}

// spend uses a ceremony up: of any number of answers one goes on. It comes after the answer
// was verified, so that nonsense costs no write.
func (k *Passkeys) spend(ctx context.Context, c ceremony) error {
	// The other clock may be another node's.
	_, err := k.spent.Insert(ctx, c.ID, spent{Until: c.Until.Add(CeremonyLife)})
	if errors.Is(err, store.ErrExists) {
		return ErrCeremony
	}
	return err
}

// owner is a credential as WebAuthn knows people.
type owner struct {
	id, name string
	passkeys []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return []byte(o.id) }
func (o owner) WebAuthnName() string                       { return o.name }
func (o owner) WebAuthnDisplayName() string                { return o.name }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.passkeys }

func ownerOf(c Credential, name string) (owner, error) {
	o := owner{id: c.ID, name: name}
	for _, p := range c.Passkeys {
		record, err := p.record()
		if err != nil {
			return o, err
		}
		o.passkeys = append(o.passkeys, record)
	}
	return o, nil
}

func (p Passkey) record() (webauthn.Credential, error) {
	var record webauthn.Credential
	if err := json.Unmarshal(p.Record, &record); err != nil {
		return record, fmt.Errorf("passkey record: %w", err)
	}
	return record, nil
}

// Synced tells whether the passkey's key can be on several devices (its BE flag).
func (p Passkey) Synced() bool {
	record, err := p.record()
	return err == nil && record.Flags.BackupEligible
}

// BeginSignIn asks for any passkey of this server, and that it verifies the person: it will
// be all that they sign in with. bond is what ties the ceremony to the browser.
func (k *Passkeys) BeginSignIn(bond string) (Ceremony, error) {
	options, session, err := k.rp.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Ceremony{}, fmt.Errorf("ask for passkey: %w", err)
	}
	return k.keep(ceremony{Purpose: toSignIn}, bond, session, options.Response)
}

// BeginFactor asks for one of somebody's passkeys beside what they have proved already.
// ErrNotFound if there is none.
func (k *Passkeys) BeginFactor(c Credential, bond string) (Ceremony, error) {
	if len(c.Passkeys) == 0 {
		return Ceremony{}, ErrNotFound
	}
	o, err := ownerOf(c, "")
	if err != nil {
		return Ceremony{}, err
	}
	options, session, err := k.rp.BeginLogin(o, webauthn.WithUserVerification(protocol.VerificationDiscouraged))
	if err != nil {
		return Ceremony{}, fmt.Errorf("ask for passkey: %w", err)
	}
	return k.keep(ceremony{Purpose: toFactor}, bond, session, options.Response)
}

// Assertion is what a passkey has proved.
type Assertion struct {
	Credential Credential
	Passkey    Passkey
	// Verified: the authenticator has verified the person (its UV flag), by their finger or a
	// PIN, so that there are two factors. Synced is as Passkey.Synced.
	Verified, Synced bool
}

// FinishSignIn takes the answer to BeginSignIn, the JSON of an AuthenticationResponseJSON. With
// ErrPasskey and ErrCloned comes the credential that the passkey belongs to, if there is one.
func (k *Passkeys) FinishSignIn(ctx context.Context, sealed, bond string, answer []byte) (Assertion, error) {
	ceremony, err := k.resume(sealed, toSignIn, bond)
	if err != nil {
		return Assertion{}, err
	}
	response, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Assertion{}, refused(err)
	}
	c, err := k.book.ByPasskey(ctx, response.RawID)
	if errors.Is(err, ErrNotFound) {
		return Assertion{}, refused(errors.New("nobody has this passkey"))
	}
	if err != nil {
		return Assertion{}, err
	}
	return k.assert(ctx, ceremony, c, response)
}

// FinishFactor takes the answer to BeginFactor for the credential with an id; as FinishSignIn.
func (k *Passkeys) FinishFactor(ctx context.Context, id, sealed, bond string, answer []byte) (Assertion, error) {
	ceremony, err := k.resume(sealed, toFactor, bond)
	if err != nil {
		return Assertion{}, err
	}
	c, err := k.book.Get(ctx, id)
	if err != nil {
		return Assertion{}, err
	}
	response, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Assertion{Credential: c}, refused(err)
	}
	return k.assert(ctx, ceremony, c, response)
}

// assert verifies an answer with the passkeys of a credential, and notes that one was used.
func (k *Passkeys) assert(ctx context.Context, ceremony ceremony, c Credential, response *protocol.ParsedCredentialAssertionData) (Assertion, error) {
	a := Assertion{Credential: c}
	o, err := ownerOf(c, "")
	if err != nil {
		return a, err
	}
	if ceremony.Purpose == toSignIn {
		_, _, err = k.rp.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return o, nil }, ceremony.Session, response)
	} else {
		_, err = k.rp.ValidateLogin(o, ceremony.Session, response)
	}
	if err != nil {
		return a, refused(err)
	}
	if err := k.spend(ctx, ceremony); err != nil {
		return Assertion{}, err
	}
	data := response.Response.AuthenticatorData
	a.Verified, a.Synced = data.Flags.HasUserVerified(), data.Flags.HasBackupEligible()
	var cloned bool
	a.Credential, err = k.book.Update(ctx, c.ID, func(c *Credential) error {
		// Judged by what is stored now: another request may have used it, or taken it away.
		i := c.passkey(response.RawID)
		if i < 0 {
			return refused(errors.New("the passkey was removed"))
		}
		p := &c.Passkeys[i]
		if !p.Cloned.IsZero() {
			return refused(errors.New("the passkey was found to be copied before"))
		}
		record, err := p.record()
		if err != nil {
			return err
		}
		now := k.book.o.Clock.Now()
		record.Authenticator.UpdateCounter(data.Counter)
		record.Flags.BackupState = data.Flags.HasBackupState()
		if cloned = record.Authenticator.CloneWarning; cloned {
			p.Cloned = now
		} else {
			p.Used = now
		}
		a.Passkey = *p
		return p.keep(record)
	})
	if a.Credential.ID == "" {
		a.Credential = c
	}
	if err == nil && cloned {
		err = ErrCloned
	}
	return a, err
}

// BeginAdd asks an authenticator for a new passkey, for somebody called name. The credential may
// be an empty one that does not exist yet: the ceremony has an id for it.
func (k *Passkeys) BeginAdd(c Credential, name, bond string) (Ceremony, error) {
	if len(c.Passkeys) >= MaxPasskeys {
		return Ceremony{}, ErrMany
	}
	if c.ID == "" {
		c.ID = k.book.o.NewID()
	}
	o, err := ownerOf(c, name)
	if err != nil {
		return Ceremony{}, err
	}
	return k.register(ceremony{Purpose: toAdd}, o, bond)
}

// BeginSignUp is BeginAdd for somebody who is nobody here yet. once names what the sign-up
// has begun with: of all ceremonies for it one can be finished.
func (k *Passkeys) BeginSignUp(name, once, bond string) (Ceremony, error) {
	return k.register(ceremony{Purpose: toSignUp, ID: digest(once)}, owner{id: k.book.o.NewID(), name: name}, bond)
}

func (k *Passkeys) register(c ceremony, o owner, bond string) (Ceremony, error) {
	options, session, err := k.rp.BeginRegistration(o,
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		}),
		webauthn.WithExclusions(webauthn.Credentials(o.passkeys).CredentialDescriptors()))
	if err != nil {
		return Ceremony{}, fmt.Errorf("ask for new passkey: %w", err)
	}
	return k.keep(c, bond, session, options.Response)
}

// FinishAdd takes the answer to BeginAdd, the JSON of a RegistrationResponseJSON. It returns the
// passkey, for AddPasskey, and the id of the credential that the authenticator has made it for.
func (k *Passkeys) FinishAdd(ctx context.Context, sealed, bond string, answer []byte, name string) (id string, p Passkey, err error) {
	ceremony, err := k.resume(sealed, toAdd, bond)
	if err != nil {
		return "", p, err
	}
	p, err = k.created(ctx, ceremony, answer, name)
	return string(ceremony.Session.UserID), p, err
}

// FinishSignUp takes the answer to the BeginSignUp of the same once and makes the credential, to
// which fill, if it is not nil, adds what else is known of the person, or says with an error why
// there is to be none. ErrTaken if the passkey is somebody's already, or what fill has added.
func (k *Passkeys) FinishSignUp(ctx context.Context, sealed, once, bond string, answer []byte, name string, fill func(*Credential) error) (Credential, error) {
	ceremony, err := k.resume(sealed, toSignUp, bond)
	if err != nil {
		return Credential{}, err
	}
	if ceremony.ID != digest(once) {
		return Credential{}, ErrCeremony // begun by another sign-up, which may have cost something else
	}
	p, err := k.created(ctx, ceremony, answer, name)
	if err != nil {
		return Credential{}, err
	}
	p.Used = p.Added
	made := Credential{ID: string(ceremony.Session.UserID), Passkeys: []Passkey{p}} // as the authenticator knows it
	if fill != nil {
		if err := fill(&made); err != nil {
			return Credential{}, err
		}
	}
	return k.book.Create(ctx, func(c *Credential) {
		made.Created, made.Changed = c.Created, c.Changed
		*c = made
	})
}

// created verifies a new passkey.
func (k *Passkeys) created(ctx context.Context, ceremony ceremony, answer []byte, name string) (Passkey, error) {
	response, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return Passkey{}, refused(err)
	}
	if len(response.RawID) > maxPasskeyID {
		return Passkey{}, refused(fmt.Errorf("its id has %d bytes", len(response.RawID)))
	}
	record, err := k.rp.CreateCredential(owner{id: string(ceremony.Session.UserID)}, ceremony.Session, response)
	if err != nil {
		return Passkey{}, refused(err)
	}
	if err := k.spend(ctx, ceremony); err != nil {
		return Passkey{}, err
	}
	record.Attestation = webauthn.CredentialAttestation{} // nobody asks for it again, and it may be large
	p := Passkey{ID: record.ID, Name: name, Added: k.book.o.Clock.Now()}
	return p, p.keep(*record)
}

func (p *Passkey) keep(record webauthn.Credential) (err error) {
	p.Record, err = json.Marshal(record)
	return err
}

// refused is the error for an answer that proves nothing.
func refused(why error) error {
	if e, ok := errors.AsType[*protocol.Error](why); ok && e.DevInfo != "" {
		return fmt.Errorf("%w: %.200q (%.200q)", ErrPasskey, e.Details, e.DevInfo)
	}
	return fmt.Errorf("%w: %.200q", ErrPasskey, why.Error())
}

// passkey is the place of one among those of a credential, or -1.
func (c Credential) passkey(id []byte) int {
	return slices.IndexFunc(c.Passkeys, func(p Passkey) bool { return bytes.Equal(p.ID, id) })
}

// AddPasskey gives a credential a passkey. ErrTaken if that is known already, to whomever, ErrMany
// if there are MaxPasskeys.
func (b *Book) AddPasskey(ctx context.Context, id string, p Passkey) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		switch {
		case c.passkey(p.ID) >= 0:
			return ErrTaken
		case len(c.Passkeys) >= MaxPasskeys:
			return ErrMany
		}
		c.Passkeys = append(c.Passkeys, p)
		return nil
	})
}

// RenamePasskey gives a passkey another name; ErrNotFound if there is no such one.
func (b *Book) RenamePasskey(ctx context.Context, id string, passkey []byte, name string) (Credential, error) {
	return b.Update(ctx, id, func(c *Credential) error {
		i := c.passkey(passkey)
		if i < 0 {
			return ErrNotFound
		}
		c.Passkeys[i].Name = name
		return nil
	})
}

// RemovePasskey takes a passkey away, and returns it; ErrNotFound if there is no such one.
// beside is how many ways to sign in there are that are not in the credential: ErrLast if
// there would be none.
func (b *Book) RemovePasskey(ctx context.Context, id string, passkey []byte, beside int) (Passkey, error) {
	var gone Passkey
	_, err := b.Update(ctx, id, func(c *Credential) error {
		i := c.passkey(passkey)
		if i < 0 {
			return ErrNotFound
		}
		could := c.SignsIn()
		gone = c.Passkeys[i]
		c.Passkeys = slices.Delete(c.Passkeys, i, i+1)
		if could && beside == 0 && !c.SignsIn() {
			return ErrLast
		}
		c.loseFactor(b.o.Clock.Now())
		return nil
	})
	return gone, err
}
