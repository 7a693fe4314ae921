package monitoring

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/internal/freeport"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is how long a test waits for what must happen.
const patience = time.Minute

const (
	resource   = "https://labels.carrier.test"
	sealingKey = "0123456789abcdef0123456789abcdef"
)

// shared is the scrape that all tests of a run go by.
var shared struct {
	once    sync.Once
	metrics *exported
	program map[string]string // what each command that an alert names says of itself
}

// scrape is what a real server tells that has had requests of all kinds.
func scrape(t *testing.T) *exported {
	t.Helper()
	shared.once.Do(func() {
		s := startSite(t)
		s.ask()
		shared.program = map[string]string{}
		for _, a := range alerts(t) {
			for _, c := range commandsIn(a["action"]) {
				shared.program[c] = string(s.run(append(strings.Fields(c), "--help")...))
			}
		}
		shared.metrics = parseExported(s.get("/metrics"))
	})
	if shared.metrics == nil {
		t.Fatal("there is no server to scrape: see the test that began with one")
	}
	return shared.metrics
}

// site is the program itself, on a database of its own.
type site struct {
	t                *testing.T
	program, dir     string
	public, internal string // addresses
	env              []string
	printed          lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func startSite(t *testing.T) *site {
	t.Helper()
	db := pgtest.New(t)
	s := &site{t: t, dir: t.TempDir(), public: freeport.Address(t), internal: freeport.Address(t)}
	s.program = filepath.Join(s.dir, "authz")
	dependOnTheSources(t)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", s.program, "github.com/cargokey/authz/cmd/authz")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building authz: %v\n%s", err, out)
	}
	s.env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "AUTHZ_DATABASE_URL=" + db.OwnerURL}
	s.run("resource", "create", resource, "--scope", "label:create", "--base-url", "https://api.carrier.test")
	serve := exec.Command(s.program, "serve")
	serve.Dir, serve.Stdout, serve.Stderr = s.dir, &s.printed, &s.printed
	serve.Env = append(s.env[:2:2], "AUTHZ_DATABASE_URL="+db.ServerURL, "AUTHZ_ISSUER=http://"+s.public, "AUTHZ_LISTEN="+s.public, "AUTHZ_INTERNAL_LISTEN="+s.internal,
		"AUTHZ_METRICS_CLIENTS=true", "AUTHZ_KEY_ENCRYPTION_KEY="+base64.StdEncoding.EncodeToString([]byte(sealingKey)))
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		_ = serve.Wait()
	})
	for end := time.Now().Add(patience); !strings.Contains(s.printed.String(), `"msg":"ready"`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("authz is not ready:\n%s", &s.printed)
		}
	}
	return s
}

// dependOnTheSources has go test run these tests anew, and not tell what it remembers,
// where a source has changed of which it does not know that the program is built.
func dependOnTheSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" && !d.IsDir() {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) run(args ...string) []byte {
	s.t.Helper()
	c := exec.CommandContext(s.t.Context(), s.program, args...)
	c.Env, c.Dir = s.env, s.dir
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		s.t.Fatalf("authz %q: %v\n%s", args, err, &stderr)
	}
	return out
}

// register makes a client, and returns its secret.
func (s *site) register(id string, flags ...string) string {
	s.t.Helper()
	var made struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(s.run(append([]string{"client", "create", id, "--json"}, flags...)...), &made); err != nil || made.Secret == "" {
		s.t.Fatalf("registering %s: %v", id, err)
	}
	return made.Secret
}

// ask has requests answered that end well, and others that do not: what has nothing to
// count has no series.
func (s *site) ask() {
	s.t.Helper()
	service := s.register("label-service", "--grant", resource+"=label:create")
	gateway := s.register("labels-gateway", "--introspects", resource)
	key, err := dpopbind.GenerateKey()
	if err != nil {
		s.t.Fatal(err)
	}
	issuer := "http://" + s.public
	proof, err := key.Proof(http.MethodPost, issuer+"/oauth/token", time.Now(), dpopbind.ProofOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	grant := url.Values{"grant_type": {"client_credentials"}}
	s.post("label-service", service, "/oauth/token", proof, grant, http.StatusOK)
	s.post("label-service", service, "/oauth/token", proof, grant, http.StatusBadRequest) // a replay
	s.post("label-service", "wrong", "/oauth/token", "", grant, http.StatusUnauthorized)
	s.post("labels-gateway", gateway, "/oauth/introspect", "", url.Values{"token": {"unknown"}}, http.StatusOK)
}

func (s *site) post(id, secret, path, proof string, form url.Values, status int) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.public+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	r.SetBasicAuth(id, secret)
	if got, body := s.do(r); got != status {
		s.t.Fatalf("%s: %d %s, want %d", path, got, body, status)
	}
}

func (s *site) get(path string) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.internal+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	status, body := s.do(r)
	if status != http.StatusOK {
		s.t.Fatalf("%s: %d", path, status)
	}
	return body
}

func (s *site) do(r *http.Request) (status int, body string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	response, err := http.DefaultClient.Do(r.WithContext(ctx))
	if err != nil {
		s.t.Fatal(fmt.Errorf("%w\n%s", err, &s.printed))
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
