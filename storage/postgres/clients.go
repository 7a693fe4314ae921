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

// One row a client, all that is known of it.
const (
	clientColumns = `
  c.id, c.token_endpoint_auth_method, c.token_format, c.allow_bearer, c.require_nonce,
  c.tls_client_auth_subject_dn, c.tls_client_auth_san_dns, c.tls_client_auth_san_uri, c.tls_client_auth_san_ip,
  c.tls_client_auth_san_email, c.tls_client_certificate_bound_access_tokens, c.generation, c.auth_revision, c.revision,
  c.created_at, c.disabled_at, c.dpop_keys,
  array(select s.digest from authz.client_secrets s
        where s.client_id = c.id and ` + inForce + `), `
	keysColumns   = ` c.jwks, c.jwks_uri, c.key_names,`
	gatewayColumn = `
  array(select i.resource from authz.gateway_resources i where i.client_id = c.id order by i.resource collate "C")`
	grantsColumn = `
  (select coalesce(json_agg(g order by g.resource collate "C"), '[]') from (
     select g.resource, r.token_ttl, r.allow_bearer, r.allow_certificate_bound, r.signing_alg, r.revision, json_agg(g.scope order by g.scope collate "C") as scopes
     from authz.grants g join authz.resources r on r.uri = g.resource
     where g.client_id = c.id
     group by g.resource, r.token_ttl, r.allow_bearer, r.allow_certificate_bound, r.signing_alg, r.revision) g)`
)

const clientSQL = `
select` + clientColumns + keysColumns + gatewayColumn + `,` + grantsColumn + `
from authz.clients c
where c.id = $2`

const clientsSQL = `
select` + clientColumns + keysColumns + gatewayColumn + `,` + grantsColumn + `
from authz.clients c
order by c.id collate "C"`

// A secret is looked for by its digest, whose bytes nobody can choose; that it
// is the right one is decided elsewhere, in constant time. Public keys are of no use to who comes with
// a secret, and may be many.
const claimantSQL = `
select` + clientColumns + `
  null::text, null::text, null::text[],
  case when p.proven then ` + gatewayColumn + ` end,
  case when p.proven then ` + grantsColumn + ` else '[]' end,
  case when isfinite(p.expires_at) then p.expires_at end, coalesce(p.proven, false)
from (select) one
left join lateral (
  select ` + inForce + ` as proven, s.expires_at from authz.client_secrets s where s.client_id = $2 and s.digest = $3) p on true
left join authz.clients c on c.id = $2`

// Client is authz.Store's.
func (s *Store) Client(ctx context.Context, id string, now time.Time) (*authz.Client, error) {
	return s.client(ctx, scanClient, clientSQL, now, id)
}

// Claimant is authz.Store's.
func (s *Store) Claimant(ctx context.Context, id string, secret authz.Digest, now time.Time) (*authz.Client, error) {
	return s.client(ctx, scanClaimant, claimantSQL, now, id, secret[:])
}

func (s *Store) client(ctx context.Context, scan pgx.RowToFunc[*authz.Client], sql string, args ...any) (*authz.Client, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading a client: %w", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scan)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, authz.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("reading a client: %w", err)
	case c.ID == "":
		return nil, authz.ErrNotFound
	}
	return c, nil
}

// Clients is authz.Store's.
func (s *Store) Clients(ctx context.Context, now time.Time) ([]*authz.Client, error) {
	rows, err := s.pool.Query(ctx, clientsSQL, now)
	if err != nil {
		return nil, fmt.Errorf("reading clients: %w", err)
	}
	clients, err := pgx.CollectRows(rows, scanClient)
	if err != nil {
		return nil, fmt.Errorf("reading clients: %w", err)
	}
	return clients, nil
}

// scanClaimant reads a row of claimantSQL.
func scanClaimant(row pgx.CollectableRow) (*authz.Client, error) {
	var endsAt *time.Time
	var proven bool
	c, err := scanClientAnd(row, &endsAt, &proven)
	switch {
	case err != nil || endsAt == nil:
	case proven:
		c.SecretEndsAt = *endsAt
	default:
		c.SecretEndedAt = *endsAt
	}
	return c, err
}

