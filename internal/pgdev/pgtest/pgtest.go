// Package pgtest gives each test a database of its own, so that tests run in
// parallel and none sees what another left behind.
//
// A package that uses it says so once:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// All tests of the package then share one Postgres: the one that
// AUTHZ_DATABASE_URL names, whose role must be allowed to create databases and
// roles, or else a private one, which starts with the first test that asks for
// a database and ends with the last test.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/pgdev"
)

// urlVariable names the Postgres to use in place of a private one.
const urlVariable = "AUTHZ_DATABASE_URL"

// Database is a test's own database, under the two roles of design.md.
type Database struct {
	// OwnerURL logs in as the owner of the database and its schema.
	OwnerURL string
	// ServerURL logs in as the server does: with no more than the migrations
	// granted.
	ServerURL string
}

// shared is the Postgres of this test binary. TestMain hands nothing to tests,
// so it has to be a variable of the package; Main alone sets it.
var shared *lazyCluster

// lazyCluster starts its cluster when a test first asks for it: a run of tests
// that need no database starts none.
type lazyCluster struct {
	once sync.Once
	c    *cluster
	err  error
}

func (l *lazyCluster) get() (*cluster, error) {
	l.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // it may fetch binaries
		defer cancel()
		l.c, l.err = startCluster(ctx, pgdev.Options{
			URL:    os.Getenv(urlVariable),
			Unsafe: true,
			// Parallel tests hold pools of connections at the same time.
			Settings: map[string]string{"max_connections": "300"},
		})
	})
	return l.c, l.err
}

// stop also keeps a cluster from starting later.
func (l *lazyCluster) stop() error {
	l.once.Do(func() { l.err = fmt.Errorf("the tests are over") })
	if l.c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return l.c.stop(ctx)
}

// Main runs a package's tests with one Postgres for all of them, and exits.
func Main(m *testing.M) {
	shared = &lazyCluster{}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		// A second signal ends the process at once.
		signal.Reset()
		_ = shared.stop()
		os.Exit(1)
	}()
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the tests' Postgres:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New makes a database for t with the whole schema in it, which is dropped when
// t ends. The migrations run once in each test binary; tests get copies.
func New(t testing.TB) Database {
	t.Helper()
	c := running(t)
	template, err := c.template()
	if err != nil {
		t.Fatal(err)
	}
	return c.makeDatabase(t, template)
}

// NewEmpty makes a database for t without a schema, which is dropped when t
// ends. The server's role exists, since roles belong to all databases.
func NewEmpty(t testing.TB) Database {
	t.Helper()
	return running(t).makeDatabase(t, "")
}

func running(t testing.TB) *cluster {
	t.Helper()
	if shared == nil {
		t.Fatal("this package has no `func TestMain(m *testing.M) { pgtest.Main(m) }`")
	}
	c, err := shared.get()
	if err != nil {
		t.Fatalf("starting the tests' Postgres: %v", err)
	}
	return c
}
