package providers

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"strings"

	"login-server/identity"
)

const (
	orcidIssuer        = "https://orcid.org"
	orcidSandboxIssuer = "https://sandbox.orcid.org"
)

// orcidOptions: ORCID, its sandbox with accounts and credentials of its own, or for tests
// another issuer in their place.
type orcidOptions struct {
	issuerOptions
	Sandbox *bool `json:"sandbox"`
}

func (o *orcidOptions) open(e *entry, p *Provider) {
	switch {
	case o.Issuer != "":
	case o.Sandbox == nil && !e.cfg.Production():
		e.warn("options.sandbox", "is missing, and NODE_ENV is not production: people sign in at sandbox.orcid.org, whose accounts are for tests", `write "sandbox": true or "sandbox": false`)
		o.Issuer = orcidSandboxIssuer
	case o.Sandbox != nil && *o.Sandbox:
		o.Issuer = orcidSandboxIssuer
	default:
		o.Issuer = orcidIssuer
	}
	e.required("options.clientSecret", o.ClientSecret, "write the client secret that you get at ORCID")
	rp := o.relyingParty(e, p, "at "+o.Issuer+" (Developer tools)", "openid")
	rp.algorithms = []string{"RS256"}
	w := &orcid{rp, o.Issuer == orcidIssuer || o.Issuer == orcidSandboxIssuer}
	e.website(p, w, rp.issuer)
}

// orcid knows people by their ORCID iD. Neither a name nor an e-mail address can be
// relied on: both can be kept private.
type orcid struct {
	*relyingParty
	// genuine: it is ORCID, so that a sub has to be an ORCID iD.
	genuine bool
}

var _ Website = (*orcid)(nil)

// Finish does not ask the UserInfo endpoint: the answer of the token endpoint has the
// name already, if it is public.
func (o *orcid) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	a, err := o.authenticate(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	p := identity.Profile{ID: a.subject, Name: a.claims.name()}
	if o.genuine {
		if p.ID = bareORCID(p.ID); p.ID == "" {
			return identity.Profile{}, errors.New("ID Token: sub is not an ORCID iD")
		}
	}
	if name, ok := a.token.Extra("name").(string); ok && name != "" {
		p.Name = name // as people want it to be shown
	}
	return p, nil
}

var orcidForm = regexp.MustCompile(`^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$`)

// bareORCID is an ORCID iD without the URL that it can be written as; empty if it is none.
// The last character is a checksum (ISO 7064, MOD 11-2; X is ten).
func bareORCID(id string) string {
	for _, issuer := range []string{orcidIssuer, orcidSandboxIssuer} {
		id = strings.TrimPrefix(id, issuer+"/")
	}
	if !orcidForm.MatchString(id) {
		return ""
	}
	total := 0
	digits := strings.ReplaceAll(id, "-", "")
	for _, digit := range digits[:15] {
		total = (total + int(digit-'0')) * 2
	}
	if check := (12 - total%11) % 11; "0123456789X"[check] != digits[15] {
		return ""
	}
	return id
}
