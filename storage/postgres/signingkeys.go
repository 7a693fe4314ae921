package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
)

const signingKeysSQL = `
select kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from, retires_at, revoked_at
from authz.signing_keys order by signs_from, kid collate "C"`

// SigningKeys is authz.Store's.
func (s *Store) SigningKeys(ctx context.Context) ([]jwks.SealedKey, error) {
	rows, err := s.pool.Query(ctx, signingKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k jwks.SealedKey, err error) {
		var retired, revoked *time.Time
		err = row.Scan(&k.KID, &k.Algorithm, &k.PublicJWK, &k.Sealed, &k.SealedBy, &k.CreatedAt, &k.SignsFrom, &retired, &revoked)
		if retired != nil {
			k.RetiredAt = *retired
		}
		if revoked != nil {
			k.RevokedAt = *revoked
		}
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	return keys, nil
}

const (
	addFirstSigningKeySQL = `select authz.add_first_signing_key($1, $2, $3, $4, $5, $6, $7)`
	addNextSigningKeySQL  = `select authz.add_next_signing_key($1, $2, $3, $4, $5, $6, $7, $8)`
)

// signingKeyValues are the parameters $1 to $7 of the statements that add a key.
func signingKeyValues(k jwks.SealedKey) []any {
	return []any{k.KID, string(k.Algorithm), k.PublicJWK, k.Sealed, k.SealedBy, k.CreatedAt, k.SignsFrom}
}

// AddFirstSigningKey is authz.Store's.
func (s *Store) AddFirstSigningKey(ctx context.Context, k jwks.SealedKey, event authz.AuditEvent) error {
	_, err := s.addSigningKeyIf(ctx, event, addFirstSigningKeySQL, signingKeyValues(k)...)
	return err
}

// AddNextSigningKey is authz.Store's.
func (s *Store) AddNextSigningKey(ctx context.Context, k jwks.SealedKey, after string, event authz.AuditEvent) (bool, error) {
	return s.addSigningKeyIf(ctx, event, addNextSigningKeySQL, append(signingKeyValues(k), after)...)
}

// addSigningKeyIf lets a function of the schema decide.
func (s *Store) addSigningKeyIf(ctx context.Context, event authz.AuditEvent, sql string, args ...any) (added bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, sql, args...).Scan(&added); err != nil {
			return fmt.Errorf("adding a signing key: %w", err)
		}
		if !added {
			return nil
		}
		return recordEvent(ctx, tx, event)
	})
	return added && err == nil, err
}

// What operators do with keys, one after the other and not while an instance
// adds one: the lock is the functions' own.
const (
	lockSigningKeysSQL = `select pg_advisory_xact_lock(hashtextextended('authz.signing_keys', 0))`
	newestKeySQL       = `
select coalesce((
  select kid from authz.signing_keys where alg = $1 and retires_at is null and revoked_at is null
  order by signs_from desc, kid collate "C" desc limit 1), '')`
	addSigningKeySQL = `
insert into authz.signing_keys (kid, alg, public_jwk, sealed_private, sealed_by, created_at, signs_from)
values ($1, $2, $3, $4, $5, $6, $7)`
	revokeSigningKeySQL = `
update authz.signing_keys set revoked_at = coalesce(revoked_at, $2) where kid = $1`
	// Whoever came before one that has begun does not sign again, and counts for
	// none that could.
	retireSupersededSQL = `
update authz.signing_keys o set retires_at = $2
from authz.signing_keys k
where k.kid = $1 and k.signs_from < $2 and o.alg = k.alg and o.retires_at is null and o.revoked_at is null
  and (o.signs_from, o.kid collate "C") < (k.signs_from, k.kid collate "C")`
	signingKeyExistsSQL = `select exists (select from authz.signing_keys where kid = $1)`
	// Another key takes over only if it comes later, or signs while this one has
	// yet to; one that came before was superseded for good.
	retireSigningKeySQL = `
update authz.signing_keys k set retires_at = coalesce(k.retires_at, $2)
where k.kid = $1 and (
  k.retires_at is not null or k.revoked_at is not null
  or $3 and not exists (select from authz.resources where signing_alg = k.alg)
  or exists (
    select from authz.signing_keys o
    where o.alg = k.alg and o.kid <> k.kid and o.retires_at is null and o.revoked_at is null
      and (k.signs_from > $2 or (o.signs_from, o.kid collate "C") > (k.signs_from, k.kid collate "C"))))`
	resealSigningKeySQL = `
update authz.signing_keys set sealed_private = $2, sealed_by = $3 where kid = $1`
)

