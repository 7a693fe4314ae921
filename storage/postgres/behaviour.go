package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/internal/watch"
)

var _ watch.Keeper = (*Store)(nil)

const baselinesSQL = `select client_id, summary from authz.client_baselines where client_id = any($1)`

// Baselines is watch.Keeper's.
func (s *Store) Baselines(ctx context.Context, clients []string) (map[string]json.RawMessage, error) {
	rows, err := s.pool.Query(ctx, baselinesSQL, clients)
	if err != nil {
		return nil, fmt.Errorf("reading baselines: %w", err)
	}
	found := map[string]json.RawMessage{}
	var id string
	var summary []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &summary}, func() error {
		found[id] = json.RawMessage(strings.Clone(string(summary)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading baselines: %w", err)
	}
	return found, nil
}

// A key of a client that is gone is nobody's.
const keyOwnersSQL = `
select o.jkt, o.client_id, o.first_shown, o.last_shown from authz.dpop_key_owners o
join authz.clients c on c.id = o.client_id
where o.jkt = any($1)`

// KeyOwners is watch.Keeper's.
func (s *Store) KeyOwners(ctx context.Context, jkts []string) (map[string]watch.KeyOwner, error) {
	rows, err := s.pool.Query(ctx, keyOwnersSQL, jkts)
	if err != nil {
		return nil, fmt.Errorf("reading who has shown keys: %w", err)
	}
	found := map[string]watch.KeyOwner{}
	var o watch.KeyOwner
	_, err = pgx.ForEachRow(rows, []any{&o.JKT, &o.ClientID, &o.FirstShown, &o.LastShown}, func() error {
		found[o.JKT] = o
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading who has shown keys: %w", err)
	}
	return found, nil
}

const (
	fleetSQL     = `select fleet::text, number from authz.behaviour_state where only_row`
	keepFleetSQL = `
update authz.behaviour_state set number = number + 1, fleet = coalesce($2::text::jsonb, fleet) where only_row and number = $1`
)

// Fleet is watch.Keeper's.
func (s *Store) Fleet(ctx context.Context) (fleet json.RawMessage, number int64, err error) {
	if err := s.pool.QueryRow(ctx, fleetSQL).Scan(&fleet, &number); err != nil {
		return nil, 0, fmt.Errorf("reading what is known of all clients: %w", err)
	}
	return fleet, number, nil
}

// beginFindingsSQL has Postgres end a transaction whose instance says nothing more, frozen
// or cut off: nobody could follow the trail instead of it, and no event that is written
// meanwhile would become final, for the seals neither.
const beginFindingsSQL = `begin; set local idle_in_transaction_session_timeout = '5s'`

// KeepFindings is watch.Keeper's. Whether it is their turn comes first: whoever is late
// writes nothing, and of two at once the second waits here until the first has ended.
func (s *Store) KeepFindings(ctx context.Context, f watch.Findings) ([]watch.Kept, error) {
	var kept []watch.Kept
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: beginFindingsSQL}, func(tx pgx.Tx) error {
		if err := takeTurn(ctx, tx, f); err != nil {
			return err
		}
		if err := keepBaselines(ctx, tx, f); err != nil {
			return err
		}
		if err := keepKeyOwners(ctx, tx, f); err != nil {
			return err
		}
		for _, r := range f.Alerts {
			k, isNew, err := keepAlert(ctx, tx, f, r)
			if err != nil {
				return fmt.Errorf("keeping an alert: %w", err)
			}
			if isNew {
				kept = append(kept, k)
			}
		}
		return nil
	})
	if err != nil {
		return nil, unkeepable(err)
	}
	return kept, nil
}

func takeTurn(ctx context.Context, tx pgx.Tx, f watch.Findings) error {
	var fleet any
	if f.Fleet != nil {
		fleet = string(f.Fleet)
	}
	done, err := tx.Exec(ctx, keepFleetSQL, f.Number, fleet)
	if err != nil {
		return fmt.Errorf("keeping what is known of all clients: %w", err)
	}
	if done.RowsAffected() != 1 {
		return fmt.Errorf("findings %d: %w", f.Number, watch.ErrNotHeld)
	}
	if f.From == f.To {
		return nil
	}
	return advanceFollower(ctx, tx, watch.Follower, f.Holder, f.From, f.To)
}

