package pgdev

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// endWithParent makes the kernel end Postgres when the thread that started it
// does, however that came about. SIGQUIT is the shutdown that waits for nobody.
// It is set after the change of user, which would clear it.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// memoryFolder is a file system in memory, if it has room to spare. A database
// is some 300 files, and to copy them there takes a tenth of the time.
func memoryFolder() string {
	const (
		folder  = "/dev/shm"
		tmpfs   = 0x01021994 // statfs(2), TMPFS_MAGIC
		atLeast = 4 << 30
	)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil || int64(fs.Type) != tmpfs {
		return ""
	}
	if fs.Bavail*uint64(fs.Bsize) < atLeast {
		return "" // a container gives it 64 MB
	}
	return folder
}

// children reads /proc, since a slim image has no ps.
func children(parent int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if _, ppid := procStat(pid); ppid == parent {
			found = append(found, pid)
		}
	}
	return found, nil
}

// alive does not count a zombie: it holds nothing, and waits for an init that
// may never reap it.
func alive(pid int) bool {
	state, _ := procStat(pid)
	return state != "" && state != "Z" && state != "X"
}

// stopped tells whether a signal has stopped the process.
func stopped(pid int) bool {
	state, _ := procStat(pid)
	return state == "T"
}

// procStat reads the state and the parent of a process, "" and 0 if there is
// none. proc_pid_stat(5): fields 3 and 4, after a name in parentheses that may
// itself hold any character.
func procStat(pid int) (state string, parent int) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0
	}
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return string(fields[0]), parent
}
