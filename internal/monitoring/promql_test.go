package monitoring

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// selector is what an expression asks for.
type selector struct {
	metric   string
	matchers []matcher
}

type matcher struct{ label, op, value string }

// admits tells whether a value matches. A variable of the dashboard stands for any.
func (m matcher) admits(value string) bool {
	switch {
	case strings.HasPrefix(m.value, "$"):
		return true
	case m.op == "=":
		return m.value == value
	}
	return regexp.MustCompile("^(?:" + m.value + ")$").MatchString(value)
}

// Tokens of PromQL, as far as the metrics and the labels in it are concerned: promtool
// checks the rest.
var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\$\{?\w+\}?|[a-zA-Z_:][\w:]*|[0-9][\w.]*|[=!]~|!=|\S`)

// words of PromQL that stand where a metric may.
var keywords = []string{"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "group_left", "group_right"}

// listing words have a list of labels.
var listing = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}

var aggregators = []string{"sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev", "stdvar", "group", "count_values"}

// asksFor is which metrics an expression asks for, and by which labels it groups.
func asksFor(expr string) (selectors []selector, labels []string) {
	tokens := token.FindAllString(expr, -1)
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	for i := 0; i < len(tokens); i++ {
		word := tokens[i]
		switch first := word[0]; {
		case slices.Contains(listing, word) && at(i+1) == "(":
			for i += 2; at(i) != ")" && at(i) != ""; i++ {
				if at(i) != "," {
					labels = append(labels, at(i))
				}
			}
		case first != '_' && first != ':' && (first < 'a' || first > 'z') && (first < 'A' || first > 'Z'),
			slices.Contains(keywords, word), slices.Contains(aggregators, word), at(i+1) == "(":
		default:
			s := selector{metric: word}
			if at(i+1) == "{" {
				for i += 2; at(i) != "}" && at(i) != ""; i++ {
					if at(i) != "," {
						s.matchers = append(s.matchers, matcher{at(i), at(i + 1), strings.Trim(at(i+2), `"`)})
						i += 2
					}
				}
			}
			selectors = append(selectors, s)
		}
	}
	return selectors, labels
}

func TestExpressionsAreReadForWhatTheyAskFor(t *testing.T) {
	for _, c := range []struct {
		expr      string
		selectors []selector
		labels    []string
	}{
		{`up`, []selector{{metric: "up"}}, nil},
		{`time() - x{a="b"} offset 5m > 4 * 3600`, []selector{{"x", []matcher{{"a", "=", "b"}}}}, nil},
		{`sum by (job, le) (rate(x_bucket{a=~"b|c",d!="e, f"}[5m])) / on (job) group_left () y`,
			[]selector{{"x_bucket", []matcher{{"a", "=~", "b|c"}, {"d", "!=", "e, f"}}}, {metric: "y"}}, []string{"job", "le", "job"}},
		{`max(x) unless x offset $__range or vector(1)`, []selector{{metric: "x"}, {metric: "x"}}, nil},
		{`count without (a) (x{}) > bool 1e3`, []selector{{metric: "x"}}, []string{"a"}},
	} {
		selectors, labels := asksFor(c.expr)
		if diff := cmp.Diff(c.selectors, selectors, cmp.AllowUnexported(selector{}, matcher{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.expr, diff)
		}
		if diff := cmp.Diff(c.labels, labels); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", c.expr, diff)
		}
	}
}

// hold reports what an expression asks for in vain.
func (e *exported) hold(t *testing.T, where, expr string) {
	t.Helper()
	selectors, labels := asksFor(expr)
	if len(selectors) == 0 {
		t.Errorf("%s asks for nothing: %s", where, expr)
	}
	for _, s := range selectors {
		if problem := e.problem(s); problem != "" {
			t.Errorf("%s: %s", where, problem)
		}
	}
	for _, label := range labels {
		if !e.hasLabel(selectors, label) {
			t.Errorf("%s: nothing in it has the label %s", where, label)
		}
	}
}
