package jwksuri

import "net/netip"

// IsPublic is for addresses that a test cannot connect to.
func IsPublic(address string) bool { return isPublic(netip.MustParseAddr(address)) }
