package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

const resourcesSQL = `
select r.uri, r.token_ttl, r.allow_bearer, r.created_at, r.updated_at,
  array(select s.scope from authz.resource_scopes s where s.resource = r.uri order by s.scope collate "C")
from authz.resources r
where $1 = '' or r.uri = $1
order by r.uri collate "C"`

// Resource is authz.Store's.
func (s *Store) Resource(ctx context.Context, uri string) (*authz.Resource, error) {
	found, err := s.resources(ctx, uri)
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
	return s.resources(ctx, "")
}

func (s *Store) resources(ctx context.Context, uri string) ([]*authz.Resource, error) {
	rows, err := s.pool.Query(ctx, resourcesSQL, uri)
	if err != nil {
		return nil, fmt.Errorf("reading resources: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*authz.Resource, error) {
		var r authz.Resource
		var seconds int
		err := row.Scan(&r.URI, &seconds, &r.AllowBearer, &r.CreatedAt, &r.UpdatedAt, &r.Scopes)
		r.TokenTTL = time.Duration(seconds) * time.Second
		return &r, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading resources: %w", err)
	}
	return found, nil
}

const (
	createResourceSQL = `
insert into authz.resources (uri, token_ttl, allow_bearer, created_at, updated_at) values ($1, $2, $3, $4, $4)`
	updateResourceSQL = `
update authz.resources set token_ttl = $2, allow_bearer = $3, updated_at = $4 where uri = $1`
	addScopesSQL = `
insert into authz.resource_scopes (resource, scope) select $1, unnest($2::text[]) on conflict do nothing`
	removeScopesSQL   = `delete from authz.resource_scopes where resource = $1 and scope <> all ($2::text[])`
	deleteResourceSQL = `delete from authz.resources where uri = $1`
)

// CreateResource is authz.Store's.
func (s *Store) CreateResource(ctx context.Context, r *authz.Resource, event authz.AuditEvent) error {
	event.Resource = r.URI
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, createResourceSQL, r.URI, int(r.TokenTTL/time.Second), r.AllowBearer, event.At); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, addScopesSQL, r.URI, r.Scopes)
		return err
	})
	if violates(err, "resources_pkey") {
		return authz.ErrExists
	}
	if err != nil {
		return fmt.Errorf("creating a resource: %w", err)
	}
	return nil
}

// UpdateResource is authz.Store's.
func (s *Store) UpdateResource(ctx context.Context, r *authz.Resource, event authz.AuditEvent) error {
	event.Resource = r.URI
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		updated, err := tx.Exec(ctx, updateResourceSQL, r.URI, int(r.TokenTTL/time.Second), r.AllowBearer, event.At)
		if err != nil {
			return err
		}
		if updated.RowsAffected() == 0 {
			return authz.ErrNotFound
		}
		if _, err := tx.Exec(ctx, addScopesSQL, r.URI, r.Scopes); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, removeScopesSQL, r.URI, r.Scopes)
		return err
	})
	return inUse("updating a resource", err)
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
	case errors.Is(err, authz.ErrNotFound):
		return authz.ErrNotFound
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}
