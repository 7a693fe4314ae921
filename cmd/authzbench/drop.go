package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/storage/postgres"
)

// dropRow is token requests while a day of partitions is dropped.
const dropRow = "drop"

// dropOfDay is what becomes of token requests while all partitions of a day are
// dropped: 24 of tokens, and 24 of spent proofs.
type dropOfDay struct {
	Partitions int       `json:"partitions"`
	TookMillis []float64 `json:"took_ms"` // of each round, in ascending order
	Quiet      result    `json:"quiet"`   // turns in which none is dropped
	Dropping   result    `json:"dropping"`
}

const (
	oldHours        = 24
	keptHours       = 3 // the hour itself, and two after it
	dropConnections = 16
)

// measureDrop has turns with a drop and without, in turn.
func (b *bench) measureDrop(ctx context.Context, row row, full *kit) (*dropOfDay, error) {
	b.say("dropping a day of partitions")
	store, err := postgres.Open(ctx, full.databaseURL, postgres.AsServer())
	if err != nil {
		return nil, err
	}
	defer store.Close()
	quiet := &series{row: row, connections: dropConnections, kit: full, on: full.server, pid: full.server.pid()}
	dropping := *quiet
	// One in a hundred requests of a shorter one would be too few to tell anything.
	length := min(5*b.o.duration, maxTurn)
	if _, err := b.takeTurn(ctx, quiet, b.o.duration); err != nil {
		return nil, err
	}
	d := &dropOfDay{Partitions: 2 * oldHours}
	for len(d.TookMillis) < b.o.rounds {
		// Before both turns, so that both come after as much writing.
		if err := full.makeOldDay(ctx); err != nil {
			return nil, fmt.Errorf("making partitions of a day that is over: %w", err)
		}
		calm, err := b.takeTurn(ctx, quiet, length)
		if err != nil {
			return nil, err
		}
		end := beginDrop(ctx, store, full.databaseURL, length/3)
		rough, err := b.takeTurn(ctx, &dropping, length)
		had, took, dropErr := end()
		if err := errors.Join(err, dropErr); err != nil {
			return nil, err
		}
		if had < d.Partitions { // the server's own upkeep came before
			continue
		}
		quiet.rounds, dropping.rounds = append(quiet.rounds, calm), append(dropping.rounds, rough)
		d.TookMillis = append(d.TookMillis, float64(took.Microseconds())/1000)
	}
	slices.Sort(d.TookMillis)
	d.Quiet, d.Dropping = quiet.result(), dropping.result()
	return d, nil
}

// beginDrop drops what is old after a while, by the upkeep of a server. What it
// returns waits for that, and tells how many partitions there were to drop, and how
// long it took until none was left.
func beginDrop(ctx context.Context, store *postgres.Store, databaseURL string, after time.Duration) (end func() (had int, took time.Duration, err error)) {
	done := make(chan struct{})
	var had int
	var took time.Duration
	var failed error
	go func() {
		defer close(done)
		time.Sleep(after)
		if had, failed = oldPartitions(ctx, databaseURL); failed != nil {
			return
		}
		begun := time.Now()
		for left := had; left > 0 && failed == nil; {
			if failed = store.Maintain(ctx, now()); failed == nil {
				took = time.Since(begun)
				left, failed = oldPartitions(ctx, databaseURL)
			}
		}
	}()
	return func() (int, time.Duration, error) {
		<-done
		return had, took, failed
	}
}

const oldPartitionsSQL = `
select count(*)::int from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent in ('authz.tokens'::regclass, 'authz.spent_proofs'::regclass)
  and right(c.relname, 11) collate "C" < $1`

// oldPartitions counts those that upkeep would drop now.
func oldPartitions(ctx context.Context, databaseURL string) (n int, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return 0, fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, oldPartitionsSQL, now().Truncate(time.Hour).Add(-keptHours*time.Hour).Format("20060102_15")).Scan(&n)
	return n, err
}

// makeOldDay makes partitions of 24 hours that are over, and fills them. The server's
// own upkeep, every few minutes, may drop one that is about to be filled.
func (k *kit) makeOldDay(ctx context.Context) (err error) {
	var missing *pgconn.PgError
	for range 5 {
		if err = k.makeOldHours(ctx); !errors.As(err, &missing) || missing.Code != "23514" { // check_violation: there is no partition
			return err
		}
	}
	return err
}

func (k *kit) makeOldHours(ctx context.Context) error {
	begins := now().Truncate(time.Hour).Add(-(oldHours + keptHours) * time.Hour)
	for hour := range oldHours {
		at := begins.Add(time.Duration(hour) * time.Hour)
		for _, family := range []string{"tokens", "spent_proofs"} {
			if _, err := k.db.Exec(ctx, `select authz.ensure_partition($1, $2, $3)`, family, at, at.Add(time.Hour)); err != nil {
				return err
			}
		}
		if err := k.filled.fillHour(ctx, k.databaseURL, at); err != nil {
			return err
		}
	}
	return nil
}

// targets are those of a drop; nil has none.
func (d *dropOfDay) targets() []target {
	if d == nil {
		return nil
	}
	return []target{
		atMost("a day of partitions is dropped, the slowest", "s", d.TookMillis[len(d.TookMillis)-1]/1000, 1),
		atMost("p99 of token requests meanwhile", "of that without", d.Dropping.P99/d.Quiet.P99, 1.15),
	}
}
