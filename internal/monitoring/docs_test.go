package monitoring

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// In the tables of docs/operations.md a metric begins its line, with its labels.
var documented = regexp.MustCompile("`(authz_\\w+)(?:\\{([\\w,]*)\\})?`")

func TestEachMetricIsDocumentedWithItsLabels(t *testing.T) {
	exported := scrape(t)
	told := map[string]string{}
	for line := range strings.Lines(read(t, operations)) {
		cell, ok := strings.CutPrefix(line, "| ")
		if !ok || !strings.HasPrefix(cell, "`authz_") {
			continue
		}
		cell, rest, _ := strings.Cut(cell, " | ")
		for _, m := range documented.FindAllStringSubmatch(cell, -1) {
			told[m[1]] = sortedList(m[2])
			if strings.Count(rest, " | ") != 1 || strings.Contains(rest, "|  |") {
				t.Errorf("%s: its line says what it means, and what to do", m[1])
			}
		}
	}
	for name, kind := range exported.types {
		if !strings.HasPrefix(name, "authz_") {
			continue
		}
		labels, ok := told[name]
		if !ok {
			t.Errorf("docs/operations.md has no line for %s", name)
			continue
		}
		if has := exported.labelsOf(name, kind); has != labels {
			t.Errorf("%s: its labels are {%s}, and docs/operations.md says {%s}", name, has, labels)
		}
	}
	for name := range told {
		if _, ok := exported.types[name]; !ok {
			t.Errorf("docs/operations.md has %s, which is not exported", name)
		}
	}
}

// The server was started with AUTHZ_METRICS_CLIENTS.
func TestClientsAreNamedWhereTheSettingSaysSo(t *testing.T) {
	want := selector{"authz_checks_total", []matcher{{"client_id", "=", "labels-gateway"}}}
	if problem := scrape(t).problem(want); problem != "" {
		t.Error(problem)
	}
}

func sortedList(labels string) string {
	all := strings.Split(labels, ",")
	slices.Sort(all)
	return strings.Join(all, ",")
}

// labelsOf are a metric's own labels.
func (e *exported) labelsOf(name, kind string) string {
	if kind == "histogram" {
		name += "_count"
	}
	labels := map[string]bool{}
	for _, sample := range e.samples[name] {
		for label := range sample {
			labels[label] = true
		}
	}
	delete(labels, "job")
	delete(labels, "instance")
	return strings.Join(slices.Sorted(maps.Keys(labels)), ",")
}
