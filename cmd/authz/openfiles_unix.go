//go:build unix

package main

import "syscall"

// openFiles is how many files the process may have open (RLIMIT_NOFILE). The Go
// runtime has raised it to what it may be raised to.
func openFiles() (uint64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return uint64(limit.Cur), true // signed on FreeBSD
}
