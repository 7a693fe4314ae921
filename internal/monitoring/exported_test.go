package monitoring

import (
	"regexp"
	"strings"
)

// exported is what a server tells: the labels of each sample by its name, and the type
// of each metric.
type exported struct {
	samples map[string][]map[string]string
	types   map[string]string
}

var (
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)$`)
	sampleLine = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

func parseExported(text string) *exported {
	e := &exported{samples: map[string][]map[string]string{}, types: map[string]string{}}
	for _, m := range typeLine.FindAllStringSubmatch(text, -1) {
		e.types[m[1]] = m[2]
	}
	for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
		labels := map[string]string{}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			labels[pair[1]] = pair[2]
		}
		e.add(m[1], labels)
	}
	// What Prometheus itself tells, of each target and of each alert.
	e.add("up", map[string]string{})
	e.add("ALERTS", map[string]string{"alertname": "AuthzDown", "alertstate": "firing", "severity": "page"})
	return e
}

// add adds a sample, with the labels that Prometheus adds.
func (e *exported) add(name string, labels map[string]string) {
	labels["job"], labels["instance"] = "authz", "authz-1:9090"
	e.samples[name] = append(e.samples[name], labels)
}

// problem tells what is wrong with a selector; "": there is what it asks for. Of a
// value that is not to be, only the label must be there.
func (e *exported) problem(s selector) string {
	samples, ok := e.samples[s.metric]
	if !ok {
		return "there is no metric " + s.metric
	}
	for _, m := range s.matchers {
		found := false
		for _, labels := range samples {
			value, has := labels[m.label]
			found = found || has && (strings.HasPrefix(m.op, "!") || m.admits(value))
		}
		if !found {
			return s.metric + " has no label " + m.label + m.op + `"` + m.value + `"`
		}
	}
	return ""
}

// hasLabel tells whether any of the metrics has a label.
func (e *exported) hasLabel(selectors []selector, label string) bool {
	for _, s := range selectors {
		for _, labels := range e.samples[s.metric] {
			if _, ok := labels[label]; ok {
				return true
			}
		}
	}
	return false
}
