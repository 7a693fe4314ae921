package postgres

import (
	"context"
	"fmt"
	"time"
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
	window := 2 * until.Sub(issuedAt)
	spent, err := s.pool.Exec(ctx, spendProofSQL, key[:], issuedAt, issuedAt.Add(-window), issuedAt.Add(window))
	if err != nil {
		return false, fmt.Errorf("spending a proof: %w", err)
	}
	return spent.RowsAffected() == 1, nil
}

// proofPartition is how much time a partition of spent proofs is for.
const proofPartition = time.Hour

// crossesPartitions tells whether what lies between two moments may lie in
// several partitions. In one, the unique index alone keeps names apart.
func crossesPartitions(since, until time.Time) bool {
	return !since.Truncate(proofPartition).Equal(until.Truncate(proofPartition))
}
