package clientcert

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
)

// The RSA keys that are taken. Shorter ones can be factored in time; longer ones, or
// ones with a long exponent, are no stronger here and take long to verify by, which
// a stranger may have done.
const (
	minRSABits  = 2048
	maxRSABits  = 4096
	rsaExponent = 65537
)

// ErrKey: a certificate has a key that is not taken.
var ErrKey = errors.New("a certificate has a key that is none of RSA of 2048 to 4096 bits with the exponent 65537, ECDSA on P-256, P-384 or P-521, and Ed25519")

// CheckKey fails with ErrKey. FAPI 2.0 §5.4.1 asks for no less: RSA of 2048 bits,
// elliptic curves of 224.
func CheckKey(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits && key.E == rsaExponent {
			return nil
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	}
	return ErrKey
}
