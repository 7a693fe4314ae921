package dpopbind

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/cargokey/authz/internal/strictjose"
)

// Bounds on a JWKS.
const (
	maxJWKS     = 512 << 10 // bytes
	maxJWKSKeys = 100
	maxKID      = 256 // bytes
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
	o, err := strictjose.ParseObject(doc)
	if err != nil {
		return nil, errors.New("the JWKS " + err.Error())
	}
	raw := o.Get("keys")
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, errors.New("the JWKS has no list of keys")
	}
	if len(list) > maxJWKSKeys {
		return nil, errors.New("the JWKS has more than 100 keys")
	}
	wanted := map[Algorithm]bool{}
	for _, alg := range algorithms {
		wanted[nameKey("", alg).alg] = true
	}
	keys := map[keyName]*publicKey{}
	for _, item := range list {
		name, key, ok := verificationKey(item)
		if !ok || !wanted[name.alg] {
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

func verificationKey(item []byte) (keyName, *publicKey, bool) {
	if item[0] != '{' {
		return keyName{}, nil, false
	}
	o, err := strictjose.ParseValidObject(item)
	if err != nil {
		return keyName{}, nil, false
	}
	key, err := parsePublicJWK(o) // refuses weak and private keys
	if err != nil {
		return keyName{}, nil, false
	}
	kid, alg := "", naturalAlgorithm(key.Type)
	for _, member := range []struct {
		name string
		take func(string) bool
	}{
		{"kid", func(s string) bool { kid = s; return s != "" && len(s) <= maxKID }},
		{"alg", func(s string) bool { alg = Algorithm(s); return alg.kty() == key.Type }},
		{"use", func(s string) bool { return s == "sig" }}, // RFC 7517 §4.2
	} {
		raw := o.Get(member.name)
		if raw == nil {
			continue
		}
		if s, ok := strictjose.AsString(raw); !ok || !member.take(s) {
			return keyName{}, nil, false
		}
	}
	if raw := o.Get("key_ops"); raw != nil { // RFC 7517 §4.3
		var ops []string
		if json.Unmarshal(raw, &ops) != nil || !slices.Contains(ops, "verify") {
			return keyName{}, nil, false
		}
	}
	return nameKey(kid, alg), key, true
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
