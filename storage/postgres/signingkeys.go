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

const addFirstSigningKeySQL = `select authz.add_first_signing_key($1, $2, $3, $4, $5, $6, $7)`

// AddFirstSigningKey is authz.Store's.
func (s *Store) AddFirstSigningKey(ctx context.Context, k jwks.SealedKey, event authz.AuditEvent) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var added bool
		err := tx.QueryRow(ctx, addFirstSigningKeySQL, k.KID, k.Algorithm, k.PublicJWK, k.Sealed, k.SealedBy, k.CreatedAt, k.SignsFrom).Scan(&added)
		if err != nil {
			return fmt.Errorf("adding a signing key: %w", err)
		}
		if !added {
			return nil // another instance was first
		}
		return recordEvent(ctx, tx, event)
	})
}
