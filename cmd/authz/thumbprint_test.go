package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThumbprintThatBeginsWithAHyphenIsAnArgument(t *testing.T) {
	const key, other = "-ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "--cOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	rename := strings.NewReplacer("KEY", key, "OTHER", other)
	for args, want := range map[string]string{
		"client remove-key one KEY":          "client remove-key one -- KEY",
		"client remove-key one OTHER --json": "client remove-key one --json -- OTHER",
		"key revoke --json KEY --reason x":   "key revoke --json --reason x -- KEY",
		"key retire -- KEY":                  "key retire -- KEY",
		"token revoke --jkt KEY --reason x":  "token revoke --jkt KEY --reason x",
		"token revoke --jkt=KEY --reason x":  "token revoke --jkt=KEY --reason x",
		"token revoke --signing-key KEY":     "token revoke --signing-key KEY",
		"client enroll-key one --jkt KEY":    "client enroll-key one --jkt KEY",
		"token revoke -":                     "token revoke -",
		"key list --json":                    "key list --json",
	} {
		got := argumentsLast(strings.Fields(rename.Replace(args)))
		if diff := cmp.Diff(strings.Fields(rename.Replace(want)), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}
