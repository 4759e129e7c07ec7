package credential_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"login-server/clock"
	"login-server/credential"
	"login-server/internal/teststore"
)

// appCode is the code that an app shows at a time: RFC 6238 and RFC 4226, 5.3, written down a
// second time.
func appCode(secret []byte, at time.Time, digits int) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	offset := sum[19] & 15
	value := uint64(binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff)
	mod := uint64(1)
	for range digits {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", digits, value%mod)
}

// TestAppCode holds the other implementation to the vectors of RFC 6238, appendix B.
func TestAppCode(t *testing.T) {
	for seconds, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := appCode([]byte("12345678901234567890"), time.Unix(seconds, 0), 8); got != want {
			t.Errorf("at %d: %s, want %s", seconds, got, want)
		}
	}
}

type factors struct {
	t     *testing.T
	clock *clock.Fake
	book  *credential.Book
	id    string
}

func newFactors(t *testing.T) *factors {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	book, err := credential.NewBook(credential.Options{Store: teststore.Open(t, fake.Now), Clock: fake, NewID: uuid.NewString, Secrets: []string{"a secret of the tests"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := book.Create(t.Context(), func(*credential.Credential) {})
	if err != nil {
		t.Fatal(err)
	}
	return &factors{t: t, clock: fake, book: book, id: c.ID}
}

// enrol sets up an app, and returns its secret. The next code is another one.
func (f *factors) enrol() []byte {
	f.t.Helper()
	e, err := f.book.NewTOTP("ada", "Test: Login", "ada@example.org")
	if err != nil {
		f.t.Fatal(err)
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.book.AddTOTP(f.t.Context(), f.id, e, appCode(secret, f.clock.Now(), 6)); err != nil {
		f.t.Fatal(err)
	}
	f.clock.Advance(time.Minute)
	return secret
}

func TestEnrolment(t *testing.T) {
	f := newFactors(t)
	e, err := f.book.NewTOTP("ada", "Test: Login", "ada@example.org")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil || len(secret) != 20 {
		t.Fatalf("the secret has %d bytes (%v), want 20", len(secret), err)
	}
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Test Login:ada@example.org" {
		t.Errorf("the app is given %s (%v)", e.URL, err)
	}
	if q := u.Query(); q.Get("secret") != e.Secret || q.Get("issuer") != "Test Login" || q.Get("digits") != "6" || q.Get("period") != "30" || q.Get("algorithm") != "SHA1" {
		t.Errorf("the app is given %s", e.URL)
	}
	again, err := f.book.ReadTOTP("ada", "Test: Login", "ada@example.org", e.Sealed)
	if err != nil || again.Secret != e.Secret {
		t.Errorf("read again: %v", err)
	}
	if _, err := f.book.ReadTOTP("ben", "Test", "ben", e.Sealed); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("the enrolment of somebody else: %v", err)
	}
	if _, err := f.book.AddTOTP(t.Context(), f.id, e, "000000"); !errors.Is(err, credential.ErrCode) {
		t.Errorf("with a wrong code: %v", err)
	}
	if c, err := f.book.Get(t.Context(), f.id); err != nil || c.TOTP != nil || c.TwoStep {
		t.Errorf("a wrong code has set up something (%v)", err)
	}
	code := appCode(secret, f.clock.Now(), 6)
	c, err := f.book.AddTOTP(t.Context(), f.id, e, code)
	if err != nil || !c.TwoStep || !c.Due() {
		t.Fatalf("the first factor does not turn on the second step: %v", err)
	}
	if strings.Contains(c.TOTP.Secret, e.Secret) {
		t.Error("the secret is stored as it is")
	}
	if _, err := f.book.TryTOTP(t.Context(), f.id, code); !errors.Is(err, credential.ErrCode) {
		t.Errorf("the code of the set-up was good a second time: %v", err)
	}
	f.clock.Advance(31 * time.Minute)
	if _, err := f.book.ReadTOTP("ada", "Test: Login", "ada@example.org", e.Sealed); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("an enrolment of long ago: %v", err)
	}
}

func TestTOTP(t *testing.T) {
	f := newFactors(t)
	secret := f.enrol()
	try := func(code string) error {
		_, err := f.book.TryTOTP(t.Context(), f.id, code)
		return err
	}
	at := func(d time.Duration) string { return appCode(secret, f.clock.Now().Add(d), 6) }

	for name, code := range map[string]string{
		"two steps ago": at(-time.Minute), "two steps ahead": at(time.Minute), "empty": "", "five digits": at(0)[:5], "seven digits": at(0) + "0",
		"with a letter": at(0)[:5] + "x", "long": strings.Repeat("1", 10<<20),
	} {
		if err := try(code); !errors.Is(err, credential.ErrCode) {
			t.Errorf("%s: %v, want ErrCode", name, err)
		}
	}
	if err := try(at(-30 * time.Second)); err != nil {
		t.Errorf("the code of the step before: %v", err)
	}
	if err := try(at(-30 * time.Second)); !errors.Is(err, credential.ErrCode) {
		t.Errorf("the same code again: %v", err)
	}
	now := at(0)
	if err := try(" " + now[:3] + "\u00a0" + now[3:] + "\r\n"); err != nil {
		t.Errorf("with spaces in it: %v", err)
	}
	if err := try(at(30 * time.Second)); err != nil {
		t.Errorf("the code of the next step: %v", err)
	}
	if err := try(now); !errors.Is(err, credential.ErrCode) {
		t.Errorf("a code before the last one: %v", err)
	}
	f.clock.Advance(time.Minute)
	if err := try(at(0)); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestTOTPTwiceAtOnce(t *testing.T) {
	f := newFactors(t)
	code := appCode(f.enrol(), f.clock.Now(), 6)
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch _, err := f.book.TryTOTP(t.Context(), f.id, code); {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, credential.ErrCode):
				t.Errorf("%v, want ErrCode", err)
			}
		})
	}
	wg.Wait()
	if got := wins.Load(); got != 1 {
		t.Errorf("one code was taken %d times", got)
	}
}

