package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cargokey/authz/authz"
)

// Those who stop a process kill it after 10 s, as a rule. By then it has ended, whatever
// its clients and its database do.
const (
	// stopTimeout bounds what requests under way have to end, the drain delay included.
	stopTimeout = 8500 * time.Millisecond
	// endTimeout bounds all of it: what was counted is recorded, and the database's
	// connections are closed.
	endTimeout = 9400 * time.Millisecond
	// maxDrainDelay leaves time for requests.
	maxDrainDelay = 5 * time.Second
)

// listening is one listener's server and its connections.
type listening struct {
	*http.Server
	connections *connections
}

// stop says that the server is not ready, goes on for delay, so that balancers may
// notice, and then lets requests under way end, in bounded time. The internal listener,
// which is the last, says until then that the server is not ready.
func stop(server *authz.Server, all []listening, delay time.Duration) error {
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	server.Drain()
	for _, l := range all {
		l.connections.drain()
	}
	time.Sleep(delay)
	var err error
	for _, l := range all {
		l.connections.closeSilent()
		err = errors.Join(err, l.Shutdown(stopping))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		for _, l := range all {
			l.Close()
		}
		return fmt.Errorf("requests were still under way after %s and were cut off", stopTimeout)
	}
	return err
}

// endIn does what is left to do at the end, for so long: what it then waits for, which
// is a database that does not answer, ends with the process.
func endIn(left time.Duration, log *slog.Logger, what string, end func()) {
	done := make(chan struct{})
	go func() { defer close(done); end() }()
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		log.Error("the end does not wait any longer", "for", what)
	}
}
