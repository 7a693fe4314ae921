package postgres

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// One statement answers for many tokens. A token of a client or a resource that was
// registered anew under an old name carries another generation. What a gateway may
// not introspect is as if it were not there; false comes first where the gateway is
// not what it was when it authenticated.
//
// Each look-up is lateral and limited: see admitCallsSQL.
var activeTokensSQL = `
select c.id is not null, ` + readTokenColumns + `
from unnest($1::bytea[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
  with ordinality as a (digest, now, caller, credential, generation, auth_revision, revision, n)
left join lateral (
  select c.id from authz.clients c
  where c.id = a.caller and` + callerSQL("nullif(a.credential, '')", "a.generation", "a.auth_revision", "a.revision") + `
  limit 1) c on true
left join lateral (
  select ` + readTokenColumns + `
  from authz.tokens t
  join authz.clients o on o.id = t.client_id and o.disabled_at is null and o.generation = t.client_generation
  join authz.gateway_resources g on g.client_id = c.id and g.resource = t.resource
  join authz.resources r on r.uri = t.resource and r.generation = t.resource_generation
  where t.digest = a.digest and (t.jti between $8 and $9 or t.jti = $8) and t.expires_at > a.now and t.revoked_at is null
    and` + keysInForceSQL + `
  limit 1) t on true
order by a.n`

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
	rows, err := s.pool.Query(ctx, activeTokensSQL, activeTokensArgs(lookups)...)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanFound)
	if err == nil && len(all) != len(lookups) {
		err = fmt.Errorf("%d answers for %d look-ups", len(all), len(lookups))
	}
	return all, err
}

func activeTokensArgs(lookups []lookup) []any {
	n := len(lookups)
	var (
		digests                               = make([][]byte, n)
		nows                                  = make([]time.Time, n)
		callers, credentials                  = make([]string, n), make([]string, n)
		generations, authRevisions, revisions = make([]int64, n), make([]int64, n), make([]int64, n)
		from, to                              = liveRange(lookups[0].now)
	)
	for i := range lookups {
		l := &lookups[i]
		digests[i], nows[i], callers[i], credentials[i] = l.digest[:], l.now, l.gateway.ClientID, l.gateway.Credential
		generations[i], authRevisions[i], revisions[i] = l.gateway.Generation, l.gateway.AuthRevision, l.gateway.Revision
		from, to = widen(from, to, l.now)
	}
	return []any{digests, nows, callers, credentials, generations, authRevisions, revisions, from, to}
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

func scanFound(row pgx.CollectableRow) (found, error) {
	var caller bool
	if raw := row.RawValues(); raw[1] == nil {
		if err := row.Scan(append([]any{&caller}, make([]any, len(raw)-1)...)...); err != nil {
			return found{}, err
		}
		if !caller {
			return found{err: authz.ErrClientGone}, nil
		}
		return found{err: authz.ErrNotFound}, nil
	}
	t, err := scanTokenBetween(row, []any{&caller}, nil)
	if err == nil && !caller {
		return found{err: authz.ErrClientGone}, nil
	}
	return found{token: t}, err
}
