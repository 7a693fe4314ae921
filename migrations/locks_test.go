package migrations

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Neither the requests that come meanwhile nor the migration wait for ever.
func letRequestsPass(t *testing.T, url string) {
	const before0008 = 7
	conn, holder, request := connect(t, url), connect(t, url), connect(t, url)
	if err := upTo(t.Context(), conn, before0008); err != nil {
		t.Fatal(err)
	}
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const read = `select count(*) from authz.clients`
	if _, err := tx.Exec(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	migrated := make(chan error, 1)
	go func() { migrated <- Up(t.Context(), conn) }()
	awaitLockWait(t, request, conn.PgConn().PID())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := request.Exec(ctx, read); err != nil {
		t.Errorf("a request behind a migration that waits: %v", err)
	}
	isAt(t, request, before0008)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Errorf("once nobody holds anything: %v", err)
	}
	isAt(t, request, Known())
}

// awaitLockWait returns once the connection waits for a lock.
func awaitLockWait(t *testing.T, asks *pgx.Conn, pid uint32) {
	t.Helper()
	for {
		var waits bool
		err := asks.QueryRow(t.Context(), `select exists (select from pg_locks where pid = $1 and not granted)`, pid).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		if waits {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func nameWhatIsHeld(t *testing.T, url string) {
	conn, holder := connect(t, url), connect(t, url)
	if err := upTo(t.Context(), conn, 7); err != nil {
		t.Fatal(err)
	}
	exec(t, holder, `begin`)
	exec(t, holder, `select count(*) from authz.clients`)
	before := describe(t, conn)
	err := untilUnlocked(t.Context(), 2, time.Millisecond, func() error { return migrateTo(t.Context(), conn, 8) })
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "pg_stat_activity") {
		t.Errorf("%v, want it to say what to do", err)
	}
	isAt(t, conn, 7)
	same(t, before, describe(t, conn))
	exec(t, holder, `rollback`)
	if err := Up(t.Context(), conn); err != nil {
		t.Error(err)
	}
}
