package postgres_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// newJKT is the thumbprint of a key that nobody has.
func newJKT() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

func dpopWriteNames() []string {
	return []string{"SetDPoPKeyPolicy", "EnrolKey", "RemoveKey", "EndorseKey", "RecordToken first use",
		"RevokeClientTokens", "RevokeResourceTokens", "RevokeDPoPKey"}
}

// dpopWrites are those of DPoP keys and of revocations.
func dpopWrites(t *testing.T, s *postgres.Store, owner *postgres.Store) map[string]faulty {
	ctx := t.Context()
	registered := map[string]*authz.Client{}
	client := func(n int, policy authz.DPoPKeyPolicy) string {
		c := newClient(fmt.Sprintf("client-%d", n))
		c.DPoPKeys = policy
		must(t, owner.CreateClient(ctx, c, event(authz.AuditClientCreated, clock())))
		registered[c.ID] = c
		return c.ID
	}
	enrolled := func(n int) (id, jkt string) {
		id, jkt = client(n, authz.EnrolledKey), newJKT()
		key := authz.DPoPKey{JKT: jkt, EnrolledAt: clock(), EnrolledBy: "operator:ada"}
		must(t, owner.EnrolKey(ctx, id, key, event(authz.AuditDPoPKeyEnrolled, clock())))
		return id, jkt
	}
	return map[string]faulty{
		"SetDPoPKeyPolicy": {
			begin: func(n int) func() error {
				id, e := client(n, authz.AnyKey), event(authz.AuditClientUpdated, clock())
				return func() error { return s.SetDPoPKeyPolicy(ctx, id, authz.EnrolledKey, e) }
			},
			adds: rows{"audit_events": 1}, addsAgain: rows{"audit_events": 1},
		},
		"EnrolKey": {
			begin: func(n int) func() error {
				id, e := client(n, authz.EnrolledKey), event(authz.AuditDPoPKeyEnrolled, clock())
				key := authz.DPoPKey{JKT: newJKT(), EnrolledAt: e.At, EnrolledBy: e.Actor}
				return func() error { return s.EnrolKey(ctx, id, key, e) }
			},
			adds: rows{"client_dpop_keys": 1, "audit_events": 1}, addsAgain: rows{"audit_events": 1},
		},
		"RemoveKey": {
			begin: func(n int) func() error {
				id, jkt := enrolled(n)
				e := event(authz.AuditDPoPKeyRemoved, clock())
				return func() error { return s.RemoveKey(ctx, id, jkt, e) }
			},
			adds: rows{"audit_events": 1}, again: authz.ErrNotFound,
		},
		"EndorseKey": {
			begin: func(n int) func() error {
				id, jkt := enrolled(n)
				proof := authz.Spending{Digest: randomDigest(), IssuedAt: clock().Truncate(time.Second), Window: 90 * time.Second}
				other := proof
				other.Digest = randomDigest()
				e := authz.Endorsement{Caller: registered[id].Caller(), By: jkt, JKT: newJKT(), ByEndsAt: clock().Add(time.Hour), Spent: []authz.Spending{proof, other}}
				e.Credential = secretOf(id).Name()
				ev := event(authz.AuditDPoPKeyEnrolled, clock())
				return func() error { return s.EndorseKey(ctx, e, ev) }
			},
			adds: rows{"client_dpop_keys": 1, "spent_proofs": 2, "audit_events": 1}, again: authz.ErrProofSpent,
		},
		"RecordToken first use": {
			begin: func(n int) func() error {
				i := issue(clock())
				i.Token.ClientID, i.Token.JKT = client(n, authz.FirstUseKey), newJKT()
				i.Token.Credential, i.Generation = secretOf(i.Token.ClientID).Name(), registered[i.Token.ClientID].Generation
				return func() error { return s.RecordToken(ctx, i) }
			},
			adds: rows{"client_dpop_keys": 1, "tokens": 1, "spent_proofs": 1, "audit_events": 2}, again: authz.ErrProofSpent,
		},
		"RevokeClientTokens": {
			begin: func(n int) func() error {
				id, e := client(n, authz.AnyKey), event(authz.AuditClientRevoked, clock())
				return func() error { return s.RevokeClientTokens(ctx, id, e) }
			},
			adds: rows{"audit_events": 1}, addsAgain: rows{"audit_events": 1},
		},
		"RevokeResourceTokens": {
			begin: func(int) func() error {
				e := event(authz.AuditResourceRevoked, clock())
				return func() error { return s.RevokeResourceTokens(ctx, labels, e) }
			},
			adds: rows{"audit_events": 1}, addsAgain: rows{"audit_events": 1},
		},
		"RevokeDPoPKey": {
			begin: func(int) func() error {
				jkt, e := newJKT(), event(authz.AuditDPoPKeyRevoked, clock())
				return func() error { return s.RevokeDPoPKey(ctx, jkt, e) }
			},
			adds: rows{"revoked_dpop_keys": 1, "audit_events": 1}, addsAgain: rows{"audit_events": 1},
		},
	}
}

var readsTokens = regexp.MustCompile(`(?m)^.*\bon (?:authz\.)?tokens.*$`)

