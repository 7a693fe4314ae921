//go:build linux || darwin

package pgdev

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestDataIsKeptBetweenRunsUntilFresh(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "below", "it")
	p := begin(t, Options{Dir: dir})
	query(t, p, "create table t ()")
	if want := "data in " + filepath.Join(dir, "data"); !strings.Contains(p.Source(), want) {
		t.Errorf("the source %q does not say %q", p.Source(), want)
	}
	stop(t, p)
	p = begin(t, Options{Dir: dir})
	query(t, p, "table t")
	stop(t, p)
	note := filepath.Join(dir, "somebody's.txt")
	write(t, note, "", 0o644)
	p = begin(t, Options{Dir: dir, Fresh: true})
	if got := query(t, p, "select count(*) from pg_class where relname = 't'"); got != "0" {
		t.Error("Fresh kept the data")
	}
	if !exists(note) {
		t.Error("Fresh removed what is not ours")
	}
}

func TestSecondStartOnOneFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	p := begin(t, Options{Dir: dir})
	for _, fresh := range []bool{false, true} {
		_, err := start(t.Context(), Options{Dir: dir, Fresh: fresh}, testMachine())
		expectError(t, err, "another program runs a Postgres on "+dir)
	}
	query(t, p, "select 1")
}

func TestPostgresThatOutlivedItsParentIsNamed(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	p := begin(t, Options{Dir: dir})
	// As if this program had died, on a system that then lets Postgres live.
	p.home.release()
	pid := strconv.Itoa(p.PID())
	for _, fresh := range []bool{false, true} {
		_, err := start(t.Context(), Options{Dir: dir, Fresh: fresh}, testMachine())
		expectError(t, err, "pid "+pid, "kill -INT "+pid)
	}
	// Somebody has cleaned the temporary folder: Postgres itself notices.
	if err := os.RemoveAll(p.runDir.socketDir()); err != nil {
		t.Fatal(err)
	}
	_, err := start(t.Context(), Options{Dir: dir}, testMachine())
	expectError(t, err, "pid "+pid, "kill -INT "+pid)
	if p.PID() == 0 {
		t.Error("it was ended")
	}
}

func TestDataOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	write(t, filepath.Join(dir, "data", "PG_VERSION"), "12\n", 0o644)
	_, err := start(t.Context(), Options{Dir: dir}, testMachine())
	expectError(t, err, "made by PostgreSQL 12", "found here is", "--fresh")
}

func TestFolderThatIsNotPostgresIsNeitherUsedNorRemoved(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	file := filepath.Join(dir, "data", "precious")
	write(t, file, "", 0o644)
	for _, fresh := range []bool{false, true} {
		_, err := start(t.Context(), Options{Dir: dir, Fresh: fresh}, testMachine())
		expectError(t, err, "is not a data directory of Postgres")
	}
	if !exists(file) {
		t.Error("it was removed")
	}
}

func TestOwnFolderIsOpenedToPostgres(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "closed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := begin(t, Options{Dir: dir})
	if want := filepath.Join(dir, "data"); p.home.data != want {
		t.Errorf("the data lies in %s, want %s", p.home.data, want)
	}
}

func TestDataBehindAClosedFolderLiesElsewhere(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("Postgres runs as another user for root alone")
	}
	closed, open := t.TempDir(), filepath.Join(folder(t), "open")
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "asked")
	m := testMachine()
	m.open = open
	folders := func() int {
		entries, err := os.ReadDir(open)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}

	p := beginOn(t, Options{Dir: dir, Unsafe: true}, m)
	query(t, p, "create table t ()")
	if !strings.Contains(p.Source(), "data in "+open) || !strings.Contains(p.Source(), dir) {
		t.Errorf("the source is %q", p.Source())
	}
	stop(t, p)
	p = beginOn(t, Options{Dir: dir, Unsafe: true}, m)
	query(t, p, "table t")
	stop(t, p)
	if n := folders(); n != 1 {
		t.Errorf("%d folders after the second run", n)
	}
	p = beginOn(t, Options{Dir: dir, Unsafe: true, Fresh: true}, m)
	if got := query(t, p, "select count(*) from pg_class where relname = 't'"); got != "0" {
		t.Error("Fresh kept the data")
	}
	if n := folders(); n != 1 {
		t.Errorf("%d folders after Fresh", n)
	}
	query(t, p, "create table t ()")
	stop(t, p)
	if info, err := os.Stat(closed); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the closed folder's mode is now %v", info.Mode())
	}

	// A deleted folder starts anew, and its data is removed once it has not
	// been used for long.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(p.home.dir, origin), past, past); err != nil {
		t.Fatal(err)
	}
	p.home.sweepOpen()
	if n := folders(); n != 0 {
		t.Errorf("%d folders after the first one's was deleted", n)
	}
	p = beginOn(t, Options{Dir: dir, Unsafe: true}, m)
	if got := query(t, p, "select count(*) from pg_class where relname = 't'"); got != "0" {
		t.Error("a deleted folder kept its data")
	}
}

func TestClosedTemporaryFolderIsNotUsed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("Postgres runs as another user for root alone")
	}
	m := testMachine()
	m.tempDir = t.TempDir()
	if err := os.Chmod(filepath.Dir(m.tempDir), 0o700); err != nil {
		t.Fatal(err)
	}
	acc := ourAccount(t)
	b, err := m.search.find(t.Context(), acc, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newRunDir(t.Context(), m.tempDir, acc, b)
	if err != nil {
		t.Fatal(err)
	}
	defer d.remove()
	if !strings.HasPrefix(d.path, sharedTempDir+"/"+runDirPrefix) {
		t.Errorf("its temporary folder is %s", d.path)
	}
	if left, err := os.ReadDir(m.tempDir); err != nil || len(left) != 0 {
		t.Errorf("the closed folder holds %v, %v", left, err)
	}
}

func TestForgedMarkerIsRefused(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "..", "../../etc", strings.Repeat("a", 31) + "/"} {
		dir := folder(t)
		write(t, filepath.Join(dir, marker), content, 0o644)
		_, err := start(t.Context(), Options{Dir: dir, Fresh: true}, testMachine())
		expectError(t, err, "does not hold what was written there")
	}
}

func TestFoldersOfDeadRunsAreSwept(t *testing.T) {
	t.Parallel()
	temp := folder(t)
	old := func(name string) string {
		dir := filepath.Join(temp, name)
		write(t, filepath.Join(dir, "lock"), "", 0o600)
		past := time.Now().Add(-time.Hour)
		if err := os.Chtimes(dir, past, past); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dead, used, foreign := old(runDirPrefix+"1"), old(runDirPrefix+"2"), old("other")
	lock, err := tryLock(filepath.Join(used, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.release()
	young := filepath.Join(temp, runDirPrefix+"3")
	if err := os.Mkdir(young, 0o700); err != nil {
		t.Fatal(err)
	}
	sweep(temp)
	if exists(dead) {
		t.Error("the dead run's folder is still there")
	}
	for _, dir := range []string{used, foreign, young} {
		if !exists(dir) {
			t.Errorf("%s was removed", dir)
		}
	}
}
