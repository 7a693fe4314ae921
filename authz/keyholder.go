package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cargokey/authz/jwks"
)

// KeyHolder makes signing keys and keeps their private parts where nobody reads
// them: sealed in the Store (jwks.Sealer), or in a device (internal/hsm).
type KeyHolder interface {
	// MakeKey makes a key, to be stored, that signs from signsFrom on.
	MakeKey(a jwks.Algorithm, createdAt, signsFrom time.Time) (jwks.SealedKey, error)
	// Open makes a stored key usable. It fails where that cannot be done now, and
	// on a key that was altered.
	Open(jwks.SealedKey) (*jwks.Key, error)
	// Discard ends a key of MakeKey's that was not stored.
	Discard(jwks.SealedKey) error
}

// keyHolders are where a server's keys are. It has one place for those to come,
// and opens those of both.
type keyHolders struct {
	sealer    *jwks.Sealer
	device    KeyHolder // nil: none
	sealNew   bool      // though there is a device
	undecided []jwks.SealedKey
}

// maker is where new keys are made.
func (h *keyHolders) maker() KeyHolder {
	if h.device == nil || h.sealNew {
		return h.sealer
	}
	return h.device
}

func (h *keyHolders) open(key jwks.SealedKey) (*jwks.Key, error) {
	if key.Held() && h.device != nil {
		return h.device.Open(key)
	}
	return h.sealer.Open(key) // which says of a device's that it is one
}

// settle discards what was made in the device and was not recorded, however the
// attempt to record it has ended. What cannot be told now is left for the next
// turn: a key whose row is there must not be lost.
func (h *keyHolders) settle(ctx context.Context, s Store, made ...jwks.SealedKey) error {
	var failed error
	pending := append(h.undecided, made...)
	h.undecided = nil
	for _, key := range pending {
		if !key.Held() {
			continue
		}
		if err := DiscardUnrecorded(ctx, s, h.device, key); err != nil {
			h.undecided, failed = append(h.undecided, key), errors.Join(failed, err)
		}
	}
	return failed
}

// DiscardUnrecorded ends a key of the holder's unless the Store has it.
func DiscardUnrecorded(ctx context.Context, s Store, holder KeyHolder, key jwks.SealedKey) error {
	recorded, err := s.SigningKeyRecorded(ctx, key.KID)
	if err == nil && !recorded {
		err = holder.Discard(key)
	}
	if err != nil {
		return fmt.Errorf("discarding signing key %s, if it was not recorded: %w", key.KID, err)
	}
	return nil
}
