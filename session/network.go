package session

import "net/netip"

// Network is what limits count an address by, and what tells whether two requests
// may come from the same place: an IPv4 address, or the /64 of an IPv6 one, which
// belongs to one customer as a whole and in which browsers change their address.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}
