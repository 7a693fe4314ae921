package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

func signingKey(kid string, createdAt, signsFrom time.Time) jwks.SealedKey {
	return jwks.SealedKey{
		Info:      jwks.Info{KID: kid, Algorithm: jwks.ES256, CreatedAt: createdAt, SignsFrom: signsFrom},
		PublicJWK: []byte(`{}`), Sealed: []byte{1}, SealedBy: "one",
	}
}

// signingKeyWrites are the writes of signing keys that faults are tried on. Each begins
// with one key that has signed for a month.
func signingKeyWrites(t *testing.T, s *postgres.Store, admin *pgx.Conn) map[string]faulty {
	ctx := t.Context()
	const month = 30 * 24 * time.Hour
	begin := func(n int) (old string, next jwks.SealedKey) {
		exec(t, admin, `delete from authz.signing_keys`)
		now, old := clock(), fmt.Sprint("old-", n)
		exec(t, admin, `insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
			values ($1, 'ES256', '{}', '', 'one', $2, $2)`, old, now.Add(-month))
		return old, signingKey(fmt.Sprint("new-", n), now, now.Add(24*time.Hour))
	}
	return map[string]faulty{
		"AddFirstSigningKey": {
			begin: func(n int) func() error {
				_, k := begin(n)
				k.SignsFrom = k.CreatedAt
				exec(t, admin, `delete from authz.signing_keys`)
				e := event(authz.AuditKeyCreated, k.CreatedAt)
				return func() error { return s.AddFirstSigningKey(ctx, k, e) }
			},
			adds: rows{"signing_keys": 1, "audit_events": 1},
		},
		"AddNextSigningKey": {
			begin: func(n int) func() error {
				old, k := begin(n)
				e := event(authz.AuditKeyCreated, k.CreatedAt)
				return func() error { _, err := s.AddNextSigningKey(ctx, k, old, e); return err }
			},
			adds: rows{"signing_keys": 1, "audit_events": 1},
		},
		"AddSigningKey": {
			begin: func(n int) func() error {
				old, k := begin(n)
				e, revoked := event(authz.AuditKeyCreated, k.CreatedAt), event(authz.AuditKeyRevoked, k.CreatedAt)
				return func() error {
					return s.AddSigningKey(ctx, k, old, e, authz.KeyRevocation{KID: old, Event: revoked})
				}
			},
			adds:  rows{"signing_keys": 1, "audit_events": 2},
			again: authz.ErrChanged,
		},
		"RetireSigningKey": {
			begin: func(n int) func() error {
				old, k := begin(n)
				e := event(authz.AuditKeyRetired, k.CreatedAt)
				return func() error { return s.RetireSigningKey(ctx, old, true, e) }
			},
			adds:      rows{"audit_events": 1},
			addsAgain: rows{"audit_events": 1}, // a second command, and a second line about it
		},
		"RevokeSigningKey": {
			begin: func(n int) func() error {
				old, k := begin(n)
				e := event(authz.AuditKeyRevoked, k.CreatedAt)
				return func() error { return s.RevokeSigningKey(ctx, old, e) }
			},
			adds:      rows{"audit_events": 1},
			addsAgain: rows{"audit_events": 1},
		},
		"ResealSigningKeys": {
			begin: func(n int) func() error {
				old, k := begin(n)
				k.KID, k.SealedBy = old, "two"
				e := event(authz.AuditKeysResealed, k.CreatedAt)
				return func() error { return s.ResealSigningKeys(ctx, []jwks.SealedKey{k}, e) }
			},
			adds:      rows{"audit_events": 1},
			addsAgain: rows{"audit_events": 1},
		},
	}
}

// Whoever has the server's rights calls the functions directly: a key a day, and
// none that signs before the others know it, is all that can be had.
func TestServersRoleCannotAddKeysAtWill(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin, server := connect(t, db.OwnerURL), connect(t, db.ServerURL)
	now := clock()
	populate(t, open(t, db.OwnerURL), now)
	const next = `select authz.add_next_signing_key($1, $2, '{}', '\x01', 'x', $3, $4, $5)`
	const first = `select authz.add_first_signing_key($1, $2, '{}', '\x01', 'x', $3, $4)`
	try := func(sql string, args ...any) bool { t.Helper(); return list[bool](t, server, sql, args...)[0] }
	if !try(first, "a", "ES256", now, now) || try(first, "b", "ES256", now, now) {
		t.Error("the first key of an algorithm is added once")
	}
	added := 0
	for hours := range 24 * 40 {
		at := now.Add(time.Duration(hours) * time.Hour)
		for _, made := range []time.Time{now, at} {
			for _, after := range []string{"a", fmt.Sprint("n", added)} {
				if try(next, fmt.Sprint("n", added+1), "ES256", made, at, after) {
					added++
				}
			}
		}
	}
	if added != 1 {
		t.Errorf("%d keys were added in one moment", added)
	}
	same(t, []bool{true}, list[bool](t, admin, `select signs_from >= created_at + interval '3 hours' from authz.signing_keys where kid = 'n1'`))
	if got := list[*bool](t, server, next, "z", "ES256", nil, now, "n1")[0]; got != nil {
		t.Errorf("a key made at no time: %t", *got)
	}
	for _, statement := range []string{
		`select authz.add_next_signing_key('q', 'HS256', '{}', '', 'x', now(), now(), 'n1')`,
		`select authz.add_first_signing_key('q', 'ES256', '{}', '', 'x', now(), now())`,
	} {
		if list[bool](t, server, statement)[0] {
			t.Errorf("%s: it was added", statement)
		}
	}
	if _, err := server.Exec(t.Context(), `select authz.add_first_signing_key('q', 'HS256', '{}', '', 'x', now(), now())`); sqlState(err) != "23514" { // check_violation
		t.Errorf("a key of no known algorithm: %v", err)
	}
}

func TestKeyIsNotToldToBeMissingWhileItMayStillBeRecorded(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s, adder := open(t, db.ServerURL, postgres.AsServer()), connect(t, db.OwnerURL)
	now := clock()
	tx, err := adder.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), `select authz.add_first_signing_key('late', 'ES256', '{}', '', 'one', $1, $1)`, now)
	must(t, err)
	waiting, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if recorded, err := s.SigningKeyRecorded(waiting, "late"); err == nil {
		t.Errorf("told %v before the commit", recorded)
	}
	told := make(chan bool, 1)
	go func() {
		recorded, err := s.SigningKeyRecorded(t.Context(), "late")
		told <- err == nil && recorded
	}()
	must(t, tx.Commit(t.Context()))
	same(t, true, <-told)
}
