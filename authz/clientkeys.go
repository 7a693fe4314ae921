package authz

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/jwksuri"
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
		if err := jwksuri.Validate(c.JWKSURI); err != nil {
			return fmt.Errorf("client %s: %w", c.ID, err)
		}
		return nil
	}
	names, err := c.AuthMethod.keyNames(c.JWKS)
	if err != nil {
		return fmt.Errorf("client %s: %w", c.ID, err)
	}
	c.KeyNames = names
	return nil
}

// keyNames are the thumbprints of the keys of a set that clients of this method can
// authenticate by.
func (m AuthMethod) keyNames(set []byte) ([]string, error) {
	if m == PrivateKeyJWT {
		return assertionKeyNames(set)
	}
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

func assertionKeyNames(set []byte) ([]string, error) {
	keys, err := clientassertion.RegistrableKeys(set)
	if err != nil {
		return nil, fmt.Errorf("the JWKS %w", err)
	}
	var names []string
	for _, key := range keys {
		names = append(names, key.Thumbprint)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ClientKey is a registered public key as those know it who look after it.
type ClientKey struct {
	KID        string // empty: none
	Thumbprint string // RFC 7638, which is what a token's Credential names
	// Certificate is the first in its x5c (RFC 7517 §4.7); nil: none, or none that
	// can be read.
	Certificate *x509.Certificate
}

// Keys are those of JWKS that signatures are verified by, in its order; none where
// the client publishes them at its JWKSURI.
func (c *Client) Keys() []ClientKey {
	keys, err := clientassertion.Keys(c.JWKS)
	if err != nil {
		return nil
	}
	var list []ClientKey
	for _, k := range keys {
		certificate, _ := x509.ParseCertificate(k.X5C)
		list = append(list, ClientKey{k.KID, k.Thumbprint, certificate})
	}
	return list
}

// ReplaceKeys gives a client other keys than those it has: a set, or the URL where
// they are. It fails with ErrNoKeys, or says what is wrong with them.
func (c *Client) ReplaceKeys(jwks []byte, uri string) error {
	if !c.AuthMethod.hasKeys() {
		return fmt.Errorf("client %s: %w", c.ID, ErrNoKeys)
	}
	c.JWKS, c.JWKSURI = jwks, uri
	return c.validateKeys()
}
