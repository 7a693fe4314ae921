//go:build linux || darwin

package pgdev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeBinaries makes a folder whose postgres says that it is of some version.
// Tests that use it are not parallel: a file that was just written cannot be
// run ("text file busy") while a program that starts at that moment still holds
// the descriptor through which it was.
func fakeBinaries(t *testing.T, dir, version string, programs ...string) {
	t.Helper()
	for _, name := range programs {
		write(t, filepath.Join(dir, name), "#!/bin/sh\necho \"postgres (PostgreSQL) "+version+"\"\n", 0o755)
	}
}

func ourAccount(t *testing.T) account {
	t.Helper()
	acc, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	return acc
}

func TestErrorSaysWhereNoPostgresWasFound(t *testing.T) {
	dir := folder(t)
	fakeBinaries(t, dir+"/9/bin", "9.6.24", "postgres", "initdb")
	fakeBinaries(t, dir+"/13/bin", "13.2 (Debian 13.2-1)", "postgres", "initdb")
	fakeBinaries(t, dir+"/16/bin", "16.1", "postgres")
	fakeBinaries(t, dir+"/odd", "of nobody's", "postgres", "initdb")
	s := search{
		path:  []string{"/nowhere", dir + "/odd"},
		globs: []string{dir + "/*/bin", "/nowhere/*/bin"},
		fetch: noFetch,
	}
	_, err := s.find(t.Context(), ourAccount(t), 0)
	if err == nil {
		t.Fatal("it found one")
	}
	got, _, _ := strings.Cut(strings.ReplaceAll(err.Error(), dir, "DIR"), "\nInstall ")
	want := `no PostgreSQL 14 or newer can be had:
  DIR/16/bin: holds postgres but no initdb
  /nowhere/*/bin: not there
  DIR/odd: postgres --version says "postgres (PostgreSQL) of nobody's", which names no version
  DIR/13/bin: PostgreSQL 13.2 is older than 14
  DIR/9/bin: PostgreSQL 9.6.24 is older than 14
  fetching it: no network in tests`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the error differs (-want +got):\n%s", diff)
	}
	expectError(t, err, "apt-get install postgresql", "AUTHZ_DATABASE_URL")

	_, err = start(t.Context(), Options{}, machine{search: s, tempDir: "/tmp", open: openFolder})
	expectError(t, err, "no PostgreSQL 14 or newer can be had")
}

func TestPathGoesFirstAndThenTheNewest(t *testing.T) {
	dir := folder(t)
	fakeBinaries(t, dir+"/path", "14.2", "postgres", "initdb")
	for _, version := range []string{"9", "15", "16", "101"} {
		fakeBinaries(t, dir+"/lib/"+version+"/bin", version+".1", "postgres", "initdb")
	}
	globs := []string{dir + "/lib/*/bin"}
	for _, c := range []struct {
		name string
		path []string
		data int
		want string
	}{
		{"in PATH", []string{dir + "/path"}, 0, "14.2"},
		{"not in PATH", nil, 0, "101.1"},
		{"data of an older one", []string{dir + "/path"}, 15, "15.1"},
		{"data of none", nil, 12, "101.1"},
	} {
		b, err := search{path: c.path, globs: globs, fetch: noFetch}.find(t.Context(), ourAccount(t), c.data)
		if err != nil {
			t.Fatal(err)
		}
		if b.version != c.want {
			t.Errorf("%s: took %s, want %s", c.name, b.version, c.want)
		}
	}
}

func TestBinariesThatPostgresUserMayNotRunAreNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("Postgres runs as another user for root alone")
	}
	dir := t.TempDir()
	fakeBinaries(t, dir, "16.1", "postgres", "initdb")
	_, err := search{path: []string{dir}, fetch: noFetch}.find(t.Context(), ourAccount(t), 0)
	expectError(t, err, dir+": user "+ourAccount(t).name+" may not run it")
}
