package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/watch"
)

// Only the first of a client that waits is anybody's to deliver.
const dueDeliveriesSQL = `
select` + alertColumns + `
from (
  select distinct on (client_id) alert_id, client_id, number, attempts, due_at, delivered_at
  from authz.alert_deliveries where delivered_at is null
  order by client_id, number
) d join authz.alerts a on a.id = d.alert_id
where d.due_at <= clock_timestamp()
order by d.due_at, d.number limit $1`

// DueDeliveries is watch.Keeper's.
func (s *Store) DueDeliveries(ctx context.Context, limit int) ([]watch.Delivery, error) {
	rows, err := s.pool.Query(ctx, dueDeliveriesSQL, limit)
	if err != nil {
		return nil, fmt.Errorf("reading what is to be delivered: %w", err)
	}
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (watch.Delivery, error) {
		k, err := scanAlert(row)
		return watch.Delivery{Kept: k, Attempts: k.Delivery.Attempts}, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is to be delivered: %w", err)
	}
	return due, nil
}

const beginDeliverySQL = `
update authz.alert_deliveries set attempts = attempts + 1, due_at = clock_timestamp() + $3
where alert_id = $1 and attempts = $2 and delivered_at is null`

// BeginDelivery is watch.Keeper's.
func (s *Store) BeginDelivery(ctx context.Context, d watch.Delivery, alone time.Duration) (bool, error) {
	done, err := s.pool.Exec(ctx, beginDeliverySQL, d.ID, d.Attempts, alone)
	if err != nil {
		return false, fmt.Errorf("beginning to deliver an alert: %w", err)
	}
	return done.RowsAffected() == 1, nil
}

const endDeliverySQL = `update authz.alert_deliveries set delivered_at = $2 where alert_id = $1 and delivered_at is null`

// EndDelivery is watch.Keeper's.
func (s *Store) EndDelivery(ctx context.Context, d watch.Delivery, at time.Time) error {
	if _, err := s.pool.Exec(ctx, endDeliverySQL, d.ID, at); err != nil {
		return fmt.Errorf("noting that an alert is delivered: %w", err)
	}
	return nil
}

// Of an attempt that is the last one.
const postponeDeliverySQL = `
update authz.alert_deliveries set due_at = clock_timestamp() + $3
where alert_id = $1 and attempts = $2 and delivered_at is null`

// PostponeDelivery is watch.Keeper's.
func (s *Store) PostponeDelivery(ctx context.Context, d watch.Delivery, wait time.Duration) error {
	if _, err := s.pool.Exec(ctx, postponeDeliverySQL, d.ID, d.Attempts, wait); err != nil {
		return fmt.Errorf("postponing to deliver an alert: %w", err)
	}
	return nil
}

const undeliveredSQL = `
select count(*), min(a.raised_at) from authz.alert_deliveries d join authz.alerts a on a.id = d.alert_id
where d.delivered_at is null`

// UndeliveredAlerts is watch.Keeper's.
func (s *Store) UndeliveredAlerts(ctx context.Context) (n int, since time.Time, err error) {
	var oldest *time.Time
	if err := s.pool.QueryRow(ctx, undeliveredSQL).Scan(&n, &oldest); err != nil {
		return 0, time.Time{}, fmt.Errorf("counting what is to be delivered: %w", err)
	}
	if oldest != nil {
		since = *oldest
	}
	return n, since, nil
}
