package dpopbind

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// maxURL bounds a URL, in bytes. RFC 9110 §4.1 asks for support of 8000; a
// proof's htu has no query, and the whole proof has to fit into maxProof.
const maxURL = 2048

// NormalizeURL brings an absolute http or https URL into the one form in which
// an htu is compared: without query and fragment (RFC 9449 §4.2), and after
// syntax- and scheme-based normalization (RFC 3986 §6.2.2, §6.2.3), which RFC
// 9449 §4.3 recommends. It is idempotent.
//
// Equal become: the case of scheme and host, a default or empty port and none,
// an empty path and "/", the case of percent-encoding, percent-encoded and bare
// unreserved characters, dot segments and their meaning, spellings of an IPv6
// address. All else stays different: a trailing slash, another port, the case
// of the path, an encoded slash and a bare one, a doubled slash, a trailing dot
// of the host.
//
// A URL is refused that is relative, has no host, has userinfo or a port out of
// 1 to 65535, holds a character that RFC 3986 does not allow or a bad
// percent-encoding, or is longer than 2048 bytes. The host is a DNS name (also
// with underscores), an IPv4 address or a bracketed IPv6 address without zone;
// percent-encoding is refused there. The error is the predicate of a sentence
// about the URL, and never holds it.
func NormalizeURL(raw string) (string, error) {
	return normalizeURL(raw, normalizePath)
}

// RequestURL is NormalizeURL for the URL that a request was sent to. It also
// refuses one that has dot segments, percent-encoded ones included: its path has
// another meaning after normalization, so that a proof for one URL could be used
// at the other, and the request could leave what its URL begins with.
func RequestURL(raw string) (normal string, err error) {
	return normalizeURL(raw, normalizeRequestPath)
}

func normalizeURL(raw string, normalizePath func(string) (string, error)) (string, error) {
	if len(raw) > maxURL {
		return "", errors.New("is longer than 2048 bytes")
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] <= ' ' || raw[i] > '~' {
			return "", errors.New("has a character that is not printable ASCII")
		}
	}
	raw = withoutQuery(raw)

	colon := strings.IndexByte(raw, ':')
	if colon < 0 {
		return "", errors.New("is not absolute")
	}
	scheme := strings.ToLower(raw[:colon]) // RFC 3986 §6.2.2.1
	if scheme != "https" && scheme != "http" {
		return "", errors.New("is neither https nor http")
	}
	rest, ok := strings.CutPrefix(raw[colon+1:], "//")
	if !ok {
		return "", errors.New("has no host")
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	authority, err := normalizeAuthority(authority, scheme)
	if err != nil {
		return "", err
	}
	path, err = normalizePath(path)
	if err != nil {
		return "", err
	}
	return scheme + "://" + authority + path, nil
}

func withoutQuery(raw string) string {
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		return raw[:i]
	}
	return raw
}

func normalizeAuthority(authority, scheme string) (string, error) {
	// RFC 9110 §4.2.4: userinfo in an http URL is an error, and a way to
	// disguise the host.
	if strings.IndexByte(authority, '@') >= 0 {
		return "", errors.New("has userinfo")
	}
	host, port := authority, ""
	// A colon after the last bracket begins the port; those within belong to
	// the address.
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
	}
	host, err := normalizeHost(host)
	if err != nil {
		return "", err
	}
	if port == "" { // RFC 3986 §6.2.3: "http://example.com:/" has no port
		return host, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port[0] == '0' || port[0] == '+' {
		return "", errors.New("has a port that is not a number from 1 to 65535")
	}
	if scheme == "https" && n == 443 || scheme == "http" && n == 80 { // RFC 3986 §6.2.3
		return host, nil
	}
	return host + ":" + port, nil
}

func normalizeHost(host string) (string, error) {
	if host == "" { // RFC 9110 §4.2.1, §4.2.2
		return "", errors.New("has no host")
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", errors.New("has a host in brackets that is not an IPv6 address")
		}
		return "[" + addr.String() + "]", nil // RFC 5952 §4, lower case included
	}
	for i := 0; i < len(host); i++ {
		if c := host[i]; !isAlphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return "", errors.New("has a host that is neither a DNS name nor an IP address")
		}
	}
	return strings.ToLower(host), nil // RFC 3986 §6.2.2.1
}

func normalizePath(path string) (string, error) {
	// Decoding comes before the dot segments, since %2E is a dot (RFC 3986
	// §6.2.2.2).
	path, err := normalizeEscapes(path)
	if err != nil {
		return "", err
	}
	return removeDotSegments(path), nil
}

// normalizeRequestPath is normalizePath for a path that must not have dot
// segments.
func normalizeRequestPath(path string) (string, error) {
	plain, err := normalizeEscapes(path)
	if err != nil {
		return "", err
	}
	if plain == "" { // RFC 3986 §6.2.3
		plain = "/"
	}
	if plain[0] != '/' || removeDotSegments(plain) != plain { // "*" is no path
		return "", errors.New("has a path with dot segments")
	}
	return plain, nil
}

// normalizeEscapes decodes unreserved characters (RFC 3986 §6.2.2.2) and writes
// the remaining percent-encodings in upper case (§6.2.2.1).
func normalizeEscapes(path string) (string, error) {
	const upperHex = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' {
			if !isPathByte(c) {
				return "", errors.New("has a path character that has to be percent-encoded")
			}
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(path) {
			return "", errors.New("has a bad percent-encoding")
		}
		hi, lo := unhex(path[i+1]), unhex(path[i+2])
		if hi < 0 || lo < 0 {
			return "", errors.New("has a bad percent-encoding")
		}
		if d := byte(hi<<4 | lo); isUnreserved(d) {
			b.WriteByte(d)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[hi])
			b.WriteByte(upperHex[lo])
		}
		i += 2
	}
	return b.String(), nil
}

// removeDotSegments is RFC 3986 §5.2.4 for a path that is empty or begins with
// a slash; an empty one becomes "/" (§6.2.3).
func removeDotSegments(path string) string {
	if path == "" {
		return "/"
	}
	if !strings.Contains(path, "/.") {
		return path
	}
	segments := strings.Split(path[1:], "/")
	kept := segments[:0]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last { // "/a/." is the directory "/a/"
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/")
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isUnreserved(c byte) bool { // RFC 3986 §2.3
	return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

func isPathByte(c byte) bool { // RFC 3986 §3.3: "/" or pchar, less pct-encoded
	return isUnreserved(c) || strings.IndexByte("/!$&'()*+,;=:@", c) >= 0
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
