package strictjose

import "encoding/base64"

// Base64 is base64url without padding (RFC 7515 §2), strict about the bits of the
// last character. It still skips line breaks: DecodeBase64 does not.
var Base64 = base64.RawURLEncoding.Strict()

// DecodeBase64 decodes the only base64url encoding of some bytes, and no other.
func DecodeBase64(s string) ([]byte, bool) {
	if !isBase64(s) {
		return nil, false
	}
	b, err := Base64.DecodeString(s)
	return b, err == nil
}

func isBase64(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
