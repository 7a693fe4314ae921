package jwks_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/jwks"
)

const deviceURI = "pkcs11:token=test"

func devicePrivate(t *testing.T, a jwks.Algorithm) crypto.Signer {
	t.Helper()
	var private crypto.Signer
	var err error
	switch a {
	case jwks.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwks.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// holds is a device with one key, under any name.
func holds(private crypto.Signer) func(string, crypto.PublicKey) crypto.Signer {
	return func(string, crypto.PublicKey) crypto.Signer { return private }
}

// claims is a device that says of each public key that it has the private one,
// and signs by another.
type claims struct {
	crypto.Signer
	public crypto.PublicKey
}

func (c claims) Public() crypto.PublicKey { return c.public }

func hold(t *testing.T, private crypto.Signer, a jwks.Algorithm) jwks.SealedKey {
	t.Helper()
	key, err := jwks.NewKey(private, a, epoch, epoch.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	held, err := jwks.Hold(key, deviceURI)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func TestHeldKeyOpensAndSigns(t *testing.T) {
	for _, a := range jwks.Algorithms() {
		private := devicePrivate(t, a)
		held := hold(t, private, a)
		if !held.Held() || held.SealedBy != deviceURI {
			t.Errorf("%s: held by %q", a, held.SealedBy)
		}
		key, err := jwks.OpenHeld(held, holds(private))
		if err != nil {
			t.Fatal(err)
		}
		s := set(t, key)
		token, _, err := s.Sign(epoch, a, jwks.TypeAccessToken, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if payload, err := s.Verify(token, jwks.TypeAccessToken); err != nil || string(payload) != "x" {
			t.Errorf("%s: %q, %v", a, payload, err)
		}
		if err := s.Probe(epoch, a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestAlteredHeldKeyDoesNotOpen(t *testing.T) {
	private, other := devicePrivate(t, jwks.ES256), devicePrivate(t, jwks.ES256)
	pss := devicePrivate(t, jwks.PS256)
	for name, c := range map[string]struct {
		private crypto.Signer
		a       jwks.Algorithm
		alter   func(*jwks.SealedKey)
		says    string
	}{
		"name":            {private, jwks.ES256, func(k *jwks.SealedKey) { k.KID = "x" + k.KID[1:] }, "under another name"},
		"moment to sign":  {private, jwks.ES256, func(k *jwks.SealedKey) { k.SignsFrom = epoch }, "was altered"},
		"moment of birth": {private, jwks.ES256, func(k *jwks.SealedKey) { k.CreatedAt = epoch.Add(-1) }, "was altered"},
		"algorithm":       {pss, jwks.PS256, func(k *jwks.SealedKey) { k.Algorithm = jwks.RS256 }, "was altered"},
		"another kind":    {private, jwks.ES256, func(k *jwks.SealedKey) { k.Algorithm = jwks.EdDSA }, "not one for EdDSA"},
		"signature":       {private, jwks.ES256, func(k *jwks.SealedKey) { k.Sealed[40] ^= 1 }, "was altered"},
		"no signature":    {private, jwks.ES256, func(k *jwks.SealedKey) { k.Sealed = nil }, "was altered"},
		"public key":      {private, jwks.ES256, func(k *jwks.SealedKey) { k.PublicJWK = hold(t, other, jwks.ES256).PublicJWK }, "under another name"},
		"no public key":   {private, jwks.ES256, func(k *jwks.SealedKey) { k.PublicJWK = []byte(`{}`) }, "not a public key"},
	} {
		held := hold(t, c.private, c.a)
		c.alter(&held)
		device := func(_ string, public crypto.PublicKey) crypto.Signer { return claims{c.private, public} }
		if _, err := jwks.OpenHeld(held, device); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// Whoever writes to the table can sign a row of his own: only the device's signature
// of the moment gets a key into the set.
func TestHeldKeyOpensOnlyWhereTheDeviceSignsByIt(t *testing.T) {
	foreign, own := devicePrivate(t, jwks.ES256), devicePrivate(t, jwks.ES256)
	held := hold(t, foreign, jwks.ES256)
	device := func(_ string, public crypto.PublicKey) crypto.Signer { return claims{own, public} }
	if _, err := jwks.OpenHeld(held, device); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Error(err)
	}
}

var errAway = errors.New("the device is away")

type away struct{ crypto.Signer }

func (away) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errAway }

func TestKeyWhoseDeviceDoesNotSignIsNeitherHeldNorOpened(t *testing.T) {
	private := devicePrivate(t, jwks.ES256)
	key, err := jwks.NewKey(away{private}, jwks.ES256, epoch, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwks.Hold(key, deviceURI); !errors.Is(err, errAway) {
		t.Errorf("held: %v", err)
	}
	if _, err := jwks.OpenHeld(hold(t, private, jwks.ES256), holds(away{private})); !errors.Is(err, errAway) {
		t.Errorf("opened: %v", err)
	}
	if err := set(t, key).Probe(epoch, jwks.ES256); !errors.Is(err, errAway) {
		t.Errorf("probed: %v", err)
	}
	if err := set(t, key).Probe(epoch, jwks.EdDSA); !errors.Is(err, jwks.ErrNoSigner) {
		t.Errorf("probed where there is no key: %v", err)
	}
}

func TestSealersAndDevicesKeysAreToldApart(t *testing.T) {
	private := devicePrivate(t, jwks.ES256)
	held := hold(t, private, jwks.ES256)
	if _, err := sealer(t, 1).Open(held); !errors.Is(err, jwks.ErrHeld) || !strings.Contains(err.Error(), deviceURI) {
		t.Errorf("a sealer opens what a device holds: %v", err)
	}
	sealed, err := sealer(t, 1).MakeKey(jwks.ES256, epoch, epoch)
	if err != nil || sealed.Held() {
		t.Errorf("held: %v, %v", sealed.Held(), err)
	}
	key, err := jwks.NewKey(private, jwks.ES256, epoch, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwks.Hold(key, "token"); err == nil {
		t.Error("a name that a sealer's could be is taken for a device's")
	}
}
