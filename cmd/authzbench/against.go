package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
)

// other is a server to measure against: another build, or this one with other
// variables.
type other struct {
	program   string // empty: the one that is measured
	variables []string
}

// parseOther reads what is given for it: words, of which those with an = are
// variables, and another one the program.
func parseOther(text string) (*other, error) {
	o := &other{}
	for _, word := range strings.Fields(text) {
		switch {
		case strings.Contains(word, "="):
			o.variables = append(o.variables, word)
		case o.program == "":
			o.program = word
		default:
			return nil, errors.New("one program")
		}
	}
	if o.program == "" && len(o.variables) == 0 {
		return nil, errors.New("a program, or NAME=value")
	}
	return o, nil
}

// against is what a change costs: the same requests to two servers, each on a database
// of its own in the same Postgres, in turn.
type against struct {
	Rows []againstRow `json:"rows"`
}

type againstRow struct {
	Row         string  `json:"row"`
	Connections int     `json:"connections"`
	Ratio       float64 `json:"ratio"` // of requests a second, this to the other: the median of the rounds'
	This        result  `json:"this"`
	Other       result  `json:"other"`
}

// measureAgainst fills the report with it.
func (b *bench) measureAgainst(ctx context.Context, r *report) (err error) {
	beside, end, err := b.openOther(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	for _, k := range []*kit{b.kit, beside} {
		if err := k.issueLive(ctx); err != nil {
			return fmt.Errorf("issuing tokens: %w", err)
		}
	}
	r.Against = &against{}
	for _, g := range b.groups {
		for _, one := range g {
			if one.floor || len(b.o.only) > 0 && !slices.Contains(b.o.only, one.name) {
				continue
			}
			for _, connections := range b.o.connections {
				b.say(fmt.Sprintf("%s, %d connections", one.name, connections))
				this := &series{row: one, connections: connections, kit: b.kit, on: b.server, pid: b.server.pid()}
				that := &series{row: one, connections: connections, kit: beside, on: beside.server, pid: beside.server.pid()}
				if err := b.alternate(ctx, []*series{this, that}); err != nil {
					return err
				}
				r.Against.Rows = append(r.Against.Rows, againstRow{
					Row: one.name, Connections: connections, Ratio: this.ratio(that), This: this.result(), Other: that.result(),
				})
			}
		}
	}
	_, r.ServerPeak = memory(b.server.pid())
	return nil
}

// openOther makes the second database and the other server.
func (b *bench) openOther(ctx context.Context) (k *kit, end func() error, err error) {
	url, drop, err := makeDatabase(ctx, b.databaseURL)
	if err != nil {
		return nil, nil, err
	}
	var ends []func() error
	undo := func() (err error) {
		for _, one := range slices.Backward(ends) {
			err = errors.Join(err, one())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	ends = append(ends, drop)
	registered, err := register(ctx, url)
	if err != nil {
		return nil, nil, fmt.Errorf("registering: %w", err)
	}
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to the database: %w", err)
	}
	ends = append(ends, func() error { return db.Close(context.WithoutCancel(ctx)) })
	launcher := *b.launcher
	launcher.started += 100 // its files are its own
	launcher.variables = b.o.against.variables
	if b.o.against.program != "" {
		launcher.program = b.o.against.program
	}
	s, err := launcher.start(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, s.child.stop)
	return &kit{registered: registered, databaseURL: url, db: db, server: s}, undo, nil
}

// targets are those of a change; nil has none.
func (a *against) targets() []target {
	if a == nil {
		return nil
	}
	const share = 0.95 // of what the other reaches
	var all []target
	for _, row := range a.Rows {
		all = append(all, atLeast(fmt.Sprintf("%s, %d connections", row.Row, row.Connections), "of the other's", row.Ratio, share))
	}
	return all
}

func (a *against) writeTable(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "row\tconn.\tserver\treq/s\tratio\tp50 ms\tp95 ms\tp99 ms\tserver µs\tPostgres µs\tWAL bytes\tMiB\t")
	line := func(server string, r result, ratio string) {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%s\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%d\t\n", r.Row, r.Connections, server, r.PerSecond, ratio,
			r.P50/1000, r.P95/1000, r.P99/1000, r.ServerCPU, r.PostgresCPU, r.WAL, r.Memory>>20)
	}
	for _, row := range a.Rows {
		line("other", row.Other, "")
		line("this", row.This, fmt.Sprintf("%.2f", row.Ratio))
	}
	t.Flush()
}