func TestTOTPGuessed(t *testing.T) {
	f := newFactors(t)
	secret := f.enrol()
	var err error
	for n := range 50 {
		if _, err = f.book.TryTOTP(t.Context(), f.id, "x12345"); !errors.Is(err, credential.ErrCode) {
			t.Fatalf("wrong code %d: %v", n, err)
		}
	}
	if _, err = f.book.TryTOTP(t.Context(), f.id, appCode(secret, f.clock.Now(), 6)); !errors.Is(err, credential.ErrTries) {
		t.Errorf("after 50 wrong ones: %v, want ErrTries", err)
	}
	f.clock.Advance(25 * time.Hour)
	if _, err = f.book.TryTOTP(t.Context(), f.id, appCode(secret, f.clock.Now(), 6)); err != nil {
		t.Errorf("a day later: %v", err)
	}
}

func TestRecovery(t *testing.T) {
	f := newFactors(t)
	f.enrol()
	codes, c, err := f.book.RenewRecovery(t.Context(), f.id)
	if err != nil || len(codes) != 10 || c.RecoveryLeft() != 10 || c.RecoveryLow() {
		t.Fatalf("%d codes: %v", len(codes), err)
	}
	// As people read them off paper.
	typed := " " + strings.ToUpper(strings.NewReplacer("-", " ", "0", "o", "1", "l").Replace(codes[0])) + "\n"
	if c, err = f.book.TryRecovery(t.Context(), f.id, typed); err != nil || c.RecoveryLeft() != 9 {
		t.Errorf("%q: %v", typed, err)
	}
	if _, err := f.book.TryRecovery(t.Context(), f.id, codes[0]); !errors.Is(err, credential.ErrCode) {
		t.Errorf("a second time: %v", err)
	}
	for _, wrong := range []string{"", "-", codes[1][:10], strings.Repeat("0", 10<<20)} {
		if _, err := f.book.TryRecovery(t.Context(), f.id, wrong); !errors.Is(err, credential.ErrCode) {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
	other, err := f.book.Create(t.Context(), func(*credential.Credential) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.book.TryRecovery(t.Context(), other.ID, codes[1]); !errors.Is(err, credential.ErrCode) {
		t.Errorf("somebody else's code: %v", err)
	}
	f.clock.Advance(time.Minute)
	if _, c, err = f.book.RenewRecovery(t.Context(), f.id); err != nil || !c.Changed.Equal(f.clock.Now()) {
		t.Errorf("new codes: %v, changed %v", err, c.Changed)
	}
	if _, err := f.book.TryRecovery(t.Context(), f.id, codes[1]); !errors.Is(err, credential.ErrCode) {
		t.Errorf("a code from before: %v", err)
	}
}

func TestLastFactorRemoved(t *testing.T) {
	f := newFactors(t)
	f.enrol()
	if _, _, err := f.book.RenewRecovery(t.Context(), f.id); err != nil {
		t.Fatal(err)
	}
	if _, err := f.book.SetPhone(t.Context(), f.id, "+4915112345678", false, 1); err != nil {
		t.Fatal(err)
	}
	c, err := f.book.RemoveTOTP(t.Context(), f.id)
	if err != nil || !c.TwoStep || c.RecoveryLeft() != 10 {
		t.Errorf("with a phone left: two steps %v, %d codes (%v)", c.TwoStep, c.RecoveryLeft(), err)
	}
	f.clock.Advance(time.Minute)
	c, err = f.book.RemovePhone(t.Context(), f.id, 0)
	if err != nil || c.TwoStep || len(c.Recovery) != 0 || !c.Changed.Equal(f.clock.Now()) {
		t.Errorf("with nothing left: %+v (%v)", c, err)
	}
	if _, err := f.book.SetTwoStep(t.Context(), f.id, true); !errors.Is(err, credential.ErrNotFound) {
		t.Errorf("a second step without a factor: %v", err)
	}
}

func TestPhone(t *testing.T) {
	f := newFactors(t)
	const number = "+4915112345678"
	if _, err := f.book.SetPhone(t.Context(), f.id, number, true, 1); err != nil {
		t.Fatal(err)
	}
	other, err := f.book.Create(t.Context(), func(*credential.Credential) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.book.SetPhone(t.Context(), other.ID, number, true, 1); !errors.Is(err, credential.ErrTaken) {
		t.Errorf("somebody else's number: %v", err)
	}
	if _, err := f.book.RemovePhone(t.Context(), f.id, 0); !errors.Is(err, credential.ErrLast) {
		t.Errorf("the last way in: %v", err)
	}
	if _, err := f.book.RemovePhone(t.Context(), f.id, 1); err != nil {
		t.Errorf("with another way beside: %v", err)
	}
}

// A number of which codes are the only way in is not made one that they are no way in with.
func TestPhoneThatIsTheLastWay(t *testing.T) {
	f := newFactors(t)
	c, err := f.book.Create(t.Context(), func(c *credential.Credential) {
		c.Phone = &credential.Phone{Number: "+4915112345670", Verified: f.clock.Now(), SignIn: true}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.book.SetPhone(t.Context(), c.ID, "+4915112345671", false, 0); !errors.Is(err, credential.ErrLast) {
		t.Errorf("got %v, want ErrLast", err)
	}
	for _, ways := range []struct {
		signIn bool
		beside int
	}{{true, 0}, {false, 1}} {
		if _, err := f.book.SetPhone(t.Context(), c.ID, "+4915112345671", ways.signIn, ways.beside); err != nil {
			t.Errorf("%+v: %v", ways, err)
		}
	}
}

// With a credential goes what waits for a mail of its owner: it has their address.
func TestDeleteLeavesNothingThatWaits(t *testing.T) {
	f := newFactors(t)
	c, err := f.book.Create(t.Context(), func(*credential.Credential) {})
	if err != nil {
		t.Fatal(err)
	}
	var waits []credential.Pending
	for _, kind := range []string{credential.PendingReset, credential.PendingEmail, credential.PendingUndoEmail, credential.PendingUnlock, credential.PendingLogin, credential.PendingNotMe} {
		i, err := f.book.Begin(t.Context(), credential.Pending{Kind: kind, Credential: c.ID, Email: "ada@example.org"}, nil, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, i.Pending)
	}
	if err := f.book.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	for _, p := range waits {
		if _, err := f.book.Pending(t.Context(), p.Kind, p.ID); !errors.Is(err, credential.ErrNotFound) {
			t.Errorf("%s is left: %v", p.Kind, err)
		}
	}
}
