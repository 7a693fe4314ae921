package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// clockDisagreement is how far apart the clocks of two instances may be for one
// to find, and to revoke, the other's tokens.
const clockDisagreement = 10 * time.Minute

// liveRange is the range of names of the tokens that may not have expired at
// now: what lets a look-up by digest touch one or two partitions.
//
// A look-up asks for a name in the range or equal to its first, which is in it.
// That leaves out the same partitions, and no plain scan of the index on names
// answers it: a plan by the range reads all tokens of an hour.
func liveRange(now time.Time) (from, to [16]byte) {
	return authz.JTIFloor(now.Add(-authz.MaxTokenTTL - clockDisagreement)), authz.JTIFloor(now.Add(clockDisagreement))
}

const tokenColumns = `jti, digest, client_id, resource, scope, jkt, issued_at, expires_at, kid, credential, x5t`

// Whatever was signed by, or is bound to, a key that was revoked is worth
// nothing: a look into two tables that are nearly empty.
const keysInForceSQL = `
  not exists (select from authz.revoked_dpop_keys k where k.jkt = t.jkt)
  and not exists (select from authz.signing_keys s where s.kid = t.kid and s.revoked_at is not null)`

const readTokenColumns = `t.jti, t.digest, t.client_id, t.resource, t.scope, t.jkt, t.issued_at, t.expires_at, t.revoked_at, t.kid, t.credential, t.x5t`

// revocableRange is wider than liveRange by what two clocks may disagree: a
// token that another instance still finds active must not be answered for as
// one that is unknown.
func revocableRange(now time.Time) (from, to [16]byte) {
	return authz.JTIFloor(now.Add(-authz.MaxTokenTTL - 2*clockDisagreement)), authz.JTIFloor(now.Add(2 * clockDisagreement))
}

// Both parts find the token by its digest: a join of the two would let a plan
// read all tokens of the range. There is no row where the caller is not what it was
// when it authenticated, and one of nulls where there is no such token.
var revokeTokenSQL = `
with caller as materialized (
  select c.id from authz.clients c where c.id = $5 and` + callerSQL("$13") + `
), t as (
  select ` + readTokenColumns + `
  from authz.tokens t
  where t.digest = $1 and (t.jti between $2 and $3 or t.jti = $2) and t.expires_at > $12
), revoked as (
  update authz.tokens set revoked_at = $4
  where digest = $1 and (jti between $2 and $3 or jti = $2) and expires_at > $12 and revoked_at is null
    and ($5 = '' or client_id = (select id from caller))
  returning jti, client_id, resource, jkt
), event as (
  insert into authz.audit_events (` + eventColumns + `)
  select $6, $4, $7, $8, r.client_id, r.resource, r.jti, r.jkt, $9, $10, $11 from revoked r
)
select ` + readTokenColumns + `, exists (select from revoked)
from (select where $5 = '' or exists (select from caller)) one left join t on true`

// RevokeToken is authz.Store's.
func (s *Store) RevokeToken(ctx context.Context, digest authz.Digest, owner authz.Caller, event authz.AuditEvent) (*authz.Token, error) {
	rows, err := s.pool.Query(ctx, revokeTokenSQL, revokeTokenArgs(digest, owner, event)...)
	if err != nil {
		return nil, fmt.Errorf("revoking a token: %w", err)
	}
	t, revoked, err := tokenForCaller(rows)
	if err != nil {
		return nil, err
	}
	if owner.ClientID != "" && t.ClientID != owner.ClientID {
		return nil, authz.ErrNotOwner
	}
	if t.RevokedAt.IsZero() {
		t.RevokedAt = event.At
	}
	if !revoked { // it was before, and so nothing was written, nor waited for
		return t, s.awaitStandby(ctx)
	}
	return t, nil
}

func revokeTokenArgs(digest authz.Digest, owner authz.Caller, event authz.AuditEvent) []any {
	from, to := revocableRange(event.At)
	return []any{digest[:], from, to, event.At, owner.ClientID,
		[16]byte(event.ID), string(event.Kind), event.Actor, orNull(event.RequestID), orNull(event.RemoteAddr), detailValue(event), event.At.Add(-clockDisagreement),
		owner.Revision}
}

const digestOfSQL = `select digest from authz.tokens where jti = $1`

// RevokeTokenByJTI is authz.Store's. A token's digest never changes, so that
// the two steps are as good as one.
func (s *Store) RevokeTokenByJTI(ctx context.Context, jti authz.JTI, event authz.AuditEvent) (*authz.Token, error) {
	var stored []byte
	err := s.pool.QueryRow(ctx, digestOfSQL, [16]byte(jti)).Scan(&stored)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, authz.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	return s.RevokeToken(ctx, authz.Digest(stored), authz.Caller{}, event)
}

const tokensSQL = `
select ` + readTokenColumns + `, c.id is null or r.uri is null or not (` + keysInForceSQL + `)
from authz.tokens t
left join authz.clients c on c.id = t.client_id and c.disabled_at is null and c.generation = t.client_generation
left join authz.resources r on r.uri = t.resource and r.generation = t.resource_generation
where t.client_id = $1 and t.jti between $2 and $3 and t.expires_at > $4
order by t.jti desc
limit $5`

// Tokens is authz.Store's.
func (s *Store) Tokens(ctx context.Context, clientID string, now time.Time, limit int) ([]*authz.Token, error) {
	from, to := liveRange(now)
	rows, err := s.pool.Query(ctx, tokensSQL, clientID, from, to, now, limit)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	tokens, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*authz.Token, error) {
		var ended bool
		t, err := scanToken(row, &ended)
		if err == nil {
			t.Ended = ended && t.RevokedAt.IsZero()
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	return tokens, nil
}

// tokenForCaller reads what revokeTokenSQL answers, and whether it revoked.
func tokenForCaller(rows pgx.Rows) (t *authz.Token, revoked bool, err error) {
	t, err = pgx.CollectOneRow(rows, func(row pgx.CollectableRow) (*authz.Token, error) {
		if row.RawValues()[0] == nil {
			return nil, authz.ErrNotFound
		}
		return scanToken(row, &revoked)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, false, authz.ErrClientChanged
	case errors.Is(err, authz.ErrNotFound):
		return nil, false, err
	case err != nil:
		return nil, false, fmt.Errorf("reading a token: %w", err)
	}
	return t, revoked, nil
}

// scanToken reads readTokenColumns, and what a statement has after them.
func scanToken(row pgx.CollectableRow, after ...any) (*authz.Token, error) {
	return scanTokenBetween(row, nil, after)
}

// scanTokenBetween reads readTokenColumns, and what a statement has before and after
// them.
func scanTokenBetween(row interface{ Scan(...any) error }, before, after []any) (*authz.Token, error) {
	var (
		t         authz.Token
		jti       [16]byte
		digest    []byte
		revokedAt *time.Time

		jkt, kid, credential, x5t *string
	)
	columns := append(slices.Clip(before), &jti, &digest, &t.ClientID, &t.Resource, &t.Scope, &jkt, &t.IssuedAt, &t.ExpiresAt, &revokedAt,
		&kid, &credential, &x5t)
	if err := row.Scan(append(columns, after...)...); err != nil {
		return nil, err
	}
	t.JTI, t.Digest = jti, authz.Digest(digest)
	t.JKT, t.KID, t.Credential, t.X5T = orEmpty(jkt), orEmpty(kid), orEmpty(credential), orEmpty(x5t)
	if revokedAt != nil {
		t.RevokedAt = *revokedAt
	}
	return &t, nil
}
