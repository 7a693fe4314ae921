// Package freeport finds addresses for programs that a test starts, and that
// listen some time after they were told where.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Where no system that this is tested on takes the ports from that it gives to
// outgoing connections, and to listeners that leave the choice to it: one of those
// could have the port before the program that it was found for.
const lowest, number = 10000, 20000

// Address is a TCP address of the loopback that nobody listens at and that no other
// test gets while this one runs, also of another process: whoever has the UDP port
// of the same number has the address.
func Address(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(number))
		held, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			t.Cleanup(func() { _ = held.Close() })
			_ = l.Close()
			return address
		}
		_ = held.Close()
	}
	t.Fatal("no port is free")
	return ""
}
