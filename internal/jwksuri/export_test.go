package jwksuri

import "net/netip"

// IsPublic is for addresses that a test cannot connect to.
func IsPublic(address string) bool { return isPublic(netip.MustParseAddr(address)) }

// MaxWaiting is how many requests wait for one host.
const MaxWaiting = maxWaiting
