package token

// For tests in token_test.

// NewKeyOf makes a private key that fits an algorithm.
var NewKeyOf = newKey
