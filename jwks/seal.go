package jwks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrSealedByAnother is returned by Sealer.Open for a key that another sealing
// key has sealed.
var ErrSealedByAnother = errors.New("the signing key was sealed with another sealing key")

// SealingKeySize is the size in bytes of a sealing key: AES-256.
const SealingKeySize = 32

// SealedKey is a Key as it is stored. Nothing in it is secret without the
// sealing key.
type SealedKey struct {
	Info
	PublicJWK []byte // JSON, for those who look at the table, and for OpenHeld
	Sealed    []byte // nonce, then AES-256-GCM of the PKCS #8 private key; see Hold for another kind
	SealedBy  string // Sealer.ID of the sealing key, or the URI of the device (Held)
}

// Sealer seals and opens signing keys with AES-256-GCM. It does not print its keys.
type Sealer struct {
	id    string // of the key that seals
	aeads map[string]cipher.AEAD
	prks  map[string][]byte // for what is derived; nothing of the keys is in them
}

// NewSealer makes a Sealer of keys of SealingKeySize bytes. The first one seals,
// all of them open.
func NewSealer(keys ...[]byte) (*Sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("a sealing key is needed")
	}
	s := &Sealer{aeads: map[string]cipher.AEAD{}, prks: map[string][]byte{}}
	for i, key := range keys {
		if len(key) != SealingKeySize {
			return nil, fmt.Errorf("a sealing key has %d bytes, this one has %d", SealingKeySize, len(key))
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("preparing the sealing key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("preparing the sealing key: %w", err)
		}
		id := sealingKeyID(key)
		s.aeads[id] = aead
		if s.prks[id], err = hkdf.Extract(sha256.New, key, nil); err != nil {
			return nil, fmt.Errorf("preparing the sealing key: %w", err)
		}
		if i == 0 {
			s.id = id
		}
	}
	return s, nil
}

// sealingKeyID names a sealing key. The prefix keeps this digest apart from any
// other use of the key, and 64 of its bits tell sealing keys apart while giving
// nothing away of a key of 256 random bits.
func sealingKeyID(key []byte) string {
	digest := sha256.Sum256(append([]byte("authz sealing key id\x00"), key...))
	return base64.RawURLEncoding.EncodeToString(digest[:8])
}

// Derive makes of each sealing key, by its ID, a key of 32 bytes for one purpose
// (HKDF-SHA-256, RFC 5869, with the purpose as info), which tells nothing of the sealing
// key or of those for other purposes. That of the key that seals has the name ID.
func (s *Sealer) Derive(purpose string) (map[string][]byte, error) {
	derived := map[string][]byte{}
	for id, prk := range s.prks {
		key, err := hkdf.Expand(sha256.New, prk, purpose, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("deriving a key of the sealing key: %w", err)
		}
		derived[id] = key
	}
	return derived, nil
}

// ID names the sealing key that seals, without revealing it.
func (s *Sealer) ID() string { return s.id }

// ids are those of all sealing keys, that which seals first.
func (s *Sealer) ids() string {
	all := []string{s.id}
	for _, id := range slices.Sorted(maps.Keys(s.aeads)) {
		if id != s.id {
			all = append(all, id)
		}
	}
	return strings.Join(all, ", ")
}

// LogValue keeps the sealing key out of logs.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue("sealing key " + s.id) }

// String keeps the sealing key out of messages.
func (s *Sealer) String() string { return "sealing key " + s.id }

// GoString keeps the sealing key out of %#v.
func (s *Sealer) GoString() string { return s.String() }

// Seal makes k storable.
func (s *Sealer) Seal(k *Key) (SealedKey, error) {
	der, err := k.marshalPrivate()
	if err != nil {
		return SealedKey{}, fmt.Errorf("encoding the signing key: %w", err)
	}
	public, err := json.Marshal(k.Public())
	if err != nil {
		return SealedKey{}, fmt.Errorf("encoding the public key: %w", err)
	}
	sealed := SealedKey{Info: k.Info, PublicJWK: public, SealedBy: s.id}
	aead := s.aeads[s.id]
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails (crypto/rand)
	sealed.Sealed = aead.Seal(nonce, nonce, der, sealed.boundData())
	return sealed, nil
}

// MakeKey makes a key that signs by an algorithm from signsFrom on, sealed.
func (s *Sealer) MakeKey(a Algorithm, createdAt, signsFrom time.Time) (SealedKey, error) {
	k, err := Generate(a, createdAt, signsFrom)
	if err != nil {
		return SealedKey{}, err
	}
	return s.Seal(k)
}

// Discard is for a key of MakeKey's that was not stored: nothing of it is left.
func (s *Sealer) Discard(SealedKey) error { return nil }

// Open makes a stored key usable. It returns ErrSealedByAnother for a key that
// none of the sealing keys has sealed, ErrHeld for one that a device holds, and
// fails on a key that was altered.
func (s *Sealer) Open(sealed SealedKey) (*Key, error) {
	if sealed.Held() {
		return nil, fmt.Errorf("%w: key %s is in %s", ErrHeld, sealed.KID, sealed.SealedBy)
	}
	aead, ok := s.aeads[sealed.SealedBy]
	if !ok {
		return nil, fmt.Errorf("%w: key %s was sealed by %s, and here is %s", ErrSealedByAnother, sealed.KID, sealed.SealedBy, s.ids())
	}
	if !slices.Contains(Algorithms(), sealed.Algorithm) {
		return nil, fmt.Errorf("signing key %s: algorithm %q is not known to this build", sealed.KID, sealed.Algorithm)
	}
	size := aead.NonceSize()
	if len(sealed.Sealed) < size {
		return nil, fmt.Errorf("signing key %s is cut short", sealed.KID)
	}
	der, err := aead.Open(nil, sealed.Sealed[:size], sealed.Sealed[size:], sealed.boundData())
	if err != nil {
		return nil, fmt.Errorf("signing key %s was altered: %w", sealed.KID, err)
	}
	private, err := parsePrivate(der)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", sealed.KID, err)
	}
	k, err := newKey(private, sealed.Info)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", sealed.KID, err)
	}
	if k.KID != sealed.KID {
		return nil, fmt.Errorf("signing key %s is stored under another name", sealed.KID)
	}
	return k, nil
}

// boundData is authenticated with the sealed key, so that whoever writes to
// the table cannot give one key another's name or algorithm, or make it sign at
// another time. When it ends is written later, without a sealing key.
func (k SealedKey) boundData() []byte {
	return fmt.Appendf(nil, "authz signing key\x00%s\x00%s\x00%d\x00%d",
		k.KID, k.Algorithm, k.CreatedAt.UnixMicro(), k.SignsFrom.UnixMicro())
}
