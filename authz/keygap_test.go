package authz_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/jwks"
)

// keyOf is the key that a new token of the instance is signed by, once another one's
// JWKS has verified it.
func (i *instance) keyOf(c registered, key *dpopbind.Key, other *instance) string {
	i.w.t.Helper()
	kid, err := verifies(i.token(c, key).string("access_token"), other.jwksNow())
	if err != nil {
		i.w.t.Errorf("by the JWKS of another instance: %v", err)
	}
	return kid
}

func (i *instance) isReady(status int, reason string) {
	i.w.t.Helper()
	if a := i.internalGet("/readyz"); a.status != status || !strings.Contains(a.body, reason) {
		i.w.t.Errorf("%d %s, want %d and %q", a.status, a.body, status, reason)
	}
}

func (i *instance) gapsAre(unopened, gaps float64) {
	i.w.t.Helper()
	if got := i.metric("authz_signing_keys_unopened"); got != unopened {
		i.w.t.Errorf("%v keys are unopened, want %v", got, unopened)
	}
	if got := i.metric("authz_signing_gaps"); got != gaps {
		i.w.t.Errorf("%v gaps, want %v", got, gaps)
	}
}

// Of two instances one was never told of the new sealing key, by which the next
// signing key is sealed. It tells so hours before, and when the other one begins to
// sign with it, it signs nothing that anybody could not verify.
func TestKeyThatDoesNotOpenIsToldOfBeforeItSignsAndFailsNoVerifier(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	older, newer := randomSealingKey(), randomSealingKey()
	w.sealer = newSealer(t, older)
	first := w.olderKey(time.Now().Add(-10*24*time.Hour), "")
	behind := w.instance()
	w.sealer = newSealer(t, newer, older)
	ahead := w.instance()
	behind.advance(2 * time.Minute)
	ahead.advance(-2 * time.Minute)
	behind.lookAfterKeys()
	behind.isReady(http.StatusOK, `{"status":"ready"}`)
	behind.gapsAre(0, 0)

	next := w.olderKey(time.Now().Add(3*time.Hour), first.KID)
	if err := behind.server.LookAfterKeys(t.Context()); !errors.Is(err, jwks.ErrSealedByAnother) || !strings.Contains(err.Error(), next.SignsFrom.Format(time.RFC3339)) {
		t.Errorf("%v", err)
	}
	ahead.lookAfterKeys()
	ahead.gapsAre(0, 0)
	behind.gapsAre(1, 1)
	behind.isReady(http.StatusOK, "will be when its turn comes")
	ahead.isReady(http.StatusOK, `{"status":"ready"}`)

	for _, i := range []*instance{ahead, behind} {
		i.advance(3*time.Hour - time.Minute) // its turn has come for the one whose clock is ahead
	}
	for i, status := range map[*instance]int{ahead: http.StatusOK, behind: http.StatusServiceUnavailable} {
		i.isReady(status, "")
		if kid := i.keyOf(client, key, ahead); kid != first.KID {
			t.Errorf("signed by %s", kid)
		}
	}
	for _, i := range []*instance{ahead, behind} {
		i.advance(25 * time.Minute)
	}
	if kid := ahead.keyOf(client, key, ahead); kid != next.KID {
		t.Errorf("signed by %s, want the next one", kid)
	}
	if kid := behind.keyOf(client, key, ahead); kid != first.KID {
		t.Errorf("signed by %s, want the one before", kid)
	}
	behind.advance(5 * time.Minute) // longer is not safe
	if a := behind.do(behind.tokenRequest(client, key, clientCredentials)); a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	ahead.advance(2 * time.Hour) // what it signed as a stand-in has expired by now, and by any clock
	if set := ahead.jwksNow(); len(set.Keys) != 2 {
		t.Errorf("%d keys are published", len(set.Keys))
	}

	// The next one opens, and it catches up by itself.
	w.reseal(newSealer(t, older, newer))
	behind.lookAfterKeys()
	behind.gapsAre(0, 0)
	behind.isReady(http.StatusOK, `{"status":"ready"}`)
	if kid := behind.keyOf(client, key, ahead); kid != next.KID {
		t.Errorf("signed by %s after it opens", kid)
	}
}

// A resource has chosen an algorithm whose key is to others only.
func TestKeyOfAResourcesAlgorithmThatDoesNotOpenIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	own := w.sealer
	w.sealer = newSealer(t, randomSealingKey())
	foreign, event, err := authz.MakeSigningKey(w.sealer, jwks.EdDSA, operatorEvent("").At, operatorEvent("").At, authz.ActorOperator("test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.owner.AddSigningKey(t.Context(), foreign, "", event); err != nil {
		t.Fatal(err)
	}
	w.sealer = own
	i.server.LookAfterKeys(t.Context())
	i.gapsAre(1, 0) // nothing uses it
	i.isReady(http.StatusOK, `{"status":"ready"}`)
	r, err := w.owner.Resource(t.Context(), rates)
	if err != nil {
		t.Fatal(err)
	}
	r.SigningAlg = jwks.EdDSA
	if err := w.owner.UpdateResource(t.Context(), r, operatorEvent(authz.AuditResourceUpdated)); err != nil {
		t.Fatal(err)
	}
	if err := i.server.LookAfterKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "does not have the key that signs by EdDSA") {
		t.Errorf("%v", err)
	}
	i.gapsAre(1, 1)
	i.isReady(http.StatusServiceUnavailable, "does not open here")
}

// Who has the server's database login alone can add a key as the schedule has it, of
// which no instance makes anything but an alarm, and which an operator calls off.
func TestKeyThatAThiefOfTheServersLoginMakesUpIsToldOfAndCalledOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client, key := w.client(authz.Client{}), newKey(t)
	first := w.olderKey(time.Now().Add(-10*24*time.Hour), "")
	i := w.instance()
	now := time.Now().UTC().Truncate(time.Microsecond)
	thiefs, err := jwks.Generate(jwks.ES256, now, now.Add(3*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := newSealer(t, randomSealingKey()).Seal(thiefs) // the thief has none of the server's
	if err != nil {
		t.Fatal(err)
	}
	sealed.SealedBy = w.sealer.ID()
	event := operatorEvent(authz.AuditKeyCreated)
	event.Detail = map[string]any{"kid": sealed.KID}
	if added, err := i.store.AddNextSigningKey(t.Context(), sealed, first.KID, event); err != nil || !added {
		t.Fatal(added, err)
	}
	if err := i.server.LookAfterKeys(t.Context()); err == nil || !strings.Contains(err.Error(), sealed.KID) {
		t.Errorf("%v", err)
	}
	i.gapsAre(1, 1)
	if set := i.jwksNow(); len(set.Keys) != 1 || set.Keys[0].KeyID != first.KID {
		t.Errorf("%d keys are published", len(set.Keys))
	}
	if err := w.owner.RevokeSigningKey(t.Context(), sealed.KID, operatorEvent(authz.AuditKeyRevoked)); err != nil {
		t.Fatal(err)
	}
	i.lookAfterKeys()
	i.gapsAre(0, 0)
	i.advance(12 * time.Hour)
	i.isReady(http.StatusOK, `{"status":"ready"}`)
	if kid := i.keyOf(client, key, i); kid != first.KID {
		t.Errorf("signed by %s", kid)
	}
}
