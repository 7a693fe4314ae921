package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

const recordEventSQL = `
insert into authz.audit_events (` + eventColumns + `)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

const eventColumns = `id, at, kind, actor, client_id, resource, jti, jkt, request_id, remote_addr, detail`

func recordEvent(ctx context.Context, tx pgx.Tx, e authz.AuditEvent) error {
	if _, err := tx.Exec(ctx, recordEventSQL, eventValues(e)...); err != nil {
		return fmt.Errorf("recording the audit event: %w", err)
	}
	return nil
}

// eventValues are the values of eventColumns; what is empty is null.
func eventValues(e authz.AuditEvent) []any {
	var jti any
	if e.JTI != (authz.JTI{}) {
		jti = [16]byte(e.JTI)
	}
	var detail any
	if e.Detail != nil {
		detail = e.Detail
	}
	return []any{
		[16]byte(e.ID), e.At, string(e.Kind), e.Actor, orNull(e.ClientID), orNull(e.Resource),
		jti, orNull(e.JKT), orNull(e.RequestID), orNull(e.RemoteAddr), detail,
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
