package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// child is a process that is measured: the server, or a floor.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *os.File // what it prints
	log   string   // the file that it logs to
	done  chan struct{}
	begun time.Time
}

// startChild starts a program whose whole environment is env, and which ends with
// this process. Both of its outputs are files: a pipe would have to be read by
// somebody, while something is measured.
func startChild(dir, name, program string, env []string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(program, args...), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	errOut, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer errOut.Close()
	if c.out, err = os.Create(filepath.Join(dir, name+".out")); err != nil {
		return nil, err
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	c.cmd.Dir, c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = dir, env, c.out, errOut
	endWithParent(c.cmd)
	c.begun = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// await tries until it succeeds, the process ends or patience does.
func (c *child) await(ctx context.Context, try func() bool) error {
	patience := time.NewTimer(30 * time.Second)
	defer patience.Stop()
	for !try() {
		select {
		case <-c.done:
			return fmt.Errorf("it ended (%v)%s", c.cmd.ProcessState, c.quoteLog())
		case <-patience.C:
			return fmt.Errorf("it is not ready after 30 s%s", c.quoteLog())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// quoteLog is the end of the log, as the end of an error's text.
func (c *child) quoteLog() string {
	text, err := os.ReadFile(c.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	return "; its log ends:\n" + strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

// emptyLog keeps a line for each of a million requests from filling the disk.
func (c *child) emptyLog() { os.Truncate(c.log, 0) }

// stop ends the process as an operator would, and then as nobody should.
func (c *child) stop() error {
	defer c.out.Close()
	c.stdin.Close()
	c.cmd.Process.Signal(os.Interrupt)
	select {
	case <-c.done:
		return nil
	case <-time.After(15 * time.Second):
		c.cmd.Process.Kill()
		<-c.done
		return errors.New("a process did not end when asked, and was killed" + c.quoteLog())
	}
}
