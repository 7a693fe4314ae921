package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/pgdev"
)

// bench is a benchmark under way.
type bench struct {
	o           options
	progress    io.Writer
	dir         string
	databaseURL string
	postgresPID int
	groups      []group
	launcher    *launcher // nil: the server is not ours
	kit         *kit
	server      *server
	floor       *server
	rates       map[string]float64 // requests a second, by row and connections, as last seen
}

// measureAll is the whole benchmark.
func measureAll(ctx context.Context, o options, progress io.Writer) (r *report, err error) {
	b := &bench{o: o, progress: progress, groups: selected(o.only), rates: map[string]float64{}}
	if b.dir, err = os.MkdirTemp("", "authzbench-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	endPostgres, err := b.openPostgres(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, endPostgres()) }()
	registered, err := register(ctx, b.databaseURL)
	if err != nil {
		return nil, fmt.Errorf("registering: %w", err)
	}
	b.kit = &kit{registered: registered, databaseURL: b.databaseURL}
	if b.kit.db, err = pgx.Connect(ctx, b.databaseURL); err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	defer b.kit.db.Close(context.WithoutCancel(ctx))
	if r, err = b.newReport(ctx); err != nil {
		return nil, err
	}
	if err := b.startServer(ctx, r); err != nil {
		return nil, err
	}
	if b.launcher != nil {
		defer func() { err = errors.Join(err, b.server.child.stop()) }()
	}
	if o.fill != nil {
		return r, b.measureFlat(ctx, r)
	}
	if o.against != nil {
		return r, b.measureAgainst(ctx, r)
	}
	if err := b.startFloor(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.floor.child.stop()) }()
	return r, b.measure(ctx, r)
}

// openPostgres says which database the server has, and what ends its use.
func (b *bench) openPostgres(ctx context.Context) (end func() error, err error) {
	ending := context.WithoutCancel(ctx)
	switch {
	case b.o.issuer != "":
		b.databaseURL, b.postgresPID = b.o.databaseURL, b.o.postgresPID
		return func() error { return clean(ending, b.databaseURL) }, nil
	case b.o.databaseURL != "":
		b.postgresPID = b.o.postgresPID
		b.databaseURL, end, err = makeDatabase(ctx, b.o.databaseURL)
		return end, err
	}
	b.say("starting a private Postgres")
	pg, err := pgdev.Start(ctx, pgdev.Options{Settings: b.o.settings})
	if err != nil {
		return nil, err
	}
	b.databaseURL, b.postgresPID = pg.URL(), pg.PID()
	return func() error { return pg.Stop(ending) }, nil
}

// starts is how often the start of a server is timed.
const starts = 5

// startServer starts the one that is timed, after those whose start is, or takes
// the one that runs.
func (b *bench) startServer(ctx context.Context, r *report) (err error) {
	if b.o.issuer != "" {
		b.server = &server{issuer: b.o.issuer, public: b.o.public, internal: b.o.internal}
		b.kit.server = b.server
		return nil
	}
	b.say("building authz")
	if b.launcher, err = newLauncher(ctx, b.dir, b.o); err != nil {
		return err
	}
	if b.o.fill == nil && b.o.against == nil {
		b.say("timing its start")
		times, err := b.launcher.startTimes(ctx, b.databaseURL, starts)
		if err != nil {
			return err
		}
		r.addStarts(times)
	}
	if b.o.profile != "" {
		if b.launcher.profiler, err = freeAddress(); err != nil {
			return err
		}
	}
	if b.server, err = b.launcher.start(ctx, b.databaseURL); err != nil {
		return err
	}
	b.launcher.profiler = "" // of this one alone
	b.kit.server = b.server
	return nil
}

func (b *bench) startFloor(ctx context.Context) error {
	if err := execute(ctx, b.databaseURL, makeFloorTablesSQL); err != nil {
		return fmt.Errorf("making the floors' tables: %w", err)
	}
	c, address, err := startFloor(ctx, b.dir, b.o, b.databaseURL, b.kit.registered)
	if err != nil {
		return err
	}
	b.floor = &server{issuer: b.server.issuer, public: address, internal: address, child: c}
	return nil
}

