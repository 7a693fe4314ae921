//go:build pkcs11 && cgo

package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/cargokey/authz/jwks"
)

// Of PKCS #11 3.0 (§2.3.5, §2.3.14), which the library's constants are older than.
const (
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
)

const (
	rsaBits     = 3072 // as jwks makes them
	rsaExponent = 65537
)

// kind is how keys of an algorithm are made and sign.
type kind struct {
	generate, sign  uint // mechanisms
	public, private []*pkcs11.Attribute
}

func kindOf(a jwks.Algorithm) (kind, error) {
	no := func(types ...uint) (attributes []*pkcs11.Attribute) {
		for _, t := range types {
			attributes = append(attributes, pkcs11.NewAttribute(t, false))
		}
		return attributes
	}
	switch a {
	case jwks.ES256:
		params, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}) // RFC 5480 §2.1.1.1, secp256r1
		return kind{
			generate: pkcs11.CKM_EC_KEY_PAIR_GEN, sign: pkcs11.CKM_ECDSA,
			public: []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)}, private: no(pkcs11.CKA_DERIVE),
		}, err
	case jwks.EdDSA:
		params, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 101, 112}) // RFC 8410 §3, id-Ed25519
		return kind{
			generate: ckmECEdwardsKeyPairGen, sign: ckmEdDSA,
			public: []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)}, private: no(pkcs11.CKA_DERIVE),
		}, err
	case jwks.PS256, jwks.RS256:
		sign := uint(pkcs11.CKM_RSA_PKCS_PSS)
		if a == jwks.RS256 {
			sign = pkcs11.CKM_RSA_PKCS
		}
		return kind{
			generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, sign: sign,
			public: append(no(pkcs11.CKA_ENCRYPT, pkcs11.CKA_WRAP),
				pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, rsaBits),
				pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(rsaExponent).Bytes())),
			private: no(pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP),
		}, nil
	default:
		return kind{}, fmt.Errorf("algorithm %q is not known", a)
	}
}

// readPublic reads what the token says of a public key.
func (s session) readPublic(a jwks.Algorithm, object pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	types := []uint{pkcs11.CKA_EC_POINT}
	if a == jwks.PS256 || a == jwks.RS256 {
		types = []uint{pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT}
	}
	values, err := s.read(object, types...)
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	switch a {
	case jwks.ES256:
		// ParseUncompressedPublicKey checks that it is on the curve.
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point(values[0], 65))
	case jwks.EdDSA:
		raw := point(values[0], ed25519.PublicKeySize)
		if len(raw) != ed25519.PublicKeySize {
			return nil, errors.New("the HSM's public key is not one of Ed25519")
		}
		return ed25519.PublicKey(raw), nil
	default:
		n, e := new(big.Int).SetBytes(values[0]), new(big.Int).SetBytes(values[1])
		if n.BitLen() != rsaBits || e.Cmp(big.NewInt(rsaExponent)) != 0 {
			return nil, fmt.Errorf("the HSM made an RSA key of %d bits and exponent %s", n.BitLen(), e)
		}
		return &rsa.PublicKey{N: n, E: rsaExponent}, nil
	}
}

// point is CKA_EC_POINT's content: an OCTET STRING (PKCS #11 2.40 Mechanisms
// §2.3.3), which some modules leave bare.
func point(value []byte, size int) []byte {
	var inner []byte
	if rest, err := asn1.Unmarshal(value, &inner); len(value) > size && err == nil && len(rest) == 0 {
		return inner
	}
	return value
}

// read is C_GetAttributeValue, in the order that was asked for.
func (s session) read(object pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	var template []*pkcs11.Attribute
	for _, t := range types {
		template = append(template, pkcs11.NewAttribute(t, nil))
	}
	read, err := s.module.GetAttributeValue(s.handle, object, template)
	if err != nil {
		return nil, err
	}
	var values [][]byte
	for i, t := range types {
		if i >= len(read) || read[i].Type != t {
			return nil, errors.New("the HSM answers with other attributes than were asked for")
		}
		values = append(values, read[i].Value)
	}
	return values, nil
}
