package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Partitions that events with a place may lie in, and that were there before the index
// on places. Those that come have it.
const trailUnindexedSQL = `
select c.relname::text
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid, authz.audit_positions p
where i.inhparent = 'authz.audit_events'::regclass
  and (regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('([^']+)'\)$r$))[1]::timestamptz > p.began_at
  and not exists (
    select from pg_catalog.pg_index x where x.indrelid = c.oid and x.indisvalid and pg_get_indexdef(x.indexrelid) like '%(recorded_in)')
order by 1`

// indexTrail makes the index on places for those partitions of the audit trail, while
// events are written to them: for as long as one is without, whoever follows the trail
// reads all of it. It waits for the transactions of this database that are under way. Of
// several callers one is at it, and the others do not wait.
func indexTrail(ctx context.Context, conn *pgx.Conn) error {
	const name = `hashtextextended('authz.trail_index', 0)`
	var mine bool
	if err := conn.QueryRow(ctx, `select pg_try_advisory_lock(`+name+`)`).Scan(&mine); err != nil || !mine {
		return err
	}
	defer conn.Exec(context.WithoutCancel(ctx), `select pg_advisory_unlock(`+name+`)`)
	rows, err := conn.Query(ctx, trailUnindexedSQL)
	if err != nil {
		return fmt.Errorf("looking for what is not indexed: %w", err)
	}
	partitions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for what is not indexed: %w", err)
	}
	for _, partition := range partitions {
		index := pgx.Identifier{"authz", partition + "_recorded_in_idx"}.Sanitize()
		for _, sql := range []string{
			`drop index concurrently if exists ` + index, // one that was begun and is good for nothing
			`create index concurrently ` + pgx.Identifier{partition + "_recorded_in_idx"}.Sanitize() + ` on ` + pgx.Identifier{"authz", partition}.Sanitize() + ` (recorded_in)`,
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("indexing %s; run authz migrate again: %w", partition, err)
			}
		}
	}
	return nil
}
