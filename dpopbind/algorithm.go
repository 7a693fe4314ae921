package dpopbind

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cargokey/authz/internal/strictjose"
)

// Algorithm is the name of a JWS signature algorithm, as in the IANA registry
// and a proof's alg.
type Algorithm string

// The algorithms that a proof can be signed with. There is no symmetric one and
// no "none": RFC 9449 §4.2 forbids both.
const (
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256, RFC 7518 §3.4
	EdDSA Algorithm = "EdDSA" // Ed25519 only, RFC 8037 §3.1
	PS256 Algorithm = "PS256" // RSASSA-PSS with SHA-256, RFC 7518 §3.5
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256, RFC 7518 §3.3

	// Ed25519 is EdDSA by its fully-specified name, which newer clients use:
	// RFC 9864 §2.2.
	Ed25519 Algorithm = "Ed25519"
)

// DefaultAlgorithms returns all algorithms of this package, in the order of
// preference: ES256, EdDSA, PS256, RS256, Ed25519. It is the value for the metadata
// dpop_signing_alg_values_supported (RFC 9449 §5.1) of a server that does not
// restrict them.
func DefaultAlgorithms() []Algorithm {
	return []Algorithm{ES256, EdDSA, PS256, RS256, Ed25519}
}

// kty is the one key type that an algorithm fits, "" for an unknown algorithm.
func (a Algorithm) kty() string { return strictjose.KeyType(string(a)) }

// knownAlgorithms returns those that are configured, DefaultAlgorithms for none. It
// refuses an unknown or repeated one.
func knownAlgorithms(configured []Algorithm) ([]Algorithm, error) {
	if len(configured) == 0 {
		return DefaultAlgorithms(), nil
	}
	for i, a := range configured {
		if a.kty() == "" {
			return nil, fmt.Errorf("dpopbind: unknown algorithm %q", string(a))
		}
		if slices.Contains(configured[:i], a) {
			return nil, fmt.Errorf("dpopbind: the algorithm %s is listed twice", a)
		}
	}
	return slices.Clone(configured), nil
}

func joinAlgorithms(algs []Algorithm, separator string) string {
	var b strings.Builder
	for i, a := range algs {
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(string(a))
	}
	return b.String()
}
