package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cargokey/authz/authz"
)

// The look before the insert finds the same name with another iat, which may
// lie in another partition.
const spendProofSQL = `
insert into authz.spent_proofs (digest, iat)
select $1, $2
where not exists (select from authz.spent_proofs where digest = $1 and iat between $3 and $4)
on conflict do nothing`

// Spend makes the Store a dpopbind.Replay that all instances share, for checks
// of proofs that record no token.
func (s *Store) Spend(ctx context.Context, key [32]byte, issuedAt, until time.Time) (first bool, err error) {
	// The iats of two proofs that could be accepted at one moment lie less than
	// this apart: a lifetime, and the skew twice.
	err = s.spend(ctx, s.pool, authz.Spending{Digest: key, IssuedAt: issuedAt, Window: 2 * until.Sub(issuedAt)}, authz.ErrProofSpent)
	switch {
	case errors.Is(err, authz.ErrProofSpent):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("spending a proof: %w", err)
	}
	return true, nil
}

// SpendAssertion is authz.Store's.
func (s *Store) SpendAssertion(ctx context.Context, assertion authz.Spending) error {
	return unless("spending an assertion", s.spend(ctx, s.pool, assertion, authz.ErrAssertionSpent), authz.ErrAssertionSpent)
}

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// spend fails with before where the same name was spent, or may have been.
func (s *Store) spend(ctx context.Context, in execer, what authz.Spending, before error) error {
	spent, err := in.Exec(ctx, spendProofSQL, spendArgs(what)...)
	if err == nil && (spent.RowsAffected() == 0 || s.fence.shuts(what)) {
		return before
	}
	return err
}

// spendArgs are a name, its time, and the times at which it is the same one: at
// least those of its whole partition, whose unique index knows no times. What the
// index alone refused would be an error where two names are spent, and not a verdict.
func spendArgs(what authz.Spending) []any {
	from, to := what.IssuedAt.Add(-what.Window), what.IssuedAt.Add(what.Window)
	begins := what.IssuedAt.Truncate(proofPartition)
	if begins.Before(from) {
		from = begins
	}
	if ends := begins.Add(proofPartition - time.Microsecond); ends.After(to) {
		to = ends
	}
	return []any{what.Digest[:], what.IssuedAt, from, to}
}

// proofPartition is how much time a partition of spent proofs is for.
const proofPartition = time.Hour

// crossesPartitions tells whether what lies between two moments may lie in
// several partitions. In one, the unique index alone keeps names apart.
func crossesPartitions(since, until time.Time) bool {
	return !since.Truncate(proofPartition).Equal(until.Truncate(proofPartition))
}
