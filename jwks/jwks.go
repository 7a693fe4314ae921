// Package jwks holds the server's own signing keys: making, sealing,
// publishing, signing and verifying.
//
// A key is stored sealed (see Sealer) and used from a Set, an immutable
// snapshot of all keys that are published. Which key signs follows from the
// keys' timestamps and the clock alone, so that instances that share the
// stored keys agree without speaking to each other; every key of a Set
// verifies, so that a rotation breaks nothing that is signed.
//
// The package trusts whoever stores sealed keys with their availability only:
// a sealed key that was altered, or whose metadata was, does not open.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Algorithm is the JWS algorithm that new keys sign with (RFC 7518 §3.4).
const Algorithm = jose.ES256

// Key is a signing key, ready to use. It does not print its private part.
type Key struct {
	KID       string    // RFC 7638 SHA-256 thumbprint of the public key
	CreatedAt time.Time // when it was made, and published
	SignsFrom time.Time // it signs from then on, until a later key does

	private *ecdsa.PrivateKey
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

// Generate makes a key that signs from signsFrom on.
func Generate(createdAt, signsFrom time.Time) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a signing key: %w", err)
	}
	return newKey(private, createdAt, signsFrom)
}

func newKey(private *ecdsa.PrivateKey, createdAt, signsFrom time.Time) (*Key, error) {
	thumbprint, err := (&jose.JSONWebKey{Key: private.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("naming a signing key: %w", err)
	}
	k := &Key{
		KID:       base64.RawURLEncoding.EncodeToString(thumbprint),
		CreatedAt: createdAt,
		SignsFrom: signsFrom,
		private:   private,
		signers:   map[string]jose.Signer{},
	}
	for _, typ := range Types() {
		signer, err := jose.NewSigner(
			jose.SigningKey{Algorithm: Algorithm, Key: jose.JSONWebKey{Key: private, KeyID: k.KID}},
			(&jose.SignerOptions{}).WithType(jose.ContentType(typ)),
		)
		if err != nil {
			return nil, fmt.Errorf("preparing a signing key: %w", err)
		}
		k.signers[typ] = signer
	}
	return k, nil
}

// Public is the key as the JWKS publishes it.
func (k *Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.KID, Algorithm: string(Algorithm), Use: "sig"}
}

// LogValue keeps the private key out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue("signing key " + k.KID) }

// String keeps the private key out of messages.
func (k *Key) String() string { return "signing key " + k.KID }

// GoString keeps the private key out of %#v.
func (k *Key) GoString() string { return k.String() }

func (k *Key) marshalPrivate() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

func parsePrivate(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the unsealed key is not PKCS #8") // the parser's own error could quote the key
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("the unsealed key is not an ES256 key")
	}
	return private, nil
}
