package jwks

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Errors of Set.Verify that callers can branch on.
var (
	// ErrUnknownKey: the token names no key of this set.
	ErrUnknownKey = errors.New("signed by an unknown key")
	// ErrInvalidToken: not a compact JWS of the type asked for, or its
	// signature does not verify.
	ErrInvalidToken = errors.New("not a valid signed token")
)

// Set is a snapshot of the published keys. It is immutable and safe for
// concurrent use.
type Set struct {
	keys      []*Key // by SignsFrom, then KID
	published []byte
	etag      string
}

// NewSet makes a Set of at least one key.
func NewSet(keys []*Key) (*Set, error) {
	if len(keys) == 0 {
		return nil, errors.New("a set of signing keys needs at least one")
	}
	s := &Set{keys: slices.Clone(keys)}
	slices.SortFunc(s.keys, func(a, b *Key) int {
		if c := a.SignsFrom.Compare(b.SignsFrom); c != 0 {
			return c
		}
		return strings.Compare(a.KID, b.KID)
	})
	var document jose.JSONWebKeySet
	for _, k := range s.keys {
		document.Keys = append(document.Keys, k.Public())
	}
	var err error
	if s.published, err = json.Marshal(document); err != nil {
		return nil, fmt.Errorf("encoding the JWKS: %w", err)
	}
	digest := sha256.Sum256(s.published)
	s.etag = `"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"`
	return s, nil
}

// Published is the JWKS (RFC 7517 §5), public keys only, and its strong ETag
// (RFC 9110 §8.8.3). Callers do not modify it.
func (s *Set) Published() (document []byte, etag string) { return s.published, s.etag }

// Sign makes a compact JWS of payload with the key that signs at now. typ is
// one of the Type constants.
func (s *Set) Sign(now time.Time, typ string, payload []byte) (string, error) {
	signer, ok := s.signing(now).signers[typ]
	if !ok {
		return "", fmt.Errorf("signing: no such type of token: %q", typ)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return signed.CompactSerialize()
}

// signing is the key that came last to sign. Where the clock is behind all of
// them the first one signs: a clock that is off must not stop the server.
func (s *Set) signing(now time.Time) *Key {
	for _, k := range slices.Backward(s.keys) {
		if !k.SignsFrom.After(now) {
			return k
		}
	}
	return s.keys[0]
}

// Verify checks that token is a compact JWS of type typ that a key of the set
// signed, and returns its payload. It checks no claim.
func (s *Set) Verify(token, typ string) ([]byte, error) {
	// go-jose skips white space inside a compact JWS, which would make two
	// texts one token.
	if strings.ContainsAny(token, " \t\r\n") {
		return nil, fmt.Errorf("%w: white space inside", ErrInvalidToken)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{Algorithm})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	header := jws.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != typ { // RFC 8725 §3.11
		return nil, fmt.Errorf("%w: typ is not %q", ErrInvalidToken, typ)
	}
	for _, k := range s.keys {
		if k.KID == header.KeyID {
			payload, err := jws.Verify(k.private.Public())
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
			}
			return payload, nil
		}
	}
	return nil, ErrUnknownKey
}
