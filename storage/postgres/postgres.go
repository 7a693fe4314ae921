// Package postgres is the authz.Store on Postgres, by pgx.
//
// Every write goes with its audit event in one statement or one transaction.
// What must happen once is a conditional write whose row count is the verdict.
// Times come from the caller as parameters; the database's clock decides
// nothing but, as a second opinion, what is old enough to drop.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/migrations"
)

// ErrSchema is returned by Open and Ready where the database's schema is not
// one that this build knows.
var ErrSchema = errors.New("the database's schema is not the one that this build knows")

// Store is an authz.Store. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	// What requests ask at the same time, they ask in one statement.
	calls   *group[admitting, authz.Verdict]
	records *group[authz.Issue, recorded]
	lookups *group[lookup, found]
}

var _ authz.Store = (*Store)(nil)

// connectTimeout bounds one attempt at one connection, where the URL does not.
const connectTimeout = 5 * time.Second

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
// answered for must survive a crash: a database may wait for more than its own
// disk, but not for less.
const sessionSQL = `
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off;
set enable_bitmapscan = off;
set enable_memoize = off;
set jit = off;
set default_transaction_isolation = 'read committed';
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`

// statementTimeout ends a server's statement, in milliseconds, that nobody
// waits for any more: no request waits this long.
const statementTimeout = "10000"

// Option changes how Open connects.
type Option func(*pgxpool.Config)

// AsServer gives each connection the rights of the server's role and no more:
// a login that has more, such as the schema's owner, is lowered to it. It is
// no wall against who controls the connection, and a login that is a mere
// member of the role is better.
func AsServer() Option {
	return func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
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
	}
}

// Configure changes the pool's configuration directly.
func Configure(f func(*pgxpool.Config)) Option { return f }

// Open connects to the database at url, which needs to be reachable, and
// refuses one whose schema this build does not know with ErrSchema. Close the
// Store when done.
func Open(ctx context.Context, url string, options ...Option) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL is not well-formed") // pgx's own error may quote the password
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "authz"
	}
	for _, o := range options {
		o(config)
	}
	prepare := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, sessionSQL); err != nil {
			return fmt.Errorf("preparing a connection: %w", err)
		}
		if prepare == nil {
			return nil
		}
		return prepare(ctx, conn)
	}
	// The schema is looked at over a connection without AsServer, whose role
	// exists only once the schema does.
	if err := checkSchema(ctx, config.ConnConfig); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	s := &Store{pool: pool}
	s.calls = newGroup(s.admitCalls, proofOf)
	s.records = newGroup(s.recordTokens, issueName)
	s.lookups = newGroup(s.activeTokens, nothingApart)
	return s, nil
}

func checkSchema(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close(ctx)
	status, err := migrations.Read(ctx, conn)
	switch {
	case err != nil:
		return err
	case status.Current < status.Known:
		return fmt.Errorf("%w: it is at version %d, this build needs %d: run authz migrate", ErrSchema, status.Current, status.Known)
	case status.Current > status.Known:
		return fmt.Errorf("%w: it is at version %d, this build knows %d: run a newer build", ErrSchema, status.Current, status.Known)
	}
	return nil
}

// Close waits for what is under way and closes all connections.
func (s *Store) Close() {
	s.calls.close()
	s.records.close()
	s.lookups.close()
	s.pool.Close()
}

const readySQL = `
select version, authz.has_partitions($1), current_setting('transaction_read_only')::boolean from authz.schema_version`

// Ready is authz.Store's. A schema that is newer than this build is one that
// migrations left usable for it.
func (s *Store) Ready(ctx context.Context, now time.Time) error {
	var version int32
	var partitions, readOnly bool
	if err := s.pool.QueryRow(ctx, readySQL, now).Scan(&version, &partitions, &readOnly); err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	switch {
	case version < migrations.Known():
		return fmt.Errorf("%w: %w: version %d", authz.ErrNotPrepared, ErrSchema, version)
	case readOnly: // a standby, after a failover that the URL does not follow
		return fmt.Errorf("%w: it is read-only", authz.ErrNotPrepared)
	case !partitions:
		return fmt.Errorf("%w: there is no partition for now", authz.ErrNotPrepared)
	}
	return nil
}

const (
	createPartitionsSQL = `select authz.create_partitions($1)`
	dropPartitionSQL    = `select authz.drop_old_partition($1, $2)`
)

// Maintain is authz.Store's. Each drop is a transaction of its own, so that
// requests wait for one at most, and for a moment.
func (s *Store) Maintain(ctx context.Context, now time.Time) error {
	if _, err := s.pool.Exec(ctx, createPartitionsSQL, now); err != nil {
		return fmt.Errorf("creating partitions: %w", err)
	}
	for _, family := range []string{"tokens", "spent_proofs", "audit_events"} {
		for dropped := true; dropped; {
			if err := s.pool.QueryRow(ctx, dropPartitionSQL, family, now).Scan(&dropped); err != nil {
				return fmt.Errorf("dropping an old partition of %s: %w", family, err)
			}
		}
	}
	return nil
}

// inTx runs f in a transaction that ends with the audit event.
func (s *Store) inTx(ctx context.Context, event authz.AuditEvent, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return recordEvent(ctx, tx, event)
	})
}

// isUniqueViolation tells whether what was to be written was there already.
func isUniqueViolation(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505" // unique_violation
}

// violates tells whether err is the violation of a constraint of this name.
func violates(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.ConstraintName == constraint
}
