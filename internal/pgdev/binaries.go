package pgdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// oldest is the oldest major version that the schema is tested on.
const oldest = 14

// binaries is a folder that holds initdb and postgres of one version.
type binaries struct {
	dir     string
	version string // as in "15.18"
	major   int
}

func (b binaries) initdb() string   { return executable(b.dir, "initdb") }
func (b binaries) postgres() string { return executable(b.dir, "postgres") }

func executable(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

// search says where binaries are looked for.
type search struct {
	path []string // the folders of PATH
	// globs are the places where packagers put binaries that they keep out of
	// PATH. Within one, the newest version comes first.
	globs []string
	// fetch is the last resort. It returns a folder of binaries.
	fetch func(context.Context, account) (string, error)
}

func searchThisMachine() search {
	return search{
		path: filepath.SplitList(os.Getenv("PATH")),
		globs: []string{
			"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
			"/usr/pgsql-*/bin",          // postgresql.org's RPMs
			"/opt/homebrew/opt/postgresql@*/bin",
			"/opt/homebrew/opt/postgresql/bin",
			"/usr/local/opt/postgresql@*/bin",
			"/usr/local/opt/postgresql/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
			"/usr/libexec/postgresql*", // Alpine
			"/usr/local/pgsql/bin",     // built from source
		},
		fetch: fetch,
	}
}

// find returns the first binaries that acc can run and that are new enough. If
// data of some major version is there already (0: none), binaries of that
// version go before all others on the machine.
func (s search) find(ctx context.Context, acc account, major int) (binaries, error) {
	var first *binaries
	var tried []string
	for _, dir := range s.candidates(&tried) {
		b, err := inspect(ctx, acc, dir)
		if err != nil {
			if ctx.Err() != nil {
				return binaries{}, ctx.Err()
			}
			tried = append(tried, fmt.Sprintf("%s: %v", dir, err))
			continue
		}
		if major == 0 || b.major == major {
			return b, nil
		}
		if first == nil {
			first = &b
		}
	}
	if first != nil {
		return *first, nil
	}
	dir, err := s.fetch(ctx, acc)
	if err == nil {
		var b binaries
		if b, err = inspect(ctx, acc, dir); err == nil {
			return b, nil
		}
	}
	if ctx.Err() != nil {
		return binaries{}, ctx.Err()
	}
	tried = append(tried, fmt.Sprintf("fetching it: %v", err))
	return binaries{}, fmt.Errorf(`no PostgreSQL %d or newer can be had:
  %s
Install its server (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@17; Alpine: apk add postgresql), or set AUTHZ_DATABASE_URL to one that runs`,
		oldest, strings.Join(tried, "\n  "))
}

// candidates lists the folders that hold both programs, each once, and adds to
// tried why a place has none.
func (s search) candidates(tried *[]string) []string {
	var dirs []string
	add := func(place string, folders []string) {
		found := false
		for _, dir := range folders {
			if !isFile(executable(dir, "postgres")) {
				continue
			}
			found = true
			if !isFile(executable(dir, "initdb")) {
				*tried = append(*tried, dir+": holds postgres but no initdb")
			} else if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
		if !found {
			*tried = append(*tried, place+": not there")
		}
	}
	add("PATH", s.path)
	for _, glob := range s.globs {
		folders, err := filepath.Glob(glob)
		if err != nil {
			*tried = append(*tried, fmt.Sprintf("%s: %v", glob, err))
			continue
		}
		slices.SortStableFunc(folders, func(a, b string) int { return versionIn(b) - versionIn(a) })
		add(glob, folders)
	}
	return dirs
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

var digits = regexp.MustCompile(`[0-9]+`)

// versionIn is the last number in a path such as /usr/lib/postgresql/15/bin.
func versionIn(path string) int {
	all := digits.FindAllString(path, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1])
	return n
}

// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "... 19beta1".
var versionLine = regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[^ \n]*)`)

// inspect asks the binaries for their version, as the user that will run them,
// so that a folder which is closed to that user is found out too.
func inspect(ctx context.Context, acc account, dir string) (binaries, error) {
	b := binaries{dir: dir}
	out, err := run(ctx, acc, rootFolder, b.postgres(), "--version")
	if errors.Is(err, os.ErrPermission) {
		return b, fmt.Errorf("user %s may not run it", acc.name)
	}
	if err != nil {
		return b, fmt.Errorf("postgres --version: %w %s", err, strings.TrimSpace(out))
	}
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return b, fmt.Errorf("postgres --version says %q, which names no version", strings.TrimSpace(out))
	}
	b.version = m[1]
	if b.major, err = strconv.Atoi(m[2]); err != nil {
		return b, fmt.Errorf("reading the version %q: %w", m[1], err)
	}
	if b.major < oldest {
		return b, fmt.Errorf("PostgreSQL %s is older than %d", b.version, oldest)
	}
	return b, nil
}
