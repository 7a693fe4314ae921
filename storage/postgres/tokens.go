package postgres

import (
	"context"
	"errors"
	"fmt"
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

// The client is looked at in the statement that records its token, so that none is
// recorded for one that is not what it was when it authenticated. A token that is
// recorded while its client is being disabled carries the generation of before.
// The resource is there as long as a client that it is granted to is.
//
// A token for a DPoP key or by a signing key that is being revoked meanwhile is
// inactive wherever it is looked for: here this only saves handing it out.
//
// admitted is null where the key may be the first of its client, as far as the
// statement's own moment can tell.
var tokenClientSQL = `
  select c.generation as client_generation, r.generation as resource_generation,
    not exists (select from authz.signing_keys s where s.kid = $9 and s.revoked_at is not null) as signed,
    case
      when $6::text is null then c.dpop_keys = 'any'
      when exists (select from authz.revoked_dpop_keys k where k.jkt = $6) then false
      when c.dpop_keys = 'any' then true
      when exists (select from authz.client_dpop_keys k
        where k.client_id = c.id and k.jkt = $6 and not k.ended and (k.expires_at is null or k.expires_at > $7)) then true
      when c.dpop_keys = 'first-use' and not exists (select from authz.client_dpop_keys k where k.client_id = c.id) then null
      else false
    end as admitted
  from authz.clients c join authz.resources r on r.uri = $4
  where c.id = $3 and` + stillProvenSQL("$10", "$23", "$24")

var (
	recordTokenSQL            = recordSQL(nothing)
	recordTokenOnceSQL        = recordSQL(one)
	recordTokenOfAssertionSQL = recordSQL(both)
)

// Of what a token is recorded for, what is spent with it. The look before each
// insert finds the same name with another time, which may lie in another
// partition. Of two equal ones the second waits at the unique index of the
// partition until the first one's transaction has ended.
const (
	nothing = `select from client where signed and admitted`
	one     = `
  insert into authz.spent_proofs (digest, iat)
  select $25, $26 from client
  where signed and admitted is not false
    and not exists (select from authz.spent_proofs where digest = $25 and iat between $27 and $28)
  on conflict do nothing
  returning iat`
	// Where one of the two was spent meanwhile, the statement fails and spends
	// neither.
	both = `
  insert into authz.spent_proofs (digest, iat)
  select s.digest, s.iat from client, (values ($25::bytea, $26::timestamptz), ($30::bytea, $31::timestamptz)) as s (digest, iat)
  where signed and admitted is not false
    and not exists (select from authz.spent_proofs where digest = $25 and iat between $27 and $28)
    and not exists (select from authz.spent_proofs where digest = $30 and iat between $32 and $33)
  returning iat`
)

// recordSQL spends and records in one statement.
//
// A key is enrolled by first use only after its proof is spent, so that none is
// by a proof that was accepted before. Which key was first is decided by a
// function, which sees what others have done since this statement began.
func recordSQL(spent string) string {
	enrolled, enrolment, asserted := `select false as now where false`, ``, `false`
	if spent != nothing {
		enrolled = `select authz.enrol_first_dpop_key($3, $6, $7) as now from client where client.admitted is null and exists (select from spent)`
		enrolment = `, enrolment as (
  insert into authz.audit_events (` + eventColumns + `)
  select $29, $13, '` + string(authz.AuditDPoPKeyEnrolled) + `', $15, $16, null, null, $19, $20, $21, '{"by": "first-use"}' from token, enrolled
  where enrolled.now
)`
	}
	if spent == both {
		asserted = `exists (select from authz.spent_proofs where digest = $30 and iat between $32 and $33)`
	}
	return `
with client as materialized (` + tokenClientSQL + `
), spent as (` + spent + `
), enrolled as materialized (` + enrolled + `
), token as (
  insert into authz.tokens (` + tokenColumns + `, client_generation, resource_generation)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, client_generation, resource_generation from client
  where exists (select from spent) and coalesce(admitted, (select true from enrolled))
  returning jti
), event as (
  insert into authz.audit_events (` + eventColumns + `)
  select $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22 from token
)` + enrolment + `
select exists (select from client), exists (select from client where signed),
  exists (select from client where admitted is not false),
  ` + asserted + `,
  exists (select from token)`
}

// RecordToken is authz.Store's.
func (s *Store) RecordToken(ctx context.Context, issue authz.Issue) error {
	err := s.recordToken(ctx, issue)
	if issue.Proof != nil && issue.Assertion != nil && isUniqueViolation(err) {
		// Somebody has spent one of the two just now. By now it is plain which.
		err = s.recordToken(ctx, issue)
	}
	return err
}

func (s *Store) recordToken(ctx context.Context, issue authz.Issue) error {
	sql, spent := recordTokenOnceSQL, authz.ErrProofSpent
	switch {
	case issue.Proof != nil && issue.Assertion != nil:
		sql = recordTokenOfAssertionSQL
	case issue.Assertion != nil:
		spent = authz.ErrAssertionSpent
	case issue.Proof == nil:
		sql = recordTokenSQL
	}
	var client, signed, admitted, asserted, recorded bool
	err := s.pool.QueryRow(ctx, sql, recordArgs(issue)...).Scan(&client, &signed, &admitted, &asserted, &recorded)
	s.room.note(err, recorded, issue.Token.IssuedAt)
	if violates(err, "client_dpop_keys_first_use") { // another key was the first
		return authz.ErrKeyNotAdmitted
	}
	if err != nil {
		return fmt.Errorf("recording a token: %w", err)
	}
	switch {
	case recorded:
		return nil
	case !client:
		return authz.ErrClientGone
	case !admitted:
		return authz.ErrKeyNotAdmitted
	case !signed:
		return authz.ErrSigningKeyRevoked
	case asserted:
		return authz.ErrAssertionSpent
	default:
		return spent
	}
}

// recordArgs are the parameters of recordSQL: first the token, the event and whose
// they are, then what is spent.
func recordArgs(issue authz.Issue) []any {
	t := issue.Token
	args := append([]any{
		[16]byte(t.JTI), t.Digest[:], t.ClientID, t.Resource, t.Scope, orNull(t.JKT), t.IssuedAt, t.ExpiresAt,
		orNull(t.KID), orNull(t.Credential), orNull(t.X5T),
	}, eventValues(issue.Event)...)
	args = append(args, issue.Generation, issue.AuthRevision)
	first, second := issue.Proof, issue.Assertion
	if first == nil {
		first, second = second, nil
	}
	if first == nil {
		return args
	}
	args = append(args, spendArgs(*first)...)
	args = append(args, [16]byte(authz.NewJTI(t.IssuedAt))) // of the event of an enrolment
	if second != nil {
		args = append(args, spendArgs(*second)...)
	}
	return args
}

// Whatever was signed by, or is bound to, a key that was revoked is worth
// nothing: a look into two tables that are nearly empty.
const keysInForceSQL = `
  not exists (select from authz.revoked_dpop_keys k where k.jkt = t.jkt)
  and not exists (select from authz.signing_keys s where s.kid = t.kid and s.revoked_at is not null)`

// A token of a client or a resource that was registered anew under an old name
// carries another generation. There is no row where the gateway is not what it was
// when it authenticated, and one of nulls where the token is not active.
var activeTokenSQL = `
select ` + readTokenColumns + `
from authz.clients c
left join lateral (
  select ` + readTokenColumns + `
  from authz.tokens t
  join authz.clients o on o.id = t.client_id and o.disabled_at is null and o.generation = t.client_generation
  join authz.gateway_resources g on g.client_id = $5 and g.resource = t.resource
  join authz.resources r on r.uri = t.resource and r.generation = t.resource_generation
  where t.digest = $1 and (t.jti between $2 and $3 or t.jti = $2) and t.expires_at > $4 and t.revoked_at is null
    and` + keysInForceSQL + `) t on true
where c.id = $5 and` + callerSQL("$6", "$7", "$8") + ` and` + onPrimarySQL

const readTokenColumns = `t.jti, t.digest, t.client_id, t.resource, t.scope, t.jkt, t.issued_at, t.expires_at, t.revoked_at, t.kid, t.credential, t.x5t`

// ActiveToken is authz.Store's.
func (s *Store) ActiveToken(ctx context.Context, digest authz.Digest, gateway authz.Caller, now time.Time) (*authz.Token, error) {
	rows, err := s.pool.Query(ctx, activeTokenSQL, activeTokenArgs(digest, gateway, now)...)
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	return tokenForCaller(rows)
}

func activeTokenArgs(digest authz.Digest, gateway authz.Caller, now time.Time) []any {
	from, to := liveRange(now)
	return []any{digest[:], from, to, now, gateway.ClientID, orNull(gateway.Credential), gateway.Generation, gateway.AuthRevision}
}

// revocableRange is wider than liveRange by what two clocks may disagree: a
// token that another instance still finds active must not be answered for as
// one that is unknown.
func revocableRange(now time.Time) (from, to [16]byte) {
	return authz.JTIFloor(now.Add(-authz.MaxTokenTTL - 2*clockDisagreement)), authz.JTIFloor(now.Add(2 * clockDisagreement))
}

// Both parts find the token by its digest: a join of the two would let a plan
// read all tokens of the range. The rows are as those of activeTokenSQL.
var revokeTokenSQL = `
with caller as materialized (
  select c.id from authz.clients c where c.id = $5 and` + callerSQL("$13", "$14", "$15") + `
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
select ` + readTokenColumns + `
from (select where $5 = '' or exists (select from caller)) one left join t on true`

// RevokeToken is authz.Store's.
func (s *Store) RevokeToken(ctx context.Context, digest authz.Digest, owner authz.Caller, event authz.AuditEvent) (*authz.Token, error) {
	rows, err := s.pool.Query(ctx, revokeTokenSQL, revokeTokenArgs(digest, owner, event)...)
	if err != nil {
		return nil, fmt.Errorf("revoking a token: %w", err)
	}
	t, err := tokenForCaller(rows)
	if err != nil {
		return nil, err
	}
	if owner.ClientID != "" && t.ClientID != owner.ClientID {
		return nil, authz.ErrNotOwner
	}
	if t.RevokedAt.IsZero() {
		t.RevokedAt = event.At
	}
	return t, nil
}

func revokeTokenArgs(digest authz.Digest, owner authz.Caller, event authz.AuditEvent) []any {
	from, to := revocableRange(event.At)
	var detail any
	if event.Detail != nil {
		detail = event.Detail
	}
	return []any{digest[:], from, to, event.At, owner.ClientID,
		[16]byte(event.ID), string(event.Kind), event.Actor, orNull(event.RequestID), orNull(event.RemoteAddr), detail, event.At.Add(-clockDisagreement),
		orNull(owner.Credential), owner.Generation, owner.AuthRevision}
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

// tokenForCaller reads what activeTokenSQL and revokeTokenSQL answer.
func tokenForCaller(rows pgx.Rows) (*authz.Token, error) {
	t, err := pgx.CollectOneRow(rows, func(row pgx.CollectableRow) (*authz.Token, error) {
		if row.RawValues()[0] == nil {
			return nil, authz.ErrNotFound
		}
		return scanToken(row)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, authz.ErrClientGone
	case errors.Is(err, authz.ErrNotFound):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	return t, nil
}

// scanToken reads readTokenColumns, and what a statement has after them.
func scanToken(row pgx.CollectableRow, more ...any) (*authz.Token, error) {
	var (
		t         authz.Token
		jti       [16]byte
		digest    []byte
		revokedAt *time.Time

		jkt, kid, credential, x5t *string
	)
	columns := []any{&jti, &digest, &t.ClientID, &t.Resource, &t.Scope, &jkt, &t.IssuedAt, &t.ExpiresAt, &revokedAt, &kid, &credential, &x5t}
	if err := row.Scan(append(columns, more...)...); err != nil {
		return nil, err
	}
	t.JTI, t.Digest = jti, authz.Digest(digest)
	t.JKT, t.KID, t.Credential, t.X5T = orEmpty(jkt), orEmpty(kid), orEmpty(credential), orEmpty(x5t)
	if revokedAt != nil {
		t.RevokedAt = *revokedAt
	}
	return &t, nil
}
