package dpopbind

import (
	"cmp"
	"fmt"

	"github.com/cargokey/authz/internal/strictjose"
)

// Bounds on a JWKS.
const (
	maxJWKS     = 512 << 10 // bytes
	maxJWKSKeys = 100
	maxKID      = strictjose.MaxKID
)

// keyName is how a token names a key. The algorithm is part of it, so that no
// key is ever used with another one than its own (RFC 8725 §3.1).
type keyName struct {
	kid string
	alg Algorithm
}

// nameKey makes EdDSA of Ed25519: it is one algorithm under two names (RFC 9864
// §2.2), and a key that is published under one signs under the other.
func nameKey(kid string, alg Algorithm) keyName {
	if alg == Ed25519 {
		alg = EdDSA
	}
	return keyName{kid, alg}
}

// parseJWKS reads the keys of a JWKS (RFC 7517 §5) that can verify signatures by
// the given algorithms. Keys that are weak, private, malformed, for another use
// or by another algorithm are left out, as §5 advises; so are keys of the same
// name, since a token could mean either. A set without a usable key is a good
// answer: then no token is valid.
func parseJWKS(doc []byte, algorithms []Algorithm) (map[keyName]*publicKey, error) {
	list, _, err := strictjose.ParseKeySet(doc, maxJWKSKeys)
	if err != nil {
		return nil, fmt.Errorf("the JWKS %w", err)
	}
	wanted := map[Algorithm]bool{}
	for _, alg := range algorithms {
		wanted[nameKey("", alg).alg] = true
	}
	keys := map[keyName]*publicKey{}
	for _, item := range list {
		key := item.PublicKey
		name := nameKey(item.KID, cmp.Or(Algorithm(item.Alg), naturalAlgorithm(key.Type)))
		if !wanted[name.alg] {
			continue
		}
		if other, taken := keys[name]; taken && (other == nil || other.Thumbprint != key.Thumbprint) {
			key = nil // two keys of one name: neither is taken
		}
		keys[name] = key
	}
	for name, key := range keys {
		if key == nil {
			delete(keys, name)
		}
	}
	return keys, nil
}

// naturalAlgorithm is the one that a key without alg is for. Of RSA's it is the
// one that RFC 9068 §4 has every resource server support.
func naturalAlgorithm(kty string) Algorithm {
	switch kty {
	case strictjose.TypeEC:
		return ES256
	case strictjose.TypeOKP:
		return EdDSA
	}
	return RS256
}
