package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

const lastSealSQL = `select number, digest from authz.last_seal()`

// LastSeal is the number and the digest of the last seal of the audit trail, though it be
// dropped for its age; 0 and zeros: there was none.
func (s *Store) LastSeal(ctx context.Context) (number int64, digest authz.Digest, err error) {
	var stored []byte
	if err := s.pool.QueryRow(ctx, lastSealSQL).Scan(&number, &stored); err != nil {
		return 0, digest, fmt.Errorf("reading the last seal of the audit trail: %w", err)
	}
	return number, authz.Digest(stored), nil
}

// One statement, so that an instance that is frozen in the middle of it holds nothing.
const addSealsSQL = `
with moved as materialized (
  select authz.advance_follower($1, $2, $3, $4, $5, $6) as it
)
insert into authz.audit_seals (number, day, from_recorded_in, from_id, upto_recorded_in, upto_id, events, previous, digest, mac, mac_key)
select s.number, s.day::date, $3, $4, $5, $6, s.events, s.previous, s.digest, s.mac, s.mac_key
from moved, unnest($7::bigint[], $8::text[], $9::integer[], $10::bytea[], $11::bytea[], $12::bytea[], $13::text[])
  as s (number, day, events, previous, digest, mac, mac_key)
where moved.it
order by s.number`

// AddSeals appends seals to those of the audit trail, and moves a follower on, in one step
// or not at all. It fails with authz.ErrNotHeld where the holder holds it no more or it
// stands elsewhere: then another one has sealed these events.
func (s *Store) AddSeals(ctx context.Context, name, holder string, from, to authz.TrailPosition, seals []authz.TrailSeal) error {
	n := len(seals)
	numbers, days, events, keys := make([]int64, n), make([]string, n), make([]int32, n), make([]string, n)
	previous, digests, macs := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i := range seals {
		seal := &seals[i]
		numbers[i], days[i], events[i], keys[i] = seal.Number, seal.Day, int32(seal.Events), seal.MACKey
		previous[i], digests[i], macs[i] = seal.Previous[:], seal.Digest[:], seal.MAC[:]
	}
	tag, err := s.pool.Exec(ctx, addSealsSQL, name, holder, from.RecordedIn, [16]byte(from.ID), to.RecordedIn, [16]byte(to.ID),
		numbers, days, events, previous, digests, macs, keys)
	if err != nil {
		return fmt.Errorf("adding seals: %w", err)
	}
	if tag.RowsAffected() != int64(n) {
		return authz.ErrNotHeld
	}
	return nil
}

const eachSealSQL = `
select number, day::text, from_recorded_in, from_id, upto_recorded_in, upto_id, events, previous, digest, mac, mac_key
from authz.audit_seals
where $1 = '' or day = nullif($1, '')::date
order by number`

// EachSeal calls do with the seals of a day (2006-01-02; "": all) in the order of their
// numbers, as they come. It is for the owner.
func (s *Store) EachSeal(ctx context.Context, day string, do func(authz.TrailSeal) error) error {
	rows, err := s.pool.Query(ctx, eachSealSQL, day)
	if err != nil {
		return fmt.Errorf("reading the seals of the audit trail: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		seal, err := scanSeal(rows)
		if err != nil {
			return fmt.Errorf("reading the seals of the audit trail: %w", err)
		}
		if err := do(seal); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the seals of the audit trail: %w", err)
	}
	return nil
}

func scanSeal(row pgx.Rows) (seal authz.TrailSeal, err error) {
	var previous, digest, mac []byte
	err = row.Scan(&seal.Number, &seal.Day, &seal.From.RecordedIn, (*[16]byte)(&seal.From.ID),
		&seal.Upto.RecordedIn, (*[16]byte)(&seal.Upto.ID), &seal.Events, &previous, &digest, &mac, &seal.MACKey)
	copy(seal.Previous[:], previous)
	copy(seal.Digest[:], digest)
	copy(seal.MAC[:], mac)
	return seal, err
}

// In steps, by the index on places: a day may have hundreds of millions of events, which
// nobody wants sorted.
const (
	eventsOfSQL = `
select ` + trailColumns + ` from authz.audit_events e
where e.at >= $1 and e.at < $2 and e.recorded_in >= $3 and (e.recorded_in > $3 or e.id > $4)
order by e.recorded_in, e.id
limit $5`
	placelessEventsOfSQL = `
select ` + trailColumns + ` from authz.audit_events e
where e.at >= $1 and e.at < $2 and e.recorded_in is null`
	eventsOfStep = 10_000
)

// EachEventOf calls do with the events of a day (2006-01-02, UTC) in the order of their
// places; those that have none come first. It is for the owner.
func (s *Store) EachEventOf(ctx context.Context, day string, do func(authz.TrailEvent) error) error {
	from, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return fmt.Errorf("reading the events of a day: %w", err)
	}
	to := from.AddDate(0, 0, 1)
	if err := s.eachEvent(ctx, do, placelessEventsOfSQL, from, to); err != nil {
		return err
	}
	at := authz.TrailPosition{RecordedIn: math.MinInt64}
	for n := eventsOfStep; n == eventsOfStep; {
		n = 0
		err := s.eachEvent(ctx, func(e authz.TrailEvent) error {
			n++
			at = e.Position
			return do(e)
		}, eventsOfSQL, from, to, at.RecordedIn, [16]byte(at.ID), eventsOfStep)
		if err != nil {
			return err
		}
	}
	return nil
}

// Days of partitions by their bounds, since anybody can give a table a name.
const trailDaysSQL = `
select to_char((regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$FROM \('([^']+)'\)$r$))[1]::timestamptz at time zone 'UTC', 'YYYY-MM-DD')
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'authz.audit_events'::regclass
order by 1`

// TrailDays are the days (2006-01-02) that the audit trail may have events of.
func (s *Store) TrailDays(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, trailDaysSQL)
	if err != nil {
		return nil, fmt.Errorf("reading the days of the audit trail: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("reading the days of the audit trail: %w", err)
	}
	return days, nil
}

const trailRecordSQL = `
select r.keep_days, r.dropped_before, r.dropped_seal, r.dropped_digest, p.made_at, f.recorded_in, f.id
from authz.audit_retention r, authz.audit_positions p, authz.followers f where f.name = 'seals'`

// TrailRecord is what the database knows of the trail. It is for the owner.
func (s *Store) TrailRecord(ctx context.Context) (authz.TrailRecord, error) {
	var r authz.TrailRecord
	var before *time.Time
	var digest []byte
	err := s.pool.QueryRow(ctx, trailRecordSQL).Scan(&r.KeepDays, &before, &r.DroppedSeal, &digest, &r.PlacesSince,
		&r.SealedUpto.RecordedIn, (*[16]byte)(&r.SealedUpto.ID))
	if err != nil {
		return r, fmt.Errorf("reading what the database knows of the audit trail: %w", err)
	}
	copy(r.DroppedDigest[:], digest)
	if before != nil {
		r.DroppedBefore = *before
	}
	return r, nil
}
