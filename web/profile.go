package web

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"login-server/identity"
	"login-server/templates"
)

// claimField is how a claim is asked for.
type claimField struct {
	claim, label, kind, autocomplete, hint string
}

// claimGroups are the fields of the profile page. The name of the person is not among
// them: it is the account's, and required. Nor is the picture, which is uploaded (picture.go).
var claimGroups = []struct {
	id, title string
	fields    []claimField
}{
	{"group-names", "profile_group_names", []claimField{
		{"given_name", "claim_given_name", "text", "given-name", ""},
		{"middle_name", "claim_middle_name", "text", "additional-name", ""},
		{"family_name", "claim_family_name", "text", "family-name", ""},
		{"nickname", "claim_nickname", "text", "nickname", ""},
		{"preferred_username", "claim_preferred_username", "text", "", ""},
	}},
	{"group-contact", "profile_group_contact", []claimField{
		{"email", "claim_email", "email", "email", ""},
		{"phone_number", "claim_phone_number", "tel", "tel", "claim_phone_hint"},
		{"website", "claim_website", "url", "url", "claim_url_hint"},
		{"profile", "claim_profile", "url", "", "claim_url_hint"},
	}},
	{"group-address", "profile_group_address", []claimField{
		{"formatted", "claim_formatted", "lines", "", ""},
		{"street_address", "claim_street_address", "lines", "street-address", ""},
		{"postal_code", "claim_postal_code", "text", "postal-code", ""},
		{"locality", "claim_locality", "text", "address-level2", ""},
		{"region", "claim_region", "text", "address-level1", ""},
		{"country", "claim_country", "text", "country-name", ""},
	}},
	{"group-person", "profile_group_person", []claimField{
		{identity.Biography, "claim_biography", "lines", "", "claim_biography_hint"},
		{"gender", "claim_gender", "text", "sex", ""},
		{"birthdate", "claim_birthdate", "text", "bday", "claim_birthdate_hint"},
		{"locale", "claim_locale", "choice", "language", "claim_locale_hint"},
		{"zoneinfo", "claim_zoneinfo", "choice", "", ""},
	}},
}

// claimProblems are the messages for what is wrong with a claim.
var claimProblems = map[identity.ClaimProblem]string{
	identity.ClaimText: "claim_bad_text", identity.ClaimLong: "claim_bad_long", identity.ClaimURL: "claim_bad_url", identity.ClaimDate: "claim_bad_date",
	identity.ClaimZone: "claim_bad_zone", identity.ClaimLocale: "claim_bad_locale", identity.ClaimEmail: "claim_bad_email", identity.ClaimPhone: "claim_bad_phone",
	identity.ClaimAddress: "claim_bad_text",
}

// addressClaim is the one claim with several fields.
const addressClaim = "address"

func isMember(field string) bool { return slices.Contains(identity.AddressMembers, field) }

// fieldValue is what is in a field.
func fieldValue(known map[string]identity.Claim, field string) string {
	if isMember(field) {
		address, _ := known[addressClaim].Value.(map[string]any)
		value, _ := address[field].(string)
		return value
	}
	value, _ := known[field].Value.(string)
	return value
}

// sameLines compares texts as forms send them, whose lines end with CR LF.
func sameLines(a, b string) bool {
	return strings.TrimSpace(strings.ReplaceAll(a, "\r\n", "\n")) == strings.TrimSpace(b)
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }

// profile serves GET /account/profile.
func (s *Server) profile(w http.ResponseWriter, r *http.Request, v visitor) error {
	left := s.takeFlash(w, r)
	return s.showProfile(w, r, v, http.StatusOK, profileForm{messages: left.Messages})
}

// profileForm is what the profile page shows beside what is known: messages, or what was
// typed and what is wrong with it, by field, or with a picture.
type profileForm struct {
	messages []templates.Message
	typed    map[string]string
	wrong    map[string]identity.ClaimProblem
	picture  *templates.FieldError
}

// showProfile answers with the profile page.
func (s *Server) showProfile(w http.ResponseWriter, r *http.Request, v visitor, status int, f profileForm) error {
	a, known, typed, wrong := *v.account, v.account.Known(), f.typed, f.wrong
	page := templates.ProfilePage{Layout: s.layout(w, r, v), Name: a.Name, Picture: s.profilePicture(a, known), Wrong: len(wrong) > 0}
	page.Messages, page.Path, page.Picture.Error = f.messages, "account/profile", f.picture
	page.SignInMails = !a.Notices.SignInsOff
	if typed != nil {
		page.SignInMails = typed[noticeSignIns] != ""
	}
	for _, g := range claimGroups {
		group := templates.ClaimGroup{ID: g.id, Title: templates.Message{ID: g.title}}
		of := "" // the claim that was last told the source of
		for _, f := range g.fields {
			claim := f.claim
			if isMember(claim) {
				claim = addressClaim
			}
			value := fieldValue(known, f.claim)
			if f.claim == "formatted" && value == "" {
				continue // the parts are better
			}
			field := templates.ClaimField{Name: f.claim, Claim: claim, Label: templates.Message{ID: f.label}, Type: f.kind, Autocomplete: f.autocomplete, Value: value}
			if input, ok := typed[f.claim]; ok {
				field.Value = truncate(input, 4000)
			}
			switch f.claim {
			case "locale":
				field.Choices = languageChoices(s.Templates.Languages(), field.Value)
			case "zoneinfo":
				field.Choices = zoneChoices(field.Value)
			}
			if f.hint != "" {
				field.Hint = &templates.Message{ID: f.hint}
			}
			if of != claim {
				of = claim
				s.sources(&field, a, known, claim)
			}
			if problem, bad := wrong[f.claim]; bad {
				field.Error = &templates.FieldError{Field: f.claim, Message: templates.Message{Kind: "error", ID: claimProblems[problem]}}
			}
			group.Fields = append(group.Fields, field)
		}
		page.Groups = append(page.Groups, group)
	}
	s.render(w, status, page.Nonce, page)
	return nil
}

