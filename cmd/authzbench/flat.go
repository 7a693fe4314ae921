package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// flat is what full tables change: the same requests on a database whose tables are
// empty but for what the requests themselves leave there, and on a filled one of the
// same Postgres, in turn.
type flat struct {
	Filled      amounts    `json:"filled"`
	FillSeconds float64    `json:"fill_seconds"`
	Sizes       []size     `json:"sizes"` // of the filled ones
	Rows        []flatRow  `json:"rows"`
	Drop        *dropOfDay `json:"drop,omitempty"`
}

type flatRow struct {
	Row         string  `json:"row"`
	Connections int     `json:"connections"`
	Ratio       float64 `json:"ratio"` // of requests a second, filled to empty: the median of the rounds'
	Empty       result  `json:"empty"`
	Filled      result  `json:"filled"`
}

// flatRows are those of the other benchmark, of one client and of a few tokens; and
// those whose names end in any, of any client and of any token that the tables were
// filled with, at random, beside the same few on the empty database.
func flatRows() []row {
	return []row{
		{name: "token", make: (*kit).boundRequests, check: isToken("DPoP")},
		{name: "token-any", make: (*kit).boundRequestsOfAny, check: isAnyToken},
		{name: "introspect-jwt", make: introspectionsOf(jwtOf), again: true, check: isActive},
		{name: "introspect-opaque", make: introspectionsOf(opaque), again: true, check: isActive},
		{name: "introspect-any", make: ofAny(introspectionsOf(func(string) bool { return true })), again: true, check: isActive},
		{name: "verify", internal: true, make: (*kit).verifications, check: isAdmitted},
		{name: "verify-any", internal: true, make: ofAny((*kit).verifications), check: isAdmitted},
		{name: dropRow, make: (*kit).boundRequests, check: isToken("DPoP")},
	}
}

// ofAny makes requests of other tokens than the few.
func ofAny(make func(*kit, *server, int) ([][]byte, error)) func(*kit, *server, int) ([][]byte, error) {
	return func(k *kit, s *server, n int) ([][]byte, error) {
		if k.filled == nil {
			return make(k, s, n)
		}
		other := *k
		var err error
		if other.tokens, err = k.filled.anyTokens(n); err != nil {
			return nil, err
		}
		return make(&other, s, n)
	}
}

func flatNames() []string {
	var names []string
	for _, r := range flatRows() {
		names = append(names, r.name)
	}
	return names
}

