package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// report is what --json prints. Times are in the units of their names; what was
// not measured is 0 or left out.
type report struct {
	CPUs              int       `json:"cpus"`
	Platform          string    `json:"platform"`
	Go                string    `json:"go"`
	Postgres          string    `json:"postgres"`
	SynchronousCommit string    `json:"synchronous_commit"`
	Begun             time.Time `json:"begun"`
	TurnSeconds       float64   `json:"turn_seconds"`
	Rounds            int       `json:"rounds"`
	StartMillis       []float64 `json:"start_to_ready_ms,omitempty"` // in ascending order
	ServerPeak        int64     `json:"server_peak_bytes"`
	DPoPAdds          *float64  `json:"dpop_adds_p50_us,omitempty"` // to a token request, at one connection
	Rows              []result  `json:"rows"`
	Flat              *flat     `json:"flat,omitempty"`
	Against           *against  `json:"against,omitempty"`
	Targets           []target  `json:"targets"`
}

// result is one row at one number of connections. CPU is microseconds a request.
type result struct {
	Row         string  `json:"row"`
	Connections int     `json:"connections"`
	Requests    int     `json:"requests"`
	PerSecond   float64 `json:"per_second"`
	Floor       string  `json:"floor,omitempty"`
	Ratio       float64 `json:"ratio,omitempty"` // of PerSecond to the floor's: the median of the rounds'
	P50         float64 `json:"p50_us"`
	P95         float64 `json:"p95_us"`
	P99         float64 `json:"p99_us"`
	ServerCPU   float64 `json:"server_cpu_us"` // or the floor's
	PostgresCPU float64 `json:"postgres_cpu_us"`
	LoadCPU     float64 `json:"load_cpu_us"`
	WAL         float64 `json:"wal_bytes"`             // a request, and what else Postgres logged meanwhile
	Memory      int64   `json:"memory_bytes"`          // resident, after the row
	RoundTrips  *int    `json:"round_trips,omitempty"` // to Postgres, of one request that comes alone
}

// series is the rounds of one row at one number of connections.
type series struct {
	row         row
	connections int
	kit         *kit
	on          *server
	pid         int // on's process
	rounds      []outcome
	memory      int64
}

// count is of the row, and 0 where it has none.
func (s *series) count(ctx context.Context) (int, error) {
	if s.row.count == nil {
		return 0, nil
	}
	return s.row.count(s.kit, ctx)
}

func (b *bench) newReport(ctx context.Context) (*report, error) {
	r := &report{
		CPUs: runtime.NumCPU(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Begun: now(),
		TurnSeconds: b.o.duration.Seconds(), Rounds: b.o.rounds,
	}
	err := b.kit.db.QueryRow(ctx, `select current_setting('server_version'), current_setting('synchronous_commit')`).
		Scan(&r.Postgres, &r.SynchronousCommit)
	return r, err
}

func (r *report) addStarts(times []time.Duration) {
	for _, t := range times {
		r.StartMillis = append(r.StartMillis, float64(t.Microseconds())/1000)
	}
	slices.Sort(r.StartMillis)
}

// add takes a group's series, the last of which is the floor's.
func (r *report) add(all []*series, trips map[string]int) {
	floor := all[len(all)-1]
	for _, s := range all {
		row := s.result()
		if s != floor {
			row.Floor, row.Ratio = floor.row.name, s.ratio(floor)
		}
		if n, ok := trips[s.row.name]; ok {
			row.RoundTrips = &n
		}
		r.Rows = append(r.Rows, row)
	}
}

// ratio is the median over the rounds, in each of which the two had a turn.
func (s *series) ratio(floor *series) float64 {
	var ratios []float64
	for i := range s.rounds {
		ratios = append(ratios, s.rounds[i].perSecond()/floor.rounds[i].perSecond())
	}
	return median(ratios)
}

func (s *series) result() result {
	var all outcome
	for _, o := range s.rounds {
		all.latencies = append(all.latencies, o.latencies...)
		all.took += o.took
		all.wal += o.wal
		all.server, all.postgres, all.load = all.server+o.server, all.postgres+o.postgres, all.load+o.load
	}
	n := len(all.latencies)
	each := func(d time.Duration) float64 { return micros(d) / float64(n) }
	return result{
		Row: s.row.name, Connections: s.connections, Requests: n, PerSecond: all.perSecond(),
		P50: micros(quantile(all.latencies, 50)), P95: micros(quantile(all.latencies, 95)), P99: micros(quantile(all.latencies, 99)),
		ServerCPU: each(all.server), PostgresCPU: each(all.postgres), LoadCPU: each(all.load), WAL: float64(all.wal) / float64(n), Memory: s.memory,
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// quantile is what percent of them took at most.
func quantile(latencies []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(latencies))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

func (r *report) writeJSON(w io.Writer) error {
	r.Targets = r.targets()
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintf(w, "%d CPUs, %s, %s, PostgreSQL %s, synchronous_commit = %s; %d rounds of %g s\n\n",
		r.CPUs, r.Platform, r.Go, r.Postgres, r.SynchronousCommit, r.Rounds, r.TurnSeconds)
	switch {
	case r.Flat != nil:
		r.Flat.writeTable(w)
	case r.Against != nil:
		r.Against.writeTable(w)
	default:
		r.writeRows(w)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, one := range r.targets() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", one.What, one.figure(), one.verdict())
	}
	return t.Flush()
}

func (r *report) writeRows(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "row\tconn.\treq/s\tratio\tp50 ms\tp95 ms\tp99 ms\tserver µs\tPostgres µs\tload µs\tMiB\ttrips\t")
	for _, row := range r.Rows {
		ratio, trips := "", ""
		if row.Floor != "" {
			ratio = fmt.Sprintf("%.2f", row.Ratio)
		}
		if row.RoundTrips != nil {
			trips = fmt.Sprint(*row.RoundTrips)
		}
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%s\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%d\t%s\t\n", row.Row, row.Connections, row.PerSecond, ratio,
			row.P50/1000, row.P95/1000, row.P99/1000, row.ServerCPU, row.PostgresCPU, row.LoadCPU, row.Memory>>20, trips)
	}
	t.Flush()
}
