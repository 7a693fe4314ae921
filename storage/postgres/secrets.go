package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// inForce is which of a client's secrets s counts at $1.
const inForce = `not s.ended and (s.expires_at is null or s.expires_at > $1)`

// stillProvenSQL holds of the client c while it is enabled, of the registration that
// somebody authenticated as, and has what the credential names: whoever did so a
// moment before by what was taken away gets nothing any more. That a secret has run
// out since then does no harm. What is not kept here, keys at a URL and a name in a
// certificate, is as it was while the revision is.
func stillProvenSQL(credential, generation, authRevision, revision string) string {
	return registeredStillSQL(generation, revision) + ` and (` + revision + ` <> 0 or` + provenStillSQL(credential, authRevision) + `)`
}

// callerSQL is stillProvenSQL for those too whom a listener knows without a
// credential.
func callerSQL(credential, generation, authRevision, revision string) string {
	return registeredStillSQL(generation, revision) + ` and (` + revision + ` <> 0 or ` + credential + `::text is null or` + provenStillSQL(credential, authRevision) + `)`
}

// A client that was read for an earlier request is held to all that was read.
func registeredStillSQL(generation, revision string) string {
	return `
  c.disabled_at is null and c.generation = ` + generation + ` and (` + revision + ` = 0 or c.revision = ` + revision + `)`
}

func provenStillSQL(credential, authRevision string) string {
	return `
  case
    when c.token_endpoint_auth_method in ('client_secret_basic', 'client_secret_post') then exists (
      select from authz.client_secrets s where s.client_id = c.id and not s.ended and encode(substr(s.digest, 1, 6), 'hex') = ` + credential + `)
    when c.key_names is not null then ` + credential + ` = any (c.key_names)
    else ` + credential + `::text is not null and c.auth_revision = ` + authRevision + `
  end`
}

// The first statement waits, at its trigger, for whoever else changes a
// registration, so that the others see all secrets that there are.
const (
	addAnotherSecretSQL = `
insert into authz.client_secrets (client_id, digest, created_at)
select c.id, $2, $3 from authz.clients c where c.id = $1 and c.token_endpoint_auth_method in ('client_secret_basic', 'client_secret_post')`
	endOtherSecretsSQL = `
update authz.client_secrets set expires_at = least(expires_at, $3), ended = ended or $4
where client_id = $1 and digest <> $2`
	forgetSecretsSQL = `delete from authz.client_secrets where client_id = $1 and expires_at < $2`
	clientExistsSQL  = `select exists (select from authz.clients where id = $1)`
)

// RotateSecret is authz.Store's.
func (s *Store) RotateSecret(ctx context.Context, id string, secret authz.Digest, othersEnd time.Time, event authz.AuditEvent) error {
	event.ClientID = id
	atOnce := othersEnd.IsZero()
	if atOnce {
		othersEnd = event.At
	}
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		// Of two rotations at once, the later one knows the secret of the earlier.
		if _, err := tx.Exec(ctx, holdRegistrationsSQL); err != nil {
			return err
		}
		added, err := tx.Exec(ctx, addAnotherSecretSQL, id, secret[:], event.At)
		if err != nil {
			return err
		}
		if added.RowsAffected() == 0 {
			return whyNoSecret(ctx, tx, id)
		}
		if _, err := tx.Exec(ctx, endOtherSecretsSQL, id, secret[:], othersEnd, atOnce); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, forgetSecretsSQL, id, event.At.Add(-authz.SecretsKept))
		return err
	})
	switch {
	case err == nil, errors.Is(err, authz.ErrNotFound), errors.Is(err, authz.ErrNoSecrets):
		return err
	case violates(err, "client_secrets_client_id_fkey"): // it was deleted meanwhile
		return authz.ErrNotFound
	case violates(err, "client_secrets_pkey"):
		return authz.ErrExists
	default:
		return fmt.Errorf("rotating a secret: %w", err)
	}
}

func whyNoSecret(ctx context.Context, tx pgx.Tx, id string) error {
	var exists bool
	if err := tx.QueryRow(ctx, clientExistsSQL, id).Scan(&exists); err != nil {
		return err
	}
	if exists {
		return authz.ErrNoSecrets
	}
	return authz.ErrNotFound
}

const clientSecretsSQL = `
select s.digest, s.created_at, case when s.expires_at = '-infinity' then s.created_at else nullif(s.expires_at, 'infinity') end, s.ended
from authz.clients c left join authz.client_secrets s on s.client_id = c.id
where c.id = $1
order by s.created_at desc, s.digest`

// ClientSecrets is authz.Store's.
func (s *Store) ClientSecrets(ctx context.Context, id string) ([]authz.ClientSecret, error) {
	rows, err := s.pool.Query(ctx, clientSecretsSQL, id)
	if err != nil {
		return nil, fmt.Errorf("listing secrets: %w", err)
	}
	var (
		secrets            []authz.ClientSecret
		digest             []byte
		createdAt, expires *time.Time
		ended              *bool
	)
	found, err := pgx.ForEachRow(rows, []any{&digest, &createdAt, &expires, &ended}, func() error {
		if digest == nil { // the client has none
			return nil
		}
		secret := authz.ClientSecret{CreatedAt: *createdAt}
		secret.Digest, secret.Ended = authz.Digest(digest), *ended
		if expires != nil {
			secret.EndsAt = *expires
		}
		secrets = append(secrets, secret)
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("listing secrets: %w", err)
	case found.RowsAffected() == 0:
		return nil, authz.ErrNotFound
	}
	return secrets, nil
}
