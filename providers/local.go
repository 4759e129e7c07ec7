package providers

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"

	"login-server/config"
	"login-server/hashing"
	"login-server/identity"
)

// localOptions: the users stand in providers.json, with hashes of their passwords.
type localOptions struct {
	Users []LocalUser `json:"users"`
}

// LocalUser is somebody in such a list. The fields are in the order in which people
// write them.
type LocalUser struct {
	Username    string `json:"username"`
	Password    string `json:"password"` // a hash
	DisplayName string `json:"displayName,omitempty"`
	URI         string `json:"uri,omitempty"` // wins over the template
	ID          string `json:"id,omitempty"`  // Username when it is empty
}

// IdentityID is what the identity of the user is found by.
func (u LocalUser) IdentityID() string { return cmp.Or(u.ID, u.Username) }

func (u LocalUser) profile() identity.Profile {
	return identity.Profile{ID: u.IdentityID(), Name: u.DisplayName, Username: u.Username, URI: u.URI}
}

// checkUsers is shared with the test strategy, whose passwords are no hashes.
func (e *entry) checkUsers(users []LocalUser, checkPassword func(field, password string)) {
	names, ids := map[string]int{}, map[string]int{}
	for i, u := range users {
		field := func(name string) string { return fmt.Sprintf("options.users (entry %d).%s", i+1, name) }
		unique := func(name, value string, seen map[string]int) {
			if first, double := seen[value]; double {
				e.problem(field(name), fmt.Sprintf("%s is also that of user %d", config.Quote(value), first), "write another one, or remove one of the users")
			} else {
				seen[value] = i + 1
			}
		}
		switch {
		case u.Username == "":
			e.problem(field("username"), "is missing", "write the name to sign in with")
		case len(u.Username) > MaxUsername || clean(u.Username) != u.Username:
			e.problem(field("username"), config.Quote(u.Username)+" is too long, or has unusual spaces or control characters", "write a plain name")
		default:
			unique("username", u.Username, names)
			if u.ID == "" {
				unique("username", u.Username, ids)
			}
		}
		if u.ID != "" {
			unique("id", u.ID, ids)
		}
		if u.URI != "" {
			if err := config.SafeURI(u.URI); err != nil {
				e.problem(field("uri"), config.QuoteURL(u.URI)+" "+err.Error(), "write https://…")
			}
		}
		checkPassword(field("password"), u.Password)
	}
}

func (o *localOptions) open(e *entry, p *Provider) {
	e.checkUsers(o.Users, func(field, password string) {
		if text := badHash(password); text != "" {
			e.problem(field, text, "make one with `login-server provider local passwd`")
		}
	})
	l := &local{users: o.Users, byName: map[string]int{}, hashing: e.hashing, key: make([]byte, 32)}
	rand.Read(l.key)
	for i, u := range o.Users {
		l.byName[u.Username] = i
	}
	e.checker(p, l, false)
}

// CheckHash says why nobody could sign in with a hash, without ever showing it.
func CheckHash(hash string) error {
	if text := badHash(hash); text != "" {
		return errors.New("the password " + text)
	}
	return nil
}

// badHash says what is wrong with a hash, without ever showing it. The limits keep
// one login from taking all memory, or a minute.
func badHash(hash string) string {
	switch {
	case hash == "":
		return "is missing"
	case strings.HasPrefix(hash, "$argon2id$"):
		params, salt, key, err := argon2id.DecodeHash(hash)
		switch {
		case err != nil:
			return "is a broken argon2id hash"
		case params.Memory > 1<<20 || params.Iterations > 64 || params.Iterations < 1 || params.Parallelism < 1 || len(salt) < 8 || len(key) < 16:
			return "is an argon2id hash with unusual parameters"
		}
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil || len(hash) != 60:
			return "is a broken bcrypt hash"
		case cost > 16:
			return fmt.Sprintf("is a bcrypt hash with cost %d, which takes seconds", cost)
		}
	default:
		return "is not a bcrypt or argon2id hash"
	}
	return ""
}

// HashPassword makes the hash that an entry of a local provider keeps.
func HashPassword(password string) (string, error) {
	return argon2id.CreateHash(password, argon2id.DefaultParams)
}

// local checks passwords against the hashes in providers.json.
type local struct {
	users   []LocalUser
	byName  map[string]int
	hashing slots
	key     []byte
}

var _ Checker = (*local)(nil)

// Check does the same work for a user who does not exist: the password is compared
// with the hash of one who does, always the same one for the same name, and refused
// whatever comes out. So an unknown name costs exactly what some known name costs,
// although the users may have hashes of different kinds.
func (l *local) Check(ctx context.Context, username, password string) (identity.Profile, error) {
	if len(l.users) == 0 {
		return identity.Profile{}, ErrRefused
	}
	i, known := l.hashFor(username)
	if err := l.hashing.acquire(ctx); err != nil {
		return identity.Profile{}, err
	}
	ok, err := hashing.Compare(l.users[i].Password, password)
	l.hashing.release()
	switch {
	case err != nil:
		return identity.Profile{}, fmt.Errorf("verify password: %w", err)
	case !ok || !known:
		return identity.Profile{}, ErrRefused
	}
	return l.users[i].profile(), nil
}

// hashFor is the user whose hash a password for username is compared with.
func (l *local) hashFor(username string) (i int, known bool) {
	// Computed for the known as well: it is work, too.
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(username))
	other := int(binary.BigEndian.Uint64(mac.Sum(nil)) % uint64(len(l.users)))
	if i, known = l.byName[username]; known {
		return i, true
	}
	return other, false
}
