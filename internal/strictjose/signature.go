package strictjose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
)

// KeyType is the one key type that a JWS algorithm fits, "" for one that is not
// known here: there is no symmetric one, and no "none".
func KeyType(alg string) string {
	switch alg {
	case "ES256": // RFC 7518 §3.4
		return TypeEC
	case "EdDSA", "Ed25519": // RFC 8037 §3.1, RFC 9864 §2.2
		return TypeOKP
	case "PS256", "RS256": // RFC 7518 §3.5, §3.3
		return TypeRSA
	}
	return ""
}

// SignatureSize is the exact length of a signature by key: RFC 7518 §3.4 (r and
// s in full), RFC 8032 §5.1.6, RFC 8017 §8.1.1 and §8.2.1.
func SignatureSize(key *PublicKey) int {
	if k, ok := key.Key.(*rsa.PublicKey); ok {
		return k.Size()
	}
	return 64
}

// Verify says whether a signature of SignatureSize holds. The key is of the
// algorithm's type.
func Verify(alg string, key *PublicKey, input string, signature []byte) bool {
	if KeyType(alg) == TypeOKP {
		return ed25519.Verify(key.Key.(ed25519.PublicKey), []byte(input), signature)
	}
	digest := sha256.Sum256([]byte(input))
	switch alg {
	case "ES256":
		// RFC 7518 §3.4: r and s of 32 bytes each. Of s and n-s both are valid
		// signatures, and which one comes does not matter: what was accepted is
		// never named by its signature.
		r := new(big.Int).SetBytes(signature[:32])
		s := new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(key.Key.(*ecdsa.PublicKey), digest[:], r, s)
	case "PS256":
		// RFC 7518 §3.5: the salt is as long as the hash.
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return rsa.VerifyPSS(key.Key.(*rsa.PublicKey), crypto.SHA256, digest[:], signature, opts) == nil
	case "RS256":
		return rsa.VerifyPKCS1v15(key.Key.(*rsa.PublicKey), crypto.SHA256, digest[:], signature) == nil
	}
	return false
}
