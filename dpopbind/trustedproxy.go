package dpopbind

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwardedOrigin returns the scheme and authority that a trusted proxy says the
// request was sent to, normalised, without a slash at the end.
//
// The proxy must set them itself and not let the client's through: Forwarded
// (RFC 7239) or X-Forwarded-Proto and X-Forwarded-Host, not both kinds, and each
// with one value. A list means that somebody else had a say.
func forwardedOrigin(r *http.Request, proxies []netip.Prefix) (origin string, ok bool) {
	if !isTrustedPeer(r.RemoteAddr, proxies) {
		return "", false
	}
	forwarded := r.Header.Values("Forwarded")
	xProto, xHost := r.Header.Values("X-Forwarded-Proto"), r.Header.Values("X-Forwarded-Host")
	var proto, host string
	switch {
	case len(forwarded) == 1 && len(xProto) == 0 && len(xHost) == 0:
		if proto, host, ok = parseForwarded(forwarded[0]); !ok {
			return "", false
		}
	case len(forwarded) == 0 && len(xProto) == 1 && len(xHost) == 1:
		proto, host = xProto[0], xHost[0]
	default:
		return "", false
	}
	// Neither may bring a part of a URL that is not its own; NormalizeURL refuses
	// the rest: commas, userinfo, bad ports.
	if !strings.EqualFold(proto, "https") && !strings.EqualFold(proto, "http") || strings.ContainsAny(host, "/?#") {
		return "", false
	}
	url, err := NormalizeURL(proto + "://" + host)
	if err != nil {
		return "", false
	}
	return strings.TrimSuffix(url, "/"), true
}

func isTrustedPeer(remote string, proxies []netip.Prefix) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parseForwarded reads the one element of a Forwarded header (RFC 7239 §4).
func parseForwarded(element string) (proto, host string, ok bool) {
	if strings.ContainsAny(element, ",\\") { // a list, or an escape that nothing here needs
		return "", "", false
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(element, ";") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		name = strings.ToLower(name)
		if !found || !isToken(name) || seen[name] { // §4: each parameter at most once
			return "", "", false
		}
		seen[name] = true
		if unquoted, quoted := strings.CutPrefix(value, `"`); quoted {
			if value, found = strings.CutSuffix(unquoted, `"`); !found {
				return "", "", false
			}
		}
		switch name {
		case "proto":
			proto = value
		case "host":
			host = value
		}
	}
	return proto, host, proto != "" && host != ""
}
