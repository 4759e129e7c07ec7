package oidc

import "time"

// TokenLife is how long the longest-lived token is good for that the provider signs, if
// access tokens live that long: its key has to be published for as long.
func TokenLife(accessToken time.Duration) time.Duration { return max(accessToken, jarmLife) }
