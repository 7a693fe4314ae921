package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

// detail is what is read of an event's detail. What is not here is of no concern, and
// what is of another type than this is a mistake of who wrote it.
type detail struct {
	Scope         string `json:"scope"`
	Credential    string `json:"credential"`
	UserAgent     string `json:"user_agent"`
	OffsetMS      *int64 `json:"offset_ms"`
	Error         string `json:"error"`
	Reason        string `json:"reason"`
	Authenticated bool   `json:"authenticated"`
	Times         int64  `json:"times"`
	Limited       int64  `json:"limited"`
}

// errDetail does not quote what it is about.
var errDetail = errors.New("its detail is not what it should be")

// readDetail reads a detail. Nearly all are flat objects of plain texts, numbers and
// booleans, and are read by hand, in less time than all else takes; encoding/json has the
// others.
func readDetail(raw []byte) (detail, error) {
	if len(raw) == 0 {
		return detail{}, nil
	}
	s := scanner{left: raw}
	if d, ok := s.detail(); ok {
		return d, nil
	}
	var d detail
	if err := json.Unmarshal(raw, &d); err != nil {
		return detail{}, errDetail
	}
	return d, nil
}

// scanner reads JSON that is as plain as Postgres writes it, and gives up on all else.
type scanner struct {
	left []byte
	bad  bool
}

func (s *scanner) detail() (d detail, ok bool) {
	if !s.take('{') {
		return d, false
	}
	for more := !s.take('}'); more; more = !s.take('}') {
		name := s.text()
		if s.bad || !s.take(':') {
			return d, false
		}
		s.member(&d, name)
		if s.bad || s.take(',') == s.ends() {
			return d, false
		}
	}
	return d, len(s.left) == 0
}

func (s *scanner) member(d *detail, name []byte) {
	switch string(name) { // which allocates nothing
	case "scope":
		d.Scope = string(s.text())
	case "credential":
		d.Credential = string(s.text())
	case "user_agent":
		d.UserAgent = string(s.text())
	case "error":
		d.Error = string(s.text())
	case "reason":
		d.Reason = string(s.text())
	case "offset_ms":
		d.OffsetMS = new(s.number())
	case "times":
		d.Times = s.number()
	case "limited":
		d.Limited = s.number()
	case "authenticated":
		d.Authenticated = s.boolean()
	default:
		s.skip(name)
	}
}

// skip is for members of no concern. Names of other letters than small ones may be
// those of others to encoding/json.
func (s *scanner) skip(name []byte) {
	for _, c := range name {
		if (c < 'a' || c > 'z') && c != '_' {
			s.bad = true
			return
		}
	}
	switch {
	case len(s.left) == 0:
		s.bad = true
	case s.left[0] == '"':
		s.text()
	case s.left[0] == 't' || s.left[0] == 'f':
		s.boolean()
	default:
		s.number()
	}
}

func (s *scanner) take(c byte) bool {
	if len(s.left) == 0 || s.left[0] != c {
		return false
	}
	s.left = bytes.TrimLeft(s.left[1:], " ")
	return true
}

// ends tells whether an object ends here.
func (s *scanner) ends() bool { return len(s.left) > 0 && s.left[0] == '}' }

func (s *scanner) text() []byte {
	if len(s.left) < 2 || s.left[0] != '"' {
		s.bad = true
		return nil
	}
	end := bytes.IndexByte(s.left[1:], '"')
	if end < 0 {
		s.bad = true
		return nil
	}
	text := s.left[1 : 1+end]
	for _, c := range text {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			s.bad = true
			return nil
		}
	}
	s.left = s.left[1+end:]
	s.take('"')
	return text
}

func (s *scanner) number() int64 {
	end := 0
	for end < len(s.left) && (s.left[end] == '-' || s.left[end] >= '0' && s.left[end] <= '9') {
		end++
	}
	text := s.left[:end]
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(text) || n != 0 && text[0] == '0' {
		s.bad = true
		return 0
	}
	s.left = bytes.TrimLeft(s.left[end:], " ")
	return n
}

func (s *scanner) boolean() bool {
	for _, is := range []bool{true, false} {
		if rest, ok := bytes.CutPrefix(s.left, strconv.AppendBool(nil, is)); ok {
			s.left = bytes.TrimLeft(rest, " ")
			return is
		}
	}
	s.bad = true
	return false
}
