package authz_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

var errAway = errors.New("the device is away")

// device is a KeyHolder that holds its keys itself, and can go away. That of
// internal/hsm is tested there, and in cmd/authz with servers.
type device struct {
	mu   sync.Mutex
	away bool
	keys map[string]crypto.Signer
	made int
}

func newDevice() *device { return &device{keys: map[string]crypto.Signer{}} }

func (d *device) set(away bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = away
}

func (d *device) counts() (held, made int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys), d.made
}

func (d *device) has(kid string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys[kid] != nil
}

func (d *device) MakeKey(a jwks.Algorithm, createdAt, signsFrom time.Time) (jwks.SealedKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return jwks.SealedKey{}, err
	}
	key, err := jwks.NewKey(inDevice{private, d}, a, createdAt, signsFrom)
	if err != nil {
		return jwks.SealedKey{}, err
	}
	held, err := jwks.Hold(key, "pkcs11:token=test")
	if err != nil {
		return jwks.SealedKey{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[held.KID] = private
	d.made++
	return held, nil
}

func (d *device) Open(held jwks.SealedKey) (*jwks.Key, error) {
	return jwks.OpenHeld(held, func(kid string, _ crypto.PublicKey) crypto.Signer {
		d.mu.Lock()
		defer d.mu.Unlock()
		return inDevice{d.keys[kid], d}
	})
}

func (d *device) Discard(held jwks.SealedKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, held.KID)
	return nil
}

type inDevice struct {
	crypto.Signer
	device *device
}

func (s inDevice) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.device.mu.Lock()
	away := s.device.away
	s.device.mu.Unlock()
	if away {
		return nil, errAway
	}
	return s.Signer.Sign(random, digest, opts)
}

func keysIn(d *device) func(*authz.Config) {
	return func(c *authz.Config) { c.Device = d }
}

func TestSealedKeysGoOnBesideADevicesAndBack(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t), newDevice()
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	sealed := w.olderKey(time.Now().Add(testAhead-testRotation), "") // the next one is due
	i := w.instance(rotating, keysIn(d))
	old := i.token(client, key).string("access_token")
	infos := w.keyInfos()
	if held, _ := d.counts(); len(infos) != 2 || held != 1 || !d.has(infos[1].KID) || header(t, old)["kid"] != sealed.KID {
		t.Fatalf("%d keys, %d in the device, signed by %v", len(infos), held, header(t, old)["kid"])
	}
	i.advance(testAhead + time.Minute)
	i.lookAfterKeys()
	token := i.token(client, key).string("access_token")
	if header(t, token)["kid"] != infos[1].KID || !i.active(gateway, token) {
		t.Errorf("signed by %v, want the device's %s", header(t, token)["kid"], infos[1].KID)
	}
	for _, t2 := range []string{old, token} {
		if _, err := verifies(t2, i.jwksNow()); err != nil {
			t.Error(err)
		}
	}
	// The way back: the next ones are sealed, and the device's goes on meanwhile.
	back := w.instance(keysIn(d), func(c *authz.Config) { c.SealNewKeys = true })
	back.offset.Store(i.offset.Load())
	w.exec(`update authz.signing_keys set revoked_at = now() where kid = $1`, infos[1].KID)
	back.lookAfterKeys()
	if held, made := d.counts(); held != 1 || made != 1 {
		t.Errorf("%d keys in the device, of %d", held, made)
	}
	if a := back.do(back.tokenRequest(client, key, clientCredentials)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestServerWithoutTheDeviceDoesNotStart(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t), newDevice()
	i := w.instance(keysIn(d))
	if _, err := authz.New(t.Context(), w.config(i, w.sealer)); !errors.Is(err, jwks.ErrHeld) || !strings.Contains(err.Error(), "pkcs11:token=test") {
		t.Errorf("without a device: %v", err)
	}
	d.set(true)
	config := w.config(i, w.sealer)
	config.Device = d
	if _, err := authz.New(t.Context(), config); !errors.Is(err, errAway) {
		t.Errorf("with one that is away: %v", err)
	}
}

