package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// A null is a list that leaves nothing out.
const queryTrailSQL = `
select ` + trailColumns + ` from authz.audit_events e
where e.at >= $1 and e.at < $2
  and ($3::text[] is null or e.client_id = any($3))
  and ($4::text[] is null or e.resource = any($4))
  and ($5::text[] is null or e.actor = any($5))
  and ($6::text[] is null or e.kind like any($6))
  and ($7::uuid[] is null or e.jti = any($7))
  and ($8::text[] is null or e.jkt = any($8))
  and ($9::text[] is null or e.request_id = any($9))
`

const (
	queryOldestFirstSQL = queryTrailSQL + `order by e.at, e.id`
	queryLastSQL        = `select l.* from (` + queryTrailSQL + `order by e.at desc, e.id desc limit $10) l order by 2, 1`
)

// QueryTrail calls do with the events that are wanted, by their time, as they come:
// memory holds one of them. It is for the owner.
func (s *Store) QueryTrail(ctx context.Context, q authz.TrailQuery, do func(authz.TrailEvent) error) error {
	since, until := q.Since, q.Until
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	if until.IsZero() {
		until = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	var patterns []string
	for _, kind := range q.Kinds {
		named, some := strings.CutSuffix(kind, "*")
		pattern := strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(named)
		if some {
			pattern += "%"
		}
		patterns = append(patterns, pattern)
	}
	var jtis [][16]byte
	for _, jti := range q.JTIs {
		jtis = append(jtis, jti)
	}
	args := []any{since, until, q.Clients, q.Resources, q.Actors, patterns, jtis, q.JKTs, q.RequestIDs}
	if q.Limit == 0 {
		return s.eachEvent(ctx, do, queryOldestFirstSQL, args...)
	}
	return s.eachEvent(ctx, do, queryLastSQL, append(args, q.Limit)...)
}

const (
	trailEndSQL   = `select added + pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 from authz.audit_positions`
	trailSinceSQL = `select min(recorded_in) - 1 from authz.audit_events where at >= $1`
)

// TrailFrom is a place that events of a moment and later come after; the zero time: what
// is written from now on. It is for the owner.
func (s *Store) TrailFrom(ctx context.Context, since time.Time) (authz.TrailPosition, error) {
	at := authz.TrailPosition{}
	for i := range at.ID {
		at.ID[i] = 0xff
	}
	var recordedIn *int64
	if !since.IsZero() {
		if err := s.pool.QueryRow(ctx, trailSinceSQL, since).Scan(&recordedIn); err != nil {
			return at, fmt.Errorf("reading where to begin in the audit trail: %w", err)
		}
	}
	if recordedIn == nil {
		if err := s.pool.QueryRow(ctx, trailEndSQL).Scan(&recordedIn); err != nil {
			return at, fmt.Errorf("reading where the audit trail ends: %w", err)
		}
	}
	at.RecordedIn = *recordedIn
	return at, nil
}

const keepTrailSQL = `update authz.audit_retention set keep_days = $1 where keep_days <> $1`

// KeepTrail says for how many days (1 to 3650) events are kept, and tells whether that is
// a change: then it is recorded. It is for the owner.
func (s *Store) KeepTrail(ctx context.Context, days int, event authz.AuditEvent) (changed bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, keepTrailSQL, days)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		changed = true
		return recordEvent(ctx, tx, event)
	})
	if err != nil {
		return false, fmt.Errorf("changing how long the audit trail is kept: %w", err)
	}
	return changed, nil
}
