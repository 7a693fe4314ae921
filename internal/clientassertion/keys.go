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
// one of two such keys with the same kid and key type, and one with a key that has
// no kid and stands where VerifyBy would not come to it.
func RegistrableKeys(doc []byte) ([]strictjose.SetKey, error) {
	all, refused, err := readPublic(doc)
	if err != nil {
		return nil, err
	}
	var keys []strictjose.SetKey
	for _, key := range all {
		if slices.ContainsFunc(Algorithms(), key.Fits) {
			key.X5C = nil // no assertion is verified by it
			keys = append(keys, key)
			continue
		}
		refused = append(refused, fmt.Errorf("the algorithm %s is not among %v", key.Alg, Algorithms()))
	}
	if len(keys) == 0 {
		if len(refused) == 0 {
			return nil, errors.New("has no keys")
		}
		return nil, fmt.Errorf("has no key that can sign assertions: %w", reasons(refused))
	}
	for i, key := range keys {
		ofType := 0
		for _, other := range keys[:i] {
			if other.Type != key.Type {
				continue
			}
			if ofType++; key.KID != "" && other.KID == key.KID {
				return nil, fmt.Errorf("has two keys of the kid %s", strictjose.Quote(key.KID))
			}
		}
		if key.KID == "" && ofType >= maxTried {
			return nil, fmt.Errorf("has a key without a kid after %d others of the type %s, so that it would never be tried; give it a kid", maxTried, key.Type)
		}
	}
	return keys, nil
}

// RegistrableCertificateKeys is RegistrableKeys for keys that a client shows
// certificates of (RFC 8705 §2.2): whatever algorithm they are for. It refuses a set
// in which any key would be left out, or has an x5c that cannot be read.
func RegistrableCertificateKeys(doc []byte) ([]strictjose.SetKey, error) {
	keys, refused, err := readPublic(doc)
	switch {
	case err != nil:
		return nil, err
	case len(refused) > 0:
		return nil, fmt.Errorf("has a key that no certificate could be recognised by: %w", reasons(refused))
	case len(keys) == 0:
		return nil, errors.New("has no keys")
	}
	for i, key := range keys {
		if key.X5C != nil && len(key.X5C) == 0 {
			return nil, fmt.Errorf("has no certificate in the x5c of key %d", i+1)
		}
	}
	return keys, nil
}

// readPublic is read for a set that is refused whole where any of it is not public.
func readPublic(doc []byte) (keys []strictjose.SetKey, refused []error, err error) {
	keys, refused, err = read(doc)
	for _, reason := range refused {
		if errors.Is(reason, strictjose.ErrPrivateKey) {
			return nil, nil, fmt.Errorf("cannot be registered: %w", reason)
		}
	}
	return keys, refused, err
}

func reasons(refused []error) error { return errors.Join(refused[:min(len(refused), maxReasons)]...) }

func read(doc []byte) (keys []strictjose.SetKey, refused []error, err error) {
	if len(doc) > MaxKeySet {
		return nil, nil, fmt.Errorf("is longer than %d bytes", MaxKeySet)
	}
	return strictjose.ParseKeySet(doc, MaxKeys)
}
