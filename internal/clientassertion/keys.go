package clientassertion

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cargokey/authz/internal/strictjose"
)

// Bounds on a client's JWKS, inline or fetched.
const (
	MaxKeys    = 32
	MaxKeySet  = 64 << 10 // bytes
	maxReasons = 3
)

// Keys reads the keys of a client's JWKS (RFC 7517 §5) that can verify signatures.
// Others are left out; a set without one is a good answer, and then no assertion
// holds. The error is the predicate of a sentence about the set.
func Keys(doc []byte) ([]strictjose.SetKey, error) {
	keys, _, err := read(doc)
	return keys, err
}

// RegistrableKeys is Keys for a set that an operator registers: it refuses one that
// holds a private or a symmetric key, one without a key that can sign assertions,
// and one of two such keys with the same kid and key type.
func RegistrableKeys(doc []byte) ([]strictjose.SetKey, error) {
	all, refused, err := read(doc)
	if err != nil {
		return nil, err
	}
	var keys []strictjose.SetKey
	for _, key := range all {
		if slices.ContainsFunc(Algorithms(), key.Fits) {
			keys = append(keys, key)
			continue
		}
		refused = append(refused, fmt.Errorf("the algorithm %s is not among %v", key.Alg, Algorithms()))
	}
	for _, reason := range refused {
		if errors.Is(reason, strictjose.ErrPrivateKey) {
			return nil, fmt.Errorf("cannot be registered: %w", reason)
		}
	}
	if len(keys) == 0 {
		if len(refused) == 0 {
			return nil, errors.New("has no keys")
		}
		return nil, fmt.Errorf("has no key that can sign assertions: %w", errors.Join(refused[:min(len(refused), maxReasons)]...))
	}
	for i, key := range keys {
		if key.KID != "" && slices.ContainsFunc(keys[:i], func(other strictjose.SetKey) bool {
			return other.KID == key.KID && other.Type == key.Type
		}) {
			return nil, fmt.Errorf("has two keys of the kid %s", strictjose.Quote(key.KID))
		}
	}
	return keys, nil
}

func read(doc []byte) (keys []strictjose.SetKey, refused []error, err error) {
	if len(doc) > MaxKeySet {
		return nil, nil, fmt.Errorf("is longer than %d bytes", MaxKeySet)
	}
	return strictjose.ParseKeySet(doc, MaxKeys)
}
