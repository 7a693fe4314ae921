//go:build !pkcs11 || !cgo

package hsm

import (
	"time"

	"github.com/cargokey/authz/jwks"
)

// HSM is one in builds with the tag pkcs11.
type HSM struct{}

// Open fails with ErrNotBuilt.
func Open(Config) (*HSM, error) { return nil, ErrNotBuilt }

// Close does nothing.
func (*HSM) Close() {}

// Check fails with ErrNotBuilt.
func (*HSM) Check(jwks.Algorithm) error { return ErrNotBuilt }

// MakeKey fails with ErrNotBuilt.
func (*HSM) MakeKey(jwks.Algorithm, time.Time, time.Time) (jwks.SealedKey, error) {
	return jwks.SealedKey{}, ErrNotBuilt
}

// Open fails with ErrNotBuilt.
func (*HSM) Open(jwks.SealedKey) (*jwks.Key, error) { return nil, ErrNotBuilt }

// Discard fails with ErrNotBuilt.
func (*HSM) Discard(jwks.SealedKey) error { return ErrNotBuilt }

// Destroy fails with ErrNotBuilt.
func (*HSM) Destroy(string) error { return ErrNotBuilt }
