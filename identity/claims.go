package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/mail"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // names of time zones, also on machines without them
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// Standard claims about a person (OpenID Connect Core, 5.1), and a biography, are kept in two places: what
// the person or an operator has set (Account.Claims), and what each provider has said at
// the last sign-in with it (Account.Given). Known is what comes of the two.
//
// E-mail addresses and telephone numbers are claims like others: nobody is ever found or
// matched by one.

// Source says who a claim is from.
type Source string

// Sources of claims.
const (
	SourceYou      Source = "you" // the person
	SourceOperator Source = "operator"
	SourceProvider Source = "provider"
)

// Claim is what is known of a person.
type Claim struct {
	// Value is a string, a bool, for address a map of strings, for updated_at an int64. In
	// Account.Claims, nil hides what providers say.
	Value  any    `json:"value"`
	Source Source `json:"source"`
	// Provider is the one that it is from, for SourceProvider.
	Provider string `json:"provider,omitempty"`
	// From is the account that it came from with a merge: it goes with it again.
	From string `json:"from,omitempty"`
}

// claimChecks are all claims that can be set, with what their values are checked and
// brought into form by. name is the account's name; updated_at is kept by the Directory.
var claimChecks = map[string]func(any) (any, ClaimProblem){
	"name":                  checkText,
	"given_name":            checkText,
	"family_name":           checkText,
	"middle_name":           checkText,
	"nickname":              checkText,
	"preferred_username":    checkText,
	"profile":               checkWebAddress,
	"picture":               checkWebAddress,
	"website":               checkWebAddress,
	"gender":                checkText,
	"birthdate":             checkBirthdate,
	"zoneinfo":              checkZone,
	"locale":                checkLocale,
	"updated_at":            checkSeconds,
	"email":                 checkEmail,
	"email_verified":        checkBool,
	"phone_number":          checkPhone,
	"phone_number_verified": checkBool,
	"address":               checkAddress,
	// Biography is no standard claim.
	Biography: checkBiography,
}

// verified names the claim that says whether another has been verified. The two belong
// together: whoever gives the one decides the other.
var verified = map[string]string{"email": "email_verified", "phone_number": "phone_number_verified"}

// isVerdict tells that a claim says whether another has been verified.
func isVerdict(name string) bool { return name == "email_verified" || name == "phone_number_verified" }

// ClaimNames are the claims that can be set, in alphabetical order.
func ClaimNames() []string { return slices.Sorted(maps.Keys(claimChecks)) }

// AddressMembers are the members of the claim address (OpenID Connect Core, 5.1.1), as a
// letter has them.
var AddressMembers = []string{"formatted", "street_address", "postal_code", "locality", "region", "country"}

// ClaimProblem is what is wrong with the value of a claim.
type ClaimProblem string

// Problems of claims.
const (
	ClaimUnknown  ClaimProblem = "is not a claim that can be set"
	ClaimReserved ClaimProblem = "is not for the person to say"
	ClaimText     ClaimProblem = "is not text that can be displayed"
	ClaimLong     ClaimProblem = "is too long"
	ClaimURL      ClaimProblem = "is not an address that begins with https:// or http://"
	ClaimDate     ClaimProblem = "is not a date as YYYY-MM-DD, 0000-MM-DD or YYYY"
	ClaimZone     ClaimProblem = "is not the name of a time zone, such as Europe/Berlin"
	ClaimLocale   ClaimProblem = "is not a language tag, such as de or en-GB"
	ClaimEmail    ClaimProblem = "is not an e-mail address"
	ClaimPhone    ClaimProblem = "is not a telephone number with its country, such as +49 551 39-0"
	ClaimAddress  ClaimProblem = "is not an address: an object with text for one or more of formatted, street_address, postal_code, locality, region and country"
	ClaimBool     ClaimProblem = "is not true or false"
	ClaimSeconds  ClaimProblem = "is not a number of seconds since 1970"
	ClaimNothing  ClaimProblem = "says of nothing that it is verified"
)

// ClaimError says what is wrong with a claim.
type ClaimError struct {
	Claim   string
	Problem ClaimProblem
}

func (e *ClaimError) Error() string { return e.Claim + " " + string(e.Problem) }

// CheckClaim returns the value of a claim as it would be kept, or a *ClaimError.
func CheckClaim(name string, value any) (any, error) {
	check, ok := claimChecks[name]
	if !ok {
		return nil, &ClaimError{name, ClaimUnknown}
	}
	value, problem := check(value)
	if problem != "" {
		return nil, &ClaimError{name, problem}
	}
	return value, nil
}

// maxWebAddress and the like are lengths in bytes.
const (
	maxWebAddress = 2048
	maxEmail      = 254 // RFC 5321, 4.5.3.1.3, without the brackets
	maxAddress    = 1000
)

