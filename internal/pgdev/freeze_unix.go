//go:build linux || darwin

package pgdev

import (
	"fmt"
	"syscall"
)

// freeze stops the postmaster first: after that it starts no more children.
func (p *process) freeze() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := awaitAll([]int{p.pid()}, "stopped", halted); err != nil {
		return err
	}
	family, err := children(p.pid())
	if err != nil {
		return fmt.Errorf("listing the children of Postgres: %w", err)
	}
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it fails only where the process has ended
	}
	return awaitAll(family, "stopped", halted)
}

// halted counts one that has ended: it does nothing any more either.
func halted(pid int) bool { return stopped(pid) || !alive(pid) }

func (p *process) thaw() error {
	family, err := children(p.pid())
	for _, pid := range append(family, p.pid()) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	return err
}

func (p *process) orphan() error {
	// See kill: stopped, it does not reap those that end.
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	family, err := children(p.pid())
	_ = p.cmd.Process.Kill()
	<-p.done
	if err != nil {
		return fmt.Errorf("listing the children of Postgres: %w", err)
	}
	return awaitAll(family, "ended", func(pid int) bool { return !alive(pid) })
}
