package oidc

// What is not there yet answers as the protocol provides for what a server does not
// support.

func (p *Provider) extendMetadata(m map[string]any, at func(string) string) {
	p.logoutMetadata(m, at)
	m["device_authorization_endpoint"] = at(PathDevice)
	m["introspection_signing_alg_values_supported"] = p.o.Tokens.Algorithms()
	if len(p.Registration()) > 0 {
		m["registration_endpoint"] = at(PathRegister)
	}
	m["dpop_signing_alg_values_supported"] = signingAlgs
}
