package main

import (
	"fmt"
	"io"
	"strings"
)

// story is what is told, and whether all of it was so.
type story struct {
	out      io.Writer
	chapters int
	checks   int
	wrong    int
}

// open says what it is about.
func (s *story) open(text string) { fmt.Fprintln(s.out, fill(text, "", "")) }

// chapter begins the next part.
func (s *story) chapter(text string) {
	s.chapters++
	fmt.Fprintf(s.out, "\n%s\n", fill(fmt.Sprintf("%d. %s", s.chapters, text), "", "   "))
}

// tell writes what happens.
func (s *story) tell(text string) { fmt.Fprintln(s.out, fill(text, "   ", "      ")) }

// command shows what is typed, in one line, to be copied.
func (s *story) command(text string) { fmt.Fprintln(s.out, "   $ "+text) }

// outcome tells how something went, and checks that it went as it should.
func (s *story) outcome(asTold bool, text string) {
	s.checks++
	mark := "=> "
	if !asTold {
		s.wrong++
		mark = "=> NOT AS TOLD: "
	}
	fmt.Fprintln(s.out, fill(mark+text, "      ", "         "))
}

// end is an error where something was not as told.
func (s *story) end() error {
	if s.wrong > 0 {
		return fmt.Errorf("%d of %d outcomes are not as told", s.wrong, s.checks)
	}
	fmt.Fprintf(s.out, "\nAll %d outcomes were as they should be.\n", s.checks)
	return nil
}

// fill breaks lines at some 95 columns.
func fill(text, indent, hanging string) string {
	var lines []string
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line)+len(word) > 95 && strings.TrimSpace(line) != "" {
			lines = append(lines, strings.TrimRight(line, " "))
			line = hanging
		}
		line += word + " "
	}
	return strings.Join(append(lines, strings.TrimRight(line, " ")), "\n")
}