// AddSigningKey is authz.Store's.
func (s *Store) AddSigningKey(ctx context.Context, k jwks.SealedKey, after string, event authz.AuditEvent, revoked ...authz.KeyRevocation) error {
	return s.changeSigningKeys(ctx, "adding a signing key", event, func(tx pgx.Tx) error {
		var newest string
		if err := tx.QueryRow(ctx, newestKeySQL, string(k.Algorithm)).Scan(&newest); err != nil {
			return err
		}
		if newest != after {
			return authz.ErrChanged
		}
		for _, r := range revoked {
			if err := revokeSigningKey(ctx, tx, r.KID, r.Event.At); err != nil {
				return err
			}
			if err := recordEvent(ctx, tx, r.Event); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, addSigningKeySQL, signingKeyValues(k)...)
		return err
	})
}

// SigningKeyRecorded is authz.Store's. Whoever adds a key holds the lock from before
// the row to the end of the commit.
func (s *Store) SigningKeyRecorded(ctx context.Context, kid string) (recorded bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSigningKeysSQL); err != nil {
			return err
		}
		return tx.QueryRow(ctx, signingKeyExistsSQL, kid).Scan(&recorded)
	})
	if err != nil {
		return false, fmt.Errorf("looking for a signing key: %w", err)
	}
	return recorded, nil
}

// RetireSigningKey is authz.Store's.
func (s *Store) RetireSigningKey(ctx context.Context, kid string, last bool, event authz.AuditEvent) error {
	return s.changeSigningKeys(ctx, "retiring a signing key", event, func(tx pgx.Tx) error {
		retired, err := tx.Exec(ctx, retireSigningKeySQL, kid, event.At, last)
		if err != nil {
			return err
		}
		if retired.RowsAffected() > 0 {
			_, err := tx.Exec(ctx, retireSupersededSQL, kid, event.At)
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, signingKeyExistsSQL, kid).Scan(&there); err != nil {
			return err
		}
		if there {
			return authz.ErrOnlySigner
		}
		return authz.ErrNotFound
	})
}

// RevokeSigningKey is authz.Store's.
func (s *Store) RevokeSigningKey(ctx context.Context, kid string, event authz.AuditEvent) error {
	return s.changeSigningKeys(ctx, "revoking a signing key", event, func(tx pgx.Tx) error {
		return revokeSigningKey(ctx, tx, kid, event.At)
	})
}

func revokeSigningKey(ctx context.Context, tx pgx.Tx, kid string, at time.Time) error {
	revoked, err := tx.Exec(ctx, revokeSigningKeySQL, kid, at)
	if err != nil {
		return err
	}
	if revoked.RowsAffected() == 0 {
		return authz.ErrNotFound
	}
	_, err = tx.Exec(ctx, retireSupersededSQL, kid, at)
	return err
}

// ResealSigningKeys is authz.Store's.
func (s *Store) ResealSigningKeys(ctx context.Context, keys []jwks.SealedKey, event authz.AuditEvent) error {
	return s.changeSigningKeys(ctx, "sealing signing keys anew", event, func(tx pgx.Tx) error {
		for _, k := range keys {
			changed, err := tx.Exec(ctx, resealSigningKeySQL, k.KID, k.Sealed, k.SealedBy)
			if err != nil {
				return err
			}
			if changed.RowsAffected() == 0 {
				return authz.ErrNotFound
			}
		}
		return nil
	})
}

func (s *Store) changeSigningKeys(ctx context.Context, doing string, event authz.AuditEvent, change func(pgx.Tx) error) error {
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSigningKeysSQL); err != nil {
			return err
		}
		return change(tx)
	})
	for _, verdict := range []error{authz.ErrNotFound, authz.ErrChanged, authz.ErrOnlySigner} {
		if errors.Is(err, verdict) {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
