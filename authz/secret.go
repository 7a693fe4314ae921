package authz

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
)

// Prefixes by which a person, or a scanner of repositories and logs, tells
// what has leaked.
const (
	SecretPrefix      = "azs_" // a client secret
	OpaqueTokenPrefix = "azt_" // an opaque access token
)

// Digest is the SHA-256 of a secret or of a whole token, which is all that is
// stored of either. Both are 256 random bits that the server made (or, for a
// JWT, hold a signature over as many), so a slow hash would add nothing but
// the cost of each request.
type Digest [sha256.Size]byte

// DigestOf is the digest of a secret or a token as it was presented.
func DigestOf(presented string) Digest { return sha256.Sum256([]byte(presented)) }

// Name is what a secret is called where people and the audit trail speak of it:
// the beginning of its digest, which tells nothing of the secret.
func (d Digest) Name() string { return hex.EncodeToString(d[:nameBytes]) }

// nameBytes of a digest tell a client's secrets apart.
const nameBytes = 6

// matchesAny tells whether d is among stored, in a time that does not depend
// on which one it is or on how much of one agrees.
func (d Digest) matchesAny(stored []Digest) bool {
	found := 0
	// A client without secrets costs one comparison as well.
	for _, s := range append([]Digest{{}}, stored...) {
		found |= subtle.ConstantTimeCompare(d[:], s[:])
	}
	// No text is known whose SHA-256 is all zeros, so the first never matches.
	return found == 1
}

// Secret is a client secret just made. It is shown once, by Reveal, and prints
// as nothing else.
type Secret struct{ text string }

// NewSecret makes a client secret of 256 random bits.
func NewSecret() Secret { return Secret{random(SecretPrefix)} }

// Reveal is the secret itself.
func (s Secret) Reveal() string { return s.text }

// Digest is what the Store keeps.
func (s Secret) Digest() Digest { return DigestOf(s.text) }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String keeps the secret out of messages.
func (s Secret) String() string { return "REDACTED" }

// GoString keeps the secret out of %#v.
func (s Secret) GoString() string { return "REDACTED" }

// random is a prefix and 256 random bits.
func random(prefix string) string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}
