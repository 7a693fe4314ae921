package postgres

import (
	"context"
	"fmt"

	"github.com/cargokey/authz/authz"
)

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
func tokenClientSQL(t issueColumns) string {
	return `
  select c.generation as client_generation, r.generation as resource_generation,
    not exists (select from authz.signing_keys s where s.kid = ` + t.kid + ` and s.revoked_at is not null) as signed,
    case
      when ` + t.jkt + `::text is null then c.dpop_keys = 'any'
      when exists (select from authz.revoked_dpop_keys k where k.jkt = ` + t.jkt + `) then false
      when c.dpop_keys = 'any' then true
      when exists (select from authz.client_dpop_keys k
        where k.client_id = c.id and k.jkt = ` + t.jkt + ` and not k.ended and (k.expires_at is null or k.expires_at > ` + t.issuedAt + `)) then true
      when c.dpop_keys = 'first-use' and not exists (select from authz.client_dpop_keys k where k.client_id = c.id) then null
      else false
    end as admitted
  from authz.clients c join authz.resources r on r.uri = ` + t.resource + ` and r.revision = ` + t.resourceRevision + `
  where c.id = ` + t.client + ` and` + callerSQL(t.revision)
}

// issueColumns say where a statement has what is known of an Issue.
type issueColumns struct {
	client, resource, jkt, issuedAt, kid, revision, resourceRevision string
}

var (
	recordAloneSQL       = recordSQL(one, `false`)
	recordOfAssertionSQL = recordSQL(both, `exists (select from authz.spent_proofs where digest = $30 and iat between $32 and $33)`)
)

// Of what a token is recorded for, what is spent with it. The look before each
// insert finds the same name with another time, which may lie in another
// partition. Of two equal ones the second waits at the unique index of the
// partition until the first one's transaction has ended.
const (
	one = `
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

// recordSQL spends and records in one statement, which has more to it than most
// tokens need: see recordgroup.go.
//
// A key is enrolled by first use only after its proof is spent, so that none is
// by a proof that was accepted before. Which key was first is decided by a
// function, which sees what others have done since this statement began.
func recordSQL(spent, asserted string) string {
	return `
with client as materialized (` + tokenClientSQL(issueColumns{"$3", "$4", "$6", "$7", "$9", "$23", "$24"}) + `
), spent as (` + spent + `
), enrolled as materialized (
  select authz.enrol_first_dpop_key($3, $6, $7) as now from client where client.admitted is null and exists (select from spent)
), token as (
  insert into authz.tokens (` + tokenColumns + `, client_generation, resource_generation)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, client_generation, resource_generation from client
  where exists (select from spent) and coalesce(admitted, (select true from enrolled))
  returning jti
), event as (
  insert into authz.audit_events (` + eventColumns + `)
  select $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22 from token
), enrolment as (
  insert into authz.audit_events (` + eventColumns + `)
  select $29, $13, '` + string(authz.AuditDPoPKeyEnrolled) + `', $15, $16, null, null, $19, $20, $21, '{"by": "first-use"}' from token, enrolled
  where enrolled.now
)
select exists (select from client), exists (select from client where signed),
  exists (select from client where admitted is not false),
  ` + asserted + `,
  exists (select from token)`
}

// RecordToken is authz.Store's.
func (s *Store) RecordToken(ctx context.Context, issue authz.Issue) error {
	if err := s.fence.shutsIssue(issue); err != nil {
		return err
	}
	err := s.recordIssue(ctx, issue)
	if err == nil { // the first connection to a restored database tells of its fence
		err = s.fence.shutsIssue(issue)
	}
	return err
}

func (s *Store) recordIssue(ctx context.Context, issue authz.Issue) error {
	if issue.Assertion == nil {
		verdict, err := s.records.ask(ctx, issue)
		if err != nil {
			return fmt.Errorf("recording a token: %w", err)
		}
		if !verdict.firstKey {
			return verdict.of(issue)
		}
	}
	err := s.recordAlone(ctx, issue)
	if issue.Proof != nil && issue.Assertion != nil && isUniqueViolation(err) {
		// Somebody has spent one of the two just now. By now it is plain which.
		err = s.recordAlone(ctx, issue)
	}
	return err
}

// recorded is what a statement says of a token that it was to record.
type recorded struct {
	client   bool // is what it was when it authenticated
	signed   bool // by a key that is not revoked
	admitted bool // may have a token for this DPoP key, or without one
	firstKey bool // which is to be its first: only a statement of its own enrols it
	asserted bool // its assertion was spent before
	token    bool // is recorded
}

// of is the verdict as an error.
func (r recorded) of(issue authz.Issue) error {
	switch {
	case r.token:
		return nil
	case !r.client:
		return authz.ErrClientChanged
	case !r.admitted:
		return authz.ErrKeyNotAdmitted
	case !r.signed:
		return authz.ErrSigningKeyRevoked
	case r.asserted, issue.Proof == nil:
		return authz.ErrAssertionSpent
	default:
		return authz.ErrProofSpent
	}
}

func (s *Store) recordAlone(ctx context.Context, issue authz.Issue) error {
	sql := recordAloneSQL
	if issue.Proof != nil && issue.Assertion != nil {
		sql = recordOfAssertionSQL
	}
	var r recorded
	err := s.pool.QueryRow(ctx, sql, recordArgs(issue)...).Scan(&r.client, &r.signed, &r.admitted, &r.asserted, &r.token)
	s.room.note(err, r.token, issue.Token.IssuedAt)
	if violates(err, "client_dpop_keys_first_use") { // another key was the first
		return authz.ErrKeyNotAdmitted
	}
	if err != nil {
		return fmt.Errorf("recording a token: %w", err)
	}
	return r.of(issue)
}

// recordArgs are the parameters of recordSQL: first the token, the event and whose
// they are, then what is spent.
func recordArgs(issue authz.Issue) []any {
	t := issue.Token
	args := append([]any{
		[16]byte(t.JTI), t.Digest[:], t.ClientID, t.Resource, t.Scope, orNull(t.JKT), t.IssuedAt, t.ExpiresAt,
		orNull(t.KID), orNull(t.Credential), orNull(t.X5T),
	}, eventValues(issue.Event)...)
	args = append(args, issue.Revision, issue.ResourceRevision)
	first, second := issue.Proof, issue.Assertion
	if first == nil {
		first, second = second, nil
	}
	args = append(args, spendArgs(*first)...)
	args = append(args, [16]byte(authz.NewJTI(t.IssuedAt))) // of the event of an enrolment
	if second != nil {
		args = append(args, spendArgs(*second)...)
	}
	return args
}
