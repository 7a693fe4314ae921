package clientcert

import (
	"crypto/x509"
	"encoding/json"
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// ErrNotInSet: no key of the client's is the certificate's.
var ErrNotInSet = errors.New("no registered key of the client is the certificate's")

// KeyIn returns the name of the key of a JWK Set (RFC 7517 §5) that is the
// certificate's (RFC 8705 §2.2): its KeyName. Where that key has an x5c, its first
// certificate must be this one. It fails with ErrNotInSet. Keys that are no public
// keys for signatures are passed over.
func KeyIn(set []byte, c *x509.Certificate) (string, error) {
	name, err := KeyName(c)
	if err != nil {
		return "", ErrNotInSet
	}
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &document); err != nil {
		return "", ErrNotInSet
	}
	for _, raw := range document.Keys {
		var k jose.JSONWebKey
		// RFC 7517 §5: keys that are not understood are ignored.
		if k.UnmarshalJSON(raw) != nil || !k.IsPublic() || k.Use == "enc" {
			continue
		}
		if known, err := nameOf(&k); err != nil || known != name {
			continue
		}
		if len(k.Certificates) == 0 || k.Certificates[0].Equal(c) {
			return name, nil
		}
	}
	return "", ErrNotInSet
}
