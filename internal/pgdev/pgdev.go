// Package pgdev runs a private Postgres for `authz dev` and for the tests.
//
// It takes the Postgres whose URL it is given; else the server binaries that
// are on the machine; else binaries that it fetches once and keeps in a cache.
// Root is welcome: Postgres itself then runs as an unprivileged user.
//
// The server listens on a Unix socket in a folder that only its own user can
// enter, and nowhere else. The package assumes that its caller calls Stop;
// where the caller dies without it, the server ends too (on Linux).
//
// It is meant for development and tests: whoever can reach the socket is
// superuser of the database. It is never the database of a deployment.
package pgdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// superuser is the role that owns the cluster and the database, and database
// the one that URL names.
const (
	superuser = "authz"
	database  = "authz"
)

// Options says which Postgres to run, and where it keeps its data.
type Options struct {
	// URL names a Postgres that is used as it is: no process is started, and
	// Stop, Kill and Restart leave it alone. The other options are ignored.
	URL string
	// Dir is where data is kept from run to run; it is made if missing. Empty
	// means a temporary folder, which Stop removes.
	Dir string
	// Fresh removes the data that Dir holds before starting.
	Fresh bool
	// Log receives Postgres' own log. Nil means the file postgres.log beside
	// the data.
	Log io.Writer
	// Unsafe gives durability up for speed: a crash of the machine may leave
	// data that cannot be read. A crash of Postgres alone does not. Temporary
	// data is then held in memory where there is much of it.
	Unsafe bool
	// Settings are further settings of the server, as in postgresql.conf.
	Settings map[string]string
}

// Postgres is a running server, or one that was stopped and can be restarted.
// Its methods are safe for concurrent use.
type Postgres struct {
	url    string
	source string

	// given is set where the server is not ours; what follows is then empty.
	given    bool
	options  Options
	account  account
	binaries binaries
	home     *home
	runDir   *runDir
	port     int

	// turn admits one of Stop, Kill and Restart at a time.
	turn    sync.Mutex
	running atomic.Pointer[process]
	stopped bool
}

// Start runs a Postgres and returns when its database "authz" accepts
// connections. An error says what was tried and what to do about it; nothing
// is then left running.
func Start(ctx context.Context, o Options) (*Postgres, error) {
	return start(ctx, o, thisMachine())
}

// machine is all that Start finds by itself; tests put another in its place.
type machine struct {
	search search
	// tempDir is where folders that live as long as a run are made.
	tempDir string
	// memory takes the place of tempDir for temporary data that need not be
	// safe; empty if there is no such folder.
	memory string
	// open is where root keeps what an unprivileged user must reach while the
	// folder that was asked for is closed to it.
	open string
	// overTCP makes the server listen on a loopback port.
	overTCP bool
}

func thisMachine() machine {
	return machine{
		search:  searchThisMachine(),
		tempDir: shortTempDir(),
		memory:  memoryFolder(),
		open:    openFolder,
		overTCP: !unixSockets,
	}
}

func start(ctx context.Context, o Options, m machine) (*Postgres, error) {
	if o.URL != "" {
		return useGiven(ctx, o.URL)
	}
	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	p := &Postgres{options: o, account: acc}
	if err := p.prepare(ctx, m); err != nil {
		return nil, errors.Join(err, p.release())
	}
	if err := p.launch(ctx); err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// useGiven connects once, so that a wrong URL is found out here.
func useGiven(ctx context.Context, url string) (*Postgres, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Postgres that the database URL names: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	c := conn.Config()
	// A socket's folder, or host:port; never the URL, which may hold a password.
	at := c.Host
	if !filepath.IsAbs(at) {
		at = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
	}
	version := conn.PgConn().ParameterStatus("server_version")
	return &Postgres{
		given:  true,
		url:    url,
		source: fmt.Sprintf("PostgreSQL %s at %s, database %s, as its URL says", version, at, c.Database),
	}, nil
}

// prepare does all that comes before the server itself: folders, locks,
// binaries, and a data directory that fits them.
func (p *Postgres) prepare(ctx context.Context, m machine) error {
	major := 0
	var err error
	if p.options.Dir != "" {
		if p.home, err = openHome(p.options.Dir, m.open, p.options.Fresh); err != nil {
			return err
		}
		if major, err = p.home.dataMajor(); err != nil {
			return err
		}
	}
	if p.binaries, err = m.search.find(ctx, p.account, major); err != nil {
		return err
	}
	if major != 0 && major != p.binaries.major {
		return fmt.Errorf("the data in %s was made by PostgreSQL %d, and the PostgreSQL found here is %s (%s): install PostgreSQL %d, or begin with empty data with --fresh",
			p.home.data, major, p.binaries.version, p.binaries.dir, major)
	}
	tempDir := m.tempDir
	if p.options.Dir == "" && p.options.Unsafe && m.memory != "" {
		tempDir = m.memory
	}
	if p.runDir, err = newRunDir(ctx, tempDir, p.account, p.binaries); err != nil {
		return err
	}
	if p.home == nil {
		p.home = temporaryHome(p.runDir.path)
	} else if err := p.home.makeReachable(ctx, p.account, p.binaries); err != nil {
		return err
	}
	password := ""
	if m.overTCP {
		if p.port, err = freePort(); err != nil {
			return err
		}
		if password, err = p.home.password(); err != nil {
			return err
		}
	}
	if err := p.home.initialise(ctx, p.account, p.binaries, password); err != nil {
		return err
	}
	p.url = p.databaseURL(database, password)
	p.source = fmt.Sprintf("PostgreSQL %s from %s, %s", p.binaries.version, p.binaries.dir, p.home)
	if p.account.switched {
		p.source += ", run as user " + p.account.name
	}
	return nil
}

// databaseURL names a database of this server. The port is spelled out, since
// a client would otherwise take PGPORT from its environment.
func (p *Postgres) databaseURL(name, password string) string {
	if p.port != 0 {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", superuser, password, p.port, name)
	}
	// socketDir holds nothing that a URL would have to escape: shortTempDir
	// sees to that.
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", superuser, name, p.runDir.socketDir(), socketPort)
}

// URL names the database "authz" as its owner, who is superuser; or it is
// Options.URL, unchanged. It stays the same over Restart.
func (p *Postgres) URL() string { return p.url }

// Source says in one line which Postgres this is and where its data lies.
func (p *Postgres) Source() string { return p.source }

// PID is that of the postmaster; 0 if it does not run or is not ours.
func (p *Postgres) PID() int {
	if proc := p.running.Load(); proc != nil && !proc.ended() {
		return proc.pid()
	}
	return 0
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port for Postgres: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
