package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

const databaseStateSQL = `select own, same_timeline, fence from authz.database_state()`

// rowQueryer is a connection, a pool or a transaction.
type rowQueryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// databaseRow is what database_state returns; a row that says nothing says no.
type databaseRow struct {
	own, same *bool
	fence     *time.Time
}

// state fails with authz.ErrCopied where the database is a copy of the one that was
// served.
func (r *databaseRow) state() (authz.DatabaseState, error) {
	state := authz.DatabaseState{SameTimeline: r.same != nil && *r.same}
	if r.fence != nil {
		state.Fence = *r.fence
	}
	if r.own == nil || !*r.own {
		return state, authz.ErrCopied
	}
	return state, nil
}

func readDatabase(ctx context.Context, from rowQueryer) (authz.DatabaseState, error) {
	var row databaseRow
	err := from.QueryRow(ctx, databaseStateSQL).Scan(&row.own, &row.same, &row.fence)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return authz.DatabaseState{}, fmt.Errorf("reading which database this is: %w", err)
	}
	return row.state()
}

// fence is the moment up to which nothing that was signed is accepted, in
// microseconds since 1970; 0: there is none. It is read with each connection, before
// the first statement, and behind a pooler before each: none is made to a copy.
type fence struct{ at atomic.Int64 }

func (f *fence) raise(to time.Time) {
	if to.IsZero() {
		return
	}
	for {
		at := f.at.Load()
		if to.UnixMicro() <= at || f.at.CompareAndSwap(at, to.UnixMicro()) {
			return
		}
	}
}

// shuts tells whether what is to be spent may have been spent in the time that a
// restored database knows nothing of.
func (f *fence) shuts(out authz.Spending) bool {
	at := f.at.Load()
	if at == 0 {
		return false
	}
	signed := out.SignedAt
	if signed.IsZero() {
		signed = out.IssuedAt
	}
	return signed.UnixMicro() <= at
}

// shutsIssue fails with what RecordToken does for what was spent.
func (f *fence) shutsIssue(issue authz.Issue) error {
	switch {
	case issue.Assertion != nil && f.shuts(*issue.Assertion):
		return authz.ErrAssertionSpent
	case issue.Proof != nil && f.shuts(*issue.Proof):
		return authz.ErrProofSpent
	}
	return nil
}

// heed reads which database a server's connection leads to.
func (f *fence) heed(ctx context.Context, conn *pgx.Conn) error {
	state, err := readDatabase(ctx, conn)
	if err != nil {
		return err
	}
	f.raise(state.Fence)
	return nil
}

// Database is authz.Store's.
func (s *Store) Database(ctx context.Context) (authz.DatabaseState, error) {
	state, err := readDatabase(ctx, s.pool)
	if err == nil {
		s.fence.raise(state.Fence)
	}
	return state, err
}

const (
	claimDatabaseSQL = `select authz.claim_database($1)`
	// Every token is for a resource, and carries its generation.
	endAllTokensSQL = `update authz.resources set generation = default`
	lastEventSQL    = `select max(at) from authz.audit_events`
)

// ClaimMoved says that this database is the one that was served, whole and moved: no
// request was answered after what is in it.
func (s *Store) ClaimMoved(ctx context.Context, event authz.AuditEvent) error {
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, claimDatabaseSQL, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("claiming a database that was moved: %w", err)
	}
	return nil
}

// ClaimRestored says that this database is to be served although it lacks the last of
// what was answered: in one step, all tokens are inactive, and nothing is accepted
// from then on that was signed up to the fence, or up to two seconds before by the
// database's clock. It fails where the fence is a minute ahead of that. It returns when
// the last event before was, as far as the database knows; the zero time: there is none.
func (s *Store) ClaimRestored(ctx context.Context, fence time.Time, event authz.AuditEvent) (last time.Time, err error) {
	err = s.inTx(ctx, event, func(tx pgx.Tx) error {
		var at *time.Time
		if err := tx.QueryRow(ctx, lastEventSQL).Scan(&at); err != nil {
			return err
		}
		if at != nil {
			last = *at
		}
		if _, err := tx.Exec(ctx, endAllTokensSQL); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, claimDatabaseSQL, fence)
		return err
	})
	if err != nil {
		return last, fmt.Errorf("claiming a restored database: %w", err)
	}
	return last, nil
}
