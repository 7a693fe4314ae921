package main

import (
	"slices"
	"strings"

	"github.com/cargokey/authz/authz"
)

// argumentsLast moves thumbprints that would be taken for flags to the end, behind
// "--": one in 64 names of a key begins with a hyphen. What follows a flag that takes
// such a name is left to it.
func argumentsLast(args []string) []string {
	if slices.Contains(args, "--") {
		return args
	}
	var first, last []string
	for i, arg := range args {
		ofFlag := i > 0 && (args[i-1] == "--jkt" || args[i-1] == "--signing-key")
		if strings.HasPrefix(arg, "-") && !ofFlag && authz.ValidJKT(arg) {
			last = append(last, arg)
		} else {
			first = append(first, arg)
		}
	}
	if len(last) == 0 {
		return args
	}
	return slices.Concat(first, []string{"--"}, last)
}
