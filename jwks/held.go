package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrHeld is returned by Sealer.Open for a key whose private part is in a device,
// and not in what is stored.
var ErrHeld = errors.New("the signing key is in a device")

// Held tells whether the private key is in a device, which SealedBy then names by
// a URI: the ID of a sealing key has no colon.
func (k SealedKey) Held() bool { return strings.Contains(k.SealedBy, ":") }

// NewKey makes a Key of a private key that is held elsewhere. A caller that makes
// keys discards one whose KID begins with a dash, which looks like a flag at the
// command line.
func NewKey(private crypto.Signer, a Algorithm, createdAt, signsFrom time.Time) (*Key, error) {
	return newKey(private, Info{Algorithm: a, CreatedAt: createdAt, SignsFrom: signsFrom})
}

// Hold makes k storable, whose private key a device holds; the device's name is a
// URI (RFC 7512 for PKCS #11). In the place of the sealed private key is the key's
// own signature of its name, its algorithm and its times: as with a sealed key,
// whoever writes to the table cannot change them. It has been verified, and so the
// key has been seen to sign.
func Hold(k *Key, device string) (SealedKey, error) {
	public, err := json.Marshal(k.Public())
	if err != nil {
		return SealedKey{}, fmt.Errorf("encoding the public key: %w", err)
	}
	held := SealedKey{Info: k.Info, PublicJWK: public, SealedBy: device}
	if !held.Held() {
		return SealedKey{}, fmt.Errorf("holding a signing key: %q is not a URI", device)
	}
	if held.Sealed, err = k.signText(held.boundData()); err != nil {
		return SealedKey{}, err
	}
	return held, nil
}

// OpenHeld makes a stored key usable that a device holds: device finds the private
// key that belongs to a public one, by its KID. It fails on a key that was altered,
// and where the device does not sign by that very key now: a row alone does not get
// a key into the JWKS.
func OpenHeld(held SealedKey, device func(kid string, public crypto.PublicKey) crypto.Signer) (*Key, error) {
	var public jose.JSONWebKey
	if err := json.Unmarshal(held.PublicJWK, &public); err != nil || !public.IsPublic() {
		return nil, fmt.Errorf("signing key %s: what is stored is not a public key", held.KID)
	}
	k, err := newKey(device(held.KID, public.Key), held.Info)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", held.KID, err)
	}
	if k.KID != held.KID {
		return nil, fmt.Errorf("signing key %s is stored under another name", held.KID)
	}
	if !verifiesText(k.private.Public(), k.Algorithm, held.boundData(), held.Sealed) {
		return nil, fmt.Errorf("signing key %s was altered", held.KID)
	}
	if err := k.Probe(); err != nil {
		return nil, fmt.Errorf("signing key %s: %w", held.KID, err)
	}
	return k, nil
}

// Probe tells whether the key signs, by a signature of a random text that is no JWS.
func (k *Key) Probe() error {
	_, err := k.signText(append([]byte("authz signing key probe\x00"), rand.Text()...))
	return err
}

// signText signs a text that holds a zero byte, which no JWS's signing input does
// (RFC 7515 §5.1: base64url and a dot), and verifies the signature.
func (k *Key) signText(text []byte) ([]byte, error) {
	signature, err := (&opaque{k.private, k.Public()}).SignPayload(text, jose.SignatureAlgorithm(k.Algorithm))
	if err != nil {
		return nil, fmt.Errorf("trying the signing key: %w", err)
	}
	if !verifiesText(k.private.Public(), k.Algorithm, text, signature) {
		return nil, errors.New("trying the signing key: its signature does not verify")
	}
	return signature, nil
}

func verifiesText(public crypto.PublicKey, a Algorithm, text, signature []byte) bool {
	digest := sha256.Sum256(text)
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		const size = 32 // RFC 7518 §3.4
		if a != ES256 || len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(public, digest[:], r, s)
	case ed25519.PublicKey:
		return a == EdDSA && ed25519.Verify(public, text, signature)
	case *rsa.PublicKey:
		if a == PS256 {
			options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, options) == nil
		}
		return a == RS256 && rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	default:
		return false
	}
}