func checkText(value any) (any, ClaimProblem) {
	s, ok := value.(string)
	if !ok {
		return nil, ClaimText
	}
	switch s, err := CheckName(s); err {
	case nil:
		return s, ""
	case ErrNameLong:
		return nil, ClaimLong
	default:
		return nil, ClaimText
	}
}

// oneWord tells that a value is text without spaces and what nobody sees.
func oneWord(value any) (string, bool) {
	s, ok := value.(string)
	if !ok || !utf8.ValidString(s) {
		return "", false
	}
	s = trimName(s)
	return s, s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || unprintable(r) })
}

func checkWebAddress(value any) (any, ClaimProblem) {
	s, ok := oneWord(value)
	if len(s) > maxWebAddress {
		return nil, ClaimLong
	}
	u, err := url.Parse(s)
	if !ok || err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return nil, ClaimURL
	}
	return s, ""
}

var birthdateForm = regexp.MustCompile(`^[0-9]{4}(-[0-9]{2}-[0-9]{2})?$`)

func checkBirthdate(value any) (any, ClaimProblem) {
	s, ok := oneWord(value)
	if !ok || !birthdateForm.MatchString(s) {
		return nil, ClaimDate
	}
	year, day, full := strings.Cut(s, "-")
	switch {
	case !full:
		if year == "0000" {
			return nil, ClaimDate
		}
		return s, ""
	case year == "0000": // the year is withheld; it may have been a leap year
		year = "2000"
	}
	if _, err := time.Parse(time.DateOnly, year+"-"+day); err != nil {
		return nil, ClaimDate
	}
	return s, ""
}

// Biography is the claim that has a few words of the person about themselves: plain text,
// whose lines end with LF.
const Biography = "biography"

// MaxBiography is how many characters a biography may have.
const MaxBiography = 500

func checkBiography(value any) (any, ClaimProblem) {
	s, ok := value.(string)
	if !ok || !utf8.ValidString(s) {
		return nil, ClaimText
	}
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, line := range lines {
		line = strings.ReplaceAll(line, "\t", " ")
		if strings.ContainsFunc(line, unprintable) {
			return nil, ClaimText
		}
		lines[i] = strings.TrimRightFunc(line, unicode.IsSpace)
	}
	s = trimName(strings.Join(lines, "\n"))
	switch {
	case s == "":
		return nil, ClaimText
	case utf8.RuneCountInString(s) > MaxBiography:
		return nil, ClaimLong
	}
	return s, ""
}

// zoneForm keeps names of files out that are no zones.
var zoneForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*){0,2}$`)

func checkZone(value any) (any, ClaimProblem) {
	s, ok := oneWord(value)
	if !ok || len(s) > 64 || s == "Local" || !zoneForm.MatchString(s) {
		return nil, ClaimZone
	}
	if _, err := time.LoadLocation(s); err != nil {
		return nil, ClaimZone
	}
	return s, ""
}

func checkLocale(value any) (any, ClaimProblem) {
	s, ok := oneWord(value)
	if !ok || len(s) > 64 {
		return nil, ClaimLocale
	}
	tag, err := language.Parse(s) // also with an underscore, which the specification has in mind
	if err != nil || tag == language.Und {
		return nil, ClaimLocale
	}
	return tag.String(), ""
}

func checkEmail(value any) (any, ClaimProblem) {
	s, ok := oneWord(value)
	if len(s) > maxEmail {
		return nil, ClaimLong
	}
	address, err := mail.ParseAddress(s)
	if !ok || err != nil || address.Name != "" || address.Address != s || strings.ContainsAny(s, `"<>`) {
		return nil, ClaimEmail
	}
	return s, ""
}

// phoneForm is E.164, with an extension as in RFC 3966.
var (
	phoneForm   = regexp.MustCompile(`^\+[1-9][0-9]{4,14}(;ext=[0-9]{1,10})?$`)
	phoneSpaces = strings.NewReplacer(" ", "", "-", "", ".", "", "(", "", ")", "", "/", "", "\u00a0", "")
)

func checkPhone(value any) (any, ClaimProblem) {
	s, ok := value.(string)
	s = phoneSpaces.Replace(s)
	if !ok || !phoneForm.MatchString(s) {
		return nil, ClaimPhone
	}
	return s, ""
}

func checkBool(value any) (any, ClaimProblem) {
	if b, ok := value.(bool); ok {
		return b, ""
	}
	return nil, ClaimBool
}

func checkSeconds(value any) (any, ClaimProblem) {
	switch n := value.(type) {
	case int64:
		if n >= 0 {
			return n, ""
		}
	case float64:
		if n >= 0 && n == math.Trunc(n) && n < 1<<40 {
			return int64(n), ""
		}
	}
	return nil, ClaimSeconds
}

