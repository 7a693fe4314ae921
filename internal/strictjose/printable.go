package strictjose

import "strings"

const maxQuoted = 160 // bytes

// Quote delimits and bounds a text that a sender chose, for a sentence about it.
func Quote(s string) string {
	return "'" + Printable(s, maxQuoted) + "'"
}

// Printable replaces what RFC 6749 §5.2 does not allow in error_description
// (%x20-21 / %x23-5B / %x5D-7E) and truncates to limit bytes.
func Printable(s string, limit int) string {
	const ellipsis = "..."
	cut := len(s) > limit
	if cut {
		s = s[:limit-len(ellipsis)]
	}
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += ellipsis
	}
	return s
}
