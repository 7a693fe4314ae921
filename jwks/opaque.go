package jwks

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-jose/go-jose/v4"
)

// opaque signs by a crypto.Signer, wherever its key is. go-jose's own such
// adapter makes PS256 with the longest salt, where RFC 7518 §3.5 wants one of
// the hash's length.
type opaque struct {
	private crypto.Signer
	public  jose.JSONWebKey
}

func (o *opaque) Public() *jose.JSONWebKey { return &o.public }

func (o *opaque) Algs() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.SignatureAlgorithm(o.public.Algorithm)}
}

func (o *opaque) SignPayload(payload []byte, alg jose.SignatureAlgorithm) ([]byte, error) {
	if string(alg) != o.public.Algorithm {
		return nil, jose.ErrUnsupportedAlgorithm
	}
	if alg == jose.EdDSA {
		return o.private.Sign(rand.Reader, payload, crypto.Hash(0))
	}
	digest := sha256.Sum256(payload)
	switch alg {
	case jose.PS256:
		return o.private.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	case jose.RS256:
		return o.private.Sign(rand.Reader, digest[:], crypto.SHA256)
	default:
		signature, err := o.private.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return es256Signature(signature)
	}
}

// es256Signature makes RFC 7518 §3.4's form, R and S in 32 bytes each, of the
// ASN.1 that a crypto.Signer gives.
func es256Signature(der []byte) ([]byte, error) {
	const size = 32
	var signature struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &signature)
	if err != nil {
		return nil, fmt.Errorf("reading the signer's signature: %w", err)
	}
	r, s := signature.R, signature.S
	if len(rest) > 0 || r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 8*size || s.BitLen() > 8*size {
		return nil, errors.New("the signer's signature is not one of P-256")
	}
	out := make([]byte, 2*size)
	r.FillBytes(out[:size])
	s.FillBytes(out[size:])
	return out, nil
}
