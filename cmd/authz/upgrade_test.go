package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

// While clients ask two instances of the version before, a new build migrates,
// one of the old instances ends and is started anew, and at last new ones take
// their places. No request fails.
func TestRollingUpgradeAcrossAMigrationFailsNoRequest(t *testing.T) {
	t.Parallel()
	commit := versionBefore(t)
	s := newSiteOf(t, buildOf(t, commit))
	current := installProgram(t, programFolder(t))

	u := &upgrade{site: s}
	one, two := u.start(t, s.program), u.start(t, s.program)
	load := u.load(t, 4)
	load.goOn(t)
	runAuthz(t, current, s.env, "migrate")
	load.goOn(t)
	u.drain(t, two)
	load.goOn(t)
	two = u.start(t, s.program) // by the build before, on a schema that is ahead of it
	load.goOn(t)
	u.drain(t, one)
	three := u.start(t, current)
	load.goOn(t)
	u.drain(t, two)
	load.goOn(t)
	four := u.start(t, current)
	load.goOn(t)
	load.end(t)
	u.drain(t, three)
	u.drain(t, four)
	s.checkSilence(t)
}

// newSiteOf is newSite by another build, from an empty database.
func newSiteOf(t *testing.T, program string) *site {
	t.Helper()
	db := pgtest.NewEmpty(t)
	kek := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	s := &site{
		program: program, issuer: "https://auth.test", secrets: []string{kek},
		env: environment(t, "AUTHZ_DATABASE_URL="+db.OwnerURL),
		server: environment(t, "AUTHZ_DATABASE_URL="+db.ServerURL, "AUTHZ_KEY_ENCRYPTION_KEY="+kek,
			"AUTHZ_ISSUER=https://auth.test", "AUTHZ_LOG_LEVEL=debug"),
	}
	runAuthz(t, s.program, s.env, "migrate")
	runAuthz(t, s.program, s.env, "resource", "create", testResource, "--scope", "label:create", "--base-url", testResource)
	s.client = s.register(t, "service", "--grant", testResource+"=label:create")
	s.gateway = s.register(t, "gateway", "--introspects", testResource)
	return s
}

// versionBefore is the latest commit whose migrations are the first of those that
// this build has, and which starts on a schema that is ahead of it.
func versionBefore(t *testing.T) string {
	t.Helper()
	git := func(args ...string) (string, error) {
		c := exec.CommandContext(t.Context(), "git", args...)
		c.Dir = filepath.Join("..", "..")
		out, err := c.Output()
		return string(out), err
	}
	commits, err := git("log", "--format=%H", "--date-order", "-n", "400", "--", "migrations", "storage")
	if err != nil {
		t.Skipf("there is no history here to build the version before from: %v", err)
	}
	mine := map[string]string{}
	newest := ""
	paths, err := filepath.Glob(filepath.Join("..", "..", "migrations", "*.sql"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		newest = "migrations/" + filepath.Base(path)
		mine[newest] = string(text)
	}
	for commit := range strings.FieldsSeq(commits) {
		if _, err := git("grep", "-q", "oldest_build", commit, "--", "migrations/migrations.go"); err != nil {
			continue
		}
		names, err := git("ls-tree", "--name-only", commit, "migrations/")
		if err != nil {
			t.Skipf("the history here is cut off: %v", err)
		}
		all := strings.Fields(names)
		if slices.Contains(all, newest) || slices.ContainsFunc(all, func(name string) bool {
			text, err := git("show", commit+":"+name)
			return strings.HasSuffix(name, ".sql") && (err != nil || mine[name] != text)
		}) {
			continue
		}
		return commit
	}
	t.Skip("the history here has no version before the newest migration that starts on a schema ahead of it")
	return ""
}

// sourceOf is the repository as it was.
func sourceOf(t *testing.T, commit string) string {
	t.Helper()
	source := t.TempDir()
	archive := exec.CommandContext(t.Context(), "sh", "-c", `git -C ../.. archive "$1" | tar -x -C "$2"`, "sh", commit, source)
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("reading %s: %v\n%s", commit, err, out)
	}
	return source
}

// buildOf is the program as it was.
func buildOf(t *testing.T, commit string) string {
	t.Helper()
	program := filepath.Join(programFolder(t), "authz")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "./cmd/authz")
	build.Dir = sourceOf(t, commit)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", commit, err, out)
	}
	return program
}

