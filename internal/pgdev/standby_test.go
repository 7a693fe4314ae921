//go:build linux || darwin

package pgdev

import (
	"context"
	"errors"
	"os"
	"testing"
)

// follower starts a standby of p that p waits for at each commit.
func follower(t *testing.T, p *Postgres) *Postgres {
	t.Helper()
	s, err := p.Standby(t.Context())
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stopping the standby: %v", err)
		}
	})
	return s
}

func TestPromotedStandbyHasWhatItsPrimaryAnsweredFor(t *testing.T) {
	t.Parallel()
	p := begin(t, Options{})
	s := follower(t, p)
	query(t, p, `create table kept (n int)`)
	for range 20 {
		query(t, p, `insert into kept select 1`)
	}
	if got := query(t, s, `show transaction_read_only`); got != "on" {
		t.Errorf("the standby's transactions are read-only: %s", got)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s, `insert into kept select 1`, `select count(*) from kept`); got != "21" {
		t.Errorf("%s rows", got)
	}
}
