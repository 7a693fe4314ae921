package audittrail

import (
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

// Keys authenticate seals. They do not print themselves.
type Keys struct {
	first string // which makes MACs
	all   map[string][]byte
}

// NewKeys derives the keys of the sealing keys: the first one makes MACs, all check
// them.
func NewKeys(sealer *jwks.Sealer) (Keys, error) {
	all, err := sealer.Derive("authz audit seals")
	return Keys{sealer.ID(), all}, err
}

// LogValue keeps the keys out of logs.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String keeps the keys out of messages.
func (k Keys) String() string { return "audit keys " + k.first }

// GoString keeps the keys out of %#v.
func (k Keys) GoString() string { return k.String() }

func (k Keys) sign(s *authz.TrailSeal) {
	s.MACKey = k.first
	s.MAC = macOf(k.all[k.first], s)
}

// verdict is what a MAC says of a seal.
type verdict int

const (
	genuine verdict = iota
	forged
	unknownKey // it may be either
)

func (k Keys) check(s authz.TrailSeal) verdict {
	key, ok := k.all[s.MACKey]
	if !ok {
		return unknownKey
	}
	if want := macOf(key, &s); !hmac.Equal(want[:], s.MAC[:]) {
		return forged
	}
	return genuine
}

// macOf is over what the seal says, and not over its digest alone: of a day whose events
// are gone the digest cannot be made anew, and such a day is where somebody would say that
// the seal of events belongs which he deleted.
func macOf(key []byte, s *authz.TrailSeal) (mac [32]byte) {
	h := hmac.New(sha256.New, key)
	h.Write(heading(nil, s))
	h.Write(s.Digest[:])
	h.Sum(mac[:0])
	return mac
}
