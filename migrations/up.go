package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
)

// A migration that waits for a table makes every request wait that comes after it.
// So it waits for a moment only, gives back all that it has, and tries again.
const (
	lockTimeout = 200 * time.Millisecond // of each lock of a migration
	lockPause   = time.Second            // in which those who waited get on
	lockTries   = 60
)

// ErrLocked is returned by Up where something has held what a migration needs for
// about a minute, such as a long transaction or a backup. Nothing is left of that
// migration; those before it are done.
var ErrLocked = errors.New("a transaction holds what the migration needs, and has not ended within a minute: " +
	"let it end, or end it (pg_stat_activity, the oldest xact_start), and run authz migrate again")

// Up runs the migrations that the database lacks. It takes a lock of its own,
// so that of several callers one migrates and the others find it done. Servers may
// run meanwhile: it makes none of their requests wait for longer than a moment. A
// database that is ahead of this build it leaves as it is, and refuses where this
// build may not use it. It fails with ErrLocked.
func Up(ctx context.Context, conn *pgx.Conn) error {
	if err := upTo(ctx, conn, Known()); err != nil {
		return err
	}
	return indexTrail(ctx, conn)
}

func upTo(ctx context.Context, conn *pgx.Conn, version int32) error {
	current, err := Read(ctx, conn)
	if err != nil {
		return err
	}
	if current.Current > version {
		if current.Usable() {
			return nil
		}
		return fmt.Errorf("the schema is at version %d, this build knows %d: use the newer build", current.Current, version)
	}
	if current.Current == 0 {
		if err := createSchema(ctx, conn); err != nil {
			return err
		}
	}
	return untilUnlocked(ctx, lockTries, lockPause, func() error { return migrateTo(ctx, conn, version) })
}

// untilUnlocked does it again where it fails for a lock.
func untilUnlocked(ctx context.Context, tries int, pause time.Duration, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "55P03" { // lock_not_available
			return err
		}
		if try == tries {
			return fmt.Errorf("%w: %w", ErrLocked, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func migrateTo(ctx context.Context, conn *pgx.Conn, version int32) error {
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return fmt.Errorf("preparing to migrate: %w", err)
	}
	if err := m.LoadMigrations(files); err != nil {
		return fmt.Errorf("loading migrations: %w", err)
	}
	for _, one := range m.Migrations {
		// In each, since every setting is reset after it.
		one.UpSQL = fmt.Sprintf("set local lock_timeout = %d;\n", lockTimeout.Milliseconds()) + one.UpSQL
	}
	if err := m.MigrateTo(ctx, version); err != nil {
		return fmt.Errorf("migrating: %w", withHint(err))
	}
	return nil
}
