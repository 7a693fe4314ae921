// Command authzbench measures the speed of the server, and beside it that of the
// least that could do the same work on the same machine in the same minute:
//
//	go run ./cmd/authzbench
//
// It builds authz, starts "authz serve" as a process of its own on a private
// Postgres that commits durably (synchronous_commit = on), and sends it requests
// over keep-alive connections, plain HTTP/1.1 on loopback; or it takes a server
// that runs. Each kind of request has a floor: a bare net/http handler, in a
// process of its own, that makes no checks and one statement. A server and its
// floor take turns of a second or so, so that what else the machine does slows
// both, and the median of their ratios is what holds on another machine.
//
// With --fill there are no floors. A second database of the same Postgres is filled
// with millions of live tokens, clients and spent proofs, and a server on it takes
// turns with the one on the empty database: the ratio is what full tables cost.
// Partitions of a day that is over are then dropped under load.
//
// With --against there are no floors either: another build, or this one with other
// variables, takes turns with it, and the ratio is what the change costs.
//
// Not measured: TLS, networks, and a Postgres on another machine; without --fill many
// clients (each kind of request is one client's) and full tables. Requests are made,
// and proofs are signed, before the clock starts; the load takes its share of the
// same cores all the same.
//
// It trusts the server with nothing and the database with all: it registers what
// it needs, under names that begin with authzbench, and keeps the tables of the
// floors in a schema authzbench. From the database of a server that runs it removes
// both at the end. It is for databases that nobody relies on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; it returns its exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	if len(args) > 0 && args[0] == floorCommand {
		return exitCode(errOut, serveFloor(in, out))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parseOptions(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitCode(errOut, err)
	}
	r, err := measureAll(ctx, o, errOut)
	if err != nil {
		return exitCode(errOut, err)
	}
	if o.json {
		return exitCode(errOut, r.writeJSON(out))
	}
	return exitCode(errOut, r.writeTable(out))
}

func exitCode(errOut io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(errOut, "authzbench:", err)
	return 1
}

// options are the flags.
type options struct {
	duration    time.Duration // of one turn
	rounds      int
	connections []int
	only        []string // names of rows; none: all
	json        bool
	program     string // authz, built if empty
	profile     string // where the server's CPU profile goes; empty: none is made
	floorPool   int    // connections of a floor to Postgres

	// Of a server that runs; its issuer is empty if one is to be started.
	issuer, public, internal string
	databaseURL              string // of its database, or of another one on a Postgres that is given
	serverPID, postgresPID   int

	fill     *amounts          // nil: it is not measured what full tables change
	against  *other            // nil: it is not measured against another server
	settings map[string]string // of the private Postgres
}

