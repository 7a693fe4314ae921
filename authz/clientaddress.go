package authz

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// networks are those of peers whose word is believed on something.
type networks []netip.Prefix

// has tells whether a peer is in one of them. One at a Unix socket is in none.
func (n networks) has(peer netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// peerOf is the address of whom a connection is with; not valid: a Unix socket.
func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// origin is where a request comes from.
type origin struct {
	remote string // for the log and the audit trail
	// network is what failures are counted by: the address, and of IPv6 the network
	// that one subscriber has (RFC 6177 §2): whoever has one address there has all.
	network string
}

// originOf goes by the peer, or by the client's address where the peer is a proxy that
// is believed and says it.
func originOf(r *http.Request, proxies networks) origin {
	peer := peerOf(r)
	if len(proxies) > 0 && proxies.has(peer) {
		if client, ok := forwardedClient(r.Header, proxies); ok {
			return origin{client.String(), networkOf(client)}
		}
	}
	return origin{remoteHost(r), networkOf(peer)}
}

// remoteHost is the peer's address as the listener says it.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func networkOf(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String()
	}
	network, err := addr.Prefix(64)
	if err != nil || !addr.IsValid() {
		return ""
	}
	return network.String()
}

// forwardedClient is the client's address by the word of the proxies between: from the
// right, where the last of them has written, the first that is none of them. What lies
// left of it, the client may have sent itself, and it is not looked at.
//
// There is none where that one is no address, where a chain of proxies has no client at
// its end, and where the two headers differ: a proxy that writes one of them may let
// through the other one as it came, and a client is to hide at most, never to choose.
func forwardedClient(h http.Header, proxies networks) (client netip.Addr, ok bool) {
	x, forwarded := h["X-Forwarded-For"], h["Forwarded"]
	if len(x) > 0 {
		if client, ok = firstStranger(x, lastOfList, proxies); !ok {
			return netip.Addr{}, false
		}
	}
	if len(forwarded) == 0 {
		return client, ok
	}
	other, ok := firstStranger(forwarded, lastForwarded, proxies)
	if !ok || len(x) > 0 && other != client {
		return netip.Addr{}, false
	}
	return other, true
}

// maxProxies bounds how many proxies a request is followed through.
const maxProxies = 16

// firstStranger walks the members of a header from the last to the first. Several
// fields of one name are one list (RFC 9110 §5.3).
func firstStranger(fields []string, last func(string) (node, before string, ok bool), proxies networks) (netip.Addr, bool) {
	seen := 0
	for _, rest := range slices.Backward(fields) {
		for strings.Trim(rest, " \t,") != "" {
			var node string
			var ok bool
			if node, rest, ok = last(rest); !ok || seen == maxProxies {
				return netip.Addr{}, false
			}
			addr, ok := parseNode(node)
			if !ok {
				return netip.Addr{}, false
			}
			if !proxies.has(addr) {
				return addr, true
			}
			seen++
		}
	}
	return netip.Addr{}, false
}

// lastOfList takes the last member off a list (RFC 9110 §5.6.1.2: empty ones are passed
// over).
func lastOfList(list string) (member, before string, ok bool) {
	list = strings.TrimRight(list, " \t,")
	comma := strings.LastIndexByte(list, ',')
	return strings.Trim(list[comma+1:], " \t"), list[:max(comma, 0)], true
}

// maxForwarded bounds a field of Forwarded, in bytes, which can only be read from its
// beginning.
const maxForwarded = 4 << 10

// lastForwarded takes the last element off a field of Forwarded (RFC 7239 §4), and is
// its for. The field is read anew for each, and there are maxProxies at most.
func lastForwarded(field string) (node, before string, ok bool) {
	if len(field) > maxForwarded {
		return "", "", false
	}
	p := fieldParser{field}
	for {
		p.space()
		start := len(field) - len(p.rest)
		if p.next(',') {
			continue
		}
		if p.rest == "" {
			return node, before, true
		}
		if node, ok = p.forwardedElement(); !ok {
			return "", "", false
		}
		before = field[:start]
		if p.space(); p.rest != "" && !p.next(',') {
			return "", "", false
		}
	}
}

// forwardedElement takes the pairs of one proxy, and is its for; "": it has none.
func (p *fieldParser) forwardedElement() (node string, ok bool) {
	seen := false
	for {
		p.space()
		name, ok := p.token()
		if !ok || !p.next('=') {
			return "", false
		}
		value, ok := p.value()
		if !ok {
			return "", false
		}
		if strings.EqualFold(name, "for") {
			if seen { // RFC 7239 §4: each parameter at most once
				return "", false
			}
			node, seen = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`), true
		}
		if p.space(); !p.next(';') {
			return node, true
		}
	}
}

// parseNode reads an address: IPv4 or IPv6, by itself or, the latter in brackets, with
// a port. "unknown" and what is obfuscated (RFC 7239 §6.2, §6.3) is none.
func parseNode(node string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(node)
	if err != nil {
		bare, bracketed := strings.CutPrefix(node, "[")
		if inner, closed := strings.CutSuffix(bare, "]"); bracketed && closed {
			addr, err = netip.ParseAddr(inner)
			bracketed = addr.Is6()
		} else {
			var withPort netip.AddrPort
			withPort, err = netip.ParseAddrPort(node)
			addr, bracketed = withPort.Addr(), true
		}
		if err != nil || !bracketed {
			return netip.Addr{}, false
		}
	}
	// A zone is known to the host that it is of, and to nobody else.
	if addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}
