package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// One statement spends the proofs of many tokens and records those whose proof it
// has spent: with their events, and by one commit. Each look-up is lateral and
// limited, and two statements spend in the same order: see admitCallsSQL. A look for
// the proof in other partitions is made only where it may be in one.
//
// A key that may be the first of its client is left to a statement of its own.
var recordTokensSQL = `
with ask as (
  select a.n, a.jti, a.digest, a.client_id, a.resource, a.scope, nullif(a.jkt, '') as jkt, a.issued_at, a.expires_at,
    nullif(a.kid, '') as kid, nullif(a.credential, '') as credential, nullif(a.x5t, '') as x5t,
    a.event_id, a.event_at, a.kind, a.actor, nullif(a.event_client, '') as event_client, nullif(a.event_resource, '') as event_resource,
    a.event_jti, nullif(a.event_jkt, '') as event_jkt, nullif(a.request_id, '') as request_id, nullif(a.remote_addr, '') as remote_addr,
    nullif(a.detail, '')::jsonb as detail,
    a.revision, a.resource_revision, a.proof, a.iat, a.since, a.until, a.look
  from unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[],
    $9::text[], $10::text[], $11::text[], $12::uuid[], $13::timestamptz[], $14::text[], $15::text[], $16::text[], $17::text[],
    $18::uuid[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bigint[], $24::bigint[],
    $25::bytea[], $26::timestamptz[], $27::timestamptz[], $28::timestamptz[], $29::boolean[])
  with ordinality as a (jti, digest, client_id, resource, scope, jkt, issued_at, expires_at, kid, credential, x5t,
    event_id, event_at, kind, actor, event_client, event_resource, event_jti, event_jkt, request_id, remote_addr, detail,
    revision, resource_revision, proof, iat, since, until, look, n)
), issue as materialized (
  select a.*, c.client_generation, c.resource_generation, c.client_generation is not null as known, c.signed, c.admitted
  from ask a left join lateral (` + tokenClientSQL(issueColumns{"a.client_id", "a.resource", "a.jkt", "a.issued_at", "a.kid", "a.revision", "a.resource_revision"}) + `
    limit 1) c on true
), spent as (
  insert into authz.spent_proofs (digest, iat)
  select i.proof, i.iat from issue i
  left join lateral (
    select true as before from authz.spent_proofs s
    where i.look and s.digest = i.proof and s.iat between i.since and i.until and s.iat between $30 and $31
    limit 1) s on true
  where i.signed and i.admitted and i.proof is not null and s.before is null
  order by i.proof
  on conflict do nothing
  returning digest
), token as (
  insert into authz.tokens (` + tokenColumns + `, client_generation, resource_generation)
  select ` + tokenColumns + `, client_generation, resource_generation from issue
  where signed and admitted and (proof is null or proof in (select digest from spent))
  returning jti
), event as (
  insert into authz.audit_events (` + eventColumns + `)
  select event_id, event_at, kind, actor, event_client, event_resource, event_jti, event_jkt, request_id, remote_addr, detail
  from issue where jti in (select jti from token)
)
select known, coalesce(signed, false), admitted is not false, known and admitted is null, jti in (select jti from token)
from issue order by n`

// issueName names what two tokens of one statement must not share.
func issueName(i authz.Issue) (name [32]byte, ok bool) {
	if i.Proof == nil {
		return [32]byte{}, false
	}
	return i.Proof.Digest, true
}

func (s *Store) recordTokens(ctx context.Context, issues []authz.Issue) ([]recorded, error) {
	args, err := recordTokensArgs(issues)
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, recordTokensSQL, args...)
	if err != nil {
		return nil, err
	}
	all := make([]recorded, 0, len(issues))
	var r recorded
	_, err = pgx.ForEachRow(rows, []any{&r.client, &r.signed, &r.admitted, &r.firstKey, &r.token}, func() error {
		all = append(all, r)
		return nil
	})
	s.room.note(err, slices.ContainsFunc(all, func(r recorded) bool { return r.token }), issues[0].Token.IssuedAt)
	if err == nil && len(all) != len(issues) {
		err = fmt.Errorf("%d verdicts for %d tokens", len(all), len(issues))
	}
	return all, err
}

