//go:build pkcs11 && cgo

package authz_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/hsm"
	"github.com/cargokey/authz/internal/hsm/hsmtest"
	"github.com/cargokey/authz/jwks"
)

// From one key in the HSM to the next, with requests before and after, on two
// instances.
func TestScheduleRotatesKeysInTheHSM(t *testing.T) {
	token := hsmtest.New(t)
	t.Setenv("SOFTHSM2_CONF", token.Conf)
	h, err := hsm.Open(hsm.Config{Module: token.Module, Token: token.Label, PIN: token.PIN})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	w := newWorld(t)
	w.secret(token.PIN)
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	from := time.Now().Add(testAhead - testRotation).UTC().Truncate(time.Microsecond)
	first, event, err := authz.MakeSigningKey(h, jwks.ES256, from, from, authz.ActorOperator("test"))
	if err != nil {
		t.Fatal(err)
	}
	event.At = time.Now().UTC().Truncate(time.Microsecond)
	if err := w.owner.AddSigningKey(t.Context(), first, "", event); err != nil {
		t.Fatal(err)
	}
	inHSM := func(c *authz.Config) { c.Device = h }
	instances := []*instance{w.instance(rotating, inHSM), w.instance(rotating, inHSM)}
	var wg sync.WaitGroup
	for _, i := range instances {
		wg.Go(i.lookAfterKeys)
	}
	wg.Wait()
	infos := w.keyInfos()
	if len(infos) != 2 || infos[0].KID != first.KID {
		t.Fatalf("keys: %+v", infos)
	}
	for _, want := range infos {
		for n, i := range instances {
			signed := i.token(client, key).string("access_token")
			if header(t, signed)["kid"] != want.KID || !instances[1-n].active(gateway, signed) {
				t.Errorf("signed by %v, want %s", header(t, signed)["kid"], want.KID)
			}
			if _, err := verifies(signed, instances[1-n].jwksNow()); err != nil {
				t.Error(err)
			}
		}
		for _, i := range instances {
			i.advance(testAhead + time.Minute)
			i.lookAfterKeys()
		}
	}
	stored, err := w.owner.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range stored {
		if !strings.HasPrefix(k.SealedBy, "pkcs11:") {
			t.Errorf("key %s is in %s", k.KID, k.SealedBy)
		}
	}
}
