package authz

import (
	"net/http"
	"strings"
)

// mediaRange is a member of an Accept header, without its parameters.
type mediaRange struct {
	name    string // type "/" subtype, in lower case; either may be "*"
	quality int    // 0 to 1000: RFC 9110 §12.4.2, in thousandths
}

// prefers tells whether a request asks for the media type named, and wants it no
// less than fallback, which it gets otherwise: also where it says nothing of
// the two, or says it in a way that is not well-formed. A wildcard does not ask
// for named: who has never heard of it must not get it.
func prefers(h http.Header, named, fallback string) bool {
	// RFC 9110 §5.3: several headers of a list are one list.
	ranges, ok := parseAccept(strings.Join(h.Values("Accept"), ","))
	if !ok {
		return false
	}
	wanted, _ := qualityOf(ranges, named)
	return wanted > 0 && wanted >= qualityAmong(ranges, fallback)
}

// qualityAmong is how much a media type is wanted: what its most specific range
// says counts (RFC 9110 §12.5.1).
func qualityAmong(ranges []mediaRange, name string) int {
	kind, _, _ := strings.Cut(name, "/")
	for _, pattern := range []string{name, kind + "/*", "*/*"} {
		if quality, ok := qualityOf(ranges, pattern); ok {
			return quality
		}
	}
	return 0
}

// qualityOf is the highest quality that a range of this name was given.
// Parameters play no part: the media types here define none.
func qualityOf(ranges []mediaRange, name string) (quality int, found bool) {
	for _, r := range ranges {
		if r.name == name {
			quality, found = max(quality, r.quality), true
		}
	}
	return quality, found
}

// parseAccept reads the list of an Accept header (RFC 9110 §12.5.1), and fails
// where any of it is not well-formed.
func parseAccept(field string) ([]mediaRange, bool) {
	var ranges []mediaRange
	p := fieldParser{field}
	for {
		p.space()
		if p.rest == "" {
			return ranges, true
		}
		if p.next(',') { // RFC 9110 §5.6.1.2: empty members are passed over
			continue
		}
		r, ok := p.mediaRange()
		p.space()
		if !ok || p.rest != "" && !p.next(',') {
			return nil, false
		}
		ranges = append(ranges, r)
	}
}

// fieldParser takes the grammar of RFC 9110 §5.6 off the front of a field's
// value, piece by piece.
type fieldParser struct{ rest string }

func (p *fieldParser) mediaRange() (r mediaRange, ok bool) {
	kind, okKind := p.token()
	okSlash := p.next('/')
	subtype, okSubtype := p.token()
	if !okKind || !okSlash || !okSubtype || kind == "*" && subtype != "*" {
		return mediaRange{}, false
	}
	r = mediaRange{name: strings.ToLower(kind + "/" + subtype), quality: 1000}
	weighed := false
	for {
		p.space()
		if !p.next(';') {
			return r, true
		}
		p.space()
		name, ok := p.token()
		if !ok { // RFC 9110 §5.6.6: a parameter may be left out between semicolons
			continue
		}
		if !p.next('=') {
			return mediaRange{}, false
		}
		switch value, ok := p.value(); {
		case !ok:
			return mediaRange{}, false
		case strings.EqualFold(name, "q"): // RFC 9110 §12.5.1: the weight, wherever it stands
			quality, ok := parseQuality(value)
			if !ok || weighed {
				return mediaRange{}, false
			}
			r.quality, weighed = quality, true
		}
	}
}

// value takes a token or a quoted string, which stays quoted: it matters to
// nobody what it says.
func (p *fieldParser) value() (string, bool) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	return p.token()
}

// quoted is RFC 9110 §5.6.4.
func (p *fieldParser) quoted() (string, bool) {
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			value := p.rest[:i+1]
			p.rest = p.rest[i+1:]
			return value, true
		case c == '\\':
			i++
			if i == len(p.rest) || !printable(p.rest[i]) {
				return "", false
			}
		case !printable(c):
			return "", false
		}
	}
	return "", false
}

func printable(c byte) bool { return c == '\t' || c >= ' ' && c != 0x7f }

// token is RFC 9110 §5.6.2.
func (p *fieldParser) token() (string, bool) {
	n := 0
	for n < len(p.rest) && isTokenByte(p.rest[n]) {
		n++
	}
	token := p.rest[:n]
	p.rest = p.rest[n:]
	return token, n > 0
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// space takes optional white space (RFC 9110 §5.6.3).
func (p *fieldParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *fieldParser) next(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// parseQuality is RFC 9110 §12.4.2's qvalue: 0 to 1 with up to three decimals.
func parseQuality(s string) (thousandths int, ok bool) {
	whole, decimals, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(decimals) > 3 {
		return 0, false
	}
	thousandths = int(whole[0]-'0') * 1000
	for i, unit := 0, 100; i < len(decimals); i, unit = i+1, unit/10 {
		if decimals[i] < '0' || decimals[i] > '9' {
			return 0, false
		}
		thousandths += int(decimals[i]-'0') * unit
	}
	return thousandths, thousandths <= 1000
}
