package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// theftPage says what to type when something is stolen: a section of
// docs/operations.md.
type theftPage struct {
	title  string
	blocks []fencedBlock
}

type fencedBlock struct{ language, text string }

const theftChapter = "## When something is stolen\n"

// theftPages are all that the document has, by the name of their script.
func theftPages(t testing.TB) map[string]theftPage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, ok := strings.Cut(string(text), theftChapter)
	if !ok {
		t.Fatalf("the document has no %q", theftChapter)
	}
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	pages := map[string]theftPage{}
	for _, section := range strings.Split(chapter, "\n### ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		page := theftPage{title: title}
		for _, m := range fenced.FindAllStringSubmatch(rest, -1) {
			page.blocks = append(page.blocks, fencedBlock{m[1], m[2]})
		}
		pages[strings.ToLower(notInNames.ReplaceAllString(title, "_"))] = page
	}
	return pages
}

var (
	fenced     = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	notInNames = regexp.MustCompile(`[^A-Za-z]+`)
	// placeholder is a word in capitals; what a variable of the program is called is none.
	placeholder = regexp.MustCompile(`[$]?\b[A-Z][A-Z_]{2,}\b`)
)

// The pages have one form, and each its script, which runs every command of it.
func TestEachPageOfATheftSaysWhatAllDo(t *testing.T) {
	pages := theftPages(t)
	if len(pages) < 10 {
		t.Fatalf("there are %d pages", len(pages))
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		_, section, _ := strings.Cut(string(text), "\n### "+page.title+"\n")
		section, _, _ = strings.Cut(section, "\n##")
		for _, part := range []string{"**You see**", "**Type**", "**Then**", "**Until**"} {
			before, after, found := strings.Cut(section, part)
			if !found || strings.Contains(before, part) {
				t.Errorf("%s: no %s, or not in its place", page.title, part)
			}
			section = after
		}
	}
	scripts, err := filepath.Glob(filepath.Join("testdata", "theft", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range scripts {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".txtar"))
	}
	if all := slices.Sorted(maps.Keys(pages)); !slices.Equal(all, names) {
		t.Errorf("the pages are\n%q, the scripts\n%q", all, names)
	}
}

// Each script is a thief, who succeeds before the commands of the page are typed and
// fails after.
func TestTypingWhatThePageSaysStopsTheThief(t *testing.T) {
	t.Parallel()
	pages := theftPages(t)
	params := scriptParams(filepath.Join("testdata", "theft"), thiefCommands(func(name string) theftPage { return pages[name] }))
	setup := params.Setup
	params.Setup = func(env *testscript.Env) error {
		if err := setup(env); err != nil {
			return err
		}
		th := &theft{typed: map[int]bool{}}
		env.Values[theftKey{}] = th
		env.Defer(func() {
			tb := env.T().(testing.TB)
			if name := filepath.Base(env.WorkDir); !tb.Failed() && len(th.typed) < len(th.page.blocks) {
				tb.Errorf("%s: %d of the %d blocks of the page were typed", name, len(th.typed), len(th.page.blocks))
			}
		})
		return nil
	}
	testscript.Run(t, params)
}

// page N: types the N-th block of commands of the script's page, with the script's
// variables for what stands in capitals. What it exports is the script's then.
func (th *theft) pageCommand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "page N")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	if n < 1 || n > len(th.page.blocks) {
		ts.Fatalf("the page has %d blocks of commands", len(th.page.blocks))
	}
	th.typed[n] = true
	block := th.page.blocks[n-1]
	text := placeholder.ReplaceAllStringFunc(block.text, func(word string) string {
		if strings.HasPrefix(word, "$") || strings.HasPrefix(word, "AUTHZ_") {
			return word
		}
		if ts.Getenv(word) == "" {
			ts.Fatalf("the script has no variable for %s", word)
		}
		return ts.Getenv(word)
	})
	switch block.language {
	case "sql":
		sqlCommand(ts, false, []string{text})
	case "sh":
		ts.Check(ts.Exec("bash", "-euc", text+"\nenv -0 >.exported"))
		for variable := range strings.SplitSeq(ts.ReadFile(".exported"), "\x00") {
			if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AUTHZ_") {
				ts.Setenv(name, value)
			}
		}
	default:
		ts.Fatalf("a block in %s is not run by anyone", block.language)
	}
}
