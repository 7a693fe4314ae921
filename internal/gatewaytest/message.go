package gatewaytest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// call is a request as it goes over the wire: an http.Client would tidy it.
type call struct {
	method, target string
	header         []field // in this order, in this case, also twice
	body           string
}

type field struct{ name, value string }

// with is the call with more header fields.
func (c call) with(fields ...field) call {
	c.header = append(slices.Clone(c.header), fields...)
	return c
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a call on a connection of its own.
func (c call) send(t testing.TB, address string) answer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c.sendOver(t, conn, address)
}

// sendOver sends a call, and closes the connection.
func (c call) sendOver(t testing.TB, conn net.Conn, address string) answer {
	t.Helper()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.method, c.target, address)
	for _, f := range c.header {
		fmt.Fprintf(&wire, "%s: %s\r\n", f.name, f.value)
	}
	if c.body != "" {
		fmt.Fprintf(&wire, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(c.body))
	}
	if !slices.ContainsFunc(c.header, func(f field) bool { return strings.EqualFold(f.name, "Connection") }) {
		wire.WriteString("Connection: close\r\n")
	}
	wire.WriteString("\r\n" + c.body)
	if _, err := conn.Write(wire.Bytes()); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.method})
	if err != nil {
		t.Fatalf("%s %s is not answered: %v", c.method, c.target, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("the answer to %s %s breaks off: %v", c.method, c.target, err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// challenge returns the error and the scope of the one DPoP challenge; the error
// is "-" for a challenge without one, and "" where there is no challenge.
func (a answer) challenge(t testing.TB) (code, scope string) {
	t.Helper()
	for _, value := range a.header.Values("WWW-Authenticate") {
		rest, ok := strings.CutPrefix(value, "DPoP ")
		if !ok {
			continue
		}
		if code != "" {
			t.Errorf("two DPoP challenges: %q", a.header.Values("WWW-Authenticate"))
		}
		code = parameter(rest, "error")
		if code == "" {
			code = "-"
		}
		scope = parameter(rest, "scope")
	}
	return code, scope
}

func parameter(challenge, name string) string {
	found := regexp.MustCompile(`(?:^|, ?)` + name + `="([^"]*)"`).FindStringSubmatch(challenge)
	if found == nil {
		return ""
	}
	return found[1]
}
