package watch

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

// crockford has no letters that are taken for digits: an alert's ID may be read out.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// IDLength is that of an alert's ID.
const IDLength = 12

// newID names an alert: 60 random bits, short enough to type.
func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return crockford.EncodeToString(b[:])[:IDLength]
}

// ParseID reads an ID as people write it.
func ParseID(s string) (string, bool) {
	id := strings.NewReplacer("o", "0", "i", "1", "l", "1").Replace(strings.ToLower(s))
	if len(id) != IDLength || strings.Trim(id, "0123456789abcdefghjkmnpqrstvwxyz") != "" {
		return "", false
	}
	return id, true
}
