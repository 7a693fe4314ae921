//go:build linux || darwin

package pgdev

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// holdVariable makes this test binary a program that runs a Postgres on the
// folder it names and prints its pid, until its standard input ends.
const holdVariable = "PGDEV_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(holdVariable); ok {
		os.Exit(hold(dir))
	}
	os.Exit(m.Run())
}

func hold(dir string) int {
	p, err := Start(context.Background(), Options{Dir: dir, Unsafe: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(p.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := p.Stop(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// startHolder runs such a program.
func startHolder(t *testing.T, dir string) (holder *exec.Cmd, pid int) {
	t.Helper()
	holder = exec.Command(os.Args[0])
	// Killed, it leaves its temporary folder behind.
	holder.Env = append(os.Environ(), holdVariable+"="+dir, "TMPDIR="+folder(t))
	if _, err := holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatalf("the program that should hold a Postgres says: %s", line)
	}
	return holder, pid
}

// folder is one that every user can reach: t.TempDir is closed to all but its
// owner.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgdev-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// testMachine is this one, without the network.
func testMachine() machine {
	m := thisMachine()
	m.search.fetch = noFetch
	return m
}

func noFetch(context.Context, account) (string, error) {
	return "", fmt.Errorf("no network in tests")
}

// begin starts a Postgres that ends with t.
func begin(t *testing.T, o Options) *Postgres {
	t.Helper()
	o.Unsafe = true
	return beginOn(t, o, testMachine())
}

func beginOn(t *testing.T, o Options, m machine) *Postgres {
	t.Helper()
	p, err := start(t.Context(), o, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return p
}

func stop(t *testing.T, p *Postgres) {
	t.Helper()
	if err := p.Stop(t.Context()); err != nil {
		t.Fatalf("stopping: %v", err)
	}
}

// query runs statements on a Postgres and returns the last one's only value.
func query(t *testing.T, p *Postgres, statements ...string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var value string
	for _, s := range statements {
		results, err := conn.PgConn().Exec(t.Context(), s).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if last := results[len(results)-1]; len(last.Rows) > 0 {
			value = string(last.Rows[0][0])
		}
	}
	return value
}

// family is a postmaster and its children.
func family(t *testing.T, pid int) []int {
	t.Helper()
	if pid == 0 {
		t.Fatal("no postmaster runs")
	}
	all, err := children(pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatalf("the postmaster %d has no children", pid)
	}
	return append(all, pid)
}

// expectGone waits for processes to end that nobody waits for.
func expectGone(t *testing.T, pids []int, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	for _, pid := range pids {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d still runs", pid)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func expectError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
