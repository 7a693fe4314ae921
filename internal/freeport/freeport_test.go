package freeport_test

import (
	"net"
	"testing"

	"github.com/cargokey/authz/internal/freeport"
)

func TestNoAddressIsGivenTwiceAndEachIsFree(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		address := freeport.Address(t)
		if seen[address] {
			t.Errorf("%s is given twice", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}

func TestAddressIsGivenAnewOnceItsTestHasEnded(t *testing.T) {
	var address string
	t.Run("a test", func(t *testing.T) { address = freeport.Address(t) })
	held, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal("it is still held")
	}
	_ = held.Close()
}
