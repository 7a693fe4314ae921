//go:build linux || darwin

package pgdev

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestServer looks at one server from several sides.
func TestServer(t *testing.T) {
	t.Setenv("AUTHZ_MASTER_KEY", "s3cret")
	t.Setenv("PGPORT", "1")
	t.Setenv("PGDATA", "/nowhere")
	log := &lastBytes{}
	p := begin(t, Options{Log: log, Settings: map[string]string{"max_connections": "17"}})
	for name, test := range map[string]func(*testing.T, *Postgres){
		"is reached by its private socket alone":  socketIsPrivate,
		"is not reached by Ctrl-C":                ctrlCDoesNotReachIt,
		"gets no secrets from the environment":    environmentIsClean,
		"is used as it is where its URL is given": givenURLIsUsedAsItIs,
	} {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
	if got := query(t, p, "show max_connections"); got != "17" {
		t.Errorf("max_connections is %s", got)
	}
	stop(t, p)
	if !strings.Contains(log.String(), "database system is shut down") {
		t.Errorf("the given log received %q", log)
	}
}

func socketIsPrivate(t *testing.T, p *Postgres) {
	if got := query(t, p, "show listen_addresses"); got != "" {
		t.Errorf("it listens on %q", got)
	}
	info, err := os.Stat(p.runDir.socketDir())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 || owner(info) != p.account.uid {
		t.Errorf("the socket's folder has mode %o and belongs to uid %d", info.Mode().Perm(), owner(info))
	}
	if path := socketFile(p.runDir.socketDir(), socketPort); len(path) > 103 || !exists(path) {
		t.Errorf("the socket is not %s", path)
	}
}

func ctrlCDoesNotReachIt(t *testing.T, p *Postgres) {
	group, err := syscall.Getpgid(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if group == syscall.Getpgrp() {
		t.Error("it is in this program's process group")
	}
}

func environmentIsClean(t *testing.T, p *Postgres) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "environ"))
	if err != nil {
		t.Skipf("the environment of a process cannot be read here: %v", err)
	}
	if len(content) == 0 {
		t.Fatal("nothing was read")
	}
	for _, part := range []string{"s3cret", "PGPORT", "nowhere"} {
		if strings.Contains(string(content), part) {
			t.Errorf("it has %s in its environment", part)
		}
	}
}

func givenURLIsUsedAsItIs(t *testing.T, other *Postgres) {
	url := strings.Replace(other.URL(), "authz@", "authz:s3cret@", 1)
	p, err := Start(t.Context(), Options{URL: url, Dir: "/nowhere", Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	if p.URL() != url {
		t.Errorf("the URL became %s", p.URL())
	}
	if strings.Contains(p.Source(), "s3cret") || !strings.Contains(p.Source(), "PostgreSQL ") {
		t.Errorf("the source is %q", p.Source())
	}
	if p.PID() != 0 {
		t.Error("it claims a process")
	}
	if err := errors.Join(p.Kill(), p.Stop(t.Context())); err != nil {
		t.Error(err)
	}
	expectError(t, p.Restart(t.Context()), "not ours")
	query(t, other, "select 1")
	_, err = Start(t.Context(), Options{URL: "postgres://authz:s3cret@/authz?host=/nowhere"})
	expectError(t, err, "connecting to the Postgres that the database URL names")
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error holds the password: %v", err)
	}
}

func TestLoopbackServerAsksForAPassword(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("where Postgres listens on a port, it runs as this user")
	}
	m := testMachine()
	m.overTCP = true
	dir := folder(t)
	p := beginOn(t, Options{Dir: dir, Unsafe: true}, m)
	query(t, p, "create table t ()")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(t, p)
	p = beginOn(t, Options{Dir: dir, Unsafe: true}, m)
	query(t, p, "table t")
	password := strings.TrimPrefix(p.URL()[:strings.Index(p.URL(), "@")], "postgres://authz:")
	_, err := Start(t.Context(), Options{URL: strings.Replace(p.URL(), password, "wrong", 1)})
	expectError(t, err, "password authentication failed")
}
