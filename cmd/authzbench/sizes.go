package main

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// size is what one table, or all partitions of one, takes on the disk.
type size struct {
	Table   string  `json:"table"`
	Rows    int64   `json:"rows"` // 1 or more
	Heap    int64   `json:"heap_bytes"`
	Indexes []index `json:"indexes,omitempty"`
}

type index struct {
	Columns string `json:"columns"`
	Bytes   int64  `json:"bytes"`
}

func (s size) bytes() int64 {
	sum := s.Heap
	for _, i := range s.Indexes {
		sum += i.Bytes
	}
	return sum
}

func (s size) perRow(bytes int64) float64 { return float64(bytes) / float64(s.Rows) }

// Rows are as the last analysis counted them. A table's heap is all of it but its
// indexes.
const (
	tableSizesSQL = `
select family, sum(greatest(reltuples, 0))::bigint as rows, sum(pg_table_size(oid))::bigint as heap
from (
  select coalesce(p.relname, c.relname)::text as family, c.oid, c.reltuples
  from pg_class c
  left join pg_inherits i on i.inhrelid = c.oid
  left join pg_class p on p.oid = i.inhparent
  where c.relnamespace = 'authz'::regnamespace and c.relkind = 'r') one
group by family having sum(greatest(reltuples, 0)) > 0 order by family`

	indexSizesSQL = `
select coalesce(p.relname, c.relname)::text as family,
  (select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a where a.attrelid = x.indexrelid) as columns,
  sum(pg_relation_size(x.indexrelid))::bigint as bytes
from pg_index x
join pg_class c on c.oid = x.indrelid and c.relkind = 'r' and c.relnamespace = 'authz'::regnamespace
left join pg_inherits i on i.inhrelid = c.oid
left join pg_class p on p.oid = i.inhparent
group by 1, 2 order by 1, 2`
)

// tableSizes are those of all tables that hold something.
func tableSizes(ctx context.Context, db *pgx.Conn) ([]size, error) {
	rows, err := db.Query(ctx, tableSizesSQL)
	if err != nil {
		return nil, err
	}
	sizes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s size, err error) {
		err = row.Scan(&s.Table, &s.Rows, &s.Heap)
		return s, err
	})
	if err != nil {
		return nil, err
	}
	if rows, err = db.Query(ctx, indexSizesSQL); err != nil {
		return nil, err
	}
	var table string
	var one index
	_, err = pgx.ForEachRow(rows, []any{&table, &one.Columns, &one.Bytes}, func() error {
		for i := range sizes {
			if sizes[i].Table == table {
				sizes[i].Indexes = append(sizes[i].Indexes, one)
			}
		}
		return nil
	})
	return sizes, err
}
