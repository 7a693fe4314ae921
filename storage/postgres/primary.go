package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// connectTimeout bounds one attempt at one connection, where the URL does not.
	connectTimeout = 5 * time.Second
	// failoverTimeout is connectTimeout where there are several hosts: as long as one
	// of them says nothing, and no other is the primary, a request waits this long.
	failoverTimeout = 2 * time.Second
	// closeTimeout bounds the farewell to a connection that has failed, which holds
	// its place in the pool until then.
	closeTimeout = time.Second
	// pingTimeout bounds the look whether a connection that was idle still lives.
	pingTimeout = time.Second
)

// boundNetwork sees to it that a host that has frozen, or has gone without a word,
// holds nothing for long. pgx waits 15 s for the farewell of a broken connection.
func boundNetwork(config *pgxpool.Config) {
	c := config.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
		if severalHosts(c) {
			c.ConnectTimeout = failoverTimeout
		}
	}
	if config.PingTimeout == 0 {
		config.PingTimeout = pingTimeout
	}
	dial, connected := c.DialFunc, c.AfterNetConnect
	opening := c.ConnectTimeout
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// Until it is connected: a request to cancel a statement never is.
		if err := conn.SetDeadline(time.Now().Add(opening)); err != nil {
			conn.Close()
			return nil, err
		}
		return boundedConn{conn}, nil
	}
	c.AfterNetConnect = func(ctx context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		if connected == nil {
			return conn, nil
		}
		return connected(ctx, config, conn)
	}
}

// boundedConn is a connection on which nothing waits for longer than closeTimeout
// but for what waits without a deadline: a statement, whose context ends it.
type boundedConn struct{ net.Conn }

func (c boundedConn) SetDeadline(at time.Time) error {
	if latest := time.Now().Add(closeTimeout); at.After(latest) {
		at = latest
	}
	return c.Conn.SetDeadline(at)
}

// primaries lets in none but the primary: a standby does not know yet what was
// revoked a moment ago, and a primary that another one has succeeded, and that
// came back all the same, will never know.
type primaries struct {
	mu sync.Mutex
	// timeline is the highest that was seen: each promotion begins the next one.
	timeline  uint64
	succeeded func()
}

// onSuccession makes do be called, in no time to speak of, when a primary is seen
// that has succeeded another one.
func (p *primaries) onSuccession(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.succeeded = do
}

// onlyFrom makes connections with c fail, and try the next host, where the host
// is none of them.
func (p *primaries) onlyFrom(c *pgx.ConnConfig) {
	wanted := c.ValidateConnect // by target_session_attrs
	sql := greetingSQL
	if severalHosts(c) {
		sql = greetingSQL + timelineSQL
	}
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if wanted != nil {
			if err := wanted(ctx, conn); err != nil {
				return err
			}
		}
		return p.validate(ctx, conn, sql)
	}
}

// survey looks at all hosts of c, so that a server that starts while two of them
// take themselves for the primary begins with the right one.
func (p *primaries) survey(ctx context.Context, c *pgx.ConnConfig) {
	if all := hosts(c); len(all) > 1 {
		looks := lookAt(ctx, c, all)
		for range all {
			<-looks
		}
	}
}

// choose leaves of several hosts that of the primary, before each connection. They
// are asked at the same time: one after the other, each connection would wait for
// a host that is dead and does not say so.
func (p *primaries) choose(ctx context.Context, c *pgx.ConnConfig) error {
	all := hosts(c)
	if len(all) == 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	looks := lookAt(ctx, c, all)
	var none error
	for range all {
		l := <-looks
		if l.err == nil {
			use(c, l.host)
			return nil
		}
		none = errors.Join(none, l.err)
	}
	return fmt.Errorf("no host is the primary: %w", none)
}

// look is what came of connecting to a host.
type look struct {
	host []*pgconn.FallbackConfig
	err  error
}

// lookAt connects to each host, and closes the connection.
func lookAt(ctx context.Context, c *pgx.ConnConfig, all [][]*pgconn.FallbackConfig) <-chan look {
	looks := make(chan look, len(all))
	for _, host := range all {
		one := c.Copy()
		use(one, host)
		go func() {
			conn, err := pgx.ConnectConfig(ctx, one)
			if err == nil {
				conn.Close(ctx)
			}
			looks <- look{host, err}
		}()
	}
	return looks
}

// use makes c connect to no other host.
func use(c *pgx.ConnConfig, host []*pgconn.FallbackConfig) {
	c.Host, c.Port, c.TLSConfig = host[0].Host, host[0].Port, host[0].TLSConfig
	c.Fallbacks = host[1:]
}

// hosts are those of c, each with its ways to connect.
func hosts(c *pgx.ConnConfig) [][]*pgconn.FallbackConfig {
	all := [][]*pgconn.FallbackConfig{{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}}
	for _, f := range c.Fallbacks {
		last := len(all) - 1
		if before := all[last][0]; f.Host == before.Host && f.Port == before.Port {
			all[last] = append(all[last], f)
		} else {
			all = append(all, []*pgconn.FallbackConfig{f})
		}
	}
	return all
}

func severalHosts(c *pgx.ConnConfig) bool { return len(hosts(c)) > 1 }

// timelineSQL is asked only where there are several hosts: not every database that
// speaks like Postgres has it.
const (
	greetingSQL = `select pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid()`
	timelineSQL = `, case when pg_catalog.pg_is_in_recovery() then '' else substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) end`
)

var errSucceeded = errors.New("it was the primary once, and another one has been promoted since")

func (p *primaries) validate(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("it does not answer as Postgres does")
	}
	row := results[0].Rows[0]
	if string(row[0]) != "f" {
		return pgconn.ErrStandbyConnection
	}
	conn.CustomData()[pooledKey] = string(row[1]) != strconv.FormatUint(uint64(conn.PID()), 10)
	if len(row) < 3 {
		return nil
	}
	timeline, err := strconv.ParseUint(string(row[2]), 16, 32)
	if err != nil {
		return fmt.Errorf("reading the timeline: %w", err)
	}
	return p.admit(timeline)
}

func (p *primaries) admit(timeline uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case timeline < p.timeline:
		return errSucceeded
	case timeline > p.timeline && p.timeline > 0 && p.succeeded != nil:
		p.succeeded()
	}
	p.timeline = timeline
	return nil
}

// awaitStandby returns when all that this server has committed is where a commit is
// waited for. What is there already may not be: a commit that was given up on while
// it waited for the standby counts from then on, at the primary alone.
func (s *Store) awaitStandby(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, `select pg_catalog.pg_logical_emit_message(true, 'authz', '')`); err != nil {
		return fmt.Errorf("waiting for the standby: %w", err)
	}
	return nil
}

// isNoPrimary tells whether there was a database, and it was not the primary.
func isNoPrimary(err error) bool {
	return errors.Is(err, pgconn.ErrStandbyConnection) || errors.Is(err, pgconn.ErrReadOnlyConnection) || errors.Is(err, errSucceeded)
}

// onPrimarySQL is true, or fails the statement. Behind a pooler, a connection that
// was the primary's may be a standby's by now.
const onPrimarySQL = ` 1 / (not pg_catalog.pg_is_in_recovery())::int = 1`
