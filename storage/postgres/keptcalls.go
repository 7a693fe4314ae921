package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cargokey/authz/authz"
)

// admitKeptSQL spends the proofs of calls that may pass by what is kept of their tokens,
// where that holds, and tells of which it does. It does not look for the same proof with
// another iat, in another partition: no call comes here that this could be of.
const admitKeptSQL = `
with held as materialized (
  select c.n, c.proof, c.iat
  from unnest($1::bytea[], $2::timestamptz[], $3::bigint[], $4::smallint[], $5::bigint[]) with ordinality as c (proof, iat, revision, slot, own, n)
  where c.revision = (select r.revision from authz.token_revisions r where r.slot = -1)
    and c.own = (select r.revision from authz.token_revisions r where r.slot = c.slot)
), spent as (
  insert into authz.spent_proofs (digest, iat)
  select h.proof, h.iat from held h where h.proof is not null order by h.proof
  on conflict do nothing
  returning digest
)
select h.n, s.digest is not null from held h left join spent s on s.digest = h.proof`

// forCall is what is kept of a call's token, where by that the call may pass, or where it
// comes without a proof and nothing is spent. All others have their token read.
func (k *keptTokens) forCall(call authz.Call, now time.Time) *keptToken {
	t := k.of(call.Token, now)
	if t == nil || t.all != call.Revision || t.token.Resource != call.Resource || t.generation != call.Generation {
		return nil
	}
	p := call.Proof
	switch {
	case p == nil:
		return t
	case crossesPartitions(p.IssuedAt.Add(-p.Window), p.IssuedAt.Add(p.Window)),
		t.token.JKT == "", t.token.JKT != call.JKT,
		t.clientNonce && !call.NonceFresh,
		!hasScopes(t.token.Scope, call.Scopes):
		return nil
	}
	return t
}

// hasScopes tells whether a token's scope has all that are needed.
func hasScopes(scope string, needed []string) bool {
	for _, s := range needed {
		if !hasScope(scope, s) {
			return false
		}
	}
	return true
}

func hasScope(scope, needed string) bool {
	for s := range strings.FieldsSeq(scope) {
		if s == needed {
			return true
		}
	}
	return false
}

// admitKept answers calls by what is kept of their tokens, where that holds, and tells
// for which it does not: nothing was spent for these.
func (s *Store) admitKept(ctx context.Context, calls []admitting) (verdicts []authz.Verdict, changed []int, err error) {
	conn, era, err := s.acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, admitKeptSQL, admitKeptArgs(calls, era)...)
	if err != nil {
		return nil, nil, err
	}
	verdicts, held := make([]authz.Verdict, len(calls)), make([]bool, len(calls))
	var n int
	var spent bool
	_, err = pgx.ForEachRow(rows, []any{&n, &spent}, func() error {
		if n < 1 || n > len(calls) {
			return fmt.Errorf("a verdict for call %d of %d", n, len(calls))
		}
		c := &calls[n-1]
		token := c.kept.token
		verdicts[n-1], held[n-1] = authz.Verdict{
			Revision: c.kept.all, Token: &token, ClientNonce: c.kept.clientNonce,
			Certified: token.X5T == "" || token.X5T == c.X5T, Spent: spent,
		}, true
		return nil
	})
	s.room.note(err, slices.ContainsFunc(verdicts, spends), calls[0].now)
	if err != nil {
		return nil, nil, err
	}
	for i := range held {
		if !held[i] {
			changed = append(changed, i)
		}
	}
	return verdicts, changed, nil
}

func admitKeptArgs(calls []admitting, era int) []any {
	n := len(calls)
	proofs, iats, slots := make([][]byte, n), make([]time.Time, n), make([]int16, n)
	all, own := make([]*int64, n), make([]*int64, n)
	for i := range calls {
		c := &calls[i]
		if p := c.Proof; p != nil {
			proofs[i], iats[i] = p.Digest[:], p.IssuedAt
		}
		slots[i] = slotOf(c.Token)
		if c.kept.era == era { // else nothing is equal to it
			all[i], own[i] = &c.kept.all, &c.kept.own
		}
	}
	return []any{
		pgtype.FlatArray[[]byte](proofs), pgtype.FlatArray[time.Time](iats), pgtype.FlatArray[*int64](all),
		pgtype.FlatArray[int16](slots), pgtype.FlatArray[*int64](own),
	}
}
