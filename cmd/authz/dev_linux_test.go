package main

import (
	"path/filepath"
	"syscall"
	"testing"
)

// startDev runs "authz dev" and returns its Postgres' processes.
func startDev(t *testing.T, state, program string, args ...string) (*process, []int) {
	t.Helper()
	p := startAuthz(t, program, environment(t), args...)
	if err := p.await(&p.out, "revoked: "); err != nil {
		t.Fatal(err)
	}
	pids, err := postgresOf(state)
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) < 2 {
		t.Fatalf("the Postgres of %s is %v", state, pids)
	}
	return p, pids
}

// stateFolder is a test's own.
func stateFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { removeElsewhere(dir) })
	return filepath.Join(dir, "state")
}

func TestKilledDevLeavesNoPostgres(t *testing.T) {
	t.Parallel()
	state := stateFolder(t)
	program := installProgram(t, programFolder(t))
	p, pids := startDev(t, state, program, "dev", "--data", state, "--listen", "127.0.0.1:0")
	if _, err := p.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := awaitGone(pids); err != nil {
		t.Error(err)
	}
	// And the next one starts, on what the killed one kept.
	p, pids = startDev(t, state, program, "dev", "--data", state, "--listen", "127.0.0.1:0")
	if code, err := p.end(syscall.SIGINT); err != nil || code != 0 {
		t.Errorf("after SIGINT it ends with %d, %v", code, err)
	}
	if err := awaitGone(pids); err != nil {
		t.Error(err)
	}
}

// TestCtrlCEndsDevAndItsPostgres is Ctrl-C in a terminal: the signal goes to all
// of the process group in the foreground, and so to the go tool as well.
func TestCtrlCEndsDevAndItsPostgres(t *testing.T) {
	t.Parallel()
	state := stateFolder(t)
	program := installProgram(t, programFolder(t))
	// The go tool takes no notice of it and waits; so does this shell.
	line := `trap '' INT; set -m; "$0" "$@"; echo "exit code $?"`
	shell, pids := startDev(t, state, "bash", "-c", line, program, "dev", "--data", state, "--listen", "127.0.0.1:0")
	_, parent := processState(pids[0])
	group, err := syscall.Getpgid(parent)
	if err != nil {
		t.Fatal(err)
	}
	if own, err := syscall.Getpgid(0); err != nil || group == own || parent == shell.cmd.Process.Pid {
		t.Fatalf("dev is process %d in group %d", parent, group)
	}
	if other, err := syscall.Getpgid(pids[0]); err != nil || other == group {
		t.Errorf("Postgres is in the group %d that Ctrl-C goes to, %v", group, err)
	}
	if err := syscall.Kill(-group, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := shell.await(&shell.out, "exit code 0"); err != nil {
		t.Error(err)
	}
	if err := awaitGone(pids); err != nil {
		t.Error(err)
	}
}

// TestDevEndsWithTheGoToolThatRunsIt: a signal to the tool alone leaves what it
// runs an orphan.
func TestDevEndsWithTheGoToolThatRunsIt(t *testing.T) {
	t.Parallel()
	state := stateFolder(t)
	program := installProgram(t, filepath.Join(t.TempDir(), "go-build1", "exe"))
	shell, pids := startDev(t, state, "bash", "-c", `"$0" "$@"; exit`, program, "dev", "--data", state, "--listen", "127.0.0.1:0")
	if _, err := shell.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := awaitGone(pids); err != nil {
		t.Error(err)
	}
}