// recordTokensArgs has a column for each of what a token consists of; an empty text
// is null. The range of all proofs that are looked for comes last: it only leaves
// out partitions.
func recordTokensArgs(issues []authz.Issue) ([]any, error) {
	n := len(issues)
	texts := make([]string, 15*n) // of as many columns
	text := func() []string {
		column := texts[:n:n]
		texts = texts[n:]
		return column
	}
	numbers := make([]int64, 2*n)
	moments := make([]time.Time, 6*n)
	ids := make([][16]byte, 3*n)
	var (
		jtis, eventIDs, eventJTIs                            = ids[:n], ids[n : 2*n], ids[2*n:]
		digests, proofs                                      = make([][]byte, n), make([][]byte, n)
		clients, resources, scopes, jkts                     = text(), text(), text(), text()
		kids, credentials, x5ts                              = text(), text(), text()
		kinds, actors, eventClients, eventResources          = text(), text(), text(), text()
		eventJKTs, requestIDs, addresses, details            = text(), text(), text(), text()
		revisions, resourceRevisions                         = numbers[:n], numbers[n:]
		issuedAts, expiresAts, eventAts, iats, sinces, until = moments[:n], moments[n : 2*n], moments[2*n : 3*n], moments[3*n : 4*n], moments[4*n : 5*n], moments[5*n:]
		looks                                                = make([]bool, n)
		oldest, newest                                       = issues[0].Token.IssuedAt, issues[0].Token.IssuedAt
	)
	for i := range issues {
		issue, t, e := &issues[i], &issues[i].Token, &issues[i].Event
		jtis[i], digests[i], clients[i], resources[i], scopes[i] = t.JTI, t.Digest[:], t.ClientID, t.Resource, t.Scope
		jkts[i], issuedAts[i], expiresAts[i] = t.JKT, t.IssuedAt, t.ExpiresAt
		kids[i], credentials[i], x5ts[i] = t.KID, t.Credential, t.X5T
		eventIDs[i], eventAts[i], kinds[i], actors[i] = e.ID, e.At, string(e.Kind), e.Actor
		eventClients[i], eventResources[i], eventJTIs[i], eventJKTs[i] = e.ClientID, e.Resource, e.JTI, e.JKT
		requestIDs[i], addresses[i] = e.RequestID, e.RemoteAddr
		if details[i] = e.DetailJSON; details[i] == "" && e.Detail != nil {
			detail, err := json.Marshal(e.Detail)
			if err != nil {
				return nil, fmt.Errorf("encoding the detail of an event: %w", err)
			}
			details[i] = string(detail)
		}
		revisions[i], resourceRevisions[i] = issue.Revision, issue.ResourceRevision
		if p := issue.Proof; p != nil {
			proofs[i], iats[i], sinces[i], until[i] = p.Digest[:], p.IssuedAt, p.IssuedAt.Add(-p.Window), p.IssuedAt.Add(p.Window)
			looks[i] = crossesPartitions(sinces[i], until[i])
		}
		if looks[i] && sinces[i].Before(oldest) {
			oldest = sinces[i]
		}
		if looks[i] && until[i].After(newest) {
			newest = until[i]
		}
	}
	return []any{
		jtis, digests, clients, resources, scopes, jkts, issuedAts, expiresAts, kids, credentials, x5ts,
		eventIDs, eventAts, kinds, actors, eventClients, eventResources, eventJTIs, eventJKTs, requestIDs, addresses, details,
		revisions, resourceRevisions, proofs, iats, sinces, until, looks, oldest, newest,
	}, nil
}
