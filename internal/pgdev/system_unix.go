//go:build linux || darwin

package pgdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

const (
	unixSockets = true
	// rootFolder is a folder that every user can enter.
	rootFolder = "/"
)

// serverAccount is this process' own user; for root, whom Postgres refuses, an
// unprivileged one.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: "uid " + strconv.Itoa(os.Geteuid()), uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("reading the uid of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("reading the gid of user %s: %w", name, err)
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), switched: true}, nil
	}
	return account{}, errors.New("Postgres does not run as root, and there is neither a user postgres nor a user nobody: run this as another user")
}

func attributes(acc account) *syscall.SysProcAttr {
	// A process group of its own: Ctrl-C in a terminal goes to the whole group
	// in the foreground, and would stop Postgres under this program.
	attr := &syscall.SysProcAttr{Setpgid: true}
	if acc.switched {
		attr.Credential = &syscall.Credential{Uid: acc.uid, Gid: acc.gid}
	}
	endWithParent(attr)
	return attr
}

// makeOwned makes a folder that acc alone can enter. It must not exist.
func makeOwned(dir string, acc account) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder for Postgres: %w", err)
	}
	if acc.switched {
		if err := os.Lchown(dir, int(acc.uid), int(acc.gid)); err != nil {
			return fmt.Errorf("giving a folder to user %s: %w", acc.name, err)
		}
	}
	return nil
}

func owner(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

func ownedByUs(info fs.FileInfo) bool { return owner(info) == uint32(os.Geteuid()) }

// checkOwner puts Postgres' own refusal into words that help.
func checkOwner(data string, info fs.FileInfo, acc account) error {
	if uid := owner(info); uid != acc.uid {
		return fmt.Errorf("the data in %s belongs to uid %d, and Postgres would run as %s (uid %d): run this as the user who made it, or begin with empty data with --fresh", data, uid, acc.name, acc.uid)
	}
	return nil
}

func (p *process) signalStop(_ account, _ binaries, _ string, how shutdown) {
	signal := syscall.SIGINT
	if how == immediate {
		signal = syscall.SIGQUIT
	}
	_ = p.cmd.Process.Signal(signal) // it fails only where the process has ended
}

// kill ends the postmaster and its children, and returns when all are gone.
// Its children are not in its process group: each has one of its own.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	// Stopped, it starts no more children, and does not reap those that end, so
	// that their pids stay theirs.
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	family, err := children(p.pid())
	_ = p.cmd.Process.Kill()
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
	if err != nil {
		return fmt.Errorf("listing the children of Postgres: %w", err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, pid := range family {
		for alive(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d of Postgres does not end", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

var errLocked = errors.New("locked by another process")

// fileLock is a lock that ends with the process that holds it.
type fileLock struct{ file *os.File }

func tryLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return &fileLock{f}, nil
}

func awaitLock(ctx context.Context, path string) (*fileLock, error) {
	for {
		lock, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// release is also right for a lock that was never taken.
func (l *fileLock) release() {
	if l == nil {
		return
	}
	// Closing is not enough: a program that is just being started holds a copy
	// of the descriptor until it is, and the lock with it.
	_ = syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
	l.file.Close()
}
