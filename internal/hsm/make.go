//go:build pkcs11 && cgo

package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/cargokey/authz/jwks"
)

// Check tells whether the token makes keys of the algorithm and signs by them.
func (h *HSM) Check(a jwks.Algorithm) error {
	k, err := kindOf(a)
	if err != nil {
		return err
	}
	_, err = do(h, signTimeout, 0, func(_ context.Context, s session) (none struct{}, err error) {
		for mechanism, flag := range map[uint]uint{k.generate: pkcs11.CKF_GENERATE_KEY_PAIR, k.sign: pkcs11.CKF_SIGN} {
			info, err := s.module.GetMechanismInfo(s.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)})
			if errors.Is(err, pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID)) || err == nil && info.Flags&flag == 0 {
				return none, fmt.Errorf("the HSM does not know %s (mechanism 0x%X)", a, mechanism)
			}
			if err != nil {
				return none, fmt.Errorf("asking what the HSM knows: %w", err)
			}
		}
		return none, nil
	})
	return err
}

// made is a key as it was made.
type made struct {
	kid    string
	public crypto.PublicKey
}

// MakeKey makes a key in the token that signs by an algorithm from signsFrom on.
// It is sensitive, cannot be extracted, was never outside, and has been seen to
// sign; else it is destroyed again.
func (h *HSM) MakeKey(a jwks.Algorithm, createdAt, signsFrom time.Time) (jwks.SealedKey, error) {
	k, err := kindOf(a)
	if err == nil {
		err = h.Check(a) // which says more than the failure would
	}
	if err != nil {
		return jwks.SealedKey{}, fmt.Errorf("making a signing key in the HSM: %w", err)
	}
	m, err := do(h, makeTimeout, pkcs11.CKF_RW_SESSION, func(ctx context.Context, s session) (made, error) {
		for {
			m, err := s.generate(ctx, k, a)
			if !errors.Is(err, errDash) {
				return m, err
			}
		}
	})
	if err != nil {
		return jwks.SealedKey{}, fmt.Errorf("making a signing key in the HSM: %w", err)
	}
	held, err := h.hold(m, a, createdAt, signsFrom)
	if err != nil {
		return jwks.SealedKey{}, errors.Join(err, h.Destroy(m.kid))
	}
	return held, nil
}

func (h *HSM) hold(m made, a jwks.Algorithm, createdAt, signsFrom time.Time) (jwks.SealedKey, error) {
	key, err := jwks.NewKey(&signer{h, m.kid, m.public}, a, createdAt, signsFrom)
	if err != nil {
		return jwks.SealedKey{}, err
	}
	return jwks.Hold(key, h.config.URI())
}

// errDash: the key's name would look like a flag at the command line.
var errDash = errors.New("the key's name begins with a dash")

// generate makes a pair and names it; what fails on the way is destroyed.
func (s session) generate(ctx context.Context, k kind, a jwks.Algorithm) (made, error) {
	// The name follows from the key. Until then no other has this one.
	nameless := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, rand.Text()), pkcs11.NewAttribute(pkcs11.CKA_LABEL, "authz unnamed"),
	}
	public, private, err := s.module.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(k.generate, nil)},
		concat(nameless, k.public, pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)),
		concat(nameless, k.private,
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)))
	if err != nil {
		return made{}, err
	}
	m, err := s.name(a, public, private)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: the key was made too late", ErrUnavailable)
	}
	if err != nil {
		err = errors.Join(err, s.module.DestroyObject(s.handle, private), s.module.DestroyObject(s.handle, public))
	}
	return m, err
}

func concat(first, second []*pkcs11.Attribute, rest ...*pkcs11.Attribute) []*pkcs11.Attribute {
	return append(append(append([]*pkcs11.Attribute{}, first...), second...), rest...)
}

// name checks a new pair and gives both objects the key's KID.
func (s session) name(a jwks.Algorithm, public, private pkcs11.ObjectHandle) (made, error) {
	if err := s.staysInside(private); err != nil {
		return made{}, err
	}
	key, err := s.readPublic(a, public)
	if err != nil {
		return made{}, err
	}
	named, err := jwks.NewKey(&signer{public: key}, a, time.Time{}, time.Time{})
	if err != nil {
		return made{}, err
	}
	if named.KID[0] == '-' {
		return made{}, errDash
	}
	for _, object := range []pkcs11.ObjectHandle{private, public} {
		err := s.module.SetAttributeValue(s.handle, object, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_ID, named.KID), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label(named.KID)),
		})
		if err != nil {
			return made{}, fmt.Errorf("naming the key: %w", err)
		}
	}
	return made{named.KID, key}, nil
}

// label is for those who look at the token.
func label(kid string) string { return "authz " + kid }

// staysInside checks what the token says of a private key: some take a template
// and do not hold to it.
func (s session) staysInside(private pkcs11.ObjectHandle) error {
	values, err := s.read(private, pkcs11.CKA_SENSITIVE, pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE, pkcs11.CKA_LOCAL, pkcs11.CKA_EXTRACTABLE)
	if err != nil {
		return fmt.Errorf("reading what the HSM holds the key to: %w", err)
	}
	for i, want := range []byte{1, 1, 1, 1, 0} {
		if !bytes.Equal(values[i], []byte{want}) {
			return errors.New("the HSM made a key that can leave it")
		}
	}
	return nil
}

// Discard destroys a key of MakeKey's that was not stored.
func (h *HSM) Discard(key jwks.SealedKey) error {
	if err := h.Destroy(key.KID); err != nil && !errors.Is(err, ErrNoKey) {
		return err
	}
	return nil
}

// Destroy removes a key from the token, for good. It fails with ErrNoKey where the
// token does not have it.
func (h *HSM) Destroy(kid string) error {
	_, err := do(h, signTimeout, pkcs11.CKF_RW_SESSION, func(_ context.Context, s session) (none struct{}, err error) {
		private, err := s.object(pkcs11.CKO_PRIVATE_KEY, kid)
		if err != nil {
			return none, err
		}
		if err := s.module.DestroyObject(s.handle, private); err != nil {
			return none, err
		}
		s.forget()
		public, err := s.object(pkcs11.CKO_PUBLIC_KEY, kid)
		if err == nil {
			err = s.module.DestroyObject(s.handle, public)
		}
		if errors.Is(err, ErrNoKey) {
			err = nil // the private one is what counts
		}
		return none, err
	})
	if err != nil {
		return fmt.Errorf("destroying signing key %s in the HSM: %w", kid, err)
	}
	return nil
}
