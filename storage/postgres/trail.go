package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// trailColumns are read by trailRow. What is null is empty: there are no empty values.
const trailColumns = `
e.id, e.at, e.kind, e.actor, coalesce(e.client_id, ''), coalesce(e.resource, ''),
coalesce(e.jti, '00000000-0000-0000-0000-000000000000'), coalesce(e.jkt, ''), coalesce(e.request_id, ''),
coalesce(e.remote_addr, ''), coalesce(e.detail::text, ''), e.recorded_by, coalesce(e.recorded_in, 0)`

const trailSQL = `select ` + trailColumns + ` from authz.read_audit($1, $2, $3) e`

// Trail reads events of the audit trail, limit at most (of 1 to 10,000), from after a
// place on and in the order of their places. It returns those that are final: no event
// ever appears before one that was read. A transaction that is still under way, in any
// database of the cluster, delays those that began after it.
func (s *Store) Trail(ctx context.Context, after authz.TrailPosition, limit int) ([]authz.TrailEvent, error) {
	var events []authz.TrailEvent
	err := s.eachEvent(ctx, func(e authz.TrailEvent) error {
		if events == nil { // not for nothing: most looks find nothing new
			events = make([]authz.TrailEvent, 0, limit)
		}
		events = append(events, e)
		return nil
	}, trailSQL, after.RecordedIn, [16]byte(after.ID), limit)
	return events, err
}

// eachEvent calls do with the events that a statement selects, one by one as they come.
func (s *Store) eachEvent(ctx context.Context, do func(authz.TrailEvent) error, sql string, args ...any) error {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("reading the audit trail: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return fmt.Errorf("reading the audit trail: %w", err)
		}
		if err := do(e); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the audit trail: %w", err)
	}
	return nil
}

// scanEvent reads trailColumns.
func scanEvent(row pgx.Rows) (e authz.TrailEvent, err error) {
	err = row.Scan((*[16]byte)(&e.ID), &e.At, (*string)(&e.Kind), &e.Actor, &e.ClientID, &e.Resource,
		(*[16]byte)(&e.JTI), &e.JKT, &e.RequestID, &e.RemoteAddr, &e.RawDetail, &e.RecordedBy, &e.Position.RecordedIn)
	if len(e.RawDetail) == 0 {
		e.RawDetail = nil
	}
	if e.Position.RecordedIn != 0 {
		e.Position.ID = e.ID
	}
	return e, err
}

const followSQL = `select at_recorded_in, at_id, held from authz.follow($1, $2, $3)`

// Follow takes or renews the lease of a follower of the trail ("seals", "behaviour") for
// a time of 1 s to 5 min by the database's clock, and tells where it stands, whether
// holder holds it or another one does. A holder is named by 1 to 64 characters.
func (s *Store) Follow(ctx context.Context, name, holder string, hold time.Duration) (at authz.TrailPosition, held bool, err error) {
	err = s.pool.QueryRow(ctx, followSQL, name, holder, hold).Scan(&at.RecordedIn, (*[16]byte)(&at.ID), &held)
	if err != nil {
		return at, false, fmt.Errorf("following the audit trail: %w", err)
	}
	return at, held, nil
}

const advanceFollowerSQL = `select authz.advance_follower($1, $2, $3, $4, $5, $6)`

// advanceFollower moves a follower on in a transaction, so that what is written in it is
// written once. It fails with authz.ErrNotHeld where the holder holds it no more, where it
// stands elsewhere, and where to is not after from or not final.
func advanceFollower(ctx context.Context, tx pgx.Tx, name, holder string, from, to authz.TrailPosition) error {
	var moved bool
	err := tx.QueryRow(ctx, advanceFollowerSQL, name, holder,
		from.RecordedIn, [16]byte(from.ID), to.RecordedIn, [16]byte(to.ID)).Scan(&moved)
	if err != nil {
		return fmt.Errorf("moving a follower of the audit trail on: %w", err)
	}
	if !moved {
		return fmt.Errorf("follower %s: %w", name, authz.ErrNotHeld)
	}
	return nil
}

const oldestAfterSQL = `select authz.oldest_after($1, $2)`

// OldestAfter is when the first event after a place was, though it be not final; the
// zero time: there is none.
func (s *Store) OldestAfter(ctx context.Context, after authz.TrailPosition) (time.Time, error) {
	var at *time.Time
	if err := s.pool.QueryRow(ctx, oldestAfterSQL, after.RecordedIn, [16]byte(after.ID)).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("reading how far the audit trail is: %w", err)
	}
	if at == nil {
		return time.Time{}, nil
	}
	return *at, nil
}
