package jwksuri

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
)

// errNotPublic is what a connection to an address that may not be dialled ends
// with. The address is in the error around it.
var errNotPublic = errors.New("is not a public address, nor in AUTHZ_JWKS_URI_NETWORKS")

// special are the IPv4 networks that are not globally reachable, by the IANA's
// registry (RFC 6890), those that netip knows by name left out, and what a cloud
// has made such.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", // RFC 791 §3.2; carrier-grade NAT, RFC 6598
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", // RFC 6890, 5737, 7526
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", // RFC 2544, 5737
	"240.0.0.0/4",      // RFC 1112, and the broadcast address
	"168.63.129.16/32", // of no registry: inside Azure, the platform's agent for the machine itself
)

// global is the IPv6 space that anything public is in (RFC 4291 §2.4), and
// special6 what in it is not, or embeds an IPv4 address that another host unpacks.
var (
	global   = netip.MustParsePrefix("2000::/3")
	special6 = prefixes(
		"2001::/23",     // RFC 2928: Teredo (RFC 4380), ORCHID (RFC 7343), benchmarks
		"2001:db8::/32", // RFC 3849
		"2002::/16",     // 6to4, RFC 3056 and 7526
		"3fff::/20",     // RFC 9637
	)
	// nat64 embeds an IPv4 address in its last four bytes (RFC 6052 §2.1): where DNS
	// makes such addresses up, they are public as far as those are.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// isPublic says whether an address can be anybody's on the internet, and is not
// one of the server's own network or of the server itself.
func isPublic(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast():
		return false
	case a.Is4():
		return !slices.ContainsFunc(special, within)
	}
	return global.Contains(a) && !slices.ContainsFunc(special6, within)
}

// control judges the address that is about to be dialled: after every resolution
// and every redirect, so that no answer of the DNS can change it any more.
func (s *source) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errNotPublic
	}
	a := to.Addr()
	if isPublic(a) || slices.ContainsFunc(s.networks, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }) {
		return nil
	}
	return errNotPublic
}
