package jwks

import (
	"bytes"
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

// Errors of a Set that callers can branch on.
var (
	// ErrNoSigner: no key of this set signs by the algorithm.
	ErrNoSigner = errors.New("there is no key that signs by this algorithm")
	// ErrUnknownKey: the token names no key of this set.
	ErrUnknownKey = errors.New("signed by an unknown key")
	// ErrInvalidToken: not a compact JWS of the type asked for, or its
	// signature does not verify.
	ErrInvalidToken = errors.New("not a valid signed token")
)

// Set is a snapshot of the keys. It is immutable and safe for concurrent use.
type Set struct {
	timeline Timeline
	keys     map[string]*Key // by KID
	public   map[string]json.RawMessage
}

// NewSet makes a Set. The others are keys that are out of the JWKS, or that do not
// open here: they sign nothing, and yet supersede the ones before them, as they do
// wherever they open. At least one key there must be, or have been.
func NewSet(keys []*Key, others ...Info) (*Set, error) {
	if len(keys)+len(others) == 0 {
		return nil, errors.New("a set of signing keys needs at least one")
	}
	s := &Set{keys: map[string]*Key{}, public: map[string]json.RawMessage{}}
	infos := slices.Clone(others)
	for _, k := range keys {
		public, err := json.Marshal(k.Public())
		if err != nil {
			return nil, fmt.Errorf("encoding the JWKS: %w", err)
		}
		s.keys[k.KID], s.public[k.KID] = k, public
		infos = append(infos, k.Info)
	}
	s.timeline = NewTimeline(infos)
	return s, nil
}

// Published is the JWKS (RFC 7517 §5) of the moment now, public keys only, and
// its strong ETag (RFC 9110 §8.8.3).
func (s *Set) Published(now time.Time) (document []byte, etag string) {
	listed := [][]byte{}
	for _, k := range s.timeline.Keys() {
		if public := s.public[k.KID]; public != nil && s.timeline.Listed(k, now) {
			listed = append(listed, public)
		}
	}
	document = slices.Concat([]byte(`{"keys":[`), bytes.Join(listed, []byte(",")), []byte(`]}`))
	digest := sha256.Sum256(document)
	return document, `"` + base64.RawURLEncoding.EncodeToString(digest[:12]) + `"`
}

// Timeline is that of all keys of the set, opened or not.
func (s *Set) Timeline() Timeline { return s.timeline }

// Trusts tells whether the set has a key, and it is not revoked there.
func (s *Set) Trusts(kid string) bool {
	k := s.keys[kid]
	return k != nil && k.RevokedAt.IsZero()
}

// Lacks tells whether another holder of the keys signs by the algorithm at now with
// one that this set does not have, and so does not publish.
func (s *Set) Lacks(a Algorithm, now time.Time) bool {
	info, ok := s.timeline.Signer(a, now)
	return ok && s.keys[info.KID] == nil
}

// Gap is the first moment from now on, as far as is known now, at which the set does
// not have the key that signs by the algorithm; ok tells whether there is one.
func (s *Set) Gap(a Algorithm, now time.Time) (at time.Time, ok bool) {
	moments := []time.Time{now}
	for _, k := range s.timeline.Keys() {
		if k.Algorithm == a && k.SignsFrom.After(now) {
			moments = append(moments, k.SignsFrom)
		}
	}
	for _, at := range moments {
		if info, ok := s.timeline.Signer(a, at); !ok || s.keys[info.KID] == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// signer is the key to sign with, or nil. Where the one whose turn it is does not
// open, the one before it stands in, for as long as StandIn.
func (s *Set) signer(a Algorithm, now time.Time) *Key {
	info, ok := s.timeline.Signer(a, now)
	if !ok {
		return nil
	}
	if k := s.keys[info.KID]; k != nil {
		return k
	}
	for _, before := range slices.Backward(s.timeline.Keys()) {
		k := s.keys[before.KID]
		if k == nil || k.Algorithm != a || k.Ended() || compareInfo(before, info) >= 0 {
			continue
		}
		if now.Before(s.timeline.SignsUntil(before).Add(StandIn)) {
			return k
		}
	}
	return nil
}

// Sign makes a compact JWS of payload with the key that signs by the algorithm
// at now, or stands in for it, and names the key. typ is one of the Type constants.
// It fails with ErrNoSigner where there is no such key.
func (s *Set) Sign(now time.Time, a Algorithm, typ string, payload []byte) (token, kid string, err error) {
	key := s.signer(a, now)
	if key == nil {
		return "", "", fmt.Errorf("%w: %s", ErrNoSigner, a)
	}
	signer, ok := key.signers[typ]
	if !ok {
		return "", "", fmt.Errorf("signing: no such type of token: %q", typ)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", "", fmt.Errorf("signing: %w", err)
	}
	token, err = signed.CompactSerialize()
	return token, key.KID, err
}

// Probe tells whether the key signs that Sign would use. Where there is none it
// fails with ErrNoSigner.
func (s *Set) Probe(now time.Time, a Algorithm) error {
	key := s.signer(a, now)
	if key == nil {
		return fmt.Errorf("%w: %s", ErrNoSigner, a)
	}
	return key.Probe()
}

// Verify checks that token is a compact JWS of type typ that a key of the set
// signed, one that is not revoked, and returns its payload. It checks no claim.
func (s *Set) Verify(token, typ string) ([]byte, error) {
	// go-jose skips white space inside a compact JWS, which would make two
	// texts one token.
	if strings.ContainsAny(token, " \t\r\n") {
		return nil, fmt.Errorf("%w: white space inside", ErrInvalidToken)
	}
	jws, err := jose.ParseSignedCompact(token, joseAlgorithms())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	header := jws.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != typ { // RFC 8725 §3.11
		return nil, fmt.Errorf("%w: typ is not %q", ErrInvalidToken, typ)
	}
	if !s.Trusts(header.KeyID) {
		return nil, ErrUnknownKey
	}
	k := s.keys[header.KeyID]
	if header.Algorithm != string(k.Algorithm) { // RFC 8725 §3.1
		return nil, fmt.Errorf("%w: alg is not the key's", ErrInvalidToken)
	}
	payload, err := jws.Verify(k.private.Public())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	return payload, nil
}
