package jwksuri_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cargokey/authz/internal/jwksuri"
)

// registries are the IANA's special-purpose registries of IPv4 and IPv6 (RFC 6890)
// whole, their multicast and unallocated space, and what they do not know and is
// inside some network all the same: whether one may be dialled. Of two that hold an
// address the longer prefix counts.
var registries = map[string]bool{
	"0.0.0.0/0": true, "0.0.0.0/8": false, "0.0.0.0/32": false, "10.0.0.0/8": false, "100.64.0.0/10": false, "127.0.0.0/8": false,
	"169.254.0.0/16": false, "172.16.0.0/12": false, "192.0.0.0/24": false, "192.0.0.0/29": false, "192.0.0.8/32": false,
	"192.0.0.9/32": false, "192.0.0.10/32": false, // global, but of whatever PCP or TURN server is near (RFC 7723, 8155)
	"192.0.0.170/32": false, "192.0.0.171/32": false, "192.0.2.0/24": false, "192.31.196.0/24": true, "192.52.193.0/24": true,
	"192.88.99.0/24": false, "192.168.0.0/16": false, "192.175.48.0/24": true, "198.18.0.0/15": false, "198.51.100.0/24": false,
	"203.0.113.0/24": false, "224.0.0.0/4": false, "240.0.0.0/4": false, "255.255.255.255/32": false, "168.63.129.16/32": false,

	"::/0": false, "2000::/3": true, "::/128": false, "::1/128": false, "::/96": false, "::ffff:0:0:0/96": false, "64:ff9b:1::/48": false,
	"100::/64": false, "100:0:0:1::/64": false, "2001::/23": false, "2001::/32": false, "2001:2::/48": false, "2001:10::/28": false,
	// Global, and no place for a document: anycast, AMT, AS112, ORCHIDv2, DRIP.
	"2001:1::1/128": false, "2001:1::2/128": false, "2001:1::3/128": false, "2001:3::/32": false, "2001:4:112::/48": false,
	"2001:20::/28": false, "2001:30::/28": false,
	"2001:db8::/32": false, "2002::/16": false, "2620:4f:8000::/48": true, "3fff::/20": false, "5f00::/16": false,
	"fc00::/7": false, "fe80::/10": false, "fec0::/10": false, "ff00::/8": false,
}

// mayBeDialled looks an address up in registries; one that holds another, of IPv4,
// may be dialled as that one may.
func mayBeDialled(a netip.Addr) bool {
	if b := a.As16(); netip.MustParsePrefix("64:ff9b::/96").Contains(a) || a.Is4In6() {
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	length, verdict := -1, false
	for text, ok := range registries {
		if p := netip.MustParsePrefix(text); p.Contains(a) && p.Bits() > length {
			length, verdict = p.Bits(), ok
		}
	}
	return verdict
}

// checkAddress holds an address against registries, and one of IPv4 in all the
// forms that IPv6 has for it.
func checkAddress(t *testing.T, a netip.Addr) {
	t.Helper()
	want := mayBeDialled(a)
	if got := jwksuri.IsPublic(a.String()); got != want {
		t.Errorf("%s: dialled: %t, want %t", a, got, want)
	}
	if a.Is6() && !a.Is4In6() && jwksuri.IsPublic(a.WithZone("eth0").String()) {
		t.Errorf("%s: dialled with a zone", a)
	}
	if !a.Is4() {
		return
	}
	v4 := a.As4()
	within := func(prefix string, at int) string {
		b := netip.MustParseAddr(prefix).As16()
		copy(b[at:], v4[:])
		return netip.AddrFrom16(b).String()
	}
	for form, address := range map[string]string{
		"mapped (RFC 4291 §2.5.5.2)": within("::ffff:0:0", 12), "by NAT64 (RFC 6052)": within("64:ff9b::", 12),
	} {
		if jwksuri.IsPublic(address) != want {
			t.Errorf("%s, %s: dialled: %t", address, form, !want)
		}
	}
	for form, address := range map[string]string{
		"compatible (RFC 4291 §2.5.5.1)": within("::", 12), "translated (RFC 2765)": within("::ffff:0:0:0", 12),
		"by local NAT64 (RFC 8215)": within("64:ff9b:1::", 12), "by 6to4 (RFC 3056)": within("2002::", 2),
		"by Teredo (RFC 4380), its server": within("2001::", 4), "by Teredo, its client": within("2001::", 12),
	} {
		if jwksuri.IsPublic(address) {
			t.Errorf("%s, %s: dialled", address, form)
		}
	}
}

func TestAddressesAreDialledAsTheRegistriesHaveThem(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{})
	for text := range registries {
		p := netip.MustParsePrefix(text)
		first, last := p.Addr(), lastOf(p)
		// Its bounds and what lies beside them, and some of what it holds.
		addresses := []netip.Addr{first, last, first.Prev(), last.Next()}
		for range 50 {
			b := make([]byte, len(first.AsSlice()))
			random.Read(b)
			in := first.AsSlice()
			for i := p.Bits(); i < len(in)*8; i++ {
				in[i/8] |= b[i/8] & (0x80 >> (i % 8))
			}
			a, _ := netip.AddrFromSlice(in)
			addresses = append(addresses, a)
		}
		for _, a := range addresses {
			if a.IsValid() {
				checkAddress(t, a)
			}
		}
	}
}

func TestPublicAddressesAreDialled(t *testing.T) {
	for _, address := range []string{"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "198.20.0.1", "168.63.129.15", "168.63.129.17",
		"2606:4700::1111", "2001:4860::8888", "64:ff9b::808:808", "::ffff:8.8.8.8"} {
		if !jwksuri.IsPublic(address) {
			t.Errorf("%s is refused", address)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for text := range registries {
		p := netip.MustParsePrefix(text)
		f.Add(p.Addr().AsSlice())
		f.Add(lastOf(p).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := netip.AddrFromSlice(b); ok {
			checkAddress(t, a)
		}
	})
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
