package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestAServerIsMeasuredAgainstItselfWithOtherVariables(t *testing.T) {
	var out, errOut bytes.Buffer
	args := []string{"--json", "--against", "AUTHZ_LOG_LEVEL=error", "--only", "token,introspect-opaque", "--duration", "100ms", "--rounds", "1", "--connections", "2"}
	if code := run(args, nil, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &errOut)
	}
	r := decode(t, out.Bytes())
	if r.Against == nil || len(r.Against.Rows) != 2 || len(r.Rows) != 0 {
		t.Fatalf("%s", &out)
	}
	for _, row := range r.Against.Rows {
		if row.Ratio <= 0 || row.This.Requests < 1 || row.Other.Requests < 1 {
			t.Errorf("%+v", row)
		}
	}
	if len(r.Targets) < 2 {
		t.Errorf("targets %+v", r.Targets)
	}
}

func TestNoOtherServerIsRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--against", ""}, {"--against", "a b"}, {"--against", "a", "--fill", "tokens=1"}, {"--against", "a", "--profile", "x"},
		{"--against", "/nowhere/authz"},
	} {
		var out, errOut bytes.Buffer
		if code := run(args, nil, &out, &errOut); code != 1 || out.Len() > 0 || errOut.Len() == 0 {
			t.Errorf("%s: exit code %d\n%s%s", strings.Join(args, " "), code, &out, &errOut)
		}
	}
}
