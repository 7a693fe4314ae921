package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

// TestMain makes the test binary the program itself where it is run under the
// program's name, as scripts do. It is testscript.Main but for that one's own
// folder of commands, which it could not remove once pgtest.Main has exited.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "authz" {
		main()
	}
	pgtest.Main(m)
}

// installProgram puts the program into dir, which must not lie where the go
// tool builds: the program looks at that.
func installProgram(t testing.TB, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "authz")
	if os.MkdirAll(dir, 0o755) != nil || os.Link(self, path) != nil { // a link, where it is the same file system
		copyFile(t, self, path)
	}
	return path
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	// A child that another test forks meanwhile would hold the file open for
	// writing, and so keep it from being run.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
