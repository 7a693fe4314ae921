package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Algorithm is a JWS algorithm that keys sign with.
type Algorithm string

// The algorithms that this package knows.
const (
	ES256 Algorithm = "ES256" // RFC 7518 §3.4
	EdDSA Algorithm = "EdDSA" // RFC 8037 §3.1, with Ed25519
	PS256 Algorithm = "PS256" // RFC 7518 §3.5
	RS256 Algorithm = "RS256" // RFC 7518 §3.3
)

// DefaultAlgorithm is what every verifier knows, with the shortest keys.
const DefaultAlgorithm = ES256

// rsaBits is the size of new RSA keys; minRSABits that of those which open
// (RFC 7518 §3.3 wants 2048).
const (
	rsaBits    = 3072
	minRSABits = 2048
)

// Algorithms lists the algorithms that this package knows.
func Algorithms() []Algorithm { return []Algorithm{ES256, EdDSA, PS256, RS256} }

func joseAlgorithms() []jose.SignatureAlgorithm {
	var all []jose.SignatureAlgorithm
	for _, a := range Algorithms() {
		all = append(all, jose.SignatureAlgorithm(a))
	}
	return all
}

// generate makes a private key for the algorithm.
func (a Algorithm) generate() (crypto.Signer, error) {
	switch a {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case PS256, RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		return nil, fmt.Errorf("algorithm %q is not known; it may be one of %q", a, Algorithms())
	}
}

// fits tells whether a key of this public part can sign by the algorithm.
func (a Algorithm) fits(public crypto.PublicKey) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return a == ES256 && public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return a == EdDSA
	case *rsa.PublicKey:
		return (a == PS256 || a == RS256) && public.N.BitLen() >= minRSABits
	default:
		return false
	}
}
