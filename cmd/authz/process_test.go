package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// process is a program that runs beside the test.
type process struct {
	cmd         *exec.Cmd
	out, errOut output
	done        chan struct{}
}

// startProcess runs a program in dir; its whole environment is env.
func startProcess(dir string, env []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, &p.out, &p.errOut
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// await returns when o matches the pattern.
func (p *process) await(o *output, pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	deadline := time.After(patience)
	for !re.MatchString(o.String()) {
		select {
		case <-p.done:
			if re.MatchString(o.String()) {
				return nil
			}
			return fmt.Errorf("it ended (%v) before it printed %q:\n%s%s", p.cmd.ProcessState, pattern, &p.out, &p.errOut)
		case <-deadline:
			return fmt.Errorf("it does not print %q:\n%s%s", pattern, &p.out, &p.errOut)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// end sends a signal and returns the exit code; -1 is death by a signal.
func (p *process) end(signal syscall.Signal) (int, error) {
	p.cmd.Process.Signal(signal)
	return p.wait()
}

// endPatience is longer than a server may take for its requests and its Postgres
// for its files.
const endPatience = 45 * time.Second

func (p *process) wait() (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(endPatience):
		p.cmd.Process.Signal(syscall.SIGQUIT) // it prints where it is
		time.Sleep(time.Second)
		p.kill()
		return 0, fmt.Errorf("it does not end:\n%s%s", &p.out, &p.errOut)
	}
}

// kill is for what a failed test left running.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// environment is what a program needs to run on this machine, and all that it
// gets besides what is given.
func environment(t testing.TB, given ...string) []string {
	t.Helper()
	env := []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	if cache, err := os.UserCacheDir(); err == nil {
		env = append(env, "XDG_CACHE_HOME="+cache) // where fetched Postgres binaries are
	}
	// A build for -race would sleep for a second at the end of each process.
	env = append(env, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return append(env, given...)
}

// startAuthz runs the program beside the test, which ends it if it still runs.
func startAuthz(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p, err := startProcess(t.TempDir(), env, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// runAuthz runs the program to its end, which must be a success, and returns
// what it printed on standard output.
func runAuthz(t *testing.T, program string, env []string, args ...string) string {
	t.Helper()
	p := startAuthz(t, program, env, args...)
	code, err := p.wait()
	if err != nil || code != 0 {
		t.Fatalf("authz %q: exit code %d, %v\n%s%s", args, code, err, &p.out, &p.errOut)
	}
	return p.out.String()
}

// programFolder is a folder for installProgram.
func programFolder(t testing.TB) string { return filepath.Join(t.TempDir(), "bin") }
