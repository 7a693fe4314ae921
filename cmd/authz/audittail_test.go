package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/cargokey/authz/internal/pgdev"
)

func TestTailGoesOnAfterARestartOfPostgresWithEachEventOnce(t *testing.T) {
	t.Parallel()
	p := privatePostgres(t, pgdev.Options{})
	program := installProgram(t, programFolder(t))
	env := environment(t, "AUTHZ_DATABASE_URL="+p.URL())
	runAuthz(t, program, env, "migrate")
	runAuthz(t, program, env, "resource", "create", testResource, "--scope", "label:create")
	runAuthz(t, program, env, "client", "create", "before", "--grant", testResource+"=label:create")
	tail := startAuthz(t, program, env, "audit", "tail", "--since", "1h", "--json")
	if err := tail.await(&tail.out, `"client_id":"before"`); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := tail.await(&tail.errOut, "is asked again"); err != nil {
		t.Fatal(err)
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	runAuthz(t, program, env, "client", "create", "after", "--grant", testResource+"=label:create")
	if err := tail.await(&tail.out, `"client_id":"after"`); err != nil {
		t.Fatal(err)
	}
	if code, err := tail.end(syscall.SIGINT); err != nil || code != 0 {
		t.Errorf("exit code %d, %v\n%s", code, err, &tail.errOut)
	}
	for _, client := range []string{"before", "after"} {
		if n := strings.Count(tail.out.String(), `"client_id":"`+client+`"`); n != 1 {
			t.Errorf("%s is shown %d times", client, n)
		}
	}
}
