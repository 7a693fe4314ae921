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
const lowest, number = 10000, 10000

// Address is an address of the loopback that nobody listens at, by TCP or by UDP, and
// that no other test gets while this one runs, also of another process: whoever has
// the UDP port number further on has the address.
func Address(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := lowest + rand.IntN(number)
		held, err := net.ListenPacket("udp", loopback(port+number))
		if err != nil {
			continue
		}
		if isFree(loopback(port)) {
			t.Cleanup(func() { _ = held.Close() })
			return loopback(port)
		}
		_ = held.Close()
	}
	t.Fatal("no port is free")
	return ""
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	_ = l.Close()
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	_ = p.Close()
	return true
}
