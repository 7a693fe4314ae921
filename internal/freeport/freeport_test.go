package freeport_test

import (
	"net"
	"strconv"
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
		p, err := net.ListenPacket("udp", address) // HTTP/3
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Close()
	}
}

func TestAddressIsHeldForAsLongAsItsTestRuns(t *testing.T) {
	var address string
	held := func() bool {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(n+10000)))
		if err == nil {
			_ = p.Close()
		}
		return err != nil
	}
	t.Run("a test", func(t *testing.T) {
		if address = freeport.Address(t); !held() {
			t.Error("another test may get it as well")
		}
	})
	if held() {
		t.Error("it is still held")
	}
}
