package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// counter is a proxy in front of Postgres that counts round trips: what a client
// waits for is the answer to a Query or to a Sync, and to nothing else.
// https://www.postgresql.org/docs/current/protocol-flow.html
type counter struct {
	listener net.Listener
	network  string
	upstream string
	trips    atomic.Int64
}

// countTrips starts a proxy to the database at databaseURL, without TLS on either
// side, and returns the URL that leads through it.
func countTrips(databaseURL string) (*counter, string, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, "", errors.New("the database URL is not well-formed") // pgx's own error may quote the password
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	c := &counter{listener: l}
	c.network, c.upstream = pgxNetwork(config)
	go c.accept()
	through := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: l.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	return c, through.String(), nil
}

func pgxNetwork(c *pgx.ConnConfig) (network, address string) {
	if len(c.Host) > 0 && c.Host[0] == '/' {
		return "unix", c.Host + "/.s.PGSQL." + strconv.Itoa(int(c.Port))
	}
	return "tcp", net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

func (c *counter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		go c.serve(client)
	}
}

func (c *counter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial(c.network, c.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(client, server)
		client.Close()
	}()
	c.forward(server, client)
}

// forward copies the messages of a client, one by one. The first has no type.
func (c *counter) forward(server io.Writer, client io.Reader) {
	for head := 4; ; head = 5 {
		message := make([]byte, head)
		if _, err := io.ReadFull(client, message); err != nil {
			return
		}
		length := int64(binary.BigEndian.Uint32(message[head-4:])) - 4
		if head == 5 && (message[0] == 'Q' || message[0] == 'S') {
			c.trips.Add(1)
		}
		if _, err := server.Write(message); err != nil {
			return
		}
		if _, err := io.CopyN(server, client, length); err != nil {
			return
		}
	}
}

// tripsOf is how many round trips one request takes: the median of many that come
// one after another, since the server's upkeep has some of its own.
func (c *counter) tripsOf(ctx context.Context, k *kit, s *server, r row) (int, error) {
	const warm, counted = 50, 101
	requests, err := r.make(k, s, warm+counted)
	if err != nil {
		return 0, err
	}
	address := s.public
	if r.internal {
		address = s.internal
	}
	conn, err := connect(address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var trips []int64
	for i := range warm + counted {
		before := c.trips.Load()
		a, err := conn.ask(requests[i%len(requests)])
		if err := errors.Join(err, ctx.Err()); err != nil {
			return 0, err
		}
		if err := r.check(a); err != nil {
			return 0, err
		}
		trips = append(trips, c.trips.Load()-before)
	}
	return int(median(trips[warm:])), nil
}

// roundTrips counts with a second server, through the proxy: the one that is timed
// speaks to Postgres itself.
func (b *bench) roundTrips(ctx context.Context) (map[string]int, error) {
	proxy, through, err := countTrips(b.databaseURL)
	if err != nil {
		return nil, err
	}
	defer proxy.listener.Close()
	s, err := b.launcher.start(ctx, through)
	if err != nil {
		return nil, err
	}
	defer s.child.stop()
	trips := map[string]int{}
	for _, g := range b.groups {
		for _, r := range g {
			if r.floor {
				continue
			}
			if trips[r.name], err = proxy.tripsOf(ctx, b.kit, s, r); err != nil {
				return nil, fmt.Errorf("counting the round trips of %s: %w", r.name, err)
			}
		}
	}
	return trips, nil
}

// median is the middle one; 0 of none.
func median[T int64 | float64](of []T) T {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
