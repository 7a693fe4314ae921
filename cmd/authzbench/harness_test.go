package main

import (
	"net"
	"testing"
)

// answering is a server that answers whatever comes by the same bytes, and hangs up.
func answering(t *testing.T, text string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			c.Read(make([]byte, 1<<10))
			c.Write([]byte(text))
			c.Close()
		}
	}()
	return l.Addr().String()
}
