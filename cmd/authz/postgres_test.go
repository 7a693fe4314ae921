package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
)

// openFolder is where the data is that root's Postgres could not reach in the
// folder that was asked for.
const openFolder = "/var/lib/authz-dev"

// dataFolder is where "authz dev --data state" has its database.
func dataFolder(state string) string {
	dir := filepath.Join(state, "postgres")
	if id, err := os.ReadFile(filepath.Join(dir, "data-elsewhere")); err == nil {
		dir = filepath.Join(openFolder, strings.TrimSpace(string(id)))
	}
	return filepath.Join(dir, "data")
}

// removeElsewhere removes the data that the states in dir have there: pgdev
// would, but only after an hour.
func removeElsewhere(dir string) {
	states, _ := filepath.Glob(filepath.Join(dir, "*", "postgres", "data-elsewhere"))
	for _, path := range states {
		os.RemoveAll(filepath.Dir(dataFolder(filepath.Dir(filepath.Dir(path)))))
	}
}

// postgresOf lists the processes of a state folder's Postgres: the postmaster
// first, then, where the system tells, its children.
func postgresOf(state string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(dataFolder(state), "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return nil, err
	}
	family := []int{postmaster}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if _, parent := processState(pid); parent == postmaster {
			family = append(family, pid)
		}
	}
	return family, nil
}

// processState is proc_pid_stat(5)'s fields 3 and 4.
func processState(pid int) (state string, parent int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// awaitGone fails where one of the processes is left.
func awaitGone(pids []int) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range pids {
		for {
			// A zombie holds nothing; it waits for an init that may never reap it.
			if state, _ := processState(pid); state == "" || state == "Z" {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d of %v is left", pid, pids)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

// family NAME STATE: keeps the processes of a state folder's Postgres.
func familyCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 2, "family NAME STATE")
	pids, err := postgresOf(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Setenv(args[0], strings.Trim(fmt.Sprint(pids), "[]"))
}

// gone PIDS: none of them is left.
func goneCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1 && args[0] != "", "gone PIDS")
	var pids []int
	for text := range strings.FieldsSeq(args[0]) {
		pid, err := strconv.Atoi(text)
		ts.Check(err)
		pids = append(pids, pid)
	}
	ts.Check(awaitGone(pids))
}

// sql STATEMENT: runs it as the owner of the script's database, and prints what
// it returns.
func sqlCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "sql STATEMENT|FILE")
	statement := args[0]
	if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil {
		statement = string(text)
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, ts.Getenv("OWNER_URL"))
	ts.Check(err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, statement)
	ts.Check(err)
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		ts.Check(err)
		fmt.Fprintln(ts.Stdout(), values...)
	}
	ts.Check(rows.Err())
}
