package pgdev

import (
	"errors"
	"fmt"
	"time"
)

// errNotRunning is for what needs a process of ours.
var errNotRunning = errors.New("there is no Postgres of ours that runs")

// freezePatience is how long processes have to stop, or to end, once they were
// told to: a signal takes effect when its process is next given time.
const freezePatience = 30 * time.Second

// Freeze stops the postmaster and all of its children where they stand, as a
// machine does that hangs: connections stay open and nothing answers. It returns
// when each of them has stopped. Thaw lets them go on; Kill works on a frozen
// one too, Stop does not. It is for Linux and macOS.
func (p *Postgres) Freeze() error {
	p.turn.Lock()
	defer p.turn.Unlock()
	proc := p.running.Load()
	if p.given || proc == nil || proc.ended() {
		return errNotRunning
	}
	return proc.freeze()
}

// Thaw lets a frozen Postgres go on.
func (p *Postgres) Thaw() error {
	p.turn.Lock()
	defer p.turn.Unlock()
	proc := p.running.Load()
	if p.given || proc == nil || proc.ended() {
		return errNotRunning
	}
	return proc.thaw()
}

// KillPostmaster ends the postmaster alone, at once, and returns when its
// children have noticed and ended too. Restart recovers the data, as after Kill.
func (p *Postgres) KillPostmaster() error {
	p.turn.Lock()
	defer p.turn.Unlock()
	proc := p.running.Load()
	if p.given || proc == nil || proc.ended() {
		return errNotRunning
	}
	return proc.orphan()
}

// awaitAll returns when it is so of each process.
func awaitAll(family []int, what string, so func(pid int) bool) error {
	deadline := time.Now().Add(freezePatience)
	for _, pid := range family {
		for !so(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d of Postgres has not %s", pid, what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}
