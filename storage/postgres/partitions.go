package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
)

// What a partition is called is its family and the time that it begins at.
const (
	partitionName = "_20060102_15"
	detachedName  = "_old"
)

// partitionWidths are those of authz.partition_families(), which the server may not
// ask.
func partitionWidths() []authz.PartitionFamily {
	return []authz.PartitionFamily{
		{Family: "tokens", Width: time.Hour},
		{Family: "spent_proofs", Width: time.Hour},
		{Family: "audit_events", Width: 24 * time.Hour},
		{Family: "audit_seals", Width: 24 * time.Hour},
	}
}

// One that an operator has detached, to keep it, has neither a parent nor the name.
const partitionsSQL = `
select c.relname::text, i.inhrelid is not null
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_inherits i on i.inhrelid = c.oid
where n.nspname = 'authz' and c.relkind = 'r' and c.relname ~ '^[a-z_]+_[0-9]{8}_[0-9]{2}(_old)?$'
  and (i.inhrelid is null) = (c.relname like '%\_old')
order by c.relname`

// Partitions is authz.Store's.
func (s *Store) Partitions(ctx context.Context) ([]authz.PartitionFamily, error) {
	families := partitionWidths()
	rows, err := s.pool.Query(ctx, partitionsSQL)
	if err != nil {
		return nil, fmt.Errorf("listing partitions: %w", err)
	}
	var name string
	var attached bool
	_, err = pgx.ForEachRow(rows, []any{&name, &attached}, func() error {
		for i := range families {
			notePartition(&families[i], name, attached)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing partitions: %w", err)
	}
	return families, nil
}

func notePartition(f *authz.PartitionFamily, name string, attached bool) {
	at, found := strings.CutPrefix(name, f.Family)
	start, err := time.Parse(partitionName, strings.TrimSuffix(at, detachedName))
	switch {
	case !found || err != nil: // it is of another family
	case attached:
		f.Starts = append(f.Starts, start)
	default:
		f.Detached++
	}
}
