package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

const setClientKeysSQL = `
update authz.clients set jwks = $2, key_names = $3, jwks_uri = $4, auth_revision = default
where id = $1 and token_endpoint_auth_method in ('private_key_jwt', 'self_signed_tls_client_auth')`

// SetClientKeys is authz.Store's.
func (s *Store) SetClientKeys(ctx context.Context, id string, jwks []byte, names []string, uri string, event authz.AuditEvent) error {
	event.ClientID = id
	err := s.inTx(ctx, event, func(tx pgx.Tx) error {
		changed, err := tx.Exec(ctx, setClientKeysSQL, id, orNull(string(jwks)), names, orNull(uri))
		if err != nil || changed.RowsAffected() == 1 {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, clientExistsSQL, id).Scan(&exists); err != nil {
			return err
		}
		if exists {
			return authz.ErrNoKeys
		}
		return authz.ErrNotFound
	})
	if err != nil && !errors.Is(err, authz.ErrNotFound) && !errors.Is(err, authz.ErrNoKeys) {
		return fmt.Errorf("replacing a client's keys: %w", err)
	}
	return err
}
