package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// One statement tells all of many calls and spends their proofs, so that nothing
// can change between the two. Of two equal proofs the second one waits at the
// unique index of the partition until the first one's transaction has ended; the
// look before the insert finds the same name with another iat, which may lie in
// another partition. Two statements spend in the same order, so that neither
// waits for the other. Without a proof nothing is spent: a certificate can be
// shown any number of times, and it is only told whether it is the token's.
//
// Each look-up is lateral and limited: as a join it could be answered by reading
// all that there is.
var admitCallsSQL = `
with call as (
  select * from unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::text[], $7::text[],
    $8::boolean[], $9::bytea[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::boolean[], $18::boolean[], $19::text[])
  with ordinality as c (token, resource, generation, revision, now, jkt, scopes, nonce, proof, iat, since, until, look, any_revision, x5t, n)
), known as materialized (
  select c.n, c.token, c.proof, c.iat, c.since, c.until, c.look, v.revision, t.*,
    c.proof is not null and t.jkt = c.jkt and (v.revision = c.revision or c.any_revision) and (c.nonce or not t.require_nonce)
      and string_to_array(t.scope, ' ') @> string_to_array(c.scopes, E'\n') as admitted,
    t.x5t is null or t.x5t = c.x5t as certified
  from call c
  cross join (select revision from authz.gateway_revision where only_row) v
  left join lateral (
    select t.jti, t.client_id, t.scope, t.jkt, t.x5t, t.issued_at, t.expires_at, cl.require_nonce
    from authz.tokens t
    join authz.clients cl on cl.id = t.client_id and cl.disabled_at is null and cl.generation = t.client_generation
    where t.digest = c.token and (t.jti between $14 and $15 or t.jti = $14) and t.expires_at > c.now and t.revoked_at is null
      and t.resource = c.resource and t.resource_generation = c.generation
      and` + keysInForceSQL + `
    limit 1) t on true
), spent as (
  insert into authz.spent_proofs (digest, iat)
  select k.proof, k.iat from known k
  left join lateral (
    select true as before from authz.spent_proofs s
    where k.look and s.digest = k.proof and s.iat between k.since and k.until and s.iat between $16 and $17
    limit 1) s on true
  where k.admitted and s.before is null
  order by k.proof
  on conflict do nothing
  returning digest
)
select k.revision, (select r.revision from authz.token_revisions r where r.slot = ` + slotSQL("k.token") + `), s.digest is not null, k.jti, k.client_id, k.scope, k.jkt, k.issued_at, k.expires_at, k.require_nonce,
  k.x5t, k.certified
from known k left join spent s on k.admitted and s.digest = k.proof
order by k.n`

// admitting is a Call with its moment.
type admitting struct {
	authz.Call
	now  time.Time
	kept *keptToken // nil: nothing by which the call is to be let through
}

// AdmitCall is authz.Store's. Calls that come at the same time go in one
// statement.
func (s *Store) AdmitCall(ctx context.Context, call authz.Call, now time.Time) (authz.Verdict, error) {
	v, err := s.calls.ask(ctx, admitting{call, now, s.keptCalls.forCall(call, now)})
	if err != nil {
		return authz.Verdict{}, fmt.Errorf("checking a call: %w", err)
	}
	if c := call.Proof; c != nil && s.fence.shuts(*c) {
		v.Spent = false
	}
	return v, nil
}

// proofOf names what two calls of one statement must not share.
func proofOf(c admitting) (name [32]byte, ok bool) {
	if c.Proof == nil {
		return [32]byte{}, false
	}
	return c.Proof.Digest, true
}

// alikeCalls tells whether two share a statement.
func alikeCalls(a, b admitting) bool { return (a.kept == nil) == (b.kept == nil) }

// admit answers calls that are alike.
func (s *Store) admit(ctx context.Context, calls []admitting) ([]authz.Verdict, error) {
	if calls[0].kept == nil {
		return s.admitCalls(ctx, calls)
	}
	verdicts, changed, err := s.admitKept(ctx, calls)
	if err != nil || len(changed) == 0 {
		return verdicts, err
	}
	left := make([]admitting, len(changed))
	for i, n := range changed {
		left[i] = calls[n]
	}
	again, err := s.admitCalls(ctx, left)
	if err != nil {
		return nil, err
	}
	for i, n := range changed {
		verdicts[n] = again[i]
	}
	return verdicts, nil
}

