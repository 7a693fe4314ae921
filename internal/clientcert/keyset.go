package clientcert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

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

// JWKs returns for each certificate of a PEM file the JWK that registers it and no
// other of its key: the public key, with the certificate as its x5c (RFC 8705
// §2.2.2).
func JWKs(text []byte) (keys []json.RawMessage, err error) {
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("it holds something else than PEM certificates")
		}
		text = rest
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate: %w", err)
		}
		key, err := (jose.JSONWebKey{Key: c.PublicKey, Certificates: []*x509.Certificate{c}, Use: "sig"}).MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("a certificate's key: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
