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

// One statement, whatever the number of events: all of them are written or none.
const recordEventsSQL = `
insert into authz.audit_events (` + eventColumns + `)
select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],
  $7::uuid[], $8::text[], $9::text[], $10::text[], $11::jsonb[])`

// RecordEvents is authz.Store's.
func (s *Store) RecordEvents(ctx context.Context, events []authz.AuditEvent) error {
	if len(events) == 0 {
		return nil
	}
	if _, err := s.pool.Exec(ctx, recordEventsSQL, eventArrays(events)...); err != nil {
		return fmt.Errorf("recording audit events: %w", err)
	}
	return nil
}

// eventArrays are eventValues by column: the parameters of recordEventsSQL.
func eventArrays(events []authz.AuditEvent) []any {
	var columns [][]any
	for _, e := range events {
		values := eventValues(e)
		if columns == nil {
			columns = make([][]any, len(values))
		}
		for i, v := range values {
			columns[i] = append(columns[i], v)
		}
	}
	args := make([]any, len(columns))
	for i, c := range columns {
		args[i] = c
	}
	return args
}

// eventValues are the values of eventColumns; what is empty is null.
func eventValues(e authz.AuditEvent) []any {
	var jti any
	if e.JTI != (authz.JTI{}) {
		jti = [16]byte(e.JTI)
	}
	return []any{
		[16]byte(e.ID), e.At, string(e.Kind), e.Actor, orNull(e.ClientID), orNull(e.Resource),
		jti, orNull(e.JKT), orNull(e.RequestID), orNull(e.RemoteAddr), detailValue(e),
	}
}

// detailValue is what pgx takes for jsonb: a string as the JSON that it is.
func detailValue(e authz.AuditEvent) any {
	switch {
	case e.DetailJSON != "":
		return e.DetailJSON
	case e.Detail != nil:
		return e.Detail
	default:
		return nil
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
