package clientcert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"

	"github.com/cargokey/authz/internal/strictjose"
)

// ErrNotInSet: no key of the client's is the certificate's.
var ErrNotInSet = errors.New("no registered key of the client is the certificate's")

// KeyIn returns the name (RFC 7638) of that key of a client's that is the
// certificate's (RFC 8705 §2.2). Where the key has an x5c, its first certificate
// must be this one. It fails with ErrNotInSet.
func KeyIn(keys []strictjose.SetKey, c *x509.Certificate) (string, error) {
	for _, k := range keys {
		public, ok := k.Key.(interface{ Equal(crypto.PublicKey) bool })
		if ok && public.Equal(c.PublicKey) && (k.X5C == nil || bytes.Equal(k.X5C, c.Raw)) {
			return k.Thumbprint, nil
		}
	}
	return "", ErrNotInSet
}
