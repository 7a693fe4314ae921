package authz_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

func newSealer(t *testing.T, keys ...[]byte) *jwks.Sealer {
	t.Helper()
	s, err := jwks.NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func randomSealingKey() []byte {
	key := make([]byte, jwks.SealingKeySize)
	rand.Read(key)
	return key
}

// reseal is "authz key reseal".
func (w *world) reseal(sealer *jwks.Sealer) {
	w.t.Helper()
	stored, err := w.owner.SigningKeys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for n, sealed := range stored {
		key, err := sealer.Open(sealed)
		if err != nil {
			w.t.Fatal(err)
		}
		if stored[n], err = sealer.Seal(key); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.owner.ResealSigningKeys(w.t.Context(), stored, operatorEvent(authz.AuditKeysResealed)); err != nil {
		w.t.Fatal(err)
	}
}

func TestSealingKeyIsReplacedWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	older, newer := randomSealingKey(), randomSealingKey()
	w.sealer = newSealer(t, older)
	behind := w.instance() // is never told of the new one
	kid := header(t, behind.token(client, key).string("access_token"))["kid"]
	start := func(keys ...[]byte) (*instance, error) {
		i := &instance{w: w, store: behind.store}
		_, err := authz.New(t.Context(), w.config(i, newSealer(t, keys...)))
		return i, err
	}
	for name, keys := range map[string][][]byte{"old and new": {older, newer}, "new and old": {newer, older}} {
		if _, err := start(keys...); err != nil {
			t.Errorf("before, %s: %v", name, err)
		}
	}
	if _, err := start(newer); !errors.Is(err, jwks.ErrSealedByAnother) || !strings.Contains(err.Error(), newSealer(t, older).ID()) {
		t.Errorf("before, with the new one alone: %v", err)
	}
	w.reseal(newSealer(t, newer, older))
	for name, keys := range map[string][][]byte{"old and new": {older, newer}, "new and old": {newer, older}, "new": {newer}} {
		if _, err := start(keys...); err != nil {
			t.Errorf("after, %s: %v", name, err)
		}
	}
	if _, err := start(older); !errors.Is(err, jwks.ErrSealedByAnother) || !strings.Contains(err.Error(), newSealer(t, newer).ID()) {
		t.Errorf("after, with the old one alone: %v", err)
	}
	// Who has opened the key already goes on, and says what is wrong.
	if err := behind.server.LookAfterKeys(t.Context()); !errors.Is(err, jwks.ErrSealedByAnother) || !strings.Contains(err.Error(), newSealer(t, newer).ID()) {
		t.Errorf("an instance without the new one: %v", err)
	}
	if got := header(t, behind.token(client, key).string("access_token"))["kid"]; got != kid {
		t.Errorf("signed by %v, want %v", got, kid)
	}
}

func TestKeyThatDoesNotOpenLeavesTheOthersInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, gateway, key := w.client(authz.Client{}), w.gateway(), newKey(t)
	i := w.instance()
	first := w.keyInfos()[0]
	mine, foreign := w.sealer, newSealer(t, randomSealingKey())
	w.sealer = foreign
	next := w.olderKey(time.Now(), first.KID) // signs already, by those who can open it
	w.sealer = mine
	for range 2 {
		if err := i.server.LookAfterKeys(t.Context()); !errors.Is(err, jwks.ErrSealedByAnother) || !strings.Contains(err.Error(), foreign.ID()) || !strings.Contains(err.Error(), next.KID) {
			t.Errorf("%v", err)
		}
	}
	token := i.token(client, key).string("access_token")
	if header(t, token)["kid"] != first.KID || !i.active(gateway, token) {
		t.Errorf("signed by %v", header(t, token)["kid"])
	}
	if _, err := verifies(token, i.jwksNow()); err != nil {
		t.Error(err)
	}
	// It does not start so: what signs now is not open to it.
	if _, err := authz.New(t.Context(), w.config(i, mine)); !errors.Is(err, jwks.ErrSealedByAnother) {
		t.Errorf("it starts: %v", err)
	}
	// Where what signs is open to it, it starts without the rest.
	w.olderKey(time.Now(), next.KID)
	if _, err := authz.New(t.Context(), w.config(i, mine)); err != nil {
		t.Errorf("it does not start: %v", err)
	}
}
