package pgtest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func tablesIn(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select relname::text from pg_class c
		join pg_namespace n on n.oid = c.relnamespace
		where nspname in ('authz', 'public') and relkind in ('r', 'p') order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	one, two := pgtest.New(t), pgtest.New(t)
	a, b := connect(t, one.OwnerURL), connect(t, two.OwnerURL)
	exec(t, a, "create table only_in_one ()")
	before := tablesIn(t, b)
	for _, name := range before {
		if name == "only_in_one" {
			t.Fatal("a table made in one database is in the other")
		}
	}
	if len(before) == 0 {
		t.Fatal("a new database has no schema")
	}
	if diff := cmp.Diff(before, tablesIn(t, connect(t, pgtest.New(t).OwnerURL))); diff != "" {
		t.Errorf("copies of the template differ (-one +other):\n%s", diff)
	}
}

func TestEmptyDatabaseHasNoSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	if names := tablesIn(t, connect(t, db.OwnerURL)); len(names) != 0 {
		t.Errorf("it holds %v", names)
	}
	connect(t, db.ServerURL)
}

func TestServerRoleHasNoDDL(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t).ServerURL)
	var user string
	var super bool
	if err := conn.QueryRow(t.Context(), `select current_user::text, rolsuper from pg_roles where rolname = current_user`).Scan(&user, &super); err != nil {
		t.Fatal(err)
	}
	if user != "authz_server_login" || super {
		t.Errorf("logged in as %s, superuser %v", user, super)
	}
	for _, statement := range []string{"create table authz.mine ()", "drop schema authz cascade", "create schema mine"} {
		_, err := conn.Exec(t.Context(), statement)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" { // insufficient_privilege
			t.Errorf("%s: %v, want permission denied", statement, err)
		}
	}
}

func TestDatabaseIsDroppedWhenItsTestEnds(t *testing.T) {
	t.Parallel()
	admin := connect(t, pgtest.NewEmpty(t).OwnerURL)
	var name string
	t.Run("inner", func(t *testing.T) {
		// Left open: it must not keep the database alive.
		conn, err := pgx.Connect(t.Context(), pgtest.New(t).OwnerURL)
		if err != nil {
			t.Fatal(err)
		}
		name = conn.Config().Database
	})
	var there bool
	if err := admin.QueryRow(t.Context(), `select exists (select from pg_database where datname = $1)`, name).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		t.Errorf("%s is still there", name)
	}
}

func TestDatabasesAreMadeConcurrently(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			conn, err := pgx.Connect(t.Context(), pgtest.New(t).ServerURL)
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close(t.Context())
		})
	}
	wg.Wait()
}

func BenchmarkNew(b *testing.B) {
	pgtest.New(b) // starts Postgres and makes the template
	for b.Loop() {
		pgtest.New(b)
	}
}