// measure fills the report.
func (b *bench) measure(ctx context.Context, r *report) error {
	if err := b.kit.issueLive(ctx); err != nil {
		return fmt.Errorf("issuing tokens: %w", err)
	}
	if err := execute(ctx, b.databaseURL, copyTokensSQL); err != nil {
		return fmt.Errorf("copying tokens: %w", err)
	}
	trips := map[string]int{}
	if b.launcher != nil {
		b.say("counting round trips")
		var err error
		if trips, err = b.roundTrips(ctx); err != nil {
			return err
		}
	}
	if b.wantsDPoPCost() {
		more, err := b.dpopCost(ctx)
		if err != nil {
			return err
		}
		r.DPoPAdds = new(median(more))
	}
	return b.profiled(ctx, func() error {
		for _, g := range b.groups {
			for _, connections := range b.o.connections {
				rows, err := b.takeTurns(ctx, g, connections)
				if err != nil {
					return err
				}
				r.add(rows, trips)
			}
		}
		_, r.ServerPeak = memory(b.serverPID())
		return nil
	})
}

// profiled makes the profile, if one is asked for.
func (b *bench) profiled(ctx context.Context, do func() error) error {
	if b.o.profile == "" {
		return do()
	}
	profiler := b.server.profiler
	if _, err := order(ctx, profiler, "start"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	profile, err := order(ctx, profiler, "stop")
	if err != nil {
		return err
	}
	return os.WriteFile(b.o.profile, profile, 0o600)
}

func (b *bench) serverPID() int {
	if b.launcher == nil {
		return b.o.serverPID
	}
	return b.server.pid()
}

func (b *bench) say(text string) { fmt.Fprintf(b.progress, "authzbench: %s\n", text) }

// takeTurns lets the rows of a group have their turns.
func (b *bench) takeTurns(ctx context.Context, g group, connections int) ([]*series, error) {
	b.say(fmt.Sprintf("%s and its company, %d connections", g[0].name, connections))
	all := make([]*series, len(g))
	for i, r := range g {
		all[i] = &series{row: r, connections: connections, kit: b.kit, on: b.server, pid: b.serverPID()}
		if r.floor {
			all[i].on, all[i].pid = b.floor, b.floor.pid()
		}
	}
	return all, b.alternate(ctx, all)
}

// alternate lets each have a turn to warm up, and then one in each round, whose
// order is that of the round before in reverse.
func (b *bench) alternate(ctx context.Context, all []*series) error {
	for _, s := range all {
		if _, err := b.takeTurn(ctx, s, b.o.duration/3); err != nil {
			return err
		}
	}
	for round := range b.o.rounds {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			o, err := b.takeTurn(ctx, all[i], b.o.duration)
			if err != nil {
				return err
			}
			all[i].rounds = append(all[i].rounds, o)
		}
	}
	return nil
}

// takeTurn makes the requests of one turn, and then sends them.
func (b *bench) takeTurn(ctx context.Context, s *series, duration time.Duration) (outcome, error) {
	on := s.on
	address := on.public
	if s.row.internal {
		address = on.internal
	}
	name := fmt.Sprint(s.row.name, s.connections)
	enough := int(max(b.rates[name], 2000)*1.5*duration.Seconds()) + 10*s.connections
	requests, err := s.row.make(s.kit, on, enough)
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", s.row.name, err)
	}
	before, err := s.count(ctx)
	if err != nil {
		return outcome{}, err
	}
	wal, err := walPosition(ctx, s.kit.db)
	if err != nil {
		return outcome{}, err
	}
	o, err := turn{
		address: address, connections: s.connections, requests: requests, again: s.row.again, until: duration,
		check: s.row.check, serverPID: s.pid, postgresPID: b.postgresPID,
	}.run(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w", s.row.name, err)
	}
	if o.wal, err = walPosition(ctx, s.kit.db); err != nil {
		return outcome{}, err
	}
	o.wal -= wal
	if after, err := s.count(ctx); err != nil {
		return outcome{}, err
	} else if s.row.count != nil && after-before != len(o.latencies) {
		return outcome{}, fmt.Errorf("%s: %d were answered for, and %d done", s.row.name, len(o.latencies), after-before)
	}
	if on.child != nil {
		on.child.emptyLog()
	}
	b.rates[name] = o.perSecond()
	s.memory, _ = memory(s.pid)
	return o, nil
}
