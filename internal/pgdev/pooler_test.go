//go:build linux || darwin

package pgdev

import (
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPoolerSpeaksForPostgresAndEnds(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	pooler, err := StartPooler(t.Context(), 1, nil, p.URL())
	if errors.Is(err, ErrNoPooler) && os.Getenv("AUTHZ_TEST_PGBOUNCER") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	url, err := pooler.URL(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	var pid uint32
	if err := conn.QueryRow(t.Context(), `select pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if pid == conn.PgConn().PID() {
		t.Error("the connection is not a pooler's")
	}
	dir, pgbouncer := pooler.runDir.path, pooler.proc.pid()
	if err := pooler.Stop(); err != nil {
		t.Fatal(err)
	}
	if alive(pgbouncer) || exists(dir) {
		t.Error("it leaves something behind")
	}
	_ = conn.Close(t.Context())
}
