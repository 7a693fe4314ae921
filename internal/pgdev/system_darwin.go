package pgdev

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// endWithParent can do nothing here: the next start on the same data finds a
// Postgres that outlived its parent, and says so.
func endWithParent(*syscall.SysProcAttr) {}

func children(parent int) ([]int, error) {
	out, err := exec.Command("/bin/ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, err
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(fields[0]); err == nil {
			found = append(found, pid)
		}
	}
	return found, nil
}

func alive(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }

// stopped tells whether a signal has stopped the process.
func stopped(pid int) bool {
	out, err := exec.Command("/bin/ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "T")
}

func memoryFolder() string { return "" }
