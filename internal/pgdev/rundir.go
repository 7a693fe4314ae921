package pgdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// socketPort is no port: it only names the socket's file.
const socketPort = 5432

// runDirPrefix names the folders of this package in the temporary folder.
const runDirPrefix = "authz-pg-"

// sharedTempDir is short, and every user can enter it.
const sharedTempDir = "/tmp"

// runDir is a folder that lives as long as a run. It holds the folder of the
// socket, and the data where that is temporary.
type runDir struct {
	path string
	lock *fileLock
}

// plainPath is a path that needs quoting neither in a URL nor in Postgres'
// list of socket folders.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._-]+$`)

// shortTempDir is the temporary folder, unless a socket's path in it would not
// fit into sun_path (107 bytes on Linux, 103 on macOS) or need quoting.
func shortTempDir() string {
	dir := os.TempDir()
	const below = len("/" + runDirPrefix + "4294967295/s/.s.PGSQL.5432.lock")
	if unixSockets && (len(dir)+below > 103 || !plainPath.MatchString(dir) || !filepath.IsAbs(dir)) {
		return sharedTempDir
	}
	return dir
}

// newRunDir makes one in tempDir, or in /tmp where that does not do for this
// user or for the one that runs Postgres.
func newRunDir(ctx context.Context, tempDir string, acc account, b binaries) (*runDir, error) {
	sweep(tempDir)
	path, err := os.MkdirTemp(tempDir, runDirPrefix)
	if err != nil && unixSockets && tempDir != sharedTempDir {
		return newRunDir(ctx, sharedTempDir, acc, b)
	}
	if err != nil {
		return nil, fmt.Errorf("making a temporary folder for Postgres: %w", err)
	}
	d := &runDir{path: path}
	if err := d.open(acc); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	if !acc.switched {
		return d, nil
	}
	ok, err := canEnter(ctx, acc, b, path)
	if err == nil && ok {
		return d, nil
	}
	if err == nil && tempDir == sharedTempDir {
		err = fmt.Errorf("user %s, who runs Postgres for root, cannot reach %s", acc.name, path)
	}
	if err := errors.Join(err, d.remove()); err != nil {
		return nil, err
	}
	return newRunDir(ctx, sharedTempDir, acc, b)
}

// open takes the folder's lock, which tells sweep that it is in use, and lets
// another user that runs Postgres pass through it.
func (d *runDir) open(acc account) error {
	if acc.switched {
		if err := os.Chmod(d.path, 0o711); err != nil {
			return err
		}
	}
	var err error
	d.lock, err = tryLock(filepath.Join(d.path, "lock"))
	return err
}

// remake makes the folder again under its old name, after remove.
func (d *runDir) remake(acc account) error {
	// Mkdir fails if anything is there: in a folder that all users share, it
	// would be somebody else's.
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return fmt.Errorf("making the temporary folder of Postgres again: %w", err)
	}
	return d.open(acc)
}

func (d *runDir) remove() error {
	d.lock.release()
	return os.RemoveAll(d.path)
}

// socketDir is the folder of the socket.
func (d *runDir) socketDir() string { return filepath.Join(d.path, "s") }

// makeSocketDir makes an empty folder that only acc (and root) can enter.
// Postgres trusts whoever connects, so this folder's mode is what keeps other
// users of the machine out.
func (d *runDir) makeSocketDir(acc account) error {
	if err := os.RemoveAll(d.socketDir()); err != nil {
		return fmt.Errorf("clearing the socket's folder: %w", err)
	}
	return makeOwned(d.socketDir(), acc)
}

// sweep removes folders of runs that ended without removing them: nobody holds
// their lock, and nothing answers on their socket. It is a courtesy, so errors
// are left to the next run.
func sweep(tempDir string) {
	folders, err := filepath.Glob(filepath.Join(tempDir, runDirPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range folders {
		info, err := os.Lstat(path)
		// A young folder's lock may not have been taken yet.
		if err != nil || !info.IsDir() || !ownedByUs(info) || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		d := runDir{path: path}
		if accepts("unix", socketFile(d.socketDir(), socketPort)) {
			continue
		}
		if d.lock, err = tryLock(filepath.Join(path, "lock")); err == nil {
			_ = d.remove()
		}
	}
}

func socketFile(dir string, port int) string {
	return filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port))
}

func accepts(network, address string) bool {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// postmasterPID is the process that a data directory's postmaster.pid names,
// alive or not; 0 if there is no such file.
func postmasterPID(data string) int {
	pid, _, _ := readPostmasterFile(data)
	return pid
}

// livePostmaster is the process that serves a data directory now; 0 if none
// answers.
func livePostmaster(data string) int {
	pid, network, address := readPostmasterFile(data)
	if pid == 0 || address == "" || !accepts(network, address) {
		return 0
	}
	return pid
}

// readPostmasterFile reads postmaster.pid: the process on its first line, port,
// socket folder and listen address on lines 4 to 6.
func readPostmasterFile(data string) (pid int, network, address string) {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, "", ""
	}
	lines := strings.Split(string(content), "\n")
	if pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil || len(lines) < 6 {
		return 0, "", ""
	}
	port, err := strconv.Atoi(lines[3])
	switch {
	case err != nil:
	case lines[4] != "":
		return pid, "unix", socketFile(lines[4], port)
	case lines[5] != "":
		return pid, "tcp", net.JoinHostPort(lines[5], lines[3])
	}
	return pid, "", ""
}