// sources adds to a field who its claim is from, and what a provider says in its place.
func (s *Server) sources(field *templates.ClaimField, a identity.Account, known map[string]identity.Claim, claim string) {
	if now, ok := known[claim]; ok {
		field.Source = s.source(now)
		if verdict, ok := known[claim+"_verified"]; ok {
			field.Judged, field.Verified = true, verdict.Value == true
		}
	}
	if offered, ok := a.Offered(claim); ok && !reflect.DeepEqual(offered.Value, known[claim].Value) {
		text, _ := offered.Value.(string)
		if members, ok := offered.Value.(map[string]any); ok {
			for _, name := range identity.AddressMembers {
				if part, _ := members[name].(string); part != "" {
					if text != "" {
						text += ", "
					}
					text += part
				}
			}
		}
		field.Offered = &templates.Message{ID: "claim_offered", Args: map[string]any{"Provider": s.providerName(offered.Provider), "Value": text}}
	}
}

// source says who a claim is from.
func (s *Server) source(c identity.Claim) *templates.Message {
	switch c.Source {
	case identity.SourceOperator:
		return &templates.Message{ID: "claim_source_operator"}
	case identity.SourceProvider:
		return &templates.Message{ID: "claim_source_provider", Args: map[string]any{"Provider": s.providerName(c.Provider)}}
	}
	return &templates.Message{ID: "claim_source_you"}
}

// Fields of the notices. A box that is not ticked is not sent, so a hidden one says that
// there was one.
const (
	noticesSent   = "notices"
	noticeSignIns = "notice_sign_ins"
)

// saveProfile serves POST /account/profile. A field that is not in the form stays as it is.
func (s *Server) saveProfile(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	changes, wrong := changedClaims(v.account.Known(), fields)
	if len(wrong) > 0 {
		return s.showProfile(w, r, v, http.StatusUnprocessableEntity, profileForm{typed: fields, wrong: wrong})
	}
	if notices := (identity.Notices{SignInsOff: fields[noticeSignIns] == ""}); fields[noticesSent] != "" && notices != v.account.Notices {
		if _, err := s.Users.SetNotices(r.Context(), v.account.ID, notices); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		if _, err := s.Users.SetClaims(r.Context(), v.account.ID, identity.SourceYou, changes); err != nil {
			return err
		}
	}
	if _, chosen := changes["locale"]; chosen {
		s.forgetLanguage(w) // what was chosen last counts
	}
	return s.redirectNoting(w, s.path("account/profile"), note("success", "profile_saved", nil))
}

// changedClaims are the claims that somebody has typed something else for, or what is
// wrong with that, by field.
func changedClaims(known map[string]identity.Claim, fields map[string]string) (changes map[string]any, wrong map[string]identity.ClaimProblem) {
	changes, wrong = map[string]any{}, map[string]identity.ClaimProblem{}
	check := func(field, claim string, value any) any {
		checked, err := identity.CheckClaim(claim, value)
		if bad, ok := errors.AsType[*identity.ClaimError](err); ok {
			wrong[field] = bad.Problem
		}
		return checked
	}
	address, addressChanged := map[string]any{}, false
	for _, g := range claimGroups {
		for _, f := range g.fields {
			typed, sent := fields[f.claim]
			before := fieldValue(known, f.claim)
			if !sent {
				typed = before
			}
			same := sameLines(typed, before)
			switch {
			case isMember(f.claim):
				addressChanged = addressChanged || !same
				if blank(typed) {
					break
				}
				if part, ok := check(f.claim, addressClaim, map[string]any{f.claim: typed}).(map[string]any); ok {
					address[f.claim] = part[f.claim]
				}
			case same:
			case blank(typed):
				changes[f.claim] = nil
			default:
				changes[f.claim] = check(f.claim, f.claim, typed)
			}
		}
	}
	if addressChanged {
		changes[addressClaim] = nil
		if len(address) > 0 {
			changes[addressClaim] = address
		}
	}
	return changes, wrong
}

// restoreClaim serves POST /account/profile/restore: what a provider says counts again.
func (s *Server) restoreClaim(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if fields["claim"] == "picture" {
		return s.restorePicture(w, r, v)
	}
	if _, offered := v.account.Offered(fields["claim"]); offered {
		if _, err := s.Users.RestoreClaim(r.Context(), v.account.ID, fields["claim"]); err != nil {
			return err
		}
	}
	return s.redirectNoting(w, s.path("account/profile"), note("success", "profile_saved", nil))
}
