//go:build linux || darwin

package pgdev

import "testing"

func TestFrozenPostgresStandsStillUntilItIsThawed(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	query(t, p, "create table t (n int)")
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range family(t, p.PID()) {
		if !halted(pid) {
			t.Errorf("process %d goes on", pid)
		}
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, p, "insert into t values (1)", "select count(*)::text from t"); got != "1" {
		t.Errorf("after it was thawed it counts %s rows", got)
	}
}

func TestPostmasterThatIsKilledTakesItsChildrenAlong(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	query(t, p, "create table t (n int)", "insert into t values (1)")
	pids := family(t, p.PID())
	if err := p.KillPostmaster(); err != nil {
		t.Fatal(err)
	}
	expectGone(t, pids, 0)
	if p.PID() != 0 || p.Freeze() == nil || p.Thaw() == nil || p.KillPostmaster() == nil {
		t.Error("one that has ended is taken for one that runs")
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, p, "select count(*)::text from t"); got != "1" {
		t.Errorf("it counts %s rows", got)
	}
}
