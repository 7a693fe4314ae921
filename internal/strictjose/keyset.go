package strictjose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// MaxKID bounds a kid, in bytes.
const MaxKID = 256

// SetKey is a key of a JWKS that can verify signatures.
type SetKey struct {
	*PublicKey
	KID string // "": none
	Alg string // the one algorithm that it is for; "": any that fits it
	// X5C is the DER of the first certificate in its x5c (RFC 7517 §4.7); nil: it
	// has none. What cannot be read is not nil, and no certificate.
	X5C []byte
}

// Fits says whether the key may verify signatures by an algorithm. EdDSA and
// Ed25519 are one, under two names (RFC 9864 §2.2).
func (k SetKey) Fits(alg string) bool {
	if KeyType(alg) != k.Type { // RFC 8725 §3.1
		return false
	}
	return k.Alg == "" || k.Alg == alg || k.Type == TypeOKP
}

// ErrPrivateKey is the error for a key that was to be public and is not.
var ErrPrivateKey = errors.New("it is a private or a symmetric key; give the public half only, and replace this key, for it has been disclosed")

// ParseKeySet reads the keys of a JWKS (RFC 7517 §5) that can verify signatures.
// Others (weak, private, malformed, for another use) are left out, as §5 advises,
// and refused tells why, in their order: ErrPrivateKey for one of those, wherever in
// the set it stands. The error is the predicate of a sentence about the set.
func ParseKeySet(doc []byte, maxKeys int) (keys []SetKey, refused []error, err error) {
	o, err := ParseObject(doc)
	if err != nil {
		return nil, nil, err
	}
	raw := o.Get("keys")
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, nil, errors.New("has no list of keys")
	}
	if len(list) > maxKeys {
		return nil, nil, fmt.Errorf("has more than %d keys", maxKeys)
	}
	for i, item := range list {
		key, err := parseSetKey(item)
		if err != nil {
			refused = append(refused, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		keys = append(keys, key)
	}
	for _, member := range o {
		if privateBeside(member) {
			refused = append(refused, fmt.Errorf("the member %s beside its keys: %w", Quote(member.Name), ErrPrivateKey))
		}
	}
	return keys, refused, nil
}

// privateBeside tells whether a member of a set is, or is part of, a key that is
// not public.
func privateBeside(member Member) bool {
	if privateMember(Object{member}) != "" {
		return true
	}
	if member.Value[0] != '{' {
		return false
	}
	o, err := ParseValidObject(member.Value)
	if err != nil {
		return false
	}
	kty, _ := AsString(o.Get("kty"))
	return kty == "oct" || privateMember(o) != ""
}

// MarshalKeySet writes a set that ParseKeySet reads as these keys, and nothing else:
// what is not used is not kept, and cannot grow where it is.
func MarshalKeySet(keys []SetKey) ([]byte, error) {
	list := make([]json.RawMessage, 0, len(keys))
	for _, key := range keys {
		rest, err := json.Marshal(struct {
			KID string   `json:"kid,omitempty"`
			Alg string   `json:"alg,omitempty"`
			X5C [][]byte `json:"x5c,omitempty"` // in standard base64, as RFC 7517 §4.7 has it
		}{key.KID, key.Alg, firstOf(key.X5C)})
		if err != nil {
			return nil, fmt.Errorf("writing a key: %w", err)
		}
		text := key.Canonical
		if len(rest) > len("{}") {
			text = slices.Concat(text[:len(text)-1], []byte(","), rest[1:])
		}
		list = append(list, text)
	}
	return json.Marshal(map[string]any{"keys": list})
}

func firstOf(certificate []byte) [][]byte {
	if certificate == nil {
		return nil
	}
	return [][]byte{certificate}
}

func parseSetKey(item []byte) (SetKey, error) {
	if item[0] != '{' {
		return SetKey{}, errNotObject
	}
	o, err := ParseValidObject(item)
	if err != nil {
		return SetKey{}, err
	}
	if kty, _ := AsString(o.Get("kty")); kty == "oct" || privateMember(o) != "" {
		return SetKey{}, ErrPrivateKey
	}
	public, err := ParsePublicJWK(o)
	if err != nil {
		return SetKey{}, err
	}
	key := SetKey{PublicKey: public}
	for _, member := range []struct {
		name string
		take func(string) bool
	}{
		{"kid", func(s string) bool { key.KID = s; return s != "" && len(s) <= MaxKID }},
		{"alg", func(s string) bool { key.Alg = s; return KeyType(s) == public.Type }},
		{"use", func(s string) bool { return s == "sig" }}, // RFC 7517 §4.2
	} {
		raw := o.Get(member.name)
		if raw == nil {
			continue
		}
		if s, ok := AsString(raw); !ok || !member.take(s) {
			return SetKey{}, fmt.Errorf("its %s is not one of a key that verifies signatures", member.name)
		}
	}
	if raw := o.Get("key_ops"); raw != nil { // RFC 7517 §4.3
		var ops []string
		if json.Unmarshal(raw, &ops) != nil || !slices.Contains(ops, "verify") {
			return SetKey{}, errors.New("its key_ops are not those of a key that verifies signatures")
		}
	}
	key.X5C = firstCertificate(o.Get("x5c"))
	return key, nil
}

// firstCertificate reads an x5c: standard base64, of DER (RFC 7517 §4.7).
func firstCertificate(raw []byte) []byte {
	if raw == nil {
		return nil
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return []byte{}
	}
	der, err := base64.StdEncoding.Strict().DecodeString(list[0])
	if err != nil {
		return []byte{}
	}
	return der
}
