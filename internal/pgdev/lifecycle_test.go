//go:build linux || darwin

package pgdev

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStopLeavesNoProcessAndNoFile(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	if got := query(t, p, "select current_user || ' ' || current_database()"); got != "authz authz" {
		t.Errorf("connected as %q", got)
	}
	pids := family(t, p.PID())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := p.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	expectGone(t, pids, 0)
	if p.PID() != 0 {
		t.Error("a stopped Postgres has a pid")
	}
	if exists(p.runDir.path) {
		t.Errorf("%s is still there", p.runDir.path)
	}
	expectError(t, p.Restart(t.Context()), "removed its temporary data")
}

func TestStopEndsAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	pids := family(t, p.PID())
	// A stopped process answers no SIGINT and no SIGQUIT.
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	expectError(t, p.Stop(ctx), "was killed")
	expectGone(t, pids, 0)
}

func TestKilledParentLeavesNoProcess(t *testing.T) {
	t.Parallel()
	holder, pid := startHolder(t, folder(t))
	pids := family(t, pid)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	expectGone(t, pids, 10*time.Second)
}

func TestRestartAfterStop(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{Dir: folder(t)})
	query(t, p, "create table t ()")
	url := p.URL()
	stop(t, p)
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.URL() != url {
		t.Errorf("the URL changed from %s to %s", url, p.URL())
	}
	query(t, p, "table t")
	// Of one that runs, too.
	pid := p.PID()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.PID() == pid || p.PID() == 0 {
		t.Errorf("pid %d before, %d after", pid, p.PID())
	}
	query(t, p, "table t")
	stop(t, p)
	if exists(p.runDir.path) {
		t.Errorf("%s is still there", p.runDir.path)
	}
}

func TestStartHonoursItsContext(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := start(ctx, Options{Dir: dir}, testMachine())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want that the time is over", err)
	}
	// What was left unfinished does not stand in the way.
	begin(t, Options{Dir: dir})
}

func TestKilledPostgresKeepsCommittedRows(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	query(t, p, "create table t (x int)", "insert into t values (7)")
	url, pids := p.URL(), family(t, p.PID())
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	expectGone(t, pids, 0)
	if p.PID() != 0 {
		t.Error("a killed Postgres has a pid")
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(url, p.URL()); diff != "" {
		t.Errorf("the URL changed (-before +after):\n%s", diff)
	}
	if got := query(t, p, "select x from t"); got != "7" {
		t.Errorf("the row holds %q", got)
	}
}

func TestFailedStartQuotesTheLog(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	for name, log := range map[string]io.Writer{"own": nil, "given": &lastBytes{}} {
		o := Options{Dir: dir, Log: log, Settings: map[string]string{"no_such_setting": "1"}}
		_, err := start(t.Context(), o, testMachine())
		if err == nil {
			t.Fatalf("%s log: it started", name)
		}
		expectError(t, err, "ended while it started", `unrecognized configuration parameter "no_such_setting"`)
	}
	if !exists(filepath.Join(dir, "postgres.log")) {
		t.Error("there is no postgres.log")
	}
	// And leaves neither a lock nor a process behind.
	begin(t, Options{Dir: dir})
}
