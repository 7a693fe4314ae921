package postgres_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// reads are the lines of a plan that read a partition of tokens or spent proofs.
var reads = regexp.MustCompile(`(?m)^.* on (?:authz\.)?(?:tokens|spent_proofs)_\d{8}_\d\d\b.*$|^.*Bitmap Index Scan.*$`)

// byDigest are those of them that read by the one index that is meant for it, and
// those that write.
var byDigest = regexp.MustCompile(`Index (?:Only )?Scan using (?:tokens|spent_proofs)_\d{8}_\d\d_digest_(?:idx|key) on|Update on`)

// A plan that was made while a partition held little is kept while it fills, and
// one that is made before anything is known of a partition that is full has to be
// right too. So the plan must be the same whatever there is and is known.
func TestTokensAndSpentProofsAreLookedUpByDigestHoweverManyThereAre(t *testing.T) {
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
	for _, n := range []int{0, 1, 60, 120, 200, 280, 400, 1000, many} {
		exec(t, admin, `truncate authz.tokens, authz.spent_proofs`)
		fill(t, admin, hour, n)
		onlyByDigest(t, admin, store, now, fmt.Sprintf("%d of each, of which nothing is known", n))
		exec(t, admin, `analyze`)
		onlyByDigest(t, admin, store, now, fmt.Sprintf("%d of each", n))
	}
}

func onlyByDigest(t *testing.T, admin *pgx.Conn, store *postgres.Store, now time.Time, when string) {
	t.Helper()
	i := issue(now)
	look := func(name, sql string, args []any) {
		t.Helper()
		plan := explain(t, admin, sql, args)
		found := reads.FindAllString(plan, -1)
		if len(found) == 0 {
			t.Fatalf("%s: %s reads no partition\n%s", when, name, plan)
		}
		for _, line := range found {
			if !byDigest.MatchString(line) {
				t.Errorf("%s: %s: %s", when, name, line)
			}
		}
	}
	look("AdmitCall", postgres.AdmitCallSQL, postgres.AdmitCallArgs(goodCall(t, store, i.Token), now))
	look("ActiveToken", postgres.ActiveTokenSQL, postgres.ActiveTokenArgs(i.Token.Digest, edgeCaller(), now))
	look("RevokeToken", postgres.RevokeTokenSQL, postgres.RevokeTokenArgs(i.Token.Digest, authz.Caller{}, event(authz.AuditTokenRevoked, now)))
	look("RecordToken alone", postgres.RecordAloneSQL, postgres.RecordAloneArgs(i))
	p := i.Proof
	turn := issue(now)
	turn.Proof.IssuedAt = now.Truncate(time.Hour)
	look("RecordToken at the turn of an hour", postgres.RecordTokenSQL, postgres.RecordTokenArgs(turn))
	look("Spend", postgres.SpendProofSQL, []any{p.Digest[:], p.IssuedAt, p.IssuedAt.Add(-p.Window), p.IssuedAt.Add(p.Window)})
}

// fill adds n tokens of shop and n spent proofs of the hour that begins at hour.
func fill(t testing.TB, admin *pgx.Conn, hour time.Time, n int) {
	t.Helper()
	exec(t, admin, `
		insert into authz.tokens (jti, digest, client_id, resource, scope, jkt, issued_at, expires_at, client_generation, resource_generation)
		select overlay(authz.uuidv7_floor(at)::text placing substr(gen_random_uuid()::text, 20) from 20)::uuid,
		  sha256(('token ' || i)::bytea), c.id, r.uri, 'read', 'key', at, at + interval '10 minutes', c.generation, r.generation
		from generate_series(1, $2::int) i, lateral (select $1::timestamptz + i % 3600 * interval '1 second' as at) a,
		  authz.clients c, authz.resources r
		where c.id = 'shop'`, hour, n)
	exec(t, admin, `
		insert into authz.spent_proofs (digest, iat)
		select sha256(('proof ' || i)::bytea), $1::timestamptz + i % 3600 * interval '1 second' from generate_series(1, $2::int) i`, hour, n)
}

// goodCall is one that is admitted, with a fresh proof.
func goodCall(t testing.TB, s *postgres.Store, token authz.Token) authz.Call {
	t.Helper()
	table, err := s.GatewayTable(t.Context())
	must(t, err)
	call := authz.Call{
		Revision: table.Revision, Resource: token.Resource,
		Token: token.Digest, Scopes: []string{"read"}, JKT: token.JKT,
		Proof: &authz.Spending{Digest: randomDigest(), IssuedAt: token.IssuedAt.Truncate(time.Second), Window: 90 * time.Second},
	}
	for _, r := range table.Resources {
		if r.URI == token.Resource {
			call.Generation = r.Generation
		}
	}
	return call
}

// goodCallAt is goodCall with a proof of another moment.
func goodCallAt(t testing.TB, s *postgres.Store, token authz.Token, iat time.Time) authz.Call {
	t.Helper()
	call := goodCall(t, s, token)
	call.Proof.IssuedAt = iat
	return call
}
