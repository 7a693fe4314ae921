package dpopbind

import (
	"errors"
	"fmt"

	"github.com/cargokey/authz/internal/strictjose"
)

// What senders write is held to one encoding and one meaning by strictjose.
type (
	object    = strictjose.Object
	publicKey = strictjose.PublicKey
)

// b64 is base64url without padding, which decodes line breaks too: what it decodes
// has to be checked first.
var b64 = strictjose.Base64

// Thumbprint returns the name that a public JWK has as a DPoP key: the base64url
// encoding of its RFC 7638 SHA-256 thumbprint. It refuses what a Checker would
// refuse in a proof, a private key included.
func Thumbprint(jwk []byte) (string, error) {
	o, err := strictjose.ParseObject(jwk)
	if err != nil {
		return "", errors.New("dpopbind: not a JWK, or an ambiguous one")
	}
	key, err := parsePublicJWK(o)
	if err != nil {
		return "", fmt.Errorf("dpopbind: not a usable public JWK: %w", err)
	}
	return key.Thumbprint, nil
}

// parsePublicJWK reads the jwk of a proof: RFC 9449 §4.3, checks 3 and 7.
func parsePublicJWK(o object) (*publicKey, error) {
	key, err := strictjose.ParsePublicJWK(o)
	if err != nil {
		return nil, refuse(CheckJWK, "%v", err)
	}
	return key, nil
}
