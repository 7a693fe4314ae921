package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands lists the whole tree, cobra's own included.
func commands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, commands(sub)...)
	}
	return all
}

func TestEveryCommandExplainsItself(t *testing.T) {
	all := commands((&program{}).root())
	if len(all) < 20 {
		t.Fatalf("the tree has %d commands", len(all))
	}
	for _, c := range all {
		t.Run(c.CommandPath(), func(t *testing.T) {
			if c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("its short description is %q", c.Short)
			}
			if !strings.Contains(c.Example, "authz ") {
				t.Errorf("its example is %q", c.Example)
			}
			if c.InheritedFlags().Lookup("json") == nil && c.PersistentFlags().Lookup("json") == nil {
				t.Error("it has no --json")
			}
			if !c.Runnable() {
				t.Error("it does nothing when run")
			}
			var out, errOut bytes.Buffer
			args := append(strings.Fields(c.CommandPath())[1:], "--help")
			if code := run(args, strings.NewReader(""), &out, &errOut); code != 0 {
				t.Errorf("%q exits with %d: %s", args, code, &errOut)
			}
			if !strings.Contains(out.String(), "Usage:") || errOut.Len() != 0 {
				t.Errorf("%q prints %q and, as errors, %q", args, &out, &errOut)
			}
		})
	}
}

func TestEveryFlagIsDescribed(t *testing.T) {
	for _, c := range commands((&program{}).root()) {
		for _, line := range strings.Split(c.LocalFlags().FlagUsages(), "\n") {
			if line != "" && len(strings.Fields(line)) < 3 {
				t.Errorf("%s: %q has no description", c.CommandPath(), line)
			}
		}
	}
}