// unkeepable marks the errors that are the findings' own: they come again.
func unkeepable(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	// That there is no partition is no constraint's name, and one may come in a moment.
	if pgErr.Code == "23514" && pgErr.ConstraintName == "" {
		return err
	}
	switch pgErr.Code[:2] {
	case "22", "23": // data exception, integrity constraint violation
		return fmt.Errorf("%w: %w", watch.ErrUnkeepable, err)
	}
	switch pgErr.Code {
	case "54000": // program limit exceeded
		return fmt.Errorf("%w: %w", watch.ErrUnkeepable, err)
	}
	return err
}

const (
	keepBaselinesSQL = `
insert into authz.client_baselines (client_id, summary, updated_at)
select c, s::jsonb, $3 from unnest($1::text[], $2::text[]) as b (c, s) order by c
on conflict (client_id) do update set summary = excluded.summary, updated_at = excluded.updated_at`
	deleteBaselinesSQL = `delete from authz.client_baselines where client_id = any($1)`
)

func keepBaselines(ctx context.Context, tx pgx.Tx, f watch.Findings) error {
	if len(f.Baselines) > 0 {
		var ids, summaries []string
		for id, summary := range f.Baselines {
			ids, summaries = append(ids, id), append(summaries, string(summary))
		}
		if _, err := tx.Exec(ctx, keepBaselinesSQL, ids, summaries, f.At); err != nil {
			return fmt.Errorf("keeping baselines: %w", err)
		}
	}
	if len(f.Deleted) > 0 {
		if _, err := tx.Exec(ctx, deleteBaselinesSQL, f.Deleted); err != nil {
			return fmt.Errorf("deleting baselines: %w", err)
		}
	}
	return nil
}

const (
	// One that is there is of a client that is gone.
	ownKeysSQL = `
insert into authz.dpop_key_owners (jkt, client_id, first_shown, last_shown)
select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
on conflict (jkt) do update set client_id = excluded.client_id, first_shown = excluded.first_shown, last_shown = excluded.last_shown`
	showKeysSQL = `
update authz.dpop_key_owners o set last_shown = greatest(o.last_shown, k.shown)
from unnest($1::text[], $2::text[], $3::timestamptz[]) as k (jkt, client_id, shown)
where o.jkt = k.jkt and o.client_id = k.client_id`
)

func keepKeyOwners(ctx context.Context, tx pgx.Tx, f watch.Findings) error {
	columns := func(owners []watch.KeyOwner) (jkts, clients []string, first, last []time.Time) {
		for _, o := range owners {
			jkts, clients = append(jkts, o.JKT), append(clients, o.ClientID)
			first, last = append(first, o.FirstShown), append(last, o.LastShown)
		}
		return jkts, clients, first, last
	}
	if len(f.Owned) > 0 {
		jkts, clients, first, last := columns(f.Owned)
		if _, err := tx.Exec(ctx, ownKeysSQL, jkts, clients, first, last); err != nil {
			return fmt.Errorf("keeping who has shown keys: %w", err)
		}
	}
	if len(f.Shown) > 0 {
		jkts, clients, _, last := columns(f.Shown)
		if _, err := tx.Exec(ctx, showKeysSQL, jkts, clients, last); err != nil {
			return fmt.Errorf("keeping who has shown keys again: %w", err)
		}
	}
	return nil
}

const (
	forgetAlertsSQL    = `select authz.forget_alerts($1)`
	forgetKeyOwnersSQL = `select coalesce(authz.forget_key_owners($1, $2, $3), '')`
	// What a client leaves behind whose end the trail does not tell of.
	forgetBaselinesSQL = `
delete from authz.client_baselines b where not exists (select from authz.clients c where c.id = b.client_id)`
)

// ForgetBehaviour is watch.Keeper's.
func (s *Store) ForgetBehaviour(ctx context.Context, now time.Time, after string, keys int) (next string, err error) {
	var alerts int64
	if err := s.pool.QueryRow(ctx, forgetAlertsSQL, now).Scan(&alerts); err != nil {
		return "", fmt.Errorf("forgetting old alerts: %w", err)
	}
	if after == "" {
		if _, err := s.pool.Exec(ctx, forgetBaselinesSQL); err != nil {
			return "", fmt.Errorf("forgetting clients that are gone: %w", err)
		}
	}
	if err := s.pool.QueryRow(ctx, forgetKeyOwnersSQL, now, after, keys).Scan(&next); err != nil {
		return "", fmt.Errorf("forgetting old keys: %w", err)
	}
	return next, nil
}