// measureFlat fills the report with it.
func (b *bench) measureFlat(ctx context.Context, r *report) (err error) {
	full, end, err := b.openFilled(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := b.kit.issueLive(ctx); err != nil {
		return fmt.Errorf("issuing tokens: %w", err)
	}
	for _, one := range flatRows() {
		if len(b.o.only) > 0 && !slices.Contains(b.o.only, one.name) {
			continue
		}
		if one.name == dropRow {
			if r.Flat.Drop, err = b.measureDrop(ctx, one, full); err != nil {
				return err
			}
			continue
		}
		for _, connections := range b.o.connections {
			b.say(fmt.Sprintf("%s, %d connections", one.name, connections))
			empty := &series{row: one, connections: connections, kit: b.kit, on: b.server, pid: b.server.pid()}
			filled := &series{row: one, connections: connections, kit: full, on: full.server, pid: full.server.pid()}
			if err := b.alternate(ctx, []*series{empty, filled}); err != nil {
				return err
			}
			result := flatRow{
				Row: one.name, Connections: connections, Ratio: filled.ratio(empty), Empty: empty.result(), Filled: filled.result(),
			}
			b.say(fmt.Sprintf("%.2f of what there is with empty tables", result.Ratio)) // a long run that fails has said something
			r.Flat.Rows = append(r.Flat.Rows, result)
		}
	}
	_, r.ServerPeak = memory(full.server.pid())
	return nil
}

// openFilled makes the second database and its server, and fills it.
func (b *bench) openFilled(ctx context.Context, r *report) (full *kit, end func() error, err error) {
	url, end, err := makeDatabase(ctx, b.databaseURL)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	registered, err := register(ctx, url)
	if err != nil {
		return nil, end, fmt.Errorf("registering: %w", err)
	}
	full = &kit{registered: registered, databaseURL: url}
	if full.db, err = pgx.Connect(ctx, url); err != nil {
		return nil, end, fmt.Errorf("connecting to the database: %w", err)
	}
	drop := end
	end = func() error { return errors.Join(full.db.Close(context.WithoutCancel(ctx)), drop()) }
	if full.server, err = b.launcher.start(ctx, url); err != nil {
		return nil, end, err
	}
	withServer := end
	end = func() error { return errors.Join(full.server.child.stop(), withServer()) }
	if err := full.issueLive(ctx); err != nil {
		return nil, end, fmt.Errorf("issuing tokens: %w", err)
	}
	r.Flat = &flat{Filled: *b.o.fill}
	return full, end, b.fill(ctx, r.Flat, full)
}

func (b *bench) fill(ctx context.Context, f *flat, full *kit) error {
	b.say(fmt.Sprintf("filling: %+v", f.Filled))
	begun := time.Now()
	jwt := full.tokens[slices.IndexFunc(full.tokens, jwtOf)]
	var kid string
	if err := full.db.QueryRow(ctx, `select kid from authz.tokens where kid is not null limit 1`).Scan(&kid); err != nil {
		return fmt.Errorf("reading a token: %w", err)
	}
	filling := newFilled(f.Filled, jwt, kid, full.dpop.JKT())
	if err := filling.fill(ctx, full.databaseURL); err != nil {
		return err
	}
	full.filled = filling
	f.FillSeconds = time.Since(begun).Seconds()
	var err error
	if f.Sizes, err = tableSizes(ctx, full.db); err != nil {
		return fmt.Errorf("reading the sizes of tables: %w", err)
	}
	return nil
}

// targets are those of full tables; nil has none.
func (f *flat) targets() []target {
	if f == nil {
		return nil
	}
	const share = 0.85 // of what is reached with empty tables
	var all []target
	for _, row := range f.Rows {
		all = append(all, atLeast(fmt.Sprintf("%s, %d connections, full tables", row.Row, row.Connections), "of that with empty ones", row.Ratio, share))
	}
	return append(all, f.Drop.targets()...)
}

func (f *flat) writeTable(w io.Writer) {
	fmt.Fprintf(w, "filled in %.0f s: %+v\n\n", f.FillSeconds, f.Filled)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "table\trows\tMiB\tbytes a row\t")
	for _, s := range f.Sizes {
		if s.Rows < 1000 {
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f\t\n", s.Table, s.Rows, s.bytes()>>20, s.perRow(s.bytes()))
		for _, i := range s.Indexes {
			fmt.Fprintf(t, "index on %s\t\t%d\t%.0f\t\n", i.Columns, i.Bytes>>20, s.perRow(i.Bytes))
		}
	}
	t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "row\tconn.\ttables\treq/s\tratio\tp50 ms\tp95 ms\tp99 ms\tserver µs\tPostgres µs\tWAL bytes\tMiB\t")
	line := func(tables string, r result, ratio string) {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%s\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%d\t\n", r.Row, r.Connections, tables, r.PerSecond, ratio,
			r.P50/1000, r.P95/1000, r.P99/1000, r.ServerCPU, r.PostgresCPU, r.WAL, r.Memory>>20)
	}
	for _, row := range f.Rows {
		line("empty", row.Empty, "")
		line("full", row.Filled, fmt.Sprintf("%.2f", row.Ratio))
	}
	if d := f.Drop; d != nil {
		line("quiet", d.Quiet, "")
		line("dropping", d.Dropping, "")
	}
	t.Flush()
}
