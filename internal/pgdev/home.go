package pgdev

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// openFolder is where root keeps what an unprivileged user must reach and
// cannot reach where it was asked for.
const openFolder = "/var/lib/authz-dev"

// home is the folder that holds a data directory and what belongs to it.
type home struct {
	// asked is the folder that was asked for, empty where it is temporary.
	asked string
	// dir holds the data. It is asked, unless that is closed to the user that
	// runs Postgres: then a folder in open, and a file in asked remembers it.
	dir  string
	open string
	data string
	log  string
	lock *fileLock
}

// marker is the file in the folder that was asked for which holds the name of
// the folder in openFolder that has its data.
const marker = "data-elsewhere"

var markerID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (h *home) settle(dir string) {
	h.dir = dir
	h.data = filepath.Join(dir, "data")
	h.log = filepath.Join(dir, "postgres.log")
}

func (h *home) String() string {
	switch h.asked {
	case "":
		return "temporary data in " + h.data
	case h.dir:
		return "data in " + h.data
	default:
		return fmt.Sprintf("data in %s, since that user cannot enter %s", h.data, h.asked)
	}
}

func temporaryHome(dir string) *home {
	h := &home{}
	h.settle(dir)
	return h
}

// openHome makes the folder if it is missing, takes its lock and finds out
// where its data lies. With fresh it removes that data.
func openHome(dir, open string, fresh bool) (*home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolving the data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the data folder: %w", err)
	}
	h := &home{asked: dir, open: open}
	if err := h.acquire(); err != nil {
		return nil, err
	}
	if err := h.locate(fresh); err != nil {
		h.release()
		return nil, err
	}
	return h, nil
}

// acquire takes the folder's lock, so that two programs do not prepare one
// data directory at once.
func (h *home) acquire() error {
	lock, err := tryLock(filepath.Join(h.asked, "lock"))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("another program runs a Postgres on %s: stop it, or use another folder", h.asked)
	}
	if err != nil {
		return fmt.Errorf("locking the data folder: %w", err)
	}
	h.lock = lock
	return nil
}

func (h *home) release() { h.lock.release() }

func (h *home) locate(fresh bool) error {
	h.settle(h.asked)
	mark := filepath.Join(h.asked, marker)
	content, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading where the data lies: %w", err)
	}
	id := strings.TrimSpace(string(content))
	if err == nil {
		// The file may be another user's work, and Fresh removes what it names.
		if !markerID.MatchString(id) {
			return fmt.Errorf("%s does not hold what was written there: remove it", mark)
		}
		h.settle(filepath.Join(h.open, id))
	}
	if pid := livePostmaster(h.data); pid != 0 {
		return h.occupied(pid)
	}
	if !fresh {
		return nil
	}
	if _, err := h.dataMajor(); err != nil {
		return err
	}
	// By name, and never the folder as a whole: it may have been named by
	// mistake.
	err = removeAll(h.data, h.data+unfinished, h.log, h.passwordFile())
	if id != "" {
		err = errors.Join(err, removeAll(h.dir, mark))
		h.settle(h.asked)
	}
	if err != nil {
		return fmt.Errorf("removing the earlier data: %w", err)
	}
	return nil
}

// occupied is the error for data that a server serves whose parent has died.
func (h *home) occupied(pid int) error {
	return fmt.Errorf("a Postgres of an earlier run (pid %d) still runs on %s: stop it with `kill -INT %d`, or use another folder", pid, h.data, pid)
}

// dataMajor is the major version that made the data; 0 if there is none. A
// folder in the data's place that Postgres did not make is an error, so that it
// is neither used nor removed.
func (h *home) dataMajor() (int, error) {
	content, err := os.ReadFile(filepath.Join(h.data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(h.data); err == nil {
			return 0, fmt.Errorf("%s is not a data directory of Postgres: use another folder", h.data)
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the version of the data: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("%s holds no version: %w", filepath.Join(h.data, "PG_VERSION"), err)
	}
	return major, nil
}

// makeReachable sees to it that the user who runs Postgres can enter the home.
// Where the folder that was asked for lies behind a closed one, new data goes
// to the open folder; the modes of folders that are not ours stay as they are.
func (h *home) makeReachable(ctx context.Context, acc account, b binaries) error {
	if !acc.switched || h.asked == "" {
		return nil
	}
	if h.dir != h.asked {
		return h.prepareOpen(ctx, acc, b)
	}
	if ok, err := canEnter(ctx, acc, b, h.dir); ok || err != nil {
		return err
	}
	info, err := os.Stat(h.dir)
	if err != nil {
		return err
	}
	if err := os.Chmod(h.dir, info.Mode().Perm()|0o001); err != nil {
		return fmt.Errorf("opening the data folder to user %s: %w", acc.name, err)
	}
	if ok, err := canEnter(ctx, acc, b, h.dir); ok || err != nil {
		return err
	}
	// It was of no use: the closed folder is further up.
	if err := os.Chmod(h.dir, info.Mode().Perm()); err != nil {
		return err
	}
	if major, err := h.dataMajor(); err != nil || major != 0 {
		return fmt.Errorf("user %s, who runs Postgres for root, cannot reach the data in %s: open the folders above it, or begin with empty data with --fresh", acc.name, h.data)
	}
	var id [16]byte
	rand.Read(id[:])
	h.settle(filepath.Join(h.open, hex.EncodeToString(id[:])))
	if err := h.prepareOpen(ctx, acc, b); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.asked, marker), []byte(filepath.Base(h.dir)+"\n"), 0o600)
}