func checkAddress(value any) (any, ClaimProblem) {
	given, ok := value.(map[string]any)
	if !ok || len(given) == 0 {
		return nil, ClaimAddress
	}
	address := make(map[string]any, len(given))
	for name, value := range given {
		s, ok := value.(string)
		if !ok || !slices.Contains(AddressMembers, name) || !utf8.ValidString(s) {
			return nil, ClaimAddress
		}
		lines := []string{strings.ReplaceAll(s, "\r\n", "\n")}
		if name == "formatted" || name == "street_address" { // these may have several
			lines = strings.Split(lines[0], "\n")
		}
		for i, line := range lines {
			if strings.ContainsFunc(line, unprintable) {
				return nil, ClaimText
			}
			lines[i] = trimName(line)
		}
		if s = trimName(strings.Join(lines, "\n")); s == "" {
			return nil, ClaimAddress
		}
		if len(s) > maxAddress {
			return nil, ClaimLong
		}
		address[name] = s
	}
	return address, ""
}

// maxClaims is how many bytes Profile.Claims may have.
const maxClaims = 16 << 10

// given is what a profile says of the person beside who they are. What is not as it
// should be is left out: nobody is kept from signing in by it.
func (p Profile) given() map[string]any {
	if p.Claims == "" || len(p.Claims) > maxClaims || !utf8.ValidString(p.Claims) {
		return nil
	}
	var said map[string]any
	if json.Unmarshal([]byte(p.Claims), &said) != nil {
		return nil
	}
	given := map[string]any{}
	for name, value := range said {
		if value, err := CheckClaim(name, value); err == nil && name != "name" && name != "updated_at" {
			given[name] = value
		}
	}
	for name, verdict := range verified {
		if given[name] == nil {
			delete(given, verdict)
		}
	}
	return given
}

// keepGiven notes what a provider says at a sign-in in place of what it has said before.
func (a *Account) keepGiven(provider string, given map[string]any) {
	if len(given) == 0 {
		delete(a.Given, provider)
		return
	}
	if a.Given == nil {
		a.Given = map[string]map[string]any{}
	}
	a.Given[provider] = given
}

// Known are all claims about the person, none of them null or empty. What somebody has
// set here counts more than what providers say; of these, those that were linked to this
// account count more than those that came with a merge, and else the alphabet decides.
func (a Account) Known() map[string]Claim {
	known := map[string]Claim{}
	for name, own := range a.Claims {
		if own.Value != nil {
			known[name] = own
		}
	}
	add := func(name string, value any, provider string) bool {
		_, own := a.Claims[name]
		_, taken := known[name]
		if own || taken || value == nil {
			return false
		}
		known[name] = Claim{Value: value, Source: SourceProvider, Provider: provider}
		return true
	}
	providers := a.Providers()
	slices.SortStableFunc(providers, func(x, y string) int { return strings.Compare(a.Held[x], a.Held[y]) })
	for _, provider := range providers {
		for name, value := range a.Given[provider] {
			if isVerdict(name) || !add(name, value, provider) {
				continue
			}
			if verdict := verified[name]; verdict != "" && a.Given[provider][verdict] == true {
				known[verdict] = Claim{Value: true, Source: SourceProvider, Provider: provider}
			}
		}
	}
	for _, provider := range providers {
		if username := a.Identities[provider].Username; username != "" {
			add("preferred_username", username, provider)
		}
	}
	for name, verdict := range verified {
		value, ok := known[name]
		_, judged := known[verdict]
		switch {
		case !ok:
			delete(known, verdict)
		case !judged: // said aloud, for some take silence for yes
			known[verdict] = Claim{Value: false, Source: value.Source, Provider: value.Provider}
		}
	}
	if a.Name != "" {
		known["name"] = Claim{Value: a.Name, Source: SourceYou}
	}
	if changed := a.changed(); !changed.IsZero() {
		known["updated_at"] = Claim{Value: changed.Unix()}
	}
	return known
}

// Offered is what providers say where the person has set, or hidden, something else; false
// if that is nothing.
func (a Account) Offered(name string) (Claim, bool) {
	if _, own := a.Claims[name]; !own {
		return Claim{}, false
	}
	a.Claims = maps.Clone(a.Claims)
	delete(a.Claims, name)
	delete(a.Claims, verified[name])
	offered, ok := a.Known()[name]
	return offered, ok
}

// changed is when what is known of the person changed last.
func (a Account) changed() time.Time {
	if a.Updated.IsZero() {
		return a.Created
	}
	return a.Updated
}

