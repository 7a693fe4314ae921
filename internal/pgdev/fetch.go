package pgdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchedVersion is the release that is fetched where the machine has none.
const fetchedVersion = embeddedpostgres.V18

// fetch returns the bin folder of binaries that were fetched from Maven Central
// now or earlier. They are kept in the user's cache folder, or, where acc
// cannot enter that, in openFolder.
func fetch(ctx context.Context, acc account) (string, error) {
	if !acc.switched {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding a cache folder: %w", err)
		}
		return fetchInto(ctx, filepath.Join(dir, "authz"))
	}
	cache := filepath.Join(openFolder, "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making a cache folder: %w", err)
	}
	for _, dir := range []string{openFolder, cache} {
		if err := os.Chmod(dir, 0o711); err != nil { // whatever the umask says
			return "", fmt.Errorf("opening the cache folder: %w", err)
		}
	}
	return fetchInto(ctx, cache)
}

func fetchInto(ctx context.Context, cache string) (string, error) {
	kept := filepath.Join(cache, fmt.Sprintf("postgres-%s-%s-%s", fetchedVersion, runtime.GOOS, runtime.GOARCH))
	bin := filepath.Join(kept, "bin")
	if isFile(executable(bin, "postgres")) {
		return bin, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making a cache folder: %w", err)
	}
	// The library knows no context. Past the end of ctx the goroutine goes on,
	// and what it has fetched serves the next run.
	result := make(chan error, 1)
	go func() { result <- fetchLocked(ctx, cache, kept) }()
	select {
	case err := <-result:
		return bin, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// fetchLocked makes the folder kept, complete or not at all. One process at a
// time does so; the others wait and find it there.
func fetchLocked(ctx context.Context, cache, kept string) (err error) {
	defer func() {
		// The library panics where it cannot clean up after itself.
		if r := recover(); r != nil {
			err = fmt.Errorf("extracting the archive: %v", r)
		}
	}()
	lock, err := awaitLock(ctx, filepath.Join(cache, "postgres.lock"))
	if err != nil {
		return err
	}
	defer lock.release()
	if isFile(executable(filepath.Join(kept, "bin"), "postgres")) {
		return nil
	}
	// What a killed run left behind.
	const prefix = "fetching-"
	leftovers, err := filepath.Glob(filepath.Join(cache, prefix+"*"))
	if err != nil {
		return err
	}
	if err := removeAll(leftovers...); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(cache, prefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	fresh := filepath.Join(temp, "postgres")
	if err := download(temp, fresh); err != nil {
		return err
	}
	if err := makeReadable(fresh); err != nil {
		return err
	}
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	return os.Rename(fresh, kept)
}

// download has the library fetch, check and extract the archive into dir, and
// nothing else. Its only call for that is Start, which goes on to make a data
// directory and to run a server; so it gets a data directory that looks as if
// made before but is empty, and its last step fails with no server started.
func download(temp, dir string) error {
	data := filepath.Join(temp, "no-data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	major, _, _ := strings.Cut(string(fetchedVersion), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(fetchedVersion).
		Port(0). // it insists that the port be free, and 0 always is
		CachePath(filepath.Join(temp, "archive")).
		BinariesPath(dir).
		RuntimePath(filepath.Join(temp, "runtime")).
		DataPath(data).
		StartTimeout(time.Second).
		Logger(io.Discard))
	err := server.Start()
	if err == nil {
		return errors.Join(errors.New("the library ran a server over no data"), server.Stop())
	}
	// This is the step after the archive was extracted whole.
	if strings.HasPrefix(err.Error(), "could not start postgres using ") {
		return nil
	}
	return fmt.Errorf("PostgreSQL %s from Maven Central: %w", fetchedVersion, err)
}

// makeReadable undoes what a strict umask did: root fetches for another user.
func makeReadable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
