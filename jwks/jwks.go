// Package jwks holds the server's own signing keys: making, sealing,
// publishing, signing and verifying.
//
// A key is stored sealed (see Sealer), or a device holds its private part (see
// Hold), and it is used from a Set, an immutable snapshot of all keys. Which key
// signs, and which are published, follows from the keys' timestamps and the clock
// alone (see Timeline), so that instances that share the stored keys agree without
// speaking to each other; a key is published before it signs and for as long as
// what it signed lives, so that a rotation breaks nothing.
//
// The package trusts whoever stores sealed keys with their availability only,
// and with when they end: a sealed key that was altered, or whose metadata was,
// does not open.
package jwks

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Key is a signing key, ready to use. It does not print its private part.
type Key struct {
	Info

	private crypto.Signer          // which may be anywhere
	signers map[string]jose.Signer // by the JWS typ; filled once, by newKey
}

// Types of JWT that the server signs.
const (
	TypeAccessToken      = "at+jwt"                  // RFC 9068 §2.1
	TypeIntrospection    = "token-introspection+jwt" // RFC 9701 §5
	TypeGatewayAssertion = "gateway-assertion+jwt"   // what a gateway hands on to the service behind it
)

// Types are all types of JWT that the server signs. None verifies as another
// (Set.Verify).
func Types() []string { return []string{TypeAccessToken, TypeIntrospection, TypeGatewayAssertion} }

// Generate makes a key that signs by an algorithm from signsFrom on.
func Generate(a Algorithm, createdAt, signsFrom time.Time) (*Key, error) {
	for {
		private, err := a.generate()
		if err != nil {
			return nil, fmt.Errorf("generating a signing key: %w", err)
		}
		k, err := newKey(private, Info{Algorithm: a, CreatedAt: createdAt, SignsFrom: signsFrom})
		// A name that begins with a dash looks like a flag at the command line.
		if err != nil || k.KID[0] != '-' {
			return k, err
		}
	}
}

// newKey makes a Key of a private key, which names it.
func newKey(private crypto.Signer, info Info) (*Key, error) {
	if !info.Algorithm.fits(private.Public()) {
		return nil, fmt.Errorf("the signing key is not one for %s", info.Algorithm)
	}
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("naming a signing key: %w", err)
	}
	info.KID = base64.RawURLEncoding.EncodeToString(thumbprint)
	k := &Key{Info: info, private: private, signers: map[string]jose.Signer{}}
	for _, typ := range Types() {
		signer, err := jose.NewSigner(
			jose.SigningKey{Algorithm: jose.SignatureAlgorithm(info.Algorithm), Key: &opaque{private, k.Public()}},
			(&jose.SignerOptions{}).WithType(jose.ContentType(typ)),
		)
		if err != nil {
			return nil, fmt.Errorf("preparing a signing key: %w", err)
		}
		k.signers[typ] = signer
	}
	return k, nil
}

// Ending is k with the times of another Info of it: a key's end is written to it
// after it was sealed.
func (k *Key) Ending(as Info) *Key {
	ended := *k
	ended.RetiredAt, ended.RevokedAt = as.RetiredAt, as.RevokedAt
	return &ended
}

// Public is the key as the JWKS publishes it.
func (k *Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.KID, Algorithm: string(k.Algorithm), Use: "sig"}
}

// LogValue keeps the private key out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue("signing key " + k.KID) }

// String keeps the private key out of messages.
func (k *Key) String() string { return "signing key " + k.KID }

// GoString keeps the private key out of %#v.
func (k *Key) GoString() string { return k.String() }

func (k *Key) marshalPrivate() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

func parsePrivate(der []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the unsealed key is not PKCS #8") // the parser's own error could quote the key
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the unsealed key is not one that signs")
	}
	return private, nil
}
