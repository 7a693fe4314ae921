package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMain makes the test's binary a floor, which the benchmark starts by running
// itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == floorCommand {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// What docs/performance.md says of round trips, whatever the machine.
var documentedTrips = map[string]int{
	"token": 1, "bearer": 1, "private-key": 1, "revoke": 1, "introspect-jwt": 1, "introspect-opaque": 1, "introspect-first": 1, "verify": 1, "verify-first": 1,
}

func TestEachRowIsMeasuredBesideItsFloor(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := run([]string{"--json", "--duration", "60ms", "--rounds", "2", "--connections", "1,4"}, nil, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &errOut)
	}
	r := decode(t, out.Bytes())
	var seen []string
	for _, row := range r.Rows {
		seen = append(seen, row.Row)
		if row.Requests < 1 || row.PerSecond <= 0 || row.P50 <= 0 || row.P50 > row.P95 || row.P95 > row.P99 {
			t.Errorf("%s: %+v", row.Row, row)
		}
		trips, serves := documentedTrips[row.Row]
		if serves != (row.RoundTrips != nil) || serves && *row.RoundTrips != trips {
			t.Errorf("%s: round trips: %+v", row.Row, row)
		}
		if serves != (row.Floor != "") || serves && row.Ratio <= 0 {
			t.Errorf("%s: its ratio to %q is %g", row.Row, row.Floor, row.Ratio)
		}
	}
	var wanted []string
	for _, g := range groups() {
		for range 2 { // numbers of connections
			for _, one := range g {
				wanted = append(wanted, one.name)
			}
		}
	}
	if !slices.Equal(seen, wanted) {
		t.Errorf("rows %q, wanted %q", seen, wanted)
	}
	if r.SynchronousCommit != "on" || len(r.StartMillis) != starts || r.StartMillis[0] <= 0 || r.DPoPAdds == nil {
		t.Errorf("%s", out.Bytes())
	}
	if len(r.Targets) == 0 {
		t.Error("no target is shown")
	}
}

// decode refuses members that the report does not have.
func decode(t *testing.T, text []byte) *report {
	t.Helper()
	var r report
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return &r
}

func TestAnAnswerThatIsNotTheExpectedOneEndsTheRun(t *testing.T) {
	for name, row := range map[string]struct {
		answer string
		check  func(answer) error
	}{
		"an error":                 {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}", isEmpty},
		"no length":                {"HTTP/1.1 200 OK\r\n\r\n", isEmpty},
		"a length that is none":    {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", isEmpty},
		"a body where none is":     {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", isEmpty},
		"another type of token":    {"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n" + `{"access_token":"x","token_type":"Bearer"}  `, isToken("DPoP")},
		"no token":                 {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", isToken("DPoP")},
		"a token that is inactive": {"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + `{"active":false}`, isActive},
		"a call of nobody's":       {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", isAdmitted},
		"an end in the middle":     {"HTTP/1.1 200 OK\r\nContent-Le", isEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := turn{address: answering(t, row.answer), connections: 1, requests: [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, check: row.check}.run(t.Context())
			if err == nil {
				t.Error("it went on")
			}
		})
	}
}

func TestFlagsThatDoNotFitTogetherAreRefused(t *testing.T) {
	for _, args := range []string{
		"--rounds 0", "--duration 0s", "--duration 1h", "--connections 0", "--connections x", "--floor-pool 0", "--only nothing", "more",
		"--internal 127.0.0.1:1", "--issuer http://127.0.0.1:1", "--issuer https://a.example --internal 127.0.0.1:1 --database-url postgres://x",
		"--issuer http://127.0.0.1:1 --internal 127.0.0.1:1 --database-url postgres://x --profile x",
	} {
		var out, errOut bytes.Buffer
		if code := run(strings.Fields(args), nil, &out, &errOut); code != 1 || out.Len() > 0 || errOut.Len() == 0 {
			t.Errorf("%s: exit code %d\n%s%s", args, code, &out, &errOut)
		}
	}
}
