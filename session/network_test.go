package session_test

import (
	"testing"

	"login-server/session"
)

func TestNetwork(t *testing.T) {
	for _, tc := range []struct{ address, want string }{
		{"192.0.2.7", "192.0.2.7"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/64"},
		{"::1", "::/64"},
		{"not an address", "not an address"},
		{"", ""},
	} {
		if got := session.Network(tc.address); got != tc.want {
			t.Errorf("Network(%q) = %q, want %q", tc.address, got, tc.want)
		}
	}
}
