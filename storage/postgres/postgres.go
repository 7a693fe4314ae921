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
	room room
	// What requests ask at the same time, they ask in one statement.
	calls   *group[admitting, authz.Verdict]
	records *group[authz.Issue, recorded]
	lookups *group[lookup, found]
	fence   fence
	// What is kept of tokens, for look-ups and for calls, which know other things of them.
	kept, keptCalls keptTokens
}

var _ authz.Store = (*Store)(nil)

// Option changes how Open connects.
type Option func(*opening)

// opening is what Open goes by.
type opening struct {
	*pgxpool.Config
	traced bool
	serves bool // and so takes no copy for the database that it is a copy of
}

// Configure changes the pool's configuration directly.
func Configure(f func(*pgxpool.Config)) Option { return func(c *opening) { f(c.Config) } }

// Open connects to the database at url, which needs to be reachable, and
// refuses one whose schema this build may not use with ErrSchema, a pooler that does
// not do with ErrPooler, and for a server one that is a copy with authz.ErrCopied. Of
// several hosts it uses the one that is the primary. Close the Store when done.
func Open(ctx context.Context, url string, options ...Option) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL is not well-formed") // pgx's own error may quote the password
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "authz"
	}
	how := opening{Config: config}
	for _, o := range options {
		o(&how)
	}
	s := &Store{}
	if err := checkExecMode(config.ConnConfig); err != nil {
		return nil, err
	}
	boundNetwork(config)
	primaries := &primaries{}
	primaries.onlyFrom(config.ConnConfig)
	primaries.survey(ctx, config.ConnConfig)
	config.BeforeConnect = primaries.choose
	if how.traced {
		config.ConnConfig.Tracer = statementTracer{}
	}
	// The schema is looked at over a connection without AsServer, whose role
	// exists only once the schema does.
	pooled, err := probe(ctx, config.ConnConfig, how.serves)
	if err != nil {
		return nil, err
	}
	if pooled && !names(url, "default_query_exec_mode") {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	s.kept.off, s.keptCalls.off = pooled, pooled
	prepare := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, config.ConnConfig.ConnectTimeout) // pgxpool sets none
		defer cancel()
		s.kept.forget()
		s.keptCalls.forget()
		if err := prepareSession(ctx, conn, pooled); err != nil {
			return err
		}
		if prepare != nil {
			if err := prepare(ctx, conn); err != nil {
				return err
			}
		}
		if !how.serves {
			return nil
		}
		return s.fence.heed(ctx, conn)
	}
	if pooled && how.serves {
		// A pooler may have been led elsewhere since. What is refused here is closed, and
		// the next connection says why.
		config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
			return s.fence.heed(ctx, conn) == nil, nil
		}
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	// What is still connected to a primary that was succeeded is of no use.
	primaries.onSuccession(s.pool.Reset)
	s.calls = newGroup(s.admit, proofOf)
	s.calls.alike = alikeCalls
	s.records = newGroup(s.recordTokens, issueName)
	s.lookups = newGroup(s.lookUp, nil)
	s.lookups.alike = alikeLookups
	if how.traced {
		s.calls.traced, s.records.traced, s.lookups.traced = "admit calls", "record tokens", "look up tokens"
	}
	return s, nil
}

// probe looks at the schema, for a server at which database it is, and whether there
// is a pooler before it.
func probe(ctx context.Context, config *pgx.ConnConfig, serves bool) (pooled bool, err error) {
	once := config.Copy()
	once.DefaultQueryExecMode = pgx.QueryExecModeExec // which leaves nothing behind in a pooler
	conn, err := pgx.ConnectConfig(ctx, once)
	if err != nil {
		return false, fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close(ctx)
	return behindPooler(conn), checkDatabase(ctx, conn, serves)
}

func checkDatabase(ctx context.Context, conn *pgx.Conn, serves bool) error {
	status, err := migrations.Read(ctx, conn)
	switch {
	case err != nil:
		return err
	case status.Current < status.Known:
		return fmt.Errorf("%w: it is at version %d, this build needs %d: run authz migrate", ErrSchema, status.Current, status.Known)
	case !status.Usable():
		return fmt.Errorf("%w: it is at version %d, this build knows %d: run a newer build", ErrSchema, status.Current, status.Known)
	}
	if !serves {
		return nil
	}
	_, err = readDatabase(ctx, conn)
	return err
}

// PoolStat tells of the connections.
func (s *Store) PoolStat() *pgxpool.Stat { return s.pool.Stat() }

// Close waits for what is under way and closes all connections.
func (s *Store) Close() {
	s.calls.close()
	s.records.close()
	s.lookups.close()
	s.pool.Close()
}

const readySQL = `
select d.own, d.same_timeline, d.fence,
  v.version, o.version, authz.has_partitions($1), current_setting('transaction_read_only')::boolean
from authz.schema_version v cross join authz.oldest_build o left join authz.database_state() d on true`

// Ready is authz.Store's.
func (s *Store) Ready(ctx context.Context, now time.Time) error {
	schema := migrations.Status{Known: migrations.Known()}
	var database databaseRow
	var partitions, readOnly bool
	err := s.pool.QueryRow(ctx, readySQL, now).Scan(&database.own, &database.same, &database.fence,
		&schema.Current, &schema.Oldest, &partitions, &readOnly)
	switch {
	case isNoPrimary(err):
		return fmt.Errorf("%w: it is read-only: %w", authz.ErrNotPrepared, err)
	case err != nil:
		return fmt.Errorf("reading the schema: %w", err)
	}
	state, err := database.state()
	if err != nil {
		return err
	}
	s.fence.raise(state.Fence)
	switch {
	case !schema.Usable():
		return fmt.Errorf("%w: %w: version %d", authz.ErrNotPrepared, ErrSchema, schema.Current)
	case readOnly: // a standby, after a failover that the URL does not follow
		return fmt.Errorf("%w: it is read-only", authz.ErrNotPrepared)
	case !partitions:
		return fmt.Errorf("%w: there is no partition for now", authz.ErrNotPrepared)
	case s.room.lacks(now):
		return fmt.Errorf("%w: its disk is full", authz.ErrNotPrepared)
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
	for _, family := range []string{"tokens", "spent_proofs", "audit_events", "audit_seals"} {
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
