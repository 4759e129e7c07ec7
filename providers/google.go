package providers

import (
	"cmp"
	"context"
	"net/url"
	"regexp"
	"strings"

	"login-server/config"
	"login-server/identity"
)

// googleOptions: Google, or for tests another issuer in its place
// (https://developers.google.com/identity/openid-connect/openid-connect).
type googleOptions struct {
	issuerOptions
	// HD is the domain of an organization whose accounts alone may sign in; "*" is any.
	HD string `json:"hd"`
}

func (o *googleOptions) open(e *entry, p *Provider) {
	// The iss without a scheme that Google used to write is accepted by go-oidc, with this
	// issuer and no other.
	o.Issuer = cmp.Or(o.Issuer, "https://accounts.google.com")
	e.required("options.clientSecret", o.ClientSecret, "write the client secret that you get in the Google Cloud console")
	o.HD = strings.ToLower(o.HD)
	g := &google{o.relyingParty(e, p, "in the Google Cloud console (Clients, Web application)", "openid", "profile"), o.HD}
	if o.HD != "" {
		if o.HD != "*" && !domainForm.MatchString(o.HD) {
			e.problem("options.hd", config.Quote(o.HD)+" is not a domain", "write one such as example.org, or * for those of all organizations")
		}
		g.parameters["hd"] = o.HD
	}
	e.website(p, g, g.issuer)
}

var domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z]$`)

// google takes the sub alone for who somebody is: e-mail addresses change hands.
type google struct {
	*relyingParty
	hd string
}

var _ Website = (*google)(nil)

// Finish checks hd in the ID Token: the parameter only decides what Google offers, and
// who stands between can leave it out.
func (g *google) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	a, err := g.authenticate(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	switch domain := a.claims.text("hd"); {
	case g.hd == "*" && domain == "":
		return identity.Profile{}, &RefusedError{"Please sign in with the Google account of an organization."}
	case g.hd != "" && g.hd != "*" && domain != g.hd:
		return identity.Profile{}, &RefusedError{"Please sign in with a Google account of " + g.hd + "."}
	}
	return g.profile(ctx, a)
}
