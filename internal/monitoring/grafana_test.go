package monitoring

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const grafanaFolder = "../../examples/grafana"

type dashboard struct {
	UID        string  `json:"uid"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string     `json:"name"`
			Type       string     `json:"type"`
			Definition string     `json:"definition"`
			Datasource datasource `json:"datasource"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID         int                      `json:"id"`
	Type       string                   `json:"type"`
	Title      string                   `json:"title"`
	Datasource datasource               `json:"datasource"`
	GridPos    struct{ H, W, X, Y int } `json:"gridPos"`
	Targets    []struct {
		Expr       string     `json:"expr"`
		Legend     string     `json:"legendFormat"`
		Datasource datasource `json:"datasource"`
	} `json:"targets"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, filepath.Join(grafanaFolder, "dashboard.json"))), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) < 20 {
		t.Fatalf("the dashboard has %d panels", len(d.Panels))
	}
	return d
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

func TestDashboardAsksForWhatIsExported(t *testing.T) {
	exported := scrape(t)
	d := readDashboard(t)
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			exported.hold(t, p.Title, target.Expr)
			selectors, _ := asksFor(target.Expr)
			for _, m := range legendLabel.FindAllStringSubmatch(target.Legend, -1) {
				if !exported.hasLabel(selectors, m[1]) {
					t.Errorf("%s: its legend names %s, and nothing has the label", p.Title, m[1])
				}
			}
		}
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if m == nil {
			t.Errorf("the variable %s is %q", v.Name, v.Definition)
			continue
		}
		exported.hold(t, v.Name, m[1])
	}
}

// It can be imported anywhere: no data source is named, and no panel hides another.
func TestDashboardNamesNoDataSourceAndPanelsDoNotOverlap(t *testing.T) {
	d := readDashboard(t)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: another panel has the number %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		all := []datasource{p.Datasource}
		for _, target := range p.Targets {
			all = append(all, target.Datasource)
		}
		for _, source := range all {
			if p.Type != "row" && source != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s: its data source is %v", p.Title, source)
			}
		}
		at := p.GridPos
		if at.H < 1 || at.W < 1 || at.X < 0 || at.X+at.W > 24 {
			t.Errorf("%s: it is at %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s hides %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// promtool reads each expression as a rule.
func TestExpressionsOfTheDashboardAreWellFormed(t *testing.T) {
	promtool(t)
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	n := 0
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			n++
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr)
			fmt.Fprintf(&rules, "      - record: dashboard:%d\n        expr: %q\n", n, expr)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	runPromtool(t, dir, "check", "rules", "rules.yml")
}

// The tests above see what is not there.
func TestWhatIsNotExportedIsSeen(t *testing.T) {
	exported := scrape(t)
	for expr, missing := range map[string]string{
		`rate(authz_requests_totals[5m])`:                                  "metric",
		`authz_request_duration_seconds`:                                   "metric", // a histogram has none by its own name
		`sum(rate(authz_requests_total{outcomes="failed"}[5m]))`:           "label",
		`sum(rate(authz_requests_total{outcome="faild"}[5m]))`:             "label",
		`sum(rate(authz_requests_total{endpoint=~"tokens|verifier"}[5m]))`: "label",
		`up{job="authz"} + authz_ready{region!="x"}`:                       "label",
	} {
		selectors, _ := asksFor(expr)
		problems := ""
		for _, s := range selectors {
			problems += exported.problem(s)
		}
		if !strings.Contains(problems, "no "+missing) {
			t.Errorf("%s: what is found wrong with it is %q", expr, problems)
		}
	}
	if selectors, labels := asksFor(`sum by (endpoints) (authz_requests_total)`); exported.hasLabel(selectors, labels[0]) {
		t.Error("a label to group by that does not exist is found")
	}
}
