package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/migrations"
)

// measured runs the benchmark briefly, with one connection.
func measured(t *testing.T, args ...string) *report {
	t.Helper()
	args = append(args, "--json", "--duration", "60ms", "--rounds", "1", "--connections", "1")
	var out, errOut bytes.Buffer
	if code := run(args, nil, &out, &errOut); code != 0 {
		t.Fatalf("%q: exit code %d\n%s", args, code, &errOut)
	}
	return decode(t, out.Bytes())
}

// superuserURL names a Postgres of the test's own, and a database that is as new.
func superuserURL(t *testing.T) string {
	t.Helper()
	pg, err := pgdev.Start(t.Context(), pgdev.Options{Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return pg.URL()
}

func open(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestAServerThatRunsIsMeasuredAndItsDatabaseLeftAsItWas(t *testing.T) {
	url := superuserURL(t)
	conn := open(t, url)
	if err := migrations.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	l, err := newLauncher(t.Context(), t.TempDir(), options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.start(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.child.stop() })
	r := measured(t, "--issuer", s.issuer, "--internal", s.internal, "--database-url", url, "--only", "revoke,verify")
	if len(r.Rows) != 4 || r.StartMillis != nil || r.Rows[0].RoundTrips != nil || r.Rows[0].Ratio <= 0 {
		t.Errorf("%+v", r)
	}
	var left int
	if err := conn.QueryRow(t.Context(), `
		select (select count(*) from authz.clients) + (select count(*) from authz.resources)
		  + (select count(*) from pg_namespace where nspname = 'authzbench')`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d things are left, %v", left, err)
	}
}

func TestAPostgresThatRunsIsUsedAndLeftAsItWas(t *testing.T) {
	url := superuserURL(t)
	conn := open(t, url)
	measured(t, "--database-url", url, "--only", "introspect-opaque")
	var left int
	if err := conn.QueryRow(t.Context(), `select count(*) from pg_database where datname like 'authzbench%'`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d databases are left, %v", left, err)
	}
}

func TestAProfileOfTheServerIsWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	measured(t, "--profile", file, "--only", "bearer")
	profile, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(profile), "\x1f\x8b") { // gzip: RFC 1952 §2.3.1
		t.Errorf("%d bytes, %v", len(profile), err)
	}
}
