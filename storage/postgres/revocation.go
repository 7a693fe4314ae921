package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// A token carries the generations of its client and of its resource, and names its
// keys. So many of them end by a change of what they refer to, and none of their
// rows is touched.
const (
	revokeClientSQL   = `update authz.clients set generation = default where id = $1`
	revokeResourceSQL = `update authz.resources set generation = default where uri = $1`
	revokeDPoPKeySQL  = `insert into authz.revoked_dpop_keys (jkt, revoked_at) values ($1, $2) on conflict do nothing`
)

// RevokeClientTokens is authz.Store's.
func (s *Store) RevokeClientTokens(ctx context.Context, clientID string, event authz.AuditEvent) error {
	return s.changeClient(ctx, clientID, event, revokeClientSQL, clientID)
}

// RevokeResourceTokens is authz.Store's.
func (s *Store) RevokeResourceTokens(ctx context.Context, uri string, event authz.AuditEvent) error {
	event.Resource = uri
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		changed, err := tx.Exec(ctx, revokeResourceSQL, uri)
		if err == nil && changed.RowsAffected() == 0 {
			return authz.ErrNotFound
		}
		return err
	})
	return unless("revoking a resource's tokens", err, authz.ErrNotFound)
}

// RevokeDPoPKey is authz.Store's.
func (s *Store) RevokeDPoPKey(ctx context.Context, jkt string, event authz.AuditEvent) error {
	event.JKT = jkt
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, revokeDPoPKeySQL, jkt, event.At)
		return err
	})
	if err != nil {
		return fmt.Errorf("revoking a DPoP key: %w", err)
	}
	return nil
}
