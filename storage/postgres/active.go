package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cargokey/authz/authz"
)

// One statement answers one caller for many tokens, each of which it looks up by its
// digest alone. A token of a client or a resource that was registered anew under an
// old name carries another generation.
//
// What is known of a token's client, resource and keys comes by sub-selects, which are
// by one index each: as joins, and for one token alone, they took twice as long. The
// offset keeps them apart from the partitions: each would have them for itself.
var activeTokensSQL = `
select exists (select from authz.clients c where c.id = $1 and` + callerSQL("$2") + `), ` + readTokenColumns + `
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

// sameCaller tells whether two share a statement.
func sameCaller(a, b lookup) bool {
	return a.gateway.ClientID == b.gateway.ClientID && a.gateway.Revision == b.gateway.Revision
}

func (s *Store) activeTokens(ctx context.Context, lookups []lookup) ([]found, error) {
	rows, err := s.pool.Query(ctx, activeTokensSQL, activeTokensArgs(lookups)...)
	if err != nil {
		return nil, err
	}
	var current bool
	tokens := make(map[authz.Digest]*authz.Token, len(lookups))
	n := 0
	for rows.Next() {
		if n++; rows.RawValues()[1] == nil { // none is active
			err = rows.Scan(append([]any{&current}, make([]any, len(rows.RawValues())-1)...)...)
			break
		}
		var t *authz.Token
		if t, err = scanTokenBetween(rows, []any{&current}, nil); err != nil {
			break
		}
		tokens[t.Digest] = t
	}
	rows.Close()
	switch {
	case err != nil:
		return nil, err
	case rows.Err() != nil:
		return nil, rows.Err()
	case n == 0:
		return nil, errors.New("the database says nothing of the caller")
	}
	all := make([]found, len(lookups))
	for i, l := range lookups {
		if !current {
			all[i].err = authz.ErrClientChanged
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

// activeTokensArgs are the parameters for lookups of one caller.
func activeTokensArgs(lookups []lookup) []any {
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
	by := &lookups[0].gateway
	return []any{by.ClientID, by.Revision, pgtype.FlatArray[[]byte](digests), from, to, earliest}
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
