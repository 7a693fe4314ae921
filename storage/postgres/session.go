package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/migrations"
)

// sessionSQL makes a connection independent of the defaults of the database and
// the login.
//
// Postgres would plan a statement over many partitions anew each time, which
// takes ten times as long as the look-up itself; a plan that is kept leaves out
// the partitions that do not matter when it runs. Such a plan is made while a
// partition holds little, when reading all of it looks cheap, and is still kept
// when it holds much: so each look-up is by the one index that is meant for it.
// What has no index is read whole all the same, which then looks dear enough for
// compiling, and is not. For the same reason what one token needs to know of its
// one client looks worth remembering, and is not.
//
// Statements rely on seeing what was committed before they began. And what is
// answered for must survive a crash, of the primary too where there is a standby
// to wait for: a database may wait for more, but not for less.
const sessionSQL = `
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off;
set enable_bitmapscan = off;
set enable_memoize = off;
set jit = off;
set default_transaction_isolation = 'read committed';
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local')`

// statementTimeout ends a server's statement, in milliseconds, that nobody
// waits for any more: no request waits this long.
const statementTimeout = "10000"

// AsServer gives each connection the rights of the server's role and no more:
// a login that has more, such as the schema's owner, is lowered to it. It is
// no wall against who controls the connection, and a login that is a mere
// member of the role is better; behind a pooler, whose connections belong to
// nobody, it is the only one that is let in.
func AsServer() Option {
	return func(c *opening) {
		c.serves = true
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if behindPooler(conn) {
				return checkPooledLogin(ctx, conn)
			}
			return lowerLogin(ctx, conn)
		}
	}
}

func lowerLogin(ctx context.Context, conn *pgx.Conn) error {
	var mightier bool
	err := conn.QueryRow(ctx, `
		select r.rolsuper or exists (
		  select from pg_catalog.pg_namespace n
		  where n.nspname = 'authz' and pg_catalog.pg_has_role(n.nspowner, 'usage'))
		from pg_catalog.pg_roles r where r.rolname = current_user`).Scan(&mightier)
	if err != nil {
		return fmt.Errorf("reading the login's rights: %w", err)
	}
	if _, err := conn.Exec(ctx, `set statement_timeout = `+statementTimeout); err != nil {
		return fmt.Errorf("preparing a connection: %w", err)
	}
	if !mightier {
		return nil
	}
	if _, err := conn.Exec(ctx, `set role `+migrations.ServerRole); err != nil {
		return fmt.Errorf("lowering the login to %[1]s: %[2]w; log in as a mere member of %[1]s, or as a superuser: grant %[1]s to the login", migrations.ServerRole, err)
	}
	return nil
}

// prepareSession is what each connection begins with. What a pooler hands out
// would keep a setting for whoever gets it next, and have it from whoever had it
// before: there the settings are the login's own, and are only looked at.
func prepareSession(ctx context.Context, conn *pgx.Conn, pooled bool) error {
	if behindPooler(conn) {
		if !pooled {
			// It would be used as what it is not, with statements that are prepared.
			return fmt.Errorf("%w: there was none when this began", ErrPooler)
		}
		return checkPooledSettings(ctx, conn)
	}
	if _, err := conn.Exec(ctx, sessionSQL); err != nil {
		return fmt.Errorf("preparing a connection: %w", err)
	}
	return nil
}
