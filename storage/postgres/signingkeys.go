package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

const signingKeysSQL = `
select kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from
from authz.signing_keys order by signs_from, kid`

// SigningKeys is authz.Store's.
func (s *Store) SigningKeys(ctx context.Context) ([]jwks.SealedKey, error) {
	rows, err := s.pool.Query(ctx, signingKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k jwks.SealedKey, err error) {
		err = row.Scan(&k.KID, &k.Algorithm, &k.PublicJWK, &k.Sealed, &k.SealedBy, &k.CreatedAt, &k.SignsFrom)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	return keys, nil
}

// The lock is held to the end of the transaction: whoever comes second sees
// the key of the first.
const (
	lockSigningKeysSQL    = `select pg_advisory_xact_lock(hashtextextended('authz.signing_keys', 0))`
	addFirstSigningKeySQL = `
insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
select $1, $2, $3, $4, $5, $6, $7
where not exists (select from authz.signing_keys)`
)

// AddFirstSigningKey is authz.Store's.
func (s *Store) AddFirstSigningKey(ctx context.Context, k jwks.SealedKey, event authz.AuditEvent) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSigningKeysSQL); err != nil {
			return fmt.Errorf("locking the signing keys: %w", err)
		}
		added, err := tx.Exec(ctx, addFirstSigningKeySQL, k.KID, k.Algorithm, k.PublicJWK, k.Sealed, k.SealedBy, k.CreatedAt, k.SignsFrom)
		if err != nil {
			return fmt.Errorf("adding a signing key: %w", err)
		}
		if added.RowsAffected() == 0 {
			return nil // another instance was first
		}
		return recordEvent(ctx, tx, event)
	})
}
