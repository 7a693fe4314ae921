package main

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel end the process when this one dies, however that
// came about.
func endWithParent(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
