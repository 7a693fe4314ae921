package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// section is a part of docs/operations.md whose commands a test types.
type section struct {
	title  string
	blocks []fencedBlock
	typed  int
}

// sectionOf is what stands under a heading, up to the next one. At the end of the
// test all blocks of it must have been taken.
func sectionOf(t *testing.T, heading string) *section {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut("\n"+string(text), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("the document has no %q", heading)
	}
	if i := strings.Index(rest, "\n#"); i >= 0 {
		rest = rest[:i]
	}
	lines := strings.Split(rest, "\n")
	for i := range lines { // blocks in a list
		lines[i] = strings.TrimPrefix(lines[i], "   ")
	}
	s := &section{title: heading}
	for _, m := range fenced.FindAllStringSubmatch(strings.Join(lines, "\n"), -1) {
		s.blocks = append(s.blocks, fencedBlock{m[1], m[2]})
	}
	t.Cleanup(func() {
		if !t.Failed() && !t.Skipped() && s.typed != len(s.blocks) {
			t.Errorf("%s: %d of %d blocks were typed", s.title, s.typed, len(s.blocks))
		}
	})
	return s
}

// next is the next block, with other words for those of the document: all that is
// in capitals there must be among them.
func (s *section) next(t *testing.T, language string, words map[string]string) string {
	t.Helper()
	if s.typed == len(s.blocks) || s.blocks[s.typed].language != language {
		t.Fatalf("%s: block %d is not one in %s", s.title, s.typed+1, language)
	}
	block := s.blocks[s.typed].text
	s.typed++
	var pairs []string
	for from, to := range words {
		pairs = append(pairs, from, to)
	}
	// The longest first: one word may be within another.
	for _, word := range placeholder.FindAllString(block, -1) {
		known := slices.ContainsFunc(pairs, func(p string) bool { return strings.Contains(p, word) })
		if !known && !strings.HasPrefix(word, "$") && !strings.HasPrefix(word, "AUTHZ_") && !strings.HasPrefix(word, "ES") {
			t.Fatalf("%s: the test has no word for %s", s.title, word)
		}
	}
	return replaceLongest(block, words)
}

func replaceLongest(text string, words map[string]string) string {
	var from []string
	for word := range words {
		from = append(from, word)
	}
	slices.SortFunc(from, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, word := range from {
		pairs = append(pairs, word, words[word])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// shell types a block of commands in a folder, and returns what they print.
func shell(t *testing.T, dir string, env []string, text string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "-euc", text)
	c.Dir, c.Env = dir, env
	var errOut strings.Builder
	c.Stderr = &errOut
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s\n%v\n%s%s", text, err, out, &errOut)
	}
	return string(out)
}

// needs skips the test where a program is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s here", program)
		}
	}
}

// inPath is an environment in which the programs of a folder go first.
func inPath(env []string, dir string) []string {
	env = slices.Clone(env)
	for i, v := range env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			env[i] = "PATH=" + dir + string(os.PathListSeparator) + path
		}
	}
	return env
}
