package main

import (
	"fmt"
	"slices"
)

// target is what the server is meant to reach, and where it stands.
type target struct {
	What    string  `json:"what"`
	Unit    string  `json:"unit"`
	AtLeast float64 `json:"at_least,omitempty"`
	AtMost  float64 `json:"at_most,omitempty"`
	Is      float64 `json:"is"`
	Reached bool    `json:"reached"`
}

func (t target) figure() string {
	if t.AtMost != 0 {
		return fmt.Sprintf("%.3g %s, at most %g", t.Is, t.Unit, t.AtMost)
	}
	return fmt.Sprintf("%.2f %s, at least %g", t.Is, t.Unit, t.AtLeast)
}

func (t target) verdict() string {
	if t.Reached {
		return "reached"
	}
	return "missed"
}

func atLeast(what, unit string, is, bound float64) target {
	return target{What: what, Unit: unit, AtLeast: bound, Is: is, Reached: is >= bound}
}

func atMost(what, unit string, is, bound float64) target {
	return target{What: what, Unit: unit, AtMost: bound, Is: is, Reached: is <= bound}
}

// targets are those of what was measured.
func (r *report) targets() []target {
	const share = 0.75 // of a floor's throughput
	limits := map[string]int{"token": 2, "introspect-jwt": 1, "introspect-opaque": 1, "verify": 1}
	var all []target
	for _, row := range r.Rows {
		if _, ok := limits[row.Row]; !ok || row.Row == "token" && row.Connections == 1 {
			continue
		}
		all = append(all, atLeast(fmt.Sprintf("%s, %d connections", row.Row, row.Connections), "of its floor", row.Ratio, share))
	}
	if r.DPoPAdds != nil {
		all = append(all, atMost("added by DPoP to a token request, p50, one connection", "ms", *r.DPoPAdds/1000, 0.2))
	}
	var seen []string
	for _, row := range r.Rows {
		limit, ok := limits[row.Row]
		if !ok || row.RoundTrips == nil || slices.Contains(seen, row.Row) {
			continue
		}
		seen = append(seen, row.Row)
		all = append(all, atMost(row.Row, "round trips to Postgres", float64(*row.RoundTrips), float64(limit)))
	}
	if r.ServerPeak > 0 {
		all = append(all, atMost("memory of the server at its peak", "MiB", float64(r.ServerPeak)/(1<<20), 80))
	}
	if n := len(r.StartMillis); n > 0 {
		all = append(all, atMost("from start to ready, the slowest", "s", r.StartMillis[n-1]/1000, 0.5))
	}
	return append(append(all, r.Flat.targets()...), r.Against.targets()...)
}
