package audittrail

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/cargokey/authz/authz"
)

// Head names a seal and all before it: what is kept elsewhere, so that the end of the
// trail cannot be cut off unseen.
type Head struct {
	Number int64
	Digest authz.Digest
}

// String is the number, a colon and the digest in hex.
func (h Head) String() string {
	return strconv.FormatInt(h.Number, 10) + ":" + hex.EncodeToString(h.Digest[:])
}

// MarshalText is String, for JSON.
func (h Head) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// ParseHead reads what String writes.
func ParseHead(s string) (Head, error) {
	bad := errors.New("a head is NUMBER:DIGEST, as the servers log it: the number of a seal, a colon and 64 hex digits")
	n, digest, ok := strings.Cut(s, ":")
	number, err := strconv.ParseInt(n, 10, 64)
	if !ok || err != nil || number < 1 || len(digest) != 64 {
		return Head{}, bad
	}
	h := Head{Number: number}
	if _, err := hex.Decode(h.Digest[:], []byte(digest)); err != nil {
		return Head{}, bad
	}
	return h, nil
}
