package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// walPosition is how many bytes Postgres has logged in its life.
func walPosition(ctx context.Context, db *pgx.Conn) (n int64, err error) {
	err = db.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&n)
	return n, err
}

// What processes have used so far is read from Linux' /proc. Elsewhere, and of a
// process that is not known (0), it is nothing.

// tick is the unit of times in /proc (USER_HZ, which is 100 wherever Go runs).
const tick = 10 * time.Millisecond

// processTimes are of proc_pid_stat(5).
type processTimes struct {
	parent int
	own    time.Duration // user and system
	waited time.Duration // the same of children that have ended
}

func readTimes(pid int) (processTimes, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processTimes{}, false
	}
	// The program's name, in parentheses, may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return processTimes{}, false
	}
	number := func(n int) int64 { // n as the manual counts
		v, _ := strconv.ParseInt(string(fields[n-3]), 10, 64)
		return v
	}
	return processTimes{
		parent: int(number(4)),
		own:    time.Duration(number(14)+number(15)) * tick,
		waited: time.Duration(number(16)+number(17)) * tick,
	}, true
}

// cpuOf is the CPU time of one process.
func cpuOf(pid int) time.Duration {
	t, _ := readTimes(pid)
	return t.own
}

// cpuOfFamily is the CPU time of a postmaster and of its children, those that have
// ended too.
func cpuOfFamily(pid int) time.Duration {
	t, ok := readTimes(pid)
	if !ok {
		return 0
	}
	sum := t.own + t.waited
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		one, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if child, ok := readTimes(one); ok && child.parent == pid {
			sum += child.own
		}
	}
	return sum
}

// memory is of proc_pid_status(5): what a process holds now, and the most that it
// ever held, in bytes.
func memory(pid int) (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		switch string(fields[0]) {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	return now, peak
}
