package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

const setDPoPKeyPolicySQL = `update authz.clients set dpop_keys = $2 where id = $1`

// SetDPoPKeyPolicy is authz.Store's.
func (s *Store) SetDPoPKeyPolicy(ctx context.Context, clientID string, policy authz.DPoPKeyPolicy, event authz.AuditEvent) error {
	return s.changeClient(ctx, clientID, event, setDPoPKeyPolicySQL, clientID, string(policy))
}

const dpopKeysSQL = `
select k.jkt, k.enrolled_at, k.enrolled_by, k.expires_at, exists (select from authz.revoked_dpop_keys r where r.jkt = k.jkt)
from authz.client_dpop_keys k
where k.client_id = $1
order by k.enrolled_at desc, k.jkt collate "C"`

// DPoPKeys is authz.Store's.
func (s *Store) DPoPKeys(ctx context.Context, clientID string) ([]authz.DPoPKey, error) {
	rows, err := s.pool.Query(ctx, dpopKeysSQL, clientID)
	if err != nil {
		return nil, fmt.Errorf("reading DPoP keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k authz.DPoPKey, err error) {
		var ends *time.Time
		err = row.Scan(&k.JKT, &k.EnrolledAt, &k.EnrolledBy, &ends, &k.Revoked)
		if ends != nil {
			k.EndsAt = *ends
		}
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading DPoP keys: %w", err)
	}
	return keys, nil
}

// maxDPoPKeys bounds what a client, or who has its keys, can have kept of it. The
// function that endorses holds to the same.
const maxDPoPKeys = 100

const (
	lockClientSQL = `select from authz.clients where id = $1 for no key update`
	forgetKeysSQL = `
delete from authz.client_dpop_keys where client_id = $1 and expires_at < $2::timestamptz - interval '90 days'`
	enrolKeySQL = `
insert into authz.client_dpop_keys (client_id, jkt, enrolled_at, enrolled_by, expires_at)
select $1, $2, $3, $4, $5
where not exists (select from authz.revoked_dpop_keys where jkt = $2)
on conflict (client_id, jkt) do update
set enrolled_at = excluded.enrolled_at, enrolled_by = excluded.enrolled_by, expires_at = excluded.expires_at, ended = false`
	// Of what is over, an operator is not kept out by any number.
	countKeysSQL = `
select count(*) from authz.client_dpop_keys where client_id = $1 and not ended and (expires_at is null or expires_at > $2)`
)

// EnrolKey is authz.Store's.
func (s *Store) EnrolKey(ctx context.Context, clientID string, key authz.DPoPKey, event authz.AuditEvent) error {
	event.ClientID, event.JKT = clientID, key.JKT
	var ends any
	if !key.EndsAt.IsZero() {
		ends = key.EndsAt
	}
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		found, err := tx.Exec(ctx, lockClientSQL, clientID)
		if err != nil {
			return err
		}
		if found.RowsAffected() == 0 {
			return authz.ErrNotFound
		}
		if _, err := tx.Exec(ctx, forgetKeysSQL, clientID, event.At); err != nil {
			return err
		}
		enrolled, err := tx.Exec(ctx, enrolKeySQL, clientID, key.JKT, key.EnrolledAt, key.EnrolledBy, ends)
		if err != nil {
			return err
		}
		if enrolled.RowsAffected() == 0 {
			return authz.ErrKeyRevoked
		}
		var n int
		if err := tx.QueryRow(ctx, countKeysSQL, clientID, event.At).Scan(&n); err != nil {
			return err
		}
		if n > maxDPoPKeys {
			return authz.ErrTooManyKeys
		}
		return nil
	})
	return unless("enrolling a DPoP key", err, authz.ErrNotFound, authz.ErrKeyRevoked, authz.ErrTooManyKeys)
}

const removeKeySQL = `
update authz.client_dpop_keys set expires_at = $3, ended = true
where client_id = $1 and jkt = $2 and not ended and (expires_at is null or expires_at > $3)`

// RemoveKey is authz.Store's.
func (s *Store) RemoveKey(ctx context.Context, clientID, jkt string, event authz.AuditEvent) error {
	event.JKT = jkt
	return s.changeClient(ctx, clientID, event, removeKeySQL, clientID, jkt, event.At)
}

// What is taken away after this look is taken away after the enrolment.
var callerIsSQL = `
select` + callerSQL("$2") + ` from authz.clients c where c.id = $1`

const endorseKeySQL = `select authz.enrol_endorsed_dpop_key($1, $2, $3, $4, $5)`

// EndorseKey is authz.Store's.
func (s *Store) EndorseKey(ctx context.Context, e authz.Endorsement, event authz.AuditEvent) error {
	event.ClientID, event.JKT = e.ClientID, e.JKT
	var byEndsAt any
	if !e.ByEndsAt.IsZero() {
		byEndsAt = e.ByEndsAt
	}
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		var is bool
		err := tx.QueryRow(ctx, callerIsSQL, e.ClientID, e.Revision).Scan(&is)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && !is:
			return authz.ErrClientChanged
		case err != nil:
			return err
		}
		if e.Assertion != nil {
			if err := s.spend(ctx, tx, *e.Assertion, authz.ErrAssertionSpent); err != nil {
				return err
			}
		}
		for _, p := range e.Spent {
			if err := s.spend(ctx, tx, p, authz.ErrProofSpent); err != nil {
				return err
			}
		}
		var verdict string
		if err := tx.QueryRow(ctx, endorseKeySQL, e.ClientID, e.JKT, e.By, event.At, byEndsAt).Scan(&verdict); err != nil {
			return err
		}
		return endorsing(verdict)
	})
	return unless("endorsing a DPoP key", err,
		authz.ErrProofSpent, authz.ErrAssertionSpent, authz.ErrClientChanged, authz.ErrNotEndorsed, authz.ErrKeyNotAdmitted, authz.ErrTooManyKeys)
}

func endorsing(verdict string) error {
	switch verdict {
	case "enrolled":
		return nil
	case "client":
		return authz.ErrClientChanged
	case "endorser":
		return authz.ErrNotEndorsed
	case "key":
		return authz.ErrKeyNotAdmitted
	case "many":
		return authz.ErrTooManyKeys
	default:
		return fmt.Errorf("the database answers %q", verdict)
	}
}

// unless says what was being done, but for the verdicts that callers branch on.
func unless(doing string, err error, verdicts ...error) error {
	if err == nil {
		return nil
	}
	for _, verdict := range verdicts {
		if errors.Is(err, verdict) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
