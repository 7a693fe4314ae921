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

const resourcesSQL = `
select r.uri, r.token_ttl, r.allow_bearer, r.allow_certificate_bound, r.require_nonce, r.signing_alg, r.created_at, r.updated_at, r.revision,
  array(select s.scope from authz.resource_scopes s where s.resource = r.uri order by s.scope collate "C"),
  array(select b.base_url from authz.resource_base_urls b where b.resource = r.uri order by b.base_url collate "C"),
  (select coalesce(json_agg(json_build_object('method', o.method, 'path', o.path, 'scopes', o.scopes)
     order by o.path || ' ' || o.method collate "C"), '[]')
   from authz.routes o where o.resource = r.uri)
from authz.resources r
where $1 = '' or r.uri = $1
order by r.uri collate "C"`

// Resource is authz.Store's.
func (s *Store) Resource(ctx context.Context, uri string) (*authz.Resource, error) {
	found, err := readResources(ctx, s.pool, uri)
	switch {
	case err != nil:
		return nil, err
	case uri == "" || len(found) == 0:
		return nil, authz.ErrNotFound
	}
	return found[0], nil
}

// Resources is authz.Store's.
func (s *Store) Resources(ctx context.Context) ([]*authz.Resource, error) {
	return readResources(ctx, s.pool, "")
}

// queryer is a pool or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readResources(ctx context.Context, q queryer, uri string) ([]*authz.Resource, error) {
	rows, err := q.Query(ctx, resourcesSQL, uri)
	if err != nil {
		return nil, fmt.Errorf("reading resources: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*authz.Resource, error) {
		var r authz.Resource
		var seconds int
		var alg *string
		err := row.Scan(&r.URI, &seconds, &r.AllowBearer, &r.AllowCertificateBound, &r.RequireNonce, &alg, &r.CreatedAt, &r.UpdatedAt, &r.Revision,
			&r.Scopes, &r.BaseURLs, &r.Routes)
		r.TokenTTL, r.SigningAlg = time.Duration(seconds)*time.Second, jwks.Algorithm(orEmpty(alg))
		return &r, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading resources: %w", err)
	}
	return found, nil
}

const (
	createResourceSQL = `
insert into authz.resources (uri, token_ttl, allow_bearer, require_nonce, created_at, updated_at, signing_alg, allow_certificate_bound)
values ($1, $2, $3, $4, $5, $5, $6, $7)
returning revision`
	// Who has read an older revision has not seen what it would undo.
	updateResourceSQL = `
update authz.resources set token_ttl = $2, allow_bearer = $3, require_nonce = $4, updated_at = $5, signing_alg = $7, allow_certificate_bound = $8,
  revision = default
where uri = $1 and revision = $6
returning revision`
	resourceExistsSQL = `select exists (select from authz.resources where uri = $1)`
	addScopesSQL      = `
insert into authz.resource_scopes (resource, scope) select $1, unnest($2::text[]) on conflict do nothing`
	removeScopesSQL   = `delete from authz.resource_scopes where resource = $1 and scope <> all ($2::text[])`
	removeBaseURLsSQL = `delete from authz.resource_base_urls where resource = $1`
	addBaseURLsSQL    = `insert into authz.resource_base_urls (resource, base_url) select $1, unnest($2::text[])`
	removeRoutesSQL   = `delete from authz.routes where resource = $1`
	addRoutesSQL      = `
insert into authz.routes (resource, method, path, scopes)
select $1, o.method, o.path, coalesce(o.scopes, '{}')
from jsonb_to_recordset($2) as o (method text, path text, scopes text[])`
	deleteResourceSQL = `delete from authz.resources where uri = $1`
)

// CreateResource is authz.Store's.
func (s *Store) CreateResource(ctx context.Context, r *authz.Resource, event authz.AuditEvent) error {
	event.Resource = r.URI
	var revision int64
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, createResourceSQL, r.URI, int(r.TokenTTL/time.Second), r.AllowBearer, r.RequireNonce, event.At,
			orNull(string(r.SigningAlg)), r.AllowCertificateBound).Scan(&revision)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, addScopesSQL, r.URI, r.Scopes); err != nil {
			return err
		}
		return addURLsAndRoutes(ctx, tx, r)
	})
	switch {
	case err == nil:
		r.Revision = revision
		return nil
	case violates(err, "resources_pkey"):
		return authz.ErrExists
	case violates(err, "resource_base_urls_pkey"):
		return fmt.Errorf("%w: one of %v", authz.ErrURLTaken, r.BaseURLs)
	default:
		return fmt.Errorf("creating a resource: %w", err)
	}
}

func addURLsAndRoutes(ctx context.Context, tx pgx.Tx, r *authz.Resource) error {
	if _, err := tx.Exec(ctx, addBaseURLsSQL, r.URI, r.BaseURLs); err != nil {
		return err
	}
	if len(r.Routes) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, addRoutesSQL, r.URI, r.Routes)
	return err
}

// UpdateResource is authz.Store's.
func (s *Store) UpdateResource(ctx context.Context, r *authz.Resource, event authz.AuditEvent) error {
	event.Resource = r.URI
	var revision int64
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, updateResourceSQL, r.URI, int(r.TokenTTL/time.Second), r.AllowBearer, r.RequireNonce, event.At, r.Revision,
			orNull(string(r.SigningAlg)), r.AllowCertificateBound).Scan(&revision)
		if errors.Is(err, pgx.ErrNoRows) {
			return notUpdated(ctx, tx, r.URI)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, addScopesSQL, r.URI, r.Scopes); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, removeScopesSQL, r.URI, r.Scopes); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, removeBaseURLsSQL, r.URI); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, removeRoutesSQL, r.URI); err != nil {
			return err
		}
		return addURLsAndRoutes(ctx, tx, r)
	})
	switch {
	case err == nil:
		r.Revision = revision
		return nil
	case violates(err, "resource_base_urls_pkey"):
		return fmt.Errorf("%w: one of %v", authz.ErrURLTaken, r.BaseURLs)
	}
	return inUse("updating a resource", err)
}

// notUpdated tells a resource that is not there from one that has changed.
func notUpdated(ctx context.Context, tx pgx.Tx, uri string) error {
	var there bool
	if err := tx.QueryRow(ctx, resourceExistsSQL, uri).Scan(&there); err != nil {
		return err
	}
	if there {
		return authz.ErrChanged
	}
	return authz.ErrNotFound
}

// DeleteResource is authz.Store's.
func (s *Store) DeleteResource(ctx context.Context, uri string, event authz.AuditEvent) error {
	event.Resource = uri
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		deleted, err := tx.Exec(ctx, deleteResourceSQL, uri)
		if err == nil && deleted.RowsAffected() == 0 {
			return authz.ErrNotFound
		}
		return err
	})
	return inUse("deleting a resource", err)
}

func inUse(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case violates(err, "grants_scope_fkey"), violates(err, "gateway_resources_resource_fkey"):
		return authz.ErrInUse
	case errors.Is(err, authz.ErrNotFound), errors.Is(err, authz.ErrChanged):
		return err
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
