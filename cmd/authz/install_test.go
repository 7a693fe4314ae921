package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev"
)

// privatePostgres is one in which there is nothing yet.
func privatePostgres(t *testing.T, o pgdev.Options) *pgdev.Postgres {
	t.Helper()
	p, err := pgdev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Errorf("stopping Postgres: %v", err)
		}
	})
	return p
}

// asRole is a database of the same Postgres, as another role.
func asRole(t *testing.T, from, role, database string) string {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	if password, ok := u.User.Password(); ok && role == u.User.Username() {
		u.User = url.UserPassword(role, password)
	} else {
		u.User = url.User(role)
	}
	u.Path = "/" + database
	return u.String()
}

// execute runs statements one by one: some cannot be in a transaction.
func execute(t *testing.T, databaseURL, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for statement := range strings.SplitSeq(sql, ";") {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func TestInstallingAsWrittenLeadsToAToken(t *testing.T) {
	t.Parallel()
	needs(t, "bash", "openssl", "install")
	page := sectionOf(t, "## Install")
	postgres := privatePostgres(t, pgdev.Options{Unsafe: true})
	dir, etc := t.TempDir(), filepath.Join(t.TempDir(), "authz")
	address := freeport.Address(t)
	env := inPath(environment(t, "AUTHZ_LISTEN="+address, "AUTHZ_INTERNAL_LISTEN="+freeport.Address(t)),
		filepath.Dir(installProgram(t, programFolder(t))))

	// Logins are by a socket that nobody else can open, and need no password.
	words := map[string]string{
		"OWNER_PASSWORD": "owner-password", "SERVER_PASSWORD": "server-password", "create database authz owner": "alter database authz owner to",
		"postgres://authz_owner:OWNER_PASSWORD@DATABASE_HOST/authz?sslmode=verify-full": asRole(t, postgres.URL(), "authz_owner", "authz"),
		"postgres://authz_app:SERVER_PASSWORD@DATABASE_HOST/authz?sslmode=verify-full":  asRole(t, postgres.URL(), "authz_app", "authz"),
		"/etc/authz": etc, "https://auth.example.com": "http://" + address,
	}
	execute(t, postgres.URL(), strings.ReplaceAll(page.next(t, "sql", words), "-- leave it out where it exists", ""))
	migrate := page.next(t, "sh", words)
	shell(t, dir, env, migrate)
	login, _, _ := strings.Cut(migrate, "\n")
	shell(t, dir, env, page.next(t, "sh", words))
	for _, secret := range []string{"sealing-key", "database-url"} {
		if info, err := os.Stat(filepath.Join(etc, secret)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", secret, info, err)
		}
	}
	server, err := startProcess(dir, env, "bash", "-euc", strings.Replace(page.next(t, "sh", words), "authz serve", "exec authz serve", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.kill)
	if err := server.await(&server.errOut, `"msg":"ready"`); err != nil {
		t.Fatal(err)
	}
	shell(t, dir, env, "authz healthcheck")
	made := shell(t, dir, env, login+"\n"+page.next(t, "sh", words))
	words["CLIENT_SECRET"] = regexp.MustCompile(`azs_\S+`).FindString(made)
	if token := shell(t, dir, env, page.next(t, "sh", words)); strings.Count(token, ".") != 2 {
		t.Errorf("no token: %q", token)
	}
	if code, err := server.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// The unit is one that systemd understands, and as closed as it says.
func TestSystemdUnderstandsTheUnit(t *testing.T) {
	t.Parallel()
	needs(t, "systemd-analyze")
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "systemd", "authz.service"))
	if err != nil {
		t.Fatal(err)
	}
	program := installProgram(t, programFolder(t))
	unit := filepath.Join(t.TempDir(), "authz.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/authz", program)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit},
		{"security", "--offline=true", "--threshold=20", unit}, // of 100: 0 is shut off from everything
	} {
		if out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze %q: %v\n%s", args, err, out)
		}
	}
}