func parseOptions(args []string, errOut io.Writer) (options, error) {
	o := options{connections: []int{1, 16, 64}, settings: map[string]string{}}
	f := flag.NewFlagSet("authzbench", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.DurationVar(&o.duration, "duration", time.Second, "how long one turn of a server or a floor takes")
	f.IntVar(&o.rounds, "rounds", 5, "turns that each of them gets, besides one to warm up")
	f.Func("connections", "connections at a time, comma-separated (default 1,16,64)", func(text string) (err error) {
		o.connections, err = parseCounts(text)
		return err
	})
	f.Func("only", "rows to measure, comma-separated (default all): "+strings.Join(rowNames(), ", "), func(text string) error {
		o.only = strings.Split(text, ",")
		return nil
	})
	f.Func("fill", "instead of floors, measure what full tables change: on two databases in turn, one of which is filled before with `tokens=10000000,clients=100000,proofs=1000000`, and with events=… and hourly=… of each hour of a day that is over", func(text string) (err error) {
		o.fill, err = parseAmounts(text)
		return err
	})
	f.Func("against", "instead of floors, measure against another server, in turn: `\"program NAME=value …\"`, another build, or this one with other variables", func(text string) (err error) {
		o.against, err = parseOther(text)
		return err
	})
	f.Func("setting", "a `name=value` of the private Postgres, any number of times", func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if o.settings[name] = value; !ok {
			return errors.New("name=value")
		}
		return nil
	})
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.program, "authz", "", "the authz program to measure (default: build it from this module)")
	f.StringVar(&o.profile, "profile", "", "a `file` for the server's CPU profile, over all rows and turns")
	f.IntVar(&o.floorPool, "floor-pool", 16, "connections of a floor to Postgres")
	f.StringVar(&o.issuer, "issuer", "", "`URL`: measure the server that runs with this issuer, instead of starting one; needs --internal and --database-url")
	f.StringVar(&o.public, "public", "", "`host:port` of its public listener, plain HTTP (default: the issuer's)")
	f.StringVar(&o.internal, "internal", "", "`host:port` of its internal listener")
	f.StringVar(&o.databaseURL, "database-url", "", "its database, as the schema's owner; or, without --issuer, any database of a Postgres to use instead of a private one, as a superuser: another one is made beside it, and dropped")
	f.IntVar(&o.serverPID, "server-pid", 0, "its process, for its CPU and memory")
	f.IntVar(&o.postgresPID, "postgres-pid", 0, "the process of the postmaster, for its CPU")
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	if f.NArg() > 0 {
		return options{}, fmt.Errorf("there are no arguments: %q", f.Args())
	}
	o.completeSettings()
	return o, o.validate()
}

// completeSettings keeps those that were given.
func (o *options) completeSettings() {
	wanted := map[string]string{"synchronous_commit": "on"}
	if o.fill != nil {
		maps.Copy(wanted, o.fill.settings())
	}
	maps.Copy(wanted, o.settings)
	o.settings = wanted
}

func (o *options) validate() error {
	if o.duration <= 0 || o.rounds < 1 || o.floorPool < 1 {
		return errors.New("--duration, --rounds and --floor-pool are above 0")
	}
	if o.duration > maxTurn {
		return fmt.Errorf("--duration is %s at most: proofs are signed before the turn, and live for a minute", maxTurn)
	}
	if err := knownRows(o.only, o.rows()); err != nil {
		return err
	}
	if o.fill != nil && (o.issuer != "" || o.profile != "") {
		return errors.New("--fill makes servers and databases of its own: it takes neither --issuer nor --profile")
	}
	if o.against != nil && (o.issuer != "" || o.profile != "" || o.fill != nil) {
		return errors.New("--against makes servers and databases of its own: it takes none of --issuer, --profile and --fill")
	}
	if o.issuer == "" {
		if o.public != "" || o.internal != "" || o.serverPID != 0 {
			return errors.New("--public, --internal and --server-pid are for a server that runs: name it by --issuer")
		}
		if o.postgresPID != 0 && o.databaseURL == "" {
			return errors.New("--postgres-pid is for a Postgres that runs: name it by --database-url")
		}
		return nil
	}
	if o.internal == "" || o.databaseURL == "" {
		return errors.New("--issuer needs --internal and --database-url")
	}
	if o.program != "" || o.profile != "" {
		return errors.New("--authz and --profile are for a server that is started here, and --issuer names one that runs")
	}
	if o.public == "" {
		host, plain := strings.CutPrefix(o.issuer, "http://")
		if !plain {
			return errors.New("--public is missing: where the server of this issuer answers without TLS")
		}
		o.public = host
	}
	return nil
}

// rows are those that can be measured.
func (o *options) rows() []string {
	if o.fill != nil {
		return flatNames()
	}
	return rowNames()
}

// maxTurn leaves proofs time to be sent before they expire, the signing of as many
// included.
const maxTurn = 10 * time.Second

func parseCounts(text string) ([]int, error) {
	var counts []int
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n < 1 || n > 4096 {
			return nil, errors.New("numbers from 1 to 4096, comma-separated")
		}
		counts = append(counts, n)
	}
	slices.Sort(counts)
	return slices.Compact(counts), nil
}
