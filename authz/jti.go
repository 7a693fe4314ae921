package authz

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"
)

// JTI names a token: a UUIDv7 (RFC 9562 §5.7), so that the order of names is
// the order of time to the millisecond.
type JTI [16]byte

// NewJTI makes the name of a token, or of any other event, of the moment now.
func NewJTI(now time.Time) JTI {
	j := JTIFloor(now)
	rand.Read(j[6:])               // never fails (crypto/rand)
	j[6] = 0x70 | j[6]&0x0f        // version 7
	j[8] = 0b1000_0000 | j[8]&0x3f // variant 10
	return j
}

// JTIFloor is the least possible JTI of a moment: tokens issued at or after it
// have greater names.
func JTIFloor(at time.Time) JTI {
	var j JTI
	ms := max(at.UnixMilli(), 0)
	for i := range 6 {
		j[i] = byte(ms >> (40 - 8*i))
	}
	return j
}

// ParseJTI reads the text form of a UUID.
func ParseJTI(s string) (JTI, error) {
	var j JTI
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return JTI{}, errors.New("not a UUID")
	}
	if _, err := hex.Decode(j[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return JTI{}, errors.New("not a UUID")
	}
	return j, nil
}

// String is the text form of a UUID.
func (j JTI) String() string {
	var b [36]byte
	hex.Encode(b[:8], j[:4])
	hex.Encode(b[9:13], j[4:6])
	hex.Encode(b[14:18], j[6:8])
	hex.Encode(b[19:23], j[8:10])
	hex.Encode(b[24:], j[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText is String, for JSON.
func (j JTI) MarshalText() ([]byte, error) { return []byte(j.String()), nil }
