package token

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"login-server/store"
)

// ring is the document of the keys of one algorithm that files do not give. As it is
// one document, of several servers that make or rotate keys at once one wins, and the
// others go on with what that one has written.
type ring struct {
	Keys []ringEntry `json:"keys"`
}

// ringEntry is a key in the store. All of it is sealed, also the public half and the
// times: who can write into the database must not be able to publish a key of their own.
type ringEntry struct {
	Sealed string `json:"sealed"`
	// Lost is when a server saw that no secret of SESSION_SECRET opens it.
	Lost time.Time `json:"lost,omitzero"`
}

// ringKey is what is sealed in a ringEntry.
type ringKey struct {
	Algorithm string `json:"alg"`
	Public    []byte `json:"public"`            // PKIX
	Private   []byte `json:"private,omitempty"` // PKCS #8; not kept once the key has signed its last
	// From is when it begins to sign, Until when another one does, Gone when the last token
	// that it has signed has expired.
	From  time.Time `json:"from"`
	Until time.Time `json:"until,omitzero"`
	Gone  time.Time `json:"gone,omitzero"`
}

const (
	// retirement is how long a key stays in the JWKS beyond the life of its last token,
	// for verifiers whose clock is late.
	retirement = 5 * time.Minute
	// remembrance is for how long after that its signatures are known.
	remembrance = 30 * 24 * time.Hour
	// ringSize is how many keys of one algorithm are kept at the most. It is reached only
	// if servers with different secrets share a database.
	ringSize = 32
)

// life is that of the longest-lived token that any of the keys signs.
func (m *Manager) life() time.Duration { return max(m.options.ExpiresIn, m.options.Life) }

// load makes a key of what is sealed. A value that was sealed for another algorithm is
// refused, and so is a private key that does not belong to the public one.
func (r ringKey) load(algorithm string, life time.Duration) (*key, error) {
	if r.Algorithm != algorithm {
		return nil, fmt.Errorf("a key for %s among those for %s", r.Algorithm, algorithm)
	}
	public, err := x509.ParsePKIXPublicKey(r.Public)
	if err != nil {
		return nil, err
	}
	k, err := newPublicKey(public, algorithm)
	if err != nil {
		return nil, err
	}
	if len(r.Private) > 0 {
		if k.signer, err = parsePKCS8(r.Private); err != nil {
			return nil, err
		}
		own, ok := k.signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !own.Equal(public) {
			return nil, errors.New("private and public key do not belong together")
		}
	}
	k.from, k.until, k.gone = r.From, r.Until, r.Gone
	if !k.until.IsZero() && k.gone.Before(k.until.Add(life+retirement)) {
		k.gone = k.until.Add(life + retirement)
	}
	return k, nil
}

// newRingKey is a new key as it is kept.
func newRingKey(signer crypto.Signer, algorithm string, from time.Time) (ringKey, error) {
	private, err := marshalPrivate(signer)
	if err != nil {
		return ringKey{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	return ringKey{Algorithm: algorithm, Public: public, Private: private, From: from}, err
}

// opened is a ringKey on its way through advance.
type opened struct {
	ringKey
	sealed string
	secret int  // which one has sealed it
	stale  bool // changed since
	*key
}

// open returns the keys of a ring, in the order in which they sign, and the entries that
// cannot be opened.
func (m *Manager) open(algorithm string, r ring) (keys []*opened, lost []ringEntry) {
	for _, entry := range r.Keys {
		o := &opened{sealed: entry.Sealed}
		var err error
		o.secret, err = m.options.Sealer.open(entry.Sealed, &o.ringKey)
		if err == nil {
			o.key, err = o.load(algorithm, m.life())
		}
		if err != nil {
			lost = append(lost, entry)
			continue
		}
		o.stale = !entry.Lost.IsZero()
		keys = append(keys, o)
	}
	slices.SortStableFunc(keys, func(a, b *opened) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.id, b.id)) })
	return keys, lost
}

// secret is the one that keys in the store are sealed with.
func (m *Manager) secret() int {
	if m.options.Secret != nil {
		if i := m.options.Secret(); i > 0 && i < len(m.options.Sealer.aeads) {
			return i
		}
	}
	return 0
}

// What advance has done that operators want to know.
const (
	noteLost = "signing keys cannot be opened with SESSION_SECRET, a new one is made; tokens of the old ones are not valid any more"
	noteNext = "the next signing key is published"
)

