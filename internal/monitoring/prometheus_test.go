package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	prometheusFolder = "../../examples/prometheus"
	operations       = "../../docs/operations.md"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// alert is a rule, as alerts.yml is written: its fields by their names.
type alert map[string]string

var ruleField = regexp.MustCompile(`^ +(?:- )?(\w+): ?(.*)$`)

// alerts reads alerts.yml, which promtool holds to be well-formed: an expression has
// the lines below expr.
func alerts(t *testing.T) (all []alert) {
	t.Helper()
	inExpr := false
	for line := range strings.Lines(read(t, filepath.Join(prometheusFolder, "alerts.yml"))) {
		line = strings.TrimRight(line, "\n")
		field := ruleField.FindStringSubmatch(line)
		switch {
		case inExpr && strings.HasPrefix(line, "          "):
			all[len(all)-1]["expr"] += " " + strings.TrimSpace(line)
			continue
		case field == nil:
		case field[1] == "alert":
			all = append(all, alert{"alert": field[2]})
		case field[1] == "expr":
			inExpr = true
			continue
		case len(all) > 0:
			all[len(all)-1][field[1]] = field[2]
		}
		inExpr = false
	}
	if len(all) < 20 {
		t.Fatalf("only %d alerts", len(all))
	}
	return all
}

func TestAlertsAskForWhatIsExported(t *testing.T) {
	exported := scrape(t)
	for _, a := range alerts(t) {
		exported.hold(t, a["alert"], a["expr"])
	}
}

// Who is got up at three in the morning has the alert's text, and a place to go on
// reading.
func TestAlertsSayWhatTheyMeanAndWhatToDo(t *testing.T) {
	places := headings(t)
	tested := read(t, filepath.Join(prometheusFolder, "alerts_test.yml"))
	for _, a := range alerts(t) {
		for _, field := range []string{"summary", "description", "action"} {
			if len(a[field]) < 20 {
				t.Errorf("%s: its %s is %q", a["alert"], field, a[field])
			}
		}
		if s := a["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: its severity is %q", a["alert"], s)
		}
		if place, ok := strings.CutPrefix(a["runbook"], "docs/operations.md#"); !ok || !places[place] {
			t.Errorf("%s: there is no %s", a["alert"], a["runbook"])
		}
		if !strings.Contains(tested, `alertname="`+a["alert"]+`"`) {
			t.Errorf("%s: alerts_test.yml does not have it fire", a["alert"])
		}
	}
}

// commandsIn are the commands of authz that a text has to type, without what follows
// their names.
func commandsIn(text string) (commands []string) {
	for _, m := range regexp.MustCompile(`authz ((?:alerts|audit|client|database|key|resource|token) [a-z-]+)`).FindAllStringSubmatch(text, -1) {
		commands = append(commands, m[1])
	}
	return commands
}

func TestAlertsNameCommandsThatThereAre(t *testing.T) {
	scrape(t)
	if len(shared.program) < 5 {
		t.Errorf("the alerts name only %d commands", len(shared.program))
	}
	for command, help := range shared.program {
		if !strings.Contains(help, "authz "+command) {
			t.Errorf("there is no authz %s", command)
		}
	}
}

// headings are the places in docs/operations.md that a link can lead to.
func headings(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(read(t, operations), -1) {
		kept := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(kept, " ", "-")] = true
	}
	return all
}

func TestPromtoolTakesTheConfigurationAndTheAlerts(t *testing.T) {
	promtool(t)
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"},
		{"check", "rules", "alerts.yml"},
		{"test", "rules", "alerts_test.yml"},
	} {
		runPromtool(t, prometheusFolder, args...)
	}
}

// promtool is Debian's, of the package prometheus.
func promtool(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err == nil {
		return
	}
	if os.Getenv("AUTHZ_TEST_PROMTOOL") != "" {
		t.Fatal("promtool is not installed")
	}
	t.Skip("promtool is not installed")
}

func runPromtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "promtool", args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}
