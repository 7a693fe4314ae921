package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// connection is one keep-alive connection. It speaks as little HTTP/1.1 as will
// do with the servers measured here: what it costs is taken from them.
type connection struct {
	net.Conn
	buffer []byte
}

// answer is valid until the next one.
type answer struct{ head, body []byte }

func connect(address string) (*connection, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, buffer: make([]byte, 16<<10)}, nil
}

var (
	endOfHead     = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	statusOK      = []byte("HTTP/1.1 200 ")
)

// ask sends a request and reads its answer, which has to be a 200.
func (c *connection) ask(request []byte) (answer, error) {
	if _, err := c.Write(request); err != nil {
		return answer{}, err
	}
	have, end, length := 0, -1, 0
	for end < 0 || have < end+length {
		if have == len(c.buffer) {
			return answer{}, errors.New("an answer is longer than any that is expected")
		}
		n, err := c.Read(c.buffer[have:])
		if err != nil {
			return answer{}, err
		}
		have += n
		if end >= 0 {
			continue
		}
		if end = bytes.Index(c.buffer[:have], endOfHead); end < 0 {
			continue
		}
		end += len(endOfHead)
		if length, err = bodyLength(c.buffer[:end]); err != nil {
			return answer{}, err
		}
	}
	a := answer{c.buffer[:end], c.buffer[end:have]}
	if !bytes.HasPrefix(a.head, statusOK) {
		return answer{}, refusal(a)
	}
	return a, nil
}

func bodyLength(head []byte) (int, error) {
	_, rest, ok := bytes.Cut(head, contentLength)
	if !ok {
		return 0, errors.New("an answer does not say how long it is")
	}
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < 0 {
		return 0, errors.New("an answer has a malformed Content-Length")
	}
	return n, nil
}

// refusal quotes an answer that is none of the expected: it holds no token.
func refusal(a answer) error {
	status, _, _ := bytes.Cut(a.head, []byte("\r\n"))
	if _, challenge, ok := bytes.Cut(a.head, []byte("\r\nWww-Authenticate: ")); ok {
		challenge, _, _ = bytes.Cut(challenge, []byte("\r\n"))
		return fmt.Errorf("%s: %s", status, challenge)
	}
	return fmt.Errorf("%s: %s", status, a.body)
}

// post is a request with a form.
func post(address, path, form string, headers ...string) []byte {
	return compose("POST", address, path, form, append(headers, "Content-Type", "application/x-www-form-urlencoded", "Content-Length", strconv.Itoa(len(form)))...)
}

// compose writes a request as it goes over the wire. Headers are names and values.
func compose(method, address, path, body string, headers ...string) []byte {
	b := append(make([]byte, 0, 1024), method+" "+path+" HTTP/1.1\r\nHost: "+address+"\r\n"...)
	for i := 0; i < len(headers); i += 2 {
		b = append(append(append(append(b, headers[i]...), ": "...), headers[i+1]...), "\r\n"...)
	}
	return append(append(b, "\r\n"...), body...)
}
