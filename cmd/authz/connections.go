package main

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// defaultConnections is how many connections a listener keeps, where nothing else is
// configured.
const defaultConnections = 10_000

// reservedFiles are those that are not for connections of clients: the database's, the
// listeners', logs, certificates.
const reservedFiles = 256

// minWaiting is how long a connection has nothing to do before it makes room for
// another: less is between two requests.
const minWaiting = 100 * time.Millisecond

// connections are those of one listener. It accepts on when there are as many as it
// keeps: then the one that has sent nothing for longest is closed, whether it is kept
// alive or has yet to send a request, and where all are at work the new one is. Who
// opens many to take them from others loses his own first.
type connections struct {
	limit  int
	closed *prometheus.CounterVec
	name   string

	mu       sync.Mutex
	all      map[net.Conn]*connection
	waiting  *list.List // of *connection, the one that has waited longest first
	draining bool
}

type connection struct {
	net.Conn
	silent bool // nothing has come from it yet
	busy   int  // requests that it has under way; HTTP/2 has several
	since  time.Time
	place  *list.Element // among those that wait; nil: it does not
}

type connectionKey struct{}

func newConnections(name string, limit int, closed *prometheus.CounterVec) *connections {
	for _, why := range []string{"idle", "new"} {
		closed.WithLabelValues(name, why) // from 0 on, so that the first is seen
	}
	return &connections{name: name, limit: limit, closed: closed, all: map[net.Conn]*connection{}, waiting: list.New()}
}

func newClosedMetric(r prometheus.Registerer) *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authz_connections_closed_total",
		Help: "Connections closed for want of room, by listener and why: idle, in favour of a new one, or new, where all others were at work.",
	}, []string{"listener", "why"})
	r.MustRegister(m)
	return m
}

// keep has s keep its connections here.
func (c *connections) keep(s *http.Server) {
	next := s.Handler
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c.add(conn))
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateActive:
			c.heard(conn)
		case http.StateClosed, http.StateHijacked:
			c.remove(conn)
		}
	}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			if c.begin(conn) {
				w.Header().Set("Connection", "close") // there is another instance to go to
			}
			defer c.end(conn)
		}
		next.ServeHTTP(w, r)
	})
}

func (c *connections) add(conn net.Conn) *connection {
	added := &connection{Conn: conn, silent: true, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.limit {
		first := c.waiting.Front()
		if first == nil || added.since.Sub(first.Value.(*connection).since) < minWaiting {
			c.closed.WithLabelValues(c.name, "new").Inc()
			added.abort()
			return added
		}
		idle := first.Value.(*connection)
		c.closed.WithLabelValues(c.name, "idle").Inc()
		c.forget(idle)
		idle.abort()
	}
	c.all[conn] = added
	added.place = c.waiting.PushBack(added)
	return added
}

// abort closes a connection without a farewell, for which there may be no time.
func (c *connection) abort() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	c.Close()
}

func (c *connections) heard(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.all[conn]; known != nil {
		known.silent = false
	}
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.all[conn]; known != nil {
		c.forget(known)
	}
}

func (c *connections) forget(conn *connection) {
	delete(c.all, conn.Conn)
	if conn.place != nil {
		c.waiting.Remove(conn.place)
		conn.place = nil
	}
}

// begin is at the start of a request, whose header is there. It tells whether the
// request is to be the connection's last.
func (c *connections) begin(conn *connection) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.busy++
	if conn.place != nil {
		c.waiting.Remove(conn.place)
		conn.place = nil
	}
	return c.draining
}

func (c *connections) end(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.busy--; conn.busy == 0 && c.all[conn.Conn] == conn {
		conn.since = time.Now()
		conn.place = c.waiting.PushBack(conn)
	}
}

// drain makes each request from now on its connection's last.
func (c *connections) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
}

// closeSilent closes those from which nothing has come, for which http.Server.Shutdown
// would wait five seconds.
func (c *connections) closeSilent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.all {
		if conn.silent {
			conn.abort()
		}
	}
}

// connectionLimit is how many connections each listener keeps: what is configured, or
// what the process may have files open for.
func connectionLimit(configured, listeners int, log *slog.Logger) int {
	if configured == 0 {
		configured = defaultConnections
	}
	files, ok := openFiles()
	if !ok {
		return configured
	}
	var room int
	if files > reservedFiles {
		room = int(min(files-reservedFiles, 1<<30)) / listeners
	}
	room = max(room, 16)
	if room < configured {
		log.Info("the process may open too few files (ulimit -n) for AUTHZ_MAX_CONNECTIONS", "open_files", files, "listeners", listeners, "connections", room)
		return room
	}
	return configured
}
