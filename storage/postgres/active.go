package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// One statement answers for many tokens, and for who asks: it looks what those are
// once, and each token up by its digest alone. A token of a client or a resource that
// was registered anew under an old name carries another generation.
//
// What is known of a token's client, resource and keys comes by sub-selects, which are
// by one index each: as joins, and for one token alone, they took twice as long. The
// offset keeps them apart from the partitions: each would have them for itself.
var activeTokensSQL = `
select
  (select array_agg(exists (select from authz.clients c where c.id = a.id and` + callerSQL("a.revision") + `) order by a.n)
   from unnest($1::text[], $2::bigint[]) with ordinality a (id, revision, n)),
  ` + readTokenColumns + `
from (select) one
left join lateral (
  select t.*,
    coalesce((select o.generation = t.client_generation from authz.clients o where o.id = t.client_id and o.disabled_at is null), false)
    and coalesce((select r.generation = t.resource_generation from authz.resources r where r.uri = t.resource), false)
    and` + keysInForceSQL + ` as active
  from (
    select * from authz.tokens t
    where t.digest = any($3) and (t.jti between $4 and $5 or t.jti = $4) and t.expires_at > $6 and t.revoked_at is null
    offset 0) t) t on t.active
where` + onPrimarySQL

// lookup is what ActiveToken is asked.
type lookup struct {
	digest  authz.Digest
	gateway authz.Caller
	now     time.Time
}

// found is its answer: a token, or why there is none.
type found struct {
	token *authz.Token
	err   error
}

// ActiveToken is authz.Store's. Look-ups that come at the same time go in one
// statement.
func (s *Store) ActiveToken(ctx context.Context, digest authz.Digest, gateway authz.Caller, now time.Time) (*authz.Token, error) {
	answer, err := s.lookups.ask(ctx, lookup{digest, gateway, now})
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	return answer.token, answer.err
}

// nothingApart is for questions of which any number may share a statement.
func nothingApart(lookup) (name [32]byte, ok bool) { return [32]byte{}, false }

func (s *Store) activeTokens(ctx context.Context, lookups []lookup) ([]found, error) {
	callers := callersOf(lookups)
	rows, err := s.pool.Query(ctx, activeTokensSQL, activeTokensArgs(callers, lookups)...)
	if err != nil {
		return nil, err
	}
	var current []bool
	tokens := make(map[authz.Digest]*authz.Token, len(lookups))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		if row.RawValues()[1] == nil { // none is active
			return struct{}{}, row.Scan(append([]any{&current}, make([]any, len(row.RawValues())-1)...)...)
		}
		t, err := scanTokenBetween(row, []any{&current}, nil)
		if err == nil {
			tokens[t.Digest] = t
		}
		return struct{}{}, err
	})
	if err == nil && len(current) != len(callers) {
		err = fmt.Errorf("%d verdicts for %d callers", len(current), len(callers))
	}
	if err != nil {
		return nil, err
	}
	all := make([]found, len(lookups))
	for i, l := range lookups {
		if !current[slices.Index(callers, callerOf(l))] {
			all[i].err = authz.ErrClientGone
			continue
		}
		all[i] = l.answer(tokens[l.digest])
	}
	return all, nil
}

// answer is of a token that was found active at the earliest moment of its group. Two
// who ask for the same one get a copy each.
func (l lookup) answer(t *authz.Token) found {
	if t == nil || !t.ExpiresAt.After(l.now) || !slices.Contains(l.gateway.Fronts, t.Resource) {
		return found{err: authz.ErrNotFound}
	}
	token := *t
	return found{token: &token}
}

// caller is what a statement needs to know of one.
type caller struct {
	id       string
	revision int64
}

func callerOf(l lookup) caller { return caller{l.gateway.ClientID, l.gateway.Revision} }

// callersOf are those who ask, which are few.
func callersOf(lookups []lookup) []caller {
	var all []caller
	for _, l := range lookups {
		if c := callerOf(l); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

func activeTokensArgs(callers []caller, lookups []lookup) []any {
	ids, revisions := make([]string, len(callers)), make([]int64, len(callers))
	for i, c := range callers {
		ids[i], revisions[i] = c.id, c.revision
	}
	digests := make([][]byte, len(lookups))
	earliest := lookups[0].now
	from, to := liveRange(earliest)
	for i := range lookups {
		l := &lookups[i]
		digests[i] = l.digest[:]
		from, to = widen(from, to, l.now)
		if l.now.Before(earliest) {
			earliest = l.now
		}
	}
	return []any{ids, revisions, digests, from, to, earliest}
}

// widen makes a liveRange that of another moment too.
func widen(from, to [16]byte, now time.Time) (earlier, later [16]byte) {
	first, last := liveRange(now)
	if bytes.Compare(first[:], from[:]) < 0 {
		from = first
	}
	if bytes.Compare(last[:], to[:]) > 0 {
		to = last
	}
	return from, to
}
