//go:build linux || darwin

package pgdev

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unprivileged are the tests that depend on who runs them.
const unprivileged = "^Test(StopLeaves|KilledParent|Server|DataIsKept|Loopback|Folders)"

// TestTheSameHoldsForAnUnprivilegedUser runs this test binary again as one.
func TestTheSameHoldsForAnUnprivilegedUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to become another user")
	}
	content, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	dir := folder(t)
	copied := filepath.Join(dir, "pgdev.test")
	write(t, copied, string(content), 0o755)
	t.Parallel() // not before the copy is written: see fakeBinaries
	acc := ourAccount(t)
	home := filepath.Join(dir, "home")
	if err := makeOwned(home, acc); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.parallel=4", "-test.v", "-test.timeout=2m", "-test.run="+unprivileged)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR=/tmp")
	cmd.SysProcAttr = attributes(acc)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS: Test"); n < 6 {
		t.Errorf("only %d tests passed:\n%s", n, out)
	}
}