// errNoMaterial: advance needs a key that was not made yet.
var errNoMaterial = errors.New("a new key is needed")

// keeps tells whether the keys of an algorithm are in the store, and not in files or none
// of ours.
func (m *Manager) keeps(algorithm string) bool {
	if algorithm == Encryption {
		return m.Encrypts()
	}
	return slices.Contains(m.algorithms, algorithm) && (algorithm != m.options.Algorithm || !m.options.files())
}

// kept are the algorithms that may have keys in the store: those we sign with first, and the
// one that others encrypt with last.
func (m *Manager) kept(ctx context.Context) ([]string, error) {
	if m.options.Sealer == nil {
		return nil, nil
	}
	all, stored := slices.Clone(m.algorithms), false
	for item, err := range m.rings.All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		if _, ok := algorithms[item.ID]; ok && !slices.Contains(all, item.ID) {
			all = append(all, item.ID)
		}
		stored = stored || item.ID == Encryption
	}
	if stored || m.Encrypts() {
		all = append(all, Encryption)
	}
	return all, nil
}

// advance returns what is to be written in the place of r; changed is false if r is as it
// has to be. rotate asks for a new key although it is not its time. If it takes a new key,
// that is material, or the error is errNoMaterial.
func (m *Manager) advance(algorithm string, r ring, rotate bool, material crypto.Signer) (next ring, changed bool, note string, err error) {
	now := m.options.Now().UTC().Truncate(time.Millisecond)
	keys, lost := m.open(algorithm, r)
	ahead := m.options.PublishFor
	if algorithm == Encryption {
		ahead = 0 // nobody has to know it before it is used: we have to
	}
	add := func(from time.Time) error {
		if material == nil {
			return errNoMaterial
		}
		made, err := newRingKey(material, algorithm, from)
		if err != nil {
			return err
		}
		k, err := made.load(algorithm, m.life())
		keys = append(keys, &opened{ringKey: made, key: k, stale: true})
		return err
	}

	// The time of the first key may be to come, by the clock of who has made it. Nobody
	// makes another one because of that.
	signing := slices.IndexFunc(keys, func(o *opened) bool { return o.signs(now) && (o.Until.IsZero() || now.Before(o.Until)) })
	if signing < 0 {
		signing = slices.IndexFunc(keys, func(o *opened) bool { return o.signs(now.Add(retirement)) && (o.Until.IsZero() || now.Before(o.Until)) })
	}
	waiting := slices.ContainsFunc(keys[signing+1:], func(o *opened) bool { return now.Before(o.From) })
	switch {
	case !m.keeps(algorithm): // others have taken over
	case signing < 0:
		if err := add(now); err != nil {
			return r, false, "", err
		}
		if len(lost) > 0 {
			note = noteLost
		}
	case !waiting:
		last := keys[len(keys)-1]
		due := m.options.RotateEvery > 0 && !now.Before(last.From.Add(m.options.RotateEvery-ahead))
		if rotate || due {
			if err := add(now.Add(ahead)); err != nil {
				return r, false, "", err
			}
			note = noteNext
		}
	}

	// A key signs until the next one does, and then loses its private half.
	slices.SortStableFunc(keys, func(a, b *opened) int { return a.From.Compare(b.From) })
	for i, o := range keys {
		until := o.Until
		switch {
		case i+1 < len(keys):
			if following := keys[i+1].From; until.IsZero() || until.After(following) {
				until = following
			}
		case !m.keeps(algorithm) && !m.settled && until.IsZero():
			until = now
		}
		if !until.Equal(o.Until) {
			o.Until, o.Gone, o.stale = until, until.Add(m.life()+retirement), true
			o.gone = o.Gone
		}
		last := until.Add(retirement)
		if algorithm == Encryption {
			last = o.gone
		}
		if len(o.Private) > 0 && !until.IsZero() && !now.Before(last) {
			o.Private, o.stale = nil, true
		}
	}
	keys = slices.DeleteFunc(keys, func(o *opened) bool {
		return !o.Until.IsZero() && (!o.known(now) || algorithm == Encryption && !o.opens(now))
	})

	for _, entry := range lost {
		if entry.Lost.IsZero() {
			entry.Lost, changed = now, true
		}
		if now.Before(entry.Lost.Add(remembrance)) {
			next.Keys = append(next.Keys, entry)
		}
	}
	secret := m.secret()
	for _, o := range keys {
		entry := ringEntry{Sealed: o.sealed}
		if o.stale || o.secret != secret {
			if entry.Sealed, err = m.options.Sealer.seal(o.ringKey, secret); err != nil {
				return r, false, "", err
			}
			changed = true
		}
		next.Keys = append(next.Keys, entry)
	}
	if surplus := len(next.Keys) - ringSize; surplus > 0 {
		next.Keys = next.Keys[surplus:]
	}
	return next, changed || len(next.Keys) != len(r.Keys), note, nil
}

