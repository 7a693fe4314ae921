package authz

import "strings"

// maxUserAgent bounds what is kept of a User-Agent, in bytes.
const maxUserAgent = 64

// product is the first product of a User-Agent and its version (RFC 9110 §10.1.5), or
// "" where there is none, or where it could be something else than a name: whoever
// puts a secret there by mistake is not to find it in the audit trail. It tells
// services apart that are honest, and proves nothing.
//
// It is a part of the header's own memory.
func product(userAgent string) string {
	end := strings.IndexAny(userAgent, " \t")
	if end < 0 {
		end = len(userAgent)
	}
	if end > maxUserAgent {
		return ""
	}
	name, version, versioned := strings.Cut(userAgent[:end], "/")
	if !plainProduct(name) || versioned && !plainProduct(version) {
		return ""
	}
	// The slash is one of base64's characters, too, and the point is none.
	if first, _, pointed := strings.Cut(version, "."); versioned && end >= leastSecret && !(pointed && isNumber(first)) {
		return ""
	}
	return userAgent[:end]
}

// plainProduct tells whether a name or a version is made of few characters, which are
// harmless wherever they are printed, and is no secret by the look of it.
func plainProduct(s string) bool {
	if s == "" || hasSecretPrefix(s) {
		return false
	}
	run := 0 // where a text begins that could be base64 or hexadecimal
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.':
			run = i + 1
		case !isAlphanumeric(c) && c != '-' && c != '_' && c != '+':
			return false
		case i-run+1 >= leastSecret && !plainWords(s[run:i+1]):
			return false
		}
	}
	return true
}

// leastSecret is how many characters of base64 in a row may be a secret.
const leastSecret = 20

// maxWord is how long a word of a name may be, such as of "carrier-label-service".
const maxWord = 15

// plainWords tells whether a text consists of lower-case words with hyphens between.
// Not one of 10^15 random texts in base64url of the length of this server's secrets does.
func plainWords(s string) bool {
	word := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '-' || c == '_':
			word = 0
		case c >= 'a' && c <= 'z' && word < maxWord:
			word++
		default:
			return false
		}
	}
	return true
}

// hasSecretPrefix tells what is meant to be told at a glance: this server's secrets and
// tokens, and a JWT, whose first character is that of an object in base64url.
func hasSecretPrefix(s string) bool {
	return strings.Contains(s, SecretPrefix) || strings.Contains(s, OpaqueTokenPrefix) || strings.HasPrefix(s, "eyJ")
}

// isNumber tells whether a text is the number of a version, or a date as one.
func isNumber(s string) bool { return len(s) <= 8 && strings.Trim(s, "0123456789") == "" }

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