func (s *Store) admitCalls(ctx context.Context, calls []admitting) ([]authz.Verdict, error) {
	era, read := s.keptCalls.now(), time.Now()
	rows, err := s.pool.Query(ctx, admitCallsSQL, admitCallsArgs(calls)...)
	if err != nil {
		return nil, err
	}
	n := -1
	verdicts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (authz.Verdict, error) {
		n++
		v, own, err := scanVerdict(row, calls[n].Call)
		// By another revision, the resource may be another one.
		if err == nil && v.Token != nil && own != nil && v.Revision == calls[n].Revision {
			s.keptCalls.learn(&keptToken{token: *v.Token, clientNonce: v.ClientNonce, generation: calls[n].Generation,
				all: v.Revision, own: *own, era: era, read: read})
		}
		return v, err
	})
	s.room.note(err, slices.ContainsFunc(verdicts, spends), calls[0].now)
	if err == nil && len(verdicts) != len(calls) {
		err = fmt.Errorf("%d verdicts for %d calls", len(verdicts), len(calls))
	}
	return verdicts, err
}

func spends(v authz.Verdict) bool { return v.Spent }

func scanVerdict(row pgx.CollectableRow, call authz.Call) (v authz.Verdict, own *int64, err error) {
	var (
		jti                 *[16]byte
		client, scope       *string
		jkt, x5t            *string
		issuedAt, expiresAt *time.Time
		nonce, certified    *bool
	)
	if err := row.Scan(&v.Revision, &own, &v.Spent, &jti, &client, &scope, &jkt, &issuedAt, &expiresAt, &nonce, &x5t, &certified); err != nil {
		return authz.Verdict{}, nil, err
	}
	if jti != nil {
		v.ClientNonce, v.Certified = *nonce, *certified
		v.Token = &authz.Token{
			JTI: *jti, Digest: call.Token, ClientID: *client, Resource: call.Resource, Scope: *scope,
			JKT: orEmpty(jkt), X5T: orEmpty(x5t), IssuedAt: *issuedAt, ExpiresAt: *expiresAt,
		}
	}
	return v, own, nil
}

// admitCallsArgs has a column for each of what a call consists of. The ranges of
// all calls together come last: they only leave out partitions.
func admitCallsArgs(calls []admitting) []any {
	n := len(calls)
	var (
		tokens, proofs           = make([][]byte, n), make([][]byte, n)
		resources, jkts, scopes  = make([]string, n), make([]string, n), make([]string, n)
		x5ts                     = make([]string, n)
		generations, revisions   = make([]int64, n), make([]int64, n)
		nows, iats, since, until = make([]time.Time, n), make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
		nonces, looks, anyRev    = make([]bool, n), make([]bool, n), make([]bool, n)
		from, to                 = liveRange(calls[0].now)
		oldest, newest           = calls[0].now, calls[0].now // of the proofs that are looked for
	)
	for i, c := range calls {
		tokens[i], resources[i], generations[i], revisions[i], nows[i] = c.Token[:], c.Resource, c.Generation, c.Revision, c.now
		jkts[i], scopes[i], nonces[i] = c.JKT, joinScopes(c.Scopes), c.NonceFresh
		anyRev[i], x5ts[i] = c.AnyRevision, c.X5T
		if p := c.Proof; p != nil {
			proofs[i], iats[i], since[i], until[i] = p.Digest[:], p.IssuedAt, p.IssuedAt.Add(-p.Window), p.IssuedAt.Add(p.Window)
			looks[i] = crossesPartitions(since[i], until[i])
		}
		if looks[i] && since[i].Before(oldest) {
			oldest = since[i]
		}
		if looks[i] && until[i].After(newest) {
			newest = until[i]
		}
		from, to = widen(from, to, c.now)
	}
	return []any{tokens, resources, generations, revisions, nows, jkts, scopes, nonces, proofs, iats, since, until, looks, from, to, oldest, newest, anyRev, x5ts}
}

// joinScopes makes one text of scopes, which lines take apart again. There is no
// empty scope, nor one with a line break: nobody has what stands for them.
func joinScopes(scopes []string) string {
	const nobodys = " "
	joined := make([]string, len(scopes))
	for i, scope := range scopes {
		if joined[i] = scope; scope == "" || strings.Contains(scope, "\n") {
			joined[i] = nobodys
		}
	}
	return strings.Join(joined, "\n")
}
