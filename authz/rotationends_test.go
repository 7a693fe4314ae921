package authz_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// A key that was superseded does not sign again: where its successor is revoked,
// another one is made.
func TestRevokingTheKeyThatSignsStopsNobody(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]func(*authz.Config){"by schedule": {rotating}, "by hand": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			superseded := w.olderKey(time.Now().Add(-10*24*time.Hour), "")
			signing := w.olderKey(time.Now().Add(-24*time.Hour), superseded.KID)
			client, key := w.client(authz.Client{}), newKey(t)
			i := w.instance(options...)
			i.token(client, key)
			if err := w.owner.RevokeSigningKey(t.Context(), signing.KID, operatorEvent(authz.AuditKeyRevoked)); err != nil {
				t.Fatal(err)
			}
			token := i.token(client, key).string("access_token")
			if kid := header(t, token)["kid"]; kid == superseded.KID || kid == signing.KID {
				t.Errorf("signed by %v, which has ended", kid)
			}
			if _, err := authz.New(t.Context(), w.config(i, w.sealer)); err != nil {
				t.Errorf("another instance does not start: %v", err)
			}
		})
	}
}

func TestSupersededKeyIsNoReasonToRetireTheOnlySigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	superseded := w.olderKey(time.Now().Add(-10*24*time.Hour), "")
	signing := w.olderKey(time.Now().Add(-24*time.Hour), superseded.KID)
	pending := w.olderKey(time.Now().Add(24*time.Hour), signing.KID)
	retire := func(kid string) error {
		return w.owner.RetireSigningKey(t.Context(), kid, false, operatorEvent(authz.AuditKeyRetired))
	}
	if err := retire(signing.KID); err != nil {
		t.Fatal(err)
	}
	if err := retire(pending.KID); !errors.Is(err, authz.ErrOnlySigner) {
		t.Errorf("retiring the only one that could sign: %v", err)
	}
	w.instance().token(w.client(authz.Client{}), newKey(t))
}

// Whose clock is behind has not seen the moment of the removal come.
func TestRemovedKeyIsWorthNothingByAnyClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now, behind := w.instance(), w.instance()
	behind.advance(-5 * time.Minute)
	client := w.client(authz.Client{DPoPKeys: authz.EnrolledKey})
	stolen, planted := newKey(t), newKey(t)
	w.enrol(client, stolen, time.Time{})
	now.token(client, stolen)
	if err := w.owner.RemoveKey(t.Context(), client.ID, stolen.JKT(), operatorEvent(authz.AuditDPoPKeyRemoved)); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*instance{now, behind} {
		i.refusesKey(client, stolen)
		if a := i.do(i.enrolRequest(client, planted, i.endorsement(client, stolen, planted))); a.status != http.StatusBadRequest || a.string("error") != "invalid_endorsement" {
			t.Errorf("it vouches for another one: %d %s", a.status, a.body)
		}
	}
	w.enrol(client, stolen, time.Time{}) // an operator may think again
	behind.token(client, stolen)
}

func TestKeyThatMayStayForATimeVouchesForNobodyLonger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	client := w.client(authz.Client{DPoPKeys: authz.EnrolledKey})
	guest, successor := newKey(t), newKey(t)
	w.enrol(client, guest, time.Now().Add(time.Minute))
	if a := i.do(i.enrolRequest(client, successor, i.endorsement(client, guest, successor))); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	i.token(client, successor)
	i.advance(2 * time.Minute)
	i.refusesKey(client, guest)
	i.refusesKey(client, successor)
}

func TestNoNumberOfEndedKeysKeepsAnOperatorOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.instance()
	client := w.client(authz.Client{DPoPKeys: authz.EnrolledKey})
	first := newKey(t)
	w.enrol(client, first, time.Time{})
	keys := []*dpopbind.Key{first}
	for range 99 {
		next := newKey(t)
		if a := i.do(i.enrolRequest(client, next, i.endorsement(client, first, next))); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		keys = append(keys, next)
	}
	for _, k := range keys {
		if err := w.owner.RemoveKey(t.Context(), client.ID, k.JKT(), operatorEvent(authz.AuditDPoPKeyRemoved)); err != nil {
			t.Fatal(err)
		}
	}
	last := newKey(t)
	w.enrol(client, last, time.Time{})
	i.token(client, last)
}
