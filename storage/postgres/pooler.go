package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/migrations"
)

// ErrPooler is returned by Open, and fails requests, where what a pooler in
// transaction mode hands out is not fit to be shared: the login has more rights
// than the server, or its settings are not the server's.
var ErrPooler = errors.New("there is a pooler before the database, and what it hands out does not do")

// behindPooler tells whether a Store's connection is shared with others between
// two transactions: PgBouncer, for one, gives its clients process ids of its own
// making. In its session mode it would not be, and is taken for shared all the
// same.
func behindPooler(conn *pgx.Conn) bool {
	pooled, _ := conn.PgConn().CustomData()[pooledKey].(bool)
	return pooled
}

// Direct fails with ErrPooler where conn leads to a pooler, for whoever needs what
// lasts for longer than a transaction, as migrations do.
func Direct(ctx context.Context, conn *pgx.Conn) error {
	var pid uint32
	if err := conn.QueryRow(ctx, `select pg_catalog.pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return fmt.Errorf("looking for a pooler: %w", err)
	}
	if pid != conn.PgConn().PID() {
		return fmt.Errorf("%w: connect to Postgres itself", ErrPooler)
	}
	return nil
}

// pooledKey is where a connection keeps whether there is a pooler.
const pooledKey = "authz pooled"

// names tells whether a database's URL sets a parameter.
func names(databaseURL, parameter string) bool {
	u, err := url.Parse(databaseURL)
	return err == nil && u.Query().Has(parameter)
}

// checkExecMode leaves the two ways to send statements that know the types of their
// parameters from Postgres, and take one transaction for what belongs together: of
// the others a pooler could execute another's statement.
func checkExecMode(c *pgx.ConnConfig) error {
	switch c.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe:
		return nil
	default:
		return errors.New("the database URL's default_query_exec_mode may be cache_statement or cache_describe")
	}
}

// pooledSettingsSQL says how the login is given what sessionSQL and AsServer set.
// Plans matter where statements are prepared: each other one is planned for its
// values, at each execution.
const pooledSettingsSQL = `
select format('alter role %I in database %I set %s = %L;', session_user, current_database(), s.name, s.wanted)
from (values
  ('default_transaction_isolation', 'read committed', current_setting('default_transaction_isolation') = 'read committed'),
  ('synchronous_commit', 'on', current_setting('synchronous_commit') not in ('off', 'local')),
  ('statement_timeout', '10s', current_setting('statement_timeout') <> '0'),
  ('plan_cache_mode', 'force_generic_plan', not $1 or current_setting('plan_cache_mode') = 'force_generic_plan'),
  ('enable_seqscan', 'off', not $1 or current_setting('enable_seqscan') = 'off'),
  ('enable_bitmapscan', 'off', not $1 or current_setting('enable_bitmapscan') = 'off'),
  ('enable_memoize', 'off', not $1 or current_setting('enable_memoize') = 'off'),
  ('jit', 'off', not $1 or current_setting('jit') = 'off')
) s (name, wanted, good)
where not s.good`

// checkPooledSettings names what is to be set for the login.
func checkPooledSettings(ctx context.Context, conn *pgx.Conn) error {
	prepared := conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
	rows, err := conn.Query(ctx, pooledSettingsSQL, pgx.QueryExecModeExec, prepared)
	if err != nil {
		return fmt.Errorf("reading the login's settings: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("reading the login's settings: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: run this, and let the pooler connect anew: %s", ErrPooler, strings.Join(missing, " "))
	}
	return nil
}

// A role that the login could become, or whose rights it has, is one that the
// server's role has as well; and it owns nothing, and was granted nothing by name.
const pooledLoginSQL = `
select r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls
  or exists (select from pg_catalog.pg_roles o where o.oid <> r.oid and pg_catalog.pg_has_role(r.oid, o.oid, 'member')
    and not pg_catalog.pg_has_role(s.oid, o.oid, 'member'))
  or exists (select from pg_catalog.pg_namespace n join pg_catalog.pg_class c on c.relnamespace = n.oid,
      lateral pg_catalog.aclexplode(c.relacl) a
    where n.nspname = 'authz' and a.grantee = r.oid),
  pg_catalog.pg_has_role(r.oid, s.oid, 'usage') and current_user = session_user
from pg_catalog.pg_roles r, pg_catalog.pg_roles s
where r.rolname = session_user and s.rolname = '` + migrations.ServerRole + `'`

// checkPooledLogin lets in a login that needs not be lowered. There is no lowering
// it: the connection is another's in the next transaction.
func checkPooledLogin(ctx context.Context, conn *pgx.Conn) error {
	var mightier, member bool
	if err := conn.QueryRow(ctx, pooledLoginSQL, pgx.QueryExecModeExec).Scan(&mightier, &member); err != nil {
		return fmt.Errorf("reading the login's rights: %w", err)
	}
	switch {
	case mightier:
		return fmt.Errorf("%w: the login has more rights than %s; log in as a mere member of it", ErrPooler, migrations.ServerRole)
	case !member:
		return fmt.Errorf("%w: the login is no member of %s, or the pooler has left another role in a connection", ErrPooler, migrations.ServerRole)
	}
	return nil
}
