package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
)

func TestFullTablesAreMeasuredBesideEmptyOnes(t *testing.T) {
	var out, errOut bytes.Buffer
	args := []string{"--json", "--fill", "tokens=3000,clients=100,proofs=2000,events=500,hourly=10", "--duration", "100ms", "--rounds", "1", "--connections", "2"}
	if code := run(args, nil, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &errOut)
	}
	r := decode(t, out.Bytes())
	seen := map[string]int{}
	for _, row := range r.Flat.Rows {
		seen[row.Row]++
		if row.Ratio <= 0 || row.Empty.Requests < 1 || row.Filled.Requests < 1 || row.Empty.P99 <= 0 || row.Filled.P99 <= 0 {
			t.Errorf("%+v", row)
		}
	}
	want := map[string]int{}
	for _, name := range flatNames() {
		if name != dropRow {
			want[name] = 1
		}
	}
	if !maps.Equal(seen, want) {
		t.Errorf("rows %v, want %v", seen, want)
	}
	if d := r.Flat.Drop; d == nil || len(d.TookMillis) != 1 || d.TookMillis[0] <= 0 || d.Quiet.Requests < 1 || d.Dropping.Requests < 1 {
		t.Errorf("%+v", d)
	}
	for table, atLeast := range map[string]int64{"tokens": 3000, "spent_proofs": 2000, "audit_events": 500, "clients": 100, "client_secrets": 100, "grants": 100} {
		i := slices.IndexFunc(r.Flat.Sizes, func(s size) bool { return s.Table == table })
		if i < 0 || r.Flat.Sizes[i].Rows < atLeast || r.Flat.Sizes[i].Heap <= 0 {
			t.Errorf("%s: %+v", table, r.Flat.Sizes)
		}
	}
	if len(r.Targets) == 0 {
		t.Error("no target is shown")
	}
}

func TestAmountsThatAreNoneAreRefused(t *testing.T) {
	for _, text := range []string{"", "tokens", "tokens=", "tokens=-1", "tokens=100000000", "token=1", "tokens=1,", "tokens=1 clients=1"} {
		if a, err := parseAmounts(text); err == nil {
			t.Errorf("%q: %+v", text, a)
		}
	}
}

func TestFillingIsRefusedForWhatRuns(t *testing.T) {
	for _, args := range []string{
		"--fill tokens=1 --issuer http://127.0.0.1:1 --internal 127.0.0.1:1 --database-url postgres://x",
		"--fill tokens=1 --profile x", "--fill tokens=1 --only revoke", "--only token-any", "--fill x", "--setting x",
	} {
		var out, errOut bytes.Buffer
		if code := run(strings.Fields(args), nil, &out, &errOut); code != 1 || out.Len() > 0 || errOut.Len() == 0 {
			t.Errorf("%s: exit code %d\n%s%s", args, code, &out, &errOut)
		}
	}
}

func TestTokensAskedForAreLiveAndOfBothForms(t *testing.T) {
	f := newFilled(amounts{Tokens: 1000, Clients: 10}, strings.Repeat("j", 300), "kid", "jkt")
	tokens, err := f.anyTokens(200)
	if err != nil || len(tokens) != 200 || !slices.ContainsFunc(tokens, jwtOf) || !slices.ContainsFunc(tokens, opaque) {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
	for i := range f.Tokens {
		if at := f.issuedAt(i); at.After(f.begun) || f.begun.Sub(at) > liveFor || i > 0 && !f.issuedAt(i-1).Before(at) {
			t.Fatalf("the token %d is of %s", i, at)
		}
	}
	f.begun = f.begun.Add(-authz.MaxTokenTTL + 2*maxTurn + time.Second)
	if _, err := f.anyTokens(1); err == nil {
		t.Error("there are tokens, and nearly all have expired")
	}
}
