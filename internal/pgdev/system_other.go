//go:build !linux && !darwin

package pgdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

const (
	unixSockets = false
	rootFolder  = "" // the current one
)

// serverAccount is this process' own user: only Unix lets root become another.
func serverAccount() (account, error) { return account{name: "this user"}, nil }

func attributes(account) *syscall.SysProcAttr { return nil }

func makeOwned(dir string, _ account) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder for Postgres: %w", err)
	}
	return nil
}

func ownedByUs(fs.FileInfo) bool { return false }

func checkOwner(string, fs.FileInfo, account) error { return nil }

// signalStop goes through pg_ctl, which knows how to signal without signals.
func (p *process) signalStop(_ account, b binaries, data string, how shutdown) {
	mode := "fast"
	if how == immediate {
		mode = "immediate"
	}
	_ = exec.Command(executable(b.dir, "pg_ctl"), "stop", "-W", "-D", data, "-m", mode).Run()
}

// kill ends the postmaster; its children end when they notice.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

// freeze, thaw and orphan are tests' that need signals.
func (*process) freeze() error { return errors.ErrUnsupported }

func (*process) thaw() error { return errors.ErrUnsupported }

func (*process) orphan() error { return errors.ErrUnsupported }

var errLocked = errors.New("locked by another process")

// fileLock locks nothing here. Postgres itself refuses data that is in use, and
// what is fetched is put in place by a rename.
type fileLock struct{}

func tryLock(string) (*fileLock, error) { return &fileLock{}, nil }

func awaitLock(context.Context, string) (*fileLock, error) { return &fileLock{}, nil }

func (*fileLock) release() {}

func memoryFolder() string { return "" }