// tellsTheSame tells whether two versions of an account say the same of the person.
func (a Account) tellsTheSame(b Account) bool {
	return a.Name == b.Name && maps.Equal(a.Identities, b.Identities) &&
		maps.EqualFunc(a.Claims, b.Claims, func(x, y Claim) bool { return reflect.DeepEqual(x, y) }) &&
		maps.EqualFunc(a.Given, b.Given, func(x, y map[string]any) bool { return reflect.DeepEqual(x, y) })
}

// SetClaims changes claims: nil takes one back. Where providers say something, the person
// (SourceYou) hides that by taking it back, and an operator uncovers it. Errors are
// *ClaimError, and then nothing is changed.
//
// That an address or number was verified only an operator can say, and only of the one
// that is known at that moment.
func (d *Directory) SetClaims(ctx context.Context, id string, by Source, changes map[string]any) (Account, error) {
	checked := make(map[string]any, len(changes))
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		value := changes[name]
		if by != SourceOperator && (isVerdict(name) || name == "updated_at") {
			return Account{}, &ClaimError{name, ClaimReserved}
		}
		if _, ok := claimChecks[name]; !ok {
			return Account{}, &ClaimError{name, ClaimUnknown}
		}
		if value != nil || name == "name" || name == "updated_at" {
			var err error
			if value, err = CheckClaim(name, value); err != nil {
				return Account{}, err
			}
		}
		checked[name] = value
	}
	return d.update(ctx, id, func(a *Account) error { return a.setClaims(by, checked) })
}

func (a *Account) setClaims(by Source, changes map[string]any) error {
	if a.Claims == nil {
		a.Claims = map[string]Claim{}
	}
	for name, value := range changes {
		if name == "name" {
			a.Name = value.(string)
		}
		if name == "name" || name == "updated_at" || isVerdict(name) {
			continue
		}
		before, had := a.Known()[name]
		if had && reflect.DeepEqual(before.Value, value) && by == SourceYou {
			continue // it stays whose it was, and verified if it was
		}
		_, hidden := a.Claims[name]
		switch {
		case value != nil:
			a.Claims[name] = Claim{Value: value, Source: by}
		case by == SourceYou && (had || hidden):
			a.Claims[name] = Claim{Source: by}
			if offered, ok := a.Offered(name); !ok || offered.Value == nil {
				delete(a.Claims, name)
			}
		default:
			delete(a.Claims, name)
		}
		if !had || !reflect.DeepEqual(before.Value, value) {
			delete(a.Claims, verified[name])
		}
	}
	for name, verdict := range verified {
		value, ok := changes[verdict]
		if !ok {
			continue
		}
		if value == nil {
			delete(a.Claims, verdict)
			continue
		}
		// The value is pinned: a provider may say another one tomorrow.
		of, ok := a.Known()[name]
		if !ok {
			return &ClaimError{verdict, ClaimNothing}
		}
		a.Claims[name] = Claim{Value: of.Value, Source: by}
		a.Claims[verdict] = Claim{Value: value, Source: by}
	}
	if at, ok := changes["updated_at"]; ok {
		a.Updated = time.Unix(at.(int64), 0).UTC()
	}
	return nil
}

// RestoreClaim takes back what was set or hidden here, so that what providers say shows.
func (d *Directory) RestoreClaim(ctx context.Context, id, name string) (Account, error) {
	return d.update(ctx, id, func(a *Account) error {
		delete(a.Claims, name)
		delete(a.Claims, verified[name])
		return nil
	})
}

// fill takes over what another account has set, where nothing is known of the person.
func (a *Account) fill(other Account) {
	known := a.Known()
	for name, claim := range other.Claims {
		if _, has := known[name]; has || isVerdict(name) {
			continue
		}
		if _, own := a.Claims[name]; own {
			continue
		}
		if a.Claims == nil {
			a.Claims = map[string]Claim{}
		}
		claim.From = other.ID
		a.Claims[name] = claim
		if verdict, ok := other.Claims[verified[name]]; ok {
			verdict.From = other.ID
			a.Claims[verified[name]] = verdict
		}
	}
}

// ParseClaim reads name=value as a command line has it: the value is JSON, or text as it
// stands where a claim is text.
func ParseClaim(setting string) (name string, value any, err error) {
	name, raw, ok := strings.Cut(setting, "=")
	if !ok || claimChecks[name] == nil {
		return "", nil, fmt.Errorf("%q is not a claim: write one as name=value, with a name of %s", setting, strings.Join(ClaimNames(), ", "))
	}
	if json.Unmarshal([]byte(raw), &value) == nil {
		if _, isText := value.(string); isText || value == nil || name == "address" || name == "updated_at" || isVerdict(name) {
			return name, value, nil
		}
	}
	return name, raw, nil
}