// origin is the file in a folder in the open one that names the folder whose
// data it has.
const origin = "origin"

func (h *home) prepareOpen(ctx context.Context, acc account, b binaries) error {
	h.sweepOpen()
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return fmt.Errorf("making a data folder that user %s can reach: %w", acc.name, err)
	}
	for _, dir := range []string{h.open, h.dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	ok, err := canEnter(ctx, acc, b, h.dir)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("user %s, who runs Postgres for root, can reach neither %s nor %s", acc.name, h.asked, h.dir)
	}
	return os.WriteFile(filepath.Join(h.dir, origin), []byte(h.asked), 0o600)
}

// sweepOpen removes data whose folder was deleted, as temporary ones are. It
// leaves alone what was used in the last hour.
func (h *home) sweepOpen() {
	origins, err := filepath.Glob(filepath.Join(h.open, "*", origin))
	if err != nil {
		return
	}
	for _, path := range origins {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		asked, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		dir := filepath.Dir(path)
		_, err = os.Stat(string(asked))
		if errors.Is(err, fs.ErrNotExist) && livePostmaster(filepath.Join(dir, "data")) == 0 {
			_ = os.RemoveAll(dir)
		}
	}
}

// unfinished marks a data directory that initdb has not completed.
const unfinished = ".unfinished"

// initialise makes the data directory if there is none: complete, or not at
// all. An empty password means that the server is reached by its socket alone.
func (h *home) initialise(ctx context.Context, acc account, b binaries, password string) error {
	if info, err := os.Stat(h.data); err == nil {
		return checkOwner(h.data, info, acc)
	}
	temp := h.data + unfinished
	if err := os.RemoveAll(temp); err != nil {
		return fmt.Errorf("removing an unfinished data directory: %w", err)
	}
	if err := makeOwned(temp, acc); err != nil {
		return err
	}
	// trust is right for a socket in a folder that nobody else can enter, and
	// only for that.
	args := []string{"-D", temp, "-U", superuser, "--encoding=UTF8", "--locale=C", "--no-sync", "--auth=trust"}
	if password != "" {
		args[len(args)-1] = "--auth=scram-sha-256"
		args = append(args, "--pwfile="+h.passwordFile())
	}
	if out, err := run(ctx, acc, h.dir, b.initdb(), args...); err != nil {
		return errors.Join(fmt.Errorf("making a data directory with %s: %w\n%s", b.initdb(), err, out), os.RemoveAll(temp))
	}
	return os.Rename(temp, h.data)
}

func (h *home) passwordFile() string { return filepath.Join(h.dir, "password") }

// password is the superuser's, made with the data, for a server on a loopback
// port: there any user of the machine can connect.
func (h *home) password() (string, error) {
	content, err := os.ReadFile(h.passwordFile())
	if err == nil {
		return string(content), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the database password: %w", err)
	}
	password := rand.Text()
	if err := os.WriteFile(h.passwordFile(), []byte(password), 0o600); err != nil {
		return "", fmt.Errorf("keeping the database password: %w", err)
	}
	return password, nil
}

// canEnter tries it, since only the kernel knows all that counts.
func canEnter(ctx context.Context, acc account, b binaries, dir string) (bool, error) {
	_, err := run(ctx, acc, dir, b.postgres(), "--version")
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking whether user %s can reach %s: %w", acc.name, dir, err)
	}
	return true, nil
}

// removeAll removes the folders given, and goes on after an error.
func removeAll(paths ...string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
