package main

import "runtime"

// ballast is memory that is never touched, and so takes none of the machine's. The
// garbage collector runs when the heap has doubled: with a live heap of a few
// megabytes, as a server's is, that would be a hundred times a second. With this it
// runs when some 20 MiB have been made, and no later than it would otherwise where
// much is live.
const ballast = 16 << 20

// carryBallast returns what puts it down again.
func carryBallast() func() {
	b := make([]byte, ballast)
	return func() { runtime.KeepAlive(b) }
}
