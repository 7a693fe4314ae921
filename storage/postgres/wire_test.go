package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cargokey/authz/storage/postgres"
)

// fault is what may happen to a round trip.
type fault int

const (
	none fault = iota
	cut        // the connection dies before anything reaches Postgres
	lost       // Postgres has done its part, and its answer does not arrive
)

func (f fault) String() string { return [...]string{"none", "cut", "lost"}[f] }

// wire is what a Store of one connection speaks to Postgres through. It counts
// round trips and spoils one of them.
type wire struct {
	mu    sync.Mutex
	trips int
	fault fault
	at    int // the round trip to spoil, from 1
}

// openWired opens a Store that has a single connection, over the wire.
func openWired(t testing.TB, url string, options ...postgres.Option) (*postgres.Store, *wire) {
	t.Helper()
	w := &wire{}
	options = append(options, postgres.Configure(func(c *pgxpool.Config) {
		c.MaxConns = 1
		// A look whether an idle connection lives would be one more round trip.
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &wiredConn{Conn: conn, wire: w}, nil
		}
	}))
	return open(t, url, options...), w
}

// arm spoils the round trip at of those that follow, and counts from there.
func (w *wire) arm(f fault, at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trips, w.fault, w.at = 0, f, at
}

// count returns the round trips that do makes.
func (w *wire) count(t testing.TB, do func() error) int {
	t.Helper()
	w.arm(none, 0)
	must(t, do())
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips
}

// wiredConn sees a round trip as writing after something was read.
type wiredConn struct {
	net.Conn
	wire *wire

	// Guarded by wire.mu.
	spoken, writing, loses bool
	uncounted              bool // asks to cancel, or was spoiled
}

// cancelRequest is the code of the message by which pgx asks Postgres, over a
// connection of its own and at any time, to give up on one that broke.
const cancelRequest = 80877102

func (c *wiredConn) Write(b []byte) (int, error) {
	if c.spoil(b) {
		c.Conn.Close()
		return 0, errors.New("the test cut the connection")
	}
	return c.Conn.Write(b)
}

func (c *wiredConn) spoil(b []byte) (cutting bool) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if !c.spoken {
		c.spoken = true
		c.uncounted = len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) == cancelRequest
	}
	if c.uncounted || c.writing {
		return false
	}
	c.writing = true
	c.wire.trips++
	if c.wire.trips != c.wire.at {
		return false
	}
	c.uncounted = true // pgx says goodbye on it, at any time
	c.loses = c.wire.fault == lost
	return c.wire.fault == cut
}

// Read waits for the answer even where it loses it: Postgres sends none before
// it has committed.
func (c *wiredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.writing = false
	if c.loses {
		c.Conn.Close()
		return 0, errors.New("the test lost the answer")
	}
	return n, err
}
