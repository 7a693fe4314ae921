// Package migrations brings a database to the schema that this build knows.
//
// The files NNNN_name.sql are embedded, run in order, each in a transaction of
// its own, and only ever forward. They run as the schema's owner; the server
// logs in as another role, which may use what they grant to authz_server and
// nothing else.
//
// Servers of the version before run on while a migration does, and after it, and may
// be started anew on what it leaves. So from the ninth on a migration takes nothing
// away and renames nothing; makes no column not null, or without a default; writes no
// table anew; and on what grows with traffic it validates no constraint and makes no
// index. What is to go goes with a later migration, when no build is left that uses
// it. From the tenth on each ends by saying which builds may use the schema:
//
//	update authz.oldest_build set version = N;
//
// where N is that of the one before it, unless it takes something away from builds
// that know no version after it. Tests hold migrations to all of this.
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
	// Oldest is the version that a build must know to use the schema, where it is
	// ahead of this build; 0: the schema does not say.
	Oldest int32 `json:"oldest_build,omitempty"`
}

// Usable tells whether this build may use the schema: it is its own, or a later one
// that migrations have left usable for it.
func (s Status) Usable() bool {
	return s.Current == s.Known || s.Current > s.Known && s.Oldest != 0 && s.Oldest <= s.Known
}

// Known is the version of the schema that this build was written for.
func Known() int32 {
	names, err := migrate.FindMigrations(files)
	if err != nil {
		panic("migrations: the embedded files are not a sequence: " + err.Error())
	}
	return int32(len(names))
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
	var err error
	if s.Current, err = readNumber(ctx, conn, `select version from authz.schema_version`); err != nil {
		return s, fmt.Errorf("reading the schema's version: %w", err)
	}
	if s.Current <= s.Known {
		return s, nil
	}
	if s.Oldest, err = readNumber(ctx, conn, `select version from authz.oldest_build`); err != nil {
		return s, fmt.Errorf("reading which builds the schema is for: %w", err)
	}
	return s, nil
}

// readNumber is 0 where the table is not there, or is empty.
func readNumber(ctx context.Context, conn *pgx.Conn, sql string) (n int32, err error) {
	err = conn.QueryRow(ctx, sql).Scan(&n)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000"): // undefined table, schema
		return 0, nil
	}
	return n, err
}
