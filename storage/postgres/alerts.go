package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/watch"
)

const (
	foldAlertSQL = `
update authz.alerts set times = times + $5, last_at = greatest(last_at, $6)
where client_id = $1 and kind = $2 and subject = $3 and open and last_at > $4
returning id`
	// One that nothing was folded into for long is left as it is.
	closeAlertSQL = `update authz.alerts set open = false where client_id = $1 and kind = $2 and subject = $3 and open`
	countOpenSQL  = `select count(*) from authz.alerts where client_id = $1 and kind = $2 and open and last_at > $3`
	addAlertSQL   = `
insert into authz.alerts (id, client_id, kind, subject, raised_at, last_at, times, normal, seen, why, what_to_do, event_id, request_id, other_client_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`
	addDeliverySQL = `insert into authz.alert_deliveries (alert_id, client_id) values ($1, $2)`
)

// keepAlert folds alerts into the one that is alike, or adds one. There is one writer at
// a time: whoever has moved the follower on.
func keepAlert(ctx context.Context, tx pgx.Tx, f watch.Findings, r watch.Raised) (k watch.Kept, isNew bool, err error) {
	folded, err := foldAlert(ctx, tx, r)
	if err != nil || folded {
		return k, false, err
	}
	var open int
	if err := tx.QueryRow(ctx, countOpenSQL, r.ClientID, string(r.Kind), r.At.Add(-watch.Silence)).Scan(&open); err != nil {
		return k, false, err
	}
	if open >= watch.MaxOpen && r.Subject != behaviour.Further {
		r.Subject = behaviour.Further
		if folded, err = foldAlert(ctx, tx, r); err != nil || folded {
			return k, false, err
		}
	}
	if _, err := tx.Exec(ctx, closeAlertSQL, r.ClientID, string(r.Kind), r.Subject); err != nil {
		return k, false, err
	}
	k = watch.Kept{
		ID: r.ID, ClientID: r.ClientID, Kind: r.Kind, Subject: r.Subject, RaisedAt: r.At, LastAt: r.Last, Times: r.Times,
		Normal: r.Normal, Seen: r.Seen, Why: r.Why, Do: r.Do, EventID: r.EventID, RequestID: r.RequestID, Other: r.Other,
	}
	_, err = tx.Exec(ctx, addAlertSQL, k.ID, k.ClientID, string(k.Kind), k.Subject, k.RaisedAt, k.LastAt, k.Times,
		k.Normal, k.Seen, k.Why, k.Do, orNull(k.EventID), orNull(k.RequestID), orNull(k.Other))
	if err != nil {
		return k, false, err
	}
	if f.Deliver {
		if _, err := tx.Exec(ctx, addDeliverySQL, k.ID, k.ClientID); err != nil {
			return k, false, err
		}
	}
	return k, true, recordEvent(ctx, tx, raisedEvent(k, f.At))
}