func scanClient(row pgx.CollectableRow) (*authz.Client, error) { return scanClientAnd(row) }

// scanClientAnd reads a client, and what a statement has after it.
func scanClientAnd(row pgx.CollectableRow, more ...any) (*authz.Client, error) {
	var (
		c                      authz.Client
		id, authMethod, format *string
		name                   [5]*string
		keySet, keysAt, keys   *string
		allowBearer, nonce     *bool
		certificateBound       *bool
		generation             *int64
		authRevision, revision *int64
		createdAt, disabledAt  *time.Time
		secrets                [][]byte
		grants                 []struct {
			Resource    string   `json:"resource"`
			TokenTTL    int      `json:"token_ttl"`
			AllowBearer bool     `json:"allow_bearer"`
			SigningAlg  string   `json:"signing_alg"` // null leaves it empty
			Scopes      []string `json:"scopes"`

			AllowCertificateBound bool `json:"allow_certificate_bound"`

			Revision int64 `json:"revision"`
		}
	)
	columns := []any{&id, &authMethod, &format, &allowBearer, &nonce, &name[0], &name[1], &name[2], &name[3], &name[4],
		&certificateBound, &generation, &authRevision, &revision, &createdAt, &disabledAt, &keys, &secrets, &keySet, &keysAt, &c.KeyNames,
		&c.Introspects, &grants}
	if err := row.Scan(append(columns, more...)...); err != nil {
		return nil, err
	}
	if id == nil { // not registered
		return &c, nil
	}
	c.ID, c.AuthMethod, c.TokenFormat = *id, authz.AuthMethod(*authMethod), authz.TokenFormat(*format)
	c.AllowBearer, c.RequireNonce, c.CreatedAt = *allowBearer, *nonce, *createdAt
	c.DPoPKeys, c.Generation, c.AuthRevision, c.Revision = authz.DPoPKeyPolicy(*keys), *generation, *authRevision, *revision
	if disabledAt != nil {
		c.DisabledAt = *disabledAt
	}
	c.TLSName = certificateName(name)
	c.JWKSURI, c.CertificateBound = orEmpty(keysAt), *certificateBound
	if keySet != nil {
		c.JWKS = []byte(*keySet)
	}
	for _, digest := range secrets {
		c.Secrets = append(c.Secrets, authz.Digest(digest))
	}
	for _, g := range grants {
		c.Grants = append(c.Grants, authz.Grant{
			Resource: g.Resource, Scopes: g.Scopes, AllowBearer: g.AllowBearer,
			TokenTTL: time.Duration(g.TokenTTL) * time.Second, SigningAlg: jwks.Algorithm(g.SigningAlg),
			AllowCertificateBound: g.AllowCertificateBound, Revision: g.Revision,
		})
	}
	return &c, nil
}

// certificateName is of the columns of a certificate's name, in the order of
// clientColumns.
func certificateName(columns [5]*string) authz.CertificateName {
	return authz.CertificateName{
		SubjectDN: orEmpty(columns[0]), DNS: orEmpty(columns[1]), URI: orEmpty(columns[2]), IP: orEmpty(columns[3]), Email: orEmpty(columns[4]),
	}
}

const (
	createClientSQL = `
insert into authz.clients (id, token_endpoint_auth_method, token_format, allow_bearer, created_at, require_nonce,
  tls_client_auth_san_dns, tls_client_auth_san_uri, dpop_keys, tls_client_auth_subject_dn, tls_client_auth_san_ip,
  tls_client_auth_san_email, jwks, jwks_uri, key_names, tls_client_certificate_bound_access_tokens)
values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, 'any'), $10, $11, $12, $13, $14, $15, $16)
returning generation, auth_revision, revision`
	addSecretSQL  = `insert into authz.client_secrets (client_id, digest, created_at) values ($1, $2, $3)`
	addGrantSQL   = `insert into authz.grants (client_id, resource, scope) select $1, $2, unnest($3::text[])`
	addGatewaySQL = `insert into authz.gateway_resources (client_id, resource) select $1, unnest($2::text[])`
)