// unlock ends what mu guards, and tells of what was written meanwhile.
func (m *Manager) unlock() {
	wrote := m.wrote
	m.wrote = false
	m.mu.Unlock()
	if wrote && m.options.Written != nil {
		m.options.Written()
	}
}

// tend brings the ring of an algorithm up to date and tells whether it wrote something.
// The caller holds mu.
func (m *Manager) tend(ctx context.Context, algorithm string, rotate bool) (bool, error) {
	var material crypto.Signer
	for {
		item, err := m.rings.Get(ctx, algorithm)
		missing := errors.Is(err, store.ErrNotFound)
		if err != nil && !missing {
			return false, err
		}
		if missing && !m.keeps(algorithm) {
			return false, nil
		}
		next, changed, note, err := m.advance(algorithm, item.Value, rotate, material)
		if errors.Is(err, errNoMaterial) {
			if material, err = newKey(algorithm); err != nil {
				return false, err
			}
			continue // RSA takes its time, and others may have written meanwhile
		}
		if err != nil || !changed {
			return false, err
		}
		if missing {
			_, err = m.rings.Insert(ctx, algorithm, next)
		} else {
			item.Value = next
			_, err = m.rings.Replace(ctx, item)
		}
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			continue // another server is at it too: look at what it has written
		}
		switch {
		case err != nil:
			return false, err
		case note == noteLost:
			m.log.Warn(note, "algorithm", algorithm)
		case note != "" && !rotate && algorithm != Encryption: // who rotates by hand is told
			m.log.Info(note, "algorithm", algorithm, "signs_in", m.options.PublishFor)
		}
		m.wrote = true
		return true, nil
	}
}

// Tend does what is due: it makes keys that are missing, publishes the next ones in time,
// and drops what has retired. The server calls it after its start and every few minutes;
// any number of servers may.
func (m *Manager) Tend(ctx context.Context) error {
	m.mu.Lock()
	defer m.unlock()
	kept, err := m.kept(ctx)
	errs := []error{err}
	for _, algorithm := range kept {
		if _, err := m.tend(ctx, algorithm, false); err != nil {
			errs = append(errs, fmt.Errorf("signing keys of %s: %w", algorithm, err))
		}
	}
	m.settled = m.settled || errors.Join(errs...) == nil
	return errors.Join(append(errs, m.assemble(ctx, m.keys.Load().files, noteInUse))...)
}

// readable makes sure that who rotates by hand has the secret of the keys that are there: a
// new one in the place of those of the server would be worth nothing to it.
func (m *Manager) readable(ctx context.Context, algorithm string) error {
	item, err := m.rings.Get(ctx, algorithm)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if keys, lost := m.open(algorithm, item.Value); len(keys) == 0 && len(lost) > 0 {
		return errors.New("SESSION_SECRET does not open the keys in the database: use that of the server")
	}
	return nil
}

// RotateKey makes the next key of an algorithm although it is not its time yet. It signs
// after Options.PublishFor. If a key is waiting already, that is left as it is: done is false.
func (m *Manager) RotateKey(ctx context.Context, algorithm string) (done bool, err error) {
	if m.options.Sealer == nil || !m.keeps(algorithm) {
		return false, fmt.Errorf("no key of %s is kept in the database", algorithm)
	}
	m.mu.Lock()
	defer m.unlock()
	if err := m.readable(ctx, algorithm); err != nil {
		return false, err
	}
	waiting := func() bool {
		return slices.ContainsFunc(m.Keys(), func(k KeyState) bool { return k.Algorithm == algorithm && k.State == KeyNext })
	}
	if err := m.refresh(ctx); err != nil {
		return false, err
	}
	if waiting() {
		return false, nil
	}
	if done, err = m.tend(ctx, algorithm, true); err != nil {
		return false, err
	}
	return done, m.refresh(ctx)
}