func foldAlert(ctx context.Context, tx pgx.Tx, r watch.Raised) (bool, error) {
	var id string
	err := tx.QueryRow(ctx, foldAlertSQL, r.ClientID, string(r.Kind), r.Subject, r.At.Add(-watch.Silence), r.Times, r.Last).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// raisedEvent is that of an alert in the trail.
func raisedEvent(k watch.Kept, now time.Time) authz.AuditEvent {
	e := authz.NewAuditEvent(now, authz.AuditAlertRaised, authz.ActorServer)
	e.ClientID, e.RequestID = k.ClientID, k.RequestID
	e.Detail = map[string]any{
		"alert": k.ID, "alert_kind": string(k.Kind), "subject": k.Subject, "raised_at": k.RaisedAt.UTC().Format(time.RFC3339Nano),
		"normal": k.Normal, "seen": k.Seen, "why": k.Why, "do": k.Do,
	}
	if k.EventID != "" {
		e.Detail["event"] = k.EventID
	}
	if k.Other != "" {
		e.Detail["other_client_id"] = k.Other
	}
	return e
}

// AlertFilter says which alerts are asked for; the zero value: all that nobody has
// acknowledged.
type AlertFilter struct {
	ClientID     string
	Kind         string
	Since        time.Time // whose last time is at or after it
	Acknowledged bool      // those too
	Limit        int       // 0: 1000
}

const alertColumns = `
a.id, a.client_id, a.kind, a.subject, a.raised_at, a.last_at, a.times, a.normal, a.seen, a.why, a.what_to_do,
coalesce(a.event_id, ''), coalesce(a.request_id, ''), coalesce(a.other_client_id, ''),
a.acknowledged_at, coalesce(a.acknowledged_by, ''), coalesce(a.note, ''),
d.alert_id is not null, coalesce(d.attempts, 0), d.due_at, d.delivered_at`

const alertsSQL = `select` + alertColumns + `
from authz.alerts a left join authz.alert_deliveries d on d.alert_id = a.id
where ($1 = '' or a.client_id = $1) and ($2 = '' or a.kind = $2) and a.last_at >= $3 and ($4 or a.acknowledged_at is null)
order by a.last_at desc, a.id limit $5`

// Alerts are those that a filter lets through, the latest first.
func (s *Store) Alerts(ctx context.Context, f AlertFilter) ([]watch.Kept, error) {
	if f.Limit == 0 {
		f.Limit = 1000
	}
	rows, err := s.pool.Query(ctx, alertsSQL, f.ClientID, f.Kind, f.Since, f.Acknowledged, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("reading alerts: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanAlert)
	if err != nil {
		return nil, fmt.Errorf("reading alerts: %w", err)
	}
	return found, nil
}

const alertSQL = `select` + alertColumns + `
from authz.alerts a left join authz.alert_deliveries d on d.alert_id = a.id where a.id = $1`

// Alert is one alert; authz.ErrNotFound where there is none.
func (s *Store) Alert(ctx context.Context, id string) (watch.Kept, error) {
	rows, err := s.pool.Query(ctx, alertSQL, id)
	if err != nil {
		return watch.Kept{}, fmt.Errorf("reading an alert: %w", err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanAlert)
	if errors.Is(err, pgx.ErrNoRows) {
		return watch.Kept{}, authz.ErrNotFound
	}
	if err != nil {
		return watch.Kept{}, fmt.Errorf("reading an alert: %w", err)
	}
	return found, nil
}

func scanAlert(row pgx.CollectableRow) (k watch.Kept, err error) {
	var acknowledged, due, delivered *time.Time
	err = row.Scan(&k.ID, &k.ClientID, (*string)(&k.Kind), &k.Subject, &k.RaisedAt, &k.LastAt, &k.Times, &k.Normal, &k.Seen, &k.Why, &k.Do,
		&k.EventID, &k.RequestID, &k.Other, &acknowledged, &k.AcknowledgedBy, &k.Note,
		&k.Delivery.Wanted, &k.Delivery.Attempts, &due, &delivered)
	for to, from := range map[*time.Time]*time.Time{&k.AcknowledgedAt: acknowledged, &k.Delivery.DueAt: due, &k.Delivery.DeliveredAt: delivered} {
		if from != nil {
			*to = *from
		}
	}
	return k, err
}

const acknowledgeSQL = `
update authz.alerts set acknowledged_at = $2, acknowledged_by = $3, note = $4, open = false
where id = $1 and acknowledged_at is null
returning client_id, kind, subject`

// AcknowledgeAlert is an operator's word that somebody has looked at an alert: what is
// alike is a new one from now on. The event's moment and actor are those of the
// acknowledgement. It fails with authz.ErrNotFound where there is no such alert, and
// changes nothing, and tells so, where it is acknowledged.
func (s *Store) AcknowledgeAlert(ctx context.Context, id, note string, event authz.AuditEvent) (changed bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var kind, subject string
		err := tx.QueryRow(ctx, acknowledgeSQL, id, event.At, event.Actor, orNull(note)).Scan(&event.ClientID, &kind, &subject)
		if errors.Is(err, pgx.ErrNoRows) {
			var there bool
			if err := tx.QueryRow(ctx, `select exists (select from authz.alerts where id = $1)`, id).Scan(&there); err != nil {
				return err
			}
			if !there {
				return authz.ErrNotFound
			}
			return nil
		}
		if err != nil {
			return err
		}
		changed = true
		event.Detail = map[string]any{"alert": id, "alert_kind": kind, "subject": subject}
		if note != "" {
			event.Detail["note"] = note
		}
		return recordEvent(ctx, tx, event)
	})
	if err != nil {
		return false, fmt.Errorf("acknowledging an alert: %w", err)
	}
	return changed, nil
}
