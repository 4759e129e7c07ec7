package identity

// Profile is what a provider vouches for after somebody has signed in with it.
//
// ID never changes and is never given to somebody else; Name and Username are for
// display and never used to find a user.
type Profile struct {
	// Provider is the id of the provider in providers.json.
	Provider string
	// ID names the person at the provider.
	ID string
	// Name and Username may be empty.
	Name, Username string
	// URI of the identity, such as https://github.com/ada; may be empty.
	URI string
	// Claims is what the provider says of the person beside that, as a JSON object of
	// standard claims (OpenID Connect Core, 5.1); may be empty.
	Claims string
	// Upstream is what the provider gave to act there in the person's name, under the
	// names that applications read it by, as a JSON object: {"oauth": {"token": …,
	// "token_secret": …}}. It is empty unless an operator wants applications to have it
	// (exposeUpstreamToken).
	Upstream string
}
