package authz

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/jwksuri"
	"github.com/cargokey/authz/internal/strictjose"
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
	return c.keepKeys()
}

// keepKeys brings the set to its stored form: what is read of it, and nothing else.
func (c *Client) keepKeys() error {
	registrable := clientassertion.RegistrableKeys
	if c.AuthMethod == SelfSignedTLSClientAuth {
		registrable = clientassertion.RegistrableCertificateKeys
	}
	keys, err := registrable(c.JWKS)
	if err != nil {
		return fmt.Errorf("client %s: the JWKS %w", c.ID, err)
	}
	stored, err := strictjose.MarshalKeySet(keys)
	if err != nil {
		return fmt.Errorf("client %s: %w", c.ID, err)
	}
	if len(stored) > clientassertion.MaxKeySet {
		return fmt.Errorf("client %s: the JWKS is longer than %d bytes", c.ID, clientassertion.MaxKeySet)
	}
	c.JWKS, c.KeyNames = stored, nil
	for _, key := range keys {
		c.KeyNames = append(c.KeyNames, key.Thumbprint)
	}
	slices.Sort(c.KeyNames)
	c.KeyNames = slices.Compact(c.KeyNames)
	return nil
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