// All that the version before does with the database it still does after the
// migrations since: its own tests say so, over the schema of now.
func TestStorageOfTheVersionBeforeKeepsItsContractOnThisSchema(t *testing.T) {
	if os.Getenv("AUTHZ_TEST_LONG") == "" {
		t.Skip("AUTHZ_TEST_LONG is not set: it builds and runs another version's tests")
	}
	t.Parallel()
	source := sourceOf(t, versionBefore(t))
	files, err := filepath.Glob(filepath.Join("..", "..", "migrations", "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, file := range files {
		copyFile(t, file, filepath.Join(source, "migrations", filepath.Base(file)))
	}
	tests := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "TestStoreKeepsItsContract|TestWriteThatFails", "./storage/postgres")
	tests.Dir = source
	if out, err := tests.CombinedOutput(); err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

func newKey(t *testing.T) *dpopbind.Key {
	t.Helper()
	key, err := dpopbind.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// upgrade is a site whose instances come and go behind a balancer.
type upgrade struct {
	*site
	mu        sync.Mutex
	instances []*rolling
	turn      atomic.Uint64
}

type rolling struct {
	*process
	public, internal string
}

func (u *upgrade) start(t *testing.T, program string) *rolling {
	t.Helper()
	r := &rolling{public: freeport.Address(t), internal: freeport.Address(t)}
	env := append(u.server[:len(u.server):len(u.server)], "AUTHZ_LISTEN="+r.public, "AUTHZ_INTERNAL_LISTEN="+r.internal)
	r.process = startAuthz(t, program, env, "serve")
	if err := r.await(&r.errOut, `"msg":"ready"`); err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.printers = append(u.printers, r.process)
	u.instances = append(u.instances, r)
	return r
}

// drain ends an instance, of which the balancer learns from it alone.
func (u *upgrade) drain(t *testing.T, r *rolling) {
	t.Helper()
	if code, err := r.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v\n%s", code, err, &r.errOut)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.instances = slices.DeleteFunc(u.instances, func(other *rolling) bool { return other == r })
}

// do sends a request to one instance, and to another where that one does not take
// it: as it is, so that one which was carried out all the same fails.
func (u *upgrade) do(ctx context.Context, address func(*rolling) string, request func(address string) (*http.Request, error)) (*http.Response, error) {
	u.mu.Lock()
	instances := slices.Clone(u.instances)
	u.mu.Unlock()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	first := int(u.turn.Add(1))
	var err error
	for i := range instances {
		r, failed := request(address(instances[(first+i)%len(instances)]))
		if failed != nil {
			return nil, failed
		}
		var response *http.Response
		if response, err = client.Do(r.WithContext(ctx)); err == nil {
			return response, nil
		}
		// Refused; or in the queue of a listener, or just out of it, when it was closed.
		if !unanswered(err) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no instance takes it: %w", err)
}

// postForm is a request of a client, or a gateway, and what is answered with 200.
func (u *upgrade) postForm(t *testing.T, path string, as credentials, proof string, form url.Values) (map[string]any, error) {
	response, err := u.do(t.Context(), func(r *rolling) string { return r.public }, func(address string) (*http.Request, error) {
		r, err := http.NewRequest(http.MethodPost, "http://"+address+path, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(as.id, as.secret)
		if proof != "" {
			r.Header.Set("DPoP", proof)
		}
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	status, answer := readAnswer(t, response)
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %v", path, status, answer)
	}
	return answer, nil
}

// verify asks as a gateway about a call with the token, for its status.
func (u *upgrade) verify(t *testing.T, key *dpopbind.Key, token string) (int, error) {
	proof, err := key.Proof(http.MethodGet, testResource+"/labels", time.Now(), dpopbind.ProofOptions{AccessToken: token})
	if err != nil {
		return 0, err
	}
	response, err := u.do(t.Context(), func(r *rolling) string { return r.internal }, func(address string) (*http.Request, error) {
		r, err := http.NewRequest(http.MethodGet, "http://"+address+"/gateway/verify", nil)
		if err != nil {
			return nil, err
		}
		for name, value := range map[string]string{
			"X-Gateway-Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(u.gateway.id+":"+u.gateway.secret)),
			"X-Original-Method":       http.MethodGet, "X-Original-URL": testResource + "/labels",
			"Authorization": "DPoP " + token, "DPoP": proof,
		} {
			r.Header.Set(name, value)
		}
		return r, nil
	})
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// unanswered tells whether a connection ended before anything came over it, as one
// does at a server that ends: a balancer then asks another one.
func unanswered(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		err != nil && strings.Contains(err.Error(), "server closed idle connection") // net/http has no name for it
}