// However many tokens there are, a revocation is one small write, and touches none
// of their rows.
func TestRevocationOfManyTokensIsOneSmallWrite(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	store := open(t, db.OwnerURL)
	hour := clock().UTC().Truncate(time.Hour)
	now := hour.Add(30 * time.Minute)
	populate(t, store, now)
	many := 100_000
	if testing.Short() {
		many = 5_000
	}
	fill(t, admin, hour, many)
	exec(t, admin, `insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
		values ('a-key', 'ES256', '{}', '', 'one', now(), now())`)
	exec(t, admin, `update authz.tokens set kid = 'a-key', jkt = $1`, newJKT())
	exec(t, admin, `analyze`)
	before := list[string](t, admin, `select xmin::text from authz.tokens group by 1`)
	for name, c := range map[string]struct {
		sql  string
		args []any
	}{
		"RevokeClientTokens":   {postgres.RevokeClientSQL, []any{shop}},
		"RevokeResourceTokens": {postgres.RevokeResourceSQL, []any{labels}},
		"RevokeDPoPKey":        {postgres.RevokeDPoPKeySQL, []any{newJKT(), now}},
		"RevokeSigningKey":     {`update authz.signing_keys set revoked_at = $2 where kid = $1`, []any{"a-key", now}},
	} {
		plan := explain(t, admin, c.sql, c.args)
		if found := readsTokens.FindAllString(plan, -1); len(found) > 0 {
			t.Errorf("%s reads tokens: %v", name, found)
		}
	}
	must(t, store.RevokeClientTokens(t.Context(), shop, event(authz.AuditClientRevoked, now)))
	must(t, store.RevokeResourceTokens(t.Context(), labels, event(authz.AuditResourceRevoked, now)))
	must(t, store.RevokeDPoPKey(t.Context(), newJKT(), event(authz.AuditDPoPKeyRevoked, now)))
	must(t, store.RevokeSigningKey(t.Context(), "a-key", event(authz.AuditKeyRevoked, now)))
	same(t, before, list[string](t, admin, `select xmin::text from authz.tokens group by 1`))
}

// A token of a revoked signing key is inactive wherever it is looked for, and no
// other; and none can be recorded.
func TestTokensOfARevokedSigningKeyAreInactive(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	owner := open(t, db.OwnerURL)
	now := clock()
	populate(t, owner, now)
	servers := []*postgres.Store{open(t, db.ServerURL, postgres.AsServer()), open(t, db.ServerURL, postgres.AsServer())}
	for _, kid := range []string{"bad", "good"} {
		exec(t, admin, `insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
			values ($1, 'ES256', '{}', '', 'one', now(), now())`, kid)
	}
	record := func(kid string) authz.Token {
		i := issue(now)
		i.Token.KID = kid
		must(t, servers[0].RecordToken(t.Context(), i))
		return i.Token
	}
	bad, good, opaque := record("bad"), record("good"), record("")
	must(t, owner.RevokeSigningKey(t.Context(), "bad", event(authz.AuditKeyRevoked, now)))
	for _, s := range servers {
		for token, want := range map[*authz.Token]bool{&bad: false, &good: true, &opaque: true} {
			found, err := s.ActiveToken(t.Context(), token.Digest, edgeCaller(), now)
			if (err == nil) != want {
				t.Errorf("by %q: introspection: %v", token.KID, err)
			}
			if want {
				same(t, token, found)
			}
			v, err := s.AdmitCall(t.Context(), goodCall(t, owner, *token), now)
			must(t, err)
			if v.Spent != want || (v.Token != nil) != want {
				t.Errorf("by %q: a call: %+v", token.KID, v)
			}
		}
	}
	for _, proof := range []bool{true, false} {
		i := issue(now)
		i.Token.KID = "bad"
		if !proof {
			i.Proof, i.Token.JKT = nil, ""
		}
		if err := servers[1].RecordToken(t.Context(), i); err != authz.ErrSigningKeyRevoked {
			t.Errorf("recording another: %v", err)
		}
	}
}

// Which key is the first is not known until the one that came before has been
// recorded, or has not.
func TestFirstKeyWaitsForAnotherFirstKey(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]error{"commit": authz.ErrKeyNotAdmitted, "rollback": nil} {
		db := pgtest.New(t)
		first := connect(t, db.OwnerURL)
		owner := open(t, db.OwnerURL)
		now := clock()
		populate(t, owner, now)
		must(t, owner.SetDPoPKeyPolicy(t.Context(), shop, authz.FirstUseKey, event(authz.AuditClientUpdated, now)))
		store := open(t, db.ServerURL, postgres.AsServer())
		exec(t, first, `begin`)
		exec(t, first, `select authz.enrol_first_dpop_key($1, $2, $3)`, shop, newJKT(), now)
		recorded := make(chan error, 1)
		go func() {
			i := issue(now)
			i.Token.JKT = newJKT()
			recorded <- store.RecordToken(t.Context(), i)
		}()
		waitsForALock(t, connect(t, db.OwnerURL), recorded)
		exec(t, first, end)
		if err := <-recorded; err != want {
			t.Errorf("after a %s there: %v, want %v", end, err, want)
		}
	}
}

func TestFirstKeyTakesOneRoundTripMoreThanAllLaterTokens(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	now := clock()
	owner := open(t, db.OwnerURL)
	populate(t, owner, now)
	store, w := openWired(t, db.ServerURL, postgres.AsServer())
	first := func(id string) func() error {
		c := newClient(id)
		c.DPoPKeys = authz.FirstUseKey
		must(t, owner.CreateClient(t.Context(), c, event(authz.AuditClientCreated, now)))
		jkt := newJKT()
		return func() error {
			i := issue(now)
			i.Token.ClientID, i.Token.JKT, i.Token.Credential = id, jkt, secretOf(id).Name()
			i.Generation = c.Generation
			return store.RecordToken(t.Context(), i)
		}
	}
	must(t, first("one")()) // prepares the statements
	two := first("two")
	for use, want := range []int{2, 1, 1} {
		if n := w.count(t, two); n != want {
			t.Errorf("use %d of the key: %d round trips", use+1, n)
		}
	}
	for _, id := range []string{"one", "two"} {
		if keys, err := owner.DPoPKeys(t.Context(), id); err != nil || len(keys) != 1 {
			t.Errorf("%s has %d keys, %v", id, len(keys), err)
		}
	}
}
