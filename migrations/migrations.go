// Package migrations brings a database to the schema that this build knows.
//
// The files NNNN_name.sql are embedded, run in order, each in a transaction of
// its own, and only ever forward. They run as the schema's owner; the server
// logs in as another role, which may use what they grant to authz_server and
// nothing else.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed *.sql
var files embed.FS

// ServerRole is the database role whose rights the server has. It cannot log
// in: an operator's login role is made a member of it.
const ServerRole = "authz_server"

// versionTable is where the schema's version is kept. The server may read it.
const versionTable = "authz.schema_version"

// Status is where a database stands.
type Status struct {
	Current int32 `json:"current"` // 0: no migration has run
	Known   int32 `json:"known"`   // the last migration of this build
}

// Known is the version of the schema that this build was written for.
func Known() int32 {
	names, err := migrate.FindMigrations(files)
	if err != nil {
		panic("migrations: the embedded files are not a sequence: " + err.Error())
	}
	return int32(len(names))
}

// Up runs the migrations that the database lacks. It takes a lock of its own,
// so that of several callers one migrates and the others find it done. It
// refuses a database that is ahead of this build.
func Up(ctx context.Context, conn *pgx.Conn) error {
	return upTo(ctx, conn, Known())
}

func upTo(ctx context.Context, conn *pgx.Conn, version int32) error {
	current, err := Read(ctx, conn)
	if err != nil {
		return err
	}
	if current.Current > version {
		return fmt.Errorf("the schema is at version %d, this build knows %d: use the newer build", current.Current, version)
	}
	if current.Current == 0 {
		if err := createSchema(ctx, conn); err != nil {
			return err
		}
	}
	m, err := migrate.NewMigrator(ctx, conn, versionTable)
	if err != nil {
		return fmt.Errorf("preparing to migrate: %w", err)
	}
	if err := m.LoadMigrations(files); err != nil {
		return fmt.Errorf("loading migrations: %w", err)
	}
	if err := m.MigrateTo(ctx, version); err != nil {
		return fmt.Errorf("migrating: %w", withHint(err))
	}
	return nil
}

// withHint adds what Postgres advises, which pgx leaves out of its message.
func withHint(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Hint != "" {
		return fmt.Errorf("%w; %s", err, pgErr.Hint)
	}
	return err
}

// createSchema makes the schema that holds everything, the version table of
// the migrations included. The lock keeps two first runs apart.
func createSchema(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('authz.schema', 0))`); err != nil {
			return fmt.Errorf("locking the schema: %w", err)
		}
		// Not "if not exists": that asks for the right to create schemas even
		// of an owner for whom this one was made.
		var there bool
		if err := tx.QueryRow(ctx, `select exists (select from pg_catalog.pg_namespace where nspname = 'authz')`).Scan(&there); err != nil {
			return fmt.Errorf("looking for schema authz: %w", err)
		}
		if there {
			return nil
		}
		if _, err := tx.Exec(ctx, `create schema authz`); err != nil {
			return fmt.Errorf("creating schema authz: %w", err)
		}
		return nil
	})
}

// Read tells where the database stands. It writes nothing.
func Read(ctx context.Context, conn *pgx.Conn) (Status, error) {
	s := Status{Known: Known()}
	err := conn.QueryRow(ctx, `select version from authz.schema_version`).Scan(&s.Current)
	var pgErr *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows):
		return s, nil
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"): // undefined table, schema
		return s, nil
	default:
		return s, fmt.Errorf("reading the schema's version: %w", err)
	}
}
