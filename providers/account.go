package providers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"login-server/config"
)

// Account is what an entry with the strategy account allows: accounts that live here.
type Account struct {
	// Registration is who may sign up.
	Registration string
	// Domains, if there are any, are those that the addresses of new people have to be in, in
	// ASCII; invited ones are free.
	Domains []string
	// Password and Passkeys are ways to sign in that people may have, Phone a number of
	// theirs for codes, and PhoneSignIn that such a code is enough to sign in.
	Password, Passkeys, Phone, PhoneSignIn bool
	// RevealAccounts lets applications ask whether an address has an account.
	RevealAccounts bool
	// TrustFor is how long a browser can be trusted not to need the second factor; 0: never.
	TrustFor time.Duration
	// Hashing is what a hash of a password costs.
	Hashing Hashing
}

// Values of Account.Registration.
const (
	RegistrationOpen       = "open"
	RegistrationInvitation = "invitation"
	RegistrationClosed     = "closed"
)

// Hashing is the cost of argon2id (RFC 9106, 3.1), and how many hashes are made at once; 0:
// as many as leave a processor free. Usually a hash has one lane: with more, one is made
// quicker, and not more of them.
type Hashing struct {
	MemoryKiB, Iterations uint32
	Parallelism           uint8
	AtOnce                int
}

type accountOptions struct {
	Registration   string   `json:"registration"`
	Domains        []string `json:"domains"`
	Password       *bool    `json:"password"`
	Passkeys       *bool    `json:"passkeys"`
	Phone          bool     `json:"phone"`
	PhoneSignIn    bool     `json:"phoneSignIn"`
	RevealAccounts bool     `json:"revealAccounts"`
	TrustDays      *float64 `json:"trustDays"`
	Hashing        struct {
		MemoryKiB   float64 `json:"memoryKiB"`
		Iterations  float64 `json:"iterations"`
		Parallelism float64 `json:"parallelism"`
		AtOnce      float64 `json:"atOnce"`
	} `json:"hashing"`
}

func (o *accountOptions) open(e *entry, p *Provider) {
	yes := func(b *bool) bool { return b == nil || *b }
	a := &Account{
		Registration: o.Registration, Password: yes(o.Password), Passkeys: yes(o.Passkeys),
		Phone: o.Phone, PhoneSignIn: o.PhoneSignIn, RevealAccounts: o.RevealAccounts,
	}
	if a.Registration == "" {
		a.Registration = RegistrationOpen
	}
	if ways := []string{RegistrationOpen, RegistrationInvitation, RegistrationClosed}; !slices.Contains(ways, a.Registration) {
		e.problem("options.registration", config.Quote(o.Registration)+" is none of "+strings.Join(ways, ", "), `write "open", "invitation" or "closed"`)
	}
	for i, domain := range o.Domains {
		ascii, err := idna.Lookup.ToASCII(strings.TrimPrefix(strings.TrimSpace(domain), "@"))
		if err != nil || !strings.Contains(ascii, ".") {
			e.problem(fmt.Sprintf("options.domains (entry %d)", i+1), config.Quote(domain)+" is not a domain", "write what stands behind the @ of addresses, such as example.org")
			continue
		}
		a.Domains = append(a.Domains, strings.ToLower(ascii))
	}
	if !a.Password && !a.Passkeys && !a.PhoneSignIn {
		e.problem("options.password", "is false, and passkeys and phoneSignIn are too: nobody could sign in", "set one of them to true")
	}
	if a.PhoneSignIn && !a.Phone {
		e.problem("options.phoneSignIn", "is true, and phone is not", "set phone to true as well")
	}
	days := 30.0
	if o.TrustDays != nil {
		days = *o.TrustDays
	}
	if days < 0 || days > 365 {
		e.problem("options.trustDays", fmt.Sprintf("%v is not between 0 and 365 days", days), "write 30, or 0 so that no browser is trusted")
	}
	a.TrustFor = time.Duration(days * float64(24*time.Hour))
	a.Hashing = Hashing{
		MemoryKiB:   uint32(e.count("options.hashing.memoryKiB", o.Hashing.MemoryKiB, 8192, 1<<20, 65536)),
		Iterations:  uint32(e.count("options.hashing.iterations", o.Hashing.Iterations, 1, 64, 1)),
		Parallelism: uint8(e.count("options.hashing.parallelism", o.Hashing.Parallelism, 1, 64, 1)),
		AtOnce:      int(e.count("options.hashing.atOnce", o.Hashing.AtOnce, 1, 256, 0)),
	}
	if first := slices.IndexFunc(e.cfg.Providers, func(other config.Provider) bool {
		return other.Strategy == "account" && !other.Disabled
	}); first >= 0 && e.cfg.Providers[first].Entry != e.provider.Entry {
		e.problem("strategy", "account is that of "+config.Quote(e.cfg.Providers[first].ID)+" as well", "keep one of them: an installation has its accounts once")
	}
	p.Account = a
}

// count reads an option that is a whole number; 0 is the value to take instead.
func (e *entry) count(field string, value, least, most, instead float64) float64 {
	if value == 0 {
		return instead
	}
	if value < least || value > most || value != float64(int64(value)) {
		e.problem(field, fmt.Sprintf("%v is not a whole number between %v and %v", value, least, most), "leave it out, or write another one")
		return instead
	}
	return value
}