func TestDeviceThatIsAwayIsA503UntilItIsBack(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t), newDevice()
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	i := w.instance(keysIn(d))
	token := i.token(client, key).string("access_token")
	d.set(true)
	a := i.do(i.tokenRequest(client, key, clientCredentials))
	if a.status != http.StatusServiceUnavailable || a.string("error") != "temporarily_unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	i.offset.Add(int64(2 * time.Second)) // what was answered last is over
	if ready := i.internalGet("/readyz"); ready.status != http.StatusServiceUnavailable || ready.string("reason") != "the signing key does not sign" {
		t.Errorf("ready: %d %s", ready.status, ready.body)
	}
	i.lookAfterKeys() // what is open stays open
	if !i.active(gateway, token) || len(i.jwksNow().Keys) != 1 {
		t.Error("what was signed before is not good any more")
	}
	d.set(false)
	i.offset.Add(int64(2 * time.Second))
	if ready := i.internalGet("/readyz"); ready.status != http.StatusOK {
		t.Errorf("ready: %d %s", ready.status, ready.body)
	}
	i.token(client, key)
}

func TestOfKeysMadeAtOnceTheDeviceKeepsTheOneThatIsRecorded(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]bool{"the first": false, "the next": true} {
		w, d := newWorld(t), newDevice()
		if older {
			w.olderKey(time.Now().Add(testAhead-testRotation), "")
		}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				config := w.config(&instance{store: w.owner}, w.sealer)
				config.Device, config.KeyRotation, config.KeyPublishAhead = d, testRotation, testAhead
				if _, err := authz.New(t.Context(), config); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		keys := w.keyInfos()
		if held, made := d.counts(); held != 1 || made == 0 || !d.has(keys[len(keys)-1].KID) {
			t.Errorf("%s: %d of %d keys are in the device", name, held, made)
		}
	}
}

// losingStore loses the answer of whoever adds the next key.
type losingStore struct {
	authz.Store
	applied bool // the key is recorded all the same
	unsure  bool // nobody can tell
}

var errLost = errors.New("the connection was lost")

func (s *losingStore) AddNextSigningKey(ctx context.Context, key jwks.SealedKey, after string, event authz.AuditEvent) (bool, error) {
	if s.applied {
		if _, err := s.Store.AddNextSigningKey(ctx, key, after, event); err != nil {
			return false, err
		}
	}
	return false, errLost
}

func (s *losingStore) SigningKeyRecorded(ctx context.Context, kid string) (bool, error) {
	if s.unsure {
		return false, errLost
	}
	return s.Store.SigningKeyRecorded(ctx, kid)
}

func TestKeyIsDiscardedIfAndOnlyIfItWasNotRecorded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		applied, unsure bool
		then, keys      int // in the device, when it can be told; in the Store
	}{
		"not recorded":                   {false, false, 0, 1},
		"recorded, and reported lost":    {true, false, 1, 2},
		"not recorded, and hard to tell": {false, true, 0, 1},
		"recorded, and hard to tell":     {true, true, 1, 2},
	} {
		w, d := newWorld(t), newDevice()
		w.olderKey(time.Now().Add(testAhead-testRotation+time.Minute), "") // due in a minute
		var lost *losingStore
		i := w.instance(rotating, keysIn(d), func(config *authz.Config) {
			lost = &losingStore{config.Store, c.applied, c.unsure}
			config.Store = lost
		})
		i.offset.Store(int64(2 * time.Minute))
		if err := i.server.LookAfterKeys(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("%s: %v", name, err)
		}
		if held, made := d.counts(); made != 1 || c.unsure && held != 1 || !c.unsure && held != c.then {
			t.Errorf("%s: %d of %d keys are in the device", name, held, made)
		}
		lost.unsure = false
		i.offset.Store(0) // nothing is due
		i.lookAfterKeys()
		if held, made := d.counts(); held != c.then || made != 1 || len(w.keyInfos()) != c.keys {
			t.Errorf("%s: then %d of %d keys are in the device, %d in the Store", name, held, made, len(w.keyInfos()))
		}
	}
}
