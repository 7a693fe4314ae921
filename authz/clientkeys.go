package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cargokey/authz/dpopbind"
)

// hasKeys tells whether clients of this method have public keys registered.
func (m AuthMethod) hasKeys() bool { return m == PrivateKeyJWT || m == SelfSignedTLSClientAuth }

// validateKeys holds that a client has keys by value or by reference, and not
// both (RFC 7591 §2), where its method is one that needs them.
func (c *Client) validateKeys() error {
	c.KeyNames = nil
	switch {
	case !c.AuthMethod.hasKeys() && (c.JWKS != nil || c.JWKSURI != ""):
		return fmt.Errorf("client %s: keys are for the authentication methods %s and %s only", c.ID, PrivateKeyJWT, SelfSignedTLSClientAuth)
	case !c.AuthMethod.hasKeys():
		return nil
	case (c.JWKS == nil) == (c.JWKSURI == ""):
		return fmt.Errorf("client %s: %s needs its public keys, or the URL where they are, and not both", c.ID, c.AuthMethod)
	case c.JWKS == nil:
		return nil
	}
	names, err := keyNames(c.JWKS)
	if err != nil {
		return fmt.Errorf("client %s: %w", c.ID, err)
	}
	c.KeyNames = names
	return nil
}

// keyNames are the thumbprints of a set of public keys.
func keyNames(set []byte) ([]string, error) {
	var read struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &read); err != nil {
		return nil, fmt.Errorf("the JWKS is not JSON: %w", err)
	}
	if len(read.Keys) == 0 {
		return nil, errors.New("the JWKS has no keys")
	}
	var names []string
	for i, key := range read.Keys {
		name, err := dpopbind.Thumbprint(key)
		if err != nil {
			return nil, fmt.Errorf("key %d of the JWKS: %w", i+1, err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