// Whoever changes a resource, or who fronts one, holds this row first. A client
// refers to several of them, which they may be about to delete one after another.
const holdRegistrationsSQL = `select from authz.gateway_revision where only_row for update`

// CreateClient is authz.Store's.
func (s *Store) CreateClient(ctx context.Context, c *authz.Client, event authz.AuditEvent) error {
	event.ClientID = c.ID
	var generation, authRevision, revision int64
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, holdRegistrationsSQL); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, createClientSQL, c.ID, string(c.AuthMethod), string(c.TokenFormat), c.AllowBearer, event.At, c.RequireNonce,
			orNull(c.TLSName.DNS), orNull(c.TLSName.URI), orNull(string(c.DPoPKeys)), orNull(c.TLSName.SubjectDN), orNull(c.TLSName.IP),
			orNull(c.TLSName.Email), orNull(string(c.JWKS)), orNull(c.JWKSURI), c.KeyNames, c.CertificateBound).Scan(&generation, &authRevision, &revision); err != nil {
			return err
		}
		for _, digest := range c.Secrets {
			if _, err := tx.Exec(ctx, addSecretSQL, c.ID, digest[:], event.At); err != nil {
				return err
			}
		}
		for _, g := range c.Grants {
			if _, err := tx.Exec(ctx, addGrantSQL, c.ID, g.Resource, g.Scopes); violates(err, "grants_scope_fkey") {
				return fmt.Errorf("%w: a grant of %v at %s", authz.ErrNotDefined, g.Scopes, g.Resource)
			} else if err != nil {
				return err
			}
		}
		if len(c.Introspects) == 0 { // an empty insert would end all gateway tables as well
			return nil
		}
		_, err := tx.Exec(ctx, addGatewaySQL, c.ID, c.Introspects)
		return err
	})
	switch {
	case err == nil:
		c.Generation, c.AuthRevision, c.Revision = generation, authRevision, revision
		return nil
	case violates(err, "clients_pkey"):
		return authz.ErrExists
	case isNameTaken(err):
		return authz.ErrNameTaken
	case errors.Is(err, authz.ErrNotDefined):
		return err
	case violates(err, "gateway_resources_resource_fkey"):
		return fmt.Errorf("%w: to introspect %v", authz.ErrNotDefined, c.Introspects)
	default:
		return fmt.Errorf("creating a client: %w", err)
	}
}

// Tokens carry the generation of their client. Disabling begins a new one, so
// that enabling brings none of them back: a client is disabled when something is
// wrong, and its tokens may be in other hands.
const (
	disableClientSQL = `
update authz.clients set disabled_at = coalesce(disabled_at, $2), generation = default where id = $1`
	enableClientSQL = `update authz.clients set disabled_at = null where id = $1`
	deleteClientSQL = `delete from authz.clients where id = $1`
)

// SetClientDisabled is authz.Store's.
func (s *Store) SetClientDisabled(ctx context.Context, id string, disabled bool, event authz.AuditEvent) error {
	if disabled {
		return s.changeClient(ctx, id, event, disableClientSQL, id, event.At)
	}
	return s.changeClient(ctx, id, event, enableClientSQL, id)
}

// DeleteClient is authz.Store's.
func (s *Store) DeleteClient(ctx context.Context, id string, event authz.AuditEvent) error {
	return s.changeClient(ctx, id, event, deleteClientSQL, id)
}

func (s *Store) changeClient(ctx context.Context, id string, event authz.AuditEvent, sql string, args ...any) error {
	event.ClientID = id
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		changed, err := tx.Exec(ctx, sql, args...)
		if err == nil && changed.RowsAffected() == 0 {
			return authz.ErrNotFound
		}
		return err
	})
	if err != nil && !errors.Is(err, authz.ErrNotFound) {
		return fmt.Errorf("changing a client: %w", err)
	}
	return err
}
