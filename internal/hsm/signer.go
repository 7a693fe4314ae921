//go:build pkcs11 && cgo

package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/cargokey/authz/jwks"
)

// Open makes a stored key of the token's usable. It fails with ErrNoKey and
// ErrUnavailable, and on a key that was altered.
func (h *HSM) Open(held jwks.SealedKey) (*jwks.Key, error) {
	key, err := jwks.OpenHeld(held, func(kid string, public crypto.PublicKey) crypto.Signer {
		return &signer{h, kid, public}
	})
	if err != nil {
		return nil, fmt.Errorf("opening a key of %s: %w", held.SealedBy, err)
	}
	return key, nil
}

// signer signs by a private key in the token.
type signer struct {
	hsm    *HSM
	kid    string
	public crypto.PublicKey
}

func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign is crypto.Signer's. The token has its own source of randomness.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	mechanism, input, err := s.mechanism(digest, opts)
	if err != nil {
		return nil, err
	}
	signature, err := do(s.hsm, signTimeout, 0, func(_ context.Context, session session) ([]byte, error) {
		private, err := session.private(s.kid)
		if err != nil {
			return nil, err
		}
		if err := session.module.SignInit(session.handle, []*pkcs11.Mechanism{mechanism}, private); err != nil {
			return nil, fmt.Errorf("beginning a signature: %w", err)
		}
		signature, err := session.module.Sign(session.handle, input)
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		return signature, nil
	})
	if err != nil {
		return nil, err
	}
	if _, ok := s.public.(*ecdsa.PublicKey); ok {
		return ecdsaDER(signature)
	}
	return signature, nil
}

// digestInfo comes before a SHA-256 digest in RSASSA-PKCS1-v1_5 (RFC 8017 §9.2,
// note 1): CKM_RSA_PKCS leaves it to the caller.
var digestInfo, _ = hex.DecodeString("3031300d060960864801650304020105000420")

// mechanism is what the token does with what.
func (s *signer) mechanism(digest []byte, opts crypto.SignerOpts) (*pkcs11.Mechanism, []byte, error) {
	if _, ok := s.public.(ed25519.PublicKey); ok {
		if opts.HashFunc() != 0 {
			return nil, nil, errors.New("signing: EdDSA takes the message and no digest")
		}
		return pkcs11.NewMechanism(ckmEdDSA, nil), digest, nil
	}
	if opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, nil, errors.New("signing: not a SHA-256 digest")
	}
	if _, ok := s.public.(*ecdsa.PublicKey); ok {
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest, nil
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		if pss.SaltLength != rsa.PSSSaltLengthEqualsHash {
			return nil, nil, errors.New("signing: the salt has the hash's length") // RFC 7518 §3.5
		}
		params := pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, uint(crypto.SHA256.Size()))
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, params), digest, nil
	}
	return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append(append([]byte{}, digestInfo...), digest...), nil
}

// ecdsaDER makes what crypto.Signer returns of what CKM_ECDSA does: R and S, each
// of the curve's length (PKCS #11 2.40 Mechanisms §2.3.1).
func ecdsaDER(raw []byte) ([]byte, error) {
	const size = 32
	if len(raw) != 2*size {
		return nil, fmt.Errorf("the HSM's signature has %d bytes, not those of P-256", len(raw))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])})
}
