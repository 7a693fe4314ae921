package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/pgdev"
)

// smallDisk is a file system of its own that a test can fill.
type smallDisk struct {
	t    *testing.T
	path string
}

// newSmallDisk mounts one, which only root may. It lies where the user that runs
// Postgres for root can enter.
func newSmallDisk(t *testing.T, size string) *smallDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system to fill")
	}
	path, err := os.MkdirTemp("/tmp", "authz-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "mode=0711,size="+size); err != nil {
		t.Skipf("this machine lets nobody mount a file system to fill: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	if err := os.Chmod(path, 0o711); err != nil { // MkdirTemp let nobody else in
		t.Fatal(err)
	}
	return &smallDisk{t, path}
}

// fill takes all the space that is left.
func (d *smallDisk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) >= 512; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *smallDisk) filler() string { return filepath.Join(d.path, "filler") }

func TestFullDiskIsA503AndPassesByItself(t *testing.T) {
	t.Parallel()
	seed := faultSeed(t)
	disk := newSmallDisk(t, "192m")
	log := &output{}
	s := newFaultSite(t, faultOptions{instances: 2, postgres: pgdev.Options{
		Dir: filepath.Join(disk.path, "postgres"), Log: log,
		Settings: map[string]string{"min_wal_size": "32MB", "max_wal_size": "64MB", "wal_recycle": "off"},
	}})
	if !strings.Contains(s.pg.Source(), disk.path) {
		t.Fatalf("the disk to fill is not what Postgres is on: %s", s.pg.Source())
	}
	plain := s.world.Services[1]
	unavailable := func() int { return s.world.Answers()[http.StatusServiceUnavailable] }
	begin := func() func() {
		stop := sync.OnceFunc(s.world.Load(6, 20*time.Millisecond, seed))
		t.Cleanup(stop)
		s.world.Await("tokens", s.progress(8))
		return stop
	}

	stop := begin()
	refused := unavailable()
	s.world.Await("503s of a full disk", func() bool {
		disk.fill() // what Postgres itself has freed
		return unavailable() >= refused+5
	})
	s.world.Await("an instance to say that it is not ready", func() bool {
		disk.fill()
		s.world.Token(s.servers[0].at, plain)
		status, says := s.servers[0].readiness()
		return status == http.StatusServiceUnavailable && strings.Contains(says, "room on its disk")
	})
	s.world.Await("an introspection, which needs no room", func() bool {
		return s.world.IntrospectLatest(s.servers[1].at) == http.StatusOK
	})
	t.Logf("with a full disk: %v, of %d tokens; %d panics", s.world.Answers(), s.world.Issued(), strings.Count(log.String(), "PANIC"))
	s.world.Check()
	disk.free()
	s.revive()
	s.awaitService()
	s.settle(stop, seed)

	// Postgres cannot go on without its log, and ends all that is under way.
	stop = begin()
	s.world.Await("Postgres to end for want of space for its log", func() bool {
		disk.fill()
		_ = s.tryExec("select pg_switch_wal()") // the next write needs another file
		return strings.Contains(log.String(), "PANIC")
	})
	refused = unavailable()
	s.world.Await("503s without a Postgres", func() bool { return unavailable() >= refused+5 })
	disk.free()
	s.revive()
	s.awaitService()
	s.settle(stop, seed)
	s.checkLogs()
	t.Logf("answers %v, of %d tokens", s.world.Answers(), s.world.Issued())
}

// revive starts Postgres where it has ended by itself, as whoever runs it would. It
// is first given the time to begin anew by itself.
func (s *faultSite) revive() {
	s.t.Helper()
	s.world.Await("Postgres to answer", func() bool {
		if s.pg.PID() == 0 {
			if err := s.pg.Restart(s.t.Context()); err != nil {
				s.t.Logf("starting Postgres again: %v", err)
			}
		}
		return s.tryExec("select") == nil
	})
}
