package strictjose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits on what a sender can make the scanner do. A real proof has two levels
// and fewer than ten members on each; a jwk with x5c has three.
const (
	maxDepth   = 8
	maxMembers = 64
)

var (
	errNotUTF8   = errors.New("is not valid UTF-8")
	errNotJSON   = errors.New("is not valid JSON")
	errNotObject = errors.New("is not a JSON object")
	errTooDeep   = fmt.Errorf("is nested deeper than %d levels", maxDepth)
	errTooMany   = fmt.Errorf("has an object of more than %d members", maxMembers)
	errBadEscape = errors.New("has a string with an unpaired surrogate")
)

// Object holds the members of a JSON object in their order.
type Object []Member

// Member is one member of an Object.
type Member struct {
	Name  string // unescaped
	Value []byte // raw JSON, without surrounding space
}

// Get returns the raw value of a member, nil when there is none.
func (o Object) Get(name string) []byte {
	for i := range o {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

// ParseObject reads a JSON object that every conforming parser reads alike, and
// refuses others, with an error that is the predicate of a sentence: RFC 7515 §4 and RFC 7519 §4 let a parser take the last of
// duplicate members instead, so that two could see two proofs in one (RFC 8259
// §4). encoding/json also takes a name in another case, so names equal under
// case folding count as duplicates, at any depth. The text is UTF-8 and nothing
// else (RFC 8725 §3.7).
func ParseObject(doc []byte) (Object, error) {
	if !utf8.Valid(doc) {
		return nil, errNotUTF8
	}
	if !json.Valid(doc) {
		return nil, errNotJSON
	}
	return ParseValidObject(doc)
}

// ParseValidObject is ParseObject for bytes that are known to be valid JSON.
func ParseValidObject(doc []byte) (Object, error) {
	s := scanner{doc: doc}
	s.skipSpace()
	if s.peek() != '{' {
		return nil, errNotObject
	}
	return s.object(1)
}

// scanner walks over JSON whose syntax is known to be valid, and so looks only
// for where things end.
type scanner struct {
	doc []byte
	pos int
}

func (s *scanner) peek() byte { return s.doc[s.pos] }

func (s *scanner) skipSpace() {
	for s.pos < len(s.doc) {
		switch s.doc[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

func (s *scanner) object(depth int) (Object, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	o := make(Object, 0, 8)
	s.pos++ // {
	for s.skipSpace(); s.peek() != '}'; s.skipSpace() {
		if s.peek() == ',' {
			s.pos++
			s.skipSpace()
		}
		name, err := unquote(s.string())
		if err != nil {
			return nil, err
		}
		for _, m := range o {
			if m.Name == name || strings.EqualFold(m.Name, name) {
				return nil, fmt.Errorf("has the member %s twice (names that differ in case count as one)", Quote(name))
			}
		}
		if len(o) == maxMembers {
			return nil, errTooMany
		}
		s.skipSpace()
		s.pos++ // :
		s.skipSpace()
		start := s.pos
		if err := s.value(depth); err != nil {
			return nil, err
		}
		o = append(o, Member{Name: name, Value: s.doc[start:s.pos]})
	}
	s.pos++ // }
	return o, nil
}

func (s *scanner) array(depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	s.pos++ // [
	for s.skipSpace(); s.peek() != ']'; s.skipSpace() {
		if s.peek() == ',' {
			s.pos++
			s.skipSpace()
		}
		if err := s.value(depth); err != nil {
			return err
		}
	}
	s.pos++ // ]
	return nil
}

// value steps over the value at pos; depth is that of its container.
func (s *scanner) value(depth int) error {
	switch s.peek() {
	case '{':
		_, err := s.object(depth + 1)
		return err
	case '[':
		return s.array(depth + 1)
	case '"':
		if raw := s.string(); bytes.IndexByte(raw, '\\') >= 0 {
			_, err := unquote(raw)
			return err
		}
		return nil
	}
	for s.pos < len(s.doc) { // a number or a literal
		switch s.doc[s.pos] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return nil
		}
		s.pos++
	}
	return nil
}

// string steps over the string at pos and returns it raw, with its quotes.
func (s *scanner) string() []byte {
	start := s.pos
	for s.pos++; s.peek() != '"'; s.pos++ {
		if s.peek() == '\\' {
			s.pos++
		}
	}
	s.pos++
	return s.doc[start:s.pos]
}

// unquote decodes a raw JSON string. An unpaired surrogate is refused, since
// parsers replace it, drop it or fail (RFC 8259 §8.2).
func unquote(raw []byte) (string, error) {
	raw = raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw), nil
	}
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			b = append(b, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := codeUnit(raw[i+1 : i+5])
			i += 4
			if utf16.IsSurrogate(r) {
				if i+6 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' {
					return "", errBadEscape
				}
				r = utf16.DecodeRune(r, codeUnit(raw[i+3:i+7]))
				if r == utf8.RuneError {
					return "", errBadEscape
				}
				i += 6
			}
			b = utf8.AppendRune(b, r)
		default: // " \ /
			b = append(b, raw[i])
		}
	}
	return string(b), nil
}

func codeUnit(hex []byte) rune {
	unit, _ := strconv.ParseUint(string(hex), 16, 16) // valid JSON has four digits here
	return rune(unit)
}

// AsString decodes the value of a member; ok is false when it is no string, or
// missing.
func AsString(raw []byte) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	s, err := unquote(raw)
	return s, err == nil
}

// AsTime decodes a NumericDate, which may have a fraction (RFC 7519 §2), to the
// microsecond: that is what a database column holds, and a float64 of this size
// is exact to. ok is false when it is no number, or none from 1970 to 9999.
func AsTime(raw []byte) (t time.Time, ok bool) {
	const maxDigits, maxSeconds = 32, 253402300799 // 9999-12-31T23:59:59Z
	if len(raw) == 0 || len(raw) > maxDigits {
		return time.Time{}, false
	}
	// ParseFloat also takes "inf" and hexadecimal, but valid JSON has neither.
	// Strings, literals and containers fail.
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > maxSeconds {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(math.Round(f * 1e6))), true
}
